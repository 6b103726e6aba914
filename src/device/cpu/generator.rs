//! What image-to-image generators have besides the layers of a classifier: upsampling, and the scaled tanh of
//! their output.

use rayon::prelude::*;

use super::execute::{Context, Execute};
use super::grain;
use super::simd::vectorised;
use crate::device::SCALED_TANH_DIVISOR;
use crate::device::ops::{ScaledTanh, ScaledTanhDgrad, Upsample, UpsampleDgrad};
use crate::error::Result;

/// Share of the nearer pixel in each direction of an upsampled one; the other is next to it.
const NEAR: f32 = 0.75;
/// Share of the farther pixel.
const FAR: f32 = 0.25;

/// A task makes a row.
impl Execute for Upsample {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (input, prologue, output) = unsafe {
            (frame.input(self.input), frame.prologue(&self.prologue, false), frame.output(self.output))
        };
        let (affine, relu) = (prologue.affine, prologue.relu);
        let line = self.width * self.channels;
        output.par_chunks_mut(2 * line).enumerate().with_min_len(grain(frame.threads)).for_each(
            |(row, output)| {
                let (image, y) = (row / (2 * self.height), row % (2 * self.height));
                let image = &input[image * self.height * line..(image + 1) * self.height * line];
                let (near, far) = sources(y, self.height);
                let rows = (&image[near * line..(near + 1) * line], &image[far * line..(far + 1) * line]);
                mix(rows, self.channels, affine, relu, output);
            },
        );
        Ok(())
    }
}

/// The nearer and the farther input of output `at` on a side of `len` inputs, the border repeated.
fn sources(at: usize, len: usize) -> (usize, usize) {
    let near = at / 2;
    let far = if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(len - 1) };
    (near, far)
}

/// max(0, x) that leaves NaN as it is.
#[inline(always)]
fn rectify(x: f32, relu: bool) -> f32 {
    if relu && x < 0.0 { 0.0 } else { x }
}

/// An upsampled value from those at its corners, the nearest first, the farthest last.
#[inline(always)]
fn blend([nearest, beside, below, farthest]: [f32; 4]) -> f32 {
    NEAR * (NEAR * nearest + FAR * beside) + FAR * (NEAR * below + FAR * farthest)
}

vectorised! {
    fn mix(
        rows: (&[f32], &[f32]),
        channels: usize,
        affine: Option<(&[f32], &[f32])>,
        relu: bool,
        output: &mut [f32],
    ) {
        let width = rows.0.len() / channels;
        for (x, pixel) in output.chunks_exact_mut(channels).enumerate() {
            let (a, b) = sources(x, width);
            let corners = [(rows.0, a), (rows.0, b), (rows.1, a), (rows.1, b)];
            let corners = corners.map(|(row, column)| &row[column * channels..(column + 1) * channels]);
            match affine {
                None => {
                    for (c, value) in pixel.iter_mut().enumerate() {
                        *value = blend(corners.map(|corner| rectify(corner[c], relu)));
                    }
                }
                Some((scale, shift)) => {
                    for (c, value) in pixel.iter_mut().enumerate() {
                        let (scale, shift) = (scale[c], shift[c]);
                        *value = blend(corners.map(|corner| rectify(scale * corner[c] + shift, relu)));
                    }
                }
            }
        }
    }
}

/// Input row y is read by output rows 2y − 1 to 2y + 2, columns likewise. A task makes a row.
impl Execute for UpsampleDgrad {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (gradient, output) = unsafe { (frame.input(self.gradient), frame.output(self.output)) };
        let line = self.width * self.channels;
        output.par_chunks_mut(line).enumerate().with_min_len(grain(frame.threads)).for_each(
            |(row, output)| {
                let (image, y) = (row / self.height, row % self.height);
                let first = image * 2 * self.height;
                output.fill(0.0);
                for (at, share) in taps(y, self.height) {
                    let start = (first + at) * 2 * line;
                    gather_row(&gradient[start..start + 2 * line], self.channels, share, output);
                }
            },
        );
        Ok(())
    }
}

