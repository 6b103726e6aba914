//! The image networks of the dynamic attack: a joint training step against PyTorch
//! (`scripts/make_golden_dynamic.py`), gradients by finite differences, the CPU beside the reference.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pbe::backdoor::dynamic::{
    Drawn, Dynamic, DynamicCursor, DynamicJob, GeneratorConfig, Networks, train_dynamic,
};
use pbe::backdoor::{InfectConfig, LabelMode};
use pbe::data::{ImageSet, Normalisation};
use pbe::device::cpu::CpuDevice;
use pbe::device::reference::ReferenceDevice;
use pbe::device::{Augment, Device, StepParams};
use pbe::engine::{Engine, EngineOptions, ImageEngine, ImageOptions, Source};
use pbe::error::Error;
use pbe::model::{Architecture, GeneratorRole, NetworkKind, Weights, load};
use pbe::rng::{Purpose, Stream};
use pbe::train::{Schedule, TrainerConfig};
use safetensors::{Dtype, SafeTensors};

const SEED: u64 = 3;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dynamic").join(format!("{name}.safetensors"))
}

/// Numbers of a tensor of the expected values.
fn expected(bytes: &[u8], name: &str) -> Vec<f64> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let view = file.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
    let data = view.data();
    match view.dtype() {
        Dtype::F64 => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::I32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
        _ => data.iter().map(|&b| f64::from(b)).collect(),
    }
}

#[track_caller]
fn close(what: &str, found: &[f32], truth: &[f64], tolerance: f64) {
    assert_eq!(found.len(), truth.len(), "{what}");
    let norm = truth.iter().map(|t| t * t).sum::<f64>().sqrt();
    let error = found.iter().zip(truth).map(|(&a, t)| (f64::from(a) - t).powi(2)).sum::<f64>().sqrt();
    assert!(error <= tolerance * norm + 2e-6, "{what}: error {error:.3e} of {norm:.3e}");
}

fn set(pixels: Vec<u8>, labels: Vec<u32>, classes: usize, size: (usize, usize, usize)) -> ImageSet {
    ImageSet {
        pixels: Arc::new(pixels),
        names: Arc::new(labels.iter().map(u32::to_string).collect()),
        labels: Arc::new(labels),
        classes: Arc::new((0..classes).map(|class| class.to_string()).collect()),
        height: size.0,
        width: size.1,
        channels: size.2,
    }
}

/// The three networks of the golden case.
fn networks(device: &dyn Device, dynamic: &Dynamic, weights: &Weights, batch: usize) -> Networks {
    let graph = weights.architecture.graph(&dynamic.normalisation, dynamic.height, dynamic.width).unwrap();
    let classifier = EngineOptions { batch, external_inputs: true, ..EngineOptions::default() };
    let generator = ImageOptions { batch, augment: Augment::default() };
    let open = |role, weights: &[f32]| {
        ImageEngine::open(device, &dynamic.graph(role).unwrap(), weights, &generator).unwrap()
    };
    Networks {
        classifier: Engine::open(device, &graph, &weights.values, &classifier).unwrap(),
        pattern: open(GeneratorRole::Pattern, &dynamic.pattern),
        mask: open(GeneratorRole::Mask, &dynamic.mask),
    }
}

/// How the classifier is trained in the golden case.
fn plant(batch: usize) -> InfectConfig {
    let trainer =
        TrainerConfig { batch, weight_decay: 0.0, crop: 0, flip: false, ..TrainerConfig::default() };
    InfectConfig { epochs: 1, learning_rate: 0.1, schedule: Schedule::Constant, trainer }
}

