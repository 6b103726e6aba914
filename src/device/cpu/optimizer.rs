//! Updates of the flat parameter buffer.

use rayon::prelude::*;

use super::execute::{Context, Execute};
use super::grain;
use super::simd::vectorised;
use crate::device::ops::{Adam, MovingAverage, Sgd};
use crate::device::{ADAM_EPSILON, StepParams};
use crate::error::Result;

/// Elements a task updates.
const CHUNK: usize = 16_384;

/// As PyTorch's SGD; the momentum begins at zero, so that the first step is the gradient.
impl Execute for Sgd {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (weights, gradients, velocity) =
            unsafe { (frame.output(self.weights), frame.input(self.gradients), frame.output(self.momentum)) };
        weights
            .par_chunks_mut(CHUNK)
            .zip(gradients.par_chunks(CHUNK))
            .zip(velocity.par_chunks_mut(CHUNK))
            .with_min_len(grain(frame.threads))
            .for_each(|((w, g), v)| sgd_chunk(w, g, v, frame.params));
        Ok(())
    }
}

vectorised! {
    fn sgd_chunk(weights: &mut [f32], gradients: &[f32], velocity: &mut [f32], params: &StepParams) {
        let StepParams { learning_rate, momentum, weight_decay, nesterov, .. } = *params;
        for ((w, &gradient), v) in weights.iter_mut().zip(gradients).zip(velocity) {
            let g = gradient + weight_decay * *w;
            *v = momentum * *v + g;
            let step = if nesterov { g + momentum * *v } else { *v };
            *w -= learning_rate * step;
        }
    }
}

impl Execute for Adam {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (weights, gradients) = unsafe { (frame.output(self.weights), frame.input(self.gradients)) };
        // SAFETY: as above.
        let (first, second) = unsafe { (frame.output(self.first), frame.output(self.second)) };
        let (rate, correction) = frame.params.adam_scales();
        let scales = (rate as f32, correction as f32);
        weights
            .par_chunks_mut(CHUNK)
            .zip(gradients.par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
            .with_min_len(grain(frame.threads))
            .for_each(|((w, g), (m, v))| adam_chunk(w, g, m, v, frame.params.betas, scales));
        Ok(())
    }
}

vectorised! {
    fn adam_chunk(
        weights: &mut [f32],
        gradients: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        betas: (f32, f32),
        scales: (f32, f32),
    ) {
        let ((b1, b2), (rate, correction)) = (betas, scales);
        for (((w, &g), m), v) in weights.iter_mut().zip(gradients).zip(first).zip(second) {
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *w -= rate * *m / (v.sqrt() * correction + ADAM_EPSILON);
        }
    }
}

impl Execute for MovingAverage {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        let decay = frame.params.average_decay;
        if decay <= 0.0 {
            return Ok(());
        }
        // SAFETY: the operands were checked.
        let (average, weights) = unsafe { (frame.output(self.average), frame.input(self.weights)) };
        average
            .par_chunks_mut(CHUNK)
            .zip(weights.par_chunks(CHUNK))
            .with_min_len(grain(frame.threads))
            .for_each(|(a, w)| average_chunk(a, w, decay));
        Ok(())
    }
}

vectorised! {
    fn average_chunk(average: &mut [f32], weights: &[f32], decay: f32) {
        let rest = 1.0 - decay;
        for (a, &w) in average.iter_mut().zip(weights) {
            *a = decay * *a + rest * w;
        }
    }
}
