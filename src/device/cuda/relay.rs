//! Which op makes the bf16 operands of the tensor-core convolutions.
//!
//! A convolution reads its input behind a prologue and its output gradient, both rounded to bf16 in working
//! buffers. Where the op that makes the tensor can do that while it has the values in registers, it *hands
//! them on*: the convolution then has nothing to prepare, and a tensor that nobody else reads isn't
//! stored at all. Where two convolutions read the same operand soon after each other, it's made once.
//! Otherwise the reader fills a buffer before it starts. Which of these it is follows from the program alone.

use std::ops::Range;

use super::fuse::{Share, shares};
use super::tensor::padded;
use crate::device::op::Prologue;
use crate::device::{Access, Affine, Op, Precision, Program, Region, Span};

/// Ops that an operand is kept for after it was last used. It covers a block's convolutions; all of a training
/// step would cost the memory that computing activations again saves.
const REACH: usize = 4;

/// A convolution's operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Operand {
    /// The working buffer.
    pub buffer: usize,
    /// Whether the convolution has to fill it.
    pub fill: bool,
}

/// What an op hands on of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// The working buffer.
    pub buffer: usize,
    /// What happens to the values before they are rounded; its mask is written too.
    pub prologue: Prologue,
}

/// What an op takes and hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Links {
    pub input: Operand,
    pub gradient: Operand,
    /// Whether the mask of the input's prologue is there.
    pub masked: bool,
    pub next: Option<Next>,
    /// Whether the result itself is stored.
    pub stored: bool,
    /// Whose launch does it.
    pub share: Share,
}

/// The links of a program's ops, and the elements of 4 bytes that each working buffer needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Relay {
    pub links: Vec<Links>,
    pub buffers: Vec<usize>,
}

/// Buffers of the plain kernels, and how many these are.
pub(super) const INPUT: usize = 0;
pub(super) const GRADIENT: usize = 1;
pub(super) const PLAIN: usize = 2;

/// What the plain kernels do, and every op that isn't a convolution: nothing is handed on.
const APART: Links = Links {
    input: Operand { buffer: INPUT, fill: true },
    gradient: Operand { buffer: GRADIENT, fill: true },
    masked: false,
    next: None,
    stored: true,
    share: Share::Own,
};

/// An operand from when it is made until it was last read.
struct Life {
    tensor: Tensor,
    /// The op that hands it on; else its first reader fills it.
    maker: Option<usize>,
    first: usize,
    last: usize,
    buffer: usize,
}

/// What an operand is made of.
#[derive(Clone, Copy, PartialEq)]
struct Tensor {
    span: Span,
    affine: Option<Affine>,
    relu: bool,
    pixels: usize,
    channels: usize,
}

impl Tensor {
    fn words(&self, capacity: usize) -> usize {
        capacity.saturating_mul(self.pixels * padded(self.channels) / Precision::Bf16.per_word())
    }
}

/// Which operand of an op.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Input,
    Gradient,
}

impl Relay {
    /// The links of a program whose convolutions multiply in `precision`; those of the plain kernels, whose
    /// operands [`super::room::Room`] knows, are each for itself.
    pub fn new(program: &Program, precision: Precision) -> Self {
        if precision == Precision::F32 {
            return Self { links: vec![APART; program.ops.len()], buffers: Vec::new() };
        }
        let links = shares(program).into_iter().map(|share| Links { share, ..APART }).collect();
        let mut planner = Planner { program, links, lives: Vec::new(), uses: Vec::new() };
        for (index, op) in program.ops.iter().enumerate() {
            planner.take(index, op);
        }
        planner.finish()
    }
}

struct Planner<'a> {
    program: &'a Program,
    links: Vec<Links>,
    lives: Vec<Life>,
    /// Op, side, life.
    uses: Vec<(usize, Side, usize)>,
}