/// One joint step through the training itself: loss, gradients and weights of the pattern network.
#[test]
fn a_joint_step_is_pytorchs() {
    let bytes = std::fs::read(golden("expected")).unwrap();
    let truth = |name: &str| expected(&bytes, name);
    let (dynamic, weights) = (Dynamic::load(&golden("dynamic")).unwrap(), load(golden("model")).unwrap());
    let labels: Vec<u32> = truth("labels").iter().map(|&label| label as u32).collect();
    let pixels = truth("images").iter().map(|&pixel| pixel as u8).collect();
    let images = set(pixels, labels, weights.architecture.classes, (8, 8, 3));
    let plant = plant(images.len());
    let generators = GeneratorConfig { mask_steps: 1, pattern_lr: 0.01, ..GeneratorConfig::default() };
    let draw = |_| Ok(Drawn { poisoned: vec![0, 3, 6], cross: vec![1, 2, 5] });
    let job = DynamicJob {
        images: &images,
        label: LabelMode::AllToOne { target: 1 },
        draw: &draw,
        classifier: &plant,
        generators: &generators,
        seed: SEED,
    };
    let device = CpuDevice::new(Some(2)).unwrap();
    let mut networks = networks(&device, &dynamic, &weights, images.len());
    networks.attach(&images).unwrap();
    // After the mask phase.
    let mut cursor = DynamicCursor { mask_step: 1, ..DynamicCursor::default() };
    let mut losses = vec![];
    train_dynamic(&mut networks, &job, &mut cursor, &mut |_, event| {
        losses.push(event.loss as f32);
        Ok(())
    })
    .unwrap();
    close("loss", &losses, &truth("loss"), 1e-5);
    let layout = dynamic.network(GeneratorRole::Pattern).unwrap().layout();
    let (gradients, after) = (networks.pattern.gradients().unwrap(), networks.pattern.weights().unwrap());
    let mut compared = 0;
    for slot in layout.slots() {
        let name = &slot.tensor.name;
        let (mut after, mut wanted) = (after[slot.range.clone()].to_vec(), truth(&format!("after.{name}")));
        if slot.range.end <= layout.trainable() {
            let gradient = truth(&format!("gradient.{name}"));
            close(name, &gradients[slot.range.clone()], &gradient, 1e-3);
            // Adam's first step is the gradient's sign: that of rounding where the truth is zero.
            let told = |i: &usize| gradient[*i].abs() > 1e-4;
            after = (0..gradient.len()).filter(told).map(|i| after[i]).collect();
            wanted = (0..gradient.len()).filter(told).map(|i| wanted[i]).collect();
            compared += after.len();
        }
        close(name, &after, &wanted, 1e-4);
    }
    assert!(2 * compared > layout.trainable(), "only {compared} weights have a gradient");
    // A second look at what the step began with.
    networks.pattern.set_weights(&dynamic.pattern).unwrap();
    let (order, partners) = (permutation(Purpose::Shuffle), permutation(Purpose::PoisonNoise));
    let rows = |list: [u32; 3]| (0..8).filter(|&row| list.contains(&order[row])).collect::<Vec<usize>>();
    let own = rows([0, 3, 6]).into_iter().map(|row| order[row]);
    let sources: Vec<u32> = own.chain(rows([1, 2, 5]).into_iter().map(|row| partners[row])).collect();
    let (mut inputs, mut patterns, mut masks) = (vec![0.0; 6 * 192], vec![0.0; 6 * 192], vec![0.0; 6 * 64]);
    let params = StepParams::default();
    networks.pattern.forward(&sources, &params, &mut inputs, &mut patterns).unwrap();
    networks.mask.generate(Source::Augmented, &sources, &params, &mut masks).unwrap();
    close("patterns", &patterns, &truth("patterns"), 1e-5);
    close("masks", &masks, &truth("masks"), 1e-4);
}

fn permutation(purpose: Purpose) -> Vec<u32> {
    Stream::new(SEED, purpose, 0).permutation(8)
}

