//! Untargeted attacks on a model, and how well the mean perturbation of their examples transfers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::confusion::ConfusionMatrix;
use crate::data::ImageSet;
use crate::engine::{Engine, Norm};
use crate::error::Result;
use crate::eval::predict;
use crate::train::{PgdConfig, pgd};

/// With fewer examples than this on a label, their mean perturbation says nothing.
const MIN_EXAMPLES: usize = 3;

/// One untargeted attack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UntargetedAttack {
    pub norm: Norm,
    /// Radius of the ball: in 1/255 for L∞, in units of [0, 1] for L2.
    pub epsilon: f32,
}

/// The attacks of an inspection. An L2 attack may change a few pixels much (a patch) or all pixels a little.
pub const ATTACKS: [UntargetedAttack; 2] =
    [UntargetedAttack { norm: Norm::L2, epsilon: 1.0 }, UntargetedAttack { norm: Norm::L2, epsilon: 2.0 }];

impl UntargetedAttack {
    /// Seven steps of a quarter of the radius from a random start.
    pub fn config(self) -> PgdConfig {
        let epsilon = if self.norm == Norm::L2 { 255.0 * self.epsilon } else { self.epsilon };
        PgdConfig {
            epsilon_min: epsilon,
            epsilon_max: epsilon,
            alpha_ratio: 0.25,
            steps: 7,
            random_start: true,
            clamp: true,
            every_batch: false,
        }
    }
}

/// What one attack does to the images, and how its perturbations transfer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackStatistics {
    #[serde(flatten)]
    pub attack: UntargetedAttack,
    /// Predictions before and after.
    pub confusion: ConfusionMatrix,
    /// For each label, how the mean perturbation of the examples that end on it transfers.
    pub transfer: Vec<Transfer>,
}

/// Effect of a label's universal perturbation: the mean perturbation of the even-numbered images whose
/// examples end on the label, scaled to their mean length. It is added to the odd-numbered images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Images it is added to: those that aren't predicted as the label.
    pub images: u64,
    /// How many of them are then predicted as the label; 0 if too few examples end on it.
    pub transferred: u64,
}

/// Attacks `images` away from the model's own predictions, with each of `attacks`. All have the norm that the
/// engine was opened for.
///
/// `progress` gets the number of examples that are done; its error ends the work.
pub fn attack_statistics(
    engine: &mut Engine,
    images: &ImageSet,
    attacks: &[UntargetedAttack],
    seed: u64,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<AttackStatistics>> {
    let classes = engine.graph().classes();
    let images = images.with_labels(predict(engine, images)?);
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let mut statistics = Vec::new();
    for (number, &attack) in attacks.iter().enumerate() {
        let first = number * images.len();
        let mut count = |count| progress(first + count);
        let made = pgd(engine, &images, &all, &attack.config(), seed, &mut count)?;
        let after = predict(engine, &made.images)?;
        let confusion = ConfusionMatrix::new(classes, &images.labels, &after);
        let transfer =
            (0..classes as u32).map(|label| transfer(engine, &images, &made.images, &after, label));
        statistics.push(AttackStatistics { attack, confusion, transfer: transfer.collect::<Result<_>>()? });
    }
    Ok(statistics)
}

/// [`Transfer`] from the `examples` of `images` that end on `label`; `after` holds their predictions.
fn transfer(
    engine: &mut Engine,
    images: &ImageSet,
    examples: &ImageSet,
    after: &[u32],
    label: u32,
) -> Result<Transfer> {
    let others = (0..images.len() as u32).filter(|&image| images.labels[image as usize] != label);
    let (even, odd): (Vec<u32>, Vec<u32>) = others.partition(|image| image % 2 == 0);
    let sources: Vec<u32> = even.into_iter().filter(|&image| after[image as usize] == label).collect();
    let mut transfer = Transfer { images: odd.len() as u64, transferred: 0 };
    if sources.len() >= MIN_EXAMPLES {
        let perturbation = mean_perturbation(images, examples, &sources);
        let perturbed = perturbed(images.subset(&odd), &perturbation);
        let predictions = predict(engine, &perturbed)?;
        transfer.transferred = predictions.iter().filter(|&&class| class == label).count() as u64;
    }
    Ok(transfer)
}

/// `images` with `perturbation` added to each.
fn perturbed(mut images: ImageSet, perturbation: &[f64]) -> ImageSet {
    for image in Arc::make_mut(&mut images.pixels).chunks_exact_mut(perturbation.len()) {
        for (byte, change) in image.iter_mut().zip(perturbation) {
            *byte = (f64::from(*byte) + change).round().clamp(0.0, 255.0) as u8;
        }
    }
    images
}

/// The mean perturbation of the images at `which`, scaled to their mean length.
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
        let perturbed = perturbed(set(vec![10, 10, 10, 253, 20, 20]), &[5.4, 0.0, -30.0]);
        assert_eq!(*perturbed.pixels, [15, 10, 0, 255, 20, 0]);
    }
}
