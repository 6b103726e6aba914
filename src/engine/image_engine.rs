//! [`ImageEngine`]: a network from images to images. The caller computes its loss and the loss's gradient.
//!
//! A training step is a program in two halves: [`ImageEngine::forward`] gives the images, [`ImageEngine::step`] takes
//! the gradient and continues with what the forward half has left in the arena.

use super::graph::Graph;
use super::lower::{Lowering, Pass};
use super::programs::{IMAGES, Source, gather};
use super::run::length;
use super::runner::Runner;
use super::shared::Shared;
use crate::data::ImageSet;
use crate::device::ops;
use crate::device::{Augment, Device, MemoryLayout, Op, Program, ProgramId, Region, Span, StepParams};
use crate::error::{Error, Result};

/// Most elements of images in staging, unless a training batch has more.
const STAGED_ELEMENTS: usize = 1 << 20;

/// What an image network is opened for; its memory follows.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageOptions {
    /// Images of a training step; 0 for no training.
    pub batch: usize,
    /// Augmentation of training images.
    pub augment: Augment,
}

/// The columns of the staging rows.
#[derive(Clone, Copy, Debug)]
struct StagingColumns {
    rows: usize,
    indices: Span,
    image: Span,
    output: Span,
    gradient: Span,
    len: usize,
}

impl StagingColumns {
    fn new(rows: usize, image: usize, output: usize) -> Self {
        let mut end = 0;
        let mut column = |len: usize| {
            let span = Span { region: Region::Staging, offset: end, len };
            end += (rows * len).next_multiple_of(16);
            span
        };
        let (indices, image) = (column(1), column(image));
        let (output, gradient) = (column(output), column(output));
        Self { rows, indices, image, output, gradient, len: end }
    }
}

/// An image network lowered for what the options ask for.
pub struct ImagePlan {
    shared: Shared,
    columns: StagingColumns,
    /// Prepare; generate from plain and from augmented images; forward and backward, if it trains.
    programs: Vec<Program>,
    capacity: usize,
    workers: usize,
    layout: MemoryLayout,
}

impl ImagePlan {
    /// Lowers `graph` for `device`; allocates nothing there.
    ///
    /// # Errors
    /// A graph that the lowering has no rule for.
    pub fn new(device: &dyn Device, graph: &Graph, options: &ImageOptions) -> Result<Self> {
        let shared = Shared::new(graph, options.batch > 0);
        let (image, output) = (graph.image_len(), graph.output_len());
        let rows = (STAGED_ELEMENTS / (image + output)).clamp(16, 512).max(options.batch);
        let columns = StagingColumns::new(rows, image, output);
        let mut builder = ImageProgramBuilder { graph, shared: &shared, columns, capacity: 1 };
        let probe = builder.generate(None)?;
        builder.capacity = device.preferred_batch(probe.arena).min(rows);
        let (capacity, workers) = (builder.capacity, device.workers());
        let prepare = builder.program(shared.prepare_evaluation(graph), 1, 0, false);
        let mut programs = vec![prepare, builder.generate(None)?, builder.generate(Some(options.augment))?];
        if options.batch > 0 {
            programs.extend(builder.train(options)?);
        }
        let arena =
            programs.iter().map(|p| p.arena * if p.data_parallel { workers } else { 1 }).max().unwrap_or(0);
        let trained = if options.batch > 0 { graph.trainable } else { 0 };
        let layout = MemoryLayout {
            weights: graph.weights,
            gradients: trained,
            // Adam's two moments.
            momentum: 2 * trained,
            average: 0,
            derived: shared.derived,
            arena,
            staging: columns.len,
        };
        Ok(Self { shared, columns, programs, capacity, workers, layout })
    }

    /// Bytes that the network will take on `device`.
    pub fn bytes(&self, device: &dyn Device) -> usize {
        device.needs(&self.layout, &self.programs)
    }
}

/// Makes the programs of one graph.
struct ImageProgramBuilder<'a> {
    graph: &'a Graph,
    shared: &'a Shared,
    columns: StagingColumns,
    capacity: usize,
}

impl ImageProgramBuilder<'_> {
    fn generate(&self, augment: Option<Augment>) -> Result<Program> {
        let mut plan = self.forward(Pass::Infer, augment)?;
        let arena = plan.slots.place(&mut plan.ops, self.capacity);
        Ok(self.program(plan.ops, self.capacity, arena, true))
    }

    /// Forward, and backward with Adam's step: one list of ops over one arena, split where the caller's gradient
    /// comes in.
    fn train(&self, options: &ImageOptions) -> Result<[Program; 2]> {
        let mut plan = self.forward(Pass::Train, Some(options.augment))?;
        let cut = plan.ops.len();
        plan.backward(self.columns.gradient)?;
        let trainable = |region, offset| Span { region, offset, len: self.graph.trainable };
        plan.ops.push(Op::Adam(ops::Adam {
            weights: trainable(Region::Weights, 0),
            gradients: trainable(Region::Gradients, 0),
            first: trainable(Region::Momentum, 0),
            second: trainable(Region::Momentum, self.graph.trainable),
        }));
        let arena = plan.slots.place(&mut plan.ops, options.batch);
        let backward = plan.ops.split_off(cut);
        Ok([plan.ops, backward].map(|ops| self.program(ops, options.batch, arena, false)))
    }

    fn forward(&self, pass: Pass, augment: Option<Augment>) -> Result<Lowering<'_>> {
        let StagingColumns { indices, image, output, .. } = self.columns;
        let mut plan = Lowering::new(self.graph, self.shared, pass);
        if pass == Pass::Train {
            plan.ops = self.shared.load_filters(self.graph, false);
        }
        plan.ops.extend(gather(self.graph, indices, augment, image));
        plan.forward(image, None, output)?;
        Ok(plan)
    }

    fn program(&self, ops: Vec<Op>, capacity: usize, arena: usize, data_parallel: bool) -> Program {
        Program { ops, filters: self.shared.filters.clone(), loop_body: 0..0, capacity, arena, data_parallel }
    }
}

