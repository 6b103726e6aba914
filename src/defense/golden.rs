//! The defences that need a clean set against PyTorch: `tests/golden/defenses`, made by `scripts/make_golden_defenses.py`.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::ban::Noisy;
use super::fst::Push;
use super::ft_sam::Sam;
use super::nad::{AttentionDistillation, MapShape, attention_loss};
use super::neural_cleanse::{Adam, Search};
use super::norm_noise::{Neurons, Noise};
use super::{Anp, Defense, Facts, NeuralCleanse, anp};
use crate::data::ImageSet;

use crate::engine::{CpuDevice, Engine, EngineOptions, Source, StepParams};
use crate::model::{Weights, load};
use crate::train::{Batch, Optimizer};

/// What tests of networks allow for gradients and losses.
const TOLERANCE: f64 = 1e-3;

struct Golden {
    images: ImageSet,
    labels: Vec<u32>,
    weights: Weights,
    engine: Engine,
    teacher: Option<Engine>,
    bytes: Vec<u8>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn tensor(bytes: &[u8], name: &str) -> Vec<f64> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let data = view.data();
    match view.dtype() {
        Dtype::F64 => data.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
        Dtype::F32 => data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes).into()).collect(),
        Dtype::I32 => data.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes).into()).collect(),
        _ => data.iter().map(|&byte| byte.into()).collect(),
    }
}

impl Golden {
    fn open() -> Self {
        let given = std::fs::read(folder("square").join("expected.safetensors")).unwrap();
        let weights = load(folder("square").join("model.safetensors")).unwrap();
        let (height, width) = weights.input_size.unwrap();
        let labels: Vec<u32> = tensor(&given, "labels").iter().map(|&label| label as u32).collect();
        let pixels = tensor(&given, "images").iter().map(|&pixel| pixel as u8).collect();
        let images = ImageSet::new(pixels, labels.clone(), (height, width, 3), 10).unwrap();
        let graph =
            weights.architecture.graph(weights.normalisation.as_ref().unwrap(), height, width).unwrap();
        let options = EngineOptions {
            batch: images.len(),
            gradients: true,
            external_inputs: true,
            feature_maps: true,
            ..EngineOptions::default()
        };
        let device = CpuDevice::new(Some(1)).unwrap();
        let mut engine = Engine::open(&device, &graph, &weights.values, &options).unwrap();
        engine.attach(&images).unwrap();
        let bytes = std::fs::read(folder("defenses").join("expected.safetensors")).unwrap();
        Self { images, labels, weights, engine, teacher: None, bytes }
    }

    fn expected(&self, name: &str) -> Vec<f64> {
        tensor(&self.bytes, name)
    }

    fn given(&self, name: &str) -> Vec<f32> {
        self.expected(name).into_iter().map(|value| value as f32).collect()
    }

    /// Takes steps of `optimizer` on all images as they are.
    fn steps(&mut self, optimizer: &mut dyn Optimizer, count: usize, params: &StepParams) -> Vec<f32> {
        let indices: Vec<u32> = (0..self.images.len() as u32).collect();
        let batch =
            Batch { source: Source::Augmented, indices: &indices, labels: &self.labels, teacher: None };
        (0..count)
            .map(|_| optimizer.step(&mut self.engine, self.teacher.as_mut(), &batch, params).unwrap())
            .collect()
    }

    /// Every tensor of the model is near the expected one of this prefix: what it moved, to the tolerance.
    fn near(&self, prefix: &str) {
        let now = self.engine.weights().unwrap();
        for slot in self.weights.layout().slots() {
            let truth = self.expected(&format!("{prefix}.{}", slot.tensor.name));
            let before = &self.weights.values[slot.range.clone()];
            let moved: Vec<f64> =
                truth.iter().zip(before).map(|(now, &then)| now - f64::from(then)).collect();
            let actual: Vec<f32> =
                now[slot.range.clone()].iter().zip(before).map(|(now, then)| now - then).collect();
            close(&slot.tensor.name, &actual, &moved);
        }
    }
}

