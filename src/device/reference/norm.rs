//! Batch norm over rows (images × pixels) of channels.

use super::interpret::{Interpret, SliceContext};
use crate::device::ops::{BatchNormAffine, BatchNormDgrad, BatchNormStats};
use crate::error::Result;

/// Scale and shift per channel.
pub type ScaleShift = (Vec<f64>, Vec<f64>);

/// Batch statistics of a tensor.
pub struct BatchStats {
    pub mean: Vec<f64>,
    /// Biased.
    pub variance: Vec<f64>,
    /// Of the rows.
    pub rows: usize,
}

/// scale = gamma / sqrt(variance + epsilon), shift = beta − mean·scale.
pub fn affine(gamma: &[f64], beta: &[f64], mean: &[f64], variance: &[f64], epsilon: f64) -> ScaleShift {
    let scale: Vec<f64> = gamma.iter().zip(variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shift = (0..beta.len()).map(|c| beta[c] - mean[c] * scale[c]).collect();
    (scale, shift)
}

/// The values of channel `c`.
fn channel(values: &[f64], channels: usize, c: usize) -> impl Iterator<Item = f64> + '_ {
    values.iter().skip(c).step_by(channels).copied()
}

/// Mean and biased variance per channel, in two passes.
pub fn statistics(input: &[f64], channels: usize) -> BatchStats {
    let rows = input.len() / channels;
    let average =
        |c: usize, f: &dyn Fn(f64) -> f64| channel(input, channels, c).map(f).sum::<f64>() / rows as f64;
    let mean: Vec<f64> = (0..channels).map(|c| average(c, &|x| x)).collect();
    let variance = (0..channels).map(|c| average(c, &|x| (x - mean[c]).powi(2))).collect();
    BatchStats { mean, variance, rows }
}

/// What the backward pass gives.
pub struct Backward {
    pub output: Vec<f64>,
    pub gamma_gradient: Vec<f64>,
    pub beta_gradient: Vec<f64>,
}

/// Backward of norm(input) with batch statistics, `gradient` already masked by the ReLU after it.
pub fn dgrad(input: &[f64], gradient: &[f64], gamma: &[f64], mean: &[f64], inverse_std: &[f64]) -> Backward {
    let channels = gamma.len();
    let rows = (input.len() / channels) as f64;
    let normalised: Vec<f64> =
        input.iter().enumerate().map(|(i, x)| (x - mean[i % channels]) * inverse_std[i % channels]).collect();
    let beta_gradient: Vec<f64> = (0..channels).map(|c| channel(gradient, channels, c).sum()).collect();
    let gamma_gradient: Vec<f64> = (0..channels)
        .map(|c| {
            channel(gradient, channels, c).zip(channel(&normalised, channels, c)).map(|(g, x)| g * x).sum()
        })
        .collect();
    let map = |(i, g): (usize, &f64)| {
        let c = i % channels;
        gamma[c] * inverse_std[c] * (g - beta_gradient[c] / rows - normalised[i] * gamma_gradient[c] / rows)
    };
    let output = gradient.iter().enumerate().map(map).collect();
    Backward { output, gamma_gradient, beta_gradient }
}

impl Interpret for BatchNormAffine {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let (gamma, beta) = (context.read(self.gamma), context.read(self.beta));
        let (mean, variance) = (context.read(self.mean), context.read(self.variance));
        let (scale, shift) = affine(&gamma, &beta, &mean, &variance, f64::from(self.epsilon));
        context.write(self.affine.scale, &scale);
        context.write(self.affine.shift, &shift);
        Ok(())
    }
}

impl Interpret for BatchNormStats {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let found = statistics(&context.read(self.input), self.channels);
        let (gamma, beta) = (context.read(self.gamma), context.read(self.beta));
        let epsilon = f64::from(self.epsilon);
        let (scale, shift) = affine(&gamma, &beta, &found.mean, &found.variance, epsilon);
        let inverse: Vec<f64> = found.variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
        let rows = found.rows as f64;
        let unbiased: Vec<f64> = found.variance.iter().map(|v| v * rows / (rows - 1.0).max(1.0)).collect();
        let momentum = f64::from(self.momentum);
        for (span, values) in [(self.running_mean, &found.mean), (self.running_variance, &unbiased)] {
            let old = context.read(span);
            let moved = old.iter().zip(values).map(|(old, new)| (1.0 - momentum) * old + momentum * new);
            context.write(span, &moved.collect::<Vec<f64>>());
        }
        context.write(self.mean, &found.mean);
        context.write(self.inverse_std, &inverse);
        context.write(self.affine.scale, &scale);
        context.write(self.affine.shift, &shift);
        Ok(())
    }
}

impl Interpret for BatchNormDgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let (input, gamma) = (context.read(self.input), context.read(self.gamma));
        let mut gradient = context.read(self.gradient);
        if let Some((scale, shift)) = self.relu.map(|affine| context.affine(affine)) {
            for (i, g) in gradient.iter_mut().enumerate() {
                let c = i % gamma.len();
                if scale[c] * input[i] + shift[c] <= 0.0 {
                    *g = 0.0;
                }
            }
        }
        let (mean, inverse_std) = (context.read(self.mean), context.read(self.inverse_std));
        let mut backward = dgrad(&input, &gradient, &gamma, &mean, &inverse_std);
        context.add(&mut backward.output, self.residual, false);
        context.write(self.output, &backward.output);
        context.write(self.gamma_gradient, &backward.gamma_gradient);
        context.write(self.beta_gradient, &backward.beta_gradient);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::reference::tests::{difference, draw};

    #[test]
    fn the_backward_pass_is_the_derivative() {
        let (channels, rows) = (3, 7);
        let (input, weight) = (draw(1, rows * channels), draw(2, rows * channels));
        let (gamma, beta) = (draw(3, channels), draw(4, channels));
        let loss = |input: &[f64], gamma: &[f64], beta: &[f64]| {
            let s = statistics(input, channels);
            let (scale, shift) = affine(gamma, beta, &s.mean, &s.variance, 1e-5);
            let normed = |i: usize| scale[i % channels] * input[i] + shift[i % channels];
            (0..input.len()).map(|i| weight[i] * normed(i)).sum::<f64>()
        };
        let s = statistics(&input, channels);
        let inverse_std: Vec<f64> = s.variance.iter().map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
        let backward = dgrad(&input, &weight, &gamma, &s.mean, &inverse_std);
        difference(&input, &backward.output, |input| loss(input, &gamma, &beta));
        difference(&gamma, &backward.gamma_gradient, |gamma| loss(&input, gamma, &beta));
        difference(&beta, &backward.beta_gradient, |beta| loss(&input, &gamma, beta));
    }
}
