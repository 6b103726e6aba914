//! Feature shift tuning (Min et al., NeurIPS 2023): fine-tunes with a linear layer that is drawn anew and pushed away from
//! the infected one.
//!
//! L = cross entropy + α ⟨W, W₀⟩, W₀ the infected model's linear layer; after each step ‖W‖ is set back to ‖W₀‖. Without
//! weight decay, 10 epochs.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::clean_set::{self, fine_tune};
use super::{Defense, Facts, Phase, Run};
use crate::engine::{Engine, EngineOptions, Statistics, StepParams};
use crate::error::Result;
use crate::rng::{Purpose, Stream};
use crate::train::{Batch, Optimizer, TrainConfig, TrainerConfig, non_negative};

const REDRAW: Phase = Phase { key: "redraw", label: "a new linear layer" };

/// Settings of feature shift tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fst {
    /// Batch, SGD, augmentation.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// Weight α of the push.
    pub alpha: f32,
    /// The training phase.
    pub train: TrainConfig,
}

impl Defense for Fst {
    fn defaults(facts: &Facts) -> Result<Self> {
        let trainer = TrainerConfig { batch: 128, weight_decay: 0.0, ..clean_set::trainer(facts) };
        let train = TrainConfig { epochs: 10, ..clean_set::FINE_TUNE };
        Ok(Self { trainer, alpha: 0.1, train })
    }

    fn check(&self, _: &Facts) -> Result<()> {
        self.trainer.check()?;
        non_negative("alpha", self.alpha)?;
        self.train.check("train")
    }

    fn unused(&self, _: &Facts) -> Vec<(String, &'static str)> {
        self.train.unused("train")
    }

    fn trainer(&self) -> &TrainerConfig {
        &self.trainer
    }

    fn engine_options(&self) -> EngineOptions {
        EngineOptions { gradients: true, ..self.trainer.engine_options() }
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        clean_set::begin(run)?;
        run.step(|run| {
            run.enter(REDRAW);
            redraw(run.model, run.step_seed(1))
        })?;
        run.step(|run| {
            let (weight, _) = run.infected.graph().head()?;
            let original = run.infected.parameters(&weight)?;
            let mut push = Push { alpha: self.alpha, weight, original };
            fine_tune(run, run.images.clone(), &self.train, Some(&mut push))
        })?;
        run.end_round()
    }
}

/// Weights and biases uniform in ±1/√features, as PyTorch draws a new layer.
fn redraw(model: &mut Engine, seed: u64) -> Result<()> {
    let (weight, bias) = model.graph().head()?;
    let bound = 1.0 / (model.graph().features() as f32).sqrt();
    let stream = Stream::new(seed, Purpose::Initialise, 0);
    let drawn = |range: Range<usize>| -> Vec<f32> {
        range.map(|at| bound * (2.0 * stream.uniform(at as u64, 0) - 1.0)).collect()
    };
    model.set_parameters(weight.start, &drawn(weight))?;
    model.set_parameters(bias.start, &drawn(bias))
}

fn norm(values: &[f32]) -> f32 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
}

pub(super) struct Push {
    /// The linear layer's weight.
    pub weight: Range<usize>,
    /// The infected model's.
    pub original: Vec<f32>,
    pub alpha: f32,
}

impl Optimizer for Push {
    fn step(
        &mut self,
        engine: &mut Engine,
        _: Option<&mut Engine>,
        batch: &Batch,
        params: &StepParams,
    ) -> Result<f32> {
        let loss = engine.backward(Statistics::Move, batch.indices, batch.labels, batch.teacher, params)?;
        let (mut gradient, before) = (engine.gradient(&self.weight)?, engine.parameters(&self.weight)?);
        let alike: f32 = before.iter().zip(&self.original).map(|(now, then)| now * then).sum();
        gradient.iter_mut().zip(&self.original).for_each(|(gradient, then)| *gradient += self.alpha * then);
        engine.set_gradient(self.weight.start, &gradient)?;
        engine.step(params)?;
        let mut after = engine.parameters(&self.weight)?;
        let scale = norm(&self.original) / norm(&after);
        after.iter_mut().for_each(|value| *value *= scale);
        engine.set_parameters(self.weight.start, &after)?;
        Ok(loss + self.alpha * alike)
    }
}
