//! Ops that only image networks have.

use super::super::case::Case;
use super::{Depth, Visit};
use crate::device::ops;
use crate::device::{Op, Prologue, Region};
use crate::error::Result;

/// Upsampling and its gradient.
#[derive(Clone, Copy, Debug)]
pub struct UpsampleCase {
    pub count: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    pub channels: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
    /// Whether there is an affine map before it.
    pub affine: bool,
    /// Whether there is a ReLU before it.
    pub relu: bool,
}

impl UpsampleCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, height, width, channels, slice, affine, relu } = self;
        let mut case = Case::new(count, slice, seed);
        let len = height * width * channels;
        let affine = affine.then(|| case.affine(channels));
        let prologue = Prologue { affine, relu, mask: None };
        let (input, output) = (case.image(len), case.image(4 * len));
        let (gradient, spread) = (case.image(4 * len), case.image(len));
        case.ops = vec![
            Op::Upsample(ops::Upsample { height, width, channels, input, prologue, output }),
            Op::UpsampleDgrad(ops::UpsampleDgrad { height, width, channels, gradient, output: spread }),
        ];
        case
    }
}

/// The scaled tanh and its gradient.
#[derive(Clone, Copy, Debug)]
pub struct ScaledTanhCase {
    pub count: usize,
    /// Of an image.
    pub pixels: usize,
    /// Of a pixel.
    pub channels: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
    /// Whether there is an affine map before it.
    pub affine: bool,
    /// Whether the gradient is multiplied by a scale.
    pub scaled: bool,
    /// Whether the gradient is overwritten.
    pub in_place: bool,
}

impl ScaledTanhCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, pixels, channels, slice, affine, scaled, in_place } = self;
        let mut case = Case::new(count, slice, seed);
        let len = pixels * channels;
        let affine = affine.then(|| case.affine(channels));
        let scale = scaled.then(|| case.whole(Region::Derived, channels));
        let (input, output, gradient) = (case.image(len), case.image(len), case.image(len));
        let back = if in_place { gradient } else { case.image(len) };
        case.ops = vec![
            Op::ScaledTanh(ops::ScaledTanh { pixels, channels, input, affine, output }),
            Op::ScaledTanhDgrad(ops::ScaledTanhDgrad {
                pixels,
                channels,
                input,
                affine,
                gradient,
                scale,
                output: back,
            }),
        ];
        case
    }
}

/// Images, rows, columns, channels, worker.
const SIZES: [[usize; 5]; 6] =
    [[1, 1, 1, 1, 0], [2, 1, 5, 3, 0], [3, 4, 1, 17, 2], [2, 3, 4, 33, 0], [5, 2, 2, 8, 1], [2, 8, 8, 6, 0]];

pub(super) fn visit(_: Depth, visit: &mut Visit) -> Result<()> {
    for (number, [count, height, width, channels, slice]) in SIZES.into_iter().enumerate() {
        for (affine, relu) in [(false, false), (true, true), (true, false), (false, true)] {
            let made = UpsampleCase { count, height, width, channels, slice, affine, relu };
            visit(&format!("{made:?}"), made.case(number as u64))?;
        }
        let pixels = height * width;
        for (affine, scaled, in_place) in [(false, false, false), (true, true, true), (true, false, false)] {
            let made = ScaledTanhCase { count, pixels, channels, slice, affine, scaled, in_place };
            visit(&format!("{made:?}"), made.case(number as u64))?;
        }
    }
    Ok(())
}
