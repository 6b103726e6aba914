//! The numbers of a training phase and of PGD.

use serde::{Deserialize, Serialize};

use super::check::{
    MAX_BATCH, MAX_EPOCHS, below_one, non_negative, positive, probability, share, steps, within,
};
use super::schedule::Schedule;
use crate::engine::{Augment, EngineOptions};
use crate::error::{Error, Result};

/// What all training phases of a run share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainerConfig {
    /// Images of a step.
    pub batch: usize,
    /// SGD momentum.
    pub momentum: f32,
    /// L2 penalty.
    pub weight_decay: f32,
    /// Nesterov's form of the momentum.
    pub nesterov: bool,
    /// Padding of the random crop.
    pub crop: usize,
    /// Mirror half of the images.
    pub flip: bool,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self { batch: 128, momentum: 0.9, weight_decay: 5e-4, nesterov: true, crop: 4, flip: true }
    }
}

impl TrainerConfig {
    /// What a network has to be opened for that this trains.
    pub fn engine_options(&self) -> EngineOptions {
        let augment = Augment { pad: self.crop, flip: self.flip };
        EngineOptions { batch: self.batch, augment, ..EngineOptions::default() }
    }

    /// Refuses numbers that no run can mean.
    pub fn check(&self) -> Result<()> {
        within("batch", self.batch, 1..=MAX_BATCH)?;
        below_one("momentum", self.momentum)?;
        non_negative("weight_decay", self.weight_decay)
    }

    /// Refuses a crop that is larger than the images, of `side` pixels at least: it would show nothing of most.
    pub fn check_crop(&self, side: usize) -> Result<()> {
        let crop = self.crop;
        if crop > side {
            let cause = format!("crop is {crop}, but must be at most {side}, the side of the images");
            return Err(Error::input(cause));
        }
        Ok(())
    }
}

/// One training phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Train on at most this many images, drawn at random; 0 for all.
    pub limit: usize,
    /// Epochs.
    pub epochs: usize,
    /// Batches of an epoch at most; 0 for all.
    pub batches: usize,
    /// Largest learning rate.
    pub learning_rate: f32,
    /// How the learning rate runs over the phase.
    pub schedule: Schedule,
    /// Weight of the distillation from the teacher; 0 for none.
    pub distill: f32,
    /// Temperature of the distillation.
    pub temperature: f32,
    /// Largest probability at this temperature that the teacher may give a label other than the image's: what is
    /// above it goes to the image's label; 1 for no cap.
    pub teacher_cap: f32,
    /// Decay of the weight average that the phase ends with; 0 for none.
    pub average: f32,
    /// Probability of each of the four patches of random erasing, which the network sees and its teacher doesn't;
    /// 0 for none.
    pub erasing: f32,
}

impl TrainConfig {
    /// Epochs at a constant rate and nothing else.
    pub const PLAIN: TrainConfig = TrainConfig {
        limit: 0,
        epochs: 0,
        batches: 0,
        learning_rate: 0.02,
        schedule: Schedule::Cosine,
        distill: 0.0,
        temperature: 2.0,
        teacher_cap: 1.0,
        average: 0.0,
        erasing: 0.0,
    };

    /// Refuses numbers that no run can mean; the message names the setting below `path`.
    pub fn check(&self, path: &str) -> Result<()> {
        within(&format!("{path}.epochs"), self.epochs, 0..=MAX_EPOCHS)?;
        non_negative(&format!("{path}.learning_rate"), self.learning_rate)?;
        non_negative(&format!("{path}.distill"), self.distill)?;
        positive(&format!("{path}.temperature"), self.temperature)?;
        share(&format!("{path}.teacher_cap"), f64::from(self.teacher_cap))?;
        below_one(&format!("{path}.average"), self.average)?;
        probability(&format!("{path}.erasing"), self.erasing)
    }

    /// Settings below `path` that have no effect, and why.
    pub fn unused(&self, path: &str) -> Vec<(String, &'static str)> {
        let below = |names: &[&str], why| names.iter().map(|name| (format!("{path}.{name}"), why)).collect();
        if self.epochs == 0 {
            let all =
                ["batches", "limit", "learning_rate", "schedule", "distill", "temperature", "teacher_cap"];
            return below(&[&all[..], &["average", "erasing"]].concat(), "the phase has no epochs");
        }
        if self.distill == 0.0 {
            below(&["temperature", "teacher_cap"], "nothing is distilled")
        } else {
            vec![]
        }
    }
}

/// Projected gradient descent. Radii in units of 1/255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PgdConfig {
    /// Smallest ε; every image draws its own, log-uniform up to `epsilon_max`.
    pub epsilon_min: f32,
    /// Largest ε.
    pub epsilon_max: f32,
    /// α = ε · this.
    pub alpha_ratio: f32,
    /// PGD steps.
    pub steps: usize,
    /// Start at a random point of the ball.
    pub random_start: bool,
    /// Keep examples inside [0, 1].
    pub clamp: bool,
    /// New examples for every batch from the network as it is (the paper); else once, before training.
    pub every_batch: bool,
}

impl PgdConfig {
    /// Refuses numbers that no run can mean; the message names the setting below `path`.
    pub fn check(&self, path: &str) -> Result<()> {
        positive(&format!("{path}.epsilon_min"), self.epsilon_min)?;
        positive(&format!("{path}.epsilon_max"), self.epsilon_max)?;
        if self.epsilon_max < self.epsilon_min {
            let (low, high) = (self.epsilon_min, self.epsilon_max);
            let cause = format!("{path}.epsilon_max is {high}, below epsilon_min, which is {low}");
            return Err(Error::input(cause));
        }
        positive(&format!("{path}.alpha_ratio"), self.alpha_ratio)?;
        steps(&format!("{path}.steps"), self.steps)
    }
}
