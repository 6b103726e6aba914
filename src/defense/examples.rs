//! Step 1a: adversarial examples, and the survivors filter that reads them backwards.

use std::sync::Arc;

use super::config::{AttackConfig, FilterPass};
use crate::data::ImageSet;
use crate::device::Controls;
use crate::engine::{Attacked, Budget, Engine, Source};
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
pub fn attack_controls(attack: &AttackConfig, seed: u64, epoch: u32) -> Controls {
    Controls {
        repeats: attack.steps,
        random_start: attack.random_start,
        clamp: attack.clamp,
        seed,
        epoch,
        ..Controls::default()
    }
}

/// Untargeted PGD examples of the images at `indices`, as a set of their own with the given
/// labels. Pixels are rounded to u8, as any image that reaches a classifier is.
///
/// `done` hears how many are finished.
pub fn examples(
    engine: &mut Engine,
    images: &ImageSet,
    indices: &[u32],
    attack: &AttackConfig,
    seed: u64,
    done: &mut dyn FnMut(usize),
) -> Result<ImageSet> {
    engine.attach(images)?;
    let picked = images.subset(indices);
    let len = engine.graph().image_len();
    let mut pixels = vec![0u8; indices.len() * len];
    let mut chunk = vec![0.0f32; engine.rows().min(indices.len()) * len];
    let budgets = budgets(attack, indices, seed);
    let controls = attack_controls(attack, seed, 0);
    let target = Attacked {
        source: Source::Images,
        indices,
        labels: &picked.labels,
        budgets: &budgets,
        predict: false,
    };
    engine.attack(&target, &controls, |rows| {
        let count = rows.count * len;
        rows.adversarial(&mut chunk);
        let bytes = &mut pixels[rows.first * len..][..count];
        for (byte, value) in bytes.iter_mut().zip(&chunk[..count]) {
            *byte = (value * 255.0).round().clamp(0.0, 255.0) as u8;
        }
        done(rows.first + rows.count);
    })?;
    let node = &engine.graph().nodes[0];
    Ok(ImageSet {
        pixels: Arc::new(pixels),
        height: node.height,
        width: node.width,
        channels: node.channels,
        ..picked
    })
}

/// Which of the images at `indices` keep their label under every step of one of the passes: a
/// trigger holds a poisoned image's label in place where a clean image's gives way.
pub fn survivors(
    engine: &mut Engine,
    images: &ImageSet,
    indices: &[u32],
    passes: &[FilterPass],
    seed: u64,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<bool>> {
    engine.attach(images)?;
    let labels: Vec<u32> = indices.iter().map(|&i| images.labels[i as usize]).collect();
    let classes = engine.graph().classes();
    let mut survived = vec![false; indices.len()];
    let mut logits = vec![0.0; engine.rows().min(indices.len()) * classes];
    for (number, pass) in passes.iter().enumerate() {
        let epsilon = pass.epsilon / 255.0;
        let budgets = vec![Budget { epsilon, alpha: epsilon / 4.0 }; indices.len()];
        let controls = Controls { repeats: pass.steps, seed, epoch: number as u32, ..Controls::default() };
        let target =
            Attacked { source: Source::Images, indices, labels: &labels, budgets: &budgets, predict: true };
        engine.attack(&target, &controls, |rows| {
            rows.logits(&mut logits);
            for row in 0..rows.count {
                let answer = argmax(&logits[row * classes..][..classes]);
                survived[rows.first + row] |= answer == labels[rows.first + row];
            }
            done(number * indices.len() + rows.first + rows.count);
        })?;
    }
    Ok(survived)
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
