//! What a session's ops need on the device beside the regions, known before anything is allocated.

use super::geometry::{Padded, filter_len, norm_partials, wgrad_partials};
use crate::device::op::Prologue;
use crate::device::{ConvShape, FilterSpec, Op, Program};
use crate::error::{Error, Result};

/// Kernels index with 32 bits.
const LARGEST: usize = 1 << 31;

/// Elements of each working buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// The convolution's padded input.
    pub input: usize,
    /// Its padded gradient.
    pub gradient: usize,
    /// Partial sums.
    pub partials: usize,
}

impl Room {
    /// Room for all of the programs' ops, one at a time.
    pub fn new<'a>(programs: impl IntoIterator<Item = &'a Program>) -> Self {
        let mut room = Self::default();
        for program in programs {
            for op in &program.ops {
                room.make(op, program.capacity);
            }
        }
        room
    }

    fn make(&mut self, op: &Op, count: usize) {
        match op {
            Op::Conv { shape, prologue, .. } => self.input(shape, prologue, count),
            Op::ConvDgrad { shape, .. } => {
                let padded = dgrad_gradient(shape);
                self.gradient(padded, count);
            }
            Op::ConvWgrad { shape, prologue, .. } => {
                self.input(shape, prologue, count);
                self.gradient(wgrad_gradient(shape), count);
                let rows = count.saturating_mul(shape.out_height());
                self.partials = self.partials.max(wgrad_partials(shape, rows));
            }
            Op::NormStatistics { pixels, channels, .. } | Op::NormDgrad { pixels, channels, .. } => {
                let rows = count.saturating_mul(*pixels);
                self.partials = self.partials.max(norm_partials(rows, *channels));
            }
            _ => {}
        }
    }

    fn input(&mut self, shape: &ConvShape, prologue: &Prologue, count: usize) {
        if let Operand::Copy(padded) = conv_input(shape, prologue) {
            self.input = self.input.max(count.saturating_mul(padded.len()));
        }
    }

    fn gradient(&mut self, operand: Operand, count: usize) {
        if let Operand::Copy(padded) = operand {
            self.gradient = self.gradient.max(count.saturating_mul(padded.len()));
        }
    }

    /// Elements in all.
    pub fn elements(&self) -> usize {
        self.input + self.gradient + self.partials
    }
}

/// How a convolution gets at an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// From where it is.
    AsItIs(Padded),
    /// From a copy with borders.
    Copy(Padded),
}

/// fprop's and wgrad's input.
pub(super) fn conv_input(shape: &ConvShape, prologue: &Prologue) -> Operand {
    let padded = Padded::input(shape);
    match padded.as_it_is(shape.height, shape.width, shape.in_channels) {
        Some(plain) if prologue.affine.is_none() && !prologue.relu => Operand::AsItIs(plain),
        _ => Operand::Copy(padded),
    }
}

fn gradient(shape: &ConvShape, padded: Padded) -> Operand {
    let plain = padded.as_it_is(shape.out_height(), shape.out_width(), shape.out_channels);
    plain.map_or(Operand::Copy(padded), Operand::AsItIs)
}

/// dgrad's gradient.
pub(super) fn dgrad_gradient(shape: &ConvShape) -> Operand {
    gradient(shape, Padded::gradient(shape))
}

/// wgrad's gradient.
pub(super) fn wgrad_gradient(shape: &ConvShape) -> Operand {
    gradient(shape, Padded::wgrad_gradient(shape))
}

/// Elements of the filters of programs whose tables continue each other.
pub(super) fn filter_elements(programs: &[Program]) -> usize {
    let filters = programs.iter().map(|program| &program.filters).max_by_key(|filters| filters.len());
    filters.into_iter().flatten().map(filter_len).sum()
}

/// Refuses what 32-bit indices can't reach.
///
/// # Errors
/// Names the op.
pub(super) fn check_sizes(program: &Program) -> Result<()> {
    for op in &program.ops {
        let mut largest = 0;
        op.clone()
            .visit_spans(&mut |span, _| largest = largest.max(span.len.saturating_mul(program.capacity)));
        let mut room = Room::default();
        room.make(op, program.capacity);
        if largest.max(room.input).max(room.gradient).max(room.partials) >= LARGEST {
            let (name, capacity) = (op.name(), program.capacity);
            return Err(Error::run(format!(
                "{name} of {capacity} images has a tensor of over 2^31 elements"
            )));
        }
    }
    match program.filters.iter().map(|spec: &FilterSpec| filter_len(spec)).max() {
        Some(len) if len >= LARGEST => Err(Error::run("a filter has over 2^31 elements")),
        _ => Ok(()),
    }
}
