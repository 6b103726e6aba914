//! Fine-tuning on a clean set: the plainest defence, and the example of how one is added.

use serde::{Deserialize, Serialize};

use super::{Defense, Facts, Phase, Recipe, Run, TrainingSet};
use crate::error::{Error, Result};
use crate::train::{Schedule, TrainConfig, TrainerConfig};

const CLEAN: Phase = Phase { key: "clean", label: "fine-tuning" };

/// Settings of the fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuning {
    /// Where the settings started from.
    pub recipe: Recipe,
    /// Batch, SGD, augmentation.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// The training phase.
    pub train: TrainConfig,
}

impl Defense for FineTuning {
    fn defaults(facts: &Facts) -> Result<Self> {
        if !facts.clean_set {
            return Err(Error::input("--defense ft: it needs a clean set, --clean or --clean-fraction"));
        }
        if facts.recipe == Recipe::Paper || facts.rounds.is_some() {
            return Err(Error::input("--defense ft: it has one recipe and one round"));
        }
        let schedule = Schedule::Constant;
        Ok(Self {
            recipe: facts.recipe,
            trainer: TrainerConfig { flip: facts.allows_flip, ..TrainerConfig::default() },
            train: TrainConfig { epochs: 20, learning_rate: 0.01, schedule, ..TrainConfig::PLAIN },
        })
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

    fn images_made(&self, _: usize, _: bool) -> usize {
        0
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        run.begin_round(0);
        run.step(|run| {
            run.state.selected = (0..run.images.len() as u32).collect();
            run.start_round()
        })?;
        run.step(|run| {
            let (images, indices) = (run.images.clone(), run.state.selected.clone());
            let set = TrainingSet { images, indices, attack: None, seed: run.step_seed(0) };
            run.train(CLEAN, &set, &self.train)
        })?;
        run.end_round()
    }
}
