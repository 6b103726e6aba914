//! What is decided about an op: where its operands come from and where its result goes.

use super::fuse::Fusion;
use crate::device::cuda::ops::tiles::padded;
use crate::device::ops;
use crate::device::{Affine, Bf16Tensors, Op, Prologue, Region, Span};

/// A convolution's operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::device::cuda) struct ConvOperand {
    /// The working buffer; none where the tensor itself is in bf16.
    pub buffer: Option<usize>,
    /// Whether the convolution has to fill it.
    pub fill: bool,
}

/// What an op's launch writes for the convolution that reads its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) struct Forward {
    /// The working buffer.
    pub buffer: usize,
    /// The reader's prologue; its mask is written too.
    pub prologue: Prologue,
}

/// An op's part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) struct OpPlan {
    pub input: ConvOperand,
    pub gradient: ConvOperand,
    /// Whether another launch makes the mask of the input's prologue.
    pub masked: bool,
    pub forward: Option<Forward>,
    /// Whether the result itself is stored.
    pub stored: bool,
    /// Which of its tensors in the arena are in bf16.
    pub bf16: Bf16Tensors,
    pub fusion: Fusion,
}

/// The working buffers of an op that shares no operand.
pub(in crate::device::cuda) const INPUT: usize = 0;
pub(in crate::device::cuda) const GRADIENT: usize = 1;

impl OpPlan {
    /// An op that shares nothing with others.
    pub const ALONE: OpPlan = OpPlan {
        input: ConvOperand { buffer: Some(INPUT), fill: true },
        gradient: ConvOperand { buffer: Some(GRADIENT), fill: true },
        masked: false,
        forward: None,
        stored: true,
        bf16: Bf16Tensors { output: false, residual: false, add: false },
        fusion: Fusion::Alone,
    };

    pub(super) fn operand(&mut self, side: Side) -> &mut ConvOperand {
        match side {
            Side::Input => &mut self.input,
            Side::Gradient => &mut self.gradient,
        }
    }

    /// Whether the mask that `op` wants of its input, if any, is made by another launch.
    pub fn mask_is_made(&self, op: &Op) -> bool {
        match op {
            Op::Conv(ops::Conv { prologue, .. }) => self.masked || prologue.mask.is_none(),
            _ => true,
        }
    }
}

/// Which operand of an op.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Input,
    Gradient,
}

impl Side {
    /// The op's field.
    pub fn name(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Gradient => "gradient",
        }
    }
}

/// A tensor of (pixels, channels) an image, after a prologue.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Activation {
    pub span: Span,
    pub affine: Option<Affine>,
    pub relu: bool,
    pub pixels: usize,
    pub channels: usize,
}

impl Activation {
    fn plain((span, pixels, channels): Produced) -> Self {
        Self { span, affine: None, relu: false, pixels, channels }
    }

    /// Whether it is read without a prologue.
    pub fn is_plain(&self) -> bool {
        self.affine.is_none() && !self.relu
    }

    /// Elements in bf16, whole vectors of channels.
    pub fn elements(&self, images: usize) -> usize {
        images.saturating_mul(self.pixels * padded(self.channels))
    }
}

/// A tensor that an op makes, its pixels and channels.
pub(super) type Produced = (Span, usize, usize);

/// The tensor that an op's launch can also write as another one's operand.
pub(super) fn result(op: &Op, fusion: &Fusion) -> Option<Produced> {
    match (op, fusion) {
        (_, Fusion::PgdStep(_) | Fusion::Into(_)) => None,
        (_, Fusion::Classifier(end)) => end.output().map(|output| (output, end.pixels, end.channels)),
        (op, Fusion::Alone | Fusion::Stats | Fusion::StatsReady | Fusion::Update) => own_result(op),
    }
    .filter(|(span, ..)| span.region == Region::Arena)
}

pub(super) fn own_result(op: &Op) -> Option<Produced> {
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
pub(super) fn operands(op: &Op) -> impl Iterator<Item = (Side, Activation)> + use<> {
    let input = match op {
        Op::Conv(ops::Conv { shape, input, prologue, .. })
        | Op::ConvWgrad(ops::ConvWgrad { shape, input, prologue, .. }) => {
            let (pixels, channels) = (shape.height * shape.width, shape.in_channels);
            let Prologue { affine, relu, .. } = *prologue;
            Some((Side::Input, Activation { span: *input, affine, relu, pixels, channels }))
        }
        _ => None,
    };
    let gradient = match op {
        Op::ConvDgrad(ops::ConvDgrad { shape, gradient, .. })
        | Op::ConvWgrad(ops::ConvWgrad { shape, gradient, .. }) => {
            let tensor = (*gradient, shape.out_height() * shape.out_width(), shape.out_channels);
            Some((Side::Gradient, Activation::plain(tensor)))
        }
        _ => None,
    };
    input.into_iter().chain(gradient)
}
