//! What the ops of a network's programs take: counted, estimated for a GPU, measured on a device.

mod estimate;

use std::fmt;

use serde::Serialize;

use super::engine_plan::EngineOptions;
use super::engine_plan::{EnginePlan, ProgramKind};
use super::graph::Graph;
use super::programs::{IMAGES, ProgramBuilder, Source};
use super::shared::Shared;
use super::staging::Staging;
use crate::data::ImageSet;
use crate::device::{BatchSlice, Device, Program, ProgramId, Region, Session, StepParams};
pub use crate::device::{Bound, Cost, KernelLaunch, Precision, Roofline};
use crate::error::{Error, Result};
pub use estimate::{Estimate, LAUNCH_GAP};

/// A job of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What follows a change of the weights, before the next two.
    Prepare,
    /// Logits.
    Infer,
    /// PGD.
    Attack,
    /// A training step.
    Train,
}

impl Mode {
    /// In the order in which a round has them.
    pub const ALL: [Mode; 4] = [Mode::Prepare, Mode::Infer, Mode::Attack, Mode::Train];

    fn of(job: ProgramKind) -> Option<Mode> {
        match job {
            ProgramKind::Prepare => Some(Mode::Prepare),
            ProgramKind::Infer(Source::Images) => Some(Mode::Infer),
            ProgramKind::Attack(Source::Images) => Some(Mode::Attack),
            ProgramKind::Train(Source::Images, false) => Some(Mode::Train),
            _ => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Prepare => "prepare",
            Mode::Infer => "infer",
            Mode::Attack => "attack",
            Mode::Train => "train",
        })
    }
}

/// An op of a job, for all images of a slice.
#[derive(Clone, Debug, Serialize)]
pub struct OpProfile {
    /// Its name.
    pub op: &'static str,
    /// Its sizes, for a reader.
    pub shape: String,
    /// Whether it is one of the ops of an attack's step, which run once for each step.
    pub in_loop: bool,
    /// What it takes at least.
    pub cost: Cost,
    /// The kernels it starts; none on a processor.
    pub launches: Vec<KernelLaunch>,
}

/// A job's ops in the order in which they run.
#[derive(Clone, Debug, Serialize)]
pub struct ModeProfile {
    /// The job.
    pub mode: Mode,
    /// Images of the slice.
    pub images: usize,
    /// Whether the slice has one of several workers; else it has the whole device.
    pub one_worker: bool,
    /// The ops.
    pub ops: Vec<OpProfile>,
}

impl ModeProfile {
    fn new(
        mode: Mode,
        program: &Program,
        count: usize,
        precision: Precision,
        launches: Vec<Vec<KernelLaunch>>,
    ) -> Self {
        // Ops without images are of the whole network.
        let images = if mode == Mode::Prepare { 0 } else { count };
        let costs = program.costs(count, precision);
        let ops = program.ops.iter().zip(costs).zip(launches).enumerate();
        let ops = ops.map(|(at, ((op, cost), launches))| OpProfile {
            op: op.name(),
            shape: op.sizes(program),
            in_loop: program.loop_body.contains(&at),
            cost,
            launches,
        });
        Self { mode, images, one_worker: false, ops: ops.collect() }
    }
}

/// The kernels that each op of a program starts for so many images, on a device that need not be there.
pub type Launches = fn(&Program, usize, Precision) -> Result<Vec<Vec<KernelLaunch>>>;

/// Every job's ops for `batch` images at once, and what they start.
///
/// # Errors
/// A graph that the lowering has no rule for.
pub fn estimate(
    graph: &Graph,
    batch: usize,
    precision: Precision,
    launches: Launches,
) -> Result<Vec<ModeProfile>> {
    let of = |(mode, program): (Mode, Program)| {
        let launches = launches(&program, batch, precision)?;
        Ok(ModeProfile::new(mode, &program, batch, precision, launches))
    };
    programs(graph, batch)?.into_iter().map(of).collect()
}