/// Within the tolerance of the truth, relative to its norm.
#[track_caller]
fn close(what: &str, actual: &[f32], truth: &[f64]) {
    assert_eq!(actual.len(), truth.len(), "{what}");
    let norm = truth.iter().map(|t| t * t).sum::<f64>().sqrt();
    let error = actual.iter().zip(truth).map(|(&a, t)| (f64::from(a) - t).powi(2)).sum::<f64>().sqrt();
    // Differences of float32 weights have an error of their own.
    let rounding = 1e-6 * (truth.len() as f64).sqrt();
    assert!(
        error <= TOLERANCE * norm + rounding,
        "{what}: error {error:.3e} of {norm:.3e}: {:?} {:?}",
        &actual[..actual.len().min(5)],
        &truth[..truth.len().min(5)]
    );
}

fn params(learning_rate: f32, weight_decay: f32) -> StepParams {
    StepParams { learning_rate, momentum: 0.9, weight_decay, nesterov: false, ..StepParams::default() }
}

#[test]
fn ft_sam_perturbs_and_steps_as_pytorch() {
    let mut golden = Golden::open();
    let mut sam = Sam { rho: 2.0, smoothing: 0.1 };
    let loss = golden.steps(&mut sam, 1, &params(0.01, 5e-4));
    golden.near("ft_sam.after");
    // The loss has label smoothing up to a constant: (1 − s)(log C) · s / (1 − s), the uniform distribution's entropy.
    let constant = 0.1 * f64::from(10f32.ln());
    assert!((f64::from(loss[0]) + constant - golden.expected("ft_sam.loss")[0]).abs() < 1e-4, "{loss:?}");

    let mut golden = Golden::open();
    let indices: Vec<u32> = (0..golden.images.len() as u32).collect();
    let batch = Batch { source: Source::Augmented, indices: &indices, labels: &golden.labels, teacher: None };
    sam.perturb(&mut golden.engine, &batch, &params(0.01, 5e-4)).unwrap();
    golden.near("ft_sam.perturbed");
}

#[test]
fn fst_pushes_and_rescales_the_head_as_pytorch() {
    let mut golden = Golden::open();
    let (weight, bias) = golden.engine.graph().head().unwrap();
    let original = golden.engine.parameters(&weight).unwrap();
    golden.engine.set_parameters(weight.start, &golden.given("fst.head.weight")).unwrap();
    golden.engine.set_parameters(bias.start, &golden.given("fst.head.bias")).unwrap();
    let mut push = Push { alpha: 0.1, weight, original };
    let losses = golden.steps(&mut push, 3, &params(0.01, 0.0));
    close("losses", &losses, &golden.expected("fst.losses"));
    golden.near("fst.after");
}

#[test]
fn ban_steps_as_pytorch() {
    let mut golden = Golden::open();
    let drawn = Noise { gamma: golden.given("ban.delta"), beta: golden.given("ban.xi") };
    let mut noisy = Noisy { epsilon: 0.3, weight: 0.5, draw: Box::new(move |_| drawn.clone()), done: 0 };
    let loss = golden.steps(&mut noisy, 1, &params(0.005, 5e-4));
    close("loss", &loss, &golden.expected("ban.loss"));
    golden.near("ban.after");
}

#[test]
fn anp_has_pytorchs_masks_after_ten_iterations() {
    let mut golden = Golden::open();
    let anp = Anp::defaults(&Facts::new(true)).unwrap();
    let neurons = Neurons::of(&golden.engine, "anp").unwrap();
    let (deltas, xis) = (golden.given("anp.delta"), golden.given("anp.xi"));
    let indices: Vec<u32> = (0..golden.images.len() as u32).collect();
    let batch = anp::MaskBatch { indices: &indices, labels: &golden.labels, params: StepParams::default() };
    let (mut mask, mut momentum) = (vec![1.0; neurons.len()], vec![0.0; neurons.len()]);
    for (delta, xi) in deltas.chunks(neurons.len()).zip(xis.chunks(neurons.len())) {
        let noise = Noise { gamma: delta.to_vec(), beta: xi.to_vec() };
        anp.iterate(&mut golden.engine, &neurons, &batch, noise, (&mut mask, &mut momentum)).unwrap();
    }
    let truth = golden.expected("anp.mask");
    assert!(truth.iter().any(|&mask| mask < 0.9) && truth.contains(&1.0));
    close("mask", &mask, &truth);
    assert_eq!(golden.engine.weights().unwrap(), golden.weights.values, "the model is left as it was");
}

