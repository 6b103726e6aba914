//! Max pooling and global average pooling, forward and backward, image by image.

use rayon::prelude::*;

use super::classifier::add_scaled;
use super::execute::{Context, Execute};
use super::grain;
use super::simd::vectorised;
use crate::device::PoolShape;
use crate::device::ops::{GlobalAvgPool, GlobalAvgPoolDgrad, MaxPool, MaxPoolDgrad};
use crate::error::Result;

impl Execute for MaxPool {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let (frame, shape) = (context.frame, &self.shape);
        // SAFETY: the operands were checked.
        let (input, prologue, output) = unsafe {
            (frame.input(self.input), frame.prologue(&self.prologue, false), frame.output(self.output))
        };
        // SAFETY: as above.
        let argmax = self.argmax.map(|argmax| unsafe { frame.output_words(argmax) });
        let (affine, relu, grain) = (prologue.affine, prologue.relu, grain(frame.threads));
        let images = output.par_chunks_mut(shape.output_len()).zip(input.par_chunks(shape.input_len()));
        match argmax {
            Some(argmax) => images
                .zip(argmax.par_chunks_mut(shape.argmax_words()))
                .with_min_len(grain)
                .for_each(|((output, image), argmax)| {
                    pool_image(shape, affine, relu, image, output, bytemuck::cast_slice_mut(argmax));
                }),
            None => images
                .with_min_len(grain)
                .for_each(|(output, image)| pool_image(shape, affine, relu, image, output, &mut [])),
        }
        Ok(())
    }
}

vectorised! {
    /// `argmax` has the bytes of the words, or none.
    fn pool_image(
        shape: &PoolShape,
        affine: Option<(&[f32], &[f32])>,
        relu: bool,
        image: &[f32],
        output: &mut [f32],
        argmax: &mut [u8],
    ) {
        let (channels, bytes) = (shape.channels, 4 * shape.pixel_words());
        for (at, best) in output.chunks_exact_mut(channels).enumerate() {
            let window = Window::new(shape, at);
            let (taps, rest) = match argmax.get_mut(at * bytes..(at + 1) * bytes) {
                Some(pixel) => pixel.split_at_mut(channels),
                None => Default::default(),
            };
            best.fill(f32::NEG_INFINITY);
            taps.fill(window.first_tap());
            rest.fill(0);
            window.visit(|tap, pixel| {
                let values = &image[pixel * channels..(pixel + 1) * channels];
                match affine {
                    Some((scale, shift)) => {
                        let (scale, shift) = (&scale[..channels], &shift[..channels]);
                        keep_larger(|c| scale[c] * values[c] + shift[c], tap, best, taps);
                    }
                    None => keep_larger(|c| values[c], tap, best, taps),
                }
            });
            // The largest of what a ReLU lets through is what it lets through of the largest.
            if relu {
                for (tap, value) in taps.iter_mut().zip(&*best) {
                    *tap = if *value > 0.0 { *tap } else { PoolShape::NO_ARGMAX };
                }
                best.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
            }
        }
    }
}

/// Where `value` is larger, or NaN, it replaces the best so far; `taps`, unless empty, becomes `tap` there.
#[inline(always)]
fn keep_larger(value: impl Fn(usize) -> f32, tap: u8, best: &mut [f32], taps: &mut [u8]) {
    let larger = |c: usize, best: f32| {
        let value = value(c);
        (value > best || value.is_nan()).then_some(value)
    };
    if taps.is_empty() {
        for (c, best) in best.iter_mut().enumerate() {
            *best = larger(c, *best).unwrap_or(*best);
        }
        return;
    }
    for (c, (best, best_tap)) in best.iter_mut().zip(taps).enumerate() {
        if let Some(value) = larger(c, *best) {
            (*best, *best_tap) = (value, tap);
        }
    }
}