/// The outputs that read input `at` on a side of `len` inputs, with their shares; beyond the border the
/// last one reads again.
#[inline(always)]
fn taps(at: usize, len: usize) -> [(usize, f32); 4] {
    let first = 2 * at;
    [(first.saturating_sub(1), FAR), (first, NEAR), (first + 1, NEAR), ((first + 2).min(2 * len - 1), FAR)]
}

vectorised! {
    fn gather_row(gradient: &[f32], channels: usize, share: f32, output: &mut [f32]) {
        let width = output.len() / channels;
        for (x, pixel) in output.chunks_exact_mut(channels).enumerate() {
            let [a, b, c, d] = taps(x, width).map(|(at, _)| &gradient[at * channels..(at + 1) * channels]);
            for i in 0..channels {
                pixel[i] += share * (FAR * (a[i] + d[i]) + NEAR * (b[i] + c[i]));
            }
        }
    }
}

/// Elements a task squashes.
const CHUNK: usize = 4096;

/// e^(−2|z|): what tanh and its slope are made of without losing digits to either side.
fn decay(z: f64) -> f64 {
    (-2.0 * z.abs()).exp()
}

/// tanh(z) / (2 + 1e-7) + 1/2.
fn squash(z: f64) -> f32 {
    let e = decay(z);
    (((1.0 - e) / (1.0 + e)).copysign(z) / SCALED_TANH_DIVISOR + 0.5) as f32
}

/// Its slope.
fn slope(z: f64) -> f64 {
    let e = decay(z);
    4.0 * e / ((1.0 + e) * (1.0 + e)) / SCALED_TANH_DIVISOR
}

/// affine(x) of element `i`.
fn apply(x: f32, i: usize, affine: Option<(&[f32], &[f32])>) -> f64 {
    match affine {
        Some((scale, shift)) => f64::from(scale[i % scale.len()] * x + shift[i % shift.len()]),
        None => f64::from(x),
    }
}

impl Execute for ScaledTanh {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (input, affine, output) = unsafe {
            let affine = self.affine.map(|affine| frame.affine(affine));
            (frame.input(self.input), affine, frame.output(self.output))
        };
        output
            .par_chunks_mut(CHUNK)
            .zip(input.par_chunks(CHUNK))
            .enumerate()
            .with_min_len(grain(frame.threads))
            .for_each(|(chunk, (output, input))| {
                for (i, (output, &x)) in output.iter_mut().zip(input).enumerate() {
                    *output = squash(apply(x, chunk * CHUNK + i, affine));
                }
            });
        Ok(())
    }
}

/// The output may be the gradient: both are addresses.
impl Execute for ScaledTanhDgrad {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let slopes = unsafe {
            Slopes {
                input: frame.input(self.input),
                affine: self.affine.map(|affine| frame.affine(affine)),
                gradient: frame.pointer(self.gradient),
                scale: self.scale.map(|scale| frame.input(scale)),
                output: frame.pointer(self.output),
            }
        };
        let len = slopes.input.len();
        (0..len.div_ceil(CHUNK)).into_par_iter().with_min_len(grain(frame.threads)).for_each(|chunk| {
            for i in chunk * CHUNK..((chunk + 1) * CHUNK).min(len) {
                // SAFETY: chunks are disjoint parts of the images.
                unsafe { slopes.element(i) };
            }
        });
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Slopes<'a> {
    input: &'a [f32],
    affine: Option<(&'a [f32], &'a [f32])>,
    gradient: *const f32,
    scale: Option<&'a [f32]>,
    output: *mut f32,
}

// SAFETY: plain addresses; threads use disjoint elements.
unsafe impl Send for Slopes<'_> {}
// SAFETY: as above.
unsafe impl Sync for Slopes<'_> {}

impl Slopes<'_> {
    /// Element `i` of the output.
    ///
    /// # Safety
    /// It is one of the images', and no other thread uses it.
    unsafe fn element(&self, i: usize) {
        let factor = self.scale.map_or(1.0, |scale| f64::from(scale[i % scale.len()]));
        let slope = slope(apply(self.input[i], i, self.affine));
        // SAFETY: in bounds by the contract; read before it is written.
        unsafe { *self.output.add(i) = (f64::from(*self.gradient.add(i)) * slope * factor) as f32 };
    }
}
