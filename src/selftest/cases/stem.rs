//! The gradient of a network's first convolution and the attack's step along it. A device may take the step in the
//! convolution's epilogue, and not store the gradient.

use super::super::case::Case;
use super::{Depth, Visit, chain};
use crate::device::ops;
use crate::device::{ConvShape, Direction, Norm, Op};
use crate::error::Result;

/// A convolution's input gradient and PGD steps along it.
#[derive(Clone, Copy, Debug)]
pub struct StemStepCase {
    pub count: usize,
    /// Sizes of the convolution.
    pub shape: ConvShape,
    /// The ball.
    pub norm: Norm,
    /// Whether pixels stay in [0, 1].
    pub clamp: bool,
    /// Whether another op reads the gradient.
    pub kept: bool,
}

impl StemStepCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, shape, norm, clamp, kept } = self;
        let mut case = Case::new(count, 0, seed);
        case.params.clamp = clamp;
        let elements = shape.input_len();
        let clean = case.image_of(elements, |v| v as f32 / 511.0);
        let adversarial = case.image_of(elements, |v| v as f32 / 511.0);
        let epsilon = case.image_of(1, |v| 0.1 + v as f32 / 511.0);
        let alpha = case.image_of(1, |v| v as f32 / 2044.0);
        // Mostly zeros: along a gradient of zero nothing moves.
        let gradient =
            case.image_of(shape.output_len(), |v| if v % 8 > 0 { 0.0 } else { v as f32 / 64.0 - 4.0 });
        let of_x = case.image(elements);
        let filter = case.loaded_filter(shape, Direction::Dgrad);
        case.ops.push(Op::ConvDgrad(ops::ConvDgrad::plain(shape, filter, gradient, of_x)));
        case.ops.push(Op::PgdStep(ops::PgdStep {
            elements,
            clean,
            gradient: of_x,
            epsilon,
            alpha,
            norm,
            adversarial,
        }));
        case.keep_or_discard(kept, of_x);
        case.loop_body = 0..2;
        case.params.repeats = 2;
        case
    }
}

/// Rows, columns, channels of the image and of the gradient, kernel, stride, images: one channel, three, more than
/// a tile has; strides whose phases differ in size; more pixels than a tile has, of several images.
const SHAPES: [[usize; 7]; 6] = [
    [5, 6, 3, 16, 3, 1, 2],
    [4, 3, 1, 5, 3, 1, 3],
    [9, 8, 3, 8, 7, 2, 2],
    [7, 5, 2, 8, 3, 2, 1],
    [3, 4, 40, 6, 1, 1, 2],
    [12, 11, 3, 8, 3, 1, 3],
];

pub(super) fn visit(depth: Depth, visit: &mut Visit) -> Result<()> {
    for (number, [height, width, in_channels, out_channels, kernel, stride, count]) in
        SHAPES.into_iter().enumerate()
    {
        let shape = chain::shape([height, width, in_channels, out_channels, kernel, stride]);
        for turn in 0..4 {
            if depth == Depth::Quick && turn != number % 4 {
                continue;
            }
            let norm = if turn == 3 { Norm::L2 } else { Norm::Linf };
            let made = StemStepCase { count, shape, norm, clamp: turn != 1, kept: turn == 2 };
            visit(&format!("{made:?}"), made.case((4 * number + turn) as u64))?;
        }
    }
    Ok(())
}
