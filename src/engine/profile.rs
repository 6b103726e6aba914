//! What the ops of a network's programs take: counted, foretold for a GPU, measured on a device.

use std::fmt;

use serde::Serialize;

use super::graph::Graph;
use super::plan::{Job, Plan};
use super::programs::{IMAGES, Programs, Source};
use super::run::EngineOptions;
use super::shared::Shared;
use super::staging::Staging;
use crate::data::ImageSet;
use crate::device::cuda;
pub use crate::device::{Bound, Cost, KernelLaunch, Precision, Roof};
use crate::device::{
    Controls, ConvShape, Device, Instance, Op, PoolShape, Program, ProgramId, Region, Session,
};
use crate::error::{Error, Result};

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

    fn of(job: Job) -> Option<Mode> {
        match job {
            Job::Prepare => Some(Mode::Prepare),
            Job::Infer(Source::Images) => Some(Mode::Infer),
            Job::Attack(Source::Images) => Some(Mode::Attack),
            Job::Train(Source::Images, false) => Some(Mode::Train),
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

/// An op of a job, for all images of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct OpProfile {
    /// Its name.
    pub op: String,
    /// Its sizes in words.
    pub shape: String,
    /// Whether it is one of the ops of an attack's step, which run once for each step.
    pub repeated: bool,
    /// What it takes at least.
    pub cost: Cost,
    /// The kernels it starts; none on a processor.
    pub launches: Vec<KernelLaunch>,
}

/// From a kernel's end to the next one's begin in a graph, which every run on a GPU is: NVIDIA's introduction to
/// CUDA graphs measures 3.4 µs for each of many kernels of 2.9 µs.
pub const LAUNCH_GAP: f64 = 0.5e-6;

/// Seconds that an op's launches take on a GPU if nothing but its roof holds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// Of launches that are bound by the rate of matrix products: that of the multiprocessors which have a
    /// block, when the last of the blocks are dealt out.
    pub products: f64,
    /// Of launches that are bound by the bytes of their buffers.
    pub bytes: f64,
    /// Of the gaps between launches.
    pub gaps: f64,
}

impl Estimate {
    /// On the device, gaps apart.
    pub fn busy(&self) -> f64 {
        self.products + self.bytes
    }
}

impl std::ops::AddAssign for Estimate {
    fn add_assign(&mut self, other: Estimate) {
        self.products += other.products;
        self.bytes += other.bytes;
        self.gaps += other.gaps;
    }
}

impl OpProfile {
    /// What the op's launches come to on a GPU with this roof.
    pub fn estimate(&self, roof: &Roof, precision: Precision) -> Estimate {
        let mut estimate = Estimate::default();
        for launch in &self.launches {
            // Every round of blocks takes as long as a full one.
            let rounds = launch.blocks.div_ceil(roof.processors) * roof.processors;
            let share = launch.blocks as f64 / rounds.max(1) as f64;
            let products = launch.products as f64 / (roof.products(precision) * share);
            let bytes = launch.bytes as f64 / roof.bytes;
            let sum = if products > bytes { &mut estimate.products } else { &mut estimate.bytes };
            *sum += products.max(bytes);
            estimate.gaps += LAUNCH_GAP;
        }
        estimate
    }
}

/// A job's ops in the order in which they run.
#[derive(Clone, Debug, Serialize)]
pub struct ModeProfile {
    /// The job.
    pub mode: Mode,
    /// Images of the instance.
    pub images: usize,
    /// Whether the instance has one of several lanes; else it has the whole device.
    pub lane: bool,
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
            shape: shape(op, program),
            repeated: program.repeated.contains(&at),
            cost,
            launches,
        });
        Self { mode, images, lane: false, ops: ops.collect() }
    }
}

/// Every job's ops for `batch` images at once on a GPU that is not there.
///
/// # Errors
/// A graph that the lowering has no rule for.
pub fn foretell(graph: &Graph, batch: usize, precision: Precision) -> Result<Vec<ModeProfile>> {
    let options = EngineOptions { batch, attack: true, ..EngineOptions::default() };
    let shared = Shared::new(graph, true);
    let staging = Staging::new(batch, graph.classes(), graph.features(), graph.image_len(), 0);
    let make = Programs {
        graph,
        shared: &shared,
        staging: &staging,
        augment: options.augment,
        norm: options.norm,
        lane_batch: batch,
        batch,
    };
    let programs = [
        (Mode::Prepare, make.prepare()),
        (Mode::Infer, make.infer(Source::Images, false)?),
        (Mode::Attack, make.attack(Source::Images)?),
        (Mode::Train, make.train(Source::Images, false)?),
    ];
    let of = |(mode, program): (Mode, Program)| {
        let launches = cuda::launches(&program, batch, precision)?;
        Ok(ModeProfile::new(mode, &program, batch, precision, launches))
    };
    programs.into_iter().map(of).collect()
}