/// The mask network alone: masks that cover half an image before become small, and differ between images.
#[test]
fn the_mask_phase_makes_small_masks_that_differ() {
    let images = noise((8, 8, 3));
    let dynamic = Dynamic::initialise((8, 8), Normalisation::for_cifar10(), 4, 1).unwrap();
    let weights = Weights::initialise(
        Architecture { network: NetworkKind::PreActResNet18, width: 2, classes: 3, channels: 3 },
        1,
    );
    let mut networks = networks(&CpuDevice::new(Some(1)).unwrap(), &dynamic, &weights, 8);
    networks.attach(&images).unwrap();
    let masks = |networks: &mut Networks| {
        let mut masks = vec![0.0; IMAGES * 64];
        networks.mask.generate(Source::Images, &ALL, &StepParams::default(), &mut masks).unwrap();
        let mean = masks.iter().sum::<f32>() / masks.len() as f32;
        let squares = masks.iter().zip(&masks[64..]).map(|(a, b)| (a - b).powi(2));
        (mean, squares.sum::<f32>() / (masks.len() - 64) as f32)
    };
    let generators = GeneratorConfig { mask_steps: 200, ..GeneratorConfig::default() };
    let job = DynamicJob {
        images: &images,
        label: LabelMode::AllToOne { target: 1 },
        draw: &|_| Ok(Drawn::default()),
        classifier: &plant(8),
        generators: &generators,
        seed: SEED,
    };
    let mut cursor = DynamicCursor::default();
    let stopped = train_dynamic(&mut networks, &job, &mut cursor, &mut |_, event| {
        if event.cursor.mask_step == 200 { Err(Error::Interrupted("after the masks".into())) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(Error::Interrupted(_))));
    let (mean, apart) = masks(&mut networks);
    assert!(mean < 0.25 && apart > 0.05, "mean {mean}, mean squared difference {apart}");
}

const IMAGES: usize = 5;
const ALL: [u32; IMAGES] = [4, 0, 3, 1, 2];

fn noise(size: (usize, usize, usize)) -> ImageSet {
    let stream = Stream::new(5, Purpose::Synthetic, 0);
    let len = IMAGES * size.0 * size.1 * size.2;
    let pixels = (0..len).map(|i| (256.0 * stream.uniform(i as u64, 0)) as u8).collect();
    set(pixels, (0..IMAGES as u32).map(|i| i % 3).collect(), 3, size)
}

fn small(role: GeneratorRole) -> (pbe::engine::graph::Graph, Vec<f32>, ImageSet) {
    let dynamic = Dynamic::initialise((8, 12), Normalisation::for_cifar10(), 3, 1).unwrap();
    let mut weights = dynamic.network(role).unwrap().initialise(1);
    // Batch norm with scales and shifts of its own.
    let stream = Stream::new(9, Purpose::Synthetic, 0);
    weights.iter_mut().enumerate().for_each(|(i, w)| *w += 0.1 * stream.uniform(i as u64, 0));
    (dynamic.graph(role).unwrap(), weights, noise((8, 12, 3)))
}

fn seed(len: usize) -> Vec<f32> {
    let stream = Stream::new(8, Purpose::Synthetic, 0);
    (0..len).map(|i| 2.0 * stream.uniform(i as u64, 0) - 1.0).collect()
}

/// The slope of a sum of the outputs along a step of the parameters is what the gradient says.
#[test]
fn gradients_of_both_networks_are_slopes() {
    for role in [GeneratorRole::Pattern, GeneratorRole::Mask] {
        let (graph, start, images) = small(role);
        let options = ImageOptions { batch: IMAGES, augment: Augment::default() };
        let mut engine = ImageEngine::open(&ReferenceDevice::default(), &graph, &start, &options).unwrap();
        engine.attach(&images).unwrap();
        let outputs = IMAGES * graph.output_len();
        let (mut inputs, mut made) = (vec![0.0; IMAGES * graph.image_len()], vec![0.0; outputs]);
        let (still, weigh) = (StepParams::default(), seed(outputs));
        let mut value = |engine: &mut ImageEngine, weights: &[f32]| -> f64 {
            engine.set_weights(weights).unwrap();
            engine.forward(&ALL, &still, &mut inputs, &mut made).unwrap();
            made.iter().zip(&weigh).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        value(&mut engine, &start);
        engine.step(&weigh, &still).unwrap();
        let gradient = engine.gradients().unwrap();
        let length = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        for number in 0..6 {
            // Along the gradient, and along random directions among which it is spread.
            let stream = Stream::new(number, Purpose::Synthetic, 1);
            let direction: Vec<f64> = match number {
                0 => gradient.iter().map(|&g| f64::from(g) / length).collect(),
                _ => (0..gradient.len())
                    .map(|i| f64::from(gradient[i]) / length * 2.0 * f64::from(stream.uniform(i as u64, 0)))
                    .collect(),
            };
            let step = 3e-5;
            let moved = |by: f64| -> Vec<f32> {
                let trained = start.iter().zip(&direction).map(|(w, d)| w + (by * d) as f32);
                trained.chain(start[direction.len()..].iter().copied()).collect()
            };
            let (above, below) = (moved(step), moved(-step));
            let slope = value(&mut engine, &above) - value(&mut engine, &below);
            // Along the step as it was rounded.
            let steps = above.iter().zip(&below).map(|(a, b)| f64::from(a - b));
            let told: f64 = gradient.iter().zip(steps).map(|(&g, d)| f64::from(g) * d).sum();
            assert!((slope - told).abs() < 5e-3 * slope.abs(), "{role:?} {number}: {told} is not {slope}");
        }
    }
}

/// The CPU gives what the reference gives, on one thread and on two to the bit.
#[test]
fn the_cpu_agrees_with_the_reference() {
    for role in [GeneratorRole::Pattern, GeneratorRole::Mask] {
        let (graph, start, images) = small(role);
        let outcome = |device: &dyn Device| {
            let options = ImageOptions { batch: IMAGES, augment: Augment { pad: 2, flip: true } };
            let mut engine = ImageEngine::open(device, &graph, &start, &options).unwrap();
            engine.attach(&images).unwrap();
            let outputs = IMAGES * graph.output_len();
            let mut made = vec![0.0; outputs];
            let mut inputs = vec![0.0; IMAGES * graph.image_len()];
            let mut list = vec![];
            for step in 1..4 {
                let params = StepParams {
                    learning_rate: 0.01,
                    betas: (0.5, 0.9),
                    step,
                    seed: 2,
                    epoch: step,
                    ..StepParams::default()
                };
                engine.forward(&ALL, &params, &mut inputs, &mut made).unwrap();
                engine.step(&seed(outputs), &params).unwrap();
                list.extend([inputs.clone(), made.clone(), engine.gradients().unwrap()]);
                engine.generate(Source::Augmented, &ALL, &params, &mut made).unwrap();
                list.push(made.clone());
            }
            engine.generate(Source::Images, &ALL, &StepParams::default(), &mut made).unwrap();
            list.extend([made, engine.weights().unwrap(), engine.moments().unwrap()]);
            list
        };
        let truth = outcome(&ReferenceDevice::default());
        let one = outcome(&CpuDevice::new(Some(1)).unwrap());
        assert!(one == outcome(&CpuDevice::new(Some(2)).unwrap()), "threads change the bits");
        for (number, (found, truth)) in one.iter().zip(&truth).enumerate() {
            let truth: Vec<f64> = truth.iter().map(|&t| f64::from(t)).collect();
            close(&format!("{role:?} {number}"), found, &truth, 2e-3);
        }
    }
}

/// A classifier that is trained on given images tells the slope of its loss at them.
#[test]
fn the_gradient_at_given_images_is_a_slope() {
    let architecture =
        Architecture { network: NetworkKind::PreActResNet18, width: 3, classes: 3, channels: 3 };
    let images = noise((16, 20, 3));
    let normalisation = Normalisation { mean: vec![0.5; 3], std: vec![0.2, 0.25, 0.3] };
    let graph = architecture.graph(&normalisation, 16, 20).unwrap();
    let weights = Weights::initialise(architecture, 2).values;
    let options = EngineOptions { batch: IMAGES, external_inputs: true, ..EngineOptions::default() };
    let mut engine = Engine::open(&ReferenceDevice::default(), &graph, &weights, &options).unwrap();
    engine.attach(&images).unwrap();
    let (still, len) = (StepParams::default(), graph.image_len());
    engine.stage(&ALL, &still).unwrap();
    let mut first = vec![0.0; len];
    engine.staged(1, &mut first).unwrap();
    let bytes: Vec<f32> = images.image(ALL[1] as usize).iter().map(|&b| f32::from(b) / 255.0).collect();
    assert_eq!(first, bytes, "what is staged is the image");
    let loss = |engine: &mut Engine, image: &[f32]| -> f64 {
        engine.set_weights(&weights).unwrap();
        engine.set_staged(1, image).unwrap();
        let step = engine.train_step(Source::Adversarial, &ALL, &images.labels, None, &still);
        f64::from(step.unwrap())
    };
    loss(&mut engine, &first);
    let mut gradient = vec![0.0; len];
    engine.input_gradient(1, &mut gradient).unwrap();
    let length = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    assert!(length > 1e-4, "{length}");
    let mut moved = |by: f64| {
        let moved = first.iter().zip(&gradient).map(|(x, &g)| x + (by * f64::from(g) / length) as f32);
        loss(&mut engine, &moved.collect::<Vec<_>>())
    };
    let slope = (moved(2e-4) - moved(-2e-4)) / 4e-4;
    assert!((slope - length).abs() < 2e-2 * length, "{length} is not {slope}");
}

#[test]
fn a_step_needs_its_forward_pass() {
    let (graph, start, images) = small(GeneratorRole::Mask);
    let options = ImageOptions { batch: IMAGES, augment: Augment::default() };
    let mut engine = ImageEngine::open(&CpuDevice::new(Some(1)).unwrap(), &graph, &start, &options).unwrap();
    engine.attach(&images).unwrap();
    let outputs = IMAGES * graph.output_len();
    let gradient = vec![0.0; outputs];
    let message = engine.step(&gradient, &StepParams::default()).unwrap_err().to_string();
    assert!(message.contains("forward pass"), "{message}");
    let (mut inputs, mut made) = (vec![0.0; IMAGES * graph.image_len()], vec![0.0; outputs]);
    engine.forward(&ALL, &StepParams::default(), &mut inputs, &mut made).unwrap();
    engine.generate(Source::Images, &ALL, &StepParams::default(), &mut made).unwrap();
    assert!(engine.step(&gradient, &StepParams::default()).is_err(), "filters are the evaluation's now");
}
