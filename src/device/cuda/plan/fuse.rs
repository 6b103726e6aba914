//! Fusion: which ops another op's launch does too, because it has their input in registers.
//!
//! - A PGD step goes into the dgrad that makes its gradient: in L∞ an element's step needs only that element's
//!   gradient, so the image's gradient is never stored.
//! - The classifier's end, from the mean over pixels to the loss and back to the pixels, is one launch.
//! - A convolution sums up its result for the batch norm that follows.
//!
//! Two more are decided elsewhere: the optimizer's update in `mod.rs` (`Plan::new`), and which op writes a convolution's
//! operand in `forwarding.rs`.

use crate::device::cuda::ops::tiles::is_wide;
use crate::device::ops;
use crate::device::{Access, Norm, Op, Program, Span};

/// Channels and classes that `kernels/classifier.cu` has room for.
pub(in crate::device::cuda) const FEATURES: usize = 2048;
pub(in crate::device::cuda) const CLASSES: usize = 1024;

/// How an op shares launches with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) enum Fusion {
    /// It has launches of its own, which do nothing else.
    Alone,
    /// The launch of the op of this number does it.
    Into(usize),
    /// Its launch also takes a PGD step.
    PgdStep(PgdStep),
    /// Its launch also does the rest of the classifier.
    Classifier(Classifier),
    /// Its launch also makes the sums of the batch norm that follows.
    Stats,
    /// The convolution before it has made its sums.
    StatsReady,
    /// Its launch also does the weight average and the filters of the next step.
    Update,
}

/// The step's tensors beside the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) struct PgdStep {
    pub clean: Span,
    pub epsilon: Span,
    pub alpha: Span,
    pub adversarial: Span,
}

/// Mean over pixels, linear layer, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) struct Classifier {
    pub pixels: usize,
    pub channels: usize,
    pub classes: usize,
    pub input: Span,
    pub weight: Span,
    pub bias: Span,
    pub features: Span,
    pub logits: Span,
    pub then: AfterLogits,
}

/// What follows the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) enum AfterLogits {
    Nothing,
    Score { reference: Span, score: Span },
    Loss(FusedLoss),
}

/// The loss, and its gradient down to the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) struct FusedLoss {
    pub labels: Span,
    pub teacher: Option<Span>,
    pub mean: bool,
    pub loss: Span,
    /// Of the logits, if an op outside the launch reads it.
    pub gradient: Option<Span>,
    /// The same of the features.
    pub feature_gradient: Option<Span>,
    /// Of every pixel.
    pub output: Span,
}

impl Classifier {
    /// Rows it reads, without the input.
    fn read(&self) -> impl Iterator<Item = Span> + use<> {
        let rows = match self.then {
            AfterLogits::Nothing => [None, None],
            AfterLogits::Score { reference, .. } => [Some(reference), None],
            AfterLogits::Loss(loss) => [Some(loss.labels), loss.teacher],
        };
        rows.into_iter().flatten()
    }

    /// Rows it writes.
    fn written(&self) -> impl Iterator<Item = Span> + use<> {
        let rows = match self.then {
            AfterLogits::Nothing => [None; 4],
            AfterLogits::Score { score, .. } => [Some(score), None, None, None],
            AfterLogits::Loss(loss) => {
                [Some(loss.loss), loss.gradient, loss.feature_gradient, Some(loss.output)]
            }
        };
        [self.features, self.logits].into_iter().chain(rows.into_iter().flatten())
    }

    /// Whether no row that it writes overlaps another one: blocks run in any order. The pixels' gradient may take the
    /// place of the input, image by image.
    fn rows_are_disjoint(&self, program: &Program) -> bool {
        let mut rows: Vec<Span> = self.written().collect();
        let written = rows.len();
        rows.extend(self.read());
        if self.output() != Some(self.input) {
            rows.push(self.input);
        }
        let disjoint = |at: usize| {
            let others = rows.iter().enumerate().filter(|(other, _)| *other != at);
            others.into_iter().all(|(_, row)| !row.overlaps(&rows[at], program.capacity))
        };
        (0..written).all(disjoint)
    }

    /// Where the pixels' gradient goes.
    pub fn output(&self) -> Option<Span> {
        match self.then {
            AfterLogits::Loss(loss) => Some(loss.output),
            _ => None,
        }
    }
}

