//! Convolution as its definition says: NHWC images, KCRS filters, one loop per index.

use crate::device::{ConvShape, mask_words};

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
