//! Where a session's memory lies: all that launching an op needs to know of it.

use crate::data::ImageSet;
use crate::device::{BatchSlice, Region, Span};

/// Where an allocation begins on the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub address: u64,
}

/// The buffers of [`super::room::Room`].
pub(super) struct Scratch {
    pub operands: Vec<Place>,
    pub partials: Place,
    /// Of the update's parts.
    pub table: Place,
}

/// A resident image set.
pub(super) struct Images {
    /// Held, so that its pixels' address names it.
    pub set: ImageSet,
    pub pixels: Place,
}

/// Where everything is.
pub(super) struct Addresses {
    pub regions: [Place; 7],
    pub filters: Vec<Place>,
    pub scratch: Scratch,
    pub scalars: Place,
    pub images: Vec<Option<Images>>,
}

impl Addresses {
    /// The address of what a span means for a slice of a checked program.
    pub fn address(&self, span: Span, slice: BatchSlice) -> u64 {
        let offset = match span.region {
            Region::Staging => span.offset + slice.first * span.len,
            _ => span.offset,
        };
        self.regions[span.region as usize].address + (offset * size_of::<f32>()) as u64
    }
}
