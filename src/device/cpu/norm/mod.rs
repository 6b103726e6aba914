//! Batch norm: the affine map of the running statistics, batch statistics, and the backward pass.
//!
//! Tensors are rows (image × pixel) of channels. Both reductions read their input once, in chunks
//! of rows that depend on the size alone; within a chunk f32 sums of a few rows go to f64 sums, and
//! chunks are added in order, so that any number of threads gives the same bits.

mod backward;
mod sums;

use rayon::prelude::*;

use super::conv::Threads;
use super::grain;
use super::simd::launch;
use super::vectorised::level;
pub(super) use backward::{Backward, Images, Room, dgrad};
use sums::SumDeviations;

/// Elements of a chunk.
const CHUNK: usize = 65_536;

/// Rows of a chunk.
fn chunk_rows(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(1)
}

/// What the reductions need: two f64 sums per channel and chunk.
pub(super) fn partials_len(rows: usize, channels: usize) -> usize {
    rows.div_ceil(chunk_rows(channels)) * 2 * channels
}

/// What the backward pass needs: three coefficients per channel.
pub(super) fn coefficients_len(channels: usize) -> usize {
    3 * channels
}

/// An affine map per channel, and what it is derived from.
pub(super) struct AffineOutputs<'a> {
    pub scale: &'a mut [f32],
    pub shift: &'a mut [f32],
}

/// scale = gamma / sqrt(variance + epsilon), shift = beta − mean · scale.
pub(super) fn affine(
    gamma: &[f32],
    beta: &[f32],
    mean: &[f32],
    variance: &[f32],
    epsilon: f32,
    out: AffineOutputs,
) {
    for c in 0..gamma.len() {
        let scale = f64::from(gamma[c]) / (f64::from(variance[c]) + f64::from(epsilon)).sqrt();
        out.scale[c] = scale as f32;
        out.shift[c] = (f64::from(beta[c]) - f64::from(mean[c]) * scale) as f32;
    }
}

/// Operands of the batch statistics beside the input.
pub(super) struct Statistics<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub momentum: f32,
    pub epsilon: f32,
    pub running_mean: &'a mut [f32],
    pub running_variance: &'a mut [f32],
    pub mean: &'a mut [f32],
    pub inverse_std: &'a mut [f32],
    pub affine: AffineOutputs<'a>,
}

/// Mean and variance over all rows, and everything derived from them. The sums are of differences
/// from the first row, so that a large mean costs no digits of the variance.
pub(super) fn statistics(input: &[f32], partials: &mut [f64], threads: Threads, out: Statistics) {
    let channels = out.gamma.len();
    let rows = input.len() / channels;
    let pivot = &input[..channels];
    let len = chunk_rows(channels) * channels;
    let partials = &mut partials[..partials_len(rows, channels)];
    let level = level();
    input.par_chunks(len).zip(partials.par_chunks_mut(2 * channels)).with_min_len(grain(threads)).for_each(
        |(chunk, sums)| {
            // SAFETY: the level is the machine's.
            unsafe { launch(level, SumDeviations { chunk, pivot, sums }) }
        },
    );
    let (sums, squares) = combine(partials, channels);
    let n = rows as f64;
    for c in 0..channels {
        let deviation = sums[c] / n;
        let mean = f64::from(pivot[c]) + deviation;
        let variance = (squares[c] / n - deviation * deviation).max(0.0);
        let unbiased = variance * n / (n - 1.0).max(1.0);
        let inverse_std = 1.0 / (variance + f64::from(out.epsilon)).sqrt();
        let scale = f64::from(out.gamma[c]) * inverse_std;
        out.mean[c] = mean as f32;
        out.inverse_std[c] = inverse_std as f32;
        out.affine.scale[c] = scale as f32;
        out.affine.shift[c] = (f64::from(out.beta[c]) - mean * scale) as f32;
        let keep = 1.0 - out.momentum;
        out.running_mean[c] = keep * out.running_mean[c] + out.momentum * mean as f32;
        out.running_variance[c] = keep * out.running_variance[c] + out.momentum * unbiased as f32;
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
