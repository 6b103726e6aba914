//! Convolutions with and without each optional operand, in place or not.

use super::super::case::Case;
use super::{Depth, Visit};
use crate::device::ops;
use crate::device::{ConvShape, Direction, FilterSpec, Op, Precision, Prologue, Region, Span, mask_words};
use crate::error::Result;

/// Where an optional addend lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddendPlace {
    /// There is none.
    None,
    /// In memory of its own.
    Apart,
    /// Where the output goes.
    Output,
}

/// A forward convolution, the gradient of its input and, outside data-parallel programs, of its filter.
#[derive(Clone, Copy, Debug)]
pub struct ConvCase {
    pub shape: ConvShape,
    pub count: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
    /// The input's affine map.
    pub affine: bool,
    /// The input's ReLU.
    pub relu: bool,
    /// Whether the ReLU's mask is kept and used by the gradient.
    pub mask: bool,
    /// Of the output.
    pub bias: bool,
    /// Filters scaled when loaded, and the input gradient by channel.
    pub scaled: bool,
    /// Of both outputs.
    pub residual: AddendPlace,
    /// Of the input gradient.
    pub add: AddendPlace,
    /// Operands on whole 32 bytes, for kernels that then access several values at once.
    pub aligned: bool,
}

impl ConvCase {
    pub fn case(&self, seed: u64) -> Case {
        let shape = self.shape;
        let mut case = Case::new(self.count, 0, seed);
        if self.aligned {
            case.align();
        }
        let filters = [Direction::Fprop, Direction::Dgrad].map(|direction| {
            let filter = case.filter(FilterSpec { shape, direction });
            let scale = self.scaled.then(|| case.whole(Region::Derived, shape.out_channels));
            let weights = case.whole_of(Region::Weights, shape.filter_len(), |v| v as f32 / 512.0 - 0.5);
            case.setup.push(Op::LoadFilter(ops::LoadFilter { filter, weights, scale }));
            filter
        });
        // From here on the operands of images are where a worker's slice can have them.
        case.slice = self.slice;
        let (inputs, outputs) = (shape.input_len(), shape.output_len());
        let (input, gradient) = (case.image(inputs), case.image(outputs));
        let mask = self.mask.then(|| case.words(mask_words(shape.height * shape.width, shape.in_channels)));
        let affine = self.affine.then(|| case.affine(shape.in_channels));
        let prologue = Prologue { affine, relu: self.relu, mask };
        let (output, input_gradient) = (case.image(outputs), case.image(inputs));
        let residual = addend(&mut case, self.residual, output);
        let add = addend(&mut case, self.add, input_gradient);
        let passed_on = addend(&mut case, self.residual, input_gradient);
        let bias = self.bias.then(|| case.whole(Region::Weights, shape.out_channels));
        let scale = self.scaled.then(|| case.whole(Region::Derived, shape.in_channels));
        case.ops = vec![
            Op::Conv(ops::Conv { shape, filter: filters[0], input, prologue, bias, residual, output }),
            Op::ConvDgrad(ops::ConvDgrad {
                shape,
                filter: filters[1],
                gradient,
                add,
                mask,
                scale,
                residual: passed_on,
                output: input_gradient,
            }),
        ];
        if self.slice == 0 {
            let weight_gradient = case.whole(Region::Gradients, shape.filter_len());
            let prologue = Prologue { mask: None, ..prologue };
            case.ops.push(Op::ConvWgrad(ops::ConvWgrad {
                shape,
                input,
                prologue,
                gradient,
                weight_gradient,
            }));
        }
        case
    }
}

/// A ReLU before a 1x1 convolution, on values of which some are NaN: they stay NaN.
#[derive(Clone, Copy, Debug)]
pub struct NanInputCase {
    pub count: usize,
    /// Of the input and of the output.
    pub channels: (usize, usize),
}