impl Execute for MaxPoolDgrad {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let (frame, shape) = (context.frame, &self.shape);
        // SAFETY: the operands were checked.
        let (gradient, argmax, output) =
            unsafe { (frame.input(self.gradient), frame.words(self.argmax), frame.output(self.output)) };
        output
            .par_chunks_mut(shape.input_len())
            .zip(gradient.par_chunks(shape.output_len()))
            .zip(argmax.par_chunks(shape.argmax_words()))
            .with_min_len(grain(frame.threads))
            .for_each(|((output, gradient), argmax)| {
                dgrad_image(shape, gradient, bytemuck::cast_slice(argmax), output);
            });
        Ok(())
    }
}

vectorised! {
    fn dgrad_image(shape: &PoolShape, gradient: &[f32], argmax: &[u8], output: &mut [f32]) {
        let (channels, bytes) = (shape.channels, 4 * shape.pixel_words());
        output.fill(0.0);
        for (at, gradient) in gradient.chunks_exact(channels).enumerate() {
            let taps = &argmax[at * bytes..at * bytes + channels];
            Window::new(shape, at).visit(|tap, pixel| {
                let sums = &mut output[pixel * channels..(pixel + 1) * channels];
                for ((sum, best), g) in sums.iter_mut().zip(taps).zip(gradient) {
                    *sum += if *best == tap { *g } else { 0.0 };
                }
            });
        }
    }
}

/// The pixels of an output pixel's window that lie in the image.
struct Window {
    kernel: usize,
    width: usize,
    /// Row and column where the window begins, the border counted.
    start: (usize, usize),
    pad: usize,
    /// Its rows and columns inside the image.
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Window {
    /// Of output pixel `at` of an image.
    #[inline(always)]
    fn new(shape: &PoolShape, at: usize) -> Self {
        let PoolShape { height, width, kernel, stride, pad, .. } = *shape;
        let start = (at / shape.out_width() * stride, at % shape.out_width() * stride);
        let inside = |start: usize, len: usize| start.max(pad)..(start + kernel).min(len + pad);
        Self { kernel, width, start, pad, rows: inside(start.0, height), columns: inside(start.1, width) }
    }

    #[inline(always)]
    fn tap(&self, row: usize, column: usize) -> u8 {
        ((row - self.start.0) * self.kernel + column - self.start.1) as u8
    }

    #[inline(always)]
    fn first_tap(&self) -> u8 {
        self.tap(self.rows.start, self.columns.start)
    }

    /// Calls `visit` with each pixel's number in the window and in the image.
    #[inline(always)]
    fn visit(&self, mut visit: impl FnMut(u8, usize)) {
        for row in self.rows.clone() {
            for column in self.columns.clone() {
                visit(self.tap(row, column), (row - self.pad) * self.width + column - self.pad);
            }
        }
    }
}

impl Execute for GlobalAvgPool {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (input, output) = unsafe { (frame.input(self.input), frame.output(self.output)) };
        output
            .par_chunks_mut(self.channels)
            .zip(input.par_chunks(self.pixels * self.channels))
            .with_min_len(grain(frame.threads))
            .for_each(|(output, image)| average_image(image, output));
        Ok(())
    }
}

vectorised! {
    fn average_image(image: &[f32], output: &mut [f32]) {
        let pixels = image.len() / output.len();
        output.fill(0.0);
        for pixel in image.chunks_exact(output.len()) {
            add_scaled(output, pixel, 1.0);
        }
        for value in output {
            *value /= pixels as f32;
        }
    }
}

impl Execute for GlobalAvgPoolDgrad {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (gradient, output) = unsafe { (frame.input(self.gradient), frame.output(self.output)) };
        output
            .par_chunks_mut(self.pixels * self.channels)
            .zip(gradient.par_chunks(self.channels))
            .with_min_len(grain(frame.threads))
            .for_each(|(image, gradient)| {
                let (first, rest) = image.split_at_mut(self.channels);
                for (value, g) in first.iter_mut().zip(gradient) {
                    *value = g / self.pixels as f32;
                }
                rest.chunks_exact_mut(self.channels).for_each(|pixel| pixel.copy_from_slice(first));
            });
        Ok(())
    }
}
