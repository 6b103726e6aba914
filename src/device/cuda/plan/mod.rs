//! The plan: from a program's ops to a list of launches.
//!
//! [`Plan::new`] decides once per program what is fused ([`fuse`]), which op makes a convolution's operand
//! ([`forwarding`]) and which tensors are kept in bf16 ([`dtypes`]). [`Plan::launches`] then lists every launch for
//! an instance of so many images: kernel, arguments, grid. Everything else reads that list: execution and graph
//! capture start it, the memory estimate and the checks add up its buffers, the profiler prints it.

mod dtypes;
mod forwarding;
mod fuse;
mod launch;
mod operands;

use super::kernels::{Arguments, Kernel};
use super::ops;
use super::ops::optimizer::Update;
use super::ops::tiles;

#[cfg(test)]
use crate::device::Op;
use crate::device::{
    Affine, Bf16Tensors, FilterId, KernelLaunch, Precision, Program, Prologue, Region, Span, StepParams,
};
use crate::error::{Error, Result};
use forwarding::Forwarding;
pub(super) use fuse::{AfterLogits, Classifier, Fusion, PgdStep};
#[cfg(test)]
pub(super) use fuse::{CLASSES, FEATURES};
pub(super) use launch::{Argument, BLOCK, Buffer, BufferUse, Grid, ImageSetSize, Launch, Pointer};
pub(super) use operands::{ConvOperand, OpPlan};

/// Kernels index with 32 bits.
const LARGEST: usize = 1 << 31;

/// Which of the ops that depend on the scalars of a run are launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switches {
    pub patches: bool,
    pub distill: bool,
    pub average: bool,
}

impl Switches {
    /// Those that take the most memory and time.
    pub const ALL: Self = Self { patches: true, distill: true, average: true };

    pub fn new(params: &StepParams) -> Self {
        Self {
            patches: params.erasing_probability > 0.0,
            distill: params.distill_weight != 0.0,
            average: params.average_decay > 0.0,
        }
    }
}

/// Elements of 4 bytes of each working buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Workspace {
    /// Operands of convolutions.
    pub operands: Vec<usize>,
    pub partials: usize,
    /// The table of a training step's update.
    pub table: usize,
}

impl Workspace {
    /// What fits either.
    pub fn with(mut self, other: &Workspace) -> Self {
        other.operands.iter().enumerate().for_each(|(buffer, &words)| self.operand(buffer, words));
        self.partials = self.partials.max(other.partials);
        self.table = self.table.max(other.table);
        self
    }

    fn operand(&mut self, buffer: usize, words: usize) {
        if self.operands.len() <= buffer {
            self.operands.resize(buffer + 1, 0);
        }
        self.operands[buffer] = self.operands[buffer].max(words);
    }

    /// Elements in all.
    pub fn elements(&self) -> usize {
        self.operands.iter().sum::<usize>() + self.partials + self.table
    }
}

/// What is decided about a program, whatever the number of images.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    precision: Precision,
    /// Of each op.
    ops: Vec<OpPlan>,
    /// What a training step ends with.
    pub update: Option<Update>,
}

impl Plan {
    /// The plan of a program whose convolutions multiply in `precision`.
    pub fn new(program: &Program, precision: Precision) -> Self {
        let mut ops = Forwarding::plan(program, fuse::fusions(program), precision);
        let update = if precision == Precision::Bf16 { Update::of(program) } else { None };
        if let Some(update) = &update {
            ops[update.sgd].fusion = Fusion::Update;
            update.average.into_iter().for_each(|op| ops[op].fusion = Fusion::Into(update.sgd));
        }
        Self { precision, ops, update }
    }

    /// Leaves the update to its ops.
    pub fn without_update(&mut self) {
        let update = self.update.take();
        let ops = update.into_iter().flat_map(|update| [Some(update.sgd), update.average]).flatten();
        ops.for_each(|op| self.ops[op].fusion = Fusion::Alone);
    }

    /// Ops at the beginning that need not run where the filters are those that the last update has left.
    pub fn opening(&self) -> usize {
        self.update.as_ref().map_or(0, |update| update.opening)
    }

    /// Which tensors each op reads or writes in bf16.
    pub fn bf16_tensors(&self) -> impl Iterator<Item = Bf16Tensors> {
        self.ops.iter().map(|op| op.bf16)
    }

    /// The launches of every op of `program`, in the order of its ops, for an instance of `count` images.
    ///
    /// # Errors
    /// An op that no kernel does; names it.
    pub fn launches(&self, program: &Program, count: usize, switches: Switches) -> Result<Vec<Launch>> {
        let costs = program.costs(count, self.precision);
        let mut list: Vec<Launch> = Vec::new();
        for (index, op) in program.ops.iter().enumerate() {
            let products = costs[index].products;
            if let Fusion::Into(other) = self.ops[index].fusion {
                if let Some(launch) = list.iter_mut().rfind(|launch| launch.op == other) {
                    launch.products += products;
                    launch.fused.push(op.name().to_string());
                }
                continue;
            }
            let plan = &self.ops[index];
            let mut lowering = LaunchBuilder {
                program,
                precision: self.precision,
                count,
                switches,
                index,
                plan,
                update: self.update.as_ref(),
                products,
                list: &mut list,
            };
            ops::lower(&mut lowering, op).map_err(|cause| Error::run(format!("{}: {cause}", op.name())))?;
        }
        Ok(list)
    }

