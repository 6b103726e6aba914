//! The attack's start and step, for each image in its own ε-ball.

use rayon::prelude::*;

use super::execute::{Context, Execute};
use super::grain;
use super::simd::vectorised;
use crate::device::ops::{PgdStart, PgdStep};
use crate::device::{Norm, StepParams};
use crate::error::Result;
use crate::rng::{Purpose, Stream, unit};

/// Bits of a draw's counter left to the position inside an image.
const POSITION_BITS: u32 = 24;

impl Execute for PgdStart {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        let params = frame.params;
        // SAFETY: the operands were checked.
        let (clean, epsilon, indices, adversarial) = unsafe {
            let (clean, epsilon) = (frame.input(self.clean), frame.input(self.epsilon));
            (clean, epsilon, frame.words(self.indices), frame.output(self.adversarial))
        };
        let stream = Stream::new(params.seed, Purpose::AttackStart, params.epoch);
        adversarial
            .par_chunks_mut(self.elements.max(1))
            .zip(clean.par_chunks(self.elements.max(1)))
            .zip(epsilon.par_iter().zip(indices.par_iter()))
            .with_min_len(grain(frame.threads))
            .for_each(|((adversarial, clean), (&epsilon, &index))| {
                if !params.random_start {
                    adversarial.copy_from_slice(clean);
                    return;
                }
                offsets(&stream, index, epsilon, adversarial);
                let shrink = match self.norm {
                    Norm::Linf => 1.0,
                    Norm::L2 => shrink_into(epsilon, square_sum(adversarial)),
                };
                add_scaled(adversarial, clean, shrink, bounds(params));
            });
        Ok(())
    }
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

impl Execute for PgdStep {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (clean, gradient, adversarial) =
            unsafe { (frame.input(self.clean), frame.input(self.gradient), frame.output(self.adversarial)) };
        // SAFETY: as above.
        let (epsilon, alpha) = unsafe { (frame.input(self.epsilon), frame.input(self.alpha)) };
        let bounds = bounds(frame.params);
        adversarial
            .par_chunks_mut(self.elements.max(1))
            .zip(clean.par_chunks(self.elements.max(1)))
            .zip(gradient.par_chunks(self.elements.max(1)))
            .zip(epsilon.par_iter().zip(alpha.par_iter()))
            .with_min_len(grain(frame.threads))
            .for_each(|(((adversarial, clean), gradient), (&epsilon, &alpha))| match self.norm {
                Norm::Linf => step_linf(adversarial, clean, gradient, epsilon, alpha, bounds),
                Norm::L2 => {
                    let length = square_sum(gradient).sqrt() as f32;
                    // α over a smaller length could overflow.
                    let scale = if length >= f32::MIN_POSITIVE { alpha / length } else { 0.0 };
                    move_offset(adversarial, clean, gradient, scale);
                    let shrink = shrink_into(epsilon, square_sum(adversarial));
                    add_scaled(adversarial, clean, shrink, bounds);
                }
            });
        Ok(())
    }
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
