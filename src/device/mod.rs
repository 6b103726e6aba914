//! The device floor: executes ops. The only floor with unsafe code.

mod check;
mod choice;
mod cost;
pub mod cpu;
#[cfg_attr(not(feature = "cuda"), path = "no_cuda.rs")]
pub mod cuda;
mod operand;
pub mod ops;
mod patch;
mod precision;
mod program;
pub mod reference;
mod roofline;
mod shape;

use serde::Serialize;

use crate::data::ImageSet;
use crate::error::Result;
pub use choice::DeviceChoice;
pub use cost::Cost;
pub use operand::*;
pub use ops::{Access, Op};
pub use precision::{Bf16Tensors, DtypeRule, Precision, all_f32};
pub use program::*;
pub use roofline::{Bound, Roofline};
pub use shape::{ConvShape, PoolShape};

/// Memory that belongs to a device alone, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Not in use.
    pub free: usize,
    /// In all.
    pub total: usize,
}

/// A CUDA device as the driver describes it, of any age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (i32, i32),
    /// Its memory.
    pub memory: DeviceMemory,
}

/// A kernel that an op starts on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelLaunch {
    /// Its name.
    pub kernel: &'static str,
    /// Thread blocks.
    pub blocks: u64,
    /// Bytes of every buffer it is given, once, and of those it updates in place twice.
    pub bytes: u64,
    /// FLOP of the op's matrix products, where this launch does them.
    pub products: u64,
    /// Blocks across and down.
    pub grid: [u32; 2],
    /// What it does besides its own op.
    pub fused: Vec<String>,
    /// The buffers it is given.
    pub buffers: Vec<LaunchBuffer>,
}

/// A buffer that a launch is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaunchBuffer {
    /// The kernel's parameter.
    pub name: &'static str,
    /// Type of its elements.
    pub dtype: &'static str,
    /// Where it lies.
    pub place: String,
    /// Its bytes; twice where it is updated in place.
    pub bytes: u64,
}

/// Whether a kind of device ([`Device::kind`]) is the processor, in any precision.
pub fn is_processor(kind: &str) -> bool {
    kind.starts_with("cpu")
}

/// A processor that can hold networks and run plans.
pub trait Device: Send + Sync {
    /// One line: kind, name, what it uses.
    fn describe(&self) -> String;
    /// What the bits of a result depend on besides inputs and seed: `cpu`, with its matrix unit if it computes in bf16, or
    /// the model of the GPU.
    fn kind(&self) -> String;
    /// What its convolutions multiply.
    fn precision(&self) -> Precision {
        Precision::F32
    }
    /// Which tensors it keeps in bf16.
    fn dtypes(&self) -> DtypeRule {
        all_f32
    }
    /// The device's own memory, into which image sets are copied too; none where it computes in the
    /// machine's.
    fn memory(&self) -> Option<DeviceMemory> {
        None
    }
    /// Bytes that a session of `layout` will hold once `programs` are prepared, as
    /// [`Session::bytes`] will say (image sets apart). Nothing is allocated.
    fn needs(&self, layout: &MemoryLayout, programs: &[Program]) -> usize;
    /// The kernels that each op of `program` starts for a slice of `count` images; none for a
    /// processor, which calls functions.
    ///
    /// # Errors
    /// An op that can't be started so.
    fn launches(&self, program: &Program, count: usize) -> Result<Vec<Vec<KernelLaunch>>> {
        let _ = count;
        Ok(vec![Vec::new(); program.ops.len()])
    }
    /// Slices that run side by side.
    fn workers(&self) -> usize;
    /// Images a slice of an inference or attack plan should hold, given the arena elements one
    /// image needs (a CPU wants a worker's arena in its cache).
    fn preferred_batch(&self, elements_per_image: usize) -> usize;
    /// Allocates every region, zeroed.
    fn open(&self, layout: MemoryLayout) -> Result<Box<dyn Session>>;
}

/// The memory of one network on a device and the programs prepared for it.
pub trait Session: Send {
    /// Makes an image set readable by [`Op::LoadImages`] as `slot`; replaces what was there. Shares the
    /// pixels where the device can.
    fn attach(&mut self, slot: ImageSlot, images: &ImageSet) -> Result<()>;
    /// Copies host floats to `offset` of a region.
    ///
    /// # Errors
    /// The device fails; so do the two below.
    fn write(&mut self, region: Region, offset: usize, values: &[f32]) -> Result<()>;
    /// Copies host words to `offset` of a region.
    fn write_words(&mut self, region: Region, offset: usize, values: &[u32]) -> Result<()>;
    /// Copies floats of a region to the host.
    fn read(&self, region: Region, offset: usize, values: &mut [f32]) -> Result<()>;
    /// Checks a program against the layout and allocates what its ops need beside the regions.
    fn prepare(&mut self, program: Program) -> Result<ProgramId>;
    /// Runs a prepared program for each slice. Allocates nothing.
    fn run(&mut self, program: ProgramId, params: &StepParams, slices: &[BatchSlice]) -> Result<()>;
    /// Runs a prepared program for one slice, each op once, and says how many seconds each took: on a
    /// processor by its clock, on a GPU between events, gaps between launches included.
    fn time(&mut self, program: ProgramId, params: &StepParams, slice: BatchSlice) -> Result<Vec<f64>>;
    /// Bytes held.
    fn bytes(&self) -> usize;
}
