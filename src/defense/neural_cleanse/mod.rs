//! Neural Cleanse (Wang et al., S&P 2019): optimises the smallest trigger towards each label, takes a label whose trigger
//! is much smaller than the others' for the target, and unlearns that trigger.
//!
//! Unlearning is BackdoorBench's: fine-tuning on the clean set, a fifth of which carries the trigger under its true
//! label. Where no label stands out, the model is left as it is.

mod outlier;
mod trigger;

use serde::{Deserialize, Serialize};

use super::clean_set::{self, FINE_TUNE, fine_tune};
use super::{Defense, Facts, Phase, Run};
use crate::data::{ImageSet, SampleSize, stratified_sample};
use crate::engine::EngineOptions;
use crate::error::Result;
use crate::train::{MAX_EPOCHS, TrainConfig, TrainerConfig, positive, share, within};
use outlier::outliers;
#[cfg(test)]
pub(super) use trigger::Adam;
pub(super) use trigger::Search;
use trigger::Trigger;

const REVERSE: Phase = Phase { key: "reverse", label: "optimising triggers" };

/// Settings of Neural Cleanse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeuralCleanse {
    /// Batch, SGD, augmentation; the batch is that of the triggers' images too.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// Passes over the clean set for each label at most.
    pub passes: usize,
    /// Adam's learning rate for a trigger.
    pub learning_rate: f32,
    /// Share of the images that a trigger has to move to its label.
    pub success: f64,
    /// Share of the clean set that carries the trigger in unlearning.
    pub stamped: f64,
    /// Unlearning.
    pub train: TrainConfig,
}

impl Defense for NeuralCleanse {
    fn defaults(facts: &Facts) -> Result<Self> {
        let trainer = clean_set::trainer(facts);
        Ok(Self { trainer, passes: 80, learning_rate: 0.1, success: 0.98, stamped: 0.2, train: FINE_TUNE })
    }

    fn check(&self, _: &Facts) -> Result<()> {
        self.trainer.check()?;
        within("passes", self.passes, 1..=MAX_EPOCHS)?;
        positive("learning_rate", self.learning_rate)?;
        share("success", self.success)?;
        share("stamped", self.stamped)?;
        self.train.check("train")
    }

    fn unused(&self, _: &Facts) -> Vec<(String, &'static str)> {
        self.train.unused("train")
    }

    fn trainer(&self) -> &TrainerConfig {
        &self.trainer
    }

    fn engine_options(&self) -> EngineOptions {
        EngineOptions { external_inputs: true, ..self.trainer.engine_options() }
    }

    fn images_made(&self, images: usize, _: bool) -> usize {
        images
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        clean_set::begin(run)?;
        run.step(|run| self.reverse(run))?;
        run.step(|run| {
            let triggers = self.triggers(run);
            let targets = outliers(&norms(&triggers));
            if targets.is_empty() {
                return Ok(());
            }
            let targets = targets.into_iter().map(|label| (label, &triggers[label]));
            let images = self.stamp(run, targets)?;
            fine_tune(run, images, &self.train, None)
        })?;
        run.end_round()
    }
}

impl NeuralCleanse {
    /// A trigger for every label, into the run's variables; an interrupted run goes on with the next label.
    fn reverse(&self, run: &mut Run) -> Result<()> {
        run.enter(REVERSE);
        let (classes, len) = (run.images.classes.len(), Trigger::len(run.images));
        let (images, seed) = (run.images.clone(), run.step_seed(1));
        run.model.attach(&images)?;
        for label in run.state.variables.len() / len..classes {
            let mut search = Search::new(self, &images, label as u32, seed);
            for pass in 0..self.passes {
                let more = search.pass(run.model)?;
                run.report.progress(
                    label * self.passes + pass + 1,
                    classes * self.passes,
                    Some(search.loss),
                )?;
                if !more {
                    break;
                }
            }
            run.state.variables.extend(search.best().to_values());
        }
        // With this step, which is done once: a training that is interrupted begins its step again.
        self.tell(run);
        Ok(())
    }

    fn triggers(&self, run: &Run) -> Vec<Trigger> {
        let values = run.state.variables.chunks_exact(Trigger::len(run.images));
        values.map(|values| Trigger::from_values(values, run.images)).collect()
    }

    fn tell(&self, run: &mut Run) {
        let norms = norms(&self.triggers(run));
        let targets = outliers(&norms);
        let classes = run.images.classes.clone();
        let sizes = classes.iter().zip(&norms).map(|(class, norm)| format!("{class} {norm:.1}"));
        run.note(format!("sizes of the triggers (L1 of the mask): {}", sizes.collect::<Vec<_>>().join(", ")));
        let names: Vec<&str> = targets.iter().map(|&label| classes[label].as_str()).collect();
        run.note(match names.is_empty() {
            true => "no label's trigger is much smaller than the others': the model is as it was".into(),
            false => format!("target by its trigger: {}", names.join(", ")),
        });
    }

    /// The clean set, a part of it with each target's trigger under its true labels.
    fn stamp<'t>(&self, run: &Run, targets: impl Iterator<Item = (usize, &'t Trigger)>) -> Result<ImageSet> {
        let mut pixels = run.images.pixels.to_vec();
        for (label, trigger) in targets {
            let (size, seed) =
                (SampleSize::Fraction(self.stamped), run.step_seed(2).wrapping_add(label as u64));
            let (taken, _) = stratified_sample(&run.images.labels, size, seed);
            for index in taken {
                let at = index as usize * run.images.image_len();
                trigger.stamp_bytes(&mut pixels[at..at + run.images.image_len()]);
            }
        }
        Ok(ImageSet { pixels: pixels.into(), ..run.images.clone() })
    }
}

fn norms(triggers: &[Trigger]) -> Vec<f32> {
    triggers.iter().map(Trigger::norm).collect()
}
