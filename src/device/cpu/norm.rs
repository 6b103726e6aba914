//! Batch norm: the affine map of the running statistics, batch statistics, and the backward pass.
//!
//! Tensors are rows (image × pixel) of channels. Both reductions read their input once, in chunks
//! of rows that depend on the size alone; within a chunk f32 sums of a few rows go to f64 sums, and
//! chunks are added in order, so that any number of threads gives the same bits.

use rayon::prelude::*;

use super::conv::Threads;
use super::grain;
use super::simd::{Kernel, Simd, launch};
use super::vectorised::level;

/// Elements of a chunk.
const CHUNK: usize = 65_536;
/// Vectors of channels that are summed side by side in registers: whole cache lines in a row.
const WIDE: usize = 4;
/// Lanes of the widest vector.
const MOST_LANES: usize = 16;

/// Rows of a chunk.
fn chunk_rows(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(1)
}

/// Rows whose sums stay in f32: what fits the first-level cache.
fn run_rows(channels: usize) -> usize {
    (2048 / channels.max(1)).clamp(8, 64)
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

/// Σ(x − pivot) and Σ(x − pivot)² per channel of a chunk.
struct SumDeviations<'a> {
    chunk: &'a [f32],
    pivot: &'a [f32],
    sums: &'a mut [f64],
}

impl Kernel for SumDeviations<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.pivot.len();
        self.sums.fill(0.0);
        for run in self.chunk.chunks(run_rows(channels) * channels) {
            let mut c = 0;
            while c < channels {
                // SAFETY: `launch` found the instructions; c is a channel.
                c += unsafe {
                    if c + WIDE * S::LANES <= channels {
                        deviations::<S, WIDE>(run, self.pivot, c, self.sums)
                    } else {
                        deviations::<S, 1>(run, self.pivot, c, self.sums)
                    }
                };
            }
        }
    }
}

/// Adds the sums of W vectors of channels from `c` on over a run of rows; returns the channels done.
///
/// # Safety
/// `S`'s instructions are there; the vectors but for a single one are full.
#[inline(always)]
unsafe fn deviations<S: Simd, const W: usize>(
    run: &[f32],
    pivot: &[f32],
    c: usize,
    sums: &mut [f64],
) -> usize {
    let channels = pivot.len();
    let n = S::LANES.min(channels - c);
    // SAFETY: channels c..c + (W - 1)·LANES + n exist in every row and per-channel slice.
    unsafe {
        let zero = S::splat(0.0);
        let (mut sum, mut square) = ([zero; W], [zero; W]);
        let base = vectors::<S, W>(pivot.as_ptr().add(c), n);
        for row in run.chunks_exact(channels) {
            let x = vectors::<S, W>(row.as_ptr().add(c), n);
            for w in 0..W {
                let d = S::sub(x[w], base[w]);
                sum[w] = S::add(sum[w], d);
                square[w] = S::mul_add(d, d, square[w]);
            }
        }
        let (first, second) = sums.split_at_mut(channels);
        flush::<S, W>(&sum, &mut first[c..], n);
        flush::<S, W>(&square, &mut second[c..], n);
    }
    (W - 1) * S::LANES + n
}

/// W vectors from `p` on, `n` elements of each.
///
/// # Safety
/// They are there, and so are `S`'s instructions.
#[inline(always)]
unsafe fn vectors<S: Simd, const W: usize>(p: *const f32, n: usize) -> [S::V; W] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut values = [S::splat(0.0); W];
        for (w, value) in values.iter_mut().enumerate() {
            *value = vector::<S>(p.add(w * S::LANES), n);
        }
        values
    }
}

/// A vector of `n` elements.
///
/// # Safety
/// They are there, and so are `S`'s instructions.
#[inline(always)]
unsafe fn vector<S: Simd>(p: *const f32, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if n == S::LANES { S::load(p) } else { S::load_partial(p, n) } }
}

