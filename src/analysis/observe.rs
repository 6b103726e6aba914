//! Adversarial examples of a model beside triggered images (the paper's Fig. 1 and 3 to 5, Table 5).

use super::features::{features, mean_distance};
use super::landing::Landing;
use super::survey::Pass;
use crate::backdoor::LabelMode;
use crate::data::ImageSet;
use crate::defense::examples::examples;
use crate::defense::fine_tune::Next;
use crate::defense::rank::answers;
use crate::engine::Engine;
use crate::error::Result;
use crate::report::logits;

/// What is seen of one model.
pub struct Observed {
    /// The untargeted adversarial examples.
    pub adversarial: ImageSet,
    /// True labels against the answers to the adversarial examples.
    pub landing: Landing,
    /// Of the clean images, a row each.
    pub clean: Vec<f32>,
    /// Of the adversarial examples.
    pub attacked: Vec<f32>,
    /// Of the triggered images.
    pub triggered: Vec<f32>,
    /// Numbers of a row.
    pub width: usize,
}

/// Attacks `clean` away from its labels with `pass`, and looks at the features of the examples and of
/// `triggered`, the same images with the trigger. `done` hears how many images are attacked.
pub fn observe(
    engine: &mut Engine,
    clean: &ImageSet,
    triggered: &ImageSet,
    pass: Pass,
    seed: u64,
    done: &mut dyn FnMut(usize),
) -> Result<Observed> {
    let all: Vec<u32> = (0..clean.len() as u32).collect();
    let mut go_on = |count| {
        done(count);
        Next::Continue
    };
    let made = examples(engine, clean, &all, &pass.attack(), seed, &mut go_on)?;
    let adversarial = made.map_or_else(|| clean.subset(&[]), |made| made.images);
    let classes = engine.graph().classes();
    let landed = answers(&logits(engine, &adversarial)?, classes);
    Ok(Observed {
        landing: Landing::new(classes, &clean.labels, &landed),
        clean: features(engine, clean)?,
        attacked: features(engine, &adversarial)?,
        triggered: features(engine, triggered)?,
        width: engine.graph().features(),
        adversarial,
    })
}

impl Observed {
    /// Share of the examples that land on the attacker's label: under all-to-one of those whose own
    /// label is another one.
    pub fn onto_target(&self, mode: LabelMode) -> Option<f64> {
        match mode {
            LabelMode::AllToOne { target } => self.landing.onto(target as usize),
            LabelMode::AllToAll => Some(self.landing.further(1)),
        }
    }

    /// Mean distance between the features of an adversarial example and of the triggered image.
    pub fn to_triggered(&self) -> Option<f64> {
        mean_distance(&self.attacked, &self.triggered, self.width)
    }

    /// The same for the clean image: what the distance of the adversarial example is to be compared with.
    pub fn clean_to_triggered(&self) -> Option<f64> {
        mean_distance(&self.clean, &self.triggered, self.width)
    }
}
