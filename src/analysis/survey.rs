//! Untargeted attacks on a model, and what their examples have in common.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::landing::Landing;
use crate::data::ImageSet;
use crate::defense::config::AttackConfig;
use crate::defense::examples::examples;
use crate::defense::fine_tune::Next;
use crate::defense::rank::answers;
use crate::device::Norm;
use crate::engine::Engine;
use crate::error::Result;
use crate::report::logits;

/// Fewer examples than this on a label have nothing in common.
const LANDED: usize = 3;

/// One untargeted attack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// The ball.
    pub norm: Norm,
    /// Its radius: in 1/255 for L∞, in units of [0, 1] for L2.
    pub epsilon: f32,
}

/// The attacks of an inspection. L2 lets them spend everything on a few pixels, where a patch is, as well
/// as on the whole image.
pub const PASSES: [Pass; 2] = [Pass { norm: Norm::L2, epsilon: 1.0 }, Pass { norm: Norm::L2, epsilon: 2.0 }];

impl Pass {
    /// Seven steps of a quarter of the radius from a random start.
    pub(super) fn attack(self) -> AttackConfig {
        let epsilon = if self.norm == Norm::L2 { 255.0 * self.epsilon } else { self.epsilon };
        AttackConfig {
            epsilon_min: epsilon,
            epsilon_max: epsilon,
            alpha_ratio: 0.25,
            steps: 7,
            random_start: true,
            clamp: true,
            limit: 0,
            every_batch: false,
        }
    }
}

/// What one attack did to the images, and what its examples have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// The attack.
    #[serde(flatten)]
    pub pass: Pass,
    /// The model's answers before and after.
    pub landing: Landing,
    /// By label, what the common perturbation of the examples that landed on it does.
    pub common: Vec<Common>,
}

/// The common perturbation of some examples is the mean of what was done to them, made as long as they
/// are on average. The examples are of images at even places; it is put on the images at odd places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// Images it was put on: those with another answer than the label.
    pub images: u64,
    /// How many of them then have the label; 0 where too few examples landed on it.
    pub taken: u64,
}

/// Attacks `images` away from the engine's own answers, by each of `passes`, all of the norm that the
/// engine was opened for.
///
/// `done` hears how many attacks are finished, and may stop the work: then there is no result.
pub fn survey(
    engine: &mut Engine,
    images: &ImageSet,
    passes: &[Pass],
    seed: u64,
    done: &mut dyn FnMut(usize) -> Next,
) -> Result<Option<Vec<Survey>>> {
    let classes = engine.graph().classes();
    let before = answers(&logits(engine, images)?, classes);
    let images = images.with_labels(before);
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let mut surveys = Vec::new();
    for (number, &pass) in passes.iter().enumerate() {
        let first = number * images.len();
        let made = examples(engine, &images, &all, &pass.attack(), seed, &mut |count| done(first + count))?;
        let Some(made) = made else { return Ok(None) };
        let after = answers(&logits(engine, &made.images)?, classes);
        let landing = Landing::new(classes, &images.labels, &after);
        let common = (0..classes as u32).map(|label| common(engine, &images, &made.images, &after, label));
        surveys.push(Survey { pass, landing, common: common.collect::<Result<_>>()? });
    }
    Ok(Some(surveys))
}

/// [`Common`] of the `examples` of `images` that landed on `label`; `after` has the answers to them.
fn common(
    engine: &mut Engine,
    images: &ImageSet,
    examples: &ImageSet,
    after: &[u32],
    label: u32,
) -> Result<Common> {
    let others = (0..images.len() as u32).filter(|&image| images.labels[image as usize] != label);
    let (even, odd): (Vec<u32>, Vec<u32>) = others.partition(|image| image % 2 == 0);
    let landed: Vec<u32> = even.into_iter().filter(|&image| after[image as usize] == label).collect();
    let mut common = Common { images: odd.len() as u64, taken: 0 };
    if landed.len() >= LANDED {
        let perturbation = mean_perturbation(images, examples, &landed);
        let moved = moved(images.subset(&odd), &perturbation);
        let answers = answers(&logits(engine, &moved)?, engine.graph().classes());
        common.taken = answers.iter().filter(|&&answer| answer == label).count() as u64;
    }
    Ok(common)
}

/// `images` with `perturbation` put on each.
fn moved(mut images: ImageSet, perturbation: &[f64]) -> ImageSet {
    for image in Arc::make_mut(&mut images.pixels).chunks_exact_mut(perturbation.len()) {
        for (byte, change) in image.iter_mut().zip(perturbation) {
            *byte = (f64::from(*byte) + change).round().clamp(0.0, 255.0) as u8;
        }
    }
    images
}

/// The mean of what was done to the images at `which`, as long as their mean length.
fn mean_perturbation(images: &ImageSet, examples: &ImageSet, which: &[u32]) -> Vec<f64> {
    let (mut mean, mut lengths) = (vec![0.0; images.image_len()], 0.0);
    for &image in which {
        let (image, mut square) = (image as usize, 0.0);
        for (sum, (&to, &from)) in mean.iter_mut().zip(examples.image(image).iter().zip(images.image(image)))
        {
            let change = f64::from(to) - f64::from(from);
            *sum += change;
            square += change * change;
        }
        lengths += square.sqrt();
    }
    let length = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
    let factor = if length > 0.0 { lengths / which.len() as f64 / length } else { 0.0 };
    mean.iter_mut().for_each(|value| *value *= factor);
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_have_the_words_that_people_use() {
        let words = serde_json::to_string(&[Norm::Linf, Norm::L2]).unwrap();
        assert_eq!(words, r#"["linf","l2"]"#);
        assert_eq!(serde_json::from_str::<[Norm; 2]>(&words).unwrap(), [Norm::Linf, Norm::L2]);
    }

    /// Two examples that share a change of one pixel and differ in another.
    #[test]
    fn the_mean_perturbation_is_as_long_as_its_parts() {
        let set = |pixels: Vec<u8>| ImageSet {
            pixels: Arc::new(pixels),
            labels: Arc::new(vec![0, 0]),
            names: Arc::new(vec![String::new(); 2]),
            classes: Arc::new(vec!["a".into()]),
            height: 1,
            width: 3,
            channels: 1,
        };
        let mean = mean_perturbation(
            &set(vec![10, 10, 10, 20, 20, 20]),
            &set(vec![13, 14, 10, 23, 16, 20]),
            &[0, 1],
        );
        assert_eq!(mean, [5.0, 0.0, 0.0]);
        let moved = moved(set(vec![10, 10, 10, 253, 20, 20]), &[5.4, 0.0, -30.0]);
        assert_eq!(*moved.pixels, [15, 10, 0, 255, 20, 0]);
    }
}
