//! Pooling, the linear layer, the loss, the cosine score.

use super::case::check;
use pbe::selftest::cases::head::{CosineCase, LinearCase, LossCase, PoolCase};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pool(count in 1..6_usize, pixels in 1..70_usize, channels in 1..70_usize, slice in 0..4_usize, seed: u64) {
        check(&PoolCase { count, pixels, channels, slice }.case(seed), 1e-6);
    }

    #[test]
    fn linear(count in 1..20_usize, inputs in 1..150_usize, outputs in 1..200_usize, slice in 0..9_usize, seed: u64) {
        check(&LinearCase { count, inputs, outputs, slice }.case(seed), 2e-5);
    }

    #[test]
    fn softmax_cross_entropy(
        count in 1..9_usize,
        classes in 1..200_usize,
        slice in 0..4_usize,
        mean: bool,
        teacher: bool,
        gradient: bool,
        weight in 0..3_u32,
        seed: u64,
    ) {
        let (weight, temperature) = (weight as f32 * 0.5, 1.0 + weight as f32);
        let case = LossCase { count, classes, slice, mean, teacher, gradient, weight, temperature };
        check(&case.case(seed), 1e-5);
    }

    #[test]
    fn cosine(count in 1..9_usize, classes in 1..200_usize, slice in 0..4_usize, zero: bool, seed: u64) {
        check(&CosineCase { count, classes, slice, zero }.case(seed), 1e-6);
    }
}