#[test]
fn neural_cleanse_has_pytorchs_trigger_after_ten_steps() {
    let mut golden = Golden::open();
    let nc = NeuralCleanse::defaults(&Facts::new(true)).unwrap();
    let mut search = Search::new(&nc, &golden.images, 3, 0);
    search.adam = Adam::new([golden.given("nc.a"), golden.given("nc.b")].concat());
    search.cost.value = 1e-3;
    let others = search.others.clone();
    let step = |_| search.step(&mut golden.engine, &others).unwrap().0;
    let losses: Vec<f32> = (0..10).map(step).collect();
    close("losses", &losses, &golden.expected("nc.losses"));
    let trigger = search.trigger();
    close("mask", &trigger.mask, &golden.expected("nc.mask"));
    close("pattern", &trigger.pattern, &golden.expected("nc.pattern"));
}

#[test]
fn nad_has_pytorchs_attention_loss_gradient_and_step() {
    let (mut golden, mut other) = (Golden::open(), Golden::open());
    let mut louder = other.weights.values.clone();
    let layout = other.weights.layout();
    let first = layout.slots().iter().find(|slot| slot.tensor.name == "conv1.weight").unwrap();
    louder[first.range.clone()].iter_mut().for_each(|weight| *weight *= 1.5);
    other.engine.set_weights(&louder).unwrap();

    let (betas, indices) = ([500.0, 1000.0, 1000.0], (0..golden.images.len() as u32).collect::<Vec<_>>());
    let own = golden.engine.feature_maps(true, &indices, &StepParams::default()).unwrap();
    let their = other.engine.feature_maps(false, &indices, &StepParams::default()).unwrap();
    let mut distance = 0.0;
    for (stage, (mut own, their)) in own.into_iter().zip(&their).enumerate() {
        let shape = MapShape { images: indices.len(), channels: 8 << stage, rectified: false };
        distance += attention_loss(&mut own, their, &shape, betas[stage]);
        close("gradient", &own, &golden.expected(&format!("nad.gradient.{stage}")));
    }
    close("distance", &[distance], &golden.expected("nad.distance"));
    assert_eq!(golden.engine.weights().unwrap(), golden.weights.values, "the statistics stay");

    golden.teacher = Some(other.engine);
    let params = StepParams { nesterov: true, ..params(0.01, 1e-4) };
    let loss = golden.steps(&mut AttentionDistillation { betas: &betas }, 1, &params);
    close("loss", &loss, &golden.expected("nad.loss"));
    golden.near("nad.after");
}

/// The loss's slope along its gradient, with a ReLU in between too, is the gradient's squared length.
#[test]
fn the_attention_losss_gradient_is_its_slope() {
    for rectified in [false, true] {
        let shape = MapShape { images: 2, channels: 3, rectified };
        let value = |at: usize, by: f32| ((at * 7 % 11) as f32 - 4.5) * by;
        let own: Vec<f32> = (0..2 * 4 * 3).map(|at| value(at, 0.3)).collect();
        let their: Vec<f32> = (0..2 * 4 * 3).map(|at| value(at + 5, 0.2)).collect();
        let mut gradient = own.clone();
        attention_loss(&mut gradient, &their, &shape, 10.0);
        let squared: f32 = gradient.iter().map(|g| g * g).sum();
        let along = |step: f32| {
            let mut moved: Vec<f32> = own.iter().zip(&gradient).map(|(x, g)| x + step * g).collect();
            attention_loss(&mut moved, &their, &shape, 10.0)
        };
        let slope = (along(1e-2) - along(-1e-2)) / 2e-2;
        assert!(squared > 1e-4 && (slope / squared - 1.0).abs() < 0.01, "{slope} of {squared}");
        assert!(!rectified || own.iter().zip(&gradient).all(|(x, g)| *x > 0.0 || *g == 0.0));
    }
}
