use super::*;
use crate::device::ops;
use crate::device::{ConvShape, FilterId, Region};

const PIXELS: usize = 4;
const CHANNELS: usize = 6;
const CLASSES: usize = 3;
const NONE: [usize; 0] = [];

fn arena(offset: usize, len: usize) -> Span {
    Span { region: Region::Arena, offset, len }
}

fn staged(offset: usize, len: usize) -> Span {
    Span { region: Region::Staging, offset, len }
}

fn weights(offset: usize, len: usize) -> Span {
    Span { region: Region::Weights, offset, len }
}

/// A head whose pixels are at `pixels`, their gradient at `output`, the logits' at `gradient`.
fn head(pixels: usize, gradient: usize, output: usize, train: bool) -> Vec<Op> {
    let (features, logits, gradient) = (staged(0, CHANNELS), staged(100, CLASSES), arena(gradient, CLASSES));
    let (weight, back) = (weights(0, CHANNELS * CLASSES), arena(pixels, CHANNELS));
    let (inputs, outputs, all) = (CHANNELS, CLASSES, PIXELS * CHANNELS);
    let mut ops = vec![
        Op::GlobalAvgPool(ops::GlobalAvgPool {
            pixels: PIXELS,
            channels: CHANNELS,
            input: arena(pixels, all),
            output: features,
        }),
        Op::Linear(ops::Linear {
            inputs,
            outputs,
            weight,
            bias: weights(100, CLASSES),
            input: features,
            output: logits,
        }),
        Op::CrossEntropy(ops::CrossEntropy {
            classes: CLASSES,
            logits,
            labels: staged(200, 1),
            teacher: None,
            mean: train,
            loss: staged(300, 1),
            gradient: Some(gradient),
        }),
        Op::LinearDgrad(ops::LinearDgrad { inputs, outputs, weight, gradient, output: back }),
        Op::GlobalAvgPoolDgrad(ops::GlobalAvgPoolDgrad {
            pixels: PIXELS,
            channels: CHANNELS,
            gradient: back,
            output: arena(output, all),
        }),
    ];
    if train {
        let whole = |offset, len| Span { region: Region::Gradients, offset, len };
        let (weight_gradient, bias_gradient) = (whole(0, inputs * outputs), whole(100, outputs));
        let own = Op::LinearWgrad(ops::LinearWgrad {
            inputs,
            outputs,
            input: features,
            gradient,
            weight_gradient,
            bias_gradient,
        });
        ops.insert(3, own);
    }
    ops
}

fn program(ops: Vec<Op>) -> Program {
    Program { ops, capacity: 2, ..Program::default() }
}

fn done(program: &Program) -> Vec<usize> {
    let fusions = fusions(program);
    (0..fusions.len()).filter(|&op| matches!(fusions[op], Fusion::Into(_))).collect()
}

#[test]
fn a_head_is_one_launch() {
    let program = program(head(0, 500, 0, false));
    assert_eq!(done(&program), [1, 2, 3, 4]);
    let Fusion::Classifier(Classifier { then: AfterLogits::Loss(loss), .. }) = fusions(&program)[0] else {
        panic!()
    };
    // No other op reads them.
    assert_eq!((loss.gradient, loss.feature_gradient), (None, None));
}

#[test]
fn the_linear_layers_own_gradient_is_a_launch_of_its_own() {
    let program = program(head(0, 500, 0, true));
    assert_eq!(done(&program), [1, 2, 4, 5]);
    let Fusion::Classifier(Classifier { then: AfterLogits::Loss(loss), .. }) = fusions(&program)[0] else {
        panic!()
    };
    assert_eq!((loss.gradient, loss.feature_gradient), (Some(arena(500, CLASSES)), None));
}

#[test]
fn what_is_still_read_isnt_written_over() {
    // The gradient that the linear layer's own is made of, by that of the pixels.
    assert_eq!(done(&program(head(0, 410, 400, true))), NONE);
    // Another image's pixels.
    assert_eq!(done(&program(head(0, 500, 10, false))), NONE);
}

#[test]
fn a_repetition_is_not_split() {
    let cut = |loop_body| Program { loop_body, ..program(head(0, 500, 0, false)) };
    assert_eq!(done(&cut(0..5)), [1, 2, 3, 4]);
    assert_eq!(done(&cut(1..5)), NONE);
    assert_eq!(done(&cut(0..2)), [1]);
}

fn step(channels: usize, norm: Norm, gradient: usize) -> Vec<Op> {
    let shape = ConvShape {
        height: 2,
        width: 2,
        in_channels: channels,
        out_channels: 8,
        kernel: 1,
        stride: 1,
        pad: 0,
    };
    let (elements, filter, output) = (shape.input_len(), FilterId(0), arena(0, shape.input_len()));
    let rows = |offset| arena(offset, elements);
    let dgrad = Op::ConvDgrad(ops::ConvDgrad::plain(shape, filter, arena(1000, 32), output));
    let (epsilon, alpha) = (staged(0, 1), staged(10, 1));
    let (clean, gradient, adversarial) = (rows(2000), rows(gradient), rows(3000));
    vec![dgrad, Op::PgdStep(ops::PgdStep { elements, clean, gradient, epsilon, alpha, norm, adversarial })]
}

#[test]
fn a_step_is_taken_where_its_gradient_is_made() {
    assert_eq!(done(&program(step(3, Norm::Linf, 0))), [1]);
    // L2 needs the whole image's; another tensor is none of its business; wide tiles have no such kernel.
    assert_eq!(done(&program(step(3, Norm::L2, 0))), NONE);
    assert_eq!(done(&program(step(3, Norm::Linf, 4000))), NONE);
    assert_eq!(done(&program(step(64, Norm::Linf, 0))), NONE);
}
