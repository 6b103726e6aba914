//! Untargeted adversarial examples by projected gradient descent (Madry et al., ICLR 2018).

use super::config::PgdConfig;
use crate::data::ImageSet;
use crate::engine::{AttackBatch, Budget, Engine, Source, StepParams};
use crate::error::Result;
use crate::rng::{Purpose, Stream};

/// ε and α of each image: log-uniform in [ε_min, ε_max], drawn by the image's index, so that one
/// setting reaches a patch as well as a warp.
pub fn budgets(config: &PgdConfig, indices: &[u32], seed: u64) -> Vec<Budget> {
    let stream = Stream::new(seed, Purpose::Budget, 0);
    let span = (config.epsilon_max / config.epsilon_min).ln();
    let budget = |&index: &u32| {
        let draw = if span > 0.0 { (span * stream.uniform(u64::from(index), 0)).exp() } else { 1.0 };
        let epsilon = config.epsilon_min * draw / 255.0;
        Budget { epsilon, alpha: epsilon * config.alpha_ratio }
    };
    indices.iter().map(budget).collect()
}

/// The scalars of an attack.
pub fn pgd_params(config: &PgdConfig, seed: u64, epoch: u32) -> StepParams {
    StepParams {
        repeats: config.steps,
        random_start: config.random_start,
        clamp: config.clamp,
        seed,
        epoch,
        ..StepParams::default()
    }
}

/// Adversarial examples of some images.
pub struct Adversarial {
    /// In the order they were asked for, under the labels they came with.
    pub images: ImageSet,
    /// Their mean cross entropy.
    pub loss: f64,
}

/// Adversarial examples of the images at `indices`, as a set of their own with the given labels. Pixels are
/// rounded to u8, as those of any image that reaches a classifier are.
///
/// `progress` gets the number of examples that are done; its error ends the work.
pub fn pgd(
    engine: &mut Engine,
    images: &ImageSet,
    indices: &[u32],
    config: &PgdConfig,
    seed: u64,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Adversarial> {
    engine.attach(images)?;
    let labels: Vec<u32> = indices.iter().map(|&i| images.labels[i as usize]).collect();
    let (len, classes) = (engine.graph().image_len(), engine.graph().classes());
    let rows = engine.rows().min(indices.len());
    let (mut examples, mut logits) = (vec![0.0f32; rows * len], vec![0.0f32; rows * classes]);
    let mut pixels = vec![0u8; indices.len() * len];
    let mut loss = 0.0;
    let batch = AttackBatch {
        source: Source::Images,
        indices,
        labels: &labels,
        budgets: &budgets(config, indices, seed),
        predict: true,
    };
    engine.attack(&batch, &pgd_params(config, seed, 0), |rows| {
        rows.adversarial(&mut examples)?;
        let bytes = &mut pixels[rows.first * len..][..rows.count * len];
        for (byte, value) in bytes.iter_mut().zip(&examples) {
            *byte = (value * 255.0).round().clamp(0.0, 255.0) as u8;
        }
        rows.logits(&mut logits)?;
        let labels = &labels[rows.first..rows.first + rows.count];
        let losses = logits.chunks_exact(classes).zip(labels).map(|(row, &label)| cross_entropy(row, label));
        loss += losses.sum::<f64>();
        progress(rows.first + rows.count)
    })?;
    let node = &engine.graph().nodes[0];
    let (height, width, channels) = (node.height, node.width, node.channels);
    let images = ImageSet { height, width, channels, ..images.subset_with_pixels(indices, pixels) };
    Ok(Adversarial { images, loss: loss / indices.len().max(1) as f64 })
}

/// Cross entropy of one row of logits.
fn cross_entropy(logits: &[f32], label: u32) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    largest + sum.ln() - f64::from(logits[label as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_a_row() {
        let even = cross_entropy(&[3.0; 10], 4);
        assert!((even - 10f64.ln()).abs() < 1e-6, "{even}");
        // ln(1 + e⁻² + e⁻³)
        let sure = cross_entropy(&[1.0, 3.0, 0.0], 1);
        assert!((sure - 0.169_846).abs() < 1e-6, "{sure}");
        assert_eq!(cross_entropy(&[1000.0, -1000.0], 1), 2000.0);
    }
}
