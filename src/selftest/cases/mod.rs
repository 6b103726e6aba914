//! The cases: every op over a grid of sizes and operands, as plain data. tests/library/ops draws the same structures at
//! random.

pub mod attack;
pub mod chain;
pub mod classifier;
pub mod conv;
pub mod generator;
pub mod head;
pub mod norm;
pub mod pooling;
pub mod stem;
pub mod update;

use super::case::Case;
use crate::device::Precision;
use crate::error::Result;

/// How much is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every op, every operand, small sizes: what an emulator does in minutes.
    Quick,
    /// More combinations of operands, and sizes of real networks.
    Full,
}

/// Takes the label of a case and the case.
pub type Visit<'a> = dyn FnMut(&str, Case) -> Result<()> + 'a;

/// Calls `visit` with every case for a device of this precision.
///
/// # Errors
/// The first error of `visit`.
pub fn visit(depth: Depth, precision: Precision, visit: &mut Visit) -> Result<()> {
    conv::visit(depth, precision, visit)?;
    chain::visit(depth, visit)?;
    stem::visit(depth, visit)?;
    norm::visit(depth, visit)?;
    update::visit(depth, visit)?;
    pooling::visit(depth, visit)?;
    head::visit(depth, visit)?;
    classifier::visit(depth, visit)?;
    generator::visit(depth, visit)?;
    attack::visit(depth, visit)
}
