//! What crosses the C boundary: argument types that check themselves, and the frame of every exported
//! function.
//!
//! The exported functions are `unsafe`: the caller guarantees, as for the real driver, that pointers
//! which aren't null point where the driver API says they do. So the types here can be safe to use; they
//! can only come from such a call.

use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::status::{Result, Status};

/// An object of the driver: context, module, stream, … 0 is none.
pub type Handle = usize;
/// Ordinal of a device.
pub type Ordinal = i32;
/// An address of device memory.
pub type Address = u64;

/// Where a result is to be written.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// Writes; null is an invalid value.
    pub fn set(self, value: T) -> Result {
        self.set_at(0, value)
    }

    /// Writes unless it is null, for results that the caller may leave out.
    pub fn set_if_wanted(self, value: T) {
        // It refuses null only.
        let _ = self.set(value);
    }

    /// What is there, for arguments that go both ways.
    pub fn get(self) -> Result<T> {
        self.get_at(0)
    }

    /// Writes the elements one after the other.
    pub fn set_all(self, values: &[T]) -> Result {
        if !self.wanted() {
            return Err(Status::INVALID_VALUE);
        }
        values.iter().enumerate().try_for_each(|(index, &value)| self.set_at(index, value))
    }

    /// Writes element `index`.
    pub fn set_at(self, index: usize, value: T) -> Result {
        if !self.wanted() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: the caller of the exported function guarantees an array that is long enough.
        unsafe { self.0.add(index).write_unaligned(value) };
        Ok(())
    }

    /// Element `index`, for arrays that go both ways.
    pub fn get_at(self, index: usize) -> Result<T> {
        In(self.0.cast_const()).at(index)
    }

    /// The place of element `index`.
    pub fn at(self, index: usize) -> Out<T> {
        Out(self.0.wrapping_add(index))
    }

    /// The place at an address that an argument holds as a number.
    pub fn at_address(address: usize) -> Out<T> {
        Out(address as *mut T)
    }

    /// The same place for another type, where which one depends on another argument.
    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// Was a place given?
    pub fn wanted(self) -> bool {
        !self.0.is_null()
    }
}

impl Out<c_char> {
    /// Writes a C string into `room` bytes, cut where it doesn't fit.
    pub fn set_text(self, text: &str, room: usize) -> Result {
        if room == 0 {
            return Err(Status::INVALID_VALUE);
        }
        let kept = text.bytes().take(room - 1).chain([0]);
        self.set_all(&kept.map(|byte| byte as c_char).collect::<Vec<_>>())
    }
}

/// An array that the caller passes; its length is another argument.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct In<T>(*const T);

impl<T: Copy> In<T> {
    /// An argument that isn't there.
    pub fn none() -> In<T> {
        In(std::ptr::null())
    }

    /// Element `index`; null is an invalid value.
    pub fn at(self, index: usize) -> Result<T> {
        if self.0.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: the caller of the exported function guarantees the length.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }

    /// Was it given?
    pub fn given(self) -> bool {
        !self.0.is_null()
    }

    /// `count` elements; may be null where that is 0.
    pub fn all(self, count: usize) -> Result<Vec<T>> {
        (0..count).map(|index| self.at(index)).collect()
    }

    /// The address.
    pub fn address(self) -> usize {
        self.0 as usize
    }
}

/// Text that ends with a zero byte.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text(*const c_char);

impl Text {
    /// Its bytes.
    pub fn bytes(self) -> Result<&'static [u8]> {
        if self.0.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: the caller of the exported function guarantees the zero byte, and that the text stays for
        // the call; no one keeps it longer.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    /// Its text; what isn't UTF-8 is replaced.
    pub fn text(self) -> Result<String> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
}

/// Any pointer of the host.
pub type Host = *mut c_void;

/// Runs the body of an exported function: a code for C, and no panic out of it.
pub fn guard(name: &str, body: impl FnOnce() -> Result) -> u32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(status)) => status.0,
        Err(panic) => {
            eprintln!("ptx-emulator: {name}: error in the emulator: {}", message(&*panic));
            Status::UNKNOWN.0
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default()
}

/// Declares functions of the driver's C interface. The body gives a [`Result`].
macro_rules! export {
    ($($(#[$meta:meta])* fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        ///
        /// # Safety
        /// Pointers are null or point where the CUDA driver API says.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::too_many_arguments)]
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> u32 {
            $crate::driver::abi::guard(stringify!($name), move || $body)
        }
    )*};
}
pub(crate) use export;

/// Declares functions in pairs: the second has its turn in a stream, its last argument. The body is told which.
macro_rules! export_pairs {
    ($(
        $(#[$meta:meta])* fn $now:ident, $ordered:ident($($argument:ident: $kind:ty),* $(,)?)
            |$stream:ident| $body:expr;
    )*) => {
        $crate::driver::abi::export! {$(
            $(#[$meta])*
            fn $now($($argument: $kind),*) {
                let $stream: Option<$crate::driver::abi::Handle> = None;
                $body
            }

            $(#[$meta])*
            fn $ordered($($argument: $kind,)* stream: $crate::driver::abi::Handle) {
                let $stream = Some(stream);
                $body
            }
        )*}
    };
}
pub(crate) use export_pairs;
