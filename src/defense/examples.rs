//! Step 1a: adversarial examples.

use super::config::AttackConfig;
use super::fine_tune::Next;
use crate::data::ImageSet;
use crate::device::StepParams;
use crate::engine::{AttackBatch, Budget, Engine, Rows, Source};
use crate::error::Result;
use crate::rng::{Purpose, Stream};

/// ε and α of each image: log-uniform in [ε_min, ε_max], drawn by the image's index, so that one
/// setting reaches a patch as well as a warp (recipe.md).
pub fn budgets(attack: &AttackConfig, indices: &[u32], seed: u64) -> Vec<Budget> {
    let stream = Stream::new(seed, Purpose::Budget, 0);
    let span = (attack.epsilon_max / attack.epsilon_min).ln();
    let budget = |&index: &u32| {
        let draw = if span > 0.0 { (span * stream.uniform(u64::from(index), 0)).exp() } else { 1.0 };
        let epsilon = attack.epsilon_min * draw / 255.0;
        Budget { epsilon, alpha: epsilon * attack.alpha_ratio }
    };
    indices.iter().map(budget).collect()
}

/// The scalars of an attack.
pub fn attack_controls(attack: &AttackConfig, seed: u64, epoch: u32) -> StepParams {
    StepParams {
        repeats: attack.steps,
        random_start: attack.random_start,
        clamp: attack.clamp,
        seed,
        epoch,
        ..StepParams::default()
    }
}

/// What step 1a makes.
pub struct Examples {
    /// The adversarial images, in the order they were asked for, under the labels they came with.
    pub images: ImageSet,
    /// Their mean cross entropy.
    pub loss: f64,
}

/// Untargeted PGD examples of the images at `indices`, as a set of their own with the given
/// labels. Pixels are rounded to u8, as any image that reaches a classifier is.
///
/// `done` hears how many are finished, and may stop the work: then there are none.
pub fn examples(
    engine: &mut Engine,
    images: &ImageSet,
    indices: &[u32],
    attack: &AttackConfig,
    seed: u64,
    done: &mut dyn FnMut(usize) -> Next,
) -> Result<Option<Examples>> {
    engine.attach(images)?;
    let labels: Vec<u32> = indices.iter().map(|&i| images.labels[i as usize]).collect();
    let (len, classes) = (engine.graph().image_len(), engine.graph().classes());
    let mut pixels = vec![0u8; indices.len() * len];
    let rows = engine.rows().min(indices.len());
    let (mut chunk, mut logits) = (vec![0.0f32; rows * len], vec![0.0f32; rows * classes]);
    let budgets = budgets(attack, indices, seed);
    let params = attack_controls(attack, seed, 0);
    let target =
        AttackBatch { source: Source::Images, indices, labels: &labels, budgets: &budgets, predict: true };
    let mut loss = 0.0;
    let finished = by_chunk(engine, &target, &params, &mut |first, rows| {
        let bytes = &mut pixels[first * len..][..rows.count * len];
        rows.adversarial(&mut chunk)?;
        for (byte, value) in bytes.iter_mut().zip(&chunk) {
            *byte = (value * 255.0).round().clamp(0.0, 255.0) as u8;
        }
        rows.logits(&mut logits)?;
        let labels = &labels[first..first + rows.count];
        loss +=
            logits.chunks_exact(classes).zip(labels).map(|(row, &label)| loss_of(row, label)).sum::<f64>();
        Ok(done(first + rows.count))
    })?;
    let node = &engine.graph().nodes[0];
    let (height, width, channels) = (node.height, node.width, node.channels);
    let images = ImageSet { height, width, channels, ..images.subset_with_pixels(indices, pixels) };
    Ok(finished.then(|| Examples { images, loss: loss / indices.len().max(1) as f64 }))
}

/// Attacks as many images at a time as staging holds. `visit` sees each chunk with its first
/// position in the target, and may stop; returns whether all was done.
pub(super) fn by_chunk(
    engine: &mut Engine,
    target: &AttackBatch,
    params: &StepParams,
    visit: &mut dyn FnMut(usize, &Rows) -> Result<Next>,
) -> Result<bool> {
    let rows = engine.rows();
    for first in (0..target.indices.len()).step_by(rows) {
        let range = first..target.indices.len().min(first + rows);
        let chunk = AttackBatch {
            indices: &target.indices[range.clone()],
            labels: &target.labels[range.clone()],
            budgets: &target.budgets[range],
            ..*target
        };
        let mut next = Next::Continue;
        engine.attack(&chunk, params, |rows| {
            next = visit(first, &rows)?;
            Ok(())
        })?;
        if next == Next::Stop {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Cross entropy of one row of logits.
fn loss_of(logits: &[f32], label: u32) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    largest + sum.ln() - f64::from(logits[label as usize])
}

/// Index of the largest logit, the first where several are equal.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (class, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = class;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_a_row() {
        let even = loss_of(&[3.0; 10], 4);
        assert!((even - 10f64.ln()).abs() < 1e-6, "{even}");
        // ln(1 + e⁻² + e⁻³)
        let sure = loss_of(&[1.0, 3.0, 0.0], 1);
        assert!((sure - 0.169_846).abs() < 1e-6, "{sure}");
        assert_eq!(loss_of(&[1000.0, -1000.0], 1), 2000.0);
    }
}
