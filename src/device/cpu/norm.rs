//! Batch norm: the affine map of the running statistics, batch statistics, and the backward pass.
//!
//! Tensors are rows (image × pixel) of channels. Both reductions read their input once, in chunks
//! of rows that depend on the size alone; within a chunk f32 sums of a few rows go to f64 sums, and
//! chunks are added in order, so that any number of threads gives the same bits.

use rayon::prelude::*;

use super::conv::Threads;
use super::grain;
use super::vectorised::vectorised;

/// Elements of a chunk.
const CHUNK: usize = 65_536;
/// Channels that are summed side by side in registers.
const WIDE: usize = 32;

/// Rows of a chunk.
fn chunk_rows(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(1)
}

/// Rows whose sums stay in f32: what fits the first-level cache.
fn run_rows(channels: usize) -> usize {
    (4096 / channels.max(1)).clamp(8, 64)
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
    input
        .par_chunks(len)
        .zip(partials.par_chunks_mut(2 * channels))
        .with_min_len(grain(threads))
        .for_each(|(chunk, sums)| sum_deviations(chunk, pivot, sums));
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

vectorised! {
    /// Σ(x − pivot) and Σ(x − pivot)² per channel of a chunk.
    fn sum_deviations(chunk: &[f32], pivot: &[f32], sums: &mut [f64]) {
        let channels = pivot.len();
        let (first, second) = sums.split_at_mut(channels);
        first.fill(0.0);
        second.fill(0.0);
        for run in chunk.chunks(run_rows(channels) * channels) {
            let mut c = 0;
            while c + WIDE <= channels {
                deviations::<WIDE>(run, pivot, c, first, second);
                c += WIDE;
            }
            while c + 8 <= channels {
                deviations::<8>(run, pivot, c, first, second);
                c += 8;
            }
            while c < channels {
                deviations::<1>(run, pivot, c, first, second);
                c += 1;
            }
        }
    }
}

/// The sums of channels c..c + L over a run of rows.
#[inline(always)]
fn deviations<const L: usize>(run: &[f32], pivot: &[f32], c: usize, first: &mut [f64], second: &mut [f64]) {
    let base: [f32; L] = std::array::from_fn(|l| pivot[c + l]);
    let (mut sum, mut square) = ([0.0_f32; L], [0.0_f32; L]);
    for row in run.chunks_exact(pivot.len()) {
        let row = &row[c..c + L];
        for l in 0..L {
            let d = row[l] - base[l];
            sum[l] += d;
            square[l] += d * d;
        }
    }
    for l in 0..L {
        first[c + l] += f64::from(sum[l]);
        second[c + l] += f64::from(square[l]);
    }
}

/// Operands of the backward pass beside the images'.
pub(super) struct Backward<'a> {
    pub gamma: &'a [f32],
    pub mean: &'a [f32],
    pub inverse_std: &'a [f32],
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub gamma_gradient: &'a mut [f32],
    pub beta_gradient: &'a mut [f32],
}

/// The images' operands; `output` may be `gradient` or `residual`.
#[derive(Clone, Copy)]
pub(super) struct Images {
    /// Elements of each.
    pub len: usize,
    pub input: *const f32,
    pub gradient: *const f32,
    pub residual: Option<*const f32>,
    pub output: *mut f32,
}

// SAFETY: plain addresses; `dgrad`'s contract covers their use from several threads.
unsafe impl Send for Images {}
// SAFETY: as above.
unsafe impl Sync for Images {}

/// Room for the reductions ([`partials_len`], [`coefficients_len`]).
pub(super) struct Room<'a> {
    pub partials: &'a mut [f64],
    pub coefficients: &'a mut [f32],
}

/// g = gradient ⊙ [affine(input) > 0]; beta_gradient = Σg, gamma_gradient = Σ g·x̂,
/// output = gamma·inverse_std·(g − Σg/N − x̂·Σ(g·x̂)/N) + residual.
///
/// # Safety
/// The pointers are good for `len` elements, `output` alone for writing; nothing else uses what
/// `output` points to meanwhile; it overlaps the others only where it equals `gradient` or
/// `residual`.
pub(super) unsafe fn dgrad(images: Images, room: Room, threads: Threads, out: Backward) {
    let channels = out.gamma.len();
    let rows = images.len / channels;
    let len = chunk_rows(channels) * channels;
    let partials = &mut room.partials[..partials_len(rows, channels)];
    {
        // SAFETY: readable for `len` elements, and nothing is written while these are alive.
        let (input, gradient) = unsafe {
            (
                std::slice::from_raw_parts(images.input, images.len),
                std::slice::from_raw_parts(images.gradient, images.len),
            )
        };
        input
            .par_chunks(len)
            .zip(gradient.par_chunks(len))
            .zip(partials.par_chunks_mut(2 * channels))
            .with_min_len(grain(threads))
            .for_each(|((x, g), sums)| sum_gradients(x, g, &out, sums));
    }
    let (sums, products) = combine(partials, channels);
    let n = rows as f64;
    let (factor, rest) = room.coefficients.split_at_mut(channels);
    let (offset, rest) = rest.split_at_mut(channels);
    let slope = &mut rest[..channels];
    for c in 0..channels {
        let inverse_std = f64::from(out.inverse_std[c]);
        out.beta_gradient[c] = sums[c] as f32;
        out.gamma_gradient[c] = (products[c] * inverse_std) as f32;
        factor[c] = (f64::from(out.gamma[c]) * inverse_std) as f32;
        offset[c] = (sums[c] / n) as f32;
        slope[c] = (products[c] * inverse_std * inverse_std / n) as f32;
    }
    let coefficients =
        Coefficients { mean: out.mean, scale: out.scale, shift: out.shift, factor, offset, slope };
    (0..images.len.div_ceil(len)).into_par_iter().with_min_len(grain(threads)).for_each(|chunk| {
        let start = chunk * len;
        // SAFETY: chunks are disjoint parts of the images.
        let part = unsafe { images.part(start, len.min(images.len - start)) };
        apply(part, &coefficients);
    });
}

