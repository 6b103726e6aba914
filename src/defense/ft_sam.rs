//! FT-SAM (Zhu et al., ICCV 2023): fine-tuning with sharpness-aware minimisation, its radius adapted to each weight.
//!
//! Each step: g = ∇L(w); e = ρ · w² ⊙ g / ‖|w| ⊙ g‖; the step from w takes ∇L(w + e). L is cross entropy with label
//! smoothing. The second pass leaves the running statistics. As in BackdoorBench, but the learning rate falls along one
//! cosine over all epochs: its code anneals by batches with a period of 200, so that the rate rises again.

use serde::{Deserialize, Serialize};

use super::clean_set::{self, FINE_TUNE, fine_tune};
use super::{Defense, Facts, Run};
use crate::engine::{Engine, EngineOptions, Statistics, StepParams};
use crate::error::Result;
use crate::train::{Batch, Optimizer, TrainConfig, TrainerConfig, below_one, non_negative};

/// Settings of FT-SAM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FtSam {
    /// Batch, SGD, augmentation.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// Radius of the perturbation of the weights. The authors take 8 for GTSRB and Tiny-ImageNet.
    pub rho: f32,
    /// Label smoothing.
    pub smoothing: f32,
    /// The training phase.
    pub train: TrainConfig,
}

impl Defense for FtSam {
    fn defaults(facts: &Facts) -> Result<Self> {
        Ok(Self { trainer: clean_set::trainer(facts), rho: 2.0, smoothing: 0.1, train: FINE_TUNE })
    }

    fn check(&self, _: &Facts) -> Result<()> {
        self.trainer.check()?;
        non_negative("rho", self.rho)?;
        below_one("smoothing", self.smoothing)?;
        self.train.check("train")
    }

    fn unused(&self, _: &Facts) -> Vec<(String, &'static str)> {
        let distilled = [("train.distill", "the method distils nothing")];
        let own = distilled.map(|(path, why)| (path.into(), why));
        [&own[..], &self.train.unused("train")].concat()
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
            let mut sam = Sam { rho: self.rho, smoothing: self.smoothing };
            fine_tune(run, run.images.clone(), &self.train, Some(&mut sam))
        })?;
        run.end_round()
    }
}

pub(super) struct Sam {
    pub rho: f32,
    pub smoothing: f32,
}

impl Optimizer for Sam {
    fn step(
        &mut self,
        engine: &mut Engine,
        _: Option<&mut Engine>,
        batch: &Batch,
        params: &StepParams,
    ) -> Result<f32> {
        let (loss, weights) = self.perturb(engine, batch, params)?;
        let (_, gradients) = self.backward(engine, Statistics::Keep, batch, params)?;
        engine.set_gradient(0, &gradients)?;
        engine.set_parameters(0, &weights)?;
        engine.step(params)?;
        Ok(loss)
    }
}

impl Sam {
    /// Moves the weights to w + e; returns the loss at w, and w.
    pub fn perturb(
        &self,
        engine: &mut Engine,
        batch: &Batch,
        params: &StepParams,
    ) -> Result<(f32, Vec<f32>)> {
        let (loss, gradients) = self.backward(engine, Statistics::Move, batch, params)?;
        let weights = engine.parameters(&(0..engine.graph().trainable))?;
        engine.set_parameters(0, &self.perturbed(&weights, &gradients))?;
        Ok((loss, weights))
    }

    /// Loss and gradients with label smoothing s: distilling from equal logits with the weight s / (1 − s) at temperature
    /// 1 gives 1 / (1 − s) times its gradient.
    fn backward(
        &self,
        engine: &mut Engine,
        statistics: Statistics,
        batch: &Batch,
        params: &StepParams,
    ) -> Result<(f32, Vec<f32>)> {
        let uniform = vec![0.0; batch.indices.len() * engine.graph().classes()];
        let rest = 1.0 - self.smoothing;
        let params = StepParams { distill_weight: self.smoothing / rest, temperature: 1.0, ..*params };
        let loss = engine.backward(statistics, batch.indices, batch.labels, Some(&uniform), &params)?;
        let mut gradients = engine.gradients()?;
        gradients.iter_mut().for_each(|gradient| *gradient *= rest);
        Ok((rest * loss, gradients))
    }

    /// w + ρ · w² ⊙ g / ‖|w| ⊙ g‖.
    fn perturbed(&self, weights: &[f32], gradients: &[f32]) -> Vec<f32> {
        let product = |(weight, gradient): (&f32, &f32)| f64::from(*weight) * f64::from(*gradient);
        let norm = weights.iter().zip(gradients).map(product).map(|value| value * value).sum::<f64>().sqrt();
        let scale = f64::from(self.rho) / (norm + 1e-12);
        let moved = |(weight, gradient): (&f32, &f32)| {
            (f64::from(*weight) * (1.0 + scale * product((weight, gradient)))) as f32
        };
        weights.iter().zip(gradients).map(moved).collect()
    }
}
