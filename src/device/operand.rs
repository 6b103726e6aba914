//! What ops work on: regions of memory, spans of them, filters, and what happens to a tensor while it is read.
//!
//! Layout: activations are NHWC in f32. The flat parameter buffer holds filters as KCRS, as files have them;
//! [`LoadFilter`](super::ops::LoadFilter) brings them into the device's own form. A mask has one bit per element, and
//! every pixel's channels begin a new 32-bit word. Sizes are per image; how many images a slice has is known only
//! when it runs ([`super::BatchSlice`]), so a batch need not be a multiple of anything.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::shape::ConvShape;

/// Where a span lives. Every region is one allocation, sized before the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Region {
    /// Trainable parameters, then batch-norm running statistics: the flat state of a network.
    Weights,
    /// Gradients of the trainable parameters, same offsets as `Weights`.
    Gradients,
    /// SGD momentum, same offsets as `Weights`; under Adam the first moments, and after them the second.
    Momentum,
    /// Exponential moving average of all of `Weights`.
    Average,
    /// Scales and shifts that prepare-ops derive, and constants.
    Derived,
    /// Activations of one slice; each worker has its own.
    Arena,
    /// Rows in and out of a run (indices, labels, budgets, logits, losses), written and read by
    /// the host. A span here holds `len` elements for each row; a slice's rows start at `first`.
    Staging,
}

impl Region {
    /// Every region, in the order of the variants.
    pub const ALL: [Region; 7] = [
        Region::Weights,
        Region::Gradients,
        Region::Momentum,
        Region::Average,
        Region::Derived,
        Region::Arena,
        Region::Staging,
    ];
}

/// A run of 4-byte elements. For `Arena`, `offset` is the slot's start and `len` its size for one
/// image (image i of the slice at `offset + i * len`). For `Staging`, row r is at
/// `offset + r * len`. Elsewhere `len` is the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The allocation.
    pub region: Region,
    /// First element.
    pub offset: usize,
    /// Elements (per image or row in `Arena` and `Staging`).
    pub len: usize,
}

impl Span {
    /// Its elements for `capacity` images; staging has one row here.
    pub(super) fn extent(&self, capacity: usize) -> Range<usize> {
        let copies = if self.region == Region::Arena { capacity } else { 1 };
        self.offset..self.offset + self.len * copies
    }

    /// Whether they share memory, for as many images.
    pub(super) fn overlaps(&self, other: &Span, capacity: usize) -> bool {
        let (one, other_extent) = (self.extent(capacity), other.extent(capacity));
        self.region == other.region && one.start < other_extent.end && other_extent.start < one.end
    }
}

/// Words of the mask of an image of `pixels` × `channels`: every pixel starts a new word.
pub fn mask_words(pixels: usize, channels: usize) -> usize {
    pixels * channels.div_ceil(32)
}

/// Which side of a convolution a filter is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Input to output.
    Fprop,
    /// Output gradient to input gradient.
    Dgrad,
}

/// A filter made ready by [`LoadFilter`](super::ops::LoadFilter); index into [`super::Program::filters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterId(pub usize);

/// What a device needs to know to hold a filter in its own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterSpec {
    /// The convolution it belongs to.
    pub shape: ConvShape,
    /// The side it is used on.
    pub direction: Direction,
}

/// `scale[c] * x + shift[c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Affine {
    /// Per channel.
    pub scale: Span,
    /// Per channel.
    pub shift: Span,
}

/// What happens to an op's input while it is read: affine, then ReLU. Zero padding is
/// applied after it. `mask` receives the sign bits (1 where the ReLU lets pass).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Prologue {
    /// Batch norm as an affine map, or the input normalisation.
    pub affine: Option<Affine>,
    /// max(0, ·).
    pub relu: bool,
    /// Where the bits go ([`mask_words`] per image), if the backward pass wants them.
    pub mask: Option<Span>,
}

impl Prologue {
    /// FLOP of an element.
    pub(super) fn flop(&self) -> usize {
        2 * usize::from(self.affine.is_some()) + usize::from(self.relu)
    }
}

/// A tensor to be added to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addend {
    /// The tensor.
    pub input: Span,
    /// What happens to it before.
    pub prologue: Prologue,
}

/// Random crop and flip of a batch, drawn per image from (seed, epoch, index in its set).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Augment {
    /// Zero padding of the random crop; 0 = none.
    pub pad: usize,
    /// Mirror with probability one half.
    pub flip: bool,
}

/// A loaded image set ([`super::Session::attach`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageSlot(pub usize);

/// The ball of the attack; in files `linf` and `l2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// |r|∞ ≤ ε: step α·sign(g).
    #[default]
    Linf,
    /// |r|₂ ≤ ε: step α·g/|g|₂.
    L2,
}
