//! A small network through every job of the engine: what ops give together, with the memory plan,
//! the folding and the lanes of real runs.

use super::case::Case;
use super::grid::Depth;
use super::grid::attack::noise;
use super::report::Report;
use crate::data::{ImageSet, Normalisation};
use crate::device::cpu::CpuDevice;
use crate::device::reference::ReferenceDevice;
use crate::device::{Augment, Controls, Device, Norm, Precision};
use crate::engine::{Attacked, Budget, Engine, EngineOptions, Source};
use crate::error::Result;
use crate::model::{Architecture, Kind, Weights};

/// SGD steps.
const STEPS: usize = 10;
/// Images in the set, all of which are attacked and ranked.
const IMAGES: usize = 40;
/// What f32 engines agree to, in the Euclidean norm relative to the truth's.
const AGREEMENT: f64 = 1e-4;
/// The same after the steps, whose small differences grow from step to step.
const TRAINED: f64 = 1e-3;
/// The share of pixels whose first step may go the other way: gradients next to zero.
const SIGNS: f64 = 1e-3;
/// A difference of cosine scores that is rounding.
const TIE: f32 = 1e-5;

/// A network and how it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    kind: Kind,
    width: usize,
    classes: usize,
    height: usize,
    columns: usize,
    channels: usize,
    batch: usize,
    norm: Norm,
}

impl Plan {
    pub fn label(&self) -> String {
        let Plan { kind, width, classes, height, columns, channels, batch, norm } = self;
        format!(
            "{}, width {width}, {classes} classes, {height}x{columns}x{channels}, batch {batch}, {norm:?}",
            kind.name()
        )
    }
}

/// The networks of a test.
pub(super) fn plans(depth: Depth) -> Vec<Plan> {
    let norm = Norm::Linf;
    let kind = Kind::PreActResNet18;
    let small = Plan { kind, width: 4, classes: 10, height: 8, columns: 8, channels: 3, batch: 6, norm };
    let residual = Plan { kind: Kind::ResNet18, width: 2, height: 33, columns: 40, ..small };
    match depth {
        Depth::Quick => vec![small, residual],
        Depth::Full => vec![
            small,
            residual,
            // Of 15x18 pixels this network comes upon a ReLU at zero within ten steps, which the CPU rounds to
            // the other side: 2.3e-3 in the loss.
            Plan { kind: Kind::ResNet18SmallStem, height: 15, columns: 17, ..small },
            Plan { width: 5, classes: 7, height: 12, columns: 20, channels: 1, norm: Norm::L2, ..small },
            Plan { width: 16, classes: 200, height: 16, columns: 16, batch: 12, ..small },
            Plan { width: 8, classes: 1, height: 9, columns: 9, batch: 3, ..small },
        ],
    }
}

/// Everything the engine gave on one device.
struct Outcome {
    gradients: Vec<f32>,
    losses: Vec<f32>,
    weights: Vec<f32>,
    average: Vec<f32>,
    logits: Vec<f32>,
    features: Vec<f32>,
    scores: Vec<f32>,
    /// Of one PGD step, per pixel.
    signs: Vec<f32>,
    /// Random starts.
    starts: Vec<f32>,
    /// PGD-7 examples.
    examples: Vec<f32>,
}

/// What is looked at against each other engine, and how much may differ: of f32; of bf16, against a reference
/// that rounds as the device does and against the CPU, which doesn't round, none where its difference has grown
/// through many steps. A sum that differs in its last bit may be rounded the other way, and batch norm over a
/// dozen images makes much of it: two to six times what was seen, in the worst of the networks.
const ROWS: [(&str, f64, [Option<f64>; 2]); 10] = [
    ("network: first gradients", AGREEMENT, [Some(0.2), Some(0.4)]),
    ("network: ten SGD losses", AGREEMENT, [Some(0.05), Some(0.1)]),
    ("network: weights after them", TRAINED, [Some(0.2), None]),
    ("network: weight average", TRAINED, [Some(0.1), None]),
    ("network: logits", AGREEMENT, [Some(TRAINED), Some(0.02)]),
    ("network: features", AGREEMENT, [Some(TRAINED), Some(0.02)]),
    ("network: cosine scores", AGREEMENT, [Some(TRAINED), Some(0.02)]),
    ("network: ranking, order", 0.0, [Some(TRAINED), Some(0.02)]),
    ("network: PGD signs, share", SIGNS, [Some(5.0 * SIGNS), Some(0.06)]),
    ("network: PGD-7, share", 10.0 * SIGNS, [Some(0.4), None]),
];
/// What has to be the CPU's to the bit, and the device's own the next time.
const EXACT: [(&str, &str); 2] =
    [("network: random start, bits", "cpu"), ("network: repeated, bits", "itself")];

