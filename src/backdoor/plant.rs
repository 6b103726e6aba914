//! Training a model from its initial weights, on a poisoned set or a clean one.

use serde::{Deserialize, Serialize};

use crate::data::ImageSet;
use crate::defense::config::{Schedule, TuneConfig};
use crate::defense::fine_tune::{Afresh, Next, Optimiser, Position, Task, Tick, train};
use crate::device::Augment;
use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, Result};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlantConfig {
    /// Epochs.
    pub epochs: usize,
    /// Images of a step.
    pub batch: usize,
    /// Largest learning rate.
    pub learning_rate: f32,
    /// How it runs over the training.
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

impl Default for PlantConfig {
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

impl PlantConfig {
    /// What the network has to be opened for.
    pub fn engine_options(&self) -> EngineOptions {
        let augment = Augment { pad: self.crop, flip: self.flip };
        EngineOptions { batch: self.batch, attack: false, augment, ..EngineOptions::default() }
    }

    /// Refuses numbers that no run can mean.
    pub fn check(&self) -> Result<()> {
        let fault = |name: &str, value: String, range: &str| {
            Err(Error::input(format!("{name} is {value}, but must be {range}")))
        };
        if self.epochs == 0 {
            return fault("epochs", "0".into(), "at least 1");
        }
        if self.batch == 0 {
            return fault("batch", "0".into(), "at least 1");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return fault("lr", self.learning_rate.to_string(), "above 0");
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return fault("momentum", self.momentum.to_string(), "at least 0 and below 1");
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return fault("weight-decay", self.weight_decay.to_string(), "at least 0");
        }
        Ok(())
    }

    /// The learning rate at the start of epoch `epoch` (from 0), for `steps` batches an epoch.
    pub fn rate(&self, epoch: usize, steps: usize) -> f32 {
        self.learning_rate * self.schedule.factor(epoch * steps, self.epochs * steps)
    }
}

/// What a model is taught.
#[derive(Clone, Copy)]
pub struct Lesson<'a> {
    /// The training images.
    pub images: &'a ImageSet,
    /// The images of an epoch, where each has its own: as many as `images`.
    pub afresh: Option<Afresh<'a>>,
    /// How.
    pub config: &'a PlantConfig,
    /// Decides shuffles and augmentation.
    pub seed: u64,
}

/// Trains `engine`, opened with [`PlantConfig::engine_options`], from `position`; returns whether it
/// is finished.
///
/// `tick` is called after every batch and may stop; if it attaches other images to the engine in
/// the middle of an epoch, to measure it, it attaches the training images again. To continue, open
/// the engine with the weights it had, set the momentum it had, and give the position it had.
///
/// # Errors
/// A setting that makes no sense; a loss that is not finite, named by epoch and batch.
pub fn plant(
    engine: &mut Engine,
    lesson: &Lesson,
    position: &mut Position,
    tick: &mut dyn FnMut(&mut Engine, &Tick) -> Result<Next>,
) -> Result<bool> {
    let Lesson { images, afresh, config, seed } = *lesson;
    config.check()?;
    let tune = TuneConfig {
        epochs: config.epochs,
        batches: 0,
        learning_rate: config.learning_rate,
        schedule: config.schedule,
        distill: 0.0,
        temperature: 1.0,
        doubt: 1.0,
        average: 0.0,
        patches: 0.0,
    };
    let PlantConfig { batch, momentum, weight_decay, .. } = *config;
    let optimiser = Optimiser { batch, momentum, weight_decay, nesterov: true };
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    let mut task =
        Task { images, afresh, indices: &indices, tune: &tune, optimiser, seed, teacher: None, attack: None };
    train(engine, &mut task, position, tick)
}
