//! Layers in small networks of no published architecture: their gradients by finite differences, the CPU
//! beside the reference, and an attack that raises the loss.

use std::sync::Arc;

use pbe::data::{ImageSet, Normalisation};
use pbe::device::cpu::CpuDevice;
use pbe::device::reference::ReferenceDevice;
use pbe::device::{Device, Norm, StepParams};
use pbe::engine::graph::{Graph, Layer, NodeId};
use pbe::engine::{AttackBatch, Budget, Engine, EngineOptions, Source};
use pbe::model::{Architecture, NetworkKind};
use pbe::rng::{Purpose, Stream};

const IMAGES: usize = 4;
const CLASSES: usize = 3;

/// A graph being made, its weights in the order of its layers: parameters first, as SGD wants them.
struct Net {
    graph: Graph,
    parameters: usize,
    norms: usize,
}

impl Net {
    /// `norms` channels of all batch norms together, `parameters` trained numbers.
    fn new(height: usize, width: usize, parameters: usize, norms: usize) -> (Self, NodeId) {
        let mut graph = Graph::new(height, width, 2, parameters, parameters + 2 * norms);
        let normalise = Layer::Normalise { mean: vec![0.4, 0.5], std: vec![0.3, 0.2] };
        let input = graph.push(normalise, &[0]);
        (Self { graph, parameters: 0, norms: parameters }, input)
    }

    fn take(&mut self, len: usize) -> std::ops::Range<usize> {
        self.parameters += len;
        self.parameters - len..self.parameters
    }

    fn conv(&mut self, from: NodeId, channels: usize, kernel: usize) -> NodeId {
        let weight = self.take(kernel * kernel * channels * self.graph.nodes[from].channels);
        self.graph.conv(from, channels, kernel, 1, weight, None)
    }

    fn norm(&mut self, from: NodeId) -> NodeId {
        let channels = self.graph.nodes[from].channels;
        let (gamma, beta) = (self.take(channels), self.take(channels));
        let mean = self.norms..self.norms + channels;
        let variance = mean.end..mean.end + channels;
        self.norms = variance.end;
        self.graph.push(Layer::Norm { gamma, beta, mean, variance }, &[from])
    }

    fn relu(&mut self, from: NodeId) -> NodeId {
        self.graph.push(Layer::Relu, &[from])
    }

    fn finish(mut self, from: NodeId) -> Graph {
        let features = self.graph.push(Layer::Pool, &[from]);
        let channels = self.graph.nodes[features].channels;
        let (weight, bias) = (self.take(channels * CLASSES), self.take(CLASSES));
        self.graph.push(Layer::Linear { weight, bias }, &[features]);
        assert_eq!((self.parameters, self.norms), (self.graph.trainable, self.graph.weights));
        self.graph
    }
}

/// conv, norm, ReLU, pool 3x3, conv, pool 2x2 of what no ReLU has touched, conv.
fn pooled() -> Graph {
    let (mut net, input) = Net::new(9, 8, 5 * 18 + 10 + 6 * 5 + 4 * 54 + 5 * CLASSES, 5);
    let conv = net.conv(input, 5, 3);
    let norm = net.norm(conv);
    let relu = net.relu(norm);
    let pool = net.graph.max_pool(relu, 3, 2, 1);
    let conv = net.conv(pool, 6, 1);
    let pool = net.graph.max_pool(conv, 2, 2, 0);
    let conv = net.conv(pool, 4, 3);
    net.finish(conv)
}

/// Two residual blocks behind a stem: the first adds what its norm and ReLU have not been applied to yet, the
/// second the outputs of two norms; the last ReLU is read by the mean over the pixels.
fn residual() -> Graph {
    let (mut net, input) =
        Net::new(6, 7, 90 + 10 + 225 + 10 + 30 + 12 + 270 + 12 + 6 * CLASSES + CLASSES, 22);
    let stem = net.conv(input, 5, 3);
    let stem = net.norm(stem);
    let stem = net.relu(stem);
    let branch = net.conv(stem, 5, 3);
    let branch = net.norm(branch);
    let sum = net.graph.push(Layer::Add, &[branch, stem]);
    let sum = net.relu(sum);
    let side = net.conv(sum, 6, 1);
    let side = net.norm(side);
    let branch = net.conv(sum, 6, 3);
    let branch = net.norm(branch);
    let sum = net.graph.push(Layer::Add, &[branch, side]);
    let sum = net.relu(sum);
    net.finish(sum)
}