/// Announces the rows.
pub(super) fn announce(report: &mut Report, precision: Precision) {
    for (column, against) in ["f64", "cpu"].into_iter().enumerate() {
        for (name, plain, rounded) in ROWS {
            let tolerance = if precision == Precision::F32 { Some(plain) } else { rounded[column] };
            tolerance.into_iter().for_each(|tolerance| report.expect(name, against, tolerance));
        }
    }
    EXACT.iter().for_each(|(name, against)| report.expect(name, against, 0.0));
}

/// Whether any of the rows is announced.
pub(super) fn is_wanted(report: &Report) -> bool {
    ROWS.iter().map(|(name, ..)| name).chain(EXACT.iter().map(|(name, _)| name)).any(|name| report.has(name))
}

/// Adds what `plan` gives on `device`.
pub(super) fn test(report: &mut Report, device: &dyn Device, cpu: &CpuDevice, plan: &Plan) -> Result<()> {
    let label = plan.label();
    let setup = Setup::new(plan)?;
    // Every device is then given the same trained weights, so that what follows compares like with like.
    let beside = setup.outcome(cpu, None)?;
    let trained = Some(beside.weights.as_slice());
    let reference = setup.outcome(&ReferenceDevice(device.precision()), trained)?;
    let found = setup.outcome(device, trained).and_then(|found| Ok((setup.outcome(device, trained)?, found)));
    let (again, found) = match found {
        Ok(found) => found,
        Err(error) => {
            report.failed("network: logits", "f64", &label, &error);
            return Ok(());
        }
    };
    for (against, expected) in [("f64", &reference), ("cpu", &beside)] {
        let mut add = |name: &str, error: f64| report.add(name, against, error, &label, "");
        add("network: first gradients", relative(&found.gradients, &expected.gradients));
        add("network: ten SGD losses", relative(&found.losses, &expected.losses));
        add("network: weights after them", relative(&found.weights, &expected.weights));
        add("network: weight average", relative(&found.average, &expected.average));
        add("network: logits", relative(&found.logits, &expected.logits));
        add("network: features", relative(&found.features, &expected.features));
        add("network: cosine scores", relative(&found.scores, &expected.scores));
        add("network: ranking, order", inversion(&found.scores, &expected.scores));
        if plan.norm == Norm::Linf {
            add("network: PGD signs, share", differing(&found.signs, &expected.signs, 0.0));
            add("network: PGD-7, share", differing(&found.examples, &expected.examples, 1e-6));
        }
    }
    if plan.norm == Norm::Linf {
        let bits = unequal_bits(&found.starts, &beside.starts);
        report.add("network: random start, bits", "cpu", bits, &label, "");
    }
    let same = found.lists().iter().zip(again.lists()).map(|(one, other)| unequal_bits(one, other)).sum();
    report.add("network: repeated, bits", "itself", same, &label, "");
    Ok(())
}

impl Outcome {
    fn lists(&self) -> [&[f32]; 10] {
        [
            &self.gradients,
            &self.losses,
            &self.weights,
            &self.average,
            &self.logits,
            &self.features,
            &self.scores,
            &self.signs,
            &self.starts,
            &self.examples,
        ]
    }
}

/// |found − expected| / |expected|, Euclidean.
fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let pairs = found.iter().zip(expected);
    let error = square(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let norm = square(&mut expected.iter().map(|&b| f64::from(b)));
    if norm > 0.0 { (error / norm).sqrt() } else { error.sqrt() }
}

/// The share of elements that differ by more than `tie`.
fn differing(found: &[f32], expected: &[f32], tie: f32) -> f64 {
    let differ =
        found.iter().zip(expected).filter(|&(&a, &b)| (a - b).is_nan() || (a - b).abs() > tie).count();
    differ as f64 / found.len().max(1) as f64
}

/// Elements with other bits.
fn unequal_bits(found: &[f32], expected: &[f32]) -> f64 {
    let differ = found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    (differ + found.len().abs_diff(expected.len())) as f64
}

/// The largest difference, beyond rounding, of expected scores that `found` has in the other order.
fn inversion(found: &[f32], expected: &[f32]) -> f64 {
    let mut worst: f64 = 0.0;
    for i in 0..found.len() {
        for j in 0..found.len() {
            let gap = expected[i] - expected[j];
            if gap > TIE && found[i] < found[j] {
                worst = worst.max(f64::from(gap));
            }
        }
    }
    worst
}

/// What all devices are given.
struct Setup {
    plan: Plan,
    graph: crate::engine::graph::Graph,
    weights: Vec<f32>,
    images: ImageSet,
    labels: Vec<u32>,
    reference: Vec<f32>,
    budgets: Vec<Budget>,
}