impl Planner<'_> {
    fn take(&mut self, index: usize, op: &Op) {
        for (side, tensor) in tensors(op) {
            let mask = match op {
                Op::Conv { prologue, .. } => prologue.mask,
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
        let operand = match side {
            Side::Input => &mut self.links[index].input,
            Side::Gradient => &mut self.links[index].gradient,
        };
        operand.fill = filled;
        self.uses.push((index, side, life));
    }

    /// The op that can hand `tensor` on to op `index`: it wrote it, all of it, shortly before, in the same part of
    /// the program, it knows how, and the affine map was there already.
    fn maker(&self, index: usize, tensor: &Tensor) -> Option<usize> {
        let writes = |op: &usize| self.spans(*op, true).any(|span| self.overlap(&span, &tensor.span));
        let maker = (0..index).rev().find(writes)?;
        let able = index - maker <= REACH
            && self.same_part(maker, index)
            && self.links[self.launch(maker)].next.is_none()
            && self.result(maker) == Some((tensor.span, tensor.pixels, tensor.channels))
            && (tensor.affine.is_none() && !tensor.relu
                || matches!(self.program.ops[maker], Op::Conv { .. }))
            && !self.changed_affine(tensor, maker..index);
        able.then_some(maker)
    }

    /// The op whose launch does op `index`.
    fn launch(&self, index: usize) -> usize {
        match self.links[index].share {
            Share::Done(launch) => launch,
            _ => index,
        }
    }

    /// The tensor, of those that a launch may leave out, that op `index` makes.
    fn made(&self, index: usize) -> Option<Span> {
        match self.links[index].share {
            Share::WithStep(_) => own_result(&self.program.ops[index]).map(|(span, ..)| span),
            _ => self.result(index).map(|(span, ..)| span),
        }
    }

    /// The tensor that an op can hand on, its pixels and channels.
    fn result(&self, index: usize) -> Option<(Span, usize, usize)> {
        let launch = self.launch(index);
        let made = result(&self.program.ops[launch], &self.links[launch].share)?;
        self.spans(index, true).any(|span| span == made.0).then_some(made)
    }

    /// Whether they run equally often.
    fn same_part(&self, one: usize, other: usize) -> bool {
        self.program.part(one) == self.program.part(other)
    }

    /// Whether any of `ops` writes what `tensor` is made of.
    fn changed(&self, tensor: &Tensor, ops: Range<usize>) -> bool {
        let written = |op| self.spans(op, true).any(|span| self.overlap(&span, &tensor.span));
        ops.clone().any(written) || self.changed_affine(tensor, ops)
    }

    fn changed_affine(&self, tensor: &Tensor, mut ops: Range<usize>) -> bool {
        let Some(Affine { scale, shift }) = tensor.affine else {
            return false;
        };
        ops.any(|op| {
            self.spans(op, true).any(|span| self.overlap(&span, &scale) || self.overlap(&span, &shift))
        })
    }

    /// Whether any of `ops` uses memory that `mask` will be written to.
    fn touched(&self, mask: &Span, mut ops: Range<usize>) -> bool {
        ops.any(|op| {
            let used = self.spans(op, true).chain(self.spans(op, false));
            used.into_iter().any(|span| self.overlap(&span, mask))
        })
    }

    /// What an op writes, or reads as itself and not as an operand that is there.
    fn spans(&self, index: usize, written: bool) -> impl Iterator<Item = Span> + use<> {
        let links = self.links[index];
        let taken = |name: &str| match name {
            "input" if links.share == Share::Summed => true,
            "input" => !links.input.fill && links.has_mask(&self.program.ops[index]),
            "gradient" => !links.gradient.fill || matches!(links.share, Share::Done(_)),
            _ => false,
        };
        let mut spans = Vec::new();
        self.program.ops[index].clone().visit_operands(&mut |operand, span| {
            if written == (operand.access == Access::Write) && (written || !taken(operand.name)) {
                spans.push(*span);
            }
        });
        spans.into_iter()
    }

    fn overlap(&self, one: &Span, other: &Span) -> bool {
        one.overlaps(other, self.program.capacity)
    }

    fn extent(&self, span: &Span) -> Range<usize> {
        span.extent(self.program.capacity)
    }

    /// Whether anybody reads what op `maker` stored at `span` before it is written again. What is left in the
    /// arena when a program ends is nobody's.
    fn read_later(&self, maker: usize, span: &Span) -> bool {
        let (again, end) = (self.program.repeated.clone(), self.program.ops.len());
        let read = |ops: &mut dyn Iterator<Item = usize>| {
            ops.take_while(|&op| !(self.same_part(op, maker) && self.rewrites(op, span)))
                .any(|op| self.spans(op, false).any(|read| self.overlap(&read, span)))
        };
        let on = read(&mut (maker + 1..end));
        on || again.contains(&maker) && read(&mut (maker + 1..again.end).chain(again.start..maker))
    }

    /// Whether an op writes all of `span`, none of which it reads before.
    fn rewrites(&self, op: usize, span: &Span) -> bool {
        let wanted = self.extent(span);
        let covers = |written: Span| {
            let extent = self.extent(&written);
            written.region == span.region && extent.start <= wanted.start && wanted.end <= extent.end
        };
        self.spans(op, true).any(covers) && !self.spans(op, false).any(|read| self.overlap(&read, span))
    }

    fn finish(mut self) -> Relay {
        for index in 0..self.links.len() {
            let maker = self.lives.iter().any(|life| life.maker == Some(index));
            let stepping = matches!(self.links[index].share, Share::WithStep(_));
            if let (true, Some(span)) = (maker || stepping, self.made(index)) {
                let launch = self.launch(index);
                self.links[launch].stored = self.read_later(index, &span);
            }
        }
        let buffers = place(&mut self.lives, self.program.capacity);
        for &(index, side, life) in &self.uses {
            let buffer = self.lives[life].buffer;
            match side {
                Side::Input => self.links[index].input.buffer = buffer,
                Side::Gradient => self.links[index].gradient.buffer = buffer,
            }
        }
        for life in &self.lives {
            let launch = life.maker.map(|maker| self.launch(maker));
            let next = launch.and_then(|launch| self.links[launch].next.as_mut());
            if let Some(next) = next {
                next.buffer = life.buffer;
            }
        }
        Relay { links: self.links, buffers }
    }
}

impl Links {
    /// Whether the mask that `op` wants of its input, if any, is there.
    pub fn has_mask(&self, op: &Op) -> bool {
        match op {
            Op::Conv { prologue, .. } => self.masked || prologue.mask.is_none(),
            _ => true,
        }
    }

    /// The operands that `op` reads, makes or hands on for so many images: buffers, and elements of 4 bytes.
    pub fn operands(&self, op: &Op, count: usize) -> Vec<(usize, usize)> {
        let mut list: Vec<(usize, usize)> = tensors(op)
            .map(|(side, tensor)| match side {
                Side::Input => (self.input.buffer, tensor.words(count)),
                Side::Gradient => (self.gradient.buffer, tensor.words(count)),
            })
            .collect();
        if let (Some(next), Some((span, pixels, channels))) = (self.next, result(op, &self.share)) {
            let tensor = Tensor { span, affine: None, relu: false, pixels, channels };
            list.push((next.buffer, tensor.words(count)));
        }
        list
    }

    /// What a launch takes beside its op: the affine map of the reader's prologue, and its mask; what another op
    /// would read and write.
    pub fn beside(&self, count: usize) -> Vec<(Span, usize)> {
        let prologue = self.next.map(|next| next.prologue).unwrap_or_default();
        let affine = prologue.affine.map(|affine| [affine.scale, affine.shift]);
        let affine = affine.into_iter().flatten().map(|span| (span, span.len));
        let mut spans: Vec<_> = affine.chain(prologue.mask.map(|mask| (mask, count * mask.len))).collect();
        spans.extend(self.share.spans(count));
        spans
    }
}

/// The tensor that an op's launch can hand on, its pixels and channels.
fn result(op: &Op, share: &Share) -> Option<(Span, usize, usize)> {
    match (op, share) {
        (_, Share::WithStep(_) | Share::Done(_)) => None,
        (_, Share::WithHead(head)) => head.output().map(|output| (output, head.pixels, head.channels)),
        (op, Share::Own | Share::WithSums | Share::Summed) => own_result(op),
    }
    .filter(|(span, ..)| span.region == Region::Arena)
}

fn own_result(op: &Op) -> Option<(Span, usize, usize)> {
    match op {
        Op::Conv { shape, output, .. } => {
            Some((*output, shape.out_height() * shape.out_width(), shape.out_channels))
        }
        Op::ConvDgrad { shape, output, .. } => Some((*output, shape.height * shape.width, shape.in_channels)),
        Op::NormDgrad { pixels, channels, output, .. } => Some((*output, *pixels, *channels)),
        _ => None,
    }
}

/// The operands of a convolution.
fn tensors(op: &Op) -> impl Iterator<Item = (Side, Tensor)> + use<> {
    let input = match op {
        Op::Conv { shape, input, prologue, .. } | Op::ConvWgrad { shape, input, prologue, .. } => {
            let (pixels, channels) = (shape.height * shape.width, shape.in_channels);
            Some(Tensor { span: *input, affine: prologue.affine, relu: prologue.relu, pixels, channels })
        }
        _ => None,
    };
    let gradient = match op {
        Op::ConvDgrad { shape, gradient, .. } | Op::ConvWgrad { shape, gradient, .. } => {
            let (pixels, channels) = (shape.out_height() * shape.out_width(), shape.out_channels);
            Some(Tensor { span: *gradient, affine: None, relu: false, pixels, channels })
        }
        _ => None,
    };
    let input = input.map(|tensor| (Side::Input, tensor));
    input.into_iter().chain(gradient.map(|tensor| (Side::Gradient, tensor)))
}

/// Gives every life a buffer that nobody else uses meanwhile, one that is large enough if there is one.
/// Returns the buffers' sizes.
fn place(lives: &mut [Life], capacity: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lives.len()).collect();
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

#[cfg(test)]
mod tests;
