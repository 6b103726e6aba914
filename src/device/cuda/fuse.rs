//! Ops that another op's launch does along, where the values are in registers already.
//!
//! A step of the attack belongs to the convolution whose gradient it follows: in L∞ an element's step needs that
//! element only, so the image's gradient is never stored. The classifier's end, from the mean over pixels to the
//! loss and back to the pixels, belongs to the first of its ops. The sums of a batch norm belong to the convolution
//! that makes its input.

use super::tensor::wide;
use crate::device::ops;
use crate::device::{Access, Norm, Op, Program, Span};

/// Channels and classes that `kernels/classifier.cu` has room for.
const FEATURES: usize = 2048;
const CLASSES: usize = 1024;

/// Who does an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Itself.
    Own,
    /// The launch of the op of this number.
    Done(usize),
    /// Itself, and a step of the attack.
    WithStep(PixelStep),
    /// Itself, and the ops behind it.
    WithHead(Head),
    /// Itself, and the sums of the norm behind it.
    WithSums,
    /// Itself, with the sums there.
    Summed,
    /// Itself, the weight average, and the filters of the next step.
    WithUpdate,
}

/// The step's tensors beside the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PixelStep {
    pub clean: Span,
    pub epsilon: Span,
    pub alpha: Span,
    pub adversarial: Span,
}

/// Mean over pixels, linear layer, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub pixels: usize,
    pub channels: usize,
    pub classes: usize,
    pub input: Span,
    pub weight: Span,
    pub bias: Span,
    pub features: Span,
    pub logits: Span,
    pub then: Then,
}

/// What follows the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Score { reference: Span, score: Span },
    Loss(Loss),
}

/// The loss, and its gradient down to the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub labels: Span,
    pub teacher: Option<Span>,
    pub mean: bool,
    pub loss: Span,
    /// Of the logits, if anybody else reads it.
    pub gradient: Option<Span>,
    /// The same of the features.
    pub back: Option<Span>,
    /// Of every pixel.
    pub output: Span,
}

impl Share {
    /// What the launch touches beside its op, and how many elements for so many images.
    pub fn spans(&self, count: usize) -> Vec<(Span, usize)> {
        let rows = |span: Span| (span, count * span.len);
        match self {
            Share::Own | Share::Done(_) | Share::WithSums | Share::Summed | Share::WithUpdate => Vec::new(),
            Share::WithStep(PixelStep { clean, epsilon, alpha, adversarial }) => {
                // It reads what it writes.
                let twice = (*adversarial, 2 * count * adversarial.len);
                [clean, epsilon, alpha].map(|span| rows(*span)).into_iter().chain([twice]).collect()
            }
            Share::WithHead(head) => {
                let whole = [head.weight, head.bias].map(|span| (span, span.len));
                whole.into_iter().chain(head.read().chain(head.written()).map(rows)).collect()
            }
        }
    }
}

impl Head {
    /// Rows it reads, without the input.
    fn read(&self) -> impl Iterator<Item = Span> + use<> {
        let rows = match self.then {
            Then::Nothing => [None, None],
            Then::Score { reference, .. } => [Some(reference), None],
            Then::Loss(loss) => [Some(loss.labels), loss.teacher],
        };
        rows.into_iter().flatten()
    }

    /// Rows it writes.
    fn written(&self) -> impl Iterator<Item = Span> + use<> {
        let rows = match self.then {
            Then::Nothing => [None; 4],
            Then::Score { score, .. } => [Some(score), None, None, None],
            Then::Loss(loss) => [Some(loss.loss), loss.gradient, loss.back, Some(loss.output)],
        };
        [self.features, self.logits].into_iter().chain(rows.into_iter().flatten())
    }

    /// Whether no row lies where another one is still wanted: blocks run in any order, and the ops in between come
    /// after all of it. The pixels' gradient may take the place of the input, image by image.
    fn is_apart(&self, program: &Program) -> bool {
        let mut rows: Vec<Span> = self.written().collect();
        let written = rows.len();
        rows.extend(self.read());
        if self.output() != Some(self.input) {
            rows.push(self.input);
        }
        let apart = |at: usize| {
            let others = rows.iter().enumerate().filter(|(other, _)| *other != at);
            others.into_iter().all(|(_, row)| !row.overlaps(&rows[at], program.capacity))
        };
        (0..written).all(apart)
    }

    /// Where the pixels' gradient goes.
    pub fn output(&self) -> Option<Span> {
        match self.then {
            Then::Loss(loss) => Some(loss.output),
            _ => None,
        }
    }
}

/// Who does which op of a program on tensor cores.
pub(super) fn shares(program: &Program) -> Vec<Share> {
    let mut shares = vec![Share::Own; program.ops.len()];
    for index in 0..program.ops.len() {
        let ops = &program.ops[index..program.part(index).end];
        if let Some(step) = step(ops) {
            (shares[index], shares[index + 1]) = (Share::WithStep(step), Share::Done(index));
        }
        if sums(ops) {
            (shares[index], shares[index + 1]) = (Share::WithSums, Share::Summed);
        }
        if let Some((head, done)) = head(program, index, ops) {
            shares[index] = Share::WithHead(head);
            done.into_iter().for_each(|op| shares[index + op] = Share::Done(index));
        }
    }
    shares
}

