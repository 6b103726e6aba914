//! Trains a classifier from its initial weights, on a poisoned set or a clean one.

use serde::{Deserialize, Serialize};

use crate::data::ImageSet;
use crate::engine::{Augment, Engine, EngineOptions};
use crate::error::Result;
use crate::train::{
    EpochImages, Schedule, Sgd, StepEvent, TrainConfig, TrainCursor, TrainJob, at_least, below_one,
    non_negative, positive, train,
};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct InfectConfig {
    /// Epochs.
    pub epochs: usize,
    /// Images of a step.
    pub batch: usize,
    /// Largest learning rate.
    pub learning_rate: f32,
    /// How the learning rate runs over the training.
    pub schedule: Schedule,
    /// SGD momentum, in Nesterov's form.
    pub momentum: f32,
    /// L2 penalty.
    pub weight_decay: f32,
    /// Padding of the random crop.
    pub crop: usize,
    /// Mirror images.
    pub flip: bool,
}

impl Default for InfectConfig {
    fn default() -> Self {
        Self {
            epochs: 15,
            batch: 128,
            learning_rate: 0.1,
            schedule: Schedule::OneCycle,
            momentum: 0.9,
            weight_decay: 5e-4,
            crop: 4,
            flip: true,
        }
    }
}

impl InfectConfig {
    /// What the network has to be opened for.
    pub fn engine_options(&self) -> EngineOptions {
        let augment = Augment { pad: self.crop, flip: self.flip };
        EngineOptions { batch: self.batch, attack: false, augment, ..EngineOptions::default() }
    }

    /// Refuses numbers that no run can mean.
    pub fn check(&self) -> Result<()> {
        at_least("epochs", self.epochs, 1)?;
        at_least("batch", self.batch, 1)?;
        positive("lr", self.learning_rate)?;
        below_one("momentum", self.momentum)?;
        non_negative("weight-decay", self.weight_decay)
    }

    /// The learning rate at the start of epoch `epoch` (from 0), for `steps` batches an epoch.
    pub fn rate(&self, epoch: usize, steps: usize) -> f32 {
        self.learning_rate * self.schedule.factor(epoch * steps, self.epochs * steps)
    }
}

/// A training of a classifier.
#[derive(Clone, Copy)]
pub struct InfectJob<'a> {
    /// The training images.
    pub images: &'a ImageSet,
    /// The images of an epoch, where each has its own: as many as `images`.
    pub epoch_images: Option<EpochImages<'a>>,
    /// How.
    pub config: &'a InfectConfig,
    /// Decides shuffles and augmentation.
    pub seed: u64,
}

/// Trains `engine`, opened with [`InfectConfig::engine_options`], from `cursor` to the end.
///
/// `on_step` is as in [`train`]. To continue, open the engine with the weights it had, set the momentum it had,
/// and give the cursor it had.
///
/// # Errors
/// A setting that makes no sense; a loss that is not finite, named by epoch and batch.
pub fn train_backdoored(
    engine: &mut Engine,
    job: &InfectJob,
    cursor: &mut TrainCursor,
    on_step: &mut dyn FnMut(&mut Engine, &StepEvent) -> Result<()>,
) -> Result<()> {
    let InfectJob { images, epoch_images, config, seed } = *job;
    config.check()?;
    let phase = TrainConfig {
        epochs: config.epochs,
        learning_rate: config.learning_rate,
        schedule: config.schedule,
        ..TrainConfig::PLAIN
    };
    let InfectConfig { batch, momentum, weight_decay, .. } = *config;
    let sgd = Sgd { batch, momentum, weight_decay, nesterov: true };
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    let mut job = TrainJob {
        images,
        epoch_images,
        indices: &indices,
        config: &phase,
        sgd,
        seed,
        teacher: None,
        attack: None,
    };
    train(engine, &mut job, cursor, on_step)
}
