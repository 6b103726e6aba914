//! What a session's ops need on the device beside the regions, known before anything is allocated.

use super::geometry::{Padded, filter_len, norm_partials, wgrad_partials};
use super::tensor;
use crate::device::op::Prologue;
use crate::device::{ConvShape, FilterSpec, Op, Precision, Program};
use crate::error::{Error, Result};

/// Kernels index with 32 bits.
const LARGEST: usize = 1 << 31;

/// Elements of each working buffer, of 4 bytes.
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
    pub fn new<'a>(programs: impl IntoIterator<Item = &'a Program>, precision: Precision) -> Self {
        let mut room = Self::default();
        for program in programs {
            for op in &program.ops {
                room.make(op, program.capacity, precision);
            }
        }
        room
    }

    /// Room for one op of `count` images.
    pub fn of(op: &Op, count: usize, precision: Precision) -> Self {
        let mut room = Self::default();
        room.make(op, count, precision);
        room
    }

    fn make(&mut self, op: &Op, count: usize, precision: Precision) {
        if let Op::NormStatistics { pixels, channels, .. } | Op::NormDgrad { pixels, channels, .. } = op {
            let rows = count.saturating_mul(*pixels);
            self.partials = self.partials.max(norm_partials(rows, *channels));
        }
        match precision {
            Precision::F32 => self.plain(op, count),
            Precision::Bf16 => self.tensor(op, count),
        }
    }

    /// Operands of the plain kernels.
    fn plain(&mut self, op: &Op, count: usize) {
        match op {
            Op::Conv { shape, prologue, .. } => self.input(conv_input(shape, prologue), count),
            Op::ConvDgrad { shape, .. } => self.gradient(dgrad_gradient(shape), count),
            Op::ConvWgrad { shape, prologue, .. } => {
                self.input(conv_input(shape, prologue), count);
                self.gradient(wgrad_gradient(shape), count);
                let rows = count.saturating_mul(shape.out_height());
                self.partials = self.partials.max(wgrad_partials(shape, rows));
            }
            _ => {}
        }
    }

    fn input(&mut self, operand: Operand, count: usize) {
        if let Operand::Copy(padded) = operand {
            self.input = self.input.max(count.saturating_mul(padded.len()));
        }
    }

    fn gradient(&mut self, operand: Operand, count: usize) {
        if let Operand::Copy(padded) = operand {
            self.gradient = self.gradient.max(count.saturating_mul(padded.len()));
        }
    }

    /// Operands of the tensor-core kernels.
    fn tensor(&mut self, op: &Op, count: usize) {
        let words = |pixels: usize, channels| {
            count.saturating_mul(pixels * tensor::padded(channels) / Precision::Bf16.per_word())
        };
        if let Op::Conv { shape, .. } | Op::ConvWgrad { shape, .. } = op {
            self.input = self.input.max(words(shape.height * shape.width, shape.in_channels));
        }
        if let Op::ConvDgrad { shape, .. } | Op::ConvWgrad { shape, .. } = op {
            let pixels = shape.out_height() * shape.out_width();
            self.gradient = self.gradient.max(words(pixels, shape.out_channels));
        }
        if let Op::ConvWgrad { shape, .. } = op {
            self.partials = self.partials.max(tensor::wgrad_partials(shape, count));
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

/// A filter's elements of 4 bytes.
pub(super) fn filter_words(spec: &FilterSpec, precision: Precision) -> usize {
    match precision {
        Precision::F32 => filter_len(spec),
        // Channels come in whole vectors: an even number.
        Precision::Bf16 => tensor::filter_len(spec) / precision.per_word(),
    }
}

/// The same of all filters of programs whose tables continue each other.
pub(super) fn filters_words(programs: &[Program], precision: Precision) -> usize {
    let filters = programs.iter().map(|program| &program.filters).max_by_key(|filters| filters.len());
    filters.into_iter().flatten().map(|spec| filter_words(spec, precision)).sum()
}

/// Refuses what 32-bit indices can't reach.
///
/// # Errors
/// Names the op.
pub(super) fn check_sizes(program: &Program, precision: Precision) -> Result<()> {
    let values = |words: usize| words.saturating_mul(precision.per_word());
    for op in &program.ops {
        let mut largest = 0;
        op.clone()
            .visit_spans(&mut |span, _| largest = largest.max(span.len.saturating_mul(program.capacity)));
        let room = Room::of(op, program.capacity, precision);
        if largest.max(values(room.input)).max(values(room.gradient)).max(room.partials) >= LARGEST {
            let (name, capacity) = (op.name(), program.capacity);
            return Err(Error::run(format!(
                "{name} of {capacity} images has a tensor of over 2^31 elements"
            )));
        }
    }
    match program.filters.iter().map(|spec| values(filter_words(spec, precision))).max() {
        Some(len) if len >= LARGEST => Err(Error::run("a filter has over 2^31 elements")),
        _ => Ok(()),
    }
}
