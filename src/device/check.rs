//! The check of a program against a layout, once, when it is prepared: what makes the devices'
//! unchecked accesses sound.

use super::ops::{Access, Operand};
use super::{
    BatchSlice, ConvShape, Direction, FilterId, FilterSpec, ImageSlot, MemoryLayout, Op, Program, Region,
    Span,
};
use crate::data::ImageSet;
use crate::error::{Error, Result};

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
    let mut staging: Vec<(Operand, Span)> = Vec::new();
    for (index, op) in program.ops.iter().enumerate() {
        let fail = |cause: String| Error::run(format!("op {index} ({}): {cause}", op.name()));
        op.check(program).map_err(fail)?;
        let list = op.operands();
        for &(operand, span) in &list {
            check_operand(operand, span, program, layout)
                .map_err(|cause| fail(format!("{}: {cause}", operand.name)))?;
        }
        check_overlaps(&list, program.capacity).map_err(fail)?;
        staging.extend(list.iter().filter(|(_, span)| span.region == Region::Staging));
    }
    staging_rows(&staging, layout.staging)
}

impl Program {
    fn filter(&self, filter: FilterId) -> std::result::Result<&FilterSpec, String> {
        self.filters.get(filter.0).ok_or(format!("no filter {}", filter.0))
    }

    /// Checks that a convolution uses a filter that is made for it.
    pub(super) fn uses(
        &self,
        filter: FilterId,
        shape: &ConvShape,
        direction: Direction,
    ) -> std::result::Result<(), String> {
        let spec = self.filter(filter)?;
        if (spec.shape, spec.direction) == (*shape, direction) {
            return Ok(());
        }
        Err(format!("filter {} is for {spec:?}", filter.0))
    }

    /// Checks that a filter can be made of so many weights and scales.
    pub(super) fn loads(
        &self,
        filter: FilterId,
        weights: usize,
        scales: Option<usize>,
    ) -> std::result::Result<(), String> {
        let shape = self.filter(filter)?.shape;
        if self.data_parallel {
            return Err("workers can't load a filter".to_string());
        }
        if weights != shape.filter_len() {
            return Err(format!("{weights} weights, not {}", shape.filter_len()));
        }
        match scales {
            Some(scales) if scales != shape.out_channels => {
                Err(format!("{scales} scales, not {}", shape.out_channels))
            }
            _ => Ok(()),
        }
    }
}

fn check_operand(
    Operand { len, per_image, access, .. }: Operand,
    span: Span,
    program: &Program,
    layout: &MemoryLayout,
) -> std::result::Result<(), String> {
    if span.len != len {
        return Err(format!("{} elements, not {len}", span.len));
    }
    if len == 0 {
        return Err("no elements".to_string());
    }
    if per_image != matches!(span.region, Region::Arena | Region::Staging) {
        return Err(format!("can't lie in {:?}", span.region));
    }
    if program.data_parallel && access.writes() && !per_image {
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
fn check_overlaps(list: &[(Operand, Span)], capacity: usize) -> std::result::Result<(), String> {
    for (i, (written, span)) in list.iter().enumerate().filter(|(_, (operand, _))| operand.access.writes()) {
        for (j, (other, other_span)) in list.iter().enumerate() {
            let counted = j != i && (!other.access.writes() || j > i);
            let in_place = other.access == Access::ReadInPlace && other_span == span;
            if counted && !in_place && span.overlaps(other_span, capacity) {
                return Err(format!("{} overlaps {}", written.name, other.name));
            }
        }
    }
    Ok(())
}

/// Rows that fit before a staging span of the program would leave the region or run into another one that is
/// written: spans are equal, or each has its rows to itself.
fn staging_rows(list: &[(Operand, Span)], room: usize) -> Result<usize> {
    let mut rows = usize::MAX;
    for (i, (operand, a)) in list.iter().enumerate() {
        rows = rows.min((room - a.offset) / a.len.max(1));
        for (other, b) in &list[..i] {
            let written = operand.access.writes() || other.access.writes();
            if !written || a == b {
                continue;
            }
            let (low, high) = if a.offset <= b.offset { (a, b) } else { (b, a) };
            rows = rows.min((high.offset - low.offset) / low.len.max(1));
        }
    }
    if rows == 0 {
        return Err(Error::run("staging spans overlap or leave no room for a row"));
    }
    Ok(rows)
}

/// Checks the slices of a run against the program's capacity and the staging rows it has room
/// for, and that batch statistics are of some images. The slices of a data-parallel program run side by side: their
/// rows must be disjoint, and come in order.
pub fn check_slices(program: &Program, rows: usize, slices: &[BatchSlice]) -> Result<()> {
    let mut free = 0;
    let statistics = program.ops.iter().any(|op| matches!(op, Op::BatchNormStats(_)));
    if statistics && slices.iter().any(|slice| slice.count == 0) {
        return Err(Error::run("batch statistics of no images"));
    }
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
