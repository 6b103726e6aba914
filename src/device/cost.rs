//! What an op takes on any device: its arithmetic, and the bytes it can't do without. A function of the
//! op and its shapes alone.

use std::iter::Sum;
use std::ops::AddAssign;

use serde::Serialize;

use super::op::{Addend, Norm, Op, Prologue, Region};
use super::operands::Operand;
use super::precision::Precision;
use super::{FilterSpec, Program};

/// Arithmetic and traffic of ops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// FLOP of matrix products, convolutions' and linear layers': a multiply-add is two, and the zeros of a
    /// border count.
    pub products: u64,
    /// All other FLOP, by the op's formula; a root or an exponential is one. What is done once a channel is
    /// left out.
    pub elementwise: u64,
    /// Bytes if each operand is read or written once, and those updated in place once each.
    pub bytes: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.products += other.products;
        self.elementwise += other.elementwise;
        self.bytes += other.bytes;
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), |mut sum, cost| {
            sum += cost;
            sum
        })
    }
}

impl Program {
    /// What each of its ops takes for a slice of `count` images. Filters and activations have the precision of
    /// a convolution's operands, all other operands are in words of 4 bytes as in the regions. An op may move less
    /// than that where another has already made what it needs; a program can't.
    pub fn costs(&self, count: usize, precision: Precision) -> Vec<Cost> {
        self.ops.iter().map(|op| cost(op, count, &self.filters, precision)).collect()
    }
}

fn cost(op: &Op, count: usize, filters: &[FilterSpec], precision: Precision) -> Cost {
    if let Op::RandomErasing { .. } = op {
        // Paints nothing unless asked to.
        return Cost::default();
    }
    let mut bytes = 0;
    op.clone().visit_operands(&mut |operand, span| {
        let short = span.region == Region::Arena && !matches!(operand.name, "mask" | "argmax");
        bytes += operand_bytes(op, operand, count) / if short { precision.per_word() } else { 1 };
    });
    bytes += match op {
        // The images, which no span holds: a byte a channel.
        Op::LoadImages { height, width, channels, .. } => count * height * width * channels,
        Op::Conv { shape, .. } | Op::ConvDgrad { shape, .. } => filter_bytes(shape.filter_len(), precision),
        Op::LoadFilter { filter, .. } => {
            filters.get(filter.0).map_or(0, |spec| filter_bytes(spec.shape.filter_len(), precision))
        }
        _ => 0,
    };
    let (products, elementwise) = flop(op);
    let (products, elementwise) = (products * count, elementwise * if per_image(op) { count } else { 1 });
    Cost { products: products as u64, elementwise: elementwise as u64, bytes: bytes as u64 }
}

fn filter_bytes(len: usize, precision: Precision) -> usize {
    len * size_of::<f32>() / precision.per_word()
}

/// Bytes of an operand that an op of `count` images touches.
pub(super) fn operand_bytes(op: &Op, operand: Operand, count: usize) -> usize {
    let passes = if updated(op, operand.name) { 2 } else { 1 };
    let parts = if operand.per_image { count } else { 1 };
    passes * parts * operand.len * size_of::<f32>()
}

/// Whether an op reads what it writes there.
fn updated(op: &Op, operand: &str) -> bool {
    match op {
        Op::BatchNormStats { .. } => matches!(operand, "running_mean" | "running_variance"),
        Op::PgdStep { .. } => operand == "adversarial",
        Op::Sgd { .. } => matches!(operand, "weights" | "momentum"),
        Op::Adam { .. } => matches!(operand, "weights" | "first" | "second"),
        Op::MovingAverage { .. } => operand == "average",
        _ => false,
    }
}

/// Whether the arithmetic grows with the images.
fn per_image(op: &Op) -> bool {
    !matches!(
        op,
        Op::BatchNormAffine { .. }
            | Op::LoadFilter { .. }
            | Op::Sgd { .. }
            | Op::Adam { .. }
            | Op::MovingAverage { .. }
    )
}