fn images(graph: &Graph) -> ImageSet {
    let stream = Stream::new(5, Purpose::Synthetic, 0);
    let node = &graph.nodes[0];
    let pixels = (0..IMAGES * node.len()).map(|i| (256.0 * stream.uniform(i as u64, 0)) as u8);
    let labels: Vec<u32> = (0..IMAGES as u32).map(|i| i % CLASSES as u32).collect();
    ImageSet {
        pixels: Arc::new(pixels.collect()),
        names: Arc::new(labels.iter().map(u32::to_string).collect()),
        labels: Arc::new(labels),
        classes: Arc::new((0..CLASSES).map(|class| class.to_string()).collect()),
        height: node.height,
        width: node.width,
        channels: node.channels,
    }
}

fn weights(graph: &Graph) -> Vec<f32> {
    let stream = Stream::new(6, Purpose::Synthetic, 0);
    let draw = |i: usize| stream.uniform(i as u64, 0) - 0.5;
    // Variances, among the statistics behind the parameters, have to be positive.
    (0..graph.weights).map(|i| if i < graph.trainable { draw(i) } else { 0.6 + draw(i) }).collect()
}

fn engine(graph: &Graph, device: &dyn Device) -> Engine {
    let options = EngineOptions { batch: IMAGES, attack: true, norm: Norm::L2, ..EngineOptions::default() };
    let mut engine = Engine::open(device, graph, &weights(graph), &options).unwrap();
    engine.attach(&images(graph)).unwrap();
    engine
}

const ALL: [u32; IMAGES] = [0, 1, 2, 3];

fn train_step(engine: &mut Engine, graph: &Graph, rate: f32) -> f32 {
    let labels = images(graph).labels;
    let params =
        StepParams { learning_rate: rate, weight_decay: 0.0, momentum: 0.0, ..StepParams::default() };
    engine.train_step(Source::Images, &ALL, &labels, None, &params).unwrap()
}

/// The loss that a step with no rate tells, at other weights.
fn loss_at(engine: &mut Engine, graph: &Graph, weights: &[f32]) -> f64 {
    engine.set_weights(weights).unwrap();
    f64::from(train_step(engine, graph, 0.0))
}

/// The slope of the loss along a step of the parameters is what the gradient says, for each layer's alone:
/// central differences in f64, of losses that come out as f32, a few ReLUs turned by the step: both are
/// what the tolerance is for. `golden.rs` is exact.
fn gradients_are_slopes(graph: &Graph) {
    let mut reference = engine(graph, &ReferenceDevice::default());
    let start = weights(graph);
    loss_at(&mut reference, graph, &start);
    let gradient = reference.gradients().unwrap();
    let stream = Stream::new(8, Purpose::Synthetic, 0);
    for (number, node) in graph.nodes.iter().enumerate() {
        let range = match &node.layer {
            Layer::Conv { weight, .. } => weight.clone(),
            Layer::Norm { gamma, beta, .. } => gamma.start..beta.end,
            _ => continue,
        };
        let direction = |i: usize| 2.0 * stream.uniform(i as u64, 0) - 1.0;
        let step = 2.5e-4;
        let mut moved = |by: f32| {
            let mut moved = start.clone();
            range.clone().for_each(|i| moved[i] += by * direction(i));
            loss_at(&mut reference, graph, &moved)
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        let told: f64 = range.map(|i| f64::from(gradient[i] * direction(i))).sum();
        assert!((slope - told).abs() < 3e-3 * (0.1 + slope.abs()), "node {number}: {told} is not {slope}");
    }
}

fn close(what: &str, one: &[f32], other: &[f32]) {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v * v)).sum::<f64>().sqrt();
    let error = norm(&mut one.iter().zip(other).map(|(a, b)| a - b));
    assert!(error <= 1e-4 * norm(&mut other.iter().copied()), "{what}: {error}");
}

/// Examples of one step, and the losses that tell how the step was.
fn attack(engine: &mut Engine, graph: &Graph, repeats: usize) -> Vec<f32> {
    let labels = images(graph).labels;
    let budgets = [Budget { epsilon: 0.5, alpha: 0.01 }; IMAGES];
    let target = AttackBatch {
        source: Source::Images,
        indices: &ALL,
        labels: &labels,
        budgets: &budgets,
        predict: true,
    };
    let params = StepParams { random_start: false, clamp: false, repeats, ..StepParams::default() };
    let mut examples = vec![0.0; IMAGES * graph.image_len()];
    let mut logits = vec![0.0; IMAGES * CLASSES];
    engine
        .attack(&target, &params, |rows| {
            rows.adversarial(&mut examples[rows.first * graph.image_len()..])?;
            rows.logits(&mut logits[rows.first * CLASSES..])
        })
        .unwrap();
    examples.extend(logits);
    examples
}

