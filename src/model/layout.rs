//! Where each tensor of a state dict lies in one flat buffer: [parameters | statistics].

use super::architecture::{Architecture, Role, TensorSpec};
use std::ops::Range;

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
            tensors.into_iter().partition(|tensor| tensor.role == Role::Parameter);
        let statistics = others.into_iter().filter(|tensor| tensor.role != Role::BatchCount);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn slots_tile_the_buffer_parameters_first() {
        let architecture = Architecture { kind: Kind::PreActResNet18, width: 5, classes: 7, channels: 1 };
        let layout = Layout::new(&architecture);
        let mut end = 0;
        for slot in layout.slots() {
            assert_eq!(slot.range.start, end);
            end = slot.range.end;
            assert_eq!(slot.tensor.role == Role::Parameter, slot.range.end <= layout.trainable());
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
