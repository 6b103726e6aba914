//! Fine-pruning (Liu et al., RAID 2018): prunes the features that clean images leave dormant, then fine-tunes.
//!
//! The features are the linear layer's inputs. They are pruned in the order of their mean over clean images, smallest
//! first, in steps of 1 %, as long as the accuracy on held-out images stays. The last state that keeps it is fine-tuned
//! with its pruned features held at zero (BackdoorBench fine-tunes the state after it, and stops by the test set).

use serde::{Deserialize, Serialize};

use super::clean_set::{self, FINE_TUNE, Split, fine_tune};
use super::{Defense, Facts, Phase, Run};
use crate::engine::{Engine, Source, StepParams};
use crate::error::{Error, Result};
use crate::train::{Batch, Optimizer, TrainConfig, TrainerConfig, share};

const PRUNE: Phase = Phase { key: "prune", label: "pruning" };

/// Settings of fine-pruning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinePruning {
    /// Batch, SGD, augmentation.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// Share of the features that are pruned at a time.
    pub step: f64,
    /// Share of the accuracy that pruning may cost, at least: where two standard errors are more, those.
    pub tolerance: f64,
    /// Fine-tuning.
    pub train: TrainConfig,
}

impl Defense for FinePruning {
    fn defaults(facts: &Facts) -> Result<Self> {
        Ok(Self { trainer: clean_set::trainer(facts), step: 0.01, tolerance: 0.1, train: FINE_TUNE })
    }

    fn check(&self, facts: &Facts) -> Result<()> {
        clean_set::check_split(facts, "fine-pruning")?;
        self.trainer.check()?;
        share("step", 2.0 * self.step).map_err(|_| {
            Error::input(format!("step is {}, but must be above 0 and at most 0.5", self.step))
        })?;
        share("tolerance", self.tolerance)?;
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
        run.step(|run| self.prune(run))?;
        run.step(|run| {
            let mut held = HeldAtZero { pruned: pruned(run.model)? };
            fine_tune(run, run.images.clone(), &self.train, Some(&mut held))
        })?;
        run.end_round()
    }
}

impl FinePruning {
    fn prune(&self, run: &mut Run) -> Result<()> {
        run.enter(PRUNE);
        let split = Split::new(run.images, run.step_seed(1));
        let means = mean_features(run.model, &split)?;
        let mut order: Vec<usize> = (0..means.len()).collect();
        order.sort_by(|&a, &b| means[a].total_cmp(&means[b]));
        let (weight, _) = run.model.graph().head()?;
        let before = split.accuracy(run.model)?;
        let least = split.least(before, self.tolerance);
        let mut kept = run.model.parameters(&weight)?;
        let (mut count, mut after) = (0, before);
        let step = ((means.len() as f64 * self.step).ceil() as usize).max(1);
        for next in (step..means.len()).step_by(step) {
            let mut tried = kept.clone();
            zero_columns(&mut tried, means.len(), &order[..next]);
            run.model.set_parameters(weight.start, &tried)?;
            let accuracy = split.accuracy(run.model)?;
            if accuracy < least {
                break;
            }
            (kept, count, after) = (tried, next, accuracy);
            run.report.progress(next, means.len(), None)?;
        }
        run.model.set_parameters(weight.start, &kept)?;
        let (of, held) = (means.len(), split.held_out());
        run.note(format!(
            "{count} of {of} features pruned: accuracy on {held} held-out images {before:.1} to {after:.1} %"
        ));
        Ok(())
    }
}

/// The mean of each feature over the images that are optimised on, as they are.
fn mean_features(model: &mut Engine, split: &Split) -> Result<Vec<f64>> {
    let features = model.graph().features();
    let all: Vec<u32> = (0..split.kept.len() as u32).collect();
    let mut sums = vec![0.0; features];
    let mut rows_of = vec![0.0; model.rows() * features];
    model.attach(&split.kept)?;
    model.infer(Source::Images, &all, &StepParams::default(), |rows| {
        rows.features(&mut rows_of)?;
        for row in rows_of.chunks_exact(features).take(rows.count) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        Ok(())
    })?;
    Ok(sums.into_iter().map(|sum| sum / all.len() as f64).collect())
}

/// The features that no class reads.
fn pruned(model: &Engine) -> Result<Vec<usize>> {
    let (weight, _) = model.graph().head()?;
    let (values, features) = (model.parameters(&weight)?, model.graph().features());
    Ok((0..features).filter(|&at| values[at..].iter().step_by(features).all(|&value| value == 0.0)).collect())
}

/// Sets the columns `pruned` of the linear layer (classes × features) to zero.
fn zero_columns(weight: &mut [f32], features: usize, pruned: &[usize]) {
    for row in weight.chunks_exact_mut(features) {
        pruned.iter().for_each(|&at| row[at] = 0.0);
    }
}

/// SGD that leaves the pruned features at zero.
struct HeldAtZero {
    pruned: Vec<usize>,
}

impl Optimizer for HeldAtZero {
    fn step(
        &mut self,
        engine: &mut Engine,
        _: Option<&mut Engine>,
        batch: &Batch,
        params: &StepParams,
    ) -> Result<f32> {
        let loss = engine.train_step(batch.source, batch.indices, batch.labels, batch.teacher, params)?;
        let (weight, _) = engine.graph().head()?;
        let mut values = engine.parameters(&weight)?;
        zero_columns(&mut values, engine.graph().features(), &self.pruned);
        engine.set_parameters(weight.start, &values)?;
        Ok(loss)
    }
}
