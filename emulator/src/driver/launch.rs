//! Launches of kernels: what a driver refuses, and the execution.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::abi::{Handle, Host, In, export};
use super::context::Context;
use super::model::BLOCK;
use super::module::Function;
use super::occupancy;
use super::state::{Driver, driver};
use super::status::{Result, Status};
use super::stream::Stream;
use super::work::{Work, submit};
use crate::exec::{self, Launch};
use crate::report;

static LAUNCHES: AtomicU64 = AtomicU64::new(1);

/// A launch that has passed all tests.
pub struct Prepared {
    function: Arc<Function>,
    launch: Launch,
}

impl Prepared {
    /// Runs it. A finding ends the context.
    pub fn run(&self, driver: &Driver, context: &Context) -> Result {
        let started = Instant::now();
        let launch = Launch { id: LAUNCHES.fetch_add(1, Ordering::Relaxed), ..self.launch.clone() };
        let kernel = &self.function.kernel;
        driver
            .faults
            .at_launch(&kernel.name, driver.config.fail.as_ref())
            .inspect_err(|&status| context.fail(status))?;
        let result = exec::launch(kernel, &launch, &driver.device.memory, &driver.config.settings);
        match result {
            Ok(counters) => {
                report::launched(&kernel.name, &counters, started.elapsed());
                Ok(())
            }
            Err(fault) => {
                report::found(&fault);
                let status = Status::of(fault.kind);
                context.fail(status);
                Err(status)
            }
        }
    }
}

/// Sizes of a launch.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic: u32,
    /// All blocks at a time.
    pub cooperative: bool,
}

/// Where the parameters are: an address each, or a list of keys and values that names one piece.
#[derive(Clone, Copy)]
struct Parameters {
    each: In<Host>,
    extra: In<Host>,
}

const EXTRA_END: usize = 0;
const EXTRA_POINTER: usize = 1;
const EXTRA_SIZE: usize = 2;

impl Parameters {
    fn gather(self, function: &Function) -> std::result::Result<Vec<u8>, String> {
        let kernel = &function.kernel;
        let mut block = vec![0; kernel.param_bytes as usize];
        if self.extra.given() {
            if self.each.given() {
                return Err("both kernelParams and extra are given".to_string());
            }
            return self.piece(block);
        }
        for (index, param) in kernel.params.iter().enumerate() {
            let from = self.each.at(index).unwrap_or(std::ptr::null_mut());
            if from.is_null() {
                return Err(format!("no address of parameter {index} of {}", kernel.params.len()));
            }
            let to = &mut block[param.offset as usize..][..param.size as usize];
            // SAFETY: the program guarantees as many bytes as the kernel declares, as to the real driver.
            unsafe { std::ptr::copy_nonoverlapping(from.cast(), to.as_mut_ptr(), to.len()) };
        }
        Ok(block)
    }

    fn piece(self, mut block: Vec<u8>) -> std::result::Result<Vec<u8>, String> {
        let value = |index| self.extra.at(index).map_err(|_| "extra is null".to_string());
        let (mut from, mut bytes) = (std::ptr::null_mut(), None);
        // Two pairs and the end: more would be a list that has none.
        for index in (0..6).step_by(2) {
            match value(index)? as usize {
                EXTRA_END => break,
                EXTRA_POINTER => from = value(index + 1)?,
                EXTRA_SIZE => {
                    let size = value(index + 1)?.cast::<usize>();
                    if size.is_null() {
                        return Err("extra has no size".to_string());
                    }
                    // SAFETY: the program guarantees that it points to a size.
                    bytes = Some(unsafe { size.read_unaligned() });
                }
                key => return Err(format!("extra has the unknown key {key}")),
            }
        }
        if bytes != Some(block.len()) {
            return Err(format!("extra has {bytes:?} bytes of parameters, the kernel {}", block.len()));
        }
        if from.is_null() && !block.is_empty() {
            return Err("extra has no parameters".to_string());
        }
        // SAFETY: the program guarantees that many bytes; they are more than none only where it isn't null.
        unsafe { std::ptr::copy(from.cast(), block.as_mut_ptr(), block.len()) };
        Ok(block)
    }
}

