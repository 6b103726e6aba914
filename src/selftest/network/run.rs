//! One network and its inputs, the same for every device, and the run over it.

use super::cases::NetworkCase;
use super::outputs::NetworkOutputs;
use crate::data::{ImageSet, Normalisation};
use crate::device::{Augment, Device, StepParams};
use crate::engine::graph::Graph;
use crate::engine::{AttackBatch, Budget, Engine, EngineOptions, Source};
use crate::error::Result;
use crate::selftest::case::Case;
use crate::selftest::cases::attack::noise;

/// SGD steps.
const STEPS: usize = 10;
/// Those of a second run on the same device: every program of a training step is among them.
const REPEATED: usize = 3;
/// Images in the set.
const IMAGES: usize = 40;
/// Those that are attacked and ranked, the first ones: on an emulated GPU an attack takes most of the time. With fewer
/// the three pixels of the widest network that are next to a kink are too large a share.
const ATTACKED: usize = 12;

/// A network and its inputs.
pub struct NetworkTest {
    case: NetworkCase,
    graph: Graph,
    /// What training begins with.
    pub weights: Vec<f32>,
    images: ImageSet,
    labels: Vec<u32>,
    reference: Vec<f32>,
    budgets: Vec<Budget>,
}

impl NetworkTest {
    pub fn new(case: &NetworkCase) -> Result<Self> {
        let &NetworkCase { classes, height, columns, channels, .. } = case;
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
            case: *case,
            graph: case.architecture().graph(&normalisation, height, columns)?,
            weights: case.initial(),
            images,
            labels,
            reference,
            budgets,
        })
    }

    /// Trains from the initial weights, then evaluates and attacks `trained`, or else the trained weights.
    pub fn run(&self, device: &dyn Device, trained: Option<&[f32]>) -> Result<NetworkOutputs> {
        self.run_steps(device, trained, STEPS)
    }

    /// The same with fewer steps: what [`NetworkOutputs::unequal_bits`] compares.
    pub fn run_again(&self, device: &dyn Device, trained: &[f32]) -> Result<NetworkOutputs> {
        self.run_steps(device, Some(trained), REPEATED)
    }

    fn run_steps(
        &self,
        device: &dyn Device,
        trained: Option<&[f32]>,
        steps: usize,
    ) -> Result<NetworkOutputs> {
        let augment = Augment { pad: 2, flip: true };
        let options = EngineOptions {
            batch: self.case.batch,
            attack: true,
            augment,
            norm: self.case.norm,
            activation_gradients: true,
            ..EngineOptions::default()
        };
        let mut engine = Engine::open(device, &self.graph, &self.weights, &options)?;
        engine.attach(&self.images)?;
        engine.set_average(&self.weights)?;
        let Training { gradients, losses, early } = self.train(&mut engine, steps)?;
        let (weights, average) = (engine.weights()?, engine.average()?);
        engine.set_weights(trained.unwrap_or(&weights))?;
        let all: Vec<u32> = (0..ATTACKED as u32).collect();
        let (classes, width) = (self.graph.classes(), self.graph.features());
        let (mut logits, mut features) = (vec![0.0; ATTACKED * classes], vec![0.0; ATTACKED * width]);
        engine.infer(Source::Images, &all, &StepParams::default(), |rows| {
            rows.logits(&mut logits[rows.first * classes..])?;
            rows.features(&mut features[rows.first * width..])
        })?;
        let scores = engine.scores(&all, &self.reference[..ATTACKED * classes])?;
        let activation_gradients = self.activation_gradients(&mut engine, &all)?;
        let still = StepParams { random_start: false, clamp: false, ..StepParams::default() };
        let mut signs = self.attack(&mut engine, &all, &still)?;
        let clean = self.attack(&mut engine, &all, &StepParams { repeats: 0, ..still })?;
        signs.iter_mut().zip(&clean).for_each(|(moved, clean)| *moved = direction(*moved - clean));
        let moved = StepParams { seed: 11, epoch: 2, ..StepParams::default() };
        let starts = self.attack(&mut engine, &all, &StepParams { repeats: 0, ..moved })?;
        let examples = self.attack(&mut engine, &all, &StepParams { repeats: 7, ..moved })?;
        Ok(NetworkOutputs {
            gradients,
            losses,
            early,
            weights,
            average,
            logits,
            features,
            scores,
            activation_gradients,
            signs,
            starts,
            examples,
        })
    }

    /// Sources, distillation and the momentum's form change from step to step.
    fn train(&self, engine: &mut Engine, steps: usize) -> Result<Training> {
        let (batch, classes) = (self.case.batch, self.graph.classes());
        let (mut gradients, mut losses, mut early) = (vec![], vec![], vec![]);
        for step in 0..steps {
            let picked: Vec<u32> = (0..batch).map(|i| ((step * batch + i) % IMAGES) as u32).collect();
            let labels: Vec<u32> = picked.iter().map(|&i| self.labels[i as usize]).collect();
            let rows = picked.iter().flat_map(|&i| &self.reference[i as usize * classes..][..classes]);
            let teacher: Vec<f32> = rows.copied().collect();
            let params = StepParams {
                learning_rate: 0.02,
                average_decay: 0.8,
                distill_weight: 0.5,
                temperature: 2.0,
                seed: 3,
                epoch: step as u32,
                nesterov: step % 3 != 0,
                ..StepParams::default()
            };
            let source = if step == 0 { Source::Images } else { Source::Augmented };
            let teacher = (step % 2 == 1).then_some(teacher.as_slice());
            losses.push(engine.train_step(source, &picked, &labels, teacher, &params)?);
            if step == 0 {
                gradients = engine.gradients()?;
            }
            if step + 1 == REPEATED {
                early = [engine.weights()?, engine.average()?].concat();
            }
        }
        Ok(Training { gradients, losses, early })
    }

    fn activation_gradients(&self, engine: &mut Engine, all: &[u32]) -> Result<Vec<f32>> {
        let layers = self.graph.activation_layers();
        let channels: Vec<usize> = layers.iter().map(|&layer| self.graph.nodes[layer].channels).collect();
        let mut lists: Vec<Vec<f32>> =
            channels.iter().map(|&channels| vec![0.0; all.len() * channels]).collect();
        engine.activation_gradients(all, &self.labels[..all.len()], |rows| {
            let mut lists = lists.iter_mut().zip(&channels).enumerate();
            lists.try_for_each(|(layer, (list, channels))| {
                rows.activation_gradients(layer, &mut list[rows.first * channels..])
            })
        })?;
        Ok(lists.concat())
    }

    fn attack(&self, engine: &mut Engine, all: &[u32], params: &StepParams) -> Result<Vec<f32>> {
        let target = AttackBatch {
            source: Source::Images,
            indices: all,
            labels: &self.labels[..all.len()],
            budgets: &self.budgets[..all.len()],
            predict: true,
        };
        let len = self.graph.image_len();
        let mut examples = vec![0.0; all.len() * len];
        engine.attack(&target, params, |rows| rows.adversarial(&mut examples[rows.first * len..]))?;
        Ok(examples)
    }
}

/// What training gives.
struct Training {
    /// Of the first step.
    gradients: Vec<f32>,
    /// Of every step.
    losses: Vec<f32>,
    /// Weights and average after [`REPEATED`] steps.
    early: Vec<f32>,
}

fn direction(offset: f32) -> f32 {
    if offset == 0.0 { 0.0 } else { offset.signum() }
}
