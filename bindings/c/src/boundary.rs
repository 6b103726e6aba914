//! What crosses the C boundary: codes, messages, pointers.
//!
//! The contract of every function of pbe.h: a pointer is NULL, or points to as many values of its type as the length
//! beside it says. They stay valid for the call, and no other thread writes to them meanwhile. NULL, impossible lengths
//! and misaligned pointers are refused.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use facade::{Error, Result};

/// Of pbe.h; the others are the program's exit codes.
const BUG: c_int = 70;

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Runs a call: its error or panic becomes a code and this thread's message.
pub fn call(work: impl FnOnce() -> Result<()>) -> c_int {
    let (code, text) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => (error.exit_code().into(), error.to_string()),
        Err(panic) => (BUG, format!("a bug in pbe: {}", words(panic.as_ref()))),
    };
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // A thread that is ending has no message.
    let _ = MESSAGE.try_with(|message| message.replace(text));
    code
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// Valid until the next message of this thread.
pub fn message() -> *const c_char {
    MESSAGE.try_with(|message| message.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

fn check<T>(pointer: *const T, len: usize, name: &str) -> Result<()> {
    if pointer.is_null() {
        return Err(Error::input(format!("{name} is NULL")));
    }
    if !pointer.is_aligned() {
        return Err(Error::input(format!("{name} is not aligned")));
    }
    match len.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(Error::input(format!("{name}: a length of {len}"))),
    }
}

pub fn read<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    check(pointer, 1, name)?;
    // SAFETY: it isn't NULL and is aligned, so by the contract above it points to a valid T.
    Ok(unsafe { &*pointer })
}

pub fn write<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T> {
    check(pointer, 1, name)?;
    // SAFETY: it isn't NULL and is aligned, so by the contract above it points to a valid T with no other reference.
    Ok(unsafe { &mut *pointer })
}

pub fn slice<'a, T>(pointer: *const T, len: usize, name: &str) -> Result<&'a [T]> {
    check(pointer, len, name)?;
    // SAFETY: as in `read`, for `len` elements, which are no more than an allocation can have.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// Copies `values` to where C wants them: `len` has to be their number.
pub fn give<T: Copy>(values: &[T], pointer: *mut T, len: usize, name: &str) -> Result<()> {
    check(pointer, len, name)?;
    if len != values.len() {
        return Err(Error::input(format!("{name}: room for {len} values, but there are {}", values.len())));
    }
    // SAFETY: `pointer` leads to `len` elements (see the top); `values` are Rust's own and can't overlap them.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), pointer, len) };
    Ok(())
}

pub fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    check(pointer, 1, name)?;
    // SAFETY: it isn't NULL, and so leads to a text that ends in 0 (see the top).
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| Error::input(format!("{name} is not UTF-8")))
}

/// Puts a new handle in place, or NULL where there is no value.
pub fn hand_out<T>(value: Option<T>, place: &mut *mut T) {
    *place = value.map_or(std::ptr::null_mut(), |value| Box::into_raw(Box::new(value)));
}

pub fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: C frees a handle once, and it came from `hand_out`.
        drop(unsafe { Box::from_raw(handle) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> String {
        text(message(), "message").unwrap().to_string()
    }

    #[test]
    fn a_panic_is_a_code_and_a_message() {
        assert_eq!(call(|| panic!("index {} of 3", 4)), BUG);
        assert_eq!(said(), "a bug in pbe: index 4 of 3");
        assert_eq!(call(|| Err(Error::input("nul \0 in it"))), 2);
        assert_eq!(said(), "nul   in it");
        assert_eq!(call(|| Ok(())), 0);
        std::thread::spawn(|| assert_eq!(said(), "")).join().unwrap();
    }

    #[test]
    fn pointers_that_cannot_be_are_refused() {
        let numbers = [0u32; 3];
        let refusal = |result: Result<&[u32]>| result.unwrap_err().to_string();
        assert_eq!(refusal(slice(std::ptr::null(), 0, "labels")), "labels is NULL");
        assert!(refusal(slice(numbers.as_ptr(), usize::MAX / 4, "labels")).contains("a length of"));
        let odd = numbers.as_ptr().wrapping_byte_add(1);
        assert_eq!(refusal(slice(odd, 1, "labels")), "labels is not aligned");
        let mut room = [7u32; 3];
        let short = give(&[1, 2], room.as_mut_ptr(), 3, "classes").unwrap_err().to_string();
        assert_eq!((short.as_str(), room), ("classes: room for 3 values, but there are 2", [7; 3]));
        assert!(text(c"\xff".as_ptr(), "path").is_err_and(|e| e.to_string() == "path is not UTF-8"));
    }
}