/// Adds f32 sums to f64 sums.
///
/// # Safety
/// `S`'s instructions are there.
#[inline(always)]
unsafe fn flush<S: Simd, const W: usize>(values: &[S::V; W], sums: &mut [f64], n: usize) {
    for (sums, &value) in sums.chunks_mut(n).zip(values) {
        let mut lanes = [0.0_f32; MOST_LANES];
        // SAFETY: no vector has more lanes.
        unsafe { S::store(lanes.as_mut_ptr(), value) };
        for (sum, lane) in sums.iter_mut().zip(lanes) {
            *sum += f64::from(lane);
        }
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
    let level = level();
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
            .for_each(|((input, gradient), sums)| {
                // SAFETY: the level is the machine's.
                unsafe { launch(level, SumGradients { input, gradient, norm: &out, sums }) }
            });
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
        // SAFETY: chunks are disjoint parts of the images; the level is the machine's.
        unsafe {
            let images = images.part(start, len.min(images.len - start));
            launch(level, Apply { images, coefficients });
        }
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

/// Σg and Σ g·(x − mean) per channel of a chunk, where g = gradient ⊙ [affine(x) > 0].
struct SumGradients<'a> {
    input: &'a [f32],
    gradient: &'a [f32],
    norm: &'a Backward<'a>,
    sums: &'a mut [f64],
}

impl Kernel for SumGradients<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.norm.mean.len();
        self.sums.fill(0.0);
        let run = run_rows(channels) * channels;
        for (x, g) in self.input.chunks(run).zip(self.gradient.chunks(run)) {
            let mut c = 0;
            while c < channels {
                // SAFETY: `launch` found the instructions; c is a channel.
                c += unsafe {
                    if c + WIDE * S::LANES <= channels {
                        gradients::<S, WIDE>(x, g, self.norm, c, self.sums)
                    } else {
                        gradients::<S, 1>(x, g, self.norm, c, self.sums)
                    }
                };
            }
        }
    }
}

/// As [`deviations`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn gradients<S: Simd, const W: usize>(
    input: &[f32],
    gradient: &[f32],
    norm: &Backward,
    c: usize,
    sums: &mut [f64],
) -> usize {
    let channels = norm.mean.len();
    let n = S::LANES.min(channels - c);
    // SAFETY: channels c..c + (W - 1)·LANES + n exist in every row and per-channel slice.
    unsafe {
        let zero = S::splat(0.0);
        let (mut sum, mut product) = ([zero; W], [zero; W]);
        let mean = vectors::<S, W>(norm.mean.as_ptr().add(c), n);
        let scale = vectors::<S, W>(norm.scale.as_ptr().add(c), n);
        let shift = vectors::<S, W>(norm.shift.as_ptr().add(c), n);
        for (x, g) in input.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
            let x = vectors::<S, W>(x.as_ptr().add(c), n);
            let g = vectors::<S, W>(g.as_ptr().add(c), n);
            for w in 0..W {
                let g = S::select(g[w], S::positive(S::mul_add(scale[w], x[w], shift[w])));
                sum[w] = S::add(sum[w], g);
                product[w] = S::mul_add(g, S::sub(x[w], mean[w]), product[w]);
            }
        }
        let (first, second) = sums.split_at_mut(channels);
        flush::<S, W>(&sum, &mut first[c..], n);
        flush::<S, W>(&product, &mut second[c..], n);
    }
    (W - 1) * S::LANES + n
}

/// output = factor·(g − offset − slope·(x − mean)) + residual, per channel.
#[derive(Clone, Copy)]
struct Coefficients<'a> {
    mean: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    factor: &'a [f32],
    offset: &'a [f32],
    slope: &'a [f32],
}

/// The backward map of a chunk of rows. Every vector is read before it is written: the output may
/// be an input.
struct Apply<'a> {
    images: Images,
    coefficients: Coefficients<'a>,
}

impl Kernel for Apply<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.coefficients.mean.len();
        for row in (0..self.images.len).step_by(channels) {
            let mut c = 0;
            while c < channels {
                let n = S::LANES.min(channels - c);
                // SAFETY: `launch` found the instructions; n channels from c on are in the row.
                unsafe { self.vector::<S>(row, c, n) };
                c += n;
            }
        }
    }
}

impl Apply<'_> {
    /// # Safety
    /// `S`'s instructions are there, and so are elements row + c..row + c + n of the images.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, row: usize, c: usize, n: usize) {
        let Coefficients { mean, scale, shift, factor, offset, slope } = self.coefficients;
        let i = row + c;
        // SAFETY: the caller's promise.
        unsafe {
            let channel = |values: &[f32]| values.as_ptr().add(c);
            let x = vector::<S>(self.images.input.add(i), n);
            let positive =
                S::positive(S::mul_add(vector::<S>(channel(scale), n), x, vector::<S>(channel(shift), n)));
            let g = S::select(vector::<S>(self.images.gradient.add(i), n), positive);
            let along = S::mul(vector::<S>(channel(slope), n), S::sub(x, vector::<S>(channel(mean), n)));
            let rest = S::sub(S::sub(g, vector::<S>(channel(offset), n)), along);
            let factor = vector::<S>(channel(factor), n);
            let value = match self.images.residual {
                Some(residual) => S::mul_add(factor, rest, vector::<S>(residual.add(i), n)),
                None => S::mul(factor, rest),
            };
            let p = self.images.output.add(i);
            if n == S::LANES { S::store(p, value) } else { S::store_partial(p, value, n) }
        }
    }
}
