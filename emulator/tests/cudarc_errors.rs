//! What goes wrong in programs is answered as a driver answers it.

mod driver;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, DevicePtr, DriverError, LaunchConfig, PushKernelArg, result, sys};
use cudarc::nvrtc::Ptx;
use driver::{CHECKS, DRIVER, context, load};

fn sizes(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

fn load_error(text: &str) -> CUresult {
    context().load_module(Ptx::from_src(text)).unwrap_err().0
}

#[test]
fn texts_that_cannot_be_loaded() {
    assert_eq!(load_error("hello"), CUresult::CUDA_ERROR_INVALID_IMAGE);
    assert_eq!(load_error("\u{7f}ELF"), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    let newer = DRIVER.replace(".version 7.0", ".version 8.8");
    assert_eq!(load_error(&newer), CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    context().load_module(Ptx::from_src(DRIVER.replace(".version 7.0", ".version 8.7"))).unwrap();
    let unknown = DRIVER.replacen("bar.sync", "bar.sink", 1);
    assert_eq!(load_error(&unknown), CUresult::CUDA_ERROR_INVALID_PTX);
    let target = DRIVER.replace(".target sm_80", ".target sm_90");
    assert_eq!(load_error(&target), CUresult::CUDA_ERROR_INVALID_PTX);
    let file = context().load_module(Ptx::from_file("no such file.ptx")).unwrap_err();
    assert_eq!(file.0, CUresult::CUDA_ERROR_FILE_NOT_FOUND);
}

#[test]
fn the_log_of_a_load_names_line_and_opcode() {
    let context = context();
    let text = DRIVER.replacen("bar.sync", "bar.sink", 1);
    let line = text.lines().position(|line| line.contains("bar.sink")).unwrap() + 1;
    let text = std::ffi::CString::new(text).unwrap();
    let mut log = [0u8; 512];
    let mut keys =
        [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast(), log.len() as *mut std::ffi::c_void];
    let mut module = std::ptr::null_mut();
    context.bind_to_thread().unwrap();
    // SAFETY: all of it lives through the call.
    let status = unsafe {
        sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, keys.as_mut_ptr(), values.as_mut_ptr())
    };
    assert_eq!(status, CUresult::CUDA_ERROR_INVALID_PTX);
    let end = log.iter().position(|&byte| byte == 0).unwrap();
    let log = std::str::from_utf8(&log[..end]).unwrap();
    assert!(log.contains(&format!("line {line}")) && log.contains("bar.sink"), "{log}");
}

#[test]
fn kernels_that_are_not_there() {
    let error = load(&context(), DRIVER).load_function("missing").unwrap_err();
    assert_eq!(error.0, CUresult::CUDA_ERROR_NOT_FOUND);
}

#[test]
fn launches_that_a_driver_refuses() {
    let context = context();
    let stream = context.default_stream();
    let module = load(&context, DRIVER);
    let (count, small) =
        (module.load_function("count").unwrap(), module.load_function("small_blocks").unwrap());
    let mut data = stream.alloc_zeros::<u32>(64).unwrap();
    let n = 64i32;
    let mut run = |grid, block| {
        let sizes = LaunchConfig { grid_dim: grid, block_dim: block, shared_mem_bytes: 0 };
        unsafe { stream.launch_builder(&count).arg(&mut data).arg(&n).launch(sizes) }.map(|_| ())
    };
    let invalid = Err(DriverError(CUresult::CUDA_ERROR_INVALID_VALUE));
    for grid in [(0, 1, 1), (1, 65536, 1), (1, 1, 65536), (1 << 31, 1, 1)] {
        assert_eq!(run(grid, (1, 1, 1)), invalid);
    }
    for block in [(0, 1, 1), (1025, 1, 1), (32, 33, 1), (1, 1, 65), (u32::MAX, u32::MAX, u32::MAX)] {
        assert_eq!(run((1, 1, 1), block), invalid);
    }
    run((1, 1, 1), (1, 1, 64)).unwrap();
    let launch = |threads| {
        let mut launch = stream.launch_builder(&small);
        // SAFETY: `small_blocks` writes an element a thread, of 64 threads at most.
        unsafe { launch.arg(&data).launch(sizes(1, threads)) }.map(|_| ())
    };
    launch(64).unwrap();
    assert_eq!(launch(65), invalid, "over __launch_bounds__");
    // None of this has hurt the context.
    context.synchronize().unwrap();
}

#[test]
fn parameters_that_are_missing() {
    let context = context();
    let count = load(&context, DRIVER).load_function("count").unwrap();
    context.bind_to_thread().unwrap();
    // SAFETY: no parameters where two are needed: refused.
    let error = unsafe {
        result::launch_kernel(
            count.cu_function(),
            (1, 1, 1),
            (1, 1, 1),
            0,
            std::ptr::null_mut(),
            &mut [std::ptr::null_mut()],
        )
    };
    assert_eq!(error.unwrap_err().0, CUresult::CUDA_ERROR_INVALID_VALUE);
}

/// Launches a kernel of `checks.cu` that does wrong, and looks at what the context answers afterwards.
fn fault(name: &str, threads: u32, expected: CUresult) {
    let context = context();
    let stream = context.default_stream();
    let kernel = load(&context, CHECKS).load_function(name).unwrap();
    let data = stream.alloc_zeros::<i32>(256).unwrap();
    // `endless` waits for a change of the 0 that it finds.
    let bad = i32::from(name != "endless");
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&bad).arg(&data);
    if name == "alignment" {
        launch.arg(&data);
    }
    // SAFETY: it does wrong in the emulator only.
    let error = unsafe { launch.launch(sizes(1, threads)) }.unwrap_err();
    assert_eq!(error.0, expected, "{name}");
    // The fault stays until the context ends.
    let error = Err(DriverError(expected));
    assert_eq!(context.synchronize(), error);
    assert_eq!(stream.synchronize(), error);
    assert_eq!(stream.clone_dtoh(&data).map(|_| ()), error);
    assert_eq!(stream.alloc_zeros::<u8>(16).map(|_| ()), error);
    assert_eq!(context.new_stream().map(|_| ()), error);
    assert_eq!(context.load_module(Ptx::from_src(DRIVER)).map(|_| ()), error);
    // Another context isn't touched.
    driver::context().synchronize().unwrap();
}

#[test]
fn faults_stay() {
    fault("alignment", 32, CUresult::CUDA_ERROR_MISALIGNED_ADDRESS);
    fault("missing_barrier", 128, CUresult::CUDA_ERROR_LAUNCH_FAILED);
    fault("divergent_barrier", 64, CUresult::CUDA_ERROR_LAUNCH_FAILED);
    fault("endless", 32, CUresult::CUDA_ERROR_LAUNCH_TIMEOUT);
    fault("give_up", 32, CUresult::CUDA_ERROR_LAUNCH_FAILED);
}

#[test]
fn addresses_outside_and_after_the_free() {
    for freed in [false, true] {
        let context = context();
        let stream = context.default_stream();
        let kernel = load(&context, CHECKS).load_function("bounds").unwrap();
        let data = stream.alloc_zeros::<f32>(128).unwrap();
        let (bad, n) = (i32::from(!freed), 128i32);
        let address = DevicePtr::device_ptr(&data, &stream).0;
        let kept = Some(data).filter(|_| !freed);
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&bad).arg(&n).arg(&address);
        // SAFETY: as above.
        let error = unsafe { launch.launch(sizes(1, 256)) }.unwrap_err();
        assert_eq!(error.0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        drop(kept);
    }
}

#[test]
fn a_primary_context_is_new_after_its_last_release() {
    driver::library();
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    let endless = load(&context, CHECKS).load_function("endless").unwrap();
    let data = stream.alloc_zeros::<i32>(32).unwrap();
    let zero = 0i32;
    // SAFETY: it ends at the limit.
    unsafe { stream.launch_builder(&endless).arg(&zero).arg(&data).launch(sizes(1, 32)) }.unwrap_err();
    assert!(context.synchronize().is_err());
    drop((data, endless, stream, context));
    let again = CudaContext::new(0).unwrap();
    again.synchronize().unwrap();
    assert_eq!(
        again.default_stream().clone_dtoh(&again.default_stream().clone_htod(&[5]).unwrap()).unwrap(),
        [5]
    );
}