/// A network on a device whose ops are timed.
pub struct Profiler {
    session: Box<dyn Session>,
    jobs: Vec<(ModeProfile, ProgramId, Instance)>,
}

impl Profiler {
    /// Opens `graph` on `device` with `weights` for batches of `images`, all of them one batch.
    ///
    /// # Errors
    /// The device has no room, or fails.
    pub fn open(device: &dyn Device, graph: &Graph, weights: &[f32], images: &ImageSet) -> Result<Self> {
        let batch = images.len();
        let options = EngineOptions { batch, attack: true, ..EngineOptions::default() };
        let plan = Plan::new(device, graph, &options)?;
        let mut session = device.open(plan.layout)?;
        for (span, values) in &plan.shared.constants {
            session.write(span.region, span.offset, values)?;
        }
        session.write(Region::Weights, 0, weights)?;
        session.attach(IMAGES, images)?;
        stage(session.as_mut(), &plan.staging, images)?;
        let mut jobs = Vec::new();
        for (job, program) in plan.jobs.into_iter().zip(plan.programs) {
            if let Some(mode) = Mode::of(job) {
                let count = batch.min(program.capacity);
                let launches = device.launches(&program, count)?;
                let lane = program.lanes && device.lanes() > 1;
                let profile = ModeProfile::new(mode, &program, count, device.precision(), launches);
                let profile = ModeProfile { lane, ..profile };
                jobs.push((profile, session.prepare(program)?, Instance { first: 0, count }));
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
        let &(_, program, instance) = self.job(mode)?;
        self.session.time(program, &Controls::default(), instance)
    }

    fn job(&self, mode: Mode) -> Result<&(ModeProfile, ProgramId, Instance)> {
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

/// An op's sizes in words; the same words are the same sizes.
fn shape(op: &Op, program: &Program) -> String {
    let conv = |shape: &ConvShape| {
        let ConvShape { height, width, in_channels, out_channels, kernel, stride, .. } = shape;
        let stride = if *stride > 1 { format!("/{stride}") } else { String::new() };
        format!("{height}x{width}, {in_channels} to {out_channels}, {kernel}x{kernel}{stride}")
    };
    let pixels = |pixels: usize, channels: usize| format!("{pixels} pixels, {channels} channels");
    match op {
        Op::LoadFilter { filter, .. } => {
            program.filters.get(filter.0).map_or_else(String::new, |spec| conv(&spec.shape))
        }
        Op::Conv { shape, .. } | Op::ConvDgrad { shape, .. } | Op::ConvWgrad { shape, .. } => conv(shape),
        Op::MaxPool { shape, .. } | Op::MaxPoolDgrad { shape, .. } => {
            let PoolShape { height, width, channels, kernel, stride, .. } = shape;
            format!("{height}x{width}, {channels} channels, {kernel}x{kernel}/{stride}")
        }
        Op::NormAffine { gamma, .. } => format!("{} channels", gamma.len),
        Op::NormStatistics { pixels: n, channels, .. }
        | Op::NormDgrad { pixels: n, channels, .. }
        | Op::UnitTanh { pixels: n, channels, .. }
        | Op::UnitTanhDgrad { pixels: n, channels, .. }
        | Op::Sum { pixels: n, channels, .. }
        | Op::Pool { pixels: n, channels, .. }
        | Op::PoolDgrad { pixels: n, channels, .. } => pixels(*n, *channels),
        Op::Gather { height, width, channels, .. }
        | Op::Patches { height, width, channels, .. }
        | Op::Upsample { height, width, channels, .. }
        | Op::UpsampleDgrad { height, width, channels, .. } => pixels(height * width, *channels),
        Op::Linear { inputs, outputs, .. }
        | Op::LinearDgrad { inputs, outputs, .. }
        | Op::LinearWgrad { inputs, outputs, .. } => format!("{inputs} to {outputs}"),
        Op::SoftmaxCrossEntropy { classes, .. } | Op::Cosine { classes, .. } => format!("{classes} classes"),
        Op::PgdStart { elements, .. } | Op::PgdStep { elements, .. } | Op::Copy { elements, .. } => {
            format!("{elements} elements")
        }
        Op::Sgd { weights, .. } | Op::Adam { weights, .. } | Op::MovingAverage { weights, .. } => {
            format!("{} weights", weights.len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalisation;
    use crate::model::{Architecture, Kind};

    fn published() -> Graph {
        let architecture = Architecture { kind: Kind::PreActResNet18, width: 64, classes: 10, channels: 3 };
        architecture.graph(&Normalisation::identity(3), 32, 32).unwrap()
    }

    fn sum(profile: &ModeProfile) -> Cost {
        profile.ops.iter().map(|op| op.cost).sum()
    }

    /// PreAct-ResNet-18, 32x32: the stem; four convolutions of a stage; three times a strided one, three
    /// others and a shortcut; the linear layer.
    const PRODUCTS: u64 = 1_769_472 + 4 * 37_748_736 + 3 * (18_874_368 + 3 * 37_748_736 + 2_097_152) + 5120;

    #[test]
    fn multiply_adds_of_the_published_network() {
        assert_eq!(PRODUCTS, 555_422_720);
        for precision in [Precision::F32, Precision::Bf16] {
            let [prepare, infer, attack, train] =
                foretell(&published(), 128, precision).unwrap().try_into().unwrap();
            assert_eq!(sum(&prepare).products, 0);
            assert_eq!(sum(&infer).products, 2 * 128 * PRODUCTS);
            // Forward, and back to the image; in training weights have gradients too, and the image none.
            assert_eq!(sum(&attack).products, 2 * 2 * 128 * PRODUCTS);
            assert_eq!(sum(&train).products, 2 * 128 * (3 * PRODUCTS - 1_769_472));
            let step = attack.ops.iter().filter(|op| op.repeated).count();
            assert_eq!(attack.ops.len() - step, 3, "images, start, copy");
        }
    }

    /// Launches do all the arithmetic of their op and touch no less than it must; in bf16 ops do part of each
    /// other's work, and a program's have to.
    #[test]
    fn launches_do_what_their_op_does() {
        for precision in [Precision::F32, Precision::Bf16] {
            for profile in foretell(&published(), 4, precision).unwrap() {
                for op in &profile.ops {
                    let products: u64 = op.launches.iter().map(|launch| launch.products).sum();
                    let bytes: u64 = op.launches.iter().map(|launch| launch.bytes).sum();
                    assert_eq!(products, op.cost.products, "{} {}", op.op, op.shape);
                    let apart = precision == Precision::F32;
                    assert!(!apart || bytes >= op.cost.bytes, "{} {}: {bytes}", op.op, op.shape);
                    assert!(!op.launches.is_empty(), "{}", op.op);
                }
                let launches = profile.ops.iter().flat_map(|op| &op.launches);
                let bytes: u64 = launches.map(|launch| launch.bytes).sum();
                assert!(bytes >= sum(&profile).bytes, "{:?}: {bytes}", sum(&profile));
            }
        }
    }

    #[test]
    fn an_estimate_is_the_longer_of_products_and_bytes() {
        let launch = |blocks, bytes, products| KernelLaunch { kernel: "k", blocks, bytes, products };
        let op = |launches| OpProfile {
            op: String::new(),
            shape: String::new(),
            repeated: false,
            cost: Cost::default(),
            launches,
        };
        let of = |launches| op(launches).estimate(&Roof::A100, Precision::Bf16);
        // 312 TFLOP/s on all of 108 multiprocessors; 2039 GB/s.
        let full = of(vec![launch(108, 2_038_000, 312_000_000), launch(1, 2_039_000, 0)]);
        assert!((full.products - 1e-6).abs() < 1e-12 && (full.bytes - 1e-6).abs() < 1e-12, "{full:?}");
        assert_eq!(full.gaps, 2.0 * LAUNCH_GAP);
        // 128 blocks are two rounds of 108.
        let tail = of(vec![launch(128, 0, 312_000_000)]);
        assert!((tail.products - 216.0 / 128.0 * 1e-6).abs() < 1e-12, "{tail:?}");
        let plain = op(vec![launch(108, 0, 312_000_000)]).estimate(&Roof::A100, Precision::F32);
        assert!((plain.products - 16e-6).abs() < 1e-8, "{plain:?}");
    }
}
