//! The backward pass: one reduction, one map.

use rayon::prelude::*;

use super::sums::{SumGradients, vector};
use super::{chunk_rows, combine, partials_len};
use crate::device::cpu::conv::Threads;
use crate::device::cpu::execute::{Context, Execute, ScratchSize};
use crate::device::cpu::grain;
use crate::device::cpu::simd::{Simd, SimdKernel, launch, level};
use crate::device::ops::BatchNormDgrad;
use crate::error::Result;

/// Operands of the backward pass beside the images'.
pub(super) struct NormParams<'a> {
    pub gamma: &'a [f32],
    pub mean: &'a [f32],
    pub inverse_std: &'a [f32],
    /// Scale and shift of the ReLU's input, where there is a ReLU.
    pub relu: Option<(&'a [f32], &'a [f32])>,
}

/// The images' operands; `output` may be `gradient` or `residual`.
#[derive(Clone, Copy)]
struct DgradTensors {
    /// Elements of each.
    len: usize,
    input: *const f32,
    gradient: *const f32,
    residual: Option<*const f32>,
    output: *mut f32,
}

// SAFETY: plain addresses; threads use disjoint parts.
unsafe impl Send for DgradTensors {}
// SAFETY: as above.
unsafe impl Sync for DgradTensors {}

/// The gradient and the residual may lie where the output goes: they are addresses.
impl Execute for BatchNormDgrad {
    fn reserve(&self, capacity: usize, size: &mut ScratchSize) {
        size.partials = size.partials.max(partials_len(self.pixels * capacity, self.channels));
        size.coefficients = size.coefficients.max(3 * self.channels);
    }

    fn execute(&self, context: &mut Context) -> Result<()> {
        let (frame, channels) = (context.frame, self.channels);
        let rows = frame.count() * self.pixels;
        let images = DgradTensors {
            len: rows * channels,
            input: frame.pointer(self.input),
            gradient: frame.pointer(self.gradient),
            residual: self.residual.map(|residual| frame.pointer(residual).cast_const()),
            output: frame.pointer(self.output),
        };
        // SAFETY: the operands were checked.
        let norm = unsafe {
            NormParams {
                gamma: frame.input(self.gamma),
                mean: frame.input(self.mean),
                inverse_std: frame.input(self.inverse_std),
                relu: self.relu.map(|affine| frame.affine(affine)),
            }
        };
        let partials = &mut context.scratch.partials[..partials_len(rows, channels)];
        // SAFETY: the images have `len` elements, and nothing writes to them meanwhile.
        let (sums, products) = unsafe { reduce(images, &norm, partials, frame.threads) };
        // SAFETY: the operands were checked.
        let (gamma_gradient, beta_gradient) =
            unsafe { (frame.output(self.gamma_gradient), frame.output(self.beta_gradient)) };
        let n = rows as f64;
        let (factor, rest) = context.scratch.coefficients.split_at_mut(channels);
        let (offset, rest) = rest.split_at_mut(channels);
        let slope = &mut rest[..channels];
        for c in 0..channels {
            let inverse_std = f64::from(norm.inverse_std[c]);
            beta_gradient[c] = sums[c] as f32;
            gamma_gradient[c] = (products[c] * inverse_std) as f32;
            factor[c] = (f64::from(norm.gamma[c]) * inverse_std) as f32;
            offset[c] = (sums[c] / n) as f32;
            slope[c] = (products[c] * inverse_std * inverse_std / n) as f32;
        }
        let coefficients = Coefficients { mean: norm.mean, relu: norm.relu, factor, offset, slope };
        let (level, len) = (level(), chunk_rows(channels) * channels);
        (0..images.len.div_ceil(len)).into_par_iter().with_min_len(grain(frame.threads)).for_each(|chunk| {
            let start = chunk * len;
            // SAFETY: chunks are disjoint parts of the images; the level is the machine's.
            unsafe {
                let images = images.part(start, len.min(images.len - start));
                launch(level, Apply { images, coefficients });
            }
        });
        Ok(())
    }
}

/// Σg and Σ g·(x − mean) per channel.
///
/// # Safety
/// Input and gradient are good for `len` elements, and nothing writes to them meanwhile.
unsafe fn reduce<'a>(
    images: DgradTensors,
    norm: &NormParams,
    partials: &'a mut [f64],
    threads: Threads,
) -> (&'a [f64], &'a [f64]) {
    let (channels, level) = (norm.gamma.len(), level());
    let len = chunk_rows(channels) * channels;
    // SAFETY: the caller's promise.
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
            unsafe { launch(level, SumGradients { input, gradient, norm, sums }) }
        });
    combine(partials, channels)
}

impl DgradTensors {
    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// They are inside the images, and the parts in use at a time are disjoint.
    unsafe fn part(self, start: usize, len: usize) -> DgradTensors {
        // SAFETY: in bounds by the contract above.
        unsafe {
            DgradTensors {
                len,
                input: self.input.add(start),
                gradient: self.gradient.add(start),
                residual: self.residual.map(|residual| residual.add(start)),
                output: self.output.add(start),
            }
        }
    }
}

/// output = factor·(g − offset − slope·(x − mean)) + residual, per channel.
#[derive(Clone, Copy)]
struct Coefficients<'a> {
    mean: &'a [f32],
    relu: Option<(&'a [f32], &'a [f32])>,
    factor: &'a [f32],
    offset: &'a [f32],
    slope: &'a [f32],
}

/// The backward map of a chunk of rows. Every vector is read before it is written: the output may
/// be an input.
struct Apply<'a> {
    images: DgradTensors,
    coefficients: Coefficients<'a>,
}

impl SimdKernel for Apply<'_> {
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
        let Coefficients { mean, relu, factor, offset, slope } = self.coefficients;
        let i = row + c;
        // SAFETY: the caller's promise.
        unsafe {
            let channel = |values: &[f32]| values.as_ptr().add(c);
            let x = vector::<S>(self.images.input.add(i), n);
            let g = vector::<S>(self.images.gradient.add(i), n);
            let g = match relu {
                Some((scale, shift)) => {
                    let (scale, shift) = (vector::<S>(channel(scale), n), vector::<S>(channel(shift), n));
                    S::select(g, S::positive(S::mul_add(scale, x, shift)))
                }
                None => g,
            };
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
