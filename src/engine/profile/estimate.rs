//! What the launches of an op come to on a GPU that is not there.

use std::ops::AddAssign;

use serde::Serialize;

use super::{OpProfile, Precision, Roofline};

/// From a kernel's end to the next one's begin in a graph, which every run on a GPU is: an assumption, for want of a
/// GPU to measure it on.
pub const LAUNCH_GAP: f64 = 0.5e-6;

/// Seconds that an op's launches take on a GPU if nothing but its roofline holds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// Of launches that are bound by the rate of matrix products: that of the multiprocessors which have a
    /// block, when the last of the blocks are dealt out.
    pub products: f64,
    /// Of launches that are bound by the bytes of their buffers.
    pub bytes: f64,
    /// Of the gaps between launches.
    pub gaps: f64,
}

impl Estimate {
    /// On the device, gaps apart.
    pub fn busy(&self) -> f64 {
        self.products + self.bytes
    }
}

impl AddAssign for Estimate {
    fn add_assign(&mut self, other: Estimate) {
        self.products += other.products;
        self.bytes += other.bytes;
        self.gaps += other.gaps;
    }
}

impl OpProfile {
    /// What the op's launches come to on a GPU with this roofline.
    pub fn estimate(&self, roofline: &Roofline, precision: Precision) -> Estimate {
        let mut estimate = Estimate::default();
        for launch in &self.launches {
            // Every round of blocks takes as long as a full one.
            let rounds = launch.blocks.div_ceil(roofline.processors) * roofline.processors;
            let share = launch.blocks as f64 / rounds.max(1) as f64;
            let products = launch.products as f64 / (roofline.products(precision) * share);
            let bytes = launch.bytes as f64 / roofline.bytes;
            let sum = if products > bytes { &mut estimate.products } else { &mut estimate.bytes };
            *sum += products.max(bytes);
            estimate.gaps += LAUNCH_GAP;
        }
        estimate
    }
}
