//! The reductions: two sums per channel over a chunk of rows.

use super::backward::NormParams;
use crate::device::cpu::simd::{Simd, SimdKernel};

/// Vectors of channels that are summed side by side in registers: whole cache lines in a row.
const WIDE: usize = 4;
/// Lanes of the widest vector.
const MOST_LANES: usize = 16;

/// Rows whose sums stay in f32: what fits the first-level cache.
fn run_rows(channels: usize) -> usize {
    (2048 / channels.max(1)).clamp(8, 64)
}

/// Σ(x − pivot) and Σ(x − pivot)² per channel of a chunk.
pub(super) struct SumDeviations<'a> {
    pub chunk: &'a [f32],
    pub pivot: &'a [f32],
    pub sums: &'a mut [f64],
}

impl SimdKernel for SumDeviations<'_> {
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
pub(super) unsafe fn vector<S: Simd>(p: *const f32, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if n == S::LANES { S::load(p) } else { S::load_partial(p, n) } }
}

/// Adds f32 sums to f64 sums.
///
/// # Safety
/// `S`'s instructions are there.
#[inline(always)]
unsafe fn flush<S: Simd, const W: usize>(values: &[S::V; W], sums: &mut [f64], n: usize) {
    for (w, &value) in values.iter().enumerate() {
        let mut lanes = [0.0_f32; MOST_LANES];
        // SAFETY: no vector has more lanes.
        unsafe { S::store(lanes.as_mut_ptr(), value) };
        let sums = &mut sums[w * S::LANES..];
        if n == S::LANES {
            // The same loop with a length the compiler knows: it becomes vector instructions.
            let sums = &mut sums[..S::LANES];
            for l in 0..S::LANES {
                sums[l] += f64::from(lanes[l]);
            }
        } else {
            sums.iter_mut().zip(&lanes[..n]).for_each(|(sum, &lane)| *sum += f64::from(lane));
        }
    }
}

/// Σg and Σ g·(x − mean) per channel of a chunk, where g = gradient ⊙ [relu(x) > 0] if a ReLU follows.
pub(super) struct SumGradients<'a> {
    pub input: &'a [f32],
    pub gradient: &'a [f32],
    pub norm: &'a NormParams<'a>,
    pub sums: &'a mut [f64],
}

impl SimdKernel for SumGradients<'_> {
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
    norm: &NormParams,
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
        let relu = norm.relu.map(|(scale, shift)| {
            (vectors::<S, W>(scale.as_ptr().add(c), n), vectors::<S, W>(shift.as_ptr().add(c), n))
        });
        for (x, g) in input.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
            let x = vectors::<S, W>(x.as_ptr().add(c), n);
            let g = vectors::<S, W>(g.as_ptr().add(c), n);
            for w in 0..W {
                let g = match relu {
                    Some((scale, shift)) => {
                        S::select(g[w], S::positive(S::mul_add(scale[w], x[w], shift[w])))
                    }
                    None => g[w],
                };
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
