//! What an op takes on any device: its arithmetic, and the bytes it can't do without. A function of the
//! op and its shapes alone.

use std::iter::Sum;
use std::ops::AddAssign;

use serde::Serialize;

use super::ops::{Access, Op, Operand};
use super::precision::Precision;
use super::{Program, Region};

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
        self.ops.iter().map(|op| cost(op, count, precision)).collect()
    }
}

fn cost(op: &Op, count: usize, precision: Precision) -> Cost {
    let work = op.work();
    if work.idle {
        return Cost::default();
    }
    let per_word = |shortened: bool| if shortened { precision.per_word() } else { 1 };
    let operands = op.operands().into_iter().map(|(operand, span)| {
        operand.bytes(count) / per_word(span.region == Region::Arena && !operand.words)
    });
    let filter = work.filter * size_of::<f32>() / precision.per_word();
    let elementwise = work.elementwise * if work.once { 1 } else { count };
    Cost {
        products: (work.products * count) as u64,
        elementwise: elementwise as u64,
        bytes: (operands.sum::<usize>() + filter + work.pixels * count) as u64,
    }
}

impl Operand {
    /// Bytes that an op of `count` images moves.
    pub(super) fn bytes(&self, count: usize) -> usize {
        let passes = if self.access == Access::Update { 2 } else { 1 };
        let parts = if self.per_image { count } else { 1 };
        passes * parts * self.len * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests;
