//! Programs as cudarc's documentation teaches them, unchanged.

mod driver;

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use cudarc::driver::sys::{
    CUdevice_attribute_enum as Attribute, CUevent_flags, CUfunction_attribute_enum as Of,
    CUgraphInstantiate_flags, CUstreamCaptureMode, CUstreamCaptureStatus,
};
use cudarc::driver::{CudaContext, DeviceRepr, LaunchConfig, PushKernelArg, result, sys};
use driver::{BASICS, DRIVER, context, library, load};

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
}

#[test]
fn the_device_says_what_it_is() {
    library();
    assert_eq!(CudaContext::device_count().unwrap(), 1);
    let context = CudaContext::new(0).unwrap();
    assert_eq!(context.name().unwrap(), "PTX emulator sm_80");
    assert_eq!(context.compute_capability().unwrap(), (8, 0));
    assert_eq!(context.total_mem().unwrap(), 256 << 20);
    assert!(context.has_async_alloc());
    assert_eq!(context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).unwrap(), 108);
    assert_eq!(context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE).unwrap(), 32);
    let (free, total) = context.mem_get_info().unwrap();
    assert!(free <= total && total == 256 << 20);
    assert_eq!(context.uuid().unwrap().bytes[0], b'p' as _);
    assert!(CudaContext::new(1).is_err());
    // The primary context is one; another one is another.
    assert_eq!(CudaContext::new(0).unwrap().cu_ctx(), context.cu_ctx());
    assert_ne!(driver::context().cu_ctx(), context.cu_ctx());
}

#[test]
fn a_kernel_runs() {
    let context = context();
    let stream = context.default_stream();
    let saxpy = load(&context, BASICS).load_function("saxpy").unwrap();
    let (x, y) = (numbers(1000), numbers(2000)[1000..].to_vec());
    let on_device = stream.clone_htod(&x).unwrap();
    let mut result = stream.clone_htod(&y).unwrap();
    let (n, a) = (1000i32, 2.5f32);
    let mut launch = stream.launch_builder(&saxpy);
    launch.arg(&n).arg(&a).arg(&on_device).arg(&mut result);
    unsafe { launch.launch(LaunchConfig::for_num_elems(1000)) }.unwrap();
    let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| a.mul_add(*x, *y)).collect();
    assert_eq!(stream.clone_dtoh(&result).unwrap(), expected);
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Parts {
    small: i8,
    wide: f64,
    pair: [u16; 2],
    last: f32,
}

// SAFETY: plain numbers in C's layout.
unsafe impl DeviceRepr for Parts {}

#[test]
fn a_struct_arrives_by_value() {
    let context = context();
    let stream = context.default_stream();
    let by_value = load(&context, DRIVER).load_function("by_value").unwrap();
    let parts = Parts { small: -7, wide: 1e-300, pair: [65535, 12], last: 0.1 };
    let big = -(1i64 << 50);
    let mut out = stream.alloc_zeros::<f64>(6).unwrap();
    let mut launch = stream.launch_builder(&by_value);
    launch.arg(&parts).arg(&big).arg(&mut out);
    unsafe { launch.launch(one_thread()) }.unwrap();
    let expected = vec![-7.0, 1e-300, 65535.0, 12.0, f64::from(0.1f32), big as f64];
    assert_eq!(stream.clone_dtoh(&out).unwrap(), expected);
}

fn one_thread() -> LaunchConfig {
    LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 }
}

#[test]
fn grids_have_three_dimensions() {
    let context = context();
    let stream = context.default_stream();
    let shape = load(&context, DRIVER).load_function("shape").unwrap();
    let mut out = stream.alloc_zeros::<u32>(2 * 3 * 4).unwrap();
    let sizes = LaunchConfig { grid_dim: (2, 3, 4), block_dim: (5, 6, 7), shared_mem_bytes: 0 };
    unsafe { stream.launch_builder(&shape).arg(&mut out).launch(sizes) }.unwrap();
    assert_eq!(stream.clone_dtoh(&out).unwrap(), [234_567; 24]);
}

