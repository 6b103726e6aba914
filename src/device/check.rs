//! The check of a program against a layout, once, when it is prepared: what makes the devices'
//! unchecked accesses sound.

use std::ops::Range;

use super::operands::{Access, Operand};
use super::{BatchSlice, ConvShape, Direction, ImageSlot, MemoryLayout, Op, Program, Region, Span};
use crate::data::ImageSet;
use crate::error::{Error, Result};

/// An operand and where it lies.
#[derive(Clone, Copy)]
struct Placed {
    operand: Operand,
    span: Span,
}

fn placed(op: &Op) -> Vec<Placed> {
    let mut list = Vec::new();
    op.clone().visit_operands(&mut |operand, span| list.push(Placed { operand, span: *span }));
    list
}

/// Whether a convolution has an output at all.
pub fn possible(shape: &ConvShape) -> bool {
    let border = 2 * shape.pad;
    shape.in_channels > 0
        && shape.out_channels > 0
        && shape.kernel > 0
        && shape.stride > 0
        && shape.height + border >= shape.kernel
        && shape.width + border >= shape.kernel
}

impl MemoryLayout {
    /// Bytes of all regions.
    pub fn bytes(&self) -> usize {
        Region::ALL.iter().map(|&region| self.len(region) * size_of::<f32>()).sum()
    }

    /// Elements of a region.
    pub fn len(&self, region: Region) -> usize {
        match region {
            Region::Weights => self.weights,
            Region::Gradients => self.gradients,
            Region::Momentum => self.momentum,
            Region::Average => self.average,
            Region::Derived => self.derived,
            Region::Arena => self.arena,
            Region::Staging => self.staging,
        }
    }
}

/// Checks every operand of a program: size, region, bounds, that nothing an op writes overlaps what
/// else it touches except where it may work in place, and that what workers write is their own.
/// `workers` is how many slices run side by side. Returns the staging rows there are room for.
pub fn check(program: &Program, layout: &MemoryLayout, workers: usize) -> Result<usize> {
    let workers = if program.data_parallel { workers } else { 1 };
    if program.arena.checked_mul(workers).is_none_or(|need| need > layout.arena) {
        let (arena, have) = (program.arena, layout.arena);
        return Err(Error::run(format!(
            "{workers} workers of {arena} elements don't fit an arena of {have}"
        )));
    }
    if program.loop_body.start > program.loop_body.end || program.loop_body.end > program.ops.len() {
        let count = program.ops.len();
        return Err(Error::run(format!("{:?} of {count} ops can't be a loop body", program.loop_body)));
    }
    let mut staging: Vec<Placed> = Vec::new();
    for (index, op) in program.ops.iter().enumerate() {
        let fail = |cause: String| Error::run(format!("op {index} ({}): {cause}", op.name()));
        check_shape(op).map_err(fail)?;
        check_filter(op, program).map_err(fail)?;
        let list = placed(op);
        for placed in &list {
            check_operand(placed, program, layout)
                .map_err(|cause| fail(format!("{}: {cause}", placed.operand.name)))?;
        }
        check_overlaps(&list, program.capacity).map_err(fail)?;
        staging.extend(list.iter().filter(|placed| placed.span.region == Region::Staging));
    }
    staging_rows(&staging, layout.staging)
}

fn check_shape(op: &Op) -> std::result::Result<(), String> {
    match op {
        Op::Conv { shape, .. } | Op::ConvDgrad { shape, .. } | Op::ConvWgrad { shape, .. }
            if !possible(shape) =>
        {
            Err(format!("impossible shape {shape:?}"))
        }
        Op::MaxPool { shape, .. } | Op::MaxPoolDgrad { shape, .. } if !shape.possible() => {
            Err(format!("impossible shape {shape:?}"))
        }
        _ => Ok(()),
    }
}

fn check_filter(op: &Op, program: &Program) -> std::result::Result<(), String> {
    let (shape, direction, filter) = match op {
        Op::Conv { shape, filter, .. } => (*shape, Direction::Fprop, *filter),
        Op::ConvDgrad { shape, filter, .. } => (*shape, Direction::Dgrad, *filter),
        Op::LoadFilter { filter, weights, scale } => {
            let spec = program.filters.get(filter.0).ok_or(format!("no filter {}", filter.0))?;
            if program.data_parallel {
                return Err("workers can't load a filter".to_string());
            }
            if weights.len != spec.shape.filter_len() {
                return Err(format!("{} weights, not {}", weights.len, spec.shape.filter_len()));
            }
            return match scale {
                Some(scale) if scale.len != spec.shape.out_channels => {
                    Err(format!("{} scales, not {}", scale.len, spec.shape.out_channels))
                }
                _ => Ok(()),
            };
        }
        _ => return Ok(()),
    };
    match program.filters.get(filter.0) {
        Some(spec) if spec.shape == shape && spec.direction == direction => Ok(()),
        Some(spec) => Err(format!("filter {} is for {spec:?}", filter.0)),
        None => Err(format!("no filter {}", filter.0)),
    }
}

