//! The attack success rate without the trigger, from the suspected images.
//!
//! What the suspected images of a label have in common beyond the other images is the trigger, where it is the same
//! picture or patch in all of them: their mean difference. Put on other images it should send them to the label in the
//! infected model. Where it does, the rate of the purified model is comparable with the one before; where it doesn't (a
//! warp, a trigger of its own for each image, several labels), there is no estimate.

use serde::{Deserialize, Serialize};

use super::suspects::Suspects;
use super::transfer::perturbed;
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;
use crate::eval::predict;

/// The mean difference counts as a trigger where it sends so many images to the label, in per cent.
const WORKS: f64 = 50.0;
/// Images that the mean difference is put on, at most.
const TESTED: usize = 1000;

/// An attack success rate without a trigger, in per cent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AsrEstimate {
    /// Images that it was measured on.
    pub images: u64,
    /// Of the infected model.
    pub before: f64,
    /// Of the purified model.
    pub after: f64,
}

/// The rate before and after for the attacker's label `target`, and the mean difference: a number for each byte, in grey
/// levels. None where no mean difference works in the infected model.
pub fn estimate_asr(
    infected: &mut Engine,
    purified: &mut Engine,
    images: &ImageSet,
    suspects: &Suspects,
    target: u32,
) -> Result<Option<(AsrEstimate, Vec<f64>)>> {
    let label = |i: u32| images.labels[i as usize];
    let ours: Vec<u32> = suspects.images.iter().copied().filter(|&i| label(i) == target).collect();
    let unsuspected = suspects.unsuspected();
    let (same, others): (Vec<u32>, Vec<u32>) = unsuspected.iter().partition(|&&i| label(i) == target);
    let right = |&i: &u32| suspects.predictions[i as usize] == label(i);
    let others: Vec<u32> = others.into_iter().filter(right).collect();
    let step = others.len().div_ceil(TESTED).max(1);
    let others = images.subset(&others.into_iter().step_by(step).collect::<Vec<u32>>());
    let mut best: Option<(AsrEstimate, Vec<f64>)> = None;
    // A clean-label attack poisons images of the target alone.
    for background in [&unsuspected, &same] {
        let difference = difference(images, &ours, background);
        let stamped = perturbed(others.clone(), &difference);
        let before = share(&predict(infected, &stamped)?, target);
        if before >= WORKS && best.as_ref().is_none_or(|(best, _)| best.before < before) {
            let after = share(&predict(purified, &stamped)?, target);
            best = Some((AsrEstimate { images: others.len() as u64, before, after }, difference));
        }
    }
    Ok(best)
}

/// The mean of one set of images minus that of another, for each byte.
fn difference(images: &ImageSet, of: &[u32], from: &[u32]) -> Vec<f64> {
    let mean = |indices: &[u32]| {
        let mut sum = vec![0.0; images.image_len()];
        for &index in indices {
            sum.iter_mut().zip(images.image(index as usize)).for_each(|(sum, &byte)| *sum += f64::from(byte));
        }
        sum.iter_mut().for_each(|sum| *sum /= indices.len().max(1) as f64);
        sum
    };
    mean(of).into_iter().zip(mean(from)).map(|(of, from)| of - from).collect()
}

/// Per cent of the predictions that are `label`.
fn share(predictions: &[u32], label: u32) -> f64 {
    let count = predictions.iter().filter(|&&class| class == label).count();
    100.0 * count as f64 / predictions.len().max(1) as f64
}
