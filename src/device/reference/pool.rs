//! Max pooling, global and adaptive average pooling.

use super::interpret::{Interpret, SliceContext};
use crate::device::PoolShape;
use crate::device::ops::{
    AdaptiveAvgPool, AdaptiveAvgPoolDgrad, GlobalAvgPool, GlobalAvgPoolDgrad, MaxPool, MaxPoolDgrad,
};
use crate::error::Result;

/// The largest of each window, and which of the window's pixels has it: the first, or the last NaN.
/// After a ReLU (`relu`) a window without a positive value has none.
pub fn max_pool(shape: &PoolShape, input: &[f64], relu: bool) -> (Vec<f64>, Vec<u8>) {
    let (mut output, mut argmax) = (Vec::new(), Vec::new());
    for image in input.chunks_exact(shape.input_len()) {
        for y in 0..shape.out_height() {
            for x in 0..shape.out_width() {
                for c in 0..shape.channels {
                    let taps = (0..shape.kernel * shape.kernel)
                        .filter_map(|tap| Some((tap, image[pixel(shape, y, x, tap)? * shape.channels + c])));
                    let larger = |best: (usize, f64), next: (usize, f64)| {
                        if next.1 > best.1 || next.1.is_nan() { next } else { best }
                    };
                    let (tap, value) = taps.reduce(larger).unwrap_or((0, f64::NAN));
                    output.push(value);
                    let stopped = relu && (value <= 0.0 || value.is_nan());
                    argmax.push(if stopped { PoolShape::NO_ARGMAX } else { tap as u8 });
                }
            }
        }
    }
    (output, argmax)
}

/// Every window's gradient to the pixel that is its maximum.
pub fn max_pool_dgrad(shape: &PoolShape, argmax: &[u8], gradient: &[f64]) -> Vec<f64> {
    let images = gradient.len() / shape.output_len();
    let mut output = vec![0.0; images * shape.input_len()];
    for (i, (&g, &tap)) in gradient.iter().zip(argmax).enumerate() {
        let (c, at) = (i % shape.channels, i / shape.channels);
        let (x, rest) = (at % shape.out_width(), at / shape.out_width());
        let (y, image) = (rest % shape.out_height(), rest / shape.out_height());
        if tap == PoolShape::NO_ARGMAX {
            continue;
        }
        if let Some(pixel) = pixel(shape, y, x, usize::from(tap)) {
            output[(image * shape.height * shape.width + pixel) * shape.channels + c] += g;
        }
    }
    output
}

/// The pixel of the input that is number `tap` in window (y, x), unless it lies in the border.
fn pixel(shape: &PoolShape, y: usize, x: usize, tap: usize) -> Option<usize> {
    let row = (y * shape.stride + tap / shape.kernel).checked_sub(shape.pad)?;
    let column = (x * shape.stride + tap % shape.kernel).checked_sub(shape.pad)?;
    (row < shape.height && column < shape.width).then_some(row * shape.width + column)
}

/// Whether row or column `at` of `size` lies in window `window` of `side`.
fn covers(window: usize, at: usize, size: usize, side: usize) -> bool {
    window * size / side <= at && at < ((window + 1) * size).div_ceil(side)
}

/// How much of each pixel is in each window's mean: windows × pixels.
fn shares(height: usize, width: usize, side: usize) -> Vec<Vec<f64>> {
    let window = |at: usize| {
        let inside = |pixel: usize| {
            covers(at / side, pixel / width, height, side) && covers(at % side, pixel % width, width, side)
        };
        let row: Vec<f64> = (0..height * width).map(|pixel| f64::from(u8::from(inside(pixel)))).collect();
        let pixels: f64 = row.iter().sum();
        row.into_iter().map(|share| share / pixels).collect()
    };
    (0..side * side).map(window).collect()
}

/// Means of side × side windows, channels first.
pub fn adaptive([height, width, channels]: [usize; 3], side: usize, input: &[f64]) -> Vec<f64> {
    let shares = shares(height, width, side);
    let mean = |image: &[f64], c: usize, shares: &[f64]| {
        shares.iter().enumerate().map(|(pixel, share)| image[pixel * channels + c] * share).sum::<f64>()
    };
    let images = input.chunks_exact(height * width * channels);
    images
        .flat_map(|image| (0..channels).flat_map(move |c| (0..side * side).map(move |at| (image, c, at))))
        .map(|(image, c, at)| mean(image, c, &shares[at]))
        .collect()
}

/// The gradient of what [`adaptive`] reads.
pub fn adaptive_dgrad([height, width, channels]: [usize; 3], side: usize, gradient: &[f64]) -> Vec<f64> {
    let (shares, pixels) = (shares(height, width, side), height * width);
    let mut output = vec![0.0; gradient.len() / (side * side) * pixels];
    for (i, g) in gradient.iter().enumerate() {
        let (at, c, image) = (i % (side * side), i / (side * side) % channels, i / (side * side) / channels);
        for (pixel, share) in shares[at].iter().enumerate() {
            output[(image * pixels + pixel) * channels + c] += g * share;
        }
    }
    output
}

