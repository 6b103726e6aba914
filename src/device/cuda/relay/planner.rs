//! Who hands on what to whom, and where it lies.

use crate::device::ops;
use std::ops::Range;

use super::{Links, Next, Relay, Side, Tensor, own_result, result, tensors};
use crate::device::cuda::fuse::Share;
use crate::device::operand::Prologue;
use crate::device::{Affine, Op, Program, Span};

/// Ops that an operand is kept for after it was last used. It covers a block's convolutions; all of a training
/// step would cost the memory that computing activations again saves.
const REACH: usize = 4;

/// An operand from when it is made until it was last read.
pub(super) struct Life {
    tensor: Tensor,
    /// The op that hands it on; else its first reader fills it.
    pub maker: Option<usize>,
    first: usize,
    last: usize,
    buffer: usize,
}

/// The links of a program as they come about, op by op.
pub(super) struct Planner<'a> {
    pub program: &'a Program,
    pub links: Vec<Links>,
    pub lives: Vec<Life>,
    /// Op, side, life.
    pub uses: Vec<(usize, Side, usize)>,
}

impl<'a> Planner<'a> {
    pub fn new(program: &'a Program, links: Vec<Links>) -> Self {
        Self { program, links, lives: Vec::new(), uses: Vec::new() }
    }

    /// Takes the next op, whose number is `index`.
    pub fn take(&mut self, index: usize, op: &Op) {
        for (side, tensor) in tensors(op) {
            let mask = match op {
                Op::Conv(ops::Conv { prologue, .. }) => prologue.mask,
                _ => None,
            };
            self.operand(index, side, tensor, mask);
        }
    }

    /// Finds or makes the life of an operand that op `index` reads.
    fn operand(&mut self, index: usize, side: Side, tensor: Tensor, mask: Option<Span>) {
        let known = self.lives.iter().position(|life| {
            mask.is_none()
                && life.tensor == tensor
                && index - life.last <= REACH
                && self.same_part(life.first, index)
                && !self.changed(&tensor, life.first + 1..index)
        });
        let life = known.unwrap_or_else(|| {
            let maker = self.maker(index, &tensor);
            if let Some(maker) = maker {
                let handed = mask.filter(|mask| !self.touched(mask, maker..index));
                let prologue = Prologue { affine: tensor.affine, relu: tensor.relu, mask: handed };
                let launch = self.launch(maker);
                self.links[launch].next = Some(Next { buffer: 0, prologue });
                self.links[index].masked = handed.is_some();
            }
            let first = maker.map_or(index, |maker| self.launch(maker));
            self.lives.push(Life { tensor, maker, first, last: index, buffer: 0 });
            self.lives.len() - 1
        });
        self.lives[life].last = index;
        let filled = known.is_none() && self.lives[life].maker.is_none();
        self.links[index].operand(side).fill = filled;
        self.uses.push((index, side, life));
    }

    /// The op that can hand `tensor` on to op `index`: it wrote it, all of it, shortly before, in the same part of
    /// the program, it knows how, and the affine map was there already.
    fn maker(&self, index: usize, tensor: &Tensor) -> Option<usize> {
        let maker = (0..index).rev().find(|&op| self.writes(op, &tensor.span))?;
        let able = index - maker <= REACH
            && self.same_part(maker, index)
            && self.links[self.launch(maker)].next.is_none()
            && self.result(maker) == Some((tensor.span, tensor.pixels, tensor.channels))
            && (tensor.plain() || matches!(self.program.ops[maker], Op::Conv(_)))
            && !self.changed_affine(tensor, maker..index);
        able.then_some(maker)
    }

    /// The op whose launch does op `index`.
    pub fn launch(&self, index: usize) -> usize {
        match self.links[index].share {
            Share::Done(launch) => launch,
            _ => index,
        }
    }

    /// The tensor, of those that a launch may leave out, that op `index` makes.
    pub fn made(&self, index: usize) -> Option<Span> {
        match self.links[index].share {
            Share::WithStep(_) => own_result(&self.program.ops[index]).map(|(span, ..)| span),
            _ => self.result(index).map(|(span, ..)| span),
        }
    }

    /// The tensor that an op can hand on, its pixels and channels.
    pub fn result(&self, index: usize) -> Option<(Span, usize, usize)> {
        let launch = self.launch(index);
        let made = result(&self.program.ops[launch], &self.links[launch].share)?;
        self.spans(index, true).any(|span| span == made.0).then_some(made)
    }

