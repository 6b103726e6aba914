//! The CUDA device: kernels written for it, launched through the driver.
//!
//! | file | |
//! |---|---|
//! | `probe` | whether there is a device, and why not |
//! | `kernels` | the table of all kernels and their parameters; the embedded PTX |
//! | `plan` | a program becomes a list of launches: what is fused, which operands are forwarded, dtypes, workspace |
//! | `ops` | one op family each: tiles, grids, partial sums, arguments |
//! | `launch` | how a launch is started |
//! | `memory` | what a session holds on the device, and where |
//! | `graphs`, `scalars` | runs captured as graphs, and what changes from one to the next |
//! | `session` | prepared programs, running them |
//!
//! The kernels themselves, one file per family, are in `kernels/`.

#![allow(unsafe_code)]

mod graphs;
mod kernels;
mod launch;
mod memory;
mod ops;
mod plan;
mod probe;
mod ptx;
mod scalars;
mod session;

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaStream};

pub use probe::Unavailable;
use probe::{context, device_count, driver_version, list};
pub use ptx::ptx_dir;

use super::{
    Device, DeviceInfo, DeviceMemory, DtypeRule, KernelLaunch, MemoryLayout, Precision, Program, Session,
    all_f32,
};
use crate::error::{Error, Result};
use kernels::Kernels;
use plan::{Plan, Workspace};
use session::CudaSession;

/// The launches of each op of `program` for a slice of `count` images, with no device asked.
///
/// # Errors
/// An op that no kernel does.
pub fn launches(program: &Program, count: usize, precision: Precision) -> Result<Vec<Vec<KernelLaunch>>> {
    plan::describe(program, count, precision)
}

#[cfg(test)]
pub(crate) use plan::work;

/// Arena elements of an inference or attack slice at most: 512 MiB. A GPU wants enough images to
/// fill all its processors with one launch and gains little beyond.
const ARENA_ELEMENTS: usize = 1 << 27;

/// One CUDA device. Everything a session does on it is in order, on one stream.
pub struct CudaDevice {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    name: String,
    /// Compute capability: major, minor.
    capability: (i32, i32),
    precision: Precision,
    /// Loaded when the first session opens: the driver compiles them, which takes a while.
    kernels: Mutex<Option<Arc<Kernels>>>,
}

impl CudaDevice {
    /// Devices that the driver finds, of any age.
    ///
    /// # Errors
    /// [`Unavailable`]: no library, no device, or a driver that does not start.
    pub fn count() -> std::result::Result<usize, Unavailable> {
        device_count()
    }

    /// Every device, those too old to compute on among them.
    ///
    /// # Errors
    /// As [`CudaDevice::count`].
    pub fn list() -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        list()
    }

    /// The newest CUDA version the driver knows, as 12080 for 12.8; there need not be a device.
    ///
    /// # Errors
    /// [`Unavailable`]: no library, or the driver refuses to say.
    pub fn driver_version() -> std::result::Result<i32, Unavailable> {
        driver_version()
    }

    /// The device number `ordinal`, from 0, whose convolutions multiply in `precision`.
    ///
    /// # Errors
    /// Every kind of [`Unavailable`]; never a panic.
    pub fn open(ordinal: usize, precision: Precision) -> std::result::Result<Self, Unavailable> {
        let (context, DeviceInfo { name, capability, .. }) = context(ordinal)?;
        // SAFETY: events order the streams that use an allocation; all allocations here are used on
        // one stream.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream()?;
        Ok(Self { context, stream, name, capability, precision, kernels: Mutex::new(None) })
    }

    /// Has the driver compile the kernels now, instead of when a session opens: it may refuse them.
    ///
    /// # Errors
    /// The driver refuses them, or a file of `PBE_PTX_DIR` can't be read.
    pub fn compile(&self) -> std::result::Result<(), Unavailable> {
        self.kernels().map(drop).map_err(|cause| match cause {
            Error::File { .. } => Unavailable::Ptx(cause.to_string()),
            cause => Unavailable::Kernels(cause.to_string()),
        })
    }

    fn kernels(&self) -> Result<Arc<Kernels>> {
        let mut loaded = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some(kernels) => Ok(Arc::clone(kernels)),
            None => Ok(Arc::clone(loaded.insert(Arc::new(kernels::load(&self.context)?)))),
        }
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Device for CudaDevice {
    fn describe(&self) -> String {
        let (major, minor) = self.capability;
        format!("cuda:{}: {}, sm_{major}{minor}, {}", self.context.ordinal(), self.name, self.precision)
    }

    fn kind(&self) -> String {
        let (major, minor) = self.capability;
        format!("cuda: {}, sm_{major}{minor}", self.name)
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn dtypes(&self) -> DtypeRule {
        match self.precision {
            Precision::F32 => all_f32,
            Precision::Bf16 => |program| Plan::new(program, Precision::Bf16).bf16_tensors().collect(),
        }
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let (free, total) = self.context.mem_get_info().ok()?;
        Some(DeviceMemory { free, total })
    }

    fn needs(&self, layout: &MemoryLayout, programs: &[Program]) -> usize {
        let workspace = programs.iter().fold(Workspace::default(), |all, program| {
            // A program that can't be lowered is refused when it's prepared.
            let one = Plan::new(program, self.precision).workspace(program).unwrap_or_default();
            all.with(&one)
        });
        let filters = ops::filters_words(programs, self.precision);
        layout.bytes() + (filters + workspace.elements()) * size_of::<f32>()
    }

    fn launches(&self, program: &Program, count: usize) -> Result<Vec<Vec<KernelLaunch>>> {
        launches(program, count, self.precision)
    }

    fn workers(&self) -> usize {
        1
    }

    fn preferred_batch(&self, elements_per_image: usize) -> usize {
        (ARENA_ELEMENTS / elements_per_image.max(1)).clamp(1, 256)
    }

    fn open(&self, layout: MemoryLayout) -> Result<Box<dyn Session>> {
        Ok(Box::new(CudaSession::new(&self.stream, &self.kernels()?, layout, self.precision)?))
    }
}
