//! Updates of the flat parameter buffer.

use rayon::prelude::*;

use super::conv::Threads;
use super::grain;
use super::vectorised::vectorised;
use crate::device::{ADAM_EPSILON, StepParams};

/// Elements a task updates.
const CHUNK: usize = 16_384;

/// SGD as PyTorch does it: g = gradient + decay·w; v = momentum·v + g (from zero, so that the first
/// step is v = g); w −= rate·(nesterov ? g + momentum·v : v).
pub(super) fn sgd(
    weights: &mut [f32],
    gradients: &[f32],
    velocity: &mut [f32],
    params: &StepParams,
    threads: Threads,
) {
    weights
        .par_chunks_mut(CHUNK)
        .zip(gradients.par_chunks(CHUNK))
        .zip(velocity.par_chunks_mut(CHUNK))
        .with_min_len(grain(threads))
        .for_each(|((w, g), v)| sgd_chunk(w, g, v, params));
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

/// Adam as PyTorch does it, see [`crate::device::Op::Adam`].
pub(super) fn adam(
    weights: &mut [f32],
    gradients: &[f32],
    (first, second): (&mut [f32], &mut [f32]),
    params: &StepParams,
    threads: Threads,
) {
    let (rate, correction) = params.adam_scales();
    let scales = (rate as f32, correction as f32);
    weights
        .par_chunks_mut(CHUNK)
        .zip(gradients.par_chunks(CHUNK))
        .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
        .with_min_len(grain(threads))
        .for_each(|((w, g), (m, v))| adam_chunk(w, g, m, v, params.betas, scales));
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

/// average = d·average + (1 − d)·weights.
pub(super) fn moving_average(average: &mut [f32], weights: &[f32], decay: f32, threads: Threads) {
    average
        .par_chunks_mut(CHUNK)
        .zip(weights.par_chunks(CHUNK))
        .with_min_len(grain(threads))
        .for_each(|(a, w)| average_chunk(a, w, decay));
}

vectorised! {
    fn average_chunk(average: &mut [f32], weights: &[f32], decay: f32) {
        let rest = 1.0 - decay;
        for (a, &w) in average.iter_mut().zip(weights) {
            *a = decay * *a + rest * w;
        }
    }
}