/// FLOP of matrix products and all other, for one image where there are images.
fn flop(op: &Op) -> (usize, usize) {
    match op {
        Op::Conv { shape, prologue, bias, residual, .. } => {
            let behind = usize::from(bias.is_some()) + usize::from(residual.is_some());
            let elementwise = before(prologue) * shape.input_len() + behind * shape.output_len();
            (2 * shape.multiply_adds(), elementwise)
        }
        Op::ConvDgrad { shape, add, scale, residual, .. } => {
            let behind = [add.is_some(), scale.is_some(), residual.is_some()];
            let behind = behind.into_iter().filter(|&there| there).count();
            (2 * shape.multiply_adds(), behind * shape.input_len())
        }
        Op::ConvWgrad { shape, prologue, .. } => {
            (2 * shape.multiply_adds(), before(prologue) * shape.input_len())
        }
        Op::Linear { inputs, outputs, .. } => (2 * inputs * outputs, *outputs),
        Op::LinearDgrad { inputs, outputs, .. } => (2 * inputs * outputs, 0),
        Op::LinearWgrad { inputs, outputs, .. } => (2 * inputs * outputs, *outputs),
        _ => (0, elementwise(op)),
    }
}

/// FLOP of a prologue, an element.
fn before(prologue: &Prologue) -> usize {
    2 * usize::from(prologue.affine.is_some()) + usize::from(prologue.relu)
}

fn elementwise(op: &Op) -> usize {
    match op {
        Op::BatchNormAffine { gamma, .. } => 5 * gamma.len,
        // The sum; the difference, its square and their sum.
        Op::BatchNormStats { pixels, channels, .. } => 4 * pixels * channels,
        // x̂, the two sums, the formula.
        Op::BatchNormDgrad { pixels, channels, relu, residual, .. } => {
            let more = 2 * usize::from(relu.is_some()) + usize::from(residual.is_some());
            (2 + 3 + 5 + more) * pixels * channels
        }
        // Four products and three sums an output; its transpose the same.
        Op::Upsample { height, width, channels, prologue, .. } => {
            (4 * 7 + before(prologue)) * height * width * channels
        }
        Op::UpsampleDgrad { height, width, channels, .. } => 4 * 7 * height * width * channels,
        Op::ScaledTanh { pixels, channels, affine, .. } => {
            (3 + 2 * usize::from(affine.is_some())) * pixels * channels
        }
        Op::ScaledTanhDgrad { pixels, channels, affine, scale, .. } => {
            let more = 2 * usize::from(affine.is_some()) + usize::from(scale.is_some());
            (5 + more) * pixels * channels
        }
        Op::Add { pixels, channels, left, right, .. } => {
            let of = |addend: &Addend| before(&addend.prologue);
            (1 + of(left) + of(right)) * pixels * channels
        }
        Op::MaxPool { shape, prologue, .. } => {
            shape.kernel * shape.kernel * shape.output_len() + before(prologue) * shape.input_len()
        }
        Op::MaxPoolDgrad { shape, .. } => shape.output_len(),
        Op::GlobalAvgPool { pixels, channels, .. } => pixels * channels,
        Op::GlobalAvgPoolDgrad { channels, .. } => *channels,
        _ => rows_and_updates(op),
    }
}

/// Images, losses and the updates of weights.
fn rows_and_updates(op: &Op) -> usize {
    match op {
        Op::LoadImages { height, width, channels, .. } => height * width * channels,
        // Difference, exponential, sum; logarithm and quotient of the row aside. The gradient is a
        // quotient and a difference, and each has its twin for the teacher.
        Op::CrossEntropy { classes, teacher, gradient, .. } => {
            let one = 3 + 2 * usize::from(gradient.is_some());
            one * (1 + usize::from(teacher.is_some())) * classes
        }
        Op::CosineSimilarity { classes, .. } => 6 * classes,
        // A number in the ball, added, and two comparisons.
        Op::PgdStart { elements, .. } => 5 * elements,
        // A step, the ball's two borders and the range's; L2 has its two norms.
        Op::PgdStep { elements, norm, .. } => elements * if *norm == Norm::L2 { 10 } else { 7 },
        Op::Sgd { weights, .. } => 8 * weights.len,
        Op::Adam { weights, .. } => 14 * weights.len,
        Op::MovingAverage { weights, .. } => 3 * weights.len,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
