//! Batch norm: the affine map of the running statistics, batch statistics, and the backward pass.
//!
//! Tensors are rows (image × pixel) of channels. Both reductions read their input once, in chunks
//! of rows that depend on the size alone; within a chunk f32 sums of a few rows go to f64 sums, and
//! chunks are added in order, so that any number of threads gives the same bits.

mod backward;
mod sums;

use rayon::prelude::*;

use super::execute::{Context, Execute, ScratchSize};
use super::grain;
use super::simd::{launch, level};
use crate::device::ops::{BatchNormAffine, BatchNormStats};
use crate::error::Result;
use sums::SumDeviations;

/// Elements of a chunk.
const CHUNK: usize = 65_536;

/// Rows of a chunk.
fn chunk_rows(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(1)
}

/// What the reductions need: two f64 sums per channel and chunk.
fn partials_len(rows: usize, channels: usize) -> usize {
    rows.div_ceil(chunk_rows(channels)) * 2 * channels
}

impl Execute for BatchNormAffine {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (gamma, beta, mean, variance) = unsafe {
            (
                frame.input(self.gamma),
                frame.input(self.beta),
                frame.input(self.mean),
                frame.input(self.variance),
            )
        };
        // SAFETY: as above.
        let (scales, shifts) = unsafe { frame.affine_output(self.affine) };
        for c in 0..gamma.len() {
            let scale = f64::from(gamma[c]) / (f64::from(variance[c]) + f64::from(self.epsilon)).sqrt();
            scales[c] = scale as f32;
            shifts[c] = (f64::from(beta[c]) - f64::from(mean[c]) * scale) as f32;
        }
        Ok(())
    }
}

/// The sums are of differences from the first row, so that a large mean costs no digits of the variance.
impl Execute for BatchNormStats {
    fn reserve(&self, capacity: usize, size: &mut ScratchSize) {
        size.partials = size.partials.max(partials_len(self.pixels * capacity, self.channels));
    }

    fn execute(&self, context: &mut Context) -> Result<()> {
        let (frame, channels) = (context.frame, self.channels);
        // SAFETY: the operands were checked.
        let (input, gamma, beta) =
            unsafe { (frame.input(self.input), frame.input(self.gamma), frame.input(self.beta)) };
        let rows = frame.count() * self.pixels;
        let pivot = &input[..channels];
        let len = chunk_rows(channels) * channels;
        let partials = &mut context.scratch.partials[..partials_len(rows, channels)];
        let level = level();
        input
            .par_chunks(len)
            .zip(partials.par_chunks_mut(2 * channels))
            .with_min_len(grain(frame.threads))
            .for_each(|(chunk, sums)| {
                // SAFETY: the level is the machine's.
                unsafe { launch(level, SumDeviations { chunk, pivot, sums }) }
            });
        let (sums, squares) = combine(partials, channels);
        // SAFETY: the operands were checked.
        let (running_mean, running_variance, means, inverse_stds) = unsafe {
            let running = (frame.output(self.running_mean), frame.output(self.running_variance));
            (running.0, running.1, frame.output(self.mean), frame.output(self.inverse_std))
        };
        // SAFETY: as above.
        let (scales, shifts) = unsafe { frame.affine_output(self.affine) };
        let n = rows as f64;
        for c in 0..channels {
            let deviation = sums[c] / n;
            let mean = f64::from(pivot[c]) + deviation;
            let variance = (squares[c] / n - deviation * deviation).max(0.0);
            let unbiased = variance * n / (n - 1.0).max(1.0);
            let inverse_std = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
            let scale = f64::from(gamma[c]) * inverse_std;
            means[c] = mean as f32;
            inverse_stds[c] = inverse_std as f32;
            scales[c] = scale as f32;
            shifts[c] = (f64::from(beta[c]) - mean * scale) as f32;
            let keep = 1.0 - self.momentum;
            running_mean[c] = keep * running_mean[c] + self.momentum * mean as f32;
            running_variance[c] = keep * running_variance[c] + self.momentum * unbiased as f32;
        }
        Ok(())
    }
}

/// Adds the chunks' sums, in order, into the first chunk's.
fn combine(partials: &mut [f64], channels: usize) -> (&[f64], &[f64]) {
    let (total, rest) = partials.split_at_mut(2 * channels);
    for chunk in rest.chunks_exact(2 * channels) {
        for (sum, value) in total.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    total.split_at(channels)
}