impl Images {
    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// They are inside the images, and the parts in use at a time are disjoint.
    unsafe fn part(self, start: usize, len: usize) -> Images {
        // SAFETY: in bounds by the contract above.
        unsafe {
            Images {
                len,
                input: self.input.add(start),
                gradient: self.gradient.add(start),
                residual: self.residual.map(|residual| residual.add(start)),
                output: self.output.add(start),
            }
        }
    }
}

vectorised! {
    /// Σg and Σ g·(x − mean) per channel of a chunk.
    fn sum_gradients(input: &[f32], gradient: &[f32], norm: &Backward, sums: &mut [f64]) {
        let channels = norm.mean.len();
        let (first, second) = sums.split_at_mut(channels);
        first.fill(0.0);
        second.fill(0.0);
        let run = run_rows(channels) * channels;
        for (x, g) in input.chunks(run).zip(gradient.chunks(run)) {
            let mut c = 0;
            while c + WIDE <= channels {
                gradients::<WIDE>(x, g, norm, c, first, second);
                c += WIDE;
            }
            while c + 8 <= channels {
                gradients::<8>(x, g, norm, c, first, second);
                c += 8;
            }
            while c < channels {
                gradients::<1>(x, g, norm, c, first, second);
                c += 1;
            }
        }
    }
}

/// The sums of channels c..c + L over a run of rows.
#[inline(always)]
fn gradients<const L: usize>(
    input: &[f32],
    gradient: &[f32],
    norm: &Backward,
    c: usize,
    first: &mut [f64],
    second: &mut [f64],
) {
    let channels = norm.mean.len();
    let mean: [f32; L] = std::array::from_fn(|l| norm.mean[c + l]);
    let scale: [f32; L] = std::array::from_fn(|l| norm.scale[c + l]);
    let shift: [f32; L] = std::array::from_fn(|l| norm.shift[c + l]);
    let (mut sum, mut product) = ([0.0_f32; L], [0.0_f32; L]);
    for (x, g) in input.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
        let (x, g) = (&x[c..c + L], &g[c..c + L]);
        for l in 0..L {
            let g = if scale[l] * x[l] + shift[l] > 0.0 { g[l] } else { 0.0 };
            sum[l] += g;
            product[l] += g * (x[l] - mean[l]);
        }
    }
    for l in 0..L {
        first[c + l] += f64::from(sum[l]);
        second[c + l] += f64::from(product[l]);
    }
}

/// output = factor·(g − offset − slope·(x − mean)) + residual, per channel.
struct Coefficients<'a> {
    mean: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    factor: &'a [f32],
    offset: &'a [f32],
    slope: &'a [f32],
}

vectorised! {
    /// The backward map of a chunk of rows.
    fn apply(images: Images, coefficients: &Coefficients) {
        let channels = coefficients.mean.len();
        match images.residual {
            Some(residual) => {
                for row in (0..images.len).step_by(channels) {
                    map_row(images, row, coefficients, |i| {
                        // SAFETY: `map_row` stays inside the images.
                        unsafe { residual.add(i).read() }
                    });
                }
            }
            None => {
                for row in (0..images.len).step_by(channels) {
                    map_row(images, row, coefficients, |_| 0.0);
                }
            }
        }
    }
}

/// One row, in blocks that are read whole before they are written: so the output may be an input
/// and the loops still become vector instructions.
#[inline(always)]
fn map_row(images: Images, row: usize, coefficients: &Coefficients, residual: impl Fn(usize) -> f32) {
    let channels = coefficients.mean.len();
    let mut c = 0;
    while c + 16 <= channels {
        map_block::<16>(images, row, c, coefficients, &residual);
        c += 16;
    }
    while c < channels {
        map_block::<1>(images, row, c, coefficients, &residual);
        c += 1;
    }
}

#[inline(always)]
fn map_block<const L: usize>(
    images: Images,
    row: usize,
    c: usize,
    coefficients: &Coefficients,
    residual: &impl Fn(usize) -> f32,
) {
    let part = |values: &[f32]| -> [f32; L] { std::array::from_fn(|l| values[c + l]) };
    let (mean, scale, shift) = (part(coefficients.mean), part(coefficients.scale), part(coefficients.shift));
    let (factor, offset) = (part(coefficients.factor), part(coefficients.offset));
    let slope = part(coefficients.slope);
    let start = row + c;
    // SAFETY: row + c + L is inside the images, whose pointers are good for their length.
    let x: [f32; L] = unsafe { images.input.add(start).cast::<[f32; L]>().read() };
    // SAFETY: as above.
    let g: [f32; L] = unsafe { images.gradient.add(start).cast::<[f32; L]>().read() };
    let more: [f32; L] = std::array::from_fn(|l| residual(start + l));
    let mut output = [0.0_f32; L];
    for l in 0..L {
        let g = if scale[l] * x[l] + shift[l] > 0.0 { g[l] } else { 0.0 };
        output[l] = factor[l] * (g - offset[l] - slope[l] * (x[l] - mean[l])) + more[l];
    }
    // SAFETY: as above; the part of the output is this thread's alone.
    unsafe { images.output.add(start).cast::<[f32; L]>().write(output) }
}