impl NanInputCase {
    pub fn case(&self, seed: u64) -> Case {
        let (in_channels, out_channels) = self.channels;
        let shape =
            ConvShape { height: 3, width: 3, in_channels, out_channels, kernel: 1, stride: 1, pad: 0 };
        let mut case = Case::new(self.count, 0, seed);
        let filter = case.filter(FilterSpec { shape, direction: Direction::Fprop });
        let weights = case.whole_of(Region::Weights, shape.filter_len(), |v| v as f32 / 512.0 - 0.5);
        case.setup.push(Op::LoadFilter(ops::LoadFilter { filter, weights, scale: None }));
        let value = |v: u32| if v.is_multiple_of(16) { f32::NAN } else { v as f32 / 64.0 - 4.0 };
        let input = case.image_of(shape.input_len(), value);
        let prologue = Prologue { relu: true, ..Prologue::default() };
        let output = case.image(shape.output_len());
        case.ops =
            vec![Op::Conv(ops::Conv { shape, filter, input, prologue, bias: None, residual: None, output })];
        case
    }
}

/// The addend of `output`.
fn addend(case: &mut Case, place: AddendPlace, output: Span) -> Option<Span> {
    match place {
        AddendPlace::None => None,
        AddendPlace::Apart => Some(case.image(output.len)),
        AddendPlace::Output => Some(output),
    }
}

/// Rows, columns, in and out channels, kernel, stride, pad, images. Two have odd channels and wide tiles in bf16. The
/// CUDA device splits wgrad into parts of 128 pixels: the 7x7 kernel at stride 1 has two, the last shape ten, more than
/// it adds up at once; both end with a shorter one.
const SHAPES: [[usize; 8]; 16] = [
    [1, 1, 1, 1, 1, 1, 0, 1],
    [5, 7, 3, 5, 3, 1, 1, 3],
    [8, 8, 33, 17, 3, 1, 1, 1],
    [7, 5, 9, 40, 3, 2, 1, 2],
    [6, 6, 16, 31, 1, 2, 0, 2],
    [4, 9, 70, 3, 1, 1, 0, 1],
    [9, 9, 3, 8, 7, 2, 3, 2],
    [8, 10, 4, 6, 7, 1, 3, 3],
    [5, 6, 2, 3, 3, 1, 0, 5],
    [1, 2, 5, 4, 3, 1, 1, 2],
    [2, 1, 4, 7, 3, 2, 1, 3],
    [6, 5, 1, 2, 3, 1, 2, 1],
    [4, 1, 128, 100, 3, 1, 1, 5],
    [5, 4, 57, 59, 3, 2, 1, 2],
    [9, 8, 57, 59, 1, 2, 0, 3],
    [13, 18, 2, 3, 1, 1, 0, 5],
];

/// Larger ones, some of them of a network.
const LARGE: [[usize; 8]; 6] = [
    [32, 32, 3, 16, 3, 1, 1, 2],
    [16, 16, 24, 48, 3, 2, 1, 3],
    [16, 16, 24, 48, 1, 2, 0, 3],
    [8, 8, 64, 64, 3, 1, 1, 4],
    [4, 4, 128, 100, 3, 1, 1, 5],
    [17, 33, 12, 20, 7, 2, 3, 2],
];

/// With enough channels for the largest tiles, which only bf16 has: in the forward pass of the first, in the input
/// gradient of the second. No sum is longer than a large network's: a GPU's tensor cores truncate sums instead of
/// rounding them, and 51,000 products on an H100 gave 3.6 times the allowed error.
const MANY: [[usize; 8]; 2] = [[3, 3, 5, 4213, 3, 1, 1, 15], [12, 10, 573, 5, 3, 2, 1, 15]];

