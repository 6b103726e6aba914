//! Neural attention distillation (Li et al., ICLR 2021): the model learns from a fine-tuned copy of itself where to look.
//!
//! The teacher is the infected model, fine-tuned on the clean set. Then L = CE + Σ_l β_l · mean((a_l − a_l^teacher)²), mean
//! over images and pixels, for the feature maps F_l at the ends of the last three stages, each image's attention map
//! a = A / (‖A‖ + 1e-6) with A = Σ_channels F². The teacher sees the same augmented images with running statistics.
//! Two epochs at a rate of 0.1, 18 at 0.01, as in the authors' code (theirs keeps the momentum in between).
//!
//! The maps and the gradients at them go through the host: 14,336 numbers an image at width 16 and 32 × 32 pixels.

use serde::{Deserialize, Serialize};

use super::clean_set::{self, fine_tune};
use super::{Defense, Facts, Run};
use crate::engine::{Engine, EngineOptions, StepParams};
use crate::error::{Error, Result};
use crate::train::{Batch, Optimizer, Schedule, TrainConfig, TrainerConfig, non_negative};

/// Settings of neural attention distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nad {
    /// Batch, SGD, augmentation.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// Weights β of the stages' attention losses, that of the last one last; a stage without one is left alone.
    pub betas: Vec<f32>,
    /// Fine-tuning of the teacher.
    pub teacher: TrainConfig,
    /// The first epochs of the distillation.
    pub first: TrainConfig,
    /// The rest of them.
    pub rest: TrainConfig,
}

impl Defense for Nad {
    fn defaults(facts: &Facts) -> Result<Self> {
        let own =
            TrainerConfig { batch: 64, nesterov: true, weight_decay: 1e-4, ..clean_set::trainer(facts) };
        let constant = |epochs, learning_rate| TrainConfig {
            epochs,
            learning_rate,
            schedule: Schedule::Constant,
            ..TrainConfig::PLAIN
        };
        Ok(Self {
            trainer: own,
            betas: vec![500.0, 1000.0, 1000.0],
            teacher: constant(10, 0.01),
            first: constant(2, 0.1),
            rest: constant(18, 0.01),
        })
    }

    fn check(&self, _: &Facts) -> Result<()> {
        self.trainer.check()?;
        if self.betas.is_empty() {
            return Err(Error::input("betas is empty, but must have a number at least"));
        }
        for (number, beta) in self.betas.iter().enumerate() {
            non_negative(&format!("betas.{number}"), *beta)?;
        }
        let phases = [(&self.teacher, "teacher"), (&self.first, "first"), (&self.rest, "rest")];
        phases.into_iter().try_for_each(|(phase, name)| phase.check(name))
    }

    fn unused(&self, _: &Facts) -> Vec<(String, &'static str)> {
        let phases = [(&self.teacher, "teacher"), (&self.first, "first"), (&self.rest, "rest")];
        phases.into_iter().flat_map(|(phase, name)| phase.unused(name)).collect()
    }

    fn trainer(&self) -> &TrainerConfig {
        &self.trainer
    }

    fn engine_options(&self) -> EngineOptions {
        EngineOptions { gradients: true, feature_maps: true, ..self.trainer.engine_options() }
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        clean_set::begin(run)?;
        run.step(|run| {
            fine_tune(run, run.images.clone(), &self.teacher, None)?;
            run.state.variables = run.model.weights()?;
            run.model.set_weights(&run.state.start)
        })?;
        for phase in [&self.first, &self.rest] {
            run.step(|run| self.distil(run, phase))?;
        }
        run.end_round()
    }
}

impl Nad {
    /// A phase of the distillation. The infected model's network serves as the teacher's meanwhile.
    fn distil(&self, run: &mut Run, phase: &TrainConfig) -> Result<()> {
        let infected = run.infected.weights()?;
        run.infected.set_weights(&run.state.variables)?;
        let mut attention = AttentionDistillation { betas: &self.betas };
        let trained = fine_tune(run, run.images.clone(), phase, Some(&mut attention));
        run.infected.set_weights(&infected)?;
        trained
    }
}

