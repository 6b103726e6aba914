//! Pooling, linear layer and what follows, as in a network. A device may do it in one launch, and not store what
//! nothing else reads.

use super::super::case::Case;
use super::{Depth, Visit};
use crate::device::ops;
use crate::device::{ConvShape, Direction, Op, Region, Span};
use crate::error::Result;

/// What follows the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassifierEnd {
    /// Nothing.
    Logits,
    /// The cosine score.
    Score,
    /// The loss, its gradient with respect to the pixels, and through the convolution before them.
    Loss,
    /// The same with distillation, the gradient of the mean loss, and the linear layer's weight gradient.
    Train,
}

/// Pooling, the linear layer and what follows.
#[derive(Clone, Copy, Debug)]
pub struct ClassifierCase {
    pub count: usize,
    /// Of an image: rows and columns.
    pub side: usize,
    /// Of a pixel.
    pub channels: usize,
    pub classes: usize,
    /// What follows.
    pub ending: ClassifierEnd,
    /// Whether a shortcut adds the pixels' gradient to a convolution's result.
    pub shortcut: bool,
    /// Whether another op reads the pixels' gradient.
    pub kept: bool,
    /// Whether operands begin on whole 32 bytes, for kernels that then access several values at once.
    pub aligned: bool,
}

impl ClassifierCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, side, channels, classes, ending, aligned, .. } = self;
        let mut case = Case::new(count, 0, seed);
        case.set_alignment(aligned);
        let pixels = side * side;
        let (input, features) = (case.image(pixels * channels), case.staged(channels));
        let weight = case.whole_of(Region::Weights, classes * channels, |v| v as f32 / 512.0 - 0.5);
        let (bias, logits) = (case.whole(Region::Weights, classes), case.staged(classes));
        case.ops = vec![
            Op::GlobalAvgPool(ops::GlobalAvgPool { pixels, channels, input, output: features }),
            Op::Linear(ops::Linear {
                inputs: channels,
                outputs: classes,
                weight,
                bias,
                input: features,
                output: logits,
            }),
        ];
        match ending {
            ClassifierEnd::Logits => {}
            ClassifierEnd::Score => {
                let (reference, score) = (case.staged(classes), case.staged(1));
                case.ops.push(Op::CosineSimilarity(ops::CosineSimilarity {
                    classes,
                    logits,
                    reference,
                    score,
                }));
            }
            ClassifierEnd::Loss | ClassifierEnd::Train => self.loss(&mut case, weight, features, logits),
        }
        case
    }

    fn loss(&self, case: &mut Case, weight: Span, features: Span, logits: Span) {
        let &Self { side, channels, classes, ending, kept, .. } = self;
        let (pixels, train) = (side * side, ending == ClassifierEnd::Train);
        (case.params.distill_weight, case.params.temperature) = (0.5, 2.0);
        let (labels, loss) = (case.word(classes), case.staged(1));
        let teacher = train.then(|| case.staged(classes));
        let (gradient, back, output) =
            (case.image(classes), case.image(channels), case.image(pixels * channels));
        case.ops.push(Op::CrossEntropy(ops::CrossEntropy {
            classes,
            logits,
            labels,
            teacher,
            mean: train,
            loss,
            gradient: Some(gradient),
        }));
        if train {
            let weight_gradient = case.whole(Region::Gradients, classes * channels);
            let bias_gradient = case.whole(Region::Gradients, classes);
            case.ops.push(Op::LinearWgrad(ops::LinearWgrad {
                inputs: channels,
                outputs: classes,
                input: features,
                gradient,
                weight_gradient,
                bias_gradient,
            }));
        } else {
            case.discard(gradient);
        }
        case.ops.push(Op::LinearDgrad(ops::LinearDgrad {
            inputs: channels,
            outputs: classes,
            weight,
            gradient,
            output: back,
        }));
        case.ops.push(Op::GlobalAvgPoolDgrad(ops::GlobalAvgPoolDgrad {
            pixels,
            channels,
            gradient: back,
            output,
        }));
        case.discard(back);
        self.convolution(case, output);
        // A device may keep a tensor in bf16 that only convolutions read, as an operand or an addend.
        if kept {
            let copied = case.image(output.len);
            case.ops.push(Op::Copy(ops::Copy { elements: output.len, input: output, output: copied }));
            // Not compared in the copy: a copy has no tolerance.
            case.discard(copied);
        } else {
            case.discard(output);
        }
    }

    /// The backward pass through a 1x1 convolution.
    fn convolution(&self, case: &mut Case, gradient: Span) {
        let &Self { side, channels, shortcut, .. } = self;
        let shape = ConvShape {
            height: side,
            width: side,
            in_channels: if shortcut { channels } else { 5 },
            out_channels: channels,
            kernel: 1,
            stride: 1,
            pad: 0,
        };
        let filter = case.loaded_filter(shape, Direction::Dgrad);
        let output = case.image(shape.input_len());
        let residual = shortcut.then_some(gradient);
        let plain = ops::ConvDgrad::plain(shape, filter, gradient, output);
        case.ops.push(Op::ConvDgrad(ops::ConvDgrad { residual, ..plain }));
    }
}

/// Images, side, channels, classes: one of each; more classes than a block has warps, or threads; channels
/// that end within a vector and a warp, or after what a warp loads at once.
const SIZES: [[usize; 4]; 8] = [
    [1, 1, 1, 1],
    [3, 4, 16, 10],
    [2, 3, 37, 43],
    [4, 2, 130, 3],
    [2, 1, 64, 200],
    [3, 4, 12, 5],
    [2, 2, 260, 7],
    [3, 2, 20, 9],
];

pub(super) fn visit(depth: Depth, visit: &mut Visit) -> Result<()> {
    let endings = [ClassifierEnd::Logits, ClassifierEnd::Score, ClassifierEnd::Loss, ClassifierEnd::Train];
    for (number, [count, side, channels, classes]) in SIZES.into_iter().enumerate() {
        for (turn, ending) in endings.into_iter().enumerate() {
            if depth == Depth::Quick && (turn + number) % 2 == 0 {
                continue;
            }
            let (shortcut, kept) = (number % 3 == 0, number % 2 == 0);
            let aligned = (number / 2 + turn / 2) % 2 == 0;
            let made = ClassifierCase { count, side, channels, classes, ending, shortcut, kept, aligned };
            visit(&format!("{made:?}"), made.case((4 * number + turn) as u64))?;
        }
    }
    Ok(())
}
