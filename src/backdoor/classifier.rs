//! Trains a classifier from its initial weights, on a poisoned set or a clean one.

use serde::{Deserialize, Serialize};

use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;
use crate::train::{
    EpochImages, MAX_EPOCHS, Schedule, StepEvent, TrainConfig, TrainCursor, TrainJob, TrainerConfig,
    positive, train, within,
};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InfectConfig {
    /// Epochs.
    pub epochs: usize,
    /// Largest learning rate.
    pub learning_rate: f32,
    /// How the learning rate runs over the training.
    pub schedule: Schedule,
    /// Batch, SGD in Nesterov's form, augmentation.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
}

impl Default for InfectConfig {
    fn default() -> Self {
        let trainer = TrainerConfig::default();
        Self { epochs: 15, learning_rate: 0.1, schedule: Schedule::OneCycle, trainer }
    }
}

impl InfectConfig {
    /// Refuses numbers that no run can mean.
    pub fn check(&self) -> Result<()> {
        within("epochs", self.epochs, 1..=MAX_EPOCHS)?;
        positive("lr", self.learning_rate)?;
        self.trainer.check()
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

/// Trains `engine`, opened with [`TrainerConfig::engine_options`], from `cursor` to the end.
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
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    let mut job = TrainJob {
        images,
        epoch_images,
        indices: &indices,
        config: &phase,
        trainer: &config.trainer,
        seed,
        teacher: None,
        attack: None,
        optimizer: None,
    };
    train(engine, &mut job, cursor, on_step)
}