fn check_operand(
    placed: &Placed,
    program: &Program,
    layout: &MemoryLayout,
) -> std::result::Result<(), String> {
    let Placed { operand: Operand { len, per_image, access, .. }, span } = *placed;
    if span.len != len {
        return Err(format!("{} elements, not {len}", span.len));
    }
    if len == 0 {
        return Err("no elements".to_string());
    }
    if per_image != matches!(span.region, Region::Arena | Region::Staging) {
        return Err(format!("can't lie in {:?}", span.region));
    }
    if program.data_parallel && access == Access::Write && !per_image {
        return Err(format!("workers can't write {:?}", span.region));
    }
    let (end, room) = match span.region {
        Region::Arena => (span.len.checked_mul(program.capacity), program.arena),
        region => (Some(span.len), layout.len(region)),
    };
    match end.and_then(|len| span.offset.checked_add(len)) {
        Some(end) if end <= room => Ok(()),
        _ => Err(format!("ends outside {:?} of {room} elements", span.region)),
    }
}

/// Staging rows are compared by [`staging_rows`].
fn check_overlaps(list: &[Placed], capacity: usize) -> std::result::Result<(), String> {
    for (i, written) in list.iter().enumerate().filter(|(_, placed)| placed.operand.access == Access::Write) {
        for (j, other) in list.iter().enumerate() {
            let counted = j != i && (other.operand.access != Access::Write || j > i);
            let in_place = other.operand.access == Access::ReadInPlace && other.span == written.span;
            if counted && !in_place && written.span.overlaps(&other.span, capacity) {
                return Err(format!("{} overlaps {}", written.operand.name, other.operand.name));
            }
        }
    }
    Ok(())
}

/// Rows that fit before a staging span of the program would leave the region or run into another
/// one that is written: spans are equal, or each has its rows to itself.
fn staging_rows(list: &[Placed], room: usize) -> Result<usize> {
    let mut rows = usize::MAX;
    for (i, a) in list.iter().enumerate() {
        rows = rows.min((room - a.span.offset) / a.span.len.max(1));
        for b in &list[..i] {
            let written = a.operand.access == Access::Write || b.operand.access == Access::Write;
            if !written || a.span == b.span {
                continue;
            }
            let (low, high) = if a.span.offset <= b.span.offset { (a, b) } else { (b, a) };
            rows = rows.min((high.span.offset - low.span.offset) / low.span.len.max(1));
        }
    }
    if rows == 0 {
        return Err(Error::run("staging spans overlap or leave no room for a row"));
    }
    Ok(rows)
}

/// Checks the slices of a run against the program's capacity and the staging rows it has room
/// for. Those of a data-parallel program run side by side: their rows must be disjoint, and come in order.
pub fn check_slices(program: &Program, rows: usize, slices: &[BatchSlice]) -> Result<()> {
    let mut free = 0;
    for (index, &BatchSlice { first, count }) in slices.iter().enumerate() {
        let end = first.saturating_add(count);
        if count > program.capacity || end > rows {
            let capacity = program.capacity;
            return Err(Error::run(format!(
                "slice {index} (rows {first}..{end}) is over {capacity} images or {rows} rows"
            )));
        }
        if program.data_parallel && first < free {
            return Err(Error::run(format!("slice {index} starts at row {first}, inside an earlier one")));
        }
        free = end;
    }
    Ok(())
}

/// The image set attached as `slot`.
pub fn attached(images: &[Option<ImageSet>], slot: ImageSlot) -> Result<&ImageSet> {
    let set = images.get(slot.0).and_then(Option::as_ref);
    set.ok_or_else(|| Error::run(format!("no images attached as {}", slot.0)))
}

/// Checks that a set has images of this size (or grey ones) at all indices.
pub fn check_images(set: &ImageSet, size: (usize, usize, usize), indices: &[u32]) -> Result<()> {
    let (height, width, channels) = size;
    let grey = set.channels == 1;
    if (set.height, set.width) != (height, width) || !(grey || set.channels == channels) {
        return Err(Error::run(format!(
            "images are {}x{}x{}, the network takes {height}x{width}x{channels}",
            set.height, set.width, set.channels
        )));
    }
    match indices.iter().find(|&&index| index as usize >= set.len()) {
        Some(index) => Err(Error::run(format!("image {index} of a set of {}", set.len()))),
        None => Ok(()),
    }
}

impl Program {
    /// The ops of a run in their order, those of the loop `repeats` times.
    pub(super) fn steps(&self, repeats: usize) -> impl Iterator<Item = &Op> {
        self.order(repeats).map(|index| &self.ops[index])
    }

    /// The ops that run as often as op `index`: repetition cuts a program into three parts.
    pub(super) fn part(&self, index: usize) -> Range<usize> {
        let Range { start, end } = self.loop_body;
        match index {
            _ if index < start => 0..start,
            _ if index < end => start..end,
            _ => end.max(start)..self.ops.len(),
        }
    }

    /// The steps as indices.
    pub(super) fn order(&self, repeats: usize) -> impl Iterator<Item = usize> + use<> {
        let Range { start, end } = self.loop_body;
        let again = (0..repeats).flat_map(move |_| start..end);
        (0..start).chain(again).chain(end..self.ops.len())
    }
}
