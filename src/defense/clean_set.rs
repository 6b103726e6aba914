//! What the defences share that need a clean set: BackdoorBench's settings, fine-tuning on all of it, and the part that
//! is held out for decisions.

use super::run::sample;
use super::{Facts, Phase, Recipe, Run, TrainingSet};
use crate::data::{ImageSet, SampleSize, stratified_sample};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::eval::{accuracy, predict};
use crate::train::{Optimizer, TrainConfig, TrainerConfig};

const FINE_TUNING: Phase = Phase { key: "clean", label: "fine-tuning" };

/// Share of the clean set that decisions look at; the rest is what is optimised on.
const HELD_OUT: f64 = 0.2;
/// Images that a clean set has at least where a part is held out.
const SMALLEST: usize = 5;

/// Refuses what these defences don't have: no clean set, another recipe, rounds.
pub(super) fn check_facts(facts: &Facts, name: &str) -> Result<()> {
    let refuse = |cause| Err(Error::input(format!("--defense {name}: {cause}")));
    match facts {
        Facts { clean_set: false, .. } => refuse("it needs a clean set, --clean"),
        Facts { recipe: Recipe::Paper, .. } | Facts { rounds: Some(_), .. } => {
            refuse("it has one recipe and one round")
        }
        Facts { images: Some(0), .. } => refuse("the clean set has no image"),
        _ => Ok(()),
    }
}

/// BackdoorBench's batch and SGD.
pub(super) fn trainer(facts: &Facts) -> TrainerConfig {
    TrainerConfig { batch: 256, nesterov: false, flip: facts.allows_flip, ..TrainerConfig::default() }
}

/// BackdoorBench's fine-tuning: 100 epochs from 0.01 down to 0, along a cosine.
pub(super) const FINE_TUNE: TrainConfig =
    TrainConfig { epochs: 100, learning_rate: 0.01, ..TrainConfig::PLAIN };

/// Begins the only round, which takes all images, as its first step.
pub(super) fn begin(run: &mut Run) -> Result<()> {
    run.begin_round(0);
    run.step(|run| {
        run.state.selected = (0..run.images.len() as u32).collect();
        run.start_round()
    })
}

/// Trains on `images`, in steps of SGD or of `optimizer`.
pub(super) fn fine_tune(
    run: &mut Run,
    images: ImageSet,
    config: &TrainConfig,
    optimizer: Option<&mut dyn Optimizer>,
) -> Result<()> {
    let seed = run.step_seed(0);
    let indices = sample(&run.state.selected, config.limit, seed);
    let set = TrainingSet { images, indices, attack: None, seed };
    run.train_with(FINE_TUNING, &set, config, optimizer)
}

/// Refuses a clean set that can't be split.
pub(super) fn check_split(facts: &Facts, name: &str) -> Result<()> {
    match facts.images.filter(|&images| images < SMALLEST) {
        Some(images) => Err(Error::input(format!(
            "--defense {name}: a clean set of {images} images, of which a fifth is held out, is too small: it needs {SMALLEST}"
        ))),
        None => Ok(()),
    }
}

/// A clean set in two parts.
pub(super) struct Split {
    /// What is optimised on.
    pub kept: ImageSet,
    /// What decisions look at.
    held: ImageSet,
}

impl Split {
    /// Four fifths and one fifth, class proportions kept.
    pub fn new(images: &ImageSet, seed: u64) -> Self {
        let (held, kept) = stratified_sample(&images.labels, SampleSize::Fraction(HELD_OUT), seed);
        Self { kept: images.subset(&kept), held: images.subset(&held) }
    }

    /// Images that decisions look at.
    pub fn held_out(&self) -> usize {
        self.held.len()
    }

    /// Accuracy on the part held out, in per cent.
    pub fn accuracy(&self, model: &mut Engine) -> Result<f64> {
        Ok(accuracy(&predict(model, &self.held)?, &self.held.labels).unwrap_or(0.0))
    }

    /// The least accuracy that a decision may leave of `accuracy`: less by `relative`, or by two standard errors where
    /// these are more. A smaller loss can't be told from none on so few images.
    pub fn least(&self, accuracy: f64, relative: f64) -> f64 {
        let (share, count) = (accuracy / 100.0, self.held.len() as f64);
        let errors = 200.0 * (share * (1.0 - share) / count).sqrt();
        accuracy - errors.max(accuracy * relative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_keeps_proportions_and_its_tolerance_follows_its_size() {
        let images = ImageSet::noise(2500, 4, 3, 10);
        let split = Split::new(&images, 3);
        assert_eq!((split.kept.len(), split.held.len()), (2000, 500));
        // 500 images at 90 %: a standard error of 1.34 points.
        assert!((split.least(90.0, 0.0) - (90.0 - 2.683)).abs() < 0.01);
        assert!((split.least(90.0, 0.1) - 81.0).abs() < 1e-9);
    }

    #[test]
    fn too_small_a_clean_set_is_refused() {
        let facts = |images| Facts { images: Some(images), ..Facts::new(true) };
        let message = check_split(&facts(4), "anp").unwrap_err().to_string();
        assert!(message.contains("--defense anp: a clean set of 4 images"), "{message}");
        assert!(check_split(&facts(5), "anp").is_ok() && check_facts(&facts(0), "ft").is_err());
    }
}
