//! The state of a network in host memory.

use super::architecture::{Architecture, Role};
use super::layout::{Layout, Slot};
use crate::data::Normalisation;
use crate::rng::{Purpose, Stream, unit};
use std::ops::Range;

/// A network's numbers, with what is needed to feed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// What the numbers are of.
    pub architecture: Architecture,
    /// How the input is normalised, where known.
    pub normalisation: Option<Normalisation>,
    /// Height and width of the images it was trained on, where known.
    pub input_size: Option<(usize, usize)>,
    /// [parameters | statistics], see [`Layout`].
    pub values: Vec<f32>,
    layout: Layout,
}

impl Weights {
    /// All zeros.
    pub fn zeros(architecture: Architecture) -> Self {
        let layout = Layout::new(&architecture);
        let values = vec![0.0; layout.len()];
        Self { architecture, normalisation: None, input_size: None, values, layout }
    }

    /// PyTorch's defaults: convolution and linear tensors uniform in ±1/√fan_in (kaiming_uniform with
    /// a = √5), batch norm's scale 1, shift 0, mean 0, variance 1.
    pub fn initialise(architecture: Architecture, seed: u64) -> Self {
        let mut weights = Self::zeros(architecture);
        for (index, slot) in weights.layout.slots().iter().enumerate() {
            let values = &mut weights.values[slot.range.clone()];
            match fan_in(slot, &architecture) {
                Some(fan_in) => {
                    let stream = Stream::new(seed, Purpose::Initialise, index as u32);
                    fill_uniform(values, 1.0 / (fan_in as f32).sqrt(), &stream);
                }
                None if is_one(slot) => values.fill(1.0),
                None => {}
            }
        }
        weights
    }

    /// The same network for another number of classes: a fresh linear layer, everything else as it is.
    pub fn with_classes(self, classes: usize, seed: u64) -> Self {
        let mut fresh = Self::initialise(Architecture { classes, ..self.architecture }, seed);
        let head = self.architecture.kind.head();
        for slot in self.layout.slots().iter().filter(|slot| !slot.tensor.name.starts_with(head)) {
            if let Some(range) = fresh.offset_of(&slot.tensor.name) {
                fresh.values[range].copy_from_slice(&self.values[slot.range.clone()]);
            }
        }
        Self { normalisation: self.normalisation, input_size: self.input_size, ..fresh }
    }

    /// Where each tensor lies in `values`.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Elements of `values` that SGD trains; the statistics follow.
    pub fn trainable(&self) -> usize {
        self.layout.trainable()
    }

    /// Place of a tensor in `values`, None for a name that has none.
    pub fn offset_of(&self, name: &str) -> Option<Range<usize>> {
        self.layout.offset_of(name)
    }

    /// A tensor's elements.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        self.offset_of(name).map(|range| &self.values[range])
    }
}

/// Inputs of one output of a convolution or the linear layer; None for batch norm.
fn fan_in(slot: &Slot, architecture: &Architecture) -> Option<usize> {
    match slot.tensor.shape.as_slice() {
        [_, inputs @ ..] if !inputs.is_empty() => Some(inputs.iter().product()),
        _ if slot.tensor.name == format!("{}.bias", architecture.kind.head()) => {
            Some(architecture.features())
        }
        _ => None,
    }
}

pub(super) fn is_one(slot: &Slot) -> bool {
    slot.tensor.role == Role::RunningVariance
        || (slot.tensor.role == Role::Parameter && slot.tensor.name.ends_with(".weight"))
}

/// Uniform in [-bound, bound): element i is lane i mod 4 of block i / 4.
pub(super) fn fill_uniform(values: &mut [f32], bound: f32, stream: &Stream) {
    for (block, four) in values.chunks_mut(4).enumerate() {
        for (value, word) in four.iter_mut().zip(stream.words(block as u64)) {
            *value = bound * (2.0 * unit(word) - 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    const SMALL: Architecture =
        Architecture { kind: Kind::PreActResNet18, width: 8, classes: 10, channels: 3 };

    #[test]
    fn initial_values_are_pytorchs_defaults() {
        let weights = Weights::initialise(SMALL, 1);
        for slot in weights.layout().slots() {
            let values = &weights.values[slot.range.clone()];
            let name = &slot.tensor.name;
            let Some(fan_in) = fan_in(slot, &SMALL) else {
                let expected =
                    if name.ends_with("weight") || name.ends_with("running_var") { 1.0 } else { 0.0 };
                assert!(values.iter().all(|value| *value == expected), "{name}");
                continue;
            };
            let bound = 1.0 / (fan_in as f32).sqrt();
            assert!(values.iter().all(|value| value.abs() <= bound), "{name}");
            if values.len() < 500 {
                continue;
            }
            // Uniform in ±b has mean 0 and deviation b/√3; five standard errors of each.
            let n = values.len() as f32;
            let mean = values.iter().sum::<f32>() / n;
            let deviation = (values.iter().map(|value| value * value).sum::<f32>() / n).sqrt();
            assert!(mean.abs() < 5.0 * bound / (3.0 * n).sqrt(), "{name} mean {mean}");
            assert!(
                (deviation / bound - 3f32.sqrt().recip()).abs() < 5.0 * 0.26 / n.sqrt(),
                "{name} {deviation}"
            );
        }
    }

    #[test]
    fn seeds_and_tensors_differ() {
        let (a, b) = (Weights::initialise(SMALL, 1), Weights::initialise(SMALL, 2));
        assert_eq!(a, Weights::initialise(SMALL, 1));
        assert_ne!(a.tensor("conv1.weight"), b.tensor("conv1.weight"));
        assert_ne!(a.tensor("layer1.0.conv1.weight"), a.tensor("layer1.0.conv2.weight"));
        assert_eq!(a.tensor("linear.bias").unwrap().len(), 10);
    }
}
