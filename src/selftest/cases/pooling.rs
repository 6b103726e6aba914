//! Additions with prologues; max pooling: windows with and without padding, ties, ReLUs, NaN; adaptive pooling.

use super::super::case::Case;
use super::{Depth, Visit};
use crate::device::ops;
use crate::device::{Addend, Op, PoolShape, Prologue};
use crate::error::Result;

/// The sum of two tensors.
#[derive(Clone, Copy, Debug)]
pub struct AddCase {
    pub count: usize,
    /// Of an image.
    pub pixels: usize,
    /// Of a pixel.
    pub channels: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
    /// Affine map and ReLU of the left addend.
    pub left: (bool, bool),
    /// The same of the right one.
    pub right: (bool, bool),
    /// The addend whose memory the sum takes: 0 the left, 1 the right, else neither.
    pub place: usize,
    /// Whether operands begin on whole 32 bytes, for kernels that then access several values at once.
    pub aligned: bool,
}

impl AddCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, pixels, channels, slice, .. } = self;
        let mut case = Case::new(count, slice, seed);
        case.set_alignment(self.aligned);
        let mut addend = |(affine, relu): (bool, bool)| Addend {
            input: case.image(pixels * channels),
            prologue: Prologue { affine: affine.then(|| case.affine(channels)), relu, mask: None },
        };
        let (left, right) = (addend(self.left), addend(self.right));
        let output = match self.place {
            0 => left.input,
            1 => right.input,
            _ => case.image(pixels * channels),
        };
        case.ops = vec![Op::Add(ops::Add { pixels, channels, left, right, output })];
        case
    }
}

/// Max pooling and its gradient.
#[derive(Clone, Copy, Debug)]
pub struct MaxPoolCase {
    pub shape: PoolShape,
    pub count: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
    /// The input's affine map.
    pub affine: bool,
    /// The input's ReLU.
    pub relu: bool,
    /// Whether the argmax indices are kept and a gradient is scattered to them.
    pub argmax: bool,
    /// Every so many values is NaN; 0 for none.
    pub diverged: u32,
    /// Whether operands begin on whole 32 bytes, for kernels that then access several values at once.
    pub aligned: bool,
}

impl MaxPoolCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { shape, count, slice, affine, relu, argmax, diverged, aligned } = self;
        let mut case = Case::new(count, slice, seed);
        case.set_alignment(aligned);
        // Few values, so that many windows have two of the largest.
        let value = |v: u32| match diverged {
            1.. if v.is_multiple_of(diverged) => f32::NAN,
            _ => (v % 32) as f32 / 4.0 - 6.0,
        };
        let input = case.image_of(shape.input_len(), value);
        let affine = affine.then(|| case.affine(shape.channels));
        let prologue = Prologue { affine, relu, mask: None };
        let output = case.image(shape.output_len());
        let kept = argmax.then(|| case.words(shape.argmax_words()));
        case.ops = vec![Op::MaxPool(ops::MaxPool { shape, input, prologue, output, argmax: kept })];
        if let Some(argmax) = kept {
            let (gradient, output) = (case.image(shape.output_len()), case.image(shape.input_len()));
            case.ops.push(Op::MaxPoolDgrad(ops::MaxPoolDgrad { shape, gradient, argmax, output }));
        }
        case
    }
}

/// Adaptive average pooling and its gradient.
#[derive(Clone, Copy, Debug)]
pub struct AdaptivePoolCase {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub side: usize,
    pub count: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
}

impl AdaptivePoolCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { height, width, channels, side, count, slice } = self;
        let mut case = Case::new(count, slice, seed);
        let (pixels, windows) = (height * width * channels, side * side * channels);
        let (input, output) = (case.image(pixels), case.image(windows));
        let (gradient, back) = (case.image(windows), case.image(pixels));
        case.ops = vec![
            Op::AdaptiveAvgPool(ops::AdaptiveAvgPool { height, width, channels, side, input, output }),
            Op::AdaptiveAvgPoolDgrad(ops::AdaptiveAvgPoolDgrad {
                height,
                width,
                channels,
                side,
                gradient,
                output: back,
            }),
        ];
        case
    }
}

