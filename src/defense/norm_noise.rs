//! Noise on a network's neurons: the scale and shift of every batch norm's channels, which ANP and BAN perturb.
//!
//! A neuron is a channel of a batch norm: γ' = γ · (scale + δ), β' = β · (1 + ξ). Where a network has its norms before the
//! convolutions, that is an input channel of the next convolution.

use std::ops::Range;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// The batch norms' scales and shifts, in order.
pub(super) struct Neurons {
    spans: Vec<(Range<usize>, Range<usize>)>,
    /// γ of all neurons.
    pub gamma: Vec<f32>,
    /// β of all neurons.
    pub beta: Vec<f32>,
}

/// Relative noise, δ and ξ of every neuron.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Noise {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

impl Neurons {
    /// Those of the model as it is.
    ///
    /// # Errors
    /// A network without batch norm.
    pub fn of(model: &Engine, name: &str) -> Result<Self> {
        let spans = model.graph().norms();
        if spans.is_empty() {
            return Err(Error::input(format!("--defense {name}: the network has no batch norm")));
        }
        let read = |values: Vec<&Range<usize>>, part: &dyn Fn(&Range<usize>) -> Result<Vec<f32>>| {
            values.into_iter().map(part).collect::<Result<Vec<_>>>().map(|parts| parts.concat())
        };
        let gamma = read(spans.iter().map(|span| &span.0).collect(), &|range| model.parameters(range))?;
        let beta = read(spans.iter().map(|span| &span.1).collect(), &|range| model.parameters(range))?;
        Ok(Self { spans, gamma, beta })
    }

    pub fn len(&self) -> usize {
        self.gamma.len()
    }

    /// Writes γ · (scale + δ) and β · (1 + ξ) into the model; `scale` is 1 where there is none.
    pub fn write(&self, model: &mut Engine, scale: Option<&[f32]>, noise: Option<&Noise>) -> Result<()> {
        let mut first = 0;
        for (gamma, beta) in &self.spans {
            let at = first..first + gamma.len();
            let scaled = at.clone().map(|i| {
                let (scale, delta) = (scale.map_or(1.0, |scale| scale[i]), noise.map_or(0.0, |n| n.gamma[i]));
                self.gamma[i] * (scale + delta)
            });
            model.set_parameters(gamma.start, &scaled.collect::<Vec<_>>())?;
            let shifted = at.map(|i| self.beta[i] * (1.0 + noise.map_or(0.0, |noise| noise.beta[i])));
            model.set_parameters(beta.start, &shifted.collect::<Vec<_>>())?;
            first += gamma.len();
        }
        Ok(())
    }

    /// The last backward pass's gradients at γ' and β', each times γ and β: those of δ and ξ.
    pub fn gradients(&self, model: &Engine) -> Result<Noise> {
        let (mut gamma, mut beta) = (vec![], vec![]);
        for span in &self.spans {
            gamma.extend(model.gradient(&span.0)?);
            beta.extend(model.gradient(&span.1)?);
        }
        gamma.iter_mut().zip(&self.gamma).for_each(|(gradient, own)| *gradient *= own);
        beta.iter_mut().zip(&self.beta).for_each(|(gradient, own)| *gradient *= own);
        Ok(Noise { gamma, beta })
    }

    /// Turns `gradients` (of all parameters) at γ' and β' into those at γ and β.
    pub fn through_noise(&self, gradients: &mut [f32], noise: &Noise) {
        let mut first = 0;
        for (gamma, beta) in &self.spans {
            for (at, i) in gamma.clone().zip(first..) {
                gradients[at] *= 1.0 + noise.gamma[i];
            }
            for (at, i) in beta.clone().zip(first..) {
                gradients[at] *= 1.0 + noise.beta[i];
            }
            first += gamma.len();
        }
    }
}

impl Noise {
    /// Uniform in ±`size`; `number` tells draws apart.
    pub fn draw(neurons: usize, size: f32, seed: u64, number: u32) -> Self {
        let stream = Stream::new(seed, Purpose::Noise, number);
        let lane =
            |lane| (0..neurons as u64).map(|at| size * (2.0 * stream.uniform(at, lane) - 1.0)).collect();
        Self { gamma: lane(0), beta: lane(1) }
    }

    /// A step of `size` along the gradients' signs; zero gradients move nothing.
    pub fn ascend(&mut self, gradients: &Noise, size: f32) {
        let step = |value: &mut f32, gradient: &f32| {
            let sign = if *gradient == 0.0 { 0.0 } else { gradient.signum() };
            *value += size * sign;
        };
        self.gamma.iter_mut().zip(&gradients.gamma).for_each(|(value, gradient)| step(value, gradient));
        self.beta.iter_mut().zip(&gradients.beta).for_each(|(value, gradient)| step(value, gradient));
    }
}