impl Setup {
    fn new(plan: &Plan) -> Result<Self> {
        let &Plan { kind, width, classes, height, columns, channels, .. } = plan;
        let architecture = Architecture { kind, width, classes, channels };
        let mut draw = Case::new(1, 0, 1);
        let images = noise(&mut draw, IMAGES, height, columns, channels);
        let labels = (0..IMAGES).map(|_| draw.below(classes as u32)).collect();
        let reference = (0..IMAGES * classes).map(|_| draw.below(512) as f32 / 64.0 - 4.0).collect();
        let budget = |_| {
            let epsilon = (4 + draw.below(28)) as f32 / 255.0;
            Budget { epsilon, alpha: epsilon / 4.0 }
        };
        let budgets = (0..IMAGES).map(budget).collect();
        let normalisation = Normalisation { mean: vec![0.45; channels], std: vec![0.25; channels] };
        Ok(Self {
            plan: *plan,
            graph: architecture.graph(&normalisation, height, columns)?,
            weights: Weights::initialise(architecture, 7).values,
            images,
            labels,
            reference,
            budgets,
        })
    }

    /// Trains from the start; evaluates and attacks `trained`, or else what was trained.
    fn outcome(&self, device: &dyn Device, trained: Option<&[f32]>) -> Result<Outcome> {
        let augment = Augment { pad: 2, flip: true };
        let options = EngineOptions {
            batch: self.plan.batch,
            attack: true,
            augment,
            norm: self.plan.norm,
            ..EngineOptions::default()
        };
        let mut engine = Engine::open(device, &self.graph, &self.weights, &options)?;
        engine.attach(&self.images)?;
        engine.set_average(&self.weights)?;
        let (gradients, losses) = self.train(&mut engine)?;
        let (weights, average) = (engine.weights()?, engine.average()?);
        engine.set_weights(trained.unwrap_or(&weights))?;
        let all: Vec<u32> = (0..IMAGES as u32).collect();
        let (classes, width) = (self.graph.classes(), self.graph.features());
        let (mut logits, mut features) = (vec![0.0; IMAGES * classes], vec![0.0; IMAGES * width]);
        engine.infer(Source::Images, &all, &Controls::default(), |rows| {
            rows.logits(&mut logits[rows.first * classes..])?;
            rows.features(&mut features[rows.first * width..])
        })?;
        let scores = engine.scores(&all, &self.reference)?;
        let still = Controls { random_start: false, clamp: false, ..Controls::default() };
        let mut signs = self.attack(&mut engine, &all, &still)?;
        let clean = self.attack(&mut engine, &all, &Controls { repeats: 0, ..still })?;
        signs.iter_mut().zip(&clean).for_each(|(moved, clean)| *moved = direction(*moved - clean));
        let moved = Controls { seed: 11, epoch: 2, ..Controls::default() };
        let starts = self.attack(&mut engine, &all, &Controls { repeats: 0, ..moved })?;
        let examples = self.attack(&mut engine, &all, &Controls { repeats: 7, ..moved })?;
        Ok(Outcome { gradients, losses, weights, average, logits, features, scores, signs, starts, examples })
    }

    /// The first step's gradients and every step's loss. Sources, distillation and the momentum's
    /// form change from step to step.
    fn train(&self, engine: &mut Engine) -> Result<(Vec<f32>, Vec<f32>)> {
        let (batch, classes) = (self.plan.batch, self.graph.classes());
        let (mut gradients, mut losses) = (vec![], vec![]);
        for step in 0..STEPS {
            let picked: Vec<u32> = (0..batch).map(|i| ((step * batch + i) % IMAGES) as u32).collect();
            let labels: Vec<u32> = picked.iter().map(|&i| self.labels[i as usize]).collect();
            let rows = picked.iter().flat_map(|&i| &self.reference[i as usize * classes..][..classes]);
            let teacher: Vec<f32> = rows.copied().collect();
            let controls = Controls {
                learning_rate: 0.02,
                average_decay: 0.8,
                distill_weight: 0.5,
                temperature: 2.0,
                seed: 3,
                epoch: step as u32,
                nesterov: step % 3 != 0,
                ..Controls::default()
            };
            let source = if step == 0 { Source::Images } else { Source::Augmented };
            let teacher = (step % 2 == 1).then_some(teacher.as_slice());
            losses.push(engine.train_step(source, &picked, &labels, teacher, &controls)?);
            if step == 0 {
                gradients = engine.gradients()?;
            }
        }
        Ok((gradients, losses))
    }

    fn attack(&self, engine: &mut Engine, all: &[u32], controls: &Controls) -> Result<Vec<f32>> {
        let target = Attacked {
            source: Source::Images,
            indices: all,
            labels: &self.labels,
            budgets: &self.budgets,
            predict: true,
        };
        let len = self.graph.image_len();
        let mut examples = vec![0.0; all.len() * len];
        engine.attack(&target, controls, |rows| rows.adversarial(&mut examples[rows.first * len..]))?;
        Ok(examples)
    }
}

fn direction(offset: f32) -> f32 {
    if offset == 0.0 { 0.0 } else { offset.signum() }
}