/// The step of two ops that are a convolution's gradient and an attack's step along it.
fn step(ops: &[Op]) -> Option<PixelStep> {
    match *ops {
        [
            Op::ConvDgrad(ops::ConvDgrad { shape, output, .. }),
            Op::PgdStep(ops::PgdStep {
                clean, gradient, epsilon, alpha, norm: Norm::Linf, adversarial, ..
            }),
            ..,
        ] if gradient == output && !wide(shape.in_channels) => {
            Some(PixelStep { clean, epsilon, alpha, adversarial })
        }
        _ => None,
    }
}

/// Whether two ops are a convolution and the batch statistics of what it makes.
fn sums(ops: &[Op]) -> bool {
    matches!(ops, [Op::Conv(ops::Conv { output, .. }), Op::BatchNormStats(ops::BatchNormStats { input, .. }), ..] if input == output)
}

/// The head that begins with the first of `ops`, which are those from `index` on, and which of them it does along.
fn head(program: &Program, index: usize, ops: &[Op]) -> Option<(Head, Vec<usize>)> {
    let [
        Op::GlobalAvgPool(ops::GlobalAvgPool { pixels, channels, input, output: features }),
        Op::Linear(ops::Linear { outputs: classes, weight, bias, input: row, output: logits, .. }),
        rest @ ..,
    ] = ops
    else {
        return None;
    };
    let (pixels, channels, classes) = (*pixels, *channels, *classes);
    if row != features || channels > FEATURES || classes > CLASSES {
        return None;
    }
    let (then, done) = match rest {
        [Op::CosineSimilarity(ops::CosineSimilarity { logits: row, reference, score, .. }), ..]
            if row == logits =>
        {
            (Then::Score { reference: *reference, score: *score }, vec![1, 2])
        }
        [Op::CrossEntropy(ops::CrossEntropy { logits: row, .. }), ..] if row == logits => {
            let (loss, done) = loss(program, index, ops, *weight)?;
            (Then::Loss(loss), done)
        }
        _ => (Then::Nothing, vec![1]),
    };
    let (input, weight, bias, features, logits) = (*input, *weight, *bias, *features, *logits);
    let head = Head { pixels, channels, classes, input, weight, bias, features, logits, then };
    head.is_apart(program).then_some((head, done))
}

/// The loss, third of `ops`, and its way back, with or without the linear layer's own gradient in between.
fn loss(program: &Program, index: usize, ops: &[Op], weight: Span) -> Option<(Loss, Vec<usize>)> {
    let Op::CrossEntropy(ops::CrossEntropy { labels, teacher, mean, loss, gradient: Some(gradient), .. }) =
        ops[2]
    else {
        return None;
    };
    let first = if matches!(ops.get(3), Some(Op::LinearWgrad(_))) { 4 } else { 3 };
    let [
        Op::LinearDgrad(ops::LinearDgrad { weight: same, gradient: row, output: back, .. }),
        Op::GlobalAvgPoolDgrad(ops::GlobalAvgPoolDgrad { gradient: last, output, .. }),
        ..,
    ] = ops[first..]
    else {
        return None;
    };
    if (same, row, last) != (weight, gradient, back) {
        return None;
    }
    let done = vec![1, 2, first, first + 1];
    let wanted = |span: Span, writer: usize| {
        let own = |op: usize| op == index + first || op == index + first + 1;
        read_later(program, index + writer, span, own).then_some(span)
    };
    let (gradient, back) = (wanted(gradient, 2), wanted(back, first));
    Some((Loss { labels, teacher, mean, loss, gradient, back, output }, done))
}

/// Whether an op behind `writer`, other than `own` ones, reads `span` before it is written again. In a part that is
/// repeated the ops before it come behind it as well.
fn read_later(program: &Program, writer: usize, span: Span, own: impl Fn(usize) -> bool) -> bool {
    let touches = |op: usize, access: fn(Access) -> bool| {
        let mut found = false;
        program.ops[op].clone().visit_operands(&mut |operand, other| {
            found |= access(operand.access) && other.overlaps(&span, program.capacity);
        });
        found
    };
    let reads = |op: usize| !own(op) && touches(op, |access| !access.writes());
    let last = |op: usize| touches(op, |access| access.writes());
    // An op that writes it may read it first.
    let read = |mut ops: &mut dyn Iterator<Item = usize>| {
        (&mut ops).find(|&op| reads(op) || last(op)).is_some_and(reads)
    };
    let part = program.part(writer);
    let again = part == program.loop_body && read(&mut (writer + 1..part.end).chain(part.start..writer));
    again || read(&mut (writer + 1..program.ops.len()))
}

#[cfg(test)]
mod tests;