/// Why a driver would refuse the shape.
fn refusal(driver: &Driver, function: &Function, shape: &Shape) -> Option<(Status, String)> {
    let Shape { grid, block, dynamic, cooperative } = *shape;
    let (kernel, model) = (&function.kernel, &driver.device.model);
    let invalid = |message: String| Some((Status::INVALID_VALUE, message));
    let threads = block.iter().fold(1u64, |product, &count| product.saturating_mul(count.into()));
    if grid.contains(&0) || grid[0] > i32::MAX as u32 || grid[1] > 65535 || grid[2] > 65535 {
        return invalid(format!("grid {grid:?}"));
    }
    if threads == 0 || threads > BLOCK.into() || block[2] > 64 {
        return invalid(format!("block {block:?}"));
    }
    if kernel.required_threads.is_some_and(|required| required != block) {
        return invalid(format!("block {block:?} instead of .reqntid {:?}", kernel.required_threads));
    }
    if kernel.max_threads.is_some_and(|most| threads > most.into()) {
        return invalid(format!("block {block:?} is over .maxntid {:?}", kernel.max_threads));
    }
    if dynamic > function.max_dynamic() {
        let most = function.max_dynamic();
        return invalid(format!("{dynamic} bytes of dynamic shared memory, {most} are allowed"));
    }
    if kernel.shared_bytes > model.shared_block {
        return invalid(format!("{} bytes of static shared memory", kernel.shared_bytes));
    }
    if cooperative {
        let fit = occupancy::active_blocks(model, function, threads as u32, dynamic);
        let blocks: u64 = grid.iter().map(|&count| u64::from(count)).product();
        if blocks > u64::from(fit) * u64::from(model.processors) {
            return Some((Status::COOPERATIVE_LAUNCH_TOO_LARGE, format!("{blocks} blocks")));
        }
    }
    None
}

fn launch(function: Handle, shape: &Shape, stream: Handle, parameters: Parameters) -> Result {
    let (context, stream) = Stream::of(stream)?;
    let driver = driver()?;
    let function = driver.functions.get(function)?;
    if function.context != context.handle {
        return Err(Status::INVALID_HANDLE);
    }
    if let Some((status, message)) = refusal(driver, &function, shape) {
        eprintln!("ptx-emulator: {} can't be launched: {message}", function.kernel.name);
        return Err(status);
    }
    let params = parameters.gather(&function).map_err(|message| {
        eprintln!("ptx-emulator: {} can't be launched: {message}", function.kernel.name);
        Status::INVALID_VALUE
    })?;
    let launch = Launch {
        grid: shape.grid,
        block: shape.block,
        dynamic_shared: shape.dynamic,
        params,
        variables: function.variables.to_vec(),
        cooperative: shape.cooperative,
        id: 0,
    };
    submit(&context, &stream, Work::Launch(Arc::new(Prepared { function, launch })))
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchConfig {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic: u32,
    stream: Handle,
    attributes: In<LaunchAttribute>,
    count: u32,
}

/// `CUlaunchAttribute`: the values are unions of 64 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchAttribute {
    id: u32,
    padding: u32,
    value: [u32; 16],
}

/// Attributes that don't change what a kernel does: cache windows, synchronisation policy, scheduling of
/// clusters, overlap with the launch before, priority, memory domains, shared memory carveout.
const WITHOUT_EFFECT: [u32; 9] = [0, 1, 3, 5, 6, 8, 9, 10, 14];
const COOPERATIVE: u32 = 2;
const CLUSTER: [u32; 2] = [4, 11];

fn extended(config: In<LaunchConfig>, function: Handle, parameters: Parameters) -> Result {
    let config = config.at(0)?;
    let mut cooperative = false;
    for attribute in config.attributes.all(config.count as usize)? {
        match attribute.id {
            COOPERATIVE => cooperative = attribute.value[0] != 0,
            id if WITHOUT_EFFECT.contains(&id) => {}
            id if CLUSTER.contains(&id) && attribute.value[..3] == [1, 1, 1] => {}
            id => {
                eprintln!("ptx-emulator: launch attribute {id} isn't supported");
                return Err(Status::NOT_SUPPORTED);
            }
        }
    }
    let shape = Shape { grid: config.grid, block: config.block, dynamic: config.dynamic, cooperative };
    launch(function, &shape, config.stream, parameters)
}

export! {
    /// Runs a kernel.
    fn cuLaunchKernel(
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        dynamic: u32,
        stream: Handle,
        each: In<Host>,
        extra: In<Host>,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let shape = Shape { grid, block, dynamic, cooperative: false };
        launch(function, &shape, stream, Parameters { each, extra })
    }

    /// Runs a kernel whose blocks may wait for each other.
    fn cuLaunchCooperativeKernel(
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        dynamic: u32,
        stream: Handle,
        each: In<Host>,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let shape = Shape { grid, block, dynamic, cooperative: true };
        launch(function, &shape, stream, Parameters { each, extra: In::none() })
    }

    /// Runs a kernel with attributes.
    fn cuLaunchKernelEx(config: In<LaunchConfig>, function: Handle, each: In<Host>, extra: In<Host>) {
        extended(config, function, Parameters { each, extra })
    }
}
