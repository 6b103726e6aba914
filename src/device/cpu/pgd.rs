//! The attack's start and step, for each image in its own ε-ball.

use rayon::prelude::*;

use super::conv::Threads;
use super::grain;
use super::vectorised::vectorised;
use crate::device::{Norm, StepParams};
use crate::rng::{Purpose, Stream, unit};

/// Bits of a draw's counter left to the position inside an image.
const POSITION_BITS: u32 = 24;

/// Images as rows of `elements`; the ball's norm.
#[derive(Clone, Copy)]
pub(super) struct Ball<'a> {
    pub elements: usize,
    pub norm: Norm,
    pub clean: &'a [f32],
    /// Radius per image.
    pub epsilon: &'a [f32],
}

/// adversarial = clean + a uniform draw from the cube of radius ε (shrunk into the ball for L2),
/// or just clean where there is no random start.
pub(super) fn start(
    ball: Ball,
    indices: &[u32],
    adversarial: &mut [f32],
    params: &StepParams,
    threads: Threads,
) {
    let stream = Stream::new(params.seed, Purpose::AttackStart, params.epoch);
    adversarial
        .par_chunks_mut(ball.elements.max(1))
        .zip(ball.clean.par_chunks(ball.elements.max(1)))
        .zip(ball.epsilon.par_iter().zip(indices.par_iter()))
        .with_min_len(grain(threads))
        .for_each(|((adversarial, clean), (&epsilon, &index))| {
            if !params.random_start {
                adversarial.copy_from_slice(clean);
                return;
            }
            offsets(&stream, index, epsilon, adversarial);
            let shrink = match ball.norm {
                Norm::Linf => 1.0,
                Norm::L2 => shrink_into(epsilon, square_sum(adversarial)),
            };
            add_scaled(adversarial, clean, shrink, bounds(params));
        });
}

/// ε·(2u − 1) for every element of image `index`.
fn offsets(stream: &Stream, index: u32, epsilon: f32, output: &mut [f32]) {
    for (position, four) in output.chunks_mut(4).enumerate() {
        let words = stream.words((u64::from(index) << POSITION_BITS) | position as u64);
        for (value, word) in four.iter_mut().zip(words) {
            *value = epsilon * (2.0 * unit(word) - 1.0);
        }
    }
}

/// One step along the gradient's direction, back into the ball, and into [0, 1] where clamped.
pub(super) fn step(
    ball: Ball,
    gradient: &[f32],
    alpha: &[f32],
    adversarial: &mut [f32],
    params: &StepParams,
    threads: Threads,
) {
    let bounds = bounds(params);
    adversarial
        .par_chunks_mut(ball.elements.max(1))
        .zip(ball.clean.par_chunks(ball.elements.max(1)))
        .zip(gradient.par_chunks(ball.elements.max(1)))
        .zip(ball.epsilon.par_iter().zip(alpha.par_iter()))
        .with_min_len(grain(threads))
        .for_each(|(((adversarial, clean), gradient), (&epsilon, &alpha))| match ball.norm {
            Norm::Linf => step_linf(adversarial, clean, gradient, epsilon, alpha, bounds),
            Norm::L2 => {
                let length = square_sum(gradient).sqrt() as f32;
                // α over less would not be a number.
                let scale = if length >= f32::MIN_POSITIVE { alpha / length } else { 0.0 };
                move_offset(adversarial, clean, gradient, scale);
                let shrink = shrink_into(epsilon, square_sum(adversarial));
                add_scaled(adversarial, clean, shrink, bounds);
            }
        });
}

/// The range of pixels.
fn bounds(params: &StepParams) -> (f32, f32) {
    if params.clamp { (0.0, 1.0) } else { (f32::NEG_INFINITY, f32::INFINITY) }
}

/// The factor that brings an offset of this squared length into the ball.
fn shrink_into(epsilon: f32, square: f64) -> f32 {
    let length = square.sqrt();
    if length > f64::from(epsilon) { (f64::from(epsilon) / length) as f32 } else { 1.0 }
}

vectorised! {
    fn step_linf(
        adversarial: &mut [f32],
        clean: &[f32],
        gradient: &[f32],
        epsilon: f32,
        alpha: f32,
        bounds: (f32, f32),
    ) {
        for ((value, &x), &g) in adversarial.iter_mut().zip(clean).zip(gradient) {
            let sign = f32::from(g > 0.0) - f32::from(g < 0.0);
            let offset = (*value + alpha * sign - x).max(-epsilon).min(epsilon);
            *value = (x + offset).max(bounds.0).min(bounds.1);
        }
    }
}

vectorised! {
    /// adversarial becomes its offset from clean after the step.
    fn move_offset(adversarial: &mut [f32], clean: &[f32], gradient: &[f32], scale: f32) {
        for ((value, &x), &g) in adversarial.iter_mut().zip(clean).zip(gradient) {
            *value = *value + scale * g - x;
        }
    }
}

vectorised! {
    /// The offset, scaled, becomes an image again.
    fn add_scaled(offset: &mut [f32], clean: &[f32], scale: f32, bounds: (f32, f32)) {
        for (value, &x) in offset.iter_mut().zip(clean) {
            *value = (x + scale * *value).max(bounds.0).min(bounds.1);
        }
    }
}

vectorised! {
    /// Σv², in f64 over eight interleaved sums.
    fn square_sum(values: &[f32]) -> f64 {
        let mut sums = [0.0_f64; 8];
        let blocks = values.chunks_exact(8);
        let rest = blocks.remainder();
        for block in blocks {
            for (sum, &v) in sums.iter_mut().zip(block) {
                *sum += f64::from(v) * f64::from(v);
            }
        }
        for (sum, &v) in sums.iter_mut().zip(rest) {
            *sum += f64::from(v) * f64::from(v);
        }
        sums.iter().sum()
    }
}
