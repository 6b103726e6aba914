//! Ops that another op's launch does along, where the values are in registers already.
//!
//! A step of the attack belongs to the convolution whose gradient it follows: in L∞ an element's step needs that
//! element only, so the image's gradient is never stored.

use super::tensor::Columns;
use crate::device::{Norm, Op, Program, Span};

/// Who does an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Itself.
    Own,
    /// The launch of another op.
    Done,
    /// Itself, and a step of the attack.
    WithStep(PixelStep),
}

/// The step's tensors beside the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PixelStep {
    pub clean: Span,
    pub epsilon: Span,
    pub alpha: Span,
    pub adversarial: Span,
}

impl PixelStep {
    /// What the launch touches, and how many elements for so many images.
    pub fn spans(&self, count: usize) -> impl Iterator<Item = (Span, usize)> + use<> {
        // It reads what it writes.
        let all = [(self.clean, 1), (self.epsilon, 1), (self.alpha, 1), (self.adversarial, 2)];
        all.into_iter().map(move |(span, passes)| (span, passes * count * span.len))
    }
}

/// Who does which op of a program on tensor cores.
pub(super) fn shares(program: &Program) -> Vec<Share> {
    let mut shares = vec![Share::Own; program.ops.len()];
    for (index, pair) in program.ops.windows(2).enumerate() {
        let split = program.repeated.start == index + 1 || program.repeated.end == index + 1;
        if let (Some(step), false) = (step(&pair[0], &pair[1]), split) {
            (shares[index], shares[index + 1]) = (Share::WithStep(step), Share::Done);
        }
    }
    shares
}

/// The step of two ops that are a convolution's gradient and an attack's step along it.
fn step(first: &Op, second: &Op) -> Option<PixelStep> {
    let Op::ConvDgrad { shape, output, .. } = first else {
        return None;
    };
    match *second {
        Op::PgdStep { clean, gradient, epsilon, alpha, norm: Norm::Linf, adversarial, .. }
            if gradient == *output && Columns::for_channels(shape.in_channels) == Columns::Narrow =>
        {
            Some(PixelStep { clean, epsilon, alpha, adversarial })
        }
        _ => None,
    }
}
