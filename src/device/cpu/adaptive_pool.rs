//! Adaptive average pooling with its output channels first, forward and backward, image by image.

use super::conv::Threads;
use super::grain;
use rayon::prelude::*;
use std::ops::Range;

/// Sizes of an image and of the pooled one.
#[derive(Clone, Copy)]
pub(super) struct Adaptive {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub side: usize,
}

/// Rows or columns of window `at` of `side` over `size`.
fn window(at: usize, size: usize, side: usize) -> Range<usize> {
    at * size / side..((at + 1) * size).div_ceil(side)
}

impl Adaptive {
    /// Calls `visit` for every pixel of every window: the window, the pixel, 1 / the window's pixels.
    fn each(&self, mut visit: impl FnMut(usize, usize, f32)) {
        for y in 0..self.side {
            let rows = window(y, self.height, self.side);
            for x in 0..self.side {
                let columns = window(x, self.width, self.side);
                let share = 1.0 / (rows.len() * columns.len()) as f32;
                for row in rows.clone() {
                    columns
                        .clone()
                        .for_each(|column| visit(y * self.side + x, row * self.width + column, share));
                }
            }
        }
    }

    /// output (channels, side, side) = the means of the windows of input (height, width, channels).
    pub fn forward(&self, input: &[f32], output: &mut [f32], threads: Threads) {
        let (pixels, windows) = (self.height * self.width, self.side * self.side);
        output
            .par_chunks_mut(windows * self.channels)
            .zip(input.par_chunks(pixels * self.channels))
            .with_min_len(grain(threads))
            .for_each(|(output, image)| {
                output.fill(0.0);
                self.each(|window, pixel, share| {
                    let values = &image[pixel * self.channels..(pixel + 1) * self.channels];
                    for (c, value) in values.iter().enumerate() {
                        output[c * windows + window] += value * share;
                    }
                });
            });
    }

    /// Every window's gradient to its pixels.
    pub fn backward(&self, gradient: &[f32], output: &mut [f32], threads: Threads) {
        let (pixels, windows) = (self.height * self.width, self.side * self.side);
        output
            .par_chunks_mut(pixels * self.channels)
            .zip(gradient.par_chunks(windows * self.channels))
            .with_min_len(grain(threads))
            .for_each(|(output, gradient)| {
                output.fill(0.0);
                self.each(|window, pixel, share| {
                    let values = &mut output[pixel * self.channels..(pixel + 1) * self.channels];
                    for (c, value) in values.iter_mut().enumerate() {
                        *value += gradient[c * windows + window] * share;
                    }
                });
            });
    }
}
