//! Where each tensor of a state dict lies in one flat buffer: [parameters | statistics].

use super::architecture::Architecture;
use crate::rng::{Purpose, Stream, unit};
use std::ops::Range;

/// What a tensor of a state dict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorRole {
    /// Trained by SGD.
    Parameter,
    /// Batch norm's running mean.
    RunningMean,
    /// Batch norm's running variance.
    RunningVariance,
    /// Batch norm's `num_batches_tracked`, an i64 that nothing here reads.
    BatchCount,
}

/// A tensor's name, shape and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Key in the state dict.
    pub name: String,
    /// Outermost dimension first; a convolution's is out × in × rows × columns (KCRS).
    pub shape: Vec<usize>,
    /// Use.
    pub role: TensorRole,
}

/// A tensor and its elements' place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Name, shape, role.
    pub tensor: TensorSpec,
    /// Place in the flat buffer.
    pub range: Range<usize>,
}

/// Trainable tensors in state-dict order, then running means and variances in state-dict order.
/// Batch counts have no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    slots: Vec<Slot>,
    trainable: usize,
    len: usize,
}

impl Layout {
    /// The layout of an architecture's tensors.
    pub fn new(architecture: &Architecture) -> Self {
        Self::of(architecture.tensors())
    }

    /// The layout of a list of tensors.
    pub fn of(tensors: Vec<TensorSpec>) -> Self {
        let (parameters, others): (Vec<_>, Vec<_>) =
            tensors.into_iter().partition(|tensor| tensor.role == TensorRole::Parameter);
        let statistics = others.into_iter().filter(|tensor| tensor.role != TensorRole::BatchCount);
        let mut layout = Self { slots: Vec::with_capacity(parameters.len() * 2), trainable: 0, len: 0 };
        layout.append(parameters);
        layout.trainable = layout.len;
        layout.append(statistics);
        layout
    }

    fn append(&mut self, tensors: impl IntoIterator<Item = TensorSpec>) {
        for tensor in tensors {
            let start = self.len;
            self.len += tensor.shape.iter().product::<usize>();
            self.slots.push(Slot { tensor, range: start..self.len });
        }
    }

    /// Tensors in buffer order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Place of a tensor, None for a name that has none.
    pub fn offset_of(&self, name: &str) -> Option<Range<usize>> {
        self.slots.iter().find(|slot| slot.tensor.name == name).map(|slot| slot.range.clone())
    }

    /// PyTorch's defaults: a convolution's and a linear layer's tensors uniform in ±1/√fan_in (kaiming_uniform with
    /// a = √5), batch norm's scale 1, shift 0, mean 0, variance 1. Tensor i draws from stream `first` + i.
    pub fn initialise(&self, seed: u64, first: u32) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        for (index, slot) in self.slots.iter().enumerate() {
            let Slot { tensor: TensorSpec { name, role, .. }, range } = slot;
            let values = &mut values[range.clone()];
            if let Some(fan_in) = self.fan_in(name) {
                let stream = Stream::new(seed, Purpose::Initialise, first + index as u32);
                fill_uniform(values, 1.0 / (fan_in as f32).sqrt(), &stream);
            } else if *role == TensorRole::RunningVariance || name.ends_with(".weight") {
                values.fill(1.0);
            }
        }
        values
    }

    /// Inputs of one output of the convolution or linear layer that a tensor belongs to; None for batch norm.
    pub(super) fn fan_in(&self, tensor: &str) -> Option<usize> {
        let weight = format!("{}.weight", tensor.rsplit_once('.')?.0);
        let slot = self.slots.iter().find(|slot| slot.tensor.name == weight)?;
        match slot.tensor.shape.as_slice() {
            [_, inputs @ ..] if !inputs.is_empty() => Some(inputs.iter().product()),
            _ => None,
        }
    }

    /// Elements that SGD trains: the first part of the buffer.
    pub fn trainable(&self) -> usize {
        self.trainable
    }

    /// Elements of the buffer.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element; never true of a real architecture.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Uniform in [-bound, bound): element i is lane i mod 4 of block i / 4.
fn fill_uniform(values: &mut [f32], bound: f32, stream: &Stream) {
    for (block, four) in values.chunks_mut(4).enumerate() {
        for (value, word) in four.iter_mut().zip(stream.words(block as u64)) {
            *value = bound * (2.0 * unit(word) - 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NetworkKind;

    #[test]
    fn slots_tile_the_buffer_parameters_first() {
        let architecture =
            Architecture { network: NetworkKind::PreActResNet18, width: 5, classes: 7, channels: 1 };
        let layout = Layout::new(&architecture);
        let mut end = 0;
        for slot in layout.slots() {
            assert_eq!(slot.range.start, end);
            end = slot.range.end;
            assert_eq!(slot.tensor.role == TensorRole::Parameter, slot.range.end <= layout.trainable());
        }
        assert_eq!(end, layout.len());
        assert_eq!(layout.slots().len(), 54 + 32);
        assert_eq!(layout.offset_of("conv1.weight"), Some(0..45));
        assert_eq!(layout.offset_of("layer1.0.bn1.weight"), Some(45..50));
        let first_statistic = layout.trainable()..layout.trainable() + 5;
        assert_eq!(layout.offset_of("layer1.0.bn1.running_mean"), Some(first_statistic));
        assert_eq!(layout.offset_of("layer1.0.bn1.num_batches_tracked"), None);
        assert_eq!(layout.offset_of("fc.weight"), None);
    }
}
