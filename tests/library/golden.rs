//! The engine against PyTorch: `tests/golden/*` made by `scripts/make_golden.py`, whose plain names
//! are float64 truth. The tolerances are the project's promise: logits and features 1e-4 relative,
//! gradients and ten SGD losses 1e-3, PGD-7 examples equal in more than 99.9 % of pixels, cosine
//! scores 1e-5.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pbe::data::ImageSet;
use pbe::device::cpu::CpuDevice;
use pbe::device::reference::ReferenceDevice;
use pbe::device::{Device, Norm, StepParams};
use pbe::engine::{AttackBatch, Budget, Engine, EngineOptions, Source};
use pbe::model::{NetworkKind, Weights, load};
use safetensors::{Dtype, SafeTensors};

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    weights: Weights,
}

impl Case {
    fn all() -> Vec<Case> {
        ["square", "odd", "many-classes", "one-class", "resnet18", "resnet18-small-stem"]
            .map(Case::open)
            .into()
    }

    fn open(name: &'static str) -> Case {
        let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
        Case { name, bytes, weights: load(folder.join("model.safetensors")).unwrap() }
    }

    fn expected(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap_or_else(|_| panic!("{}: no {name}", self.name));
        let data = view.data();
        match view.dtype() {
            Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            Dtype::I32 => {
                data.chunks_exact(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            Dtype::U8 => data.iter().map(|&b| f64::from(b)).collect(),
            other => panic!("{name}: {other:?}"),
        }
    }

    fn images(&self) -> ImageSet {
        let (height, width) = self.weights.input_size.unwrap();
        let labels: Vec<u32> = self.expected("labels").iter().map(|&label| label as u32).collect();
        ImageSet {
            pixels: Arc::new(self.expected("images").iter().map(|&p| p as u8).collect()),
            names: Arc::new(labels.iter().map(|label| label.to_string()).collect()),
            labels: Arc::new(labels),
            classes: Arc::new((0..self.weights.architecture.classes).map(|c| c.to_string()).collect()),
            height,
            width,
            channels: self.weights.architecture.channels,
        }
    }

    fn engine(&self, norm: Norm) -> Engine {
        let images = self.images();
        let normalisation = self.weights.normalisation.as_ref().unwrap();
        let graph = self.weights.architecture.graph(normalisation, images.height, images.width).unwrap();
        let options = EngineOptions { batch: images.len(), attack: true, norm, ..EngineOptions::default() };
        let device = CpuDevice::new(Some(2)).unwrap();
        let mut engine = Engine::open(&device, &graph, &self.weights.values, &options).unwrap();
        engine.attach(&images).unwrap();
        engine
    }

    fn indices(&self) -> Vec<u32> {
        (0..self.images().len() as u32).collect()
    }

    /// `actual` within `tolerance` of the truth, relative to its norm; zero truth asks for zero.
    fn close(&self, what: &str, actual: &[f32], tolerance: f64) {
        self.near(what, actual, &self.expected(what), tolerance);
    }

    fn near(&self, what: &str, actual: &[f32], truth: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), truth.len(), "{}: {what}", self.name);
        let norm = truth.iter().map(|t| t * t).sum::<f64>().sqrt();
        let error = actual.iter().zip(truth).map(|(&a, t)| (f64::from(a) - t).powi(2)).sum::<f64>().sqrt();
        assert!(error <= tolerance * norm + 1e-7, "{}: {what}: error {error:.3e} of {norm:.3e}", self.name);
    }
}

#[test]
fn logits_and_features() {
    for case in Case::all() {
        let mut engine = case.engine(Norm::Linf);
        let (classes, width) = (engine.graph().classes(), engine.graph().features());
        let indices = case.indices();
        let (mut logits, mut features) =
            (vec![0.0; indices.len() * classes], vec![0.0; indices.len() * width]);
        engine
            .infer(Source::Images, &indices, &StepParams::default(), |rows| {
                rows.logits(&mut logits[rows.first * classes..])?;
                rows.features(&mut features[rows.first * width..])
            })
            .unwrap();
        case.close("eval.logits", &logits, 1e-4);
        case.close("eval.features", &features, 1e-4);
    }
}

#[test]
fn every_gradient_of_a_training_step() {
    for case in Case::all() {
        let mut engine = case.engine(Norm::Linf);
        let images = case.images();
        let loss = engine
            .train_step(Source::Images, &case.indices(), &images.labels, None, &StepParams::default())
            .unwrap();
        case.near("train.loss", &[loss], &case.expected("train.loss"), 1e-4);
        let (gradients, after) = (engine.gradients().unwrap(), engine.weights().unwrap());
        for slot in case.weights.layout().slots() {
            let name = &slot.tensor.name;
            if slot.range.start < case.weights.trainable() {
                case.close(&format!("train.gradient.{name}"), &gradients[slot.range.clone()], 1e-3);
            } else {
                case.close(&format!("train.after.{name}"), &after[slot.range.clone()], 1e-4);
            }
        }
    }
}

