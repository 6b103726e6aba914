//! Updates of the weights, and copies.
//!
//! A training step ends with one launch for SGD, the weight average and the filters of the next step. Without it, a
//! training program begins with a launch for each of its filters, because its last ops have changed the weights. The
//! launch that changes them has them in registers, so it writes the filters too; they are loaded only where something
//! else has changed weights or filters in between.

use crate::device::ops;
use bytemuck::{Pod, Zeroable};

use super::tiles::filter_len;
use crate::device::cuda::kernels::{
    AdamArgs, CopyArgs, Kernel, MovingAverageArgs, SgdArgs, SgdWithFiltersArgs,
};
use crate::device::cuda::memory::Addresses;
use crate::device::cuda::plan::{Buffer, BufferUse, Fusion, Grid, LaunchBuilder, Lowered};
use crate::device::{ConvShape, Direction, FilterId, Op, Precision, Program, Region, Span};

/// Taps that a tile in `kernels/optimizer.cu` has room for.
pub(super) const TAPS: usize = 49;

/// A tile's out and in channels, and the weights of a block outside filters.
pub(super) const TILE: (usize, usize) = (16, 8);
pub(super) const PLAIN: usize = 1024;

pub(super) fn sgd(to: &mut LaunchBuilder, op: &ops::Sgd) -> Lowered {
    let &ops::Sgd { weights, gradients, momentum } = op;
    let run = to.scalars();
    let [w, gradients, velocity] = [weights, gradients, momentum].map(|span| to.at(span));
    let Some(update) = to.update.filter(|_| to.plan.fusion == Fusion::Update) else {
        let arguments = SgdArgs { weights: w, gradients, velocity, total: weights.len, run };
        return to.launch(Kernel::Sgd, Grid::Items(weights.len), arguments);
    };
    let segments = BufferUse {
        buffer: Buffer::UpdateTable,
        elements: update.filter_bytes(to.program),
        reserve: update.words() * size_of::<u32>(),
    };
    let average = update.average_span(to.program).filter(|_| to.switches.average);
    // The average is also of weights that aren't trained.
    let touched = average.map_or(weights.len, |average| average.len.max(weights.len));
    let arguments = SgdWithFiltersArgs {
        weights: to.part(weights, touched),
        gradients,
        velocity,
        average: to.optional(average),
        segments: Some(segments),
        count: update.segments.len(),
        trainable: weights.len,
        run,
    };
    to.launch(Kernel::SgdWithFilters, Grid::Blocks(update.blocks(), 1), arguments)?;
    to.fused("the next step's filters");
    Ok(())
}

pub(super) fn adam(to: &mut LaunchBuilder, op: &ops::Adam) -> Lowered {
    let &ops::Adam { weights, gradients, first, second } = op;
    let total = weights.len;
    let [weights, gradients, first, second] = [weights, gradients, first, second].map(|span| to.at(span));
    let arguments = AdamArgs { weights, gradients, first, second, total, run: to.scalars() };
    to.launch(Kernel::Adam, Grid::Items(total), arguments)
}

pub(super) fn moving_average(to: &mut LaunchBuilder, op: &ops::MovingAverage) -> Lowered {
    let &ops::MovingAverage { weights, average } = op;
    if !to.switches.average {
        return Ok(());
    }
    let total = weights.len;
    let (weights, average) = (to.at(weights), to.at(average));
    let arguments = MovingAverageArgs { weights, average, total, run: to.scalars() };
    to.launch(Kernel::MovingAverage, Grid::Items(total), arguments)
}

pub(super) fn copy(to: &mut LaunchBuilder, op: &ops::Copy) -> Lowered {
    let &ops::Copy { elements, input, output } = op;
    let total = to.images(elements);
    let arguments = CopyArgs { input: to.at(input), output: to.at(output), total };
    to.launch(Kernel::Copy, Grid::Items(total), arguments)
}

/// What a training program ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) struct Update {
    /// Ops at the beginning that load filters.
    pub opening: usize,
    /// The SGD op, whose launch it is, and the average's, if there is one.
    pub sgd: usize,
    pub average: Option<usize>,
    segments: Vec<Segment>,
}

/// Weights one after the other: a filter's, or what lies between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    offset: usize,
    len: usize,
    filter: Option<SegmentFilter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SegmentFilter {
    shape: ConvShape,
    fprop: Option<FilterId>,
    dgrad: Option<FilterId>,
}

/// `Segment` in `kernels/optimizer.cu`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct DeviceSegment {
    block: u32,
    offset: u32,
    length: u32,
    out_channels: u32,
    in_channels: u32,
    kernel: u32,
    stride: u32,
    unused: u32,
    fprop: [u32; 2],
    pub dgrad: [u32; 2],
}

