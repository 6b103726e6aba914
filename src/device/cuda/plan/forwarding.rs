//! Operand forwarding: which op makes the operands of the convolutions, and in which buffer.
//!
//! A convolution reads its input after a prologue and its output gradient, both in the operand's type, in working buffers. Where
//! the op that makes the tensor can write that form while it has the values in registers, it *forwards* the operand:
//! the convolution then has nothing to prepare, and a tensor that no other op reads isn't stored at all. Where two
//! convolutions read the same operand soon after each other, it's made once. Otherwise the reader fills a buffer
//! before it starts. All of this follows from the program alone.

use crate::device::ops;
use std::ops::Range;

use super::fuse::Fusion;
use super::operands::{
    Activation, ConvOperand, Forward, OpPlan, Produced, Side, operands, own_result, result,
};
use crate::device::cuda::ops::tiles::padded;
use crate::device::{Access, Affine, Op, Precision, Program, Prologue, Span};

/// Ops that an operand is kept for after it was last used. It covers a block's convolutions; all of a training
/// step would cost the memory that computing activations again saves.
const REACH: usize = 4;

/// An operand's live range: from the launch that makes it to the op that reads it last.
pub(super) struct LiveRange {
    tensor: Activation,
    /// The op that forwards it; else its first reader fills it.
    pub maker: Option<usize>,
    first: usize,
    last: usize,
    buffer: usize,
}

/// The plans of a program's ops while they are decided.
pub(super) struct Forwarding<'a> {
    pub program: &'a Program,
    precision: Precision,
    pub ops: Vec<OpPlan>,
    pub live: Vec<LiveRange>,
    /// Op, which of its operands, index of the live range.
    pub uses: Vec<(usize, Side, usize)>,
}

impl<'a> Forwarding<'a> {
    /// The plans of a program's ops, which are fused in this way.
    pub fn plan(program: &'a Program, fusions: Vec<Fusion>, precision: Precision) -> Vec<OpPlan> {
        let ops = fusions.into_iter().map(|fusion| OpPlan { fusion, ..OpPlan::ALONE }).collect();
        let mut forwarding = Self { program, precision, ops, live: Vec::new(), uses: Vec::new() };
        for (index, op) in program.ops.iter().enumerate() {
            let mask = if let Op::Conv(ops::Conv { prologue, .. }) = op { prologue.mask } else { None };
            operands(op).for_each(|(side, tensor)| forwarding.operand(index, side, tensor, mask));
        }
        forwarding.finish()
    }

    /// Finds or begins the live range of an operand that op `index` reads.
    fn operand(&mut self, index: usize, side: Side, tensor: Activation, mask: Option<Span>) {
        if self.has_its_form(&tensor) {
            *self.ops[index].operand(side) = ConvOperand { buffer: None, fill: true };
            return;
        }
        let known = self.live.iter().position(|range| {
            mask.is_none()
                && range.tensor == tensor
                && index - range.last <= REACH
                && self.same_part(range.first, index)
                && !self.changed(&tensor, range.first + 1..index)
        });
        let range = known.unwrap_or_else(|| {
            let maker = self.maker(index, &tensor);
            if let Some(maker) = maker {
                let forwarded = mask.filter(|mask| !self.touched(mask, maker..index));
                let prologue = Prologue { affine: tensor.affine, relu: tensor.relu, mask: forwarded };
                let launch = self.launch(maker);
                self.ops[launch].forward = Some(Forward { buffer: 0, prologue });
                self.ops[index].masked = forwarded.is_some();
            }
            let first = maker.map_or(index, |maker| self.launch(maker));
            self.live.push(LiveRange { tensor, maker, first, last: index, buffer: 0 });
            self.live.len() - 1
        });
        self.live[range].last = index;
        let filled = known.is_none() && self.live[range].maker.is_none();
        self.ops[index].operand(side).fill = filled;
        self.uses.push((index, side, range));
    }

