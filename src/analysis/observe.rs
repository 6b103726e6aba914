//! Adversarial examples of a model beside triggered images (the paper's Fig. 1 and 3 to 5, Table 5).

use super::confusion::ConfusionMatrix;
use super::features::{features, mean_distance};
use super::transfer::UntargetedAttack;
use crate::backdoor::LabelMode;
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;
use crate::eval::predict;
use crate::train::pgd;

/// Adversarial examples of one model, their predictions and features.
pub struct Observation {
    /// The untargeted adversarial examples.
    pub adversarial: ImageSet,
    /// True labels against the predictions of the adversarial examples.
    pub confusion: ConfusionMatrix,
    /// Features of the clean images, a row for each.
    pub clean_features: Vec<f32>,
    pub adversarial_features: Vec<f32>,
    pub triggered_features: Vec<f32>,
    /// Length of a row of features.
    pub width: usize,
}

/// Attacks `clean` away from its labels and takes the features of the examples and of `triggered`, the same
/// images with the trigger. `progress` gets the number of images that are attacked.
pub fn observe(
    engine: &mut Engine,
    clean: &ImageSet,
    triggered: &ImageSet,
    attack: UntargetedAttack,
    seed: u64,
    progress: &mut dyn FnMut(usize),
) -> Result<Observation> {
    let all: Vec<u32> = (0..clean.len() as u32).collect();
    let mut progress = |count| {
        progress(count);
        Ok(())
    };
    let adversarial = pgd(engine, clean, &all, &attack.config(), seed, &mut progress)?.images;
    let classes = engine.graph().classes();
    let after = predict(engine, &adversarial)?;
    Ok(Observation {
        confusion: ConfusionMatrix::new(classes, &clean.labels, &after),
        clean_features: features(engine, clean)?,
        adversarial_features: features(engine, &adversarial)?,
        triggered_features: features(engine, triggered)?,
        width: engine.graph().features(),
        adversarial,
    })
}

impl Observation {
    /// Share of the examples that end on the attacker's label. All-to-one counts only images of other labels.
    pub fn target_share(&self, mode: LabelMode) -> Option<f64> {
        match mode {
            LabelMode::AllToOne { target } => self.confusion.share_onto(target as usize),
            LabelMode::AllToAll => Some(self.confusion.share_shifted(1)),
        }
    }

    /// Mean distance between the features of an adversarial example and of the triggered image.
    pub fn adversarial_to_triggered(&self) -> Option<f64> {
        mean_distance(&self.adversarial_features, &self.triggered_features, self.width)
    }

    /// The same from the clean image, to compare with.
    pub fn clean_to_triggered(&self) -> Option<f64> {
        mean_distance(&self.clean_features, &self.triggered_features, self.width)
    }
}
