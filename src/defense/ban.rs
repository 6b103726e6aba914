//! BAN-FT (Xu et al., NeurIPS 2024): fine-tuning under adversarial noise on the neurons.
//!
//! Each step: δ, ξ uniform in ±ε, one sign step of ε up the loss at γ(1 + δ), β(1 + ξ) (no projection, so up to 2ε); then
//! one step of all weights down CE(w) + λ · CE(w with the noise). The noisy passes leave the running statistics.

use serde::{Deserialize, Serialize};

use super::clean_set::{self, fine_tune};
use super::norm_noise::{Neurons, Noise};
use super::{Defense, Facts, Run};
use crate::engine::{Engine, EngineOptions, Statistics, StepParams};
use crate::error::Result;
use crate::train::{Batch, Optimizer, TrainConfig, TrainerConfig, non_negative, steps_per_epoch};

const NAME: &str = "ban-ft";

/// Settings of BAN's fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BanFt {
    /// Batch, SGD, augmentation.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// Size ε of the noise, relative to γ and β.
    pub epsilon: f32,
    /// Weight λ of the loss with the noise.
    pub weight: f32,
    /// The training phase.
    pub train: TrainConfig,
}

impl Defense for BanFt {
    fn defaults(facts: &Facts) -> Result<Self> {
        let trainer = TrainerConfig { batch: 128, ..clean_set::trainer(facts) };
        let train = TrainConfig { epochs: 25, learning_rate: 0.005, ..clean_set::FINE_TUNE };
        Ok(Self { trainer, epsilon: 0.3, weight: 0.5, train })
    }

    fn check(&self, _: &Facts) -> Result<()> {
        self.trainer.check()?;
        non_negative("epsilon", self.epsilon)?;
        non_negative("weight", self.weight)?;
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
            let batches = steps_per_epoch(run.images.len(), self.trainer.batch, self.train.batches);
            let first = run.state.cursor.train;
            let done = (first.epoch * batches + first.batch) as u32;
            let (neurons, seed) = (Neurons::of(run.model, NAME)?.len(), run.step_seed(1));
            let draw = Box::new(move |number| Noise::draw(neurons, self.epsilon, seed, number));
            let mut noisy = Noisy { epsilon: self.epsilon, weight: self.weight, draw, done };
            fine_tune(run, run.images.clone(), &self.train, Some(&mut noisy))
        })?;
        run.end_round()
    }
}

pub(super) struct Noisy<'a> {
    pub epsilon: f32,
    pub weight: f32,
    /// The noise that the step of this number starts from.
    pub draw: Box<dyn Fn(u32) -> Noise + 'a>,
    /// Steps so far.
    pub done: u32,
}

impl Optimizer for Noisy<'_> {
    fn step(
        &mut self,
        engine: &mut Engine,
        _: Option<&mut Engine>,
        batch: &Batch,
        params: &StepParams,
    ) -> Result<f32> {
        let Batch { indices, labels, teacher, .. } = *batch;
        let neurons = Neurons::of(engine, NAME)?;
        let mut noise = (self.draw)(self.done);
        self.done += 1;
        neurons.write(engine, None, Some(&noise))?;
        engine.backward(Statistics::Keep, indices, labels, teacher, params)?;
        noise.ascend(&neurons.gradients(engine)?, self.epsilon);
        neurons.write(engine, None, Some(&noise))?;
        let noisy_loss = engine.backward(Statistics::Keep, indices, labels, teacher, params)?;
        let mut noisy = engine.gradients()?;
        neurons.through_noise(&mut noisy, &noise);
        neurons.write(engine, None, None)?;
        let loss = engine.backward(Statistics::Move, indices, labels, teacher, params)?;
        let mut gradients = engine.gradients()?;
        gradients.iter_mut().zip(&noisy).for_each(|(gradient, noisy)| *gradient += self.weight * noisy);
        engine.set_gradient(0, &gradients)?;
        engine.step(params)?;
        Ok(loss + self.weight * noisy_loss)
    }
}
