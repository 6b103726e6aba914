//! Batch norm, and the updates of parameters.

use super::case::check;
use pbe::selftest::cases::norm::{AdamCase, NormDgradCase, RunningAffineCase, SgdCase, StatisticsCase};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn affine_of_running_statistics(channels in 1..70_usize, seed: u64) {
        check(&RunningAffineCase { channels }.case(seed), 1e-6);
    }

    #[test]
    fn statistics(count in 1..6_usize, pixels in 1..90_usize, channels in 1..150_usize, mean in -50..50_i32, aligned: bool, seed: u64) {
        check(&StatisticsCase { count, pixels, channels, mean, aligned }.case(seed), 1e-5);
    }

    #[test]
    fn dgrad(
        count in 1..5_usize,
        pixels in 1..60_usize,
        channels in 1..80_usize,
        relu: bool,
        residual: bool,
        place in 0..3_usize,
        aligned: bool,
        seed: u64,
    ) {
        check(&NormDgradCase { count, pixels, channels, relu, residual, place, aligned }.case(seed), 2e-5);
    }

    #[test]
    fn updates(len in 1..40_000_usize, nesterov: bool, decay in 0.0..0.1_f32, seed: u64) {
        check(&SgdCase { len, nesterov, decay }.case(seed), 1e-6);
    }

    #[test]
    fn adam(len in 1..40_000_usize, step in 1..5000_u32, second in 0.9..0.999_f32, seed: u64) {
        check(&AdamCase { len, step, betas: (0.5, second) }.case(seed), 1e-6);
    }
}

/// More rows than one chunk of the reductions has.
#[test]
fn sums_of_many_chunks() {
    let (count, pixels, channels) = (9, 900, 40);
    for aligned in [false, true] {
        check(&StatisticsCase { count, pixels, channels, mean: 0, aligned }.case(3), 2e-5);
        let backward =
            NormDgradCase { count, pixels, channels, relu: true, residual: false, place: 0, aligned };
        check(&backward.case(3), 2e-5);
    }
}