pub(super) struct AttentionDistillation<'a> {
    pub betas: &'a [f32],
}

impl Optimizer for AttentionDistillation<'_> {
    fn step(
        &mut self,
        engine: &mut Engine,
        teacher: Option<&mut Engine>,
        batch: &Batch,
        params: &StepParams,
    ) -> Result<f32> {
        let teacher = teacher.ok_or_else(|| Error::run("there is no teacher"))?;
        let theirs = teacher.feature_maps(false, batch.indices, params)?;
        let mut maps = engine.feature_maps(true, batch.indices, params)?;
        let graph = engine.graph();
        let channels: Vec<usize> =
            graph.feature_maps().into_iter().map(|node| graph.nodes[node].channels).collect();
        let rectified: Vec<bool> =
            graph.feature_maps().into_iter().map(|node| graph.rectified(node)).collect();
        let mut loss = 0.0;
        for (stage, (own, their)) in maps.iter_mut().zip(&theirs).enumerate() {
            let shape = MapShape {
                images: batch.indices.len(),
                channels: channels[stage],
                rectified: rectified[stage],
            };
            let beta = (self.betas.len() + stage).checked_sub(channels.len());
            let beta = beta.and_then(|at| self.betas.get(at)).copied().unwrap_or(0.0);
            loss += attention_loss(own, their, &shape, beta);
        }
        let entropy = engine.backward_from_maps(&maps, batch.indices, batch.labels, params)?;
        engine.step(params)?;
        Ok(entropy + loss)
    }
}

/// What a stage's feature maps look like.
pub(super) struct MapShape {
    pub images: usize,
    pub channels: usize,
    /// Whether a ReLU follows, which isn't applied yet.
    pub rectified: bool,
}

/// β · mean((a − a_teacher)²); `own` (images × pixels × channels) becomes its gradient.
pub(super) fn attention_loss(own: &mut [f32], their: &[f32], shape: &MapShape, beta: f32) -> f32 {
    let len = own.len() / shape.images.max(1);
    let (pixels, mut loss) = (len / shape.channels, 0.0);
    let factor = f64::from(beta) / (shape.images * pixels) as f64;
    for (own, their) in own.chunks_exact_mut(len).zip(their.chunks_exact(len)) {
        let (map, norm) = attention_map(own, shape);
        let (teacher, teacher_norm) = attention_map(their, shape);
        // Of the loss to the normalised map: g; then through A / (‖A‖ + ε).
        let (scale, length) = (norm + EPSILON, norm.max(f64::MIN_POSITIVE));
        let gap: Vec<f64> =
            map.iter().zip(&teacher).map(|(a, t)| a / scale - t / (teacher_norm + EPSILON)).collect();
        loss += factor * gap.iter().map(|gap| gap * gap).sum::<f64>();
        let along: f64 = gap.iter().zip(&map).map(|(gap, a)| 2.0 * factor * gap * a).sum();
        for ((features, gap), a) in own.chunks_exact_mut(shape.channels).zip(&gap).zip(&map) {
            let gradient = 2.0 * factor * gap / scale - along * a / (length * scale * scale);
            for feature in features {
                *feature = (2.0 * gradient * f64::from(activated(*feature, shape))) as f32;
            }
        }
    }
    loss as f32
}

const EPSILON: f64 = 1e-6;

/// Σ_channels F² for every pixel, and its length.
fn attention_map(features: &[f32], shape: &MapShape) -> (Vec<f64>, f64) {
    let square = |&feature: &f32| f64::from(activated(feature, shape)).powi(2);
    let map: Vec<f64> =
        features.chunks_exact(shape.channels).map(|pixel| pixel.iter().map(square).sum()).collect();
    let norm = map.iter().map(|a| a * a).sum::<f64>().sqrt();
    (map, norm)
}

fn activated(feature: f32, shape: &MapShape) -> f32 {
    if shape.rectified { feature.max(0.0) } else { feature }
}