#[test]
fn the_distillation_term() {
    for case in Case::all() {
        let mut engine = case.engine(Norm::Linf);
        let images = case.images();
        let teacher: Vec<f32> = case.expected("sgd.final_logits").iter().map(|&t| t as f32).collect();
        let params = StepParams { distill_weight: 1.0, temperature: 2.0, ..StepParams::default() };
        let loss = engine
            .train_step(Source::Images, &case.indices(), &images.labels, Some(&teacher), &params)
            .unwrap();
        case.near("distill.loss", &[loss], &case.expected("distill.loss"), 1e-4);
        if case.name == "square" {
            let gradients = engine.gradients().unwrap();
            for slot in case.weights.layout().slots() {
                if slot.range.start < case.weights.trainable() {
                    let name = format!("distill.gradient.{}", slot.tensor.name);
                    case.close(&name, &gradients[slot.range.clone()], 1e-3);
                }
            }
        }
    }
}

#[test]
fn ten_sgd_steps() {
    for case in Case::all() {
        let mut engine = case.engine(Norm::Linf);
        let images = case.images();
        let params = StepParams { learning_rate: 0.05, ..StepParams::default() };
        let mut losses = vec![];
        for _ in 0..10 {
            let step = engine.train_step(Source::Images, &case.indices(), &images.labels, None, &params);
            losses.push(step.unwrap());
        }
        case.close("sgd.losses", &losses, 1e-3);
        let weights = engine.weights().unwrap();
        for slot in case.weights.layout().slots() {
            case.close(&format!("sgd.final.{}", slot.tensor.name), &weights[slot.range.clone()], 1e-2);
        }
    }
}

#[test]
fn pgd_examples() {
    for case in Case::all() {
        for (name, norm) in [("pgd", Norm::Linf), ("pgd_each", Norm::Linf), ("pgd_l2", Norm::L2)] {
            let mut engine = case.engine(norm);
            let (indices, images) = (case.indices(), case.images());
            let epsilon = case.expected(&format!("{name}.epsilon"));
            let alpha = case.expected(&format!("{name}.alpha"));
            let budget = |(e, a): (&f64, &f64)| Budget { epsilon: *e as f32, alpha: *a as f32 };
            let budgets: Vec<Budget> = epsilon.iter().zip(&alpha).map(budget).collect();
            let target = AttackBatch {
                source: Source::Images,
                indices: &indices,
                labels: &images.labels,
                budgets: &budgets,
                predict: false,
            };
            let params = StepParams { repeats: 7, random_start: false, ..StepParams::default() };
            let mut examples = vec![0.0; indices.len() * images.image_len()];
            engine.attack(&target, &params, |rows| rows.adversarial(&mut examples)).unwrap();
            let truth = case.expected(&format!("{name}.adversarial"));
            let equal =
                examples.iter().zip(&truth).filter(|(a, t)| (f64::from(**a) - **t).abs() < 1e-4).count();
            let share = equal as f64 / truth.len() as f64;
            assert!(share > 0.999, "{}: {name}: {share:.5} of the pixels are equal", case.name);
        }
    }
}

#[test]
fn cosine_scores() {
    for case in Case::all() {
        let mut engine = case.engine(Norm::Linf);
        let reference: Vec<f32> = case.expected("sgd.final_logits").iter().map(|&t| t as f32).collect();
        let scores = engine.scores(&case.indices(), &reference).unwrap();
        for (score, truth) in scores.iter().zip(case.expected("cosine.score")) {
            assert!((f64::from(*score) - truth).abs() < 1e-5, "{}: {score} {truth}", case.name);
        }
    }
}

/// The images of `scripts/make_golden.py`'s networks: noise by a formula, labels counted up.
fn formula_images(count: usize, size: usize, classes: usize) -> ImageSet {
    let pixels = (0..(count * size * size * 3) as u64).map(|i| ((i * 2_654_435_761) as u32 >> 11) as u8);
    let labels: Vec<u32> = (0..count).map(|i| (i % classes) as u32).collect();
    ImageSet {
        pixels: Arc::new(pixels.collect()),
        names: Arc::new(labels.iter().map(u32::to_string).collect()),
        labels: Arc::new(labels),
        classes: Arc::new((0..classes).map(|class| class.to_string()).collect()),
        height: size,
        width: size,
        channels: 3,
    }
}

/// The elements that the golden files keep of a tensor.
fn sample(values: &[f32]) -> Vec<f32> {
    values.iter().copied().step_by(values.len().div_ceil(64)).collect()
}

/// The gradient of each image's loss to its pixels, over its length: what a step of L2 PGD adds.
fn input_direction(engine: &mut Engine, images: &ImageSet, indices: &[u32]) -> Vec<f32> {
    let far = 1e3;
    let target = AttackBatch {
        source: Source::Images,
        indices,
        labels: &images.labels,
        budgets: &vec![Budget { epsilon: far, alpha: far }; indices.len()],
        predict: false,
    };
    let params = StepParams { repeats: 1, random_start: false, clamp: false, ..StepParams::default() };
    let mut moved = vec![0.0; indices.len() * images.image_len()];
    engine
        .attack(&target, &params, |rows| rows.adversarial(&mut moved[rows.first * images.image_len()..]))
        .unwrap();
    moved
        .iter()
        .zip(images.pixels.iter())
        .map(|(moved, &pixel)| (moved - f32::from(pixel) / 255.0) / far)
        .collect()
}

