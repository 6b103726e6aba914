//! The device floor: executes ops. The only floor with unsafe code.

mod check;
mod cost;
pub mod cpu;
pub mod cuda;
mod operand;
pub mod ops;
mod patch;
mod precision;
pub mod reference;
mod roofline;
mod shape;

use std::ops::Range;

use serde::Serialize;

use crate::data::ImageSet;
use crate::error::Result;
pub use cost::Cost;
pub use operand::*;
pub use ops::{Access, Op};
pub use precision::{Bf16Tensors, DtypeRule, Precision, all_f32};
pub use roofline::{Bound, Roofline};
pub use shape::{ConvShape, PoolShape};

/// Element counts of every region, fixed before a session opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLayout {
    /// `Region::Weights`.
    pub weights: usize,
    /// `Region::Gradients`.
    pub gradients: usize,
    /// `Region::Momentum`.
    pub momentum: usize,
    /// `Region::Average`.
    pub average: usize,
    /// `Region::Derived`.
    pub derived: usize,
    /// `Region::Arena`, all workers together.
    pub arena: usize,
    /// `Region::Staging`.
    pub staging: usize,
}

/// A list of ops that run in order, with what a device needs to prepare for them.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The ops.
    pub ops: Vec<Op>,
    /// The filters the ops refer to, one table for all programs of a session.
    pub filters: Vec<FilterSpec>,
    /// Ops that run [`StepParams::repeats`] times in a row: the steps of an attack. Empty for none.
    pub loop_body: Range<usize>,
    /// Images a slice has at most.
    pub capacity: usize,
    /// Arena elements a slice needs (its worker's size).
    pub arena: usize,
    /// Slices are independent of each other and run on one worker each, single-threaded; else one
    /// slice at a time, with all threads inside each op.
    pub data_parallel: bool,
}

/// A program a session has prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramId(pub usize);

/// One run of a program's ops over `count` images whose staging rows start at `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSlice {
    /// First staging row.
    pub first: usize,
    /// Images; at most the program's capacity.
    pub count: usize,
}

/// Scalars that change from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepParams {
    /// SGD step size.
    pub learning_rate: f32,
    /// SGD momentum.
    pub momentum: f32,
    /// L2 penalty, on every trainable parameter as PyTorch does.
    pub weight_decay: f32,
    /// Nesterov's form of the momentum.
    pub nesterov: bool,
    /// Adam's β₁ and β₂.
    pub betas: (f32, f32),
    /// Adam's step, from 1.
    pub step: u32,
    /// d of the moving average; 0 leaves that out.
    pub average_decay: f32,
    /// Weight of the distillation term.
    pub distill_weight: f32,
    /// Its temperature.
    pub temperature: f32,
    /// Seed of augmentation and random starts.
    pub seed: u64,
    /// Epoch of augmentation and random starts.
    pub epoch: u32,
    /// Probability of each rectangle of [`Op::RandomErasing`].
    pub erasing_probability: f32,
    /// Times a program's `loop_body` ops run: PGD steps.
    pub repeats: usize,
    /// PGD starts inside the ball.
    pub random_start: bool,
    /// PGD stays inside [0, 1].
    pub clamp: bool,
}

/// What Adam's second moments are kept from zero by, PyTorch's default.
pub const ADAM_EPSILON: f32 = 1e-8;
/// What the published generators divide by (Nguyen & Tran, 2020), so that their images stay inside (0, 1).
pub const SCALED_TANH_DIVISOR: f64 = 2.0 + 1e-7;

impl StepParams {
    /// Adam's step size with the bias of the first moments corrected, and the factor of the root of the
    /// second that corrects theirs.
    pub fn adam_scales(&self) -> (f64, f64) {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(f64::from(self.step));
        (f64::from(self.learning_rate) / correction(self.betas.0), 1.0 / correction(self.betas.1).sqrt())
    }
}

impl Default for StepParams {
    fn default() -> Self {
        Self {
            learning_rate: 0.0,
            momentum: 0.9,
            weight_decay: 5e-4,
            nesterov: true,
            betas: (0.9, 0.999),
            step: 1,
            average_decay: 0.0,
            distill_weight: 0.0,
            temperature: 1.0,
            seed: 0,
            epoch: 0,
            erasing_probability: 0.0,
            repeats: 1,
            random_start: true,
            clamp: true,
        }
    }
}

/// Memory that belongs to a device alone, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Not in use by anybody.
    pub free: usize,
    /// In all.
    pub total: usize,
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

/// A processor that can hold networks and run plans.
pub trait Device: Send + Sync {
    /// One line: kind, name, what it uses.
    fn describe(&self) -> String;
    /// What the bits of a result depend on besides inputs and seed: `cpu`, or the model of the GPU.
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
