//! Which launches a program becomes, and what they touch, with no device asked: the ops are executed as
//! ever, on addresses that stand for memory, and the launches written down instead of started.

use crate::device::ops;
use std::cell::RefCell;
use std::collections::HashMap;

use super::addresses::{Addresses, Images, Place, Scratch};
use super::execute::Step;
use super::execute_update::Updated;
use super::fuse::Share;
use super::launch::{Argument, Grid, Launch};
use super::relay::{Links, PLAIN, Relay};
use super::room::{Room, filter_words};
use super::tensor::column_sums;
use crate::data::ImageSet;
use crate::device::{BatchSlice, Cost, KernelLaunch, Op, Precision, Program, StepParams};
use crate::error::{Error, Result};

/// Bytes between the beginnings of what stands for memory: more than any of it has.
const APART: u64 = 1 << 44;

/// The launches of each op of `program` for a slice of `count` images.
///
/// # Errors
/// A launch that touches memory that its op knows nothing of.
pub fn launches(program: &Program, count: usize, precision: Precision) -> Result<Vec<Vec<KernelLaunch>>> {
    let relay = Relay::new(program, precision);
    let memory = imaginary(program, relay.buffers.len());
    let costs = program.costs(count, precision);
    let of = |(number, ((op, cost), links)): (usize, ((&Op, &Cost), &Links))| {
        let log = Log::default();
        let slice = BatchSlice { first: 0, count };
        // As in epochs that average the weights.
        let params = StepParams { average_decay: 0.98, ..StepParams::default() };
        let step = Step {
            launcher: &log,
            memory: &memory,
            specs: &program.filters,
            slice,
            params: &params,
            precision,
            links,
            update: Updated::of(program, relay.update.as_ref(), memory.scratch.table.address),
        };
        if number < relay.opening() {
            // Of a step behind another.
            return Ok(Vec::new());
        }
        step.run(op).map_err(|cause| Error::run(format!("{}: {cause}", op.name())))?;
        let mut extents = extents((op, links), program, &memory, count, precision);
        if let Some(Updated { update, average, table }) =
            step.update.filter(|_| links.share == Share::WithUpdate)
        {
            extents.insert(table, update.filter_bytes(program));
            let average = average.map(|span| (memory.address(span, slice), 2 * span.len * size_of::<f32>()));
            extents.extend(average);
        }
        let known = |launch: Asked| {
            let mut extents = extents.clone();
            if let ("norm_stats", Op::BatchNormStats(ops::BatchNormStats { channels, input, .. })) =
                (launch.kernel, op)
            {
                // Behind the sums nothing but the first pixel is wanted of the images.
                extents.insert(memory.address(*input, slice), channels * size_of::<f32>());
            }
            launch.known(op, &extents)
        };
        let list = log.0.into_inner().into_iter().map(known);
        let mut list: Vec<KernelLaunch> = list.collect::<Result<_>>()?;
        if let Some(launch) = main_launch(op, &mut list) {
            launch.products = cost.products;
        }
        Ok(list)
    };
    let all =
        program.ops.iter().zip(&costs).zip(&relay.links).enumerate().map(of).collect::<Result<Vec<_>>>();
    let mut all = all?;
    for (links, cost) in relay.links.iter().zip(&costs) {
        if let Share::Done(op) = links.share
            && let Some(launch) = all[op].last_mut()
        {
            launch.products += cost.products;
        }
    }
    Ok(all)
}

/// The launch that does an op's matrix products.
fn main_launch<'a>(op: &Op, list: &'a mut [KernelLaunch]) -> Option<&'a mut KernelLaunch> {
    let kernel = match op {
        Op::Conv(_) => "conv_fprop",
        Op::ConvDgrad(_) => "conv_dgrad",
        Op::ConvWgrad(_) => "conv_wgrad",
        Op::Linear(_) | Op::LinearDgrad(_) | Op::LinearWgrad(_) => "linear",
        _ => return None,
    };
    list.iter_mut().find(|launch| launch.kernel.starts_with(kernel))
}