/// The program of every job for `batch` images at once.
fn programs(graph: &Graph, batch: usize) -> Result<[(Mode, Program); 4]> {
    let options = EngineOptions { batch, attack: true, ..EngineOptions::default() };
    let shared = Shared::new(graph, true);
    let staging = Staging::new(batch, graph.classes(), graph.features(), graph.image_len(), 0, &[], &[]);
    let builder = ProgramBuilder {
        graph,
        shared: &shared,
        staging: &staging,
        augment: options.augment,
        norm: options.norm,
        worker_batch: batch,
        batch,
    };
    Ok([
        (Mode::Prepare, builder.prepare()),
        (Mode::Infer, builder.infer(Source::Images, false)?),
        (Mode::Attack, builder.attack(Source::Images)?),
        (Mode::Train, builder.train(Source::Images, false)?),
    ])
}

/// A network on a device whose ops are timed.
pub struct Profiler {
    session: Box<dyn Session>,
    jobs: Vec<(ModeProfile, ProgramId, BatchSlice)>,
}

impl Profiler {
    /// Opens `graph` on `device` with `weights` for batches of `images`, all of them one batch.
    ///
    /// # Errors
    /// The device has no room, or fails.
    pub fn open(device: &dyn Device, graph: &Graph, weights: &[f32], images: &ImageSet) -> Result<Self> {
        let batch = images.len();
        let options = EngineOptions { batch, attack: true, ..EngineOptions::default() };
        let plan = EnginePlan::new(device, graph, &options)?;
        let mut session = device.open(plan.layout)?;
        for (span, values) in &plan.shared.constants {
            session.write(span.region, span.offset, values)?;
        }
        session.write(Region::Weights, 0, weights)?;
        session.attach(IMAGES, images)?;
        stage(session.as_mut(), &plan.staging, images)?;
        let mut jobs = Vec::new();
        for (job, program) in plan.kinds.into_iter().zip(plan.programs) {
            if let Some(mode) = Mode::of(job) {
                let count = batch.min(program.capacity);
                let launches = device.launches(&program, count)?;
                let one_worker = program.data_parallel && device.workers() > 1;
                let profile = ModeProfile::new(mode, &program, count, device.precision(), launches);
                let profile = ModeProfile { one_worker, ..profile };
                jobs.push((profile, session.prepare(program)?, BatchSlice { first: 0, count }));
            }
        }
        Ok(Self { session, jobs })
    }

    /// What is known without running.
    pub fn profile(&self, mode: Mode) -> Result<&ModeProfile> {
        Ok(&self.job(mode)?.0)
    }

    /// Runs the job once, each op once, and says how many seconds each took; changes no weight.
    ///
    /// # Errors
    /// The device fails.
    pub fn time(&mut self, mode: Mode) -> Result<Vec<f64>> {
        let &(_, program, slice) = self.job(mode)?;
        // As in epochs that average the weights: everything takes its time.
        let params = StepParams { average_decay: 0.98, ..StepParams::default() };
        self.session.time(program, &params, slice)
    }

    fn job(&self, mode: Mode) -> Result<&(ModeProfile, ProgramId, BatchSlice)> {
        let job = self.jobs.iter().find(|(profile, ..)| profile.mode == mode);
        job.ok_or_else(|| Error::run(format!("no program to {mode}")))
    }
}

/// Every image as itself, with its label and PBE's usual budget.
fn stage(session: &mut dyn Session, staging: &Staging, images: &ImageSet) -> Result<()> {
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    session.write_words(Region::Staging, staging.indices.offset, &indices)?;
    session.write_words(Region::Staging, staging.labels.offset, &images.labels)?;
    for (column, value) in [(staging.epsilon, 8.0 / 255.0), (staging.alpha, 2.0 / 255.0)] {
        session.write(Region::Staging, column.offset, &vec![value; images.len()])?;
    }
    Ok(())
}

#[cfg(all(test, feature = "cuda"))]
mod tests;
