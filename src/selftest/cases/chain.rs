//! Two convolutions in a row, forward and backward. A device may forward the output of the first as the operand of the
//! second, and not store it if nothing else reads it.

use super::super::case::Case;
use super::{Depth, Visit};
use crate::device::ops;
use crate::device::{ConvShape, Direction, Op, Prologue, Region, Span, mask_words};
use crate::error::Result;

/// A block, x → first → a → second → y, with or without a shortcut from a, forward and backward.
#[derive(Clone, Copy, Debug)]
pub struct ConvChainCase {
    pub count: usize,
    /// Sizes of the first convolution.
    pub first: ConvShape,
    /// Sizes of the second; its input is the first's output.
    pub second: ConvShape,
    /// Whether an affine map is applied to a when it is read.
    pub affine: bool,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// Whether its mask is kept and used by the gradient.
    pub mask: bool,
    /// Whether the shortcut is a 1x1 convolution of the same input.
    pub shortcut: bool,
    /// Whether another op reads a.
    pub kept: bool,
    /// Whether the gradient of y comes out of a batch norm.
    pub norm: bool,
}

impl ConvChainCase {
    pub fn case(&self, seed: u64) -> Case {
        let ConvChainCase { first, second, .. } = *self;
        let mut case = Case::new(self.count, 0, seed);
        case.align();
        let (x, bias) = (case.image(first.input_len()), case.whole(Region::Weights, first.out_channels));
        let (a, y) = (case.image(first.output_len()), case.image(second.output_len()));
        let pixels = second.height * second.width;
        let prologue = Prologue {
            affine: self.affine.then(|| case.affine(second.in_channels)),
            relu: self.relu,
            mask: self.mask.then(|| case.words(mask_words(pixels, second.in_channels))),
        };
        let filter = case.loaded_filter(first, Direction::Fprop);
        let conv = ops::Conv { bias: Some(bias), ..ops::Conv::plain(first, filter, x, a) };
        case.ops = vec![Op::Conv(conv)];
        self.read(&mut case, a, prologue, y);
        case.keep_or_discard(self.kept, a);
        self.backward(&mut case, x, prologue.mask, y);
        case
    }

    /// The second convolution, whose result is added to the shortcut's. The first reader makes the mask.
    fn read(&self, case: &mut Case, input: Span, mut prologue: Prologue, output: Span) {
        let shape = self.second;
        let bias = None;
        let residual = self.shortcut.then(|| {
            let shape = ConvShape { kernel: 1, pad: 0, ..shape };
            let (filter, output) =
                (case.loaded_filter(shape, Direction::Fprop), case.image(shape.output_len()));
            let residual = None;
            case.ops.push(Op::Conv(ops::Conv { shape, filter, input, prologue, bias, residual, output }));
            prologue.mask = None;
            case.discard(output);
            output
        });
        let filter = case.loaded_filter(shape, Direction::Fprop);
        case.ops.push(Op::Conv(ops::Conv { shape, filter, input, prologue, bias, residual, output }));
    }

    /// y's gradient → a's → x's, and the first filter's.
    fn backward(&self, case: &mut Case, x: Span, mask: Option<Span>, y: Span) {
        let ConvChainCase { first, second, .. } = *self;
        let gradient = case.image(second.output_len());
        let of_y = if self.norm { self.norm(case, y, gradient) } else { gradient };
        let (of_a, of_x) = (case.image(first.output_len()), case.image(first.input_len()));
        let scale = self.affine.then(|| case.whole(Region::Derived, second.in_channels));
        let filters = [second, first].map(|shape| case.loaded_filter(shape, Direction::Dgrad));
        // A device may round a's gradient from the shortcut. Not after a norm: there the last bits decide which way.
        let add = (self.shortcut && !self.norm).then(|| {
            let shape = ConvShape { kernel: 1, pad: 0, ..second };
            let (filter, output) =
                (case.loaded_filter(shape, Direction::Dgrad), case.image(shape.input_len()));
            case.ops.push(Op::ConvDgrad(ops::ConvDgrad::plain(shape, filter, of_y, output)));
            case.discard(output);
            output
        });
        let plain = ops::ConvDgrad::plain(second, filters[0], of_y, of_a);
        case.ops.push(Op::ConvDgrad(ops::ConvDgrad { add, mask, scale, ..plain }));
        let weight_gradient = case.whole(Region::Gradients, first.filter_len());
        let (shape, gradient, prologue) = (first, of_a, Prologue::default());
        case.ops.push(Op::ConvWgrad(ops::ConvWgrad { shape, input: x, prologue, gradient, weight_gradient }));
        // As in a block without a convolution in its shortcut.
        let residual = (first.input_len() == of_a.len).then_some(of_a);
        let plain = ops::ConvDgrad::plain(shape, filters[1], gradient, of_x);
        case.ops.push(Op::ConvDgrad(ops::ConvDgrad { residual, ..plain }));
        case.discard(of_a);
    }