/// An image network's memory on a device and its programs.
pub struct ImageEngine {
    runner: Runner,
    graph: Graph,
    columns: StagingColumns,
    generate: [ProgramId; 2],
    train: Option<[ProgramId; 2]>,
    /// Images of the last forward half, which `step` continues.
    pending: Option<usize>,
}

impl ImageEngine {
    /// Lowers `graph` for what `options` ask for, allocates all memory, and loads `weights` (parameters, then
    /// statistics).
    pub fn open(device: &dyn Device, graph: &Graph, weights: &[f32], options: &ImageOptions) -> Result<Self> {
        let plan = ImagePlan::new(device, graph, options)?;
        let mut session = device.open(plan.layout)?;
        for (span, values) in &plan.shared.constants {
            session.write(span.region, span.offset, values)?;
        }
        let ids = plan.programs.into_iter().map(|program| session.prepare(program));
        let ids = ids.collect::<Result<Vec<_>>>()?;
        let runner = Runner::new(session, ids[0], plan.capacity, plan.workers, plan.columns.rows);
        let mut engine = Self {
            runner,
            graph: graph.clone(),
            columns: plan.columns,
            generate: [ids[1], ids[2]],
            train: ids.get(3).zip(ids.get(4)).map(|(&forward, &backward)| [forward, backward]),
            pending: None,
        };
        engine.set_weights(weights)?;
        Ok(engine)
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.runner.session.bytes()
    }

    /// Makes `images` the set that indices refer to.
    pub fn attach(&mut self, images: &ImageSet) -> Result<()> {
        self.runner.session.attach(IMAGES, images)
    }

    /// Replaces parameters and statistics.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<()> {
        length("weights", weights.len(), self.graph.weights)?;
        self.pending = None;
        self.runner.set_weights(weights)
    }

    /// Parameters, then statistics.
    pub fn weights(&self) -> Result<Vec<f32>> {
        self.runner.region(Region::Weights, self.graph.weights)
    }

    /// Gradients of the last step.
    pub fn gradients(&self) -> Result<Vec<f32>> {
        self.runner.region(Region::Gradients, self.graph.trainable)
    }

    /// Adam's first moments, then the second, for a checkpoint.
    pub fn moments(&self) -> Result<Vec<f32>> {
        self.runner.region(Region::Momentum, 2 * self.graph.trainable)
    }

    /// Replaces Adam's moments.
    pub fn set_moments(&mut self, moments: &[f32]) -> Result<()> {
        length("moments", moments.len(), 2 * self.graph.trainable)?;
        self.runner.session.write(Region::Momentum, 0, moments)
    }

    /// The network's images of the attached images at `indices`, with running statistics, to `output`.
    ///
    /// # Errors
    /// The device fails, or `source` is [`Source::Adversarial`], which image networks don't have.
    pub fn generate(
        &mut self,
        source: Source,
        indices: &[u32],
        params: &StepParams,
        output: &mut [f32],
    ) -> Result<()> {
        let program = self.generate.get(source as usize).copied();
        let program = program.ok_or_else(|| Error::run("an image network reads attached images only"))?;
        self.pending = None;
        self.runner.evaluation()?;
        let (rows, len) = (self.columns.rows, self.columns.output.len);
        for (part, output) in indices.chunks(rows).zip(output.chunks_mut(rows * len)) {
            self.runner.session.write_words(Region::Staging, self.columns.indices.offset, part)?;
            self.runner.run_slices(program, part.len(), params)?;
            self.read(self.columns.output, output)?;
        }
        Ok(())
    }

    /// The first half of a training step: batch statistics over the augmented images at `indices`. Gives
    /// these images to `images` and what the network makes of them to `output`.
    pub fn forward(
        &mut self,
        indices: &[u32],
        params: &StepParams,
        images: &mut [f32],
        output: &mut [f32],
    ) -> Result<()> {
        let [forward, _] = planned(self.train)?;
        self.runner.session.write_words(Region::Staging, self.columns.indices.offset, indices)?;
        self.runner.run_training(forward, indices.len(), params)?;
        self.pending = Some(indices.len());
        self.read(self.columns.image, images)?;
        self.read(self.columns.output, output)
    }

    /// The second half, directly after the first: backward from `gradient`, the gradient at the output, and Adam's
    /// step.
    pub fn step(&mut self, gradient: &[f32], params: &StepParams) -> Result<()> {
        let [_, backward] = planned(self.train)?;
        let count = self.pending.take().filter(|count| count * self.columns.gradient.len == gradient.len());
        let count = count.ok_or_else(|| Error::run("a step without its forward pass"))?;
        let Span { region, offset, .. } = self.columns.gradient;
        self.runner.session.write(region, offset, gradient)?;
        self.runner.run_training(backward, count, params)
    }

    fn read(&self, column: Span, out: &mut [f32]) -> Result<()> {
        self.runner.session.read(column.region, column.offset, out)
    }
}

fn planned(programs: Option<[ProgramId; 2]>) -> Result<[ProgramId; 2]> {
    programs.ok_or_else(|| Error::run("the network was opened without memory for training"))
}
