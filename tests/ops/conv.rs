//! Convolutions as ops: every operand there or not, in place or not. The kernels have tests of
//! their own beside them.

use crate::case::Case;
use pbe::device::{ConvShape, Direction, FilterSpec, Op, Prologue, Region, mask_words};
use proptest::prelude::*;

fn shapes() -> impl Strategy<Value = ConvShape> {
    let sizes = (1..10_usize, 1..10_usize, 1..20_usize, 1..40_usize);
    let kernels = prop_oneof![Just((3, 1, 1)), Just((3, 2, 1)), Just((1, 2, 0)), Just((1, 1, 0))];
    (sizes, kernels).prop_map(|((height, width, in_channels, out_channels), (kernel, stride, pad))| {
        ConvShape { height, width, in_channels, out_channels, kernel, stride, pad }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn forward_and_back(
        shape in shapes(),
        count in 1..4_usize,
        relu: bool,
        bias: bool,
        residual in 0..3_usize,
        add in 0..3_usize,
        scaled: bool,
        seed: u64,
    ) {
        let mut case = Case::new(count, 0, seed);
        let (inputs, outputs) = (shape.input_len(), shape.output_len());
        let fprop = case.filter(FilterSpec { shape, direction: Direction::Fprop });
        let dgrad = case.filter(FilterSpec { shape, direction: Direction::Dgrad });
        let weights = case.whole_of(Region::Weights, shape.filter_len(), |v| v as f32 / 512.0 - 0.5);
        let scale = scaled.then(|| case.whole(Region::Derived, shape.out_channels));
        let affine = Some(case.affine(shape.in_channels));
        let mask = case.words(mask_words(shape.height * shape.width, shape.in_channels));
        let input = case.image(inputs);
        let (output, other) = (case.image(outputs), case.image(outputs));
        let (gradient, input_gradient) = (case.image(outputs), case.image(inputs));
        let addend = case.image(inputs);
        let prologue = Prologue { affine, relu, mask: Some(mask) };
        case.ops = vec![
            Op::LoadFilter { filter: fprop, weights, scale },
            Op::LoadFilter { filter: dgrad, weights, scale },
            Op::Conv {
                shape,
                filter: fprop,
                input,
                prologue,
                bias: bias.then(|| case.whole(Region::Weights, shape.out_channels)),
                residual: [None, Some(other), Some(output)][residual],
                output,
            },
            Op::ConvDgrad {
                shape,
                filter: dgrad,
                gradient,
                add: [None, Some(addend), Some(input_gradient)][add],
                mask: Some(mask),
                scale: scaled.then(|| case.whole(Region::Derived, shape.in_channels)),
                residual: [None, Some(addend), Some(input_gradient)][residual],
                output: input_gradient,
            },
            Op::ConvWgrad {
                shape,
                input,
                prologue: Prologue { mask: None, ..prologue },
                gradient,
                weight_gradient: case.whole(Region::Gradients, shape.filter_len()),
            },
        ];
        case.check(1e-3);
    }
}

#[test]
fn lanes_convolve_too() {
    let shape =
        ConvShape { height: 7, width: 5, in_channels: 9, out_channels: 17, kernel: 3, stride: 1, pad: 1 };
    let mut case = Case::new(7, 0, 1);
    let filter = case.filter(FilterSpec { shape, direction: Direction::Fprop });
    let weights = case.whole_of(Region::Weights, shape.filter_len(), |v| v as f32 / 512.0 - 0.5);
    case.setup = vec![Op::LoadFilter { filter, weights, scale: None }];
    case.lane = 2;
    let conv = Op::Conv {
        shape,
        filter,
        input: case.image(shape.input_len()),
        prologue: Prologue::default(),
        bias: None,
        residual: None,
        output: case.image(shape.output_len()),
    };
    case.ops = vec![conv];
    case.check(1e-3);
}