    /// What the launches of `program` need beside the regions.
    ///
    /// # Errors
    /// As [`Plan::launches`].
    pub fn workspace(&self, program: &Program) -> Result<Workspace> {
        let mut workspace = Workspace::default();
        for launch in self.launches(program, program.capacity, Switches::ALL)? {
            for (_, _, dtype, tensor) in launch.tensors() {
                let words = tensor.reserve.saturating_mul(dtype.bytes()).div_ceil(size_of::<f32>());
                match tensor.buffer {
                    Buffer::Operand(buffer) => workspace.operand(buffer, words),
                    Buffer::Partials => workspace.partials = workspace.partials.max(words),
                    Buffer::UpdateTable => workspace.table = workspace.table.max(words),
                    _ => {}
                }
            }
        }
        Ok(workspace)
    }

    /// Refuses what 32-bit indices can't reach.
    ///
    /// # Errors
    /// Names the op; or as [`Plan::launches`].
    pub fn check_sizes(&self, program: &Program) -> Result<()> {
        for launch in self.launches(program, program.capacity, Switches::ALL)? {
            let items = if let Grid::Items(items) = launch.grid { items } else { 0 };
            let largest = launch.tensors().map(|(.., tensor)| tensor.reserve).max().unwrap_or(0);
            if largest.max(items) >= LARGEST {
                let (op, capacity) = (program.ops[launch.op].name(), program.capacity);
                return Err(Error::run(format!(
                    "{op} of {capacity} images has a tensor of over 2^31 elements"
                )));
            }
        }
        Ok(())
    }
}

/// The launches of each op of `program` for an instance of `count` images on a device that need not be there.
///
/// # Errors
/// As [`Plan::launches`].
pub(super) fn describe(
    program: &Program,
    count: usize,
    precision: Precision,
) -> Result<Vec<Vec<KernelLaunch>>> {
    let plan = Plan::new(program, precision);
    let mut ops = vec![Vec::new(); program.ops.len()];
    // As in epochs that average the weights, one step after another.
    let switches = Switches { average: true, patches: false, distill: false };
    let launches = plan.launches(program, count, switches)?;
    for launch in launches.iter().filter(|launch| launch.op >= plan.opening()) {
        ops[launch.op].push(launch.describe());
    }
    Ok(ops)
}

/// Who does the work of an op of a plan.
#[cfg(test)]
pub(crate) struct OpWork {
    /// The op whose launches do some or all of it.
    pub by: usize,
    /// What its convolution's prologue reads and writes, where another launch has applied that.
    pub less: Vec<Span>,
    /// The same of another op's prologue that its launch applies.
    pub more: Vec<Span>,
}

/// For tests: of each op of a program.
#[cfg(test)]
pub(crate) fn work(program: &Program, precision: Precision) -> Vec<OpWork> {
    let plan = Plan::new(program, precision);
    let all = plan.ops.iter().zip(&program.ops).enumerate();
    all.map(|(index, (plan_of, op))| {
        let by = match (plan_of.fusion, &plan.update) {
            (Fusion::Into(by), _) => by,
            (Fusion::StatsReady, _) => index - 1,
            (_, Some(update)) if index < update.opening => update.sgd,
            _ => index,
        };
        let prologue = match op {
            Op::Conv(conv) => conv.prologue,
            Op::ConvWgrad(conv) => conv.prologue,
            _ => Prologue::default(),
        };
        let affine = |prologue: Prologue| prologue.affine.map(|affine| [affine.scale, affine.shift]);
        let affines = |prologue| affine(prologue).into_iter().flatten();
        let applied = (!plan_of.input.fill).then_some(prologue);
        let masked = prologue.mask.filter(|_| plan_of.masked);
        let applies = plan_of.forward.map(|forward| forward.prologue);
        OpWork {
            by,
            less: applied.into_iter().flat_map(affines).chain(masked).collect(),
            more: applies.into_iter().flat_map(|one| affines(one).chain(one.mask)).collect(),
        }
    })
    .collect()
}

/// One op on its way to launches.
pub(super) struct LaunchBuilder<'a> {
    pub program: &'a Program,
    pub precision: Precision,
    /// Images of the instance.
    pub count: usize,
    pub switches: Switches,
    index: usize,
    /// What is decided about the op.
    pub plan: &'a OpPlan,
    pub update: Option<&'a Update>,
    products: u64,
    list: &'a mut Vec<Launch>,
}

/// Why an op can't be launched.
pub(super) type Lowered = std::result::Result<(), String>;

