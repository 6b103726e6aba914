//! The state of a network in host memory.

use super::architecture::Architecture;
use super::layout::Layout;
use crate::data::Normalisation;
use crate::digest::Digest;
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

    /// PyTorch's defaults ([`Layout::initialise`]).
    pub fn initialise(architecture: Architecture, seed: u64) -> Self {
        let mut weights = Self::zeros(architecture);
        weights.values = weights.layout.initialise(seed, 0);
        weights
    }

    /// The same network for another number of classes: a fresh linear layer, everything else as it is.
    pub fn with_classes(self, classes: usize, seed: u64) -> Self {
        let mut fresh = Self::initialise(Architecture { classes, ..self.architecture }, seed);
        let classifier = format!("{}.", self.architecture.network.classifier());
        for slot in self.layout.slots().iter().filter(|slot| !slot.tensor.name.starts_with(&classifier)) {
            if let Some(range) = fresh.offset_of(&slot.tensor.name) {
                fresh.values[range].copy_from_slice(&self.values[slot.range.clone()]);
            }
        }
        Self { normalisation: self.normalisation, input_size: self.input_size, ..fresh }
    }

    /// A digest of the numbers.
    pub fn digest(&self) -> String {
        Digest::default().numbers(&self.values).finish()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NetworkKind;

    const SMALL: Architecture =
        Architecture { network: NetworkKind::PreActResNet18, width: 8, classes: 10, channels: 3 };

    #[test]
    fn initial_values_are_pytorchs_defaults() {
        let weights = Weights::initialise(SMALL, 1);
        for slot in weights.layout().slots() {
            let values = &weights.values[slot.range.clone()];
            let name = &slot.tensor.name;
            let Some(fan_in) = weights.layout().fan_in(name) else {
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
