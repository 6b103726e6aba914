//! The C functions themselves: handles that aren't, calls in the wrong order, and any sequence of calls.

mod driver;

use std::ffi::{CStr, CString, c_char, c_void};

use driver::{BASICS, DRIVER, library};
use proptest::prelude::*;

const INVALID_VALUE: u32 = 1;
const INVALID_DEVICE: u32 = 101;
const INVALID_CONTEXT: u32 = 201;
const INVALID_HANDLE: u32 = 400;
const NOT_FOUND: u32 = 500;
const NOT_SUPPORTED: u32 = 801;

/// Calls a function of the library by its name. Arguments are as in the C interface: every integer fits a
/// register, so only their number matters.
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        let name = concat!(stringify!($name), "\0");
        // SAFETY: the driver API says what the arguments are; all are integers or addresses.
        unsafe {
            let function = library().get::<unsafe extern "C" fn($(call!(@kind $argument)),*) -> u32>(name.as_bytes());
            function.unwrap()($($argument as usize),*)
        }
    }};
    (@kind $argument:expr) => { usize };
}

fn at<T>(value: &mut T) -> usize {
    value as *mut T as usize
}

/// A context of this thread, until it is dropped.
struct Current(usize);

impl Current {
    fn new() -> Current {
        assert_eq!(call!(cuInit(0)), 0);
        let mut context = 0usize;
        assert_eq!(call!(cuCtxCreate_v2(at(&mut context), 0, 0)), 0);
        Current(context)
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        call!(cuCtxDestroy_v2(self.0));
    }
}

/// A module of a text, and a function of it.
fn function(text: &str, name: &str) -> (usize, usize) {
    let (text, name) = (CString::new(text).unwrap(), CString::new(name).unwrap());
    let (mut module, mut function) = (0usize, 0usize);
    assert_eq!(call!(cuModuleLoadData(at(&mut module), text.as_ptr())), 0);
    assert_eq!(call!(cuModuleGetFunction(at(&mut function), module, name.as_ptr())), 0);
    (module, function)
}

#[test]
fn handles_that_are_none() {
    let current = Current::new();
    let (mut out, mut other) = (0u64, 0u64);
    let (out, other) = (at(&mut out), at(&mut other));
    let (_, function) = function(DRIVER, "turn");
    for wrong in [0x10, 12345, function, current.0, usize::MAX] {
        assert_eq!(call!(cuStreamSynchronize(wrong)), INVALID_HANDLE);
        assert_eq!(call!(cuStreamDestroy_v2(wrong)), INVALID_HANDLE);
        assert_eq!(call!(cuEventRecord(wrong, 0)), INVALID_HANDLE);
        assert_eq!(call!(cuEventDestroy_v2(wrong)), INVALID_HANDLE);
        assert_eq!(call!(cuEventElapsedTime(out, wrong, wrong)), INVALID_HANDLE);
        assert_eq!(call!(cuModuleUnload(wrong)), INVALID_HANDLE);
        assert_eq!(call!(cuModuleGetFunction(out, wrong, c"turn".as_ptr())), INVALID_HANDLE);
        assert_eq!(call!(cuGraphLaunch(wrong, 0)), INVALID_HANDLE);
        assert_eq!(call!(cuGraphDestroy(wrong)), INVALID_HANDLE);
        assert_eq!(call!(cuGraphGetNodes(wrong, 0, out)), INVALID_HANDLE);
        assert_eq!(call!(cuGraphNodeGetType(wrong, out)), INVALID_HANDLE);
        assert_eq!(call!(cuMemPoolDestroy(wrong)), INVALID_HANDLE);
        assert_eq!(call!(cuMemFree_v2(wrong)), INVALID_VALUE);
        assert_eq!(call!(cuMemFreeHost(wrong)), INVALID_VALUE);
        assert_eq!(call!(cuPointerGetAttribute(out, 2, wrong)), INVALID_VALUE);
    }
    for wrong in [0x10, function, usize::MAX] {
        assert_eq!(call!(cuCtxSetCurrent(wrong)), INVALID_CONTEXT);
        assert_eq!(call!(cuCtxPushCurrent_v2(wrong)), INVALID_CONTEXT);
        assert_eq!(call!(cuCtxDestroy_v2(wrong)), INVALID_CONTEXT);
    }
    for wrong in [0, 0x10, current.0, usize::MAX] {
        assert_eq!(call!(cuLaunchKernel(wrong, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0)), INVALID_HANDLE);
        assert_eq!(call!(cuFuncGetAttribute(out, 0, wrong)), INVALID_HANDLE);
        assert_eq!(call!(cuFuncSetAttribute(wrong, 8, 0)), INVALID_HANDLE);
        assert_eq!(call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(out, wrong, 32, 0)), INVALID_HANDLE);
    }
    assert_eq!(call!(cuDeviceGet(out, 1)), INVALID_DEVICE);
    assert_eq!(call!(cuDeviceGetAttribute(out, 1, -1i32)), INVALID_DEVICE);
    assert_eq!(call!(cuDeviceGetAttribute(out, 9999, 0)), INVALID_VALUE);
    assert_eq!(call!(cuModuleGetGlobal_v2(out, other, 0, c"x".as_ptr())), INVALID_HANDLE);
}