impl LaunchBuilder<'_> {
    /// Adds a launch.
    pub fn launch<A: Arguments>(&mut self, kernel: Kernel, grid: Grid, arguments: A) -> Lowered {
        self.list.push(Launch::new(self.index, kernel, grid, arguments)?);
        Ok(())
    }

    /// The same of the one that does the op's matrix products.
    pub fn launch_products<A: Arguments>(&mut self, kernel: Kernel, grid: Grid, arguments: A) -> Lowered {
        self.launch(kernel, grid, arguments)?;
        let products = self.products;
        self.list.last_mut().into_iter().for_each(|launch| launch.products = products);
        Ok(())
    }

    /// Notes what else the last launch does.
    pub fn fused(&mut self, what: &str) {
        self.list.last_mut().into_iter().for_each(|launch| launch.fused.push(what.to_string()));
    }

    /// Elements of so many for each image.
    pub fn images(&self, elements: usize) -> usize {
        self.count.saturating_mul(elements)
    }

    /// A span's part for this instance.
    pub fn at(&self, span: Span) -> Pointer {
        let per_image = matches!(span.region, Region::Arena | Region::Staging);
        self.part(span, if per_image { self.images(span.len) } else { span.len })
    }

    /// So many elements from a span's beginning.
    pub fn part(&self, span: Span, elements: usize) -> Pointer {
        self.buffer(Buffer::Span(span), elements)
    }

    /// A tensor that is kept in bf16 in a span, with whole vectors of channels.
    pub fn bf16(&self, span: Span, pixels: usize, channels: usize) -> Pointer {
        self.part(span, self.images(pixels * tiles::padded(channels)))
    }

    pub fn buffer(&self, buffer: Buffer, elements: usize) -> Pointer {
        Some(BufferUse { buffer, elements, reserve: elements })
    }

    /// Partial sums; at most `reserve` elements for no more images than these.
    pub fn partials(&self, elements: usize, reserve: usize) -> Pointer {
        Some(BufferUse { buffer: Buffer::Partials, elements, reserve })
    }

    /// As [`LaunchBuilder::at`], where there is a span.
    pub fn optional(&self, span: Option<Span>) -> Pointer {
        span.and_then(|span| self.at(span))
    }

    /// Scale and shift.
    pub fn affine(&self, affine: Option<Affine>) -> (Pointer, Pointer) {
        (self.optional(affine.map(|affine| affine.scale)), self.optional(affine.map(|affine| affine.shift)))
    }

    /// Scale and shift of a prologue.
    pub fn prologue(&self, prologue: &Prologue) -> (Pointer, Pointer) {
        self.affine(prologue.affine)
    }

    pub fn filter(&self, filter: FilterId) -> Pointer {
        let spec = &self.program.filters[filter.0];
        self.buffer(Buffer::Filter(filter), tiles::filter_len(spec))
    }

    pub fn scalars(&self) -> Pointer {
        self.buffer(Buffer::Scalars, 1)
    }

    /// What a loss's gradient is divided by.
    pub fn divisor(&self, mean: bool) -> f32 {
        if mean { self.count as f32 } else { 1.0 }
    }

    /// Where the op's result goes in f32; null where only its bf16 form is read.
    pub fn stored(&self, output: Span) -> Pointer {
        (self.plan.stored && !self.plan.bf16.output).then(|| self.at(output)).flatten()
    }

    /// Where it goes in bf16 as it is; null where nothing reads that.
    pub fn stored_bf16(&self, output: Span, pixels: usize, channels: usize) -> Pointer {
        (self.plan.stored && self.plan.bf16.output).then(|| self.bf16(output, pixels, channels)).flatten()
    }

    /// Where it goes after the prologue of the convolution that reads it, in the operand's type; null if none does.
    pub fn forwarded(&self, pixels: usize, channels: usize) -> Pointer {
        let forward = self.plan.forward?;
        self.buffer(Buffer::Operand(forward.buffer), self.images(pixels * tiles::padded(channels)))
    }

    /// Where a result goes in bf16 whose reader has no prologue: to its own place or an operand's.
    pub fn bf16_output(&self, output: Span, pixels: usize, channels: usize) -> Pointer {
        self.stored_bf16(output, pixels, channels).or_else(|| self.forwarded(pixels, channels))
    }

    /// An addend: its tensor in f32, or else in bf16.
    pub fn addend(
        &self,
        span: Option<Span>,
        bf16: bool,
        pixels: usize,
        channels: usize,
    ) -> (Pointer, Pointer) {
        match span {
            Some(span) if bf16 => (None, self.bf16(span, pixels, channels)),
            span => (self.optional(span), None),
        }
    }

    /// Blocks by images and by four elements of one, a thread each.
    pub fn vec4_grid(&self, elements: usize) -> Grid {
        Grid::Blocks(self.count, elements.div_ceil(ops::VEC4 * BLOCK))
    }
}

#[cfg(test)]
mod tests;
