//! Pooling, the linear layer, the loss, the cosine score.

use crate::case::Case;
use pbe::device::{Op, Region};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pool(count in 1..6_usize, pixels in 1..70_usize, channels in 1..70_usize, lane in 0..4_usize, seed: u64) {
        let mut case = Case::new(count, lane, seed);
        let op = Op::Pool { pixels, channels, input: case.image(pixels * channels), output: case.image(channels) };
        case.ops.push(op);
        let gradient = case.image(channels);
        let op = Op::PoolDgrad { pixels, channels, gradient, output: case.image(pixels * channels) };
        case.ops.push(op);
        case.check(1e-6);
    }

    #[test]
    fn linear(count in 1..20_usize, inputs in 1..150_usize, outputs in 1..200_usize, lane in 0..9_usize, seed: u64) {
        let mut case = Case::new(count, lane, seed);
        let weight = case.whole_of(Region::Weights, inputs * outputs, |v| v as f32 / 512.0 - 0.5);
        let bias = case.whole(Region::Weights, outputs);
        let (input, gradient) = (case.image(inputs), case.image(outputs));
        case.ops = vec![
            Op::Linear { inputs, outputs, weight, bias, input, output: case.image(outputs) },
            Op::LinearDgrad { inputs, outputs, weight, gradient, output: case.image(inputs) },
        ];
        if lane == 0 {
            let op = Op::LinearWgrad {
                inputs,
                outputs,
                input,
                gradient,
                weight_gradient: case.whole(Region::Gradients, inputs * outputs),
                bias_gradient: case.whole(Region::Gradients, outputs),
            };
            case.ops.push(op);
        }
        case.check(2e-5);
    }

    #[test]
    fn softmax_cross_entropy(
        count in 1..9_usize,
        classes in 1..200_usize,
        lane in 0..4_usize,
        mean: bool,
        teacher: bool,
        gradient: bool,
        weight in 0..3_u32,
        seed: u64,
    ) {
        let mut case = Case::new(count, lane, seed);
        case.controls.distill_weight = weight as f32 * 0.5;
        case.controls.temperature = 1.0 + weight as f32;
        let op = Op::SoftmaxCrossEntropy {
            classes,
            // Up to 400: the exponential of it would overflow.
            logits: case.image_of(classes, |v| v as f32 - 111.0),
            labels: case.word(classes),
            teacher: teacher.then(|| case.image(classes)),
            mean,
            loss: case.image(1),
            gradient: gradient.then(|| case.image(classes)),
        };
        case.ops.push(op);
        case.check(1e-5);
    }

    #[test]
    fn cosine(count in 1..9_usize, classes in 1..200_usize, lane in 0..4_usize, zero: bool, seed: u64) {
        let mut case = Case::new(count, lane, seed);
        let op = Op::Cosine {
            classes,
            logits: case.image(classes),
            reference: case.image_of(classes, |v| if zero { 0.0 } else { v as f32 / 64.0 - 3.0 }),
            score: case.image(1),
        };
        case.ops.push(op);
        case.check(1e-6);
    }
}