#[test]
fn results_without_a_place() {
    let _current = Current::new();
    assert_eq!(call!(cuDeviceGetCount(0)), INVALID_VALUE);
    assert_eq!(call!(cuMemAlloc_v2(0, 16)), INVALID_VALUE);
    assert_eq!(call!(cuStreamCreate(0, 0)), INVALID_VALUE);
    assert_eq!(call!(cuEventCreate(0, 0)), INVALID_VALUE);
    assert_eq!(call!(cuModuleLoadData(0, 0)), INVALID_VALUE);
    assert_eq!(call!(cuGetErrorName(0, 0)), INVALID_VALUE);
    assert_eq!(call!(cuMemcpyHtoD_v2(0, 0, 16)), INVALID_VALUE);
    assert_eq!(call!(cuDeviceGetName(0, 100, 0)), INVALID_VALUE);
}

#[test]
fn what_is_unloaded_is_gone() {
    let _current = Current::new();
    let (module, function) = function(DRIVER, "turn");
    let (mut address, mut bytes, mut value) = (0u64, 0usize, 0i32);
    let name = c"weights".as_ptr();
    assert_eq!(call!(cuModuleGetGlobal_v2(at(&mut address), at(&mut bytes), module, name)), 0);
    assert_eq!(bytes, 16);
    let mut content = [0f32; 4];
    assert_eq!(call!(cuMemcpyDtoH_v2(at(&mut content), address, 16)), 0);
    assert_eq!(content, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(call!(cuMemFree_v2(address)), INVALID_VALUE, "a variable isn't the program's to free");
    assert_eq!(call!(cuModuleUnload(module)), 0);
    assert_eq!(call!(cuFuncGetAttribute(at(&mut value), 0, function)), INVALID_HANDLE);
    assert_eq!(call!(cuMemcpyDtoH_v2(at(&mut content), address, 16)), INVALID_VALUE);
    assert_eq!(call!(cuModuleUnload(module)), INVALID_HANDLE);
}

#[test]
fn contexts_are_a_stack_for_each_thread() {
    let first = Current::new();
    let (mut top, mut second) = (0usize, 0usize);
    assert_eq!(call!(cuCtxCreate_v2(at(&mut second), 0, 0)), 0);
    assert_eq!(call!(cuCtxGetCurrent(at(&mut top))), 0);
    assert_eq!(top, second);
    assert_eq!(call!(cuCtxPopCurrent_v2(at(&mut top))), 0);
    assert_eq!(top, second);
    assert_eq!(call!(cuCtxGetCurrent(at(&mut top))), 0);
    assert_eq!(top, first.0);
    std::thread::spawn(|| {
        let (mut top, mut address) = (1usize, 0u64);
        assert_eq!(call!(cuCtxGetCurrent(at(&mut top))), 0);
        assert_eq!(top, 0);
        assert_eq!(call!(cuMemAlloc_v2(at(&mut address), 16)), INVALID_CONTEXT);
        assert_eq!(call!(cuCtxPopCurrent_v2(at(&mut top))), INVALID_CONTEXT);
    })
    .join()
    .unwrap();
    // Another context's memory goes with it.
    assert_eq!(call!(cuCtxPushCurrent_v2(second)), 0);
    let (mut address, mut word) = (0u64, 0u32);
    assert_eq!(call!(cuMemAlloc_v2(at(&mut address), 64)), 0);
    assert_eq!(call!(cuMemsetD32_v2(address, 5, 16)), 0);
    assert_eq!(call!(cuCtxDestroy_v2(second)), 0);
    assert_eq!(call!(cuMemcpyDtoH_v2(at(&mut word), address, 4)), INVALID_VALUE);
    assert_eq!(call!(cuCtxDestroy_v2(second)), INVALID_CONTEXT);
}

#[test]
fn parameters_as_one_piece() {
    let _current = Current::new();
    let (_, count) = function(DRIVER, "count");
    let mut address = 0u64;
    assert_eq!(call!(cuMemAlloc_v2(at(&mut address), 256)), 0);
    assert_eq!(call!(cuMemsetD32_v2(address, 5, 64)), 0);
    let mut block = [address, 3u64];
    let mut run = |mut bytes: usize| {
        let mut extra = [1usize, at(&mut block), 2, at(&mut bytes), 0];
        call!(cuLaunchKernel(count, 1, 1, 1, 64, 1, 1, 0, 0, 0, at(&mut extra)))
    };
    assert_eq!(run(16), INVALID_VALUE);
    assert_eq!(run(12), 0);
    let mut result = [0u32; 4];
    assert_eq!(call!(cuMemcpyDtoH_v2(at(&mut result), address, 16)), 0);
    assert_eq!(result, [6, 6, 6, 5]);
}

#[test]
fn rectangles_are_copied() {
    let _current = Current::new();
    let (mut address, mut pitch) = (0u64, 0usize);
    assert_eq!(call!(cuMemAllocPitch_v2(at(&mut address), at(&mut pitch), 12, 3, 4)), 0);
    assert_eq!(pitch, 512);
    assert_eq!(call!(cuMemsetD2D32_v2(address, pitch, 9, 3, 3)), 0);
    let mut host: Vec<u32> = (0..8).collect();
    // From host rows of 16 bytes, skipping one word and no row, to device rows 1 and 2.
    let mut what = [4usize, 0, 1, at(&mut host[0]), 0, 0, 16, 0, 1, 2, 0, address as usize, 0, pitch, 8, 2];
    assert_eq!(call!(cuMemcpy2D_v2(at(&mut what))), 0);
    for (row, expected) in [[9, 9, 9], [1, 2, 9], [5, 6, 9]].into_iter().enumerate() {
        let mut words = [0u32; 3];
        assert_eq!(call!(cuMemcpyDtoH_v2(at(&mut words), address as usize + row * pitch, 12)), 0);
        assert_eq!(words, expected);
    }
}

#[test]
fn functions_are_found_by_name() {
    Current::new();
    let find = |name: &CStr, version: i32| {
        let (mut found, mut result) = (0usize, 9u32);
        let status = call!(cuGetProcAddress_v2(name.as_ptr(), at(&mut found), version, 0, at(&mut result)));
        assert_eq!((status == 0, result), (found != 0, u32::from(found == 0)));
        (status, found)
    };
    let symbol = |name: &[u8]| {
        // SAFETY: only the address is looked at.
        unsafe { library().get::<*const c_void>(name).unwrap().try_as_raw_ptr().unwrap() as usize }
    };
    assert_eq!(find(c"cuMemAlloc", 12000), (0, symbol(b"cuMemAlloc_v2\0")));
    assert_eq!(find(c"cuInit", 2000), (0, symbol(b"cuInit\0")));
    assert_eq!(find(c"cuCtxCreate", 11000), (0, symbol(b"cuCtxCreate_v2\0")));
    assert_eq!(find(c"cuCtxCreate", 12050), (0, symbol(b"cuCtxCreate_v4\0")));
    assert_eq!(find(c"cuNothing", 12000).0, NOT_FOUND);
    assert_eq!(find(c"printf", 12000).0, NOT_FOUND);
}

#[test]
fn the_rest_of_the_interface_says_so() {
    let _current = Current::new();
    assert_eq!(call!(cuTexObjectCreate(0, 0, 0, 0)), NOT_SUPPORTED);
    assert_eq!(call!(cuMemCreate(0, 0, 0, 0)), NOT_SUPPORTED);
    let mut name: *const c_char = std::ptr::null();
    assert_eq!(call!(cuGetErrorName(801, at(&mut name))), 0);
    // SAFETY: the driver's own text.
    assert_eq!(unsafe { CStr::from_ptr(name) }, c"CUDA_ERROR_NOT_SUPPORTED");
    assert_eq!(call!(cuGetErrorName(12345, at(&mut name))), INVALID_VALUE);
}

/// Any handle or number: one that a call returned before, or an invented one.
#[derive(Clone, Copy, Debug)]
enum Any {
    Given(usize),
    Number(usize),
}

fn any() -> impl Strategy<Value = Any> {
    let odd = prop::sample::select(vec![
        0,
        1,
        2,
        3,
        4,
        7,
        16,
        64,
        1024,
        65536,
        1 << 40,
        usize::MAX,
        usize::MAX - 511,
    ]);
    prop_oneof![6 => (0..64usize).prop_map(Any::Given), 2 => odd.prop_map(Any::Number), 1 => any_number()]
}

fn any_number() -> impl Strategy<Value = Any> {
    prop::num::usize::ANY.prop_map(Any::Number)
}

/// One call out of many, with any arguments where the interface takes handles and numbers, and real memory
/// where it takes pointers of the host.
fn step(kind: usize, given: &mut Vec<usize>, room: &mut [u64; 512], arguments: [Any; 4]) -> u32 {
    let value = |any| match any {
        Any::Given(index) => given.get(index % given.len().max(1)).copied().unwrap_or(0),
        Any::Number(number) => number,
    };
    let [a, b, c, d] = arguments.map(value);
    let host = room.as_mut_ptr() as usize;
    // What is written to: the first words; what a call gives is found there.
    room[..2].fill(0);
    // A launch's parameters: mostly no elements, now and then any address and count.
    room[256] = if d % 16 == 1 { c as u64 } else { 0 };
    let small = |number: usize| number % 1024;
    let status = match kind {
        0 => call!(cuMemAlloc_v2(host, small(a))),
        1 => call!(cuMemFree_v2(a)),
        2 => call!(cuMemAllocAsync(host, b, c)),
        3 => call!(cuMemFreeAsync(a, b)),
        4 => call!(cuMemcpyHtoDAsync_v2(a, host, small(b), c)),
        5 => call!(cuMemcpyDtoHAsync_v2(host + 2112, a, small(b), c)),
        6 => call!(cuMemcpyDtoD_v2(a, b, small(c))),
        7 => call!(cuMemsetD32Async(a, b, small(c), d)),
        8 => call!(cuStreamCreate(host, a)),
        9 => call!(cuStreamDestroy_v2(a)),
        10 => call!(cuStreamBeginCapture_v2(a, b % 4)),
        11 => call!(cuStreamEndCapture(a, host)),
        12 => call!(cuStreamWaitEvent(a, b, c % 2)),
        13 => call!(cuEventCreate(host, a % 4)),
        14 => call!(cuEventRecord(a, b)),
        15 => call!(cuEventElapsedTime(host, a, b)),
        16 => call!(cuEventDestroy_v2(a)),
        17 => call!(cuGraphInstantiateWithFlags(host, a, b % 4)),
        18 => call!(cuGraphLaunch(a, b)),
        19 => call!(cuGraphDestroy(a)),
        20 => call!(cuGraphExecDestroy(a)),
        21 => call!(cuLaunchKernel(a, b % 5, 1, 1, c % 40, 1, 1, d % 300, b, host + 1024, 0)),
        22 => call!(cuFuncSetAttribute(a, b % 12, c)),
        23 => call!(cuFuncGetAttribute(host, b % 20, a)),
        24 => call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(host, a, b, c)),
        25 => call!(cuMemGetInfo_v2(host, host + 8)),
        26 => call!(cuStreamSynchronize(a)),
        27 => call!(cuEventSynchronize(a)),
        28 => call!(cuCtxSynchronize()),
        29 => call!(cuModuleGetFunction(host, a, c"count".as_ptr())),
        30 => call!(cuModuleUnload(a)),
        31 => call!(cuMemHostAlloc(host, small(a), b % 9)),
        32 => call!(cuMemFreeHost(a)),
        33 => call!(cuMemGetAddressRange_v2(host, host + 8, a)),
        34 => call!(cuPointerGetAttribute(host, a % 20, b)),
        35 => call!(cuMemAllocManaged(host, small(a), b % 4)),
        36 => call!(cuStreamIsCapturing(a, host)),
        37 => call!(cuMemPoolCreate(host, host + 512)),
        38 => call!(cuMemPoolDestroy(a)),
        39 => call!(cuMemAllocFromPoolAsync(host, small(a), b, c)),
        40 => call!(cuGraphNodeGetType(a, host)),
        41 => call!(cuCtxPushCurrent_v2(a)),
        42 => call!(cuMemsetD2D8_v2(a, b, c, small(d), 3)),
        43 => call!(cuCtxSetLimit(a % 12, b)),
        44 => call!(cuMemcpyAsync(a, b, 0, c)),
        _ => call!(cuStreamQuery(a)),
    };
    if status == 0 && given.len() < 200 && room[0] != 0 {
        given.push(room[0] as usize);
    }
    status
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_gives_errors_or_results(
        steps in prop::collection::vec((0..46usize, [any(), any(), any(), any()]), 1..120),
    ) {
        let current = Current::new();
        let (module, count) = function(DRIVER, "count");
        let (_, saxpy) = function(BASICS, "saxpy");
        let mut given = vec![module, count, saxpy, current.0, 0];
        let mut room = Box::new([0u64; 512]);
        // Addresses of parameters for launches: all of them words of the room.
        let base = room.as_ptr() as u64;
        for index in 128..160 {
            room[index] = base + 2048;
        }
        room[64..66].copy_from_slice(&[1, 1]);
        for (kind, arguments) in steps {
            let status = step(kind, &mut given, &mut room, arguments);
            prop_assert_ne!(status, 999, "call {} failed in the emulator", kind);
            prop_assert_eq!(room[128], base + 2048);
        }
        // Whatever was left current, this test's context goes, and a new one works.
        while call!(cuCtxPopCurrent_v2(0)) == 0 {}
        drop(current);
        let fresh = Current::new();
        prop_assert_eq!(call!(cuCtxSynchronize()), 0);
        drop(fresh);
    }
}
