use super::*;
use crate::device::{Affine, ConvShape, Direction, FilterId, FilterSpec, Prologue, Span, mask_words, ops};

fn span(offset: usize, len: usize) -> Span {
    Span { region: Region::Arena, offset, len }
}

fn of(op: Op, count: usize, precision: Precision) -> Cost {
    Program { ops: vec![op], ..Program::default() }.costs(count, precision).remove(0)
}

/// 32x32, 64 to 64 channels, as the first stage of the network of width 64 has it.
const SHAPE: ConvShape =
    ConvShape { height: 32, width: 32, in_channels: 64, out_channels: 64, kernel: 3, stride: 1, pad: 1 };

#[test]
fn a_convolution_by_hand() {
    let channels = |at| Span { region: Region::Derived, offset: at, len: 64 };
    let affine = Affine { scale: channels(0), shift: channels(64) };
    let conv = |prologue, residual| {
        Op::Conv(ops::Conv {
            shape: SHAPE,
            filter: FilterId(0),
            input: span(128, 65536),
            prologue,
            bias: Some(channels(128)),
            residual,
            output: span(1 << 20, 65536),
        })
    };
    let plain = of(conv(Prologue::default(), None), 1, Precision::F32);
    // 1024 pixels x 64 channels x 576 multiply-adds; input, output, filter of 36864, bias.
    assert_eq!(plain.products, 2 * 37_748_736);
    assert_eq!(plain.elementwise, 65536);
    assert_eq!(plain.bytes, 4 * (65536 + 65536 + 36864 + 64));

    let mask = Some(span(1 << 22, mask_words(1024, 64)));
    let prologue = Prologue { affine: Some(affine), relu: true, mask };
    let full = of(conv(prologue, Some(span(1 << 21, 65536))), 128, Precision::Bf16);
    assert_eq!(full.products, 128 * plain.products);
    // Scale, shift, ReLU; bias, residual.
    assert_eq!(full.elementwise, 128 * 5 * 65536);
    // Input, residual, output of 2 bytes, and a bit for each input; filter of 2 bytes; scale, shift, bias.
    assert_eq!(full.bytes, 128 * (3 * 2 * 65536 + 65536 / 8) + 2 * 36864 + 4 * 3 * 64);
}

#[test]
fn both_gradients_of_a_convolution_multiply_as_much_as_its_output() {
    let gradient = span(0, SHAPE.output_len());
    let (input, output) = (span(1 << 20, SHAPE.input_len()), span(1 << 21, SHAPE.input_len()));
    let weight_gradient = Span { region: Region::Gradients, offset: 0, len: SHAPE.filter_len() };
    let dgrad = Op::ConvDgrad(ops::ConvDgrad::plain(SHAPE, FilterId(0), gradient, output));
    let prologue = Prologue::default();
    let wgrad = Op::ConvWgrad(ops::ConvWgrad { shape: SHAPE, input, prologue, gradient, weight_gradient });
    for op in [dgrad, wgrad] {
        let cost = of(op, 3, Precision::F32);
        assert_eq!((cost.products, cost.elementwise), (3 * 2 * 37_748_736, 0));
        assert_eq!(cost.bytes, 4 * (3 * 2 * 65536 + 36864));
    }
}

#[test]
fn norms_updates_and_the_head_by_hand() {
    let channels = |at| Span { region: Region::Derived, offset: at, len: 64 };
    let statistics = Op::BatchNormStats(ops::BatchNormStats {
        pixels: 1024,
        channels: 64,
        input: span(0, 65536),
        gamma: channels(0),
        beta: channels(64),
        momentum: 0.1,
        epsilon: 1e-5,
        running_mean: channels(128),
        running_variance: channels(192),
        mean: channels(256),
        inverse_std: channels(320),
        affine: Affine { scale: channels(384), shift: channels(448) },
    });
    // Eight vectors of channels, two of which are read and written.
    let cost = of(statistics, 2, Precision::F32);
    assert_eq!((cost.elementwise, cost.bytes), (2 * 4 * 65536, 4 * (2 * 65536 + 10 * 64)));

    let weights = |region| Span { region, offset: 0, len: 11_171_146 };
    let (momentum, gradients) = (weights(Region::Momentum), weights(Region::Gradients));
    let sgd = Op::Sgd(ops::Sgd { weights: weights(Region::Weights), gradients, momentum });
    let cost = of(sgd, 128, Precision::Bf16);
    assert_eq!((cost.products, cost.bytes), (0, 5 * 4 * 11_171_146));
    assert_eq!(cost.elementwise, 8 * 11_171_146);

    let rows = |at, len| Span { region: Region::Staging, offset: at, len };
    let linear = Op::Linear(ops::Linear {
        inputs: 512,
        outputs: 10,
        weight: weights(Region::Weights),
        bias: weights(Region::Weights),
        input: rows(0, 512),
        output: rows(1 << 16, 10),
    });
    let cost = of(linear, 128, Precision::F32);
    assert_eq!((cost.products, cost.elementwise), (128 * 2 * 5120, 1280));
    assert_eq!(cost.bytes, 4 * (128 * 522 + 5120 + 10));
}

/// What no span holds: images of a byte a channel, filters in the precision of the convolutions.
#[test]
fn images_and_filters_count_though_they_are_no_spans() {
    let gather = Op::LoadImages(ops::LoadImages {
        images: crate::device::ImageSlot(0),
        indices: span(0, 1),
        height: 32,
        width: 32,
        channels: 3,
        augment: Default::default(),
        output: span(4, 3072),
    });
    assert_eq!(of(gather, 2, Precision::F32).bytes, 2 * (4 + 3072 + 4 * 3072));
    let weights = Span { region: Region::Weights, offset: 0, len: 36864 };
    let filters = vec![FilterSpec { shape: SHAPE, direction: Direction::Fprop }];
    let load = Op::LoadFilter(ops::LoadFilter { filter: FilterId(0), weights, scale: None });
    let program = Program { ops: vec![load], filters, ..Program::default() };
    assert_eq!(program.costs(1, Precision::F32)[0].bytes, 8 * 36864);
    assert_eq!(program.costs(1, Precision::Bf16)[0].bytes, 6 * 36864);
}
