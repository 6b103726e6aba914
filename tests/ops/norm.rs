//! Batch norm, and the updates of parameters.

use crate::case::Case;
use pbe::device::{Affine, Op, Region};
use proptest::prelude::*;

fn affine_room(case: &mut Case, channels: usize) -> Affine {
    Affine { scale: case.whole(Region::Derived, channels), shift: case.whole(Region::Derived, channels) }
}

fn positive(v: u32) -> f32 {
    v as f32 / 128.0 + 0.01
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn affine_of_running_statistics(channels in 1..70_usize, seed: u64) {
        let mut case = Case::new(1, 0, seed);
        let op = Op::NormAffine {
            gamma: case.whole(Region::Weights, channels),
            beta: case.whole(Region::Weights, channels),
            mean: case.whole(Region::Weights, channels),
            variance: case.whole_of(Region::Weights, channels, positive),
            epsilon: 1e-5,
            affine: affine_room(&mut case, channels),
        };
        case.ops.push(op);
        case.check(1e-6);
    }

    #[test]
    fn statistics(count in 1..6_usize, pixels in 1..90_usize, channels in 1..150_usize, mean in -50..50_i32, seed: u64) {
        let mut case = Case::new(count, 0, seed);
        let op = Op::NormStatistics {
            pixels,
            channels,
            input: case.image_of(pixels * channels, |v| v as f32 / 64.0 + mean as f32),
            gamma: case.whole(Region::Weights, channels),
            beta: case.whole(Region::Weights, channels),
            momentum: 0.1,
            epsilon: 1e-2,
            running_mean: case.whole(Region::Weights, channels),
            running_variance: case.whole_of(Region::Weights, channels, positive),
            mean: case.whole(Region::Derived, channels),
            inverse_std: case.whole(Region::Derived, channels),
            affine: affine_room(&mut case, channels),
        };
        case.ops.push(op);
        case.check(1e-5);
    }

    #[test]
    fn dgrad(
        count in 1..5_usize,
        pixels in 1..60_usize,
        channels in 1..80_usize,
        residual: bool,
        place in 0..3,
        seed: u64,
    ) {
        let mut case = Case::new(count, 0, seed);
        let gradient = case.image(pixels * channels);
        let residual = residual.then(|| case.image(pixels * channels));
        let op = Op::NormDgrad {
            pixels,
            channels,
            input: case.image(pixels * channels),
            gamma: case.whole(Region::Weights, channels),
            mean: case.whole(Region::Derived, channels),
            inverse_std: case.whole_of(Region::Derived, channels, positive),
            affine: case.affine(channels),
            gradient,
            residual,
            output: match (place, residual) {
                (0, _) => gradient,
                (1, Some(residual)) => residual,
                _ => case.image(pixels * channels),
            },
            gamma_gradient: case.whole(Region::Gradients, channels),
            beta_gradient: case.whole(Region::Gradients, channels),
        };
        case.ops.push(op);
        case.check(2e-5);
    }

    #[test]
    fn updates(len in 1..40_000_usize, nesterov: bool, decay in 0.0..0.1_f32, seed: u64) {
        let mut case = Case::new(1, 0, seed);
        case.controls.learning_rate = 0.05;
        case.controls.nesterov = nesterov;
        case.controls.weight_decay = decay;
        case.controls.average_decay = 0.9 + decay;
        let weights = case.whole(Region::Weights, len);
        let gradients = case.whole(Region::Gradients, len);
        let momentum = case.whole(Region::Momentum, len);
        let average = case.whole(Region::Average, len);
        case.ops.push(Op::Sgd { weights, gradients, momentum });
        case.ops.push(Op::MovingAverage { weights, average });
        case.check(1e-6);
    }
}

/// More rows than one chunk of the reductions has.
#[test]
fn sums_of_many_chunks() {
    let (count, pixels, channels) = (9, 900, 40);
    let mut case = Case::new(count, 0, 3);
    let input = case.image(pixels * channels);
    let gradient = case.image(pixels * channels);
    let gamma = case.whole(Region::Weights, channels);
    let (mean, inverse_std) = (case.whole(Region::Derived, channels), case.whole(Region::Derived, channels));
    let statistics = Op::NormStatistics {
        pixels,
        channels,
        input,
        gamma,
        beta: case.whole(Region::Weights, channels),
        momentum: 0.1,
        epsilon: 1e-5,
        running_mean: case.whole(Region::Weights, channels),
        running_variance: case.whole(Region::Weights, channels),
        mean,
        inverse_std,
        affine: affine_room(&mut case, channels),
    };
    let dgrad = Op::NormDgrad {
        pixels,
        channels,
        input,
        gamma,
        mean,
        inverse_std,
        affine: case.affine(channels),
        gradient,
        residual: None,
        output: gradient,
        gamma_gradient: case.whole(Region::Gradients, channels),
        beta_gradient: case.whole(Region::Gradients, channels),
    };
    case.ops = vec![statistics, dgrad];
    case.check(2e-5);
}