/// affine, relu, mask, bias, scaled, residual, add. All combinations of bias and residual for the forward
/// pass, and of mask, scale, residual and add for the gradient: kernels have separate code for each.
const OPERANDS: [(bool, bool, bool, bool, bool, AddendPlace, AddendPlace); 17] = [
    (false, false, false, false, false, AddendPlace::None, AddendPlace::None),
    (true, true, true, true, true, AddendPlace::Apart, AddendPlace::Apart),
    (false, true, true, false, false, AddendPlace::Output, AddendPlace::None),
    (true, true, true, false, false, AddendPlace::None, AddendPlace::Output),
    (true, false, false, true, false, AddendPlace::Apart, AddendPlace::None),
    (true, true, false, false, true, AddendPlace::None, AddendPlace::Apart),
    (false, true, true, true, true, AddendPlace::Output, AddendPlace::Output),
    (false, false, false, true, false, AddendPlace::Output, AddendPlace::Apart),
    (true, true, true, false, true, AddendPlace::None, AddendPlace::None),
    (true, true, false, true, false, AddendPlace::None, AddendPlace::Apart),
    (false, true, true, true, false, AddendPlace::None, AddendPlace::None),
    (true, false, false, true, true, AddendPlace::None, AddendPlace::None),
    (true, true, true, false, false, AddendPlace::Apart, AddendPlace::Apart),
    (false, true, true, true, true, AddendPlace::Apart, AddendPlace::None),
    (true, true, false, false, true, AddendPlace::Output, AddendPlace::None),
    (false, false, false, false, true, AddendPlace::Apart, AddendPlace::Output),
    (true, true, true, false, true, AddendPlace::None, AddendPlace::Output),
];

/// [`Depth::Quick`]: five sets of operands for each shape; else all, and large shapes.
pub(super) fn visit(depth: Depth, precision: Precision, visit: &mut Visit) -> Result<()> {
    let large = if depth == Depth::Full { &LARGE[..] } else { &[] };
    for (number, shape) in SHAPES.iter().chain(large).enumerate() {
        let [height, width, in_channels, out_channels, kernel, stride, pad, count] = *shape;
        let shape = ConvShape { height, width, in_channels, out_channels, kernel, stride, pad };
        let is_large = number >= SHAPES.len();
        for (turn, operands) in OPERANDS.iter().enumerate() {
            // The empty set, and every fourth, starting at another one for each shape.
            if (depth == Depth::Quick || is_large) && turn > 0 && turn % 4 != number % 4 {
                continue;
            }
            let (affine, relu, mask, bias, scaled, residual, add) = *operands;
            let slice = if turn % 4 == 3 { count.div_ceil(2) } else { 0 };
            let aligned = turn > 0 && turn % 2 == 0;
            let made =
                ConvCase { shape, count, slice, affine, relu, mask, bias, scaled, residual, add, aligned };
            let seed = (number * OPERANDS.len() + turn) as u64;
            visit(&label(&made), made.case(seed))?;
        }
    }
    let many = if precision == Precision::Bf16 { &MANY[..] } else { &[] };
    for (number, shape) in many.iter().enumerate() {
        let [height, width, in_channels, out_channels, kernel, stride, pad, count] = *shape;
        let shape = ConvShape { height, width, in_channels, out_channels, kernel, stride, pad };
        let (affine, relu, mask, bias, scaled, residual, add) = OPERANDS[1];
        let (slice, aligned) = (0, false);
        let made = ConvCase { shape, count, slice, affine, relu, mask, bias, scaled, residual, add, aligned };
        let mut case = made.case(number as u64);
        // The gradient's mask is what the forward pass leaves.
        case.ops.truncate(number + 1);
        visit(&label(&made), case)?;
    }
    let made = NanInputCase { count: 2, channels: (5, 6) };
    visit(&format!("{made:?}"), made.case(1))
}

fn label(made: &ConvCase) -> String {
    let ConvShape { height, width, in_channels, out_channels, kernel, stride, pad } = made.shape;
    let mut text = format!(
        "{}x{height}x{width}x{in_channels} to {out_channels}, {kernel}x{kernel} stride {stride} pad {pad}",
        made.count
    );
    let flags = [
        (made.affine, "affine"),
        (made.relu, "relu"),
        (made.mask, "mask"),
        (made.bias, "bias"),
        (made.scaled, "scaled"),
        (made.residual == AddendPlace::Apart, "residual"),
        (made.residual == AddendPlace::Output, "residual in place"),
        (made.add == AddendPlace::Apart, "add"),
        (made.add == AddendPlace::Output, "add in place"),
        (made.slice > 0, "workers"),
        (made.aligned, "aligned"),
    ];
    flags.iter().filter(|(on, _)| *on).for_each(|(_, name)| text += &format!(", {name}"));
    text
}
