//! Adaptive average pooling with its output channels first, forward and backward, image by image.

use std::ops::Range;

use rayon::prelude::*;

use super::execute::{Context, Execute};
use super::grain;
use crate::device::ops::{AdaptiveAvgPool, AdaptiveAvgPoolDgrad};
use crate::error::Result;

/// Rows or columns of window `at` of `side` over `size`.
fn window(at: usize, size: usize, side: usize) -> Range<usize> {
    at * size / side..((at + 1) * size).div_ceil(side)
}

/// Calls `visit` for every pixel of every window: the window, the pixel, 1 / the window's pixels.
fn each((height, width): (usize, usize), side: usize, mut visit: impl FnMut(usize, usize, f32)) {
    for y in 0..side {
        let rows = window(y, height, side);
        for x in 0..side {
            let columns = window(x, width, side);
            let share = 1.0 / (rows.len() * columns.len()) as f32;
            for row in rows.clone() {
                columns.clone().for_each(|column| visit(y * side + x, row * width + column, share));
            }
        }
    }
}

impl Execute for AdaptiveAvgPool {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let (frame, channels) = (context.frame, self.channels);
        // SAFETY: the operands were checked.
        let (input, output) = unsafe { (frame.input(self.input), frame.output(self.output)) };
        let (pixels, windows) = (self.height * self.width, self.side * self.side);
        output
            .par_chunks_mut(windows * channels)
            .zip(input.par_chunks(pixels * channels))
            .with_min_len(grain(frame.threads))
            .for_each(|(output, image)| {
                output.fill(0.0);
                each((self.height, self.width), self.side, |window, pixel, share| {
                    let values = &image[pixel * channels..(pixel + 1) * channels];
                    for (c, value) in values.iter().enumerate() {
                        output[c * windows + window] += value * share;
                    }
                });
            });
        Ok(())
    }
}

impl Execute for AdaptiveAvgPoolDgrad {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let (frame, channels) = (context.frame, self.channels);
        // SAFETY: the operands were checked.
        let (gradient, output) = unsafe { (frame.input(self.gradient), frame.output(self.output)) };
        let (pixels, windows) = (self.height * self.width, self.side * self.side);
        output
            .par_chunks_mut(pixels * channels)
            .zip(gradient.par_chunks(windows * channels))
            .with_min_len(grain(frame.threads))
            .for_each(|(output, gradient)| {
                output.fill(0.0);
                each((self.height, self.width), self.side, |window, pixel, share| {
                    let values = &mut output[pixel * channels..(pixel + 1) * channels];
                    for (c, value) in values.iter_mut().enumerate() {
                        *value += gradient[c * windows + window] * share;
                    }
                });
            });
        Ok(())
    }
}
