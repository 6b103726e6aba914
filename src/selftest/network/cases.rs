//! The networks of a self-test, and their initial weights.

use crate::device::Norm;
use crate::model::{Architecture, NetworkKind, Weights};
use crate::selftest::cases::Depth;

/// Of the initial weights.
const SEED: u64 = 2;
/// How far the norms move what goes into a ReLU, as many of its standard deviations.
const SHIFT: f32 = 2.0;

/// A network and how it is used.
#[derive(Clone, Copy, Debug)]
pub struct NetworkCase {
    pub network: NetworkKind,
    pub width: usize,
    pub classes: usize,
    pub height: usize,
    pub columns: usize,
    pub channels: usize,
    pub batch: usize,
    pub norm: Norm,
}

impl NetworkCase {
    pub fn architecture(&self) -> Architecture {
        let &NetworkCase { network, width, classes, channels, .. } = self;
        Architecture { network, width, classes, channels }
    }

    /// What training begins with: drawn, but for the norms' shifts, by turns one way and the other.
    ///
    /// Were the shifts zero, about one ReLU input in a million would lie within 1e-6 of zero, where devices that
    /// are right round to either side, and ten steps have half a million. In a deep layer of six pixels such a
    /// one is a 36th of its channel, and ten steps make percents of the loss of it: an input of -6e-8 did so on
    /// an H100. Two standard deviations from zero they are a seventh as dense.
    pub fn initial(&self) -> Vec<f32> {
        let architecture = self.architecture();
        let mut weights = Weights::initialise(architecture, SEED);
        for slot in weights.layout().slots().to_vec() {
            let name = &slot.tensor.name;
            let statistics = name.strip_suffix(".bias").map(|key| format!("{key}.running_mean"));
            if statistics.is_some_and(|name| weights.offset_of(&name).is_some()) {
                let shifts = weights.values[slot.range].iter_mut().enumerate();
                shifts.for_each(|(c, shift)| *shift = if c % 2 == 0 { SHIFT } else { -SHIFT });
            }
        }
        weights.values
    }

    pub fn label(&self) -> String {
        let NetworkCase { network, width, classes, height, columns, channels, batch, norm } = self;
        format!(
            "{}, width {width}, {classes} classes, {height}x{columns}x{channels}, batch {batch}, {norm:?}",
            network.name()
        )
    }
}

/// The networks of a test.
pub fn network_cases(depth: Depth) -> Vec<NetworkCase> {
    let norm = Norm::Linf;
    let network = NetworkKind::PreActResNet18;
    let small =
        NetworkCase { network, width: 4, classes: 10, height: 8, columns: 8, channels: 3, batch: 6, norm };
    let residual = NetworkCase { network: NetworkKind::ResNet18, width: 2, height: 33, columns: 40, ..small };
    match depth {
        Depth::Quick => vec![small, residual],
        Depth::Full => vec![
            small,
            residual,
            NetworkCase { network: NetworkKind::ResNet18SmallStem, height: 15, columns: 17, ..small },
            NetworkCase {
                width: 5,
                classes: 7,
                height: 12,
                columns: 20,
                channels: 1,
                norm: Norm::L2,
                ..small
            },
            NetworkCase { width: 16, classes: 200, height: 16, columns: 16, ..small },
            NetworkCase { width: 8, classes: 1, height: 9, columns: 9, batch: 3, ..small },
            NetworkCase {
                network: NetworkKind::ResNet50,
                width: 1,
                height: 40,
                columns: 33,
                batch: 4,
                ..small
            },
            NetworkCase { network: NetworkKind::Vgg11Bn, width: 2, height: 40, columns: 64, ..small },
            NetworkCase {
                network: NetworkKind::Vgg16BnSmallHead,
                width: 3,
                height: 33,
                columns: 32,
                ..small
            },
        ],
    }
}
