//! Helpers of the reference's own tests: finite differences.

use crate::device::ConvShape;
use crate::device::reference::conv::{dgrad, fprop, wgrad};
use crate::rng::{Purpose, Stream};

/// Numbers in [-1, 1).
pub fn draw(seed: u64, len: usize) -> Vec<f64> {
    let stream = Stream::new(seed, Purpose::Synthetic, 0);
    (0..len).map(|i| 2.0 * f64::from(stream.uniform(i as u64, 0)) - 1.0).collect()
}

/// Asserts that `gradient` is the derivative of `loss` at `point`, by central differences.
pub fn difference(point: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
    assert_eq!(point.len(), gradient.len());
    let context = 1e-5;
    for i in 0..point.len() {
        let mut moved = point.to_vec();
        moved[i] = point[i] + context;
        let above = loss(&moved);
        moved[i] = point[i] - context;
        let slope = (above - loss(&moved)) / (2.0 * context);
        let error = (slope - gradient[i]).abs();
        assert!(error < 1e-6 * (1.0 + slope.abs()), "element {i}: {} is not {slope}", gradient[i]);
    }
}

#[test]
fn convolution_gradients_are_derivatives() {
    for (kernel, stride, pad) in [(3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 1, 0), (3, 3, 2)] {
        let shape = ConvShape { height: 5, width: 4, in_channels: 2, out_channels: 3, kernel, stride, pad };
        let input = draw(1, 2 * shape.input_len());
        let weights = draw(2, shape.filter_len());
        let seed = draw(3, 2 * shape.output_len());
        let loss = |input: &[f64], weights: &[f64]| -> f64 {
            fprop(&shape, input, weights).iter().zip(&seed).map(|(a, b)| a * b).sum()
        };
        difference(&input, &dgrad(&shape, &seed, &weights), |input| loss(input, &weights));
        difference(&weights, &wgrad(&shape, &input, &seed), |weights| loss(&input, weights));
    }
}