/// Rows, columns, channels, side, images, slice: a pixel repeated, windows that overlap, parts of equal size.
const ADAPTIVE: [[usize; 6]; 5] =
    [[1, 1, 5, 7, 3, 0], [2, 2, 40, 7, 2, 1], [7, 7, 3, 7, 2, 0], [9, 14, 6, 7, 2, 1], [5, 3, 4, 2, 3, 2]];

/// Images, pixels, channels, worker: whole fours of channels, or of all elements, or neither.
const SUMS: [[usize; 4]; 6] =
    [[1, 1, 1, 0], [3, 20, 33, 0], [5, 7, 5, 2], [2, 3, 97, 1], [3, 5, 12, 0], [2, 15, 36, 1]];

/// Rows, columns, channels, kernel, stride, pad, images.
const SHAPES: [[usize; 7]; 9] = [
    [8, 8, 5, 2, 2, 0, 3],
    [9, 7, 16, 3, 2, 1, 2],
    [1, 1, 3, 3, 2, 1, 4],
    [5, 6, 33, 3, 1, 1, 1],
    [7, 4, 4, 2, 1, 1, 2],
    [6, 11, 1, 2, 3, 0, 5],
    [13, 5, 2, 5, 2, 2, 1],
    [4, 4, 7, 4, 4, 0, 3],
    [3, 9, 6, 1, 2, 0, 2],
];

/// Sizes of networks.
const LARGE: [[usize; 7]; 2] = [[32, 32, 64, 3, 2, 1, 2], [16, 16, 48, 2, 2, 0, 3]];

/// affine, relu, argmax, diverged, in workers.
const OPERANDS: [(bool, bool, bool, u32, bool); 6] = [
    (true, true, true, 0, false),
    (false, true, true, 0, true),
    (false, false, true, 0, false),
    (false, false, false, 0, true),
    (true, true, false, 0, false),
    (false, true, true, 7, false),
];

pub(super) fn visit(depth: Depth, visit: &mut Visit) -> Result<()> {
    for (number, [count, pixels, channels, slice]) in SUMS.into_iter().enumerate() {
        for turn in 0..16_usize {
            let bit = |place: usize| turn >> place & 1 == 1;
            let (left, right) = ((bit(0), bit(1)), (bit(2), bit(3)));
            let aligned = (turn.count_ones() as usize + number).is_multiple_of(2);
            let made = AddCase { count, pixels, channels, slice, left, right, place: turn % 3, aligned };
            visit(&format!("{made:?}"), made.case((16 * number + turn) as u64))?;
        }
    }
    let large = if depth == Depth::Full { &LARGE[..] } else { &[] };
    for (number, sizes) in SHAPES.iter().chain(large).enumerate() {
        let [height, width, channels, kernel, stride, pad, count] = *sizes;
        let shape = PoolShape { height, width, channels, kernel, stride, pad };
        for (turn, &(affine, relu, argmax, diverged, workers)) in OPERANDS.iter().enumerate() {
            let slice = if workers { count.div_ceil(2) } else { 0 };
            let aligned = (turn + number) % 2 == 1;
            let made = MaxPoolCase { shape, count, slice, affine, relu, argmax, diverged, aligned };
            visit(&format!("{made:?}"), made.case((number * OPERANDS.len() + turn) as u64))?;
        }
    }
    for (seed, [height, width, channels, side, count, slice]) in ADAPTIVE.into_iter().enumerate() {
        let made = AdaptivePoolCase { height, width, channels, side, count, slice };
        visit(&format!("{made:?}"), made.case(seed as u64))?;
    }
    Ok(())
}