impl Update {
    /// The update of a program that loads its filters, each once and as they are, before anything else, and has one
    /// SGD step over all of them.
    pub fn of(program: &Program) -> Option<Self> {
        let load = |op: &Op| matches!(op, Op::LoadFilter(ops::LoadFilter { scale: None, .. }));
        let opening = program.ops.iter().take_while(|op| load(op)).count();
        let mut later = program.ops[opening..].iter();
        if opening == 0 || later.any(|op| matches!(op, Op::LoadFilter(_))) {
            return None;
        }
        let sgd = program.ops.iter().position(|op| matches!(op, Op::Sgd(_)))?;
        let Op::Sgd(ops::Sgd { weights, .. }) = program.ops[sgd] else { return None };
        let next = sgd + 1;
        let (average, end) = match program.ops.get(next) {
            Some(Op::MovingAverage(ops::MovingAverage { weights: all, average }))
                if all.offset == 0 && average.offset == 0 =>
            {
                (Some(next), all.len.max(weights.len))
            }
            _ => (None, weights.len),
        };
        if weights.offset != 0 {
            return None;
        }
        let filters = filters(program, opening, &weights)?;
        Some(Self { opening, sgd, average, segments: segments(&filters, end) })
    }

    /// Words of its table.
    fn words(&self) -> usize {
        self.segments.len() * size_of::<DeviceSegment>() / size_of::<u32>()
    }

    /// The weight average that it moves.
    fn average_span(&self, program: &Program) -> Option<Span> {
        match program.ops[self.average?] {
            Op::MovingAverage(ops::MovingAverage { average, .. }) => Some(average),
            _ => None,
        }
    }

    /// Blocks of its launch.
    fn blocks(&self) -> usize {
        self.segments.iter().map(Segment::blocks).sum()
    }

    /// Bytes of the filters.
    fn filter_bytes(&self, program: &Program) -> usize {
        let filters = self.segments.iter().filter_map(|segment| segment.filter);
        let ids = filters.flat_map(|filter| [filter.fprop, filter.dgrad]).flatten();
        let values: usize = ids.map(|id| filter_len(&program.filters[id.0])).sum();
        values * size_of::<f32>() / Precision::Bf16.per_word()
    }

    /// Its table, for filters at these addresses.
    pub fn table(&self, memory: &Addresses) -> Vec<u32> {
        let mut block = 0;
        let mut table: Vec<u32> = Vec::new();
        let address = |filter: Option<FilterId>| {
            let address = filter.map_or(0, |filter| memory.filter(filter.0));
            [address as u32, (address >> 32) as u32]
        };
        for segment in &self.segments {
            let mut entry = DeviceSegment::zeroed();
            (entry.block, entry.offset, entry.length) = (block, segment.offset as u32, segment.len as u32);
            if let Some(SegmentFilter { shape, fprop, dgrad }) = segment.filter {
                (entry.out_channels, entry.in_channels) =
                    (shape.out_channels as u32, shape.in_channels as u32);
                (entry.kernel, entry.stride) = (shape.kernel as u32, shape.stride as u32);
                (entry.fprop, entry.dgrad) = (address(fprop), address(dgrad));
            }
            table.extend_from_slice(bytemuck::cast_slice(&[entry]));
            block += segment.blocks() as u32;
        }
        table
    }
}

impl Segment {
    fn blocks(&self) -> usize {
        match self.filter {
            Some(SegmentFilter { shape, .. }) => {
                shape.out_channels.div_ceil(TILE.0) * shape.in_channels.div_ceil(TILE.1)
            }
            None => self.len.div_ceil(PLAIN),
        }
    }
}

/// The weights of the filters that the first ops load, in order; none where the kernel couldn't.
fn filters(program: &Program, opening: usize, weights: &Span) -> Option<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    for op in &program.ops[..opening] {
        let &Op::LoadFilter(ops::LoadFilter { filter: id, weights: own, .. }) = op else { return None };
        let spec = program.filters[id.0];
        let inside = own.region == Region::Weights && own.offset + own.len <= weights.len;
        if !inside || spec.shape.kernel * spec.shape.kernel > TAPS {
            return None;
        }
        let known =
            segments.iter().position(|segment| (segment.offset, segment.len) == (own.offset, own.len));
        let at = known.unwrap_or_else(|| {
            let filter = Some(SegmentFilter { shape: spec.shape, fprop: None, dgrad: None });
            segments.push(Segment { offset: own.offset, len: own.len, filter });
            segments.len() - 1
        });
        let Some(filter) = &mut segments[at].filter else { return None };
        let place = match spec.direction {
            Direction::Fprop => &mut filter.fprop,
            Direction::Dgrad => &mut filter.dgrad,
        };
        if place.replace(id).is_some() {
            return None;
        }
    }
    segments.sort_by_key(|segment| segment.offset);
    let apart = segments.windows(2).all(|pair| pair[0].offset + pair[0].len <= pair[1].offset);
    apart.then_some(segments)
}

/// These, and what lies between them, up to `end`.
fn segments(filters: &[Segment], end: usize) -> Vec<Segment> {
    let mut all = Vec::new();
    let mut at = 0;
    let plain = |from: usize, to: usize| Segment { offset: from, len: to - from, filter: None };
    for filter in filters {
        if at < filter.offset {
            all.push(plain(at, filter.offset));
        }
        all.push(*filter);
        at = filter.offset + filter.len;
    }
    if at < end {
        all.push(plain(at, end));
    }
    all
}

#[cfg(test)]
mod tests;
