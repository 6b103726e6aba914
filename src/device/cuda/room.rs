//! What a session's ops need on the device beside the regions, known before anything is allocated.

use super::geometry::{Padded, filter_len, norm_partials, wgrad_partials};
use super::relay::{GRADIENT, INPUT, Relay};
use super::tensor;
use super::update::Update;
use crate::device::operand::Prologue;
use crate::device::ops;
use crate::device::{ConvShape, FilterSpec, Op, Precision, Program};
use crate::error::{Error, Result};

/// Kernels index with 32 bits.
const LARGEST: usize = 1 << 31;

/// Elements of each working buffer, of 4 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Operands of convolutions.
    pub operands: Vec<usize>,
    /// Partial sums.
    pub partials: usize,
    /// The table of a training step's update.
    pub table: usize,
}

impl Room {
    /// Room for all of the programs' ops, one at a time.
    pub fn new<'a>(programs: impl IntoIterator<Item = &'a Program>, precision: Precision) -> Self {
        let rooms = programs
            .into_iter()
            .map(|program| Self::with_relay(program, &Relay::new(program, precision), precision));
        rooms.fold(Self::default(), |all, room| all.with(&room))
    }

    /// The same for one program, whose relay is known.
    pub fn with_relay(program: &Program, relay: &Relay, precision: Precision) -> Self {
        let table = relay.update.as_ref().map_or(0, Update::words);
        let mut room = Self { operands: relay.buffers.clone(), partials: 0, table };
        for op in &program.ops {
            room.make(op, program.capacity, precision);
        }
        room
    }

    /// Room for one op of `count` images.
    pub fn of(op: &Op, count: usize, precision: Precision) -> Self {
        let mut room = Self::default();
        room.make(op, count, precision);
        room
    }

    /// Room for what fits either.
    pub fn with(mut self, other: &Room) -> Self {
        other.operands.iter().enumerate().for_each(|(buffer, &elements)| self.operand(buffer, elements));
        self.partials = self.partials.max(other.partials);
        self.table = self.table.max(other.table);
        self
    }

    fn make(&mut self, op: &Op, count: usize, precision: Precision) {
        if let Op::BatchNormStats(ops::BatchNormStats { pixels, channels, .. })
        | Op::BatchNormDgrad(ops::BatchNormDgrad { pixels, channels, .. }) = op
        {
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
            Op::Conv(ops::Conv { shape, prologue, .. }) => {
                self.copied(INPUT, conv_input(shape, prologue), count)
            }
            Op::ConvDgrad(ops::ConvDgrad { shape, .. }) => {
                self.copied(GRADIENT, dgrad_gradient(shape), count)
            }
            Op::ConvWgrad(ops::ConvWgrad { shape, prologue, .. }) => {
                self.copied(INPUT, conv_input(shape, prologue), count);
                self.copied(GRADIENT, wgrad_gradient(shape), count);
                let rows = count.saturating_mul(shape.out_height());
                self.partials = self.partials.max(wgrad_partials(shape, rows));
            }
            _ => {}
        }
    }

    fn copied(&mut self, buffer: usize, operand: Operand, count: usize) {
        if let Operand::Copy(padded) = operand {
            self.operand(buffer, count.saturating_mul(padded.len()));
        }
    }

    fn operand(&mut self, buffer: usize, elements: usize) {
        if self.operands.len() <= buffer {
            self.operands.resize(buffer + 1, 0);
        }
        self.operands[buffer] = self.operands[buffer].max(elements);
    }

    /// Sums of the tensor-core kernels, whose operands [`Relay`] places.
    fn tensor(&mut self, op: &Op, count: usize) {
        let partials = match op {
            Op::ConvWgrad(ops::ConvWgrad { shape, .. }) => tensor::wgrad_partials(shape, count),
            // Those that a convolution may leave.
            Op::BatchNormStats(ops::BatchNormStats { pixels, channels, .. }) => {
                tensor::most_column_sums(count.saturating_mul(*pixels), *channels)
            }
            _ => 0,
        };
        self.partials = self.partials.max(partials);
    }

    /// Elements in all.
    pub fn elements(&self) -> usize {
        self.operands.iter().sum::<usize>() + self.partials + self.table
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
pub(super) fn check_sizes(program: &Program, relay: &Relay, precision: Precision) -> Result<()> {
    let values = |words: usize| words.saturating_mul(precision.per_word());
    let too_large = |what: &str| {
        let capacity = program.capacity;
        Err(Error::run(format!("{what} of {capacity} images has a tensor of over 2^31 elements")))
    };
    for op in &program.ops {
        let mut largest = 0;
        op.clone()
            .visit_spans(&mut |span, _| largest = largest.max(span.len.saturating_mul(program.capacity)));
        let room = Room::of(op, program.capacity, precision);
        let copied = room.operands.iter().copied().max().unwrap_or_default();
        if largest.max(copied).max(room.partials) >= LARGEST {
            return too_large(&op.name());
        }
        if let Op::Conv(ops::Conv { shape, .. }) | Op::ConvDgrad(ops::ConvDgrad { shape, .. }) = op
            && precision == Precision::Bf16
            && shape.kernel > tensor::TAPS
        {
            let most = tensor::TAPS;
            return Err(Error::run(format!(
                "{}: in bf16 a kernel has at most {most} taps a side",
                op.name()
            )));
        }
    }
    if relay.buffers.iter().any(|&words| values(words) >= LARGEST) {
        return too_large("a convolution's operand");
    }
    match program.filters.iter().map(|spec| values(filter_words(spec, precision))).max() {
        Some(len) if len >= LARGEST => Err(Error::run("a filter has over 2^31 elements")),
        _ => Ok(()),
    }
}
