//! Which op makes the bf16 operands of the tensor-core convolutions.
//!
//! A convolution reads its input behind a prologue and its output gradient, both rounded to bf16 in working
//! buffers. Where the op that makes the tensor can do that while it has the values in registers, it *hands
//! them on*: the convolution then has nothing to prepare, and a tensor that nobody else reads isn't
//! stored at all. Where two convolutions read the same operand soon after each other, it's made once.
//! Otherwise the reader fills a buffer before it starts. A tensor that only convolutions read is kept rounded, in
//! the arena ([`rounded`]). Which of these it is follows from the program alone.

mod planner;
mod rounded;

use super::fuse::{Share, shares};
use super::tensor::padded;
use super::update::Update;
use crate::device::operand::Prologue;
use crate::device::ops;
use crate::device::{Affine, Op, Precision, Program, Region, Span};
use planner::Planner;
pub(in crate::device) use rounded::Rounded;

/// A convolution's operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Operand {
    /// The working buffer; none where the tensor itself is rounded.
    pub buffer: Option<usize>,
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
    /// Which of its tensors in the arena are rounded.
    pub rounded: Rounded,
    /// Whose launch does it.
    pub share: Share,
}

/// The links of a program's ops, and the elements of 4 bytes that each working buffer needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Relay {
    pub links: Vec<Links>,
    pub buffers: Vec<usize>,
    /// What a training step ends with.
    pub update: Option<Update>,
}

/// Buffers of the plain kernels, and how many these are.
pub(super) const INPUT: usize = 0;
pub(super) const GRADIENT: usize = 1;
pub(super) const PLAIN: usize = 2;

/// What the plain kernels do, and every op that isn't a convolution: nothing is handed on.
const APART: Links = Links {
    input: Operand { buffer: Some(INPUT), fill: true },
    gradient: Operand { buffer: Some(GRADIENT), fill: true },
    masked: false,
    next: None,
    stored: true,
    rounded: Rounded::NONE,
    share: Share::Own,
};

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
    /// A result as it is.
    fn of((span, pixels, channels): (Span, usize, usize)) -> Self {
        Self { span, affine: None, relu: false, pixels, channels }
    }

    /// Whether it is read without a prologue.
    fn plain(&self) -> bool {
        self.affine.is_none() && !self.relu
    }

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

impl Side {
    /// The op's field.
    fn name(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Gradient => "gradient",
        }
    }
}

impl Relay {
    /// The links of a program whose convolutions multiply in `precision`; those of the plain kernels, whose
    /// operands [`super::room::Room`] knows, are each for itself.
    pub fn new(program: &Program, precision: Precision) -> Self {
        if precision == Precision::F32 {
            return Self { links: vec![APART; program.ops.len()], ..Self::default() };
        }
        let links = shares(program).into_iter().map(|share| Links { share, ..APART }).collect();
        let mut planner = Planner::new(program, links);
        for (index, op) in program.ops.iter().enumerate() {
            planner.take(index, op);
        }
        let mut relay = planner.finish();
        if let Some(update) = Update::of(program) {
            relay.links[update.sgd].share = Share::WithUpdate;
            update.average.into_iter().for_each(|op| relay.links[op].share = Share::Done(update.sgd));
            relay.update = Some(update);
        }
        relay
    }

    /// Leaves the update to its ops.
    pub fn without_update(&mut self) {
        let update = self.update.take();
        let ops = update.into_iter().flat_map(|update| [Some(update.sgd), update.average]).flatten();
        ops.for_each(|op| self.links[op].share = Share::Own);
    }

    /// Ops that need not run where the filters are those that the update has left.
    pub fn opening(&self) -> usize {
        self.update.as_ref().map_or(0, |update| update.opening)
    }
}

impl Links {
    fn operand(&mut self, side: Side) -> &mut Operand {
        match side {
            Side::Input => &mut self.input,
            Side::Gradient => &mut self.gradient,
        }
    }

    /// Whether the mask that `op` wants of its input, if any, is there.
    pub fn has_mask(&self, op: &Op) -> bool {
        match op {
            Op::Conv(ops::Conv { prologue, .. }) => self.masked || prologue.mask.is_none(),
            _ => true,
        }
    }