/// A published network at several sizes: logits and features, the image's gradient, every parameter's.
///
/// At 224 pixels there are millions of ReLUs, some so near to zero that f32 takes the other side: PyTorch's own f32
/// gradients are up to 6e-3 from f64 there. ResNet-50's, of random weights, are up to 4e-1 in one tensor. A gradient that is zero but for rounding (of what a batch norm takes out
/// again) is held against the largest one.
fn network(name: &'static str, reference: bool) {
    let case = Case::open(name);
    let architecture = case.weights.architecture;
    assert_eq!(architecture.network.name(), name.trim_start_matches("networks/"));
    for size in if reference { &[32, 64][..] } else { &[32, 64, 224] } {
        let size = *size;
        let images = formula_images(8, size, architecture.classes);
        let graph = architecture.graph(case.weights.normalisation.as_ref().unwrap(), size, size).unwrap();
        let options = EngineOptions { batch: 8, attack: true, norm: Norm::L2, ..EngineOptions::default() };
        // The reference computes in f64: what differs there is no rounding.
        let device: Box<dyn Device> = if reference {
            Box::new(ReferenceDevice::default())
        } else {
            Box::new(CpuDevice::new(Some(2)).unwrap())
        };
        let mut engine = Engine::open(device.as_ref(), &graph, &case.weights.values, &options).unwrap();
        engine.attach(&images).unwrap();
        let (indices, (classes, width)) = ([0, 1, 2, 3, 4, 5, 6, 7], (graph.classes(), graph.features()));
        let (mut logits, mut features) = (vec![0.0; 8 * classes], vec![0.0; 8 * width]);
        engine
            .infer(Source::Images, &indices, &StepParams::default(), |rows| {
                rows.logits(&mut logits[rows.first * classes..])?;
                rows.features(&mut features[rows.first * width..])
            })
            .unwrap();
        case.close(&format!("{size}.logits"), &logits, 1e-4);
        case.close(&format!("{size}.features"), &features, 1e-4);
        let (tolerance, floor) = match architecture.network {
            _ if reference => (1e-3, 1e-5),
            NetworkKind::ResNet50 => (5e-2, 1e-3),
            _ if size == 224 => (1e-2, 1e-5),
            _ => (1e-3, 1e-5),
        };
        let direction = input_direction(&mut engine, &images, &indices);
        case.close(&format!("{size}.input_direction"), &sample(&direction), tolerance);
        let params = StepParams::default();
        let loss = engine.train_step(Source::Images, &indices, &images.labels, None, &params).unwrap();
        case.close(&format!("{size}.loss"), &[loss], 1e-4);
        let (gradients, after) = (engine.gradients().unwrap(), engine.weights().unwrap());
        let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let (parameters, statistics): (Vec<_>, Vec<_>) = (case.weights.layout().slots().iter())
            .partition(|slot| slot.range.start < case.weights.trainable());
        let truths: Vec<(String, Vec<f64>)> = (parameters.iter())
            .map(|slot| format!("{size}.gradient.{}", slot.tensor.name))
            .map(|name| (name.clone(), case.expected(&name)))
            .collect();
        let largest = truths.iter().map(|(_, truth)| norm(truth)).fold(0.0, f64::max);
        for (slot, (name, truth)) in parameters.iter().zip(&truths) {
            let found = sample(&gradients[slot.range.clone()]);
            assert_eq!(found.len(), truth.len(), "{}: {name}", case.name);
            let difference: Vec<f64> = found.iter().zip(truth).map(|(&a, t)| f64::from(a) - t).collect();
            let (error, length) = (norm(&difference), norm(truth));
            let allowed = tolerance * length + floor * largest;
            assert!(error <= allowed, "{}: {name}: error {error:.3e} of {length:.3e}", case.name);
        }
        for slot in statistics {
            let name = format!("{size}.after.{}", slot.tensor.name);
            case.close(&name, &sample(&after[slot.range.clone()]), 1e-4);
        }
    }
}

#[test]
fn deeper_resnets() {
    ["networks/preact-resnet34", "networks/resnet34", "networks/resnet50"]
        .into_iter()
        .for_each(|name| [false, true].into_iter().for_each(|reference| network(name, reference)));
}

#[test]
fn vggs_with_three_linear_layers() {
    ["networks/vgg11-bn", "networks/vgg13-bn", "networks/vgg16-bn", "networks/vgg19-bn"]
        .into_iter()
        .for_each(|name| [false, true].into_iter().for_each(|reference| network(name, reference)));
}

#[test]
fn vggs_with_one_linear_layer() {
    [
        "networks/vgg11-bn-small-head",
        "networks/vgg13-bn-small-head",
        "networks/vgg16-bn-small-head",
        "networks/vgg19-bn-small-head",
    ]
    .into_iter()
    .for_each(|name| [false, true].into_iter().for_each(|reference| network(name, reference)));
}