    /// The gradient of y through a norm after it.
    fn norm(&self, case: &mut Case, input: Span, gradient: Span) -> Span {
        let channels = self.second.out_channels;
        // Small, so that f32 is exact enough for the sums of two convolutions.
        let mut derived = |divisor| {
            case.whole_of(Region::Derived, channels, |v| (v % 32) as f32 / divisor - 16.0 / divisor)
        };
        let (gamma, mean, inverse_std) = (derived(32.0), derived(8.0), derived(64.0));
        let mut gradients = || case.whole(Region::Gradients, channels);
        let (gamma_gradient, beta_gradient) = (gradients(), gradients());
        let output = case.image(gradient.len);
        case.ops.push(Op::BatchNormDgrad(ops::BatchNormDgrad {
            pixels: gradient.len / channels,
            channels,
            input,
            gamma,
            mean,
            inverse_std,
            relu: None,
            gradient,
            residual: None,
            output,
            gamma_gradient,
            beta_gradient,
        }));
        case.discard(output);
        output
    }
}

/// Rows, columns, channels of x, a and y, kernel and stride of the first, of the second, images. The channels
/// of a are half a mask word, a word and a half, whole words, or end within a vector.
const SHAPES: [[usize; 10]; 8] = [
    [6, 5, 3, 16, 16, 3, 1, 3, 1, 2],
    [4, 4, 16, 16, 40, 3, 1, 3, 2, 1],
    [5, 7, 6, 40, 5, 1, 1, 1, 1, 2],
    [6, 6, 5, 64, 64, 3, 2, 3, 1, 3],
    [3, 4, 8, 100, 20, 1, 1, 3, 1, 2],
    [4, 3, 5, 13, 64, 3, 1, 1, 2, 1],
    [5, 4, 12, 12, 20, 3, 1, 3, 1, 2],
    [4, 4, 64, 64, 64, 3, 1, 3, 2, 1],
];

/// Affine map, ReLU, mask, shortcut, kept, norm.
const READERS: [[bool; 6]; 5] = [
    [false, false, false, false, false, false],
    [true, true, true, true, false, true],
    [false, true, true, false, true, false],
    [true, true, true, true, true, true],
    [true, false, false, true, false, false],
];

/// [`Depth::Quick`]: two combinations of readers for each shape; else all.
pub(super) fn visit(depth: Depth, visit: &mut Visit) -> Result<()> {
    for (number, sizes) in SHAPES.iter().enumerate() {
        let [height, width, inputs, between, outputs, kernel, stride, next_kernel, next_stride, count] =
            *sizes;
        let first = shape([height, width, inputs, between, kernel, stride]);
        let second =
            shape([first.out_height(), first.out_width(), between, outputs, next_kernel, next_stride]);
        for (turn, readers) in READERS.iter().enumerate() {
            if depth == Depth::Quick && (turn + number) % 5 > 1 {
                continue;
            }
            let [affine, relu, mask, shortcut, kept, norm] = *readers;
            let made = ConvChainCase { count, first, second, affine, relu, mask, shortcut, kept, norm };
            visit(&format!("{made:?}"), made.case((number * READERS.len() + turn) as u64))?;
        }
    }
    Ok(())
}

/// A convolution's sizes, with the padding that keeps rows and columns at stride 1.
pub(super) fn shape([height, width, in_channels, out_channels, kernel, stride]: [usize; 6]) -> ConvShape {
    ConvShape { height, width, in_channels, out_channels, kernel, stride, pad: kernel / 2 }
}
