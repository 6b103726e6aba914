//! Convolution as its definition says: NHWC images, KCRS filters, one loop per index.

use super::interpret::{Interpret, SliceContext};
use crate::device::ops::{Conv, ConvDgrad, ConvWgrad, LoadFilter};
use crate::device::{ConvShape, mask_words};
use crate::error::Result;

/// Calls `visit(output, weight, input)` with the positions of every product of one image.
fn products(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let ConvShape { height, width, in_channels, out_channels, kernel, stride, pad } = *shape;
    for (y, x) in (0..shape.out_height()).flat_map(|y| (0..shape.out_width()).map(move |x| (y, x))) {
        for (r, s) in (0..kernel).flat_map(|r| (0..kernel).map(move |s| (r, s))) {
            let (row, column) = (y * stride + r, x * stride + s);
            if row < pad || column < pad || row - pad >= height || column - pad >= width {
                continue;
            }
            let output = (y * shape.out_width() + x) * out_channels;
            let input = ((row - pad) * width + column - pad) * in_channels;
            for k in 0..out_channels {
                for c in 0..in_channels {
                    let weight = ((k * in_channels + c) * kernel + r) * kernel + s;
                    visit(output + k, weight, input + c);
                }
            }
        }
    }
}

/// Output (images × P × Q × K) of input (images × H × W × C) and weights (KCRS).
pub fn fprop(shape: &ConvShape, input: &[f64], weights: &[f64]) -> Vec<f64> {
    let mut output = Vec::new();
    for image in input.chunks_exact(shape.input_len()) {
        let mut sums = vec![0.0; shape.output_len()];
        products(shape, |o, w, i| sums[o] += weights[w] * image[i]);
        output.extend(sums);
    }
    output
}

/// Gradient of the input.
pub fn dgrad(shape: &ConvShape, gradient: &[f64], weights: &[f64]) -> Vec<f64> {
    let mut output = Vec::new();
    for image in gradient.chunks_exact(shape.output_len()) {
        let mut sums = vec![0.0; shape.input_len()];
        products(shape, |o, w, i| sums[i] += weights[w] * image[o]);
        output.extend(sums);
    }
    output
}

/// Gradient of the weights (KCRS), summed over the images.
pub fn wgrad(shape: &ConvShape, input: &[f64], gradient: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; shape.filter_len()];
    let images = input.chunks_exact(shape.input_len()).zip(gradient.chunks_exact(shape.output_len()));
    for (image, gradient) in images {
        products(shape, |o, w, i| sums[w] += gradient[o] * image[i]);
    }
    sums
}

/// scale·x + shift per channel, then max(0, ·), NaN for NaN, where `relu`; rows of `channels`.
pub fn prologue(input: &[f64], channels: usize, affine: Option<(&[f64], &[f64])>, relu: bool) -> Vec<f64> {
    let map = |(i, &x): (usize, &f64)| {
        let value = affine.map_or(x, |(scale, shift)| scale[i % channels] * x + shift[i % channels]);
        if relu && value < 0.0 { 0.0 } else { value }
    };
    input.iter().enumerate().map(map).collect()
}

/// One bit per element, 1 where positive; channel c of a pixel is bit c % 32 of the pixel's word c / 32.
pub fn mask(values: &[f64], channels: usize) -> Vec<u32> {
    let words = mask_words(1, channels);
    let mut mask = vec![0; values.len() / channels * words];
    for (i, _) in values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
        let (pixel, c) = (i / channels, i % channels);
        mask[pixel * words + c / 32] |= 1 << (c % 32);
    }
    mask
}

/// Whether the mask lets element `i` of rows of `channels` pass.
pub fn passes(mask: &[u32], channels: usize, i: usize) -> bool {
    let (pixel, c) = (i / channels, i % channels);
    mask[pixel * mask_words(1, channels) + c / 32] >> (c % 32) & 1 == 1
}

impl Interpret for LoadFilter {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let per_filter = self.weights.len / context.program.filters[self.filter.0].shape.out_channels;
        let mut values = context.read(self.weights);
        if let Some(scale) = self.scale.map(|scale| context.read(scale)) {
            values.iter_mut().enumerate().for_each(|(i, value)| *value *= scale[i / per_filter]);
        }
        context.state.filters[self.filter.0] = context.rounded(values);
        Ok(())
    }
}

impl Interpret for Conv {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let channels = self.shape.in_channels;
        let input = context.prologue(channels, &self.prologue, self.input);
        let operand = context.rounded(input.clone());
        let mut values = fprop(&self.shape, &operand, &context.state.filters[self.filter.0]);
        if let Some(bias) = self.bias.map(|bias| context.read(bias)) {
            values.iter_mut().enumerate().for_each(|(i, value)| *value += bias[i % bias.len()]);
        }
        context.add(&mut values, self.residual, context.rounded.residual);
        if let Some(bits) = self.prologue.mask {
            let words: Vec<f64> = mask(&input, channels).into_iter().map(f64::from).collect();
            context.write(bits, &words);
        }
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for ConvDgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let channels = self.shape.in_channels;
        let gradient = context.rounded(context.read(self.gradient));
        let mut values = dgrad(&self.shape, &gradient, &context.state.filters[self.filter.0]);
        context.add(&mut values, self.add, context.rounded.add);
        let mask = self.mask.map(|mask| context.words(mask));
        let scale = self.scale.map(|scale| context.read(scale));
        for (i, value) in values.iter_mut().enumerate() {
            *value *= scale.as_ref().map_or(1.0, |scale| scale[i % channels]);
            if mask.as_ref().is_some_and(|mask| !passes(mask, channels, i)) {
                *value = 0.0;
            }
        }
        context.add(&mut values, self.residual, context.rounded.residual);
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for ConvWgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let input = context.rounded(context.prologue(self.shape.in_channels, &self.prologue, self.input));
        let values = wgrad(&self.shape, &input, &context.rounded(context.read(self.gradient)));
        context.write(self.weight_gradient, &values);
        Ok(())
    }
}