#[test]
fn modules_have_variables() {
    let context = context();
    let stream = context.default_stream();
    let module = load(&context, DRIVER);
    let weighted = module.load_function("weighted").unwrap();
    let run = |x: &[f32]| {
        let mut data = stream.clone_htod(x).unwrap();
        let n = x.len() as i32;
        unsafe {
            stream.launch_builder(&weighted).arg(&n).arg(&mut data).launch(LaunchConfig::for_num_elems(8))
        }
        .unwrap();
        stream.clone_dtoh(&data).unwrap()
    };
    assert_eq!(run(&[1.0; 6]), [1.0, 2.0, 3.0, 4.0, 1.0, 2.0]);
    let mut weights = module.get_global("weights", &stream).unwrap();
    assert_eq!(weights.len(), 16);
    let new: Vec<u8> = [5.0f32, 6.0, 7.0, 8.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    stream.memcpy_htod(&new, &mut weights).unwrap();
    assert_eq!(run(&[1.0; 6]), [5.0, 6.0, 7.0, 8.0, 5.0, 6.0]);
    let calls = module.get_global("calls", &stream).unwrap();
    assert_eq!(stream.clone_dtoh(&calls).unwrap(), 7i32.to_le_bytes());
    assert!(module.get_global("missing", &stream).is_err());
}

#[test]
fn dynamic_shared_memory_over_48_kb_has_to_be_asked_for() {
    let context = context();
    let stream = context.default_stream();
    let turn = load(&context, DRIVER).load_function("turn").unwrap();
    let host: Vec<i32> = (0..512).collect();
    let mut data = stream.clone_htod(&host).unwrap();
    let mut run = |bytes| {
        let sizes = LaunchConfig { grid_dim: (2, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: bytes };
        unsafe { stream.launch_builder(&turn).arg(&mut data).launch(sizes) }.map(|_| ())
    };
    run(1024).unwrap();
    run(48 << 10).unwrap();
    assert_eq!(run((48 << 10) + 4).unwrap_err().0, sys::CUresult::CUDA_ERROR_INVALID_VALUE);
    turn.set_attribute(Of::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 163 << 10).unwrap();
    run(163 << 10).unwrap();
    assert!(run((163 << 10) + 4).is_err());
    let most = turn.set_attribute(Of::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (163 << 10) + 1);
    assert_eq!(most.unwrap_err().0, sys::CUresult::CUDA_ERROR_INVALID_VALUE);
    let turned: Vec<i32> = (0..2).flat_map(|block| (0..256).rev().map(move |i| block * 256 + i)).collect();
    assert_eq!(stream.clone_dtoh(&data).unwrap(), turned, "three times around");
}

#[test]
fn functions_have_attributes_and_occupancy() {
    let context = context();
    let module = load(&context, DRIVER);
    let (turn, small) =
        (module.load_function("turn").unwrap(), module.load_function("small_blocks").unwrap());
    assert_eq!(turn.max_threads_per_block().unwrap(), 1024);
    assert_eq!(small.max_threads_per_block().unwrap(), 64);
    assert_eq!(turn.shared_size_bytes().unwrap(), 0);
    assert_eq!(turn.ptx_version().unwrap(), 70);
    assert_eq!(turn.binary_version().unwrap(), 80);
    assert!((1..=255).contains(&turn.num_regs().unwrap()));
    let matmul = load(&context, BASICS).load_function("matmul").unwrap();
    assert_eq!(matmul.shared_size_bytes().unwrap(), 4 * 16 * (16 + 17));
    // 2048 threads on a multiprocessor; 164 KB, of which a block's 40 KB need 41.
    assert_eq!(turn.occupancy_max_active_blocks_per_multiprocessor(256, 0, None).unwrap(), 8);
    assert_eq!(turn.occupancy_max_active_blocks_per_multiprocessor(256, 40 << 10, None).unwrap(), 4);
    assert_eq!(small.occupancy_max_active_blocks_per_multiprocessor(65, 0, None).unwrap(), 0);
    assert_eq!(small.occupancy_max_active_blocks_per_multiprocessor(64, 0, None).unwrap(), 32);
    extern "C" fn four_bytes_a_thread(threads: i32) -> usize {
        4 * threads as usize
    }
    let (blocks, threads) = turn.occupancy_max_potential_block_size(four_bytes_a_thread, 0, 0, None).unwrap();
    assert_eq!((blocks, threads), (216, 1024));
    assert_eq!(turn.occupancy_available_dynamic_smem_per_block(2, 128).unwrap(), 81 << 10);
}

#[test]
fn streams_events_and_their_times() {
    let context = context();
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let count = load(&context, DRIVER).load_function("count").unwrap();
    let start = first.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
    let n = 5000i32;
    let mut data = first.alloc_zeros::<u32>(5000).unwrap();
    for _ in 0..3 {
        unsafe {
            first.launch_builder(&count).arg(&mut data).arg(&n).launch(LaunchConfig::for_num_elems(5000))
        }
        .unwrap();
    }
    let middle = first.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
    second.wait(&middle).unwrap();
    unsafe { second.launch_builder(&count).arg(&mut data).arg(&n).launch(LaunchConfig::for_num_elems(5000)) }
        .unwrap();
    let end = second.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
    second.synchronize().unwrap();
    end.synchronize().unwrap();
    assert!(start.is_complete());
    assert_eq!(second.clone_dtoh(&data).unwrap(), [4; 5000]);
    let (part, whole) = (start.elapsed_ms(&middle).unwrap(), start.elapsed_ms(&end).unwrap());
    assert!(part > 0.0 && whole > part, "{part} of {whole}");
    let untimed = first.record_event(None).unwrap();
    assert!(start.elapsed_ms(&untimed).is_err());
    first.join(&second).unwrap();
    context.synchronize().unwrap();
}

#[test]
fn host_functions_are_called_in_order() {
    let context = context();
    let stream = context.new_stream().unwrap();
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    for expected in 0..3usize {
        extern "C" fn call(expected: *mut c_void) {
            assert_eq!(CALLS.fetch_add(1, Ordering::SeqCst), expected as usize);
        }
        // SAFETY: the argument is a number.
        unsafe { result::stream::launch_host_function(stream.cu_stream(), call, expected as *mut c_void) }
            .unwrap();
    }
    stream.synchronize().unwrap();
    assert_eq!(CALLS.load(Ordering::SeqCst), 3);
}

#[test]
fn a_graph_is_replayed() {
    let context = context();
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let count = load(&context, DRIVER).load_function("count").unwrap();
    let n = 100i32;
    let mut data = stream.clone_htod(&vec![7u32; 100]).unwrap();
    let mut copy = stream.alloc_zeros::<u32>(100).unwrap();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    assert_eq!(stream.capture_status().unwrap(), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
    stream.memset_zeros(&mut data).unwrap();
    for _ in 0..5 {
        unsafe {
            stream.launch_builder(&count).arg(&mut data).arg(&n).launch(LaunchConfig::for_num_elems(100))
        }
        .unwrap();
    }
    stream.memcpy_dtod(&data, &mut copy).unwrap();
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    assert_eq!(stream.capture_status().unwrap(), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), [0; 100], "nothing has run yet");
    assert_eq!(stream.clone_dtoh(&data).unwrap(), [7; 100]);
    graph.upload().unwrap();
    for _ in 0..2 {
        graph.launch().unwrap();
        stream.synchronize().unwrap();
        assert_eq!(stream.clone_dtoh(&copy).unwrap(), [5; 100]);
        stream.memset_zeros(&mut copy).unwrap();
    }
    let mut nodes = 0;
    // SAFETY: the graph lives; without room only the count is written.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &mut nodes) }.result().unwrap();
    assert_eq!(nodes, 7);
}

#[test]
fn a_capture_spreads_over_streams() {
    let context = context();
    unsafe { context.disable_event_tracking() };
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let (mut a, mut b) = (first.clone_htod(&[1u32; 8]).unwrap(), first.clone_htod(&[1u32; 8]).unwrap());
    let begin = || first.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    let end = || first.end_capture(CUgraphInstantiate_flags(0));
    begin();
    first.memset_zeros(&mut a).unwrap();
    second.wait(&first.record_event(None).unwrap()).unwrap();
    second.memset_zeros(&mut b).unwrap();
    first.wait(&second.record_event(None).unwrap()).unwrap();
    let graph = end().unwrap().unwrap();
    assert_eq!(first.clone_dtoh(&b).unwrap(), [1; 8]);
    graph.launch().unwrap();
    assert_eq!(first.clone_dtoh(&a).unwrap(), [0; 8]);
    assert_eq!(first.clone_dtoh(&b).unwrap(), [0; 8]);
    // The same without coming back.
    begin();
    second.wait(&first.record_event(None).unwrap()).unwrap();
    second.memset_zeros(&mut b).unwrap();
    assert_eq!(end().err().unwrap().0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    // The legacy stream can't be captured; and a stream that is being captured can't be waited for.
    let legacy = context.default_stream().begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL);
    assert_eq!(legacy.unwrap_err().0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    begin();
    assert_eq!(first.synchronize().unwrap_err().0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(end().err().unwrap().0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    first.synchronize().unwrap();
}

#[test]
fn pinned_and_managed_memory() {
    let context = context();
    let stream = context.default_stream();
    let mut pinned = unsafe { context.alloc_pinned_with_flags::<u32>(1000, 0) }.unwrap();
    for (i, value) in pinned.as_mut_slice().unwrap().iter_mut().enumerate() {
        *value = i as u32;
    }
    let mut data = stream.alloc_zeros::<u32>(1000).unwrap();
    stream.memcpy_htod(&pinned, &mut data).unwrap();
    let mut back = unsafe { context.alloc_pinned::<u32>(1000) }.unwrap();
    stream.memcpy_dtoh(&data, &mut back).unwrap();
    assert_eq!(back.as_slice().unwrap(), pinned.as_slice().unwrap());

    let mut shared = unsafe { context.alloc_unified::<u32>(64, true) }.unwrap();
    shared.as_mut_slice().unwrap().fill(3);
    let count = load(&context, DRIVER).load_function("count").unwrap();
    let n = 64i32;
    unsafe { stream.launch_builder(&count).arg(&mut shared).arg(&n).launch(LaunchConfig::for_num_elems(64)) }
        .unwrap();
    stream.synchronize().unwrap();
    assert_eq!(shared.as_slice().unwrap(), [4; 64]);
}

#[test]
fn memory_is_set_copied_and_freed() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let mut data = stream.clone_htod(&numbers(100)).unwrap();
    let copy = stream.clone_dtod(&data).unwrap();
    stream.memset_zeros(&mut data.slice_mut(10..20)).unwrap();
    let mut expected = numbers(100);
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), expected);
    expected[10..20].fill(0.0);
    assert_eq!(stream.clone_dtoh(&data).unwrap(), expected);
    let (left, right) = data.split_at(50);
    assert_eq!(stream.clone_dtoh(&right).unwrap(), expected[50..]);
    assert_eq!(stream.clone_dtoh(&left).unwrap(), expected[..50]);
    // More than there is, again and again: what is dropped comes back.
    for _ in 0..20 {
        let big = stream.alloc_zeros::<u8>(100 << 20).unwrap();
        let more = stream.alloc_zeros::<u8>(400 << 20);
        assert_eq!(more.unwrap_err().0, sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        drop(big);
    }
}

#[test]
fn threads_share_a_context() {
    let context = context();
    let module = load(&context, DRIVER);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (context, module) = (context.clone(), module.clone());
            scope.spawn(move || {
                context.bind_to_thread().unwrap();
                let stream = context.new_stream().unwrap();
                let count = module.load_function("count").unwrap();
                let mut data = stream.clone_htod(&vec![thread; 300]).unwrap();
                let n = 300i32;
                for _ in 0..10 {
                    unsafe {
                        stream
                            .launch_builder(&count)
                            .arg(&mut data)
                            .arg(&n)
                            .launch(LaunchConfig::for_num_elems(300))
                    }
                    .unwrap();
                }
                assert_eq!(stream.clone_dtoh(&data).unwrap(), vec![thread + 10; 300]);
            });
        }
    });
}

#[test]
fn cooperative_launches_must_fit() {
    let context = context();
    let stream = context.default_stream();
    let count = load(&context, DRIVER).load_function("count").unwrap();
    let mut data = stream.alloc_zeros::<u32>(1024).unwrap();
    let n = 1024i32;
    let mut run = |blocks| {
        let sizes = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (1024, 1, 1), shared_mem_bytes: 0 };
        unsafe { stream.launch_builder(&count).arg(&mut data).arg(&n).launch_cooperative(sizes) }.map(|_| ())
    };
    run(1).unwrap();
    run(216).unwrap();
    assert_eq!(run(217).unwrap_err().0, sys::CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
}

#[test]
fn errors_have_names() {
    library();
    let error = result::DriverError(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(error.error_name().unwrap().to_str().unwrap(), "CUDA_ERROR_ILLEGAL_ADDRESS");
    let text = error.error_string().unwrap().to_str().unwrap();
    assert_eq!(text, "an illegal memory access was encountered");
}