    /// Whether a tensor has the form of an operand: f32 without a prologue, and channels that need no padding.
    fn has_its_form(&self, tensor: &Activation) -> bool {
        let Activation { span, pixels, channels, .. } = *tensor;
        let aligned = padded(channels) == channels && span.len == pixels * channels && span.offset % 4 == 0;
        self.precision == Precision::F32 && tensor.is_plain() && aligned
    }

    /// The op that can forward `tensor` to op `index`: it wrote all of it, shortly before, in the same part of the
    /// program, its kernel knows how, and the affine map was there already.
    fn maker(&self, index: usize, tensor: &Activation) -> Option<usize> {
        let maker = (0..index).rev().find(|&op| self.writes(op, &tensor.span))?;
        let able = index - maker <= REACH
            && self.same_part(maker, index)
            && self.ops[self.launch(maker)].forward.is_none()
            && self.result(maker) == Some((tensor.span, tensor.pixels, tensor.channels))
            && (tensor.is_plain() && self.precision == Precision::Bf16
                || matches!(self.program.ops[maker], Op::Conv(_)))
            && !self.changed_affine(tensor, maker..index);
        able.then_some(maker)
    }

    /// The op whose launch does op `index`.
    pub fn launch(&self, index: usize) -> usize {
        match self.ops[index].fusion {
            Fusion::Into(launch) => launch,
            _ => index,
        }
    }

    /// The tensor, of those that a launch may leave out, that op `index` makes.
    pub fn made(&self, index: usize) -> Option<Span> {
        match self.ops[index].fusion {
            Fusion::PgdStep(_) => own_result(&self.program.ops[index]).map(|(span, ..)| span),
            _ => self.result(index).map(|(span, ..)| span),
        }
    }

    /// The tensor that an op can forward, its pixels and channels.
    pub fn result(&self, index: usize) -> Option<Produced> {
        let launch = self.launch(index);
        let made = result(&self.program.ops[launch], &self.ops[launch].fusion)?;
        self.spans(index, true).any(|span| span == made.0).then_some(made)
    }

    /// Whether they run equally often.
    pub fn same_part(&self, one: usize, other: usize) -> bool {
        self.program.part(one) == self.program.part(other)
    }

    /// Whether any of `ops` writes what `tensor` is made of.
    fn changed(&self, tensor: &Activation, ops: Range<usize>) -> bool {
        ops.clone().any(|op| self.writes(op, &tensor.span)) || self.changed_affine(tensor, ops)
    }

    fn changed_affine(&self, tensor: &Activation, mut ops: Range<usize>) -> bool {
        let Some(Affine { scale, shift }) = tensor.affine else {
            return false;
        };
        ops.any(|op| self.writes(op, &scale) || self.writes(op, &shift))
    }

    /// Whether any of `ops` uses memory that `mask` will be written to.
    fn touched(&self, mask: &Span, mut ops: Range<usize>) -> bool {
        ops.any(|op| {
            let used = self.spans(op, true).chain(self.spans(op, false));
            used.into_iter().any(|span| self.overlap(&span, mask))
        })
    }

    /// What an op writes; or what it reads, without the operands that other launches forward to it.
    pub fn spans(&self, index: usize, written: bool) -> impl Iterator<Item = Span> + use<> {
        self.named(index, written).into_iter().map(|(_, span)| span)
    }

    /// The same with the operands' names.
    pub fn named(&self, index: usize, written: bool) -> Vec<(&'static str, Span)> {
        let plan = self.ops[index];
        let forwarded = |name: &str| match name {
            "input" if plan.fusion == Fusion::StatsReady => true,
            "input" => !plan.input.fill && plan.mask_is_made(&self.program.ops[index]),
            "gradient" => !plan.gradient.fill || matches!(plan.fusion, Fusion::Into(_)),
            _ => false,
        };
        let mut spans = Vec::new();
        self.program.ops[index].clone().visit_operands(&mut |operand, span| {
            if written == (operand.access == Access::Write) && (written || !forwarded(operand.name)) {
                spans.push((operand.name, *span));
            }
        });
        spans
    }

    /// Whether an op writes any of `span`.
    pub fn writes(&self, op: usize, span: &Span) -> bool {
        self.spans(op, true).any(|written| self.overlap(&written, span))
    }