    /// Whether they run equally often.
    pub fn same_part(&self, one: usize, other: usize) -> bool {
        self.program.part(one) == self.program.part(other)
    }

    /// Whether any of `ops` writes what `tensor` is made of.
    fn changed(&self, tensor: &Tensor, ops: Range<usize>) -> bool {
        ops.clone().any(|op| self.writes(op, &tensor.span)) || self.changed_affine(tensor, ops)
    }

    fn changed_affine(&self, tensor: &Tensor, mut ops: Range<usize>) -> bool {
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

    /// What an op writes, or reads as itself and not as an operand that is there.
    pub fn spans(&self, index: usize, written: bool) -> impl Iterator<Item = Span> + use<> {
        self.named(index, written).into_iter().map(|(_, span)| span)
    }

    /// The same with the operands' names.
    pub fn named(&self, index: usize, written: bool) -> Vec<(&'static str, Span)> {
        let links = self.links[index];
        let taken = |name: &str| match name {
            "input" if links.share == Share::Summed => true,
            "input" => !links.input.fill && links.has_mask(&self.program.ops[index]),
            "gradient" => !links.gradient.fill || matches!(links.share, Share::Done(_)),
            _ => false,
        };
        let mut spans = Vec::new();
        self.program.ops[index].clone().visit_operands(&mut |operand, span| {
            if written == operand.access.writes() && (written || !taken(operand.name)) {
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

    /// Whether anybody reads what op `maker` stored at `span` before it is written again. What is left in the
    /// arena when a program ends is nobody's.
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

    /// Decides what is stored, what is rounded, and which buffer everything has.
    pub fn finish(mut self) -> Relay {
        for index in 0..self.links.len() {
            let maker = self.lives.iter().any(|life| life.maker == Some(index));
            let stepping = matches!(self.links[index].share, Share::WithStep(_));
            if let (true, Some(span)) = (maker || stepping, self.made(index)) {
                let launch = self.launch(index);
                self.links[launch].stored = self.read_later(index, &span);
            }
        }
        self.round();
        let used = |life: &usize| self.uses.iter().any(|(_, _, used)| used == life);
        let used: Vec<usize> = (0..self.lives.len()).filter(used).collect();
        let buffers = place(&mut self.lives, &used, self.program.capacity);
        for &(index, side, life) in &self.uses {
            self.links[index].operand(side).buffer = Some(self.lives[life].buffer);
        }
        for life in used.into_iter().map(|life| &self.lives[life]) {
            let launch = life.maker.map(|maker| self.launch(maker));
            let next = launch.and_then(|launch| self.links[launch].next.as_mut());
            if let Some(next) = next {
                next.buffer = life.buffer;
            }
        }
        Relay { links: self.links, buffers, update: None }
    }
}

/// Gives every life in `used` a buffer that nobody else uses meanwhile, one that is large enough if there is one.
/// Returns the buffers' sizes.
fn place(lives: &mut [Life], used: &[usize], capacity: usize) -> Vec<usize> {
    let mut order = used.to_vec();
    order.sort_by_key(|&life| lives[life].first);
    // Size, and the last op that uses it.
    let mut buffers: Vec<(usize, usize)> = Vec::new();
    for life in order {
        let life = &mut lives[life];
        let words = life.tensor.words(capacity);
        // An op reads one operand while it hands on the next: both ends count.
        let free = (0..buffers.len()).filter(|&buffer| buffers[buffer].1 < life.first);
        let best = free.min_by_key(|&buffer| {
            let size = buffers[buffer].0;
            (size < words, size.abs_diff(words))
        });
        life.buffer = best.unwrap_or_else(|| {
            buffers.push((0, 0));
            buffers.len() - 1
        });
        let (size, used) = &mut buffers[life.buffer];
        (*size, *used) = ((*size).max(words), life.last);
    }
    buffers.into_iter().map(|(size, _)| size).collect()
}

/// Takes `range` out of the `left` ones.
fn remove(left: &mut Vec<Range<usize>>, range: &Range<usize>) {
    let outside = left
        .iter()
        .flat_map(|part| [part.start..part.end.min(range.start), part.start.max(range.end)..part.end]);
    *left = outside.filter(|part| !part.is_empty()).collect();
}
