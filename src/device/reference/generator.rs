//! What image-to-image generators have besides the layers of a classifier: upsampling and the scaled tanh.

use super::interpret::{Interpret, SliceContext};
use crate::device::ops::{ScaledTanh, ScaledTanhDgrad, Upsample, UpsampleDgrad};
use crate::device::{Prologue, SCALED_TANH_DIVISOR};
use crate::error::Result;

/// An image's sizes.
#[derive(Clone, Copy)]
pub struct ImageShape {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

/// Where output position `at` of a side of `len` reads: the two nearest inputs with their weights, the
/// border repeated.
fn sources(at: usize, len: usize) -> [(usize, f64); 2] {
    // The centre of output pixel `at` on the input's grid.
    let centre = ((at as f64 + 0.5) / 2.0 - 0.5).max(0.0);
    let near = centre.floor() as usize;
    let share = centre - near as f64;
    [(near, 1.0 - share), ((near + 1).min(len - 1), share)]
}

/// Every (output, input, weight) of an image's upsampling.
fn taps(size: ImageShape) -> impl Iterator<Item = (usize, usize, f64)> {
    let ImageShape { height, width, channels } = size;
    let pixels = (0..2 * height).flat_map(move |y| (0..2 * width).map(move |x| (y, x)));
    pixels.flat_map(move |(y, x)| {
        let rows = sources(y, height).into_iter();
        rows.flat_map(move |(row, down)| {
            let columns = sources(x, width).into_iter();
            columns.flat_map(move |(column, across)| {
                let (to, from) = (y * 2 * width + x, row * width + column);
                (0..channels).map(move |c| (to * channels + c, from * channels + c, down * across))
            })
        })
    })
}

/// Twice the size, bilinearly.
pub fn upsample(size: ImageShape, input: &[f64]) -> Vec<f64> {
    let len = size.height * size.width * size.channels;
    let mut output = vec![0.0; 4 * input.len()];
    for (image, output) in input.chunks_exact(len).zip(output.chunks_exact_mut(4 * len)) {
        taps(size).for_each(|(to, from, weight)| output[to] += weight * image[from]);
    }
    output
}

/// The transpose of [`upsample`].
pub fn upsample_dgrad(size: ImageShape, gradient: &[f64]) -> Vec<f64> {
    let len = size.height * size.width * size.channels;
    let mut output = vec![0.0; gradient.len() / 4];
    for (gradient, output) in gradient.chunks_exact(4 * len).zip(output.chunks_exact_mut(len)) {
        taps(size).for_each(|(to, from, weight)| output[from] += weight * gradient[to]);
    }
    output
}

/// tanh(x) / (2 + 1e-7) + 1/2.
pub fn scaled_tanh(x: f64) -> f64 {
    x.tanh() / SCALED_TANH_DIVISOR + 0.5
}

/// Its derivative.
pub fn scaled_tanh_slope(x: f64) -> f64 {
    x.cosh().powi(2).recip() / SCALED_TANH_DIVISOR
}

impl Interpret for Upsample {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let size = ImageShape { height: self.height, width: self.width, channels: self.channels };
        let values = upsample(size, &context.prologue(self.channels, &self.prologue, self.input));
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for UpsampleDgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let size = ImageShape { height: self.height, width: self.width, channels: self.channels };
        let values = upsample_dgrad(size, &context.read(self.gradient));
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for ScaledTanh {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let before = Prologue { affine: self.affine, ..Prologue::default() };
        let values = context.prologue(self.channels, &before, self.input).into_iter().map(scaled_tanh);
        context.write(self.output, &values.collect::<Vec<f64>>());
        Ok(())
    }
}

impl Interpret for ScaledTanhDgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let before = Prologue { affine: self.affine, ..Prologue::default() };
        let (values, gradient) =
            (context.prologue(self.channels, &before, self.input), context.read(self.gradient));
        let scale = self.scale.map(|scale| context.read(scale));
        let value = |(i, (x, g)): (usize, (f64, f64))| {
            g * scaled_tanh_slope(x) * scale.as_ref().map_or(1.0, |s| s[i % self.channels])
        };
        let values: Vec<f64> = values.into_iter().zip(gradient).enumerate().map(value).collect();
        context.write(self.output, &values);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::reference::tests::{difference, draw};

    #[test]
    fn gradients_are_derivatives() {
        let size = ImageShape { height: 3, width: 4, channels: 2 };
        let (input, seed) = (draw(1, 48), draw(2, 4 * 48));
        let loss = |input: &[f64]| upsample(size, input).iter().zip(&seed).map(|(a, b)| a * b).sum();
        difference(&input, &upsample_dgrad(size, &seed), loss);
        let slopes: Vec<f64> = input.iter().map(|&x| scaled_tanh_slope(5.0 * x) * 5.0).collect();
        difference(&input, &slopes, |input| input.iter().map(|x| scaled_tanh(5.0 * x)).sum());
    }

    /// PyTorch's `Upsample(scale_factor=2, mode="bilinear")` of [[1, 2], [3, 5]].
    #[test]
    fn a_small_picture_is_known() {
        let size = ImageShape { height: 2, width: 2, channels: 1 };
        let expected =
            [1.0, 1.25, 1.75, 2.0, 1.5, 1.8125, 2.4375, 2.75, 2.5, 2.9375, 3.8125, 4.25, 3.0, 3.5, 4.5, 5.0];
        assert_eq!(upsample(size, &[1.0, 2.0, 3.0, 5.0]), expected);
    }
}