/// Numbers of pixels as words: four to a word; every output pixel begins a new one.
pub fn pack(argmax: &[u8], channels: usize) -> Vec<u32> {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
    argmax.chunks_exact(channels).flat_map(|pixel| pixel.chunks(4).map(word)).collect()
}

/// The reverse of [`pack`].
pub fn unpack(words: &[u32], channels: usize) -> Vec<u8> {
    let pixels = words.chunks_exact(channels.div_ceil(4));
    pixels.flat_map(|pixel| (0..channels).map(|c| (pixel[c / 4] >> (c % 4 * 8)) as u8)).collect()
}

/// Mean over the pixels of each image.
pub fn average_pool(pixels: usize, channels: usize, input: &[f64]) -> Vec<f64> {
    let images = input.chunks_exact(pixels * channels);
    let mean = |image: &[f64], c: usize| image.iter().skip(c).step_by(channels).sum::<f64>() / pixels as f64;
    images.flat_map(|image| (0..channels).map(move |c| mean(image, c))).collect()
}

/// gradient / pixels on every pixel.
pub fn average_pool_dgrad(pixels: usize, channels: usize, gradient: &[f64]) -> Vec<f64> {
    let images = gradient.chunks_exact(channels);
    images
        .flat_map(|image| (0..pixels * channels).map(move |i| image[i % channels] / pixels as f64))
        .collect()
}

impl Interpret for MaxPool {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let input = context.prologue(self.shape.channels, &self.prologue, self.input);
        let (values, taps) = max_pool(&self.shape, &input, self.prologue.relu);
        context.write(self.output, &values);
        if let Some(argmax) = self.argmax {
            let words = pack(&taps, self.shape.channels);
            context.write(argmax, &words.into_iter().map(f64::from).collect::<Vec<_>>());
        }
        Ok(())
    }
}

impl Interpret for MaxPoolDgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let taps = unpack(&context.words(self.argmax), self.shape.channels);
        let values = max_pool_dgrad(&self.shape, &taps, &context.read(self.gradient));
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for GlobalAvgPool {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let values = average_pool(self.pixels, self.channels, &context.read(self.input));
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for GlobalAvgPoolDgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let values = average_pool_dgrad(self.pixels, self.channels, &context.read(self.gradient));
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for AdaptiveAvgPool {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let sizes = [self.height, self.width, self.channels];
        let values = adaptive(sizes, self.side, &context.read(self.input));
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for AdaptiveAvgPoolDgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let sizes = [self.height, self.width, self.channels];
        let values = adaptive_dgrad(sizes, self.side, &context.read(self.gradient));
        context.write(self.output, &values);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::reference::tests::{difference, draw};

    fn product(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn gradients_are_derivatives() {
        for (kernel, stride, pad) in [(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 1, 1), (1, 2, 0)] {
            let shape = PoolShape { height: 7, width: 6, channels: 3, kernel, stride, pad };
            let (input, seed) = (draw(1, 2 * shape.input_len()), draw(2, 2 * shape.output_len()));
            for relu in [false, true] {
                let loss = |input: &[f64]| {
                    let kept: Vec<f64> = input.iter().map(|&x| if relu { x.max(0.0) } else { x }).collect();
                    product(&max_pool(&shape, &kept, relu).0, &seed)
                };
                let (_, argmax) = max_pool(&shape, &input, relu);
                let packed = unpack(&pack(&argmax, 3), 3);
                difference(&input, &max_pool_dgrad(&shape, &packed, &seed), loss);
            }
        }
    }

    #[test]
    fn adaptive_gradients_are_derivatives() {
        for sizes in [[1, 1, 2], [2, 3, 2], [9, 7, 3]] {
            let len = sizes.iter().product::<usize>();
            let (input, seed) = (draw(1, 2 * len), draw(2, 2 * 49 * sizes[2]));
            difference(&input, &adaptive_dgrad(sizes, 7, &seed), |input| {
                product(&adaptive(sizes, 7, input), &seed)
            });
        }
        assert_eq!(adaptive([1, 1, 2], 2, &[3.0, 4.0]), [3.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 4.0]);
        assert_eq!(adaptive([3, 1, 1], 2, &[1.0, 2.0, 4.0]), [1.5, 1.5, 3.0, 3.0]);
    }

    #[test]
    fn the_first_of_equals_is_the_maximum_and_nan_shows() {
        let shape = PoolShape { height: 2, width: 2, channels: 1, kernel: 2, stride: 2, pad: 0 };
        assert_eq!(max_pool(&shape, &[1.0, 3.0, 3.0, 2.0], false), (vec![3.0], vec![1]));
        let (value, argmax) = max_pool(&shape, &[1.0, f64::NAN, 3.0, 2.0], false);
        assert!(value[0].is_nan() && argmax == [1]);
        assert_eq!(max_pool(&shape, &[-1.0, -3.0, -2.0, -2.0], true).1, [PoolShape::NO_ARGMAX]);
    }
}