/// Addresses for everything that a program refers to, far from each other.
fn imaginary(program: &Program, buffers: usize) -> Addresses {
    let mut next = 0;
    let mut place = || {
        next += APART;
        Place { address: next }
    };
    let regions = std::array::from_fn(|_| place());
    let operands = (0..buffers.max(PLAIN)).map(|_| place()).collect();
    let scratch = Scratch { operands, partials: place(), table: place() };
    let (scalars, filters) = (place(), program.filters.iter().map(|_| place()).collect());
    let mut images = Vec::new();
    for op in &program.ops {
        if let Op::LoadImages(ops::LoadImages { images: slot, height, width, channels, .. }) = op {
            let set = ImageSet { height: *height, width: *width, ..ImageSet::noise(0, 0, *channels, 0) };
            images.resize_with(images.len().max(slot.0 + 1), || None);
            images[slot.0] = Some(Images { set, pixels: place() });
        }
    }
    Addresses { regions, filters, scratch, scalars, images }
}

/// Bytes of what an op's launches are given, by address.
fn extents(
    (op, links): (&Op, &Links),
    program: &Program,
    memory: &Addresses,
    count: usize,
    precision: Precision,
) -> HashMap<u64, usize> {
    let mut extents = HashMap::new();
    let mut add = |address: u64, bytes: usize| {
        let known = extents.entry(address).or_insert(0);
        *known = bytes.max(*known);
    };
    let slice = BatchSlice { first: 0, count };
    op.clone().visit_operands(&mut |operand, span| {
        // What isn't stored may lie over what is read.
        if operand.name == "output" && !links.stored {
            return;
        }
        let rounded = links.rounded(op, operand.name, count).map(|words| words * size_of::<f32>());
        add(memory.address(*span, slice), rounded.unwrap_or_else(|| operand.bytes(count)));
    });
    // A few words, not worth counting.
    add(memory.scalars.address, 0);
    let room = Room::of(op, count, precision);
    let words = |words: usize| words * size_of::<f32>();
    for (buffer, &elements) in room.operands.iter().enumerate() {
        add(memory.scratch.operands[buffer].address, words(elements));
    }
    if precision == Precision::Bf16 {
        for (buffer, elements) in links.operands(op, count) {
            add(memory.scratch.operands[buffer].address, words(elements));
        }
        for (span, elements) in links.beside(op, count) {
            add(memory.address(span, slice), words(elements));
        }
    }
    let sums = match op {
        Op::Conv(ops::Conv { shape, .. }) if links.share == Share::WithSums => {
            column_sums(count * shape.out_height() * shape.out_width(), shape.out_channels)
        }
        Op::BatchNormStats(ops::BatchNormStats { pixels, channels, .. }) if links.share == Share::Summed => {
            column_sums(count * pixels, *channels)
        }
        _ => room.partials,
    };
    add(memory.scratch.partials.address, words(sums));
    if let Op::Conv(ops::Conv { filter, .. })
    | Op::ConvDgrad(ops::ConvDgrad { filter, .. })
    | Op::LoadFilter(ops::LoadFilter { filter, .. }) = op
    {
        add(memory.filters[filter.0].address, words(filter_words(&program.filters[filter.0], precision)));
    }
    if let Op::LoadImages(ops::LoadImages { images, height, width, channels, .. }) = op
        && let Some(Some(images)) = memory.images.get(images.0)
    {
        add(images.pixels.address, count * height * width * channels);
    }
    extents
}

/// A launch that was asked for.
struct Asked {
    kernel: &'static str,
    blocks: u64,
    addresses: Vec<u64>,
}

impl Asked {
    fn known(self, op: &Op, extents: &HashMap<u64, usize>) -> Result<KernelLaunch> {
        let Asked { kernel, blocks, addresses } = self;
        let bytes = addresses.iter().map(|address| {
            let bytes = extents.get(address).map(|&bytes| bytes as u64);
            bytes.ok_or_else(|| Error::run(format!("{kernel} touches what {} has not", op.name())))
        });
        Ok(KernelLaunch { kernel, blocks, bytes: bytes.sum::<Result<u64>>()?, products: 0 })
    }
}

/// Writes launches down.
#[derive(Default)]
struct Log(RefCell<Vec<Asked>>);

impl Launch for Log {
    unsafe fn launch(
        &self,
        name: &'static str,
        grid: Grid,
        arguments: &[Argument],
    ) -> std::result::Result<(), String> {
        let (x, y, z) = grid.blocks();
        let blocks = u64::from(x) * u64::from(y) * u64::from(z);
        let pointer = |argument: &Argument| match argument {
            Argument::Pointer(address) if *address != 0 => Some(*address),
            _ => None,
        };
        let addresses = arguments.iter().filter_map(pointer).collect();
        if blocks > 0 {
            self.0.borrow_mut().push(Asked { kernel: name, blocks, addresses });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