/// The CPU gives what the reference gives, on one thread and on two to the bit.
fn cpu_agrees(graph: &Graph) {
    let outcome = |device: &dyn Device| {
        let mut engine = engine(graph, device);
        let attacked = attack(&mut engine, graph, 5);
        let logits = engine.logits(&ALL).unwrap();
        let losses: Vec<f32> = (0..3).map(|_| train_step(&mut engine, graph, 0.05)).collect();
        (attacked, logits, losses, engine.weights().unwrap())
    };
    let truth = outcome(&ReferenceDevice::default());
    let one = outcome(&CpuDevice::new(Some(1)).unwrap());
    let two = outcome(&CpuDevice::new(Some(2)).unwrap());
    assert!(one == two, "threads change the bits");
    close("examples", &one.0, &truth.0);
    close("logits", &one.1, &truth.1);
    close("losses", &one.2, &truth.2);
    close("weights", &one.3, &truth.3);
}

/// A short step along the gradient raises the loss by its length times the gradient's: the gradient of
/// the image is right in length (the step is L2) and direction.
fn attack_climbs(graph: &Graph) {
    let mut engine = engine(graph, &ReferenceDevice::default());
    let (classes, labels) = (IMAGES * CLASSES, images(graph).labels);
    let mut loss = |repeats: usize| {
        let outcome = attack(&mut engine, graph, repeats);
        let logits = &outcome[outcome.len() - classes..];
        let losses = logits.chunks_exact(CLASSES).zip(labels.iter()).map(|(row, &label)| {
            let sum: f32 = row.iter().map(|logit| logit.exp()).sum();
            sum.ln() - row[label as usize]
        });
        losses.collect::<Vec<f32>>()
    };
    let (before, after) = (loss(0), loss(10));
    for (before, after) in before.iter().zip(&after) {
        assert!(after > before, "{before} became {after}");
    }
}

/// The mean over pixels of the gradient at a folded norm's output is the slope of the logit along the norm's shift, over
/// the pixels. A few ReLUs are turned by the step: that is what the tolerance is for.
fn activation_gradients_are_slopes(graph: &Graph) {
    let options = EngineOptions { activation_gradients: true, ..EngineOptions::default() };
    let mut engine = Engine::open(&ReferenceDevice::default(), graph, &weights(graph), &options).unwrap();
    engine.attach(&images(graph)).unwrap();
    let labels = images(graph).labels;
    let mut seen = 0;
    for (number, &layer) in graph.activation_layers().iter().enumerate() {
        let node = &graph.nodes[layer];
        let [reader] = graph.consumers(layer)[..] else { continue };
        let Layer::Norm { beta, .. } = &graph.nodes[reader].layer else { continue };
        let mut gradients = vec![0.0; IMAGES * node.channels];
        engine.set_weights(&weights(graph)).unwrap();
        engine
            .activation_gradients(&ALL, &labels, |rows| rows.activation_gradients(number, &mut gradients))
            .unwrap();
        let mut slopes = vec![0.0; gradients.len()];
        for channel in 0..node.channels {
            let mut logits = |by: f32| {
                let mut moved = weights(graph);
                moved[beta.start + channel] += by;
                engine.set_weights(&moved).unwrap();
                engine.logits(&ALL).unwrap()
            };
            let step = 5e-4;
            let (more, less) = (logits(step), logits(-step));
            for (image, &label) in labels.iter().enumerate() {
                let at = image * CLASSES + label as usize;
                slopes[image * node.channels + channel] =
                    (more[at] - less[at]) / (2.0 * step) / node.pixels() as f32;
            }
        }
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v * v)).sum::<f64>();
        let error = square(&mut gradients.iter().zip(&slopes).map(|(told, slope)| told - slope));
        let of = square(&mut slopes.iter().copied());
        assert!(of > 0.0 && error.sqrt() < 0.05 * of.sqrt(), "layer {layer}: {error} of {of}");
        seen += 1;
    }
    assert!(seen > 0, "no layer was looked at");
}

#[test]
fn activation_gradients() {
    activation_gradients_are_slopes(&residual());
    for network in [NetworkKind::PreActResNet18, NetworkKind::ResNet18SmallStem, NetworkKind::ResNet50] {
        let architecture = Architecture { network, width: 2, classes: CLASSES, channels: 3 };
        let graph = architecture.graph(&Normalisation::identity(3), 16, 16).unwrap();
        assert!((5..=8).contains(&graph.activation_layers().len()));
        if network != NetworkKind::ResNet50 {
            activation_gradients_are_slopes(&graph);
        }
    }
}

fn check(graph: &Graph) {
    gradients_are_slopes(graph);
    attack_climbs(graph);
    cpu_agrees(graph);
}

#[test]
fn max_pooling() {
    check(&pooled());
}

#[test]
fn residual_blocks() {
    check(&residual());
}
