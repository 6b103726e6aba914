//! What image networks have beside a classifier's layers.

use super::case::check;
use pbe::selftest::cases::generator::{ScaledTanhCase, UpsampleCase};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn upsampling(
        count in 1..5_usize,
        height in 1..9_usize,
        width in 1..9_usize,
        channels in 1..40_usize,
        slice in 0..3_usize,
        affine: bool,
        relu: bool,
        seed: u64,
    ) {
        check(&UpsampleCase { count, height, width, channels, slice, affine, relu }.case(seed), 2e-6);
    }

    #[test]
    fn squashing(
        count in 1..5_usize,
        pixels in 1..60_usize,
        channels in 1..40_usize,
        slice in 0..3_usize,
        affine: bool,
        scaled: bool,
        in_place: bool,
        seed: u64,
    ) {
        let case = ScaledTanhCase { count, pixels, channels, slice, affine, scaled, in_place };
        check(&case.case(seed), 1e-6);
    }
}