/// The fusion of each op of a program.
pub(in crate::device::cuda) fn fusions(program: &Program) -> Vec<Fusion> {
    let mut fusions = vec![Fusion::Alone; program.ops.len()];
    for index in 0..program.ops.len() {
        let ops = &program.ops[index..program.part(index).end];
        if let Some(step) = step(ops) {
            (fusions[index], fusions[index + 1]) = (Fusion::PgdStep(step), Fusion::Into(index));
        }
        if stats(ops) {
            (fusions[index], fusions[index + 1]) = (Fusion::Stats, Fusion::StatsReady);
        }
        if let Some((end, done)) = classifier(program, index, ops) {
            fusions[index] = Fusion::Classifier(end);
            done.into_iter().for_each(|op| fusions[index + op] = Fusion::Into(index));
        }
    }
    fusions
}

/// The step of two ops that are a convolution's gradient and an attack's step along it. The fused kernel exists only for
/// tiles of 16 channels (images have few), so a wide convolution has none.
fn step(ops: &[Op]) -> Option<PgdStep> {
    match *ops {
        [
            Op::ConvDgrad(ops::ConvDgrad { shape, output, .. }),
            Op::PgdStep(ops::PgdStep {
                clean, gradient, epsilon, alpha, norm: Norm::Linf, adversarial, ..
            }),
            ..,
        ] if gradient == output && !is_wide(shape.in_channels) => {
            Some(PgdStep { clean, epsilon, alpha, adversarial })
        }
        _ => None,
    }
}

/// Whether two ops are a convolution and the batch statistics of what it makes.
fn stats(ops: &[Op]) -> bool {
    matches!(ops, [Op::Conv(ops::Conv { output, .. }), Op::BatchNormStats(ops::BatchNormStats { input, .. }), ..] if input == output)
}

/// The classifier's end that begins with the first of `ops`, which are those from `index` on, and which of them it does.
fn classifier(program: &Program, index: usize, ops: &[Op]) -> Option<(Classifier, Vec<usize>)> {
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
            (AfterLogits::Score { reference: *reference, score: *score }, vec![1, 2])
        }
        [Op::CrossEntropy(ops::CrossEntropy { logits: row, .. }), ..] if row == logits => {
            let (loss, done) = loss(program, index, ops, *weight)?;
            (AfterLogits::Loss(loss), done)
        }
        _ => (AfterLogits::Nothing, vec![1]),
    };
    let (input, weight, bias, features, logits) = (*input, *weight, *bias, *features, *logits);
    let end = Classifier { pixels, channels, classes, input, weight, bias, features, logits, then };
    end.rows_are_disjoint(program).then_some((end, done))
}

/// The loss, third of `ops`, and its way back, with or without the linear layer's own gradient in between.
fn loss(program: &Program, index: usize, ops: &[Op], weight: Span) -> Option<(FusedLoss, Vec<usize>)> {
    let Op::CrossEntropy(ops::CrossEntropy { labels, teacher, mean, loss, gradient: Some(gradient), .. }) =
        ops[2]
    else {
        return None;
    };
    let first = if matches!(ops.get(3), Some(Op::LinearWgrad(_))) { 4 } else { 3 };
    let [
        Op::LinearDgrad(ops::LinearDgrad { weight: same, gradient: row, output: feature_gradient, .. }),
        Op::GlobalAvgPoolDgrad(ops::GlobalAvgPoolDgrad { gradient: last, output, .. }),
        ..,
    ] = ops[first..]
    else {
        return None;
    };
    if (same, row, last) != (weight, gradient, feature_gradient) {
        return None;
    }
    let done = vec![1, 2, first, first + 1];
    let wanted = |span: Span, writer: usize| {
        let own = |op: usize| op == index + first || op == index + first + 1;
        read_later(program, index + writer, span, own).then_some(span)
    };
    let (gradient, feature_gradient) = (wanted(gradient, 2), wanted(feature_gradient, first));
    Some((FusedLoss { labels, teacher, mean, loss, gradient, feature_gradient, output }, done))
}

/// Whether an op after `writer`, other than `own` ones, reads `span` before it is written again. In the loop body the
/// ops before it come after it as well.
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