    /// The operands that `op` reads, makes or hands on for so many images: buffers, and elements of 4 bytes.
    pub fn operands(&self, op: &Op, count: usize) -> Vec<(usize, usize)> {
        let mut links = *self;
        let mut list: Vec<(usize, usize)> = tensors(op)
            .filter_map(|(side, tensor)| Some((links.operand(side).buffer?, tensor.words(count))))
            .collect();
        if let (Some(next), Some(made)) = (self.next, result(op, &self.share)) {
            list.push((next.buffer, Tensor::of(made).words(count)));
        }
        list
    }

    /// Elements of 4 bytes of an operand of `op` for so many images, if it is rounded.
    pub fn rounded(&self, op: &Op, name: &str, count: usize) -> Option<usize> {
        let mut links = *self;
        let operand = tensors(op).find(|(side, _)| side.name() == name);
        if let Some((side, tensor)) = operand {
            return links.operand(side).buffer.is_none().then(|| tensor.words(count));
        }
        let rounded = match name {
            "output" => self.rounded.output,
            "residual" => self.rounded.residual,
            "add" => self.rounded.add,
            _ => false,
        };
        // Summands have the form of the result.
        let tensor = result(op, &self.share).filter(|_| rounded).map(Tensor::of)?;
        Some(tensor.words(count))
    }

    /// What a launch takes beside its op: the affine map of the reader's prologue, and its mask; what another op
    /// would read and write.
    pub fn beside(&self, op: &Op, count: usize) -> Vec<(Span, usize)> {
        let prologue = self.next.map(|next| next.prologue).unwrap_or_default();
        let affine = prologue.affine.map(|affine| [affine.scale, affine.shift]);
        let affine = affine.into_iter().flatten().map(|span| (span, span.len));
        let mut spans: Vec<_> = affine.chain(prologue.mask.map(|mask| (mask, count * mask.len))).collect();
        let output = result(op, &self.share).map(Tensor::of).filter(|_| self.rounded.output);
        spans.extend(self.share.spans(count).into_iter().map(|(span, len)| match &output {
            Some(output) if output.span == span => (span, output.words(count)),
            _ => (span, len),
        }));
        spans
    }
}

/// The tensor that an op's launch can hand on, its pixels and channels.
fn result(op: &Op, share: &Share) -> Option<(Span, usize, usize)> {
    match (op, share) {
        (_, Share::WithStep(_) | Share::Done(_)) => None,
        (_, Share::WithHead(head)) => head.output().map(|output| (output, head.pixels, head.channels)),
        (op, Share::Own | Share::WithSums | Share::Summed | Share::WithUpdate) => own_result(op),
    }
    .filter(|(span, ..)| span.region == Region::Arena)
}

fn own_result(op: &Op) -> Option<(Span, usize, usize)> {
    match op {
        Op::Conv(ops::Conv { shape, output, .. }) => {
            Some((*output, shape.out_height() * shape.out_width(), shape.out_channels))
        }
        Op::ConvDgrad(ops::ConvDgrad { shape, output, .. }) => {
            Some((*output, shape.height * shape.width, shape.in_channels))
        }
        Op::BatchNormDgrad(ops::BatchNormDgrad { pixels, channels, output, .. }) => {
            Some((*output, *pixels, *channels))
        }
        _ => None,
    }
}

/// The operands of a convolution.
fn tensors(op: &Op) -> impl Iterator<Item = (Side, Tensor)> + use<> {
    let input = match op {
        Op::Conv(ops::Conv { shape, input, prologue, .. })
        | Op::ConvWgrad(ops::ConvWgrad { shape, input, prologue, .. }) => {
            let (pixels, channels) = (shape.height * shape.width, shape.in_channels);
            Some(Tensor { span: *input, affine: prologue.affine, relu: prologue.relu, pixels, channels })
        }
        _ => None,
    };
    let gradient = match op {
        Op::ConvDgrad(ops::ConvDgrad { shape, gradient, .. })
        | Op::ConvWgrad(ops::ConvWgrad { shape, gradient, .. }) => {
            Some(Tensor::of((*gradient, shape.out_height() * shape.out_width(), shape.out_channels)))
        }
        _ => None,
    };
    let input = input.map(|tensor| (Side::Input, tensor));
    input.into_iter().chain(gradient.map(|tensor| (Side::Gradient, tensor)))
}

#[cfg(test)]
mod tests;
