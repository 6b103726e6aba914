//! Fine-tuning on a clean set: the plainest defence, and the example of how one is added.

use serde::{Deserialize, Serialize};

use super::clean_set::{self, FINE_TUNE, fine_tune};
use super::{Defense, Facts, Run};
use crate::error::Result;
use crate::train::{TrainConfig, TrainerConfig};

/// Settings of the fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuning {
    /// Batch, SGD, augmentation.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// The training phase.
    pub train: TrainConfig,
}

impl Defense for FineTuning {
    fn defaults(facts: &Facts) -> Result<Self> {
        Ok(Self { trainer: clean_set::trainer(facts), train: FINE_TUNE })
    }

    fn check(&self, _: &Facts) -> Result<()> {
        self.trainer.check()?;
        self.train.check("train")
    }

    fn unused(&self, _: &Facts) -> Vec<(String, &'static str)> {
        self.train.unused("train")
    }

    fn trainer(&self) -> &TrainerConfig {
        &self.trainer
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        clean_set::begin(run)?;
        run.step(|run| fine_tune(run, run.images.clone(), &self.train, None))?;
        run.end_round()
    }
}
