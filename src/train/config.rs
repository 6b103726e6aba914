//! The numbers of a training phase and of PGD.

use serde::{Deserialize, Serialize};

use super::check::{at_least, below_one, non_negative, positive, share};
use super::schedule::Schedule;
use crate::error::{Error, Result};

/// SGD's constants and the batch size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Images of a step.
    pub batch: usize,
    /// Momentum.
    pub momentum: f32,
    /// L2 penalty.
    pub weight_decay: f32,
    /// Nesterov's form.
    pub nesterov: bool,
}

/// One training phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainConfig {
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
    /// Probability of each of the four random patches painted over an image before the network sees it
    /// (its teacher doesn't); 0 for none.
    pub patches: f32,
}

impl TrainConfig {
    /// Epochs at a constant rate and nothing else.
    pub const PLAIN: TrainConfig = TrainConfig {
        epochs: 0,
        batches: 0,
        learning_rate: 0.02,
        schedule: Schedule::Cosine,
        distill: 0.0,
        temperature: 2.0,
        teacher_cap: 1.0,
        average: 0.0,
        patches: 0.0,
    };

    /// Refuses numbers that no run can mean; the message names the setting below `path`.
    pub fn check(&self, path: &str) -> Result<()> {
        non_negative(&format!("{path}-lr"), self.learning_rate)?;
        non_negative(&format!("{path}-distill"), self.distill)?;
        positive(&format!("{path}-temperature"), self.temperature)?;
        share(&format!("{path}-teacher-cap"), f64::from(self.teacher_cap))?;
        below_one(&format!("{path}-average"), self.average)?;
        if (0.0..=1.0).contains(&self.patches) {
            return Ok(());
        }
        Err(Error::input(format!("{path}-patches is {}, but must be from 0 to 1", self.patches)))
    }
}

/// Projected gradient descent. Radii in units of 1/255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// Attack at most this many images a round; 0 for all.
    pub limit: usize,
    /// New examples for every batch from the network as it is (the paper); else once, before training.
    pub every_batch: bool,
}

impl PgdConfig {
    /// Refuses numbers that no run can mean.
    pub fn check(&self) -> Result<()> {
        positive("epsilon-min", self.epsilon_min)?;
        positive("epsilon-max", self.epsilon_max)?;
        if self.epsilon_max < self.epsilon_min {
            let (low, high) = (self.epsilon_min, self.epsilon_max);
            return Err(Error::input(format!("epsilon-max is {high}, below epsilon-min, which is {low}")));
        }
        positive("alpha-ratio", self.alpha_ratio)?;
        at_least("steps", self.steps, 1)
    }
}