    pub fn overlap(&self, one: &Span, other: &Span) -> bool {
        one.overlaps(other, self.program.capacity)
    }

    fn extent(&self, span: &Span) -> Range<usize> {
        span.extent(self.program.capacity)
    }

    /// Whether an op reads what op `maker` stored at `span` before it is written again. Nothing reads what is left in
    /// the arena when a program ends.
    fn read_later(&self, maker: usize, span: &Span) -> bool {
        let (again, end) = (self.program.loop_body.clone(), self.program.ops.len());
        let read = |mut ops: &mut dyn Iterator<Item = usize>| {
            let mut left = vec![self.extent(span)];
            (&mut ops).any(|op| {
                let found = self.spans(op, false).any(|read| {
                    let extent = self.extent(&read);
                    read.region == span.region
                        && left.iter().any(|part| part.start < extent.end && extent.start < part.end)
                });
                // What another part writes isn't sure: repetitions may be none.
                if self.same_part(op, maker) {
                    let written = self.spans(op, true).filter(|written| written.region == span.region);
                    written.for_each(|written| remove(&mut left, &self.extent(&written)));
                }
                found
            })
        };
        let on = read(&mut (maker + 1..end));
        on || again.contains(&maker) && read(&mut (maker + 1..again.end).chain(again.start..maker))
    }

    /// Decides what is stored, what is kept in bf16, and which buffer each operand has.
    fn finish(mut self) -> Vec<OpPlan> {
        for index in 0..self.ops.len() {
            let maker = self.live.iter().any(|range| range.maker == Some(index));
            let stepping = matches!(self.ops[index].fusion, Fusion::PgdStep(_));
            if let (true, Some(span)) = (maker || stepping, self.made(index)) {
                let launch = self.launch(index);
                self.ops[launch].stored = self.read_later(index, &span);
            }
        }
        if self.precision == Precision::Bf16 {
            self.assign_dtypes();
        }
        let used = |range: &usize| self.uses.iter().any(|(_, _, used)| used == range);
        let used: Vec<usize> = (0..self.live.len()).filter(used).collect();
        allocate(&mut self.live, &used, self.program.capacity);
        for &(index, side, range) in &self.uses {
            self.ops[index].operand(side).buffer = Some(self.live[range].buffer);
        }
        for range in used.into_iter().map(|range| &self.live[range]) {
            let launch = range.maker.map(|maker| self.launch(maker));
            if let Some(forward) = launch.and_then(|launch| self.ops[launch].forward.as_mut()) {
                forward.buffer = range.buffer;
            }
        }
        self.ops
    }
}

/// Gives every live range in `used` a buffer that no other one has at the same time, one that is large enough if
/// there is one.
fn allocate(live: &mut [LiveRange], used: &[usize], capacity: usize) {
    let mut order = used.to_vec();
    order.sort_by_key(|&range| live[range].first);
    // Size, and the last op that uses it.
    let mut buffers: Vec<(usize, usize)> = Vec::new();
    for range in order {
        let range = &mut live[range];
        let wanted = range.tensor.elements(capacity);
        // An op reads one operand while it writes the next: both ends count.
        let free = (0..buffers.len()).filter(|&buffer| buffers[buffer].1 < range.first);
        let best = free.min_by_key(|&buffer| {
            let size = buffers[buffer].0;
            (size < wanted, size.abs_diff(wanted))
        });
        range.buffer = best.unwrap_or_else(|| {
            buffers.push((0, 0));
            buffers.len() - 1
        });
        let (size, used) = &mut buffers[range.buffer];
        (*size, *used) = ((*size).max(wanted), range.last);
    }
}

/// Takes `range` out of the `left` ones.
fn remove(left: &mut Vec<Range<usize>>, range: &Range<usize>) {
    let outside = left
        .iter()
        .flat_map(|part| [part.start..part.end.min(range.start), part.start.max(range.end)..part.end]);
    *left = outside.filter(|part| !part.is_empty()).collect();
}
