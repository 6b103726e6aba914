//! Sums and max pooling.

use super::case::check;
use pbe::device::PoolShape;
use pbe::selftest::cases::pooling::{AddCase, MaxPoolCase};
use proptest::prelude::*;

fn shapes() -> impl Strategy<Value = PoolShape> {
    let windows = (1..5_usize, 1..4_usize)
        .prop_flat_map(|(kernel, stride)| (0..=kernel / 2).prop_map(move |pad| (kernel, stride, pad)));
    (4..12_usize, 4..12_usize, 1..40_usize, windows).prop_map(
        |(height, width, channels, (kernel, stride, pad))| PoolShape {
            height,
            width,
            channels,
            kernel,
            stride,
            pad,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn sums(
        (count, pixels, channels, slice) in (1..5_usize, 1..90_usize, 1..70_usize, 0..3_usize),
        left in any::<(bool, bool)>(),
        right in any::<(bool, bool)>(),
        place in 0..3_usize,
        aligned: bool,
        seed: u64,
    ) {
        check(&AddCase { count, pixels, channels, slice, left, right, place, aligned }.case(seed), 1e-6);
    }

    #[test]
    fn forward_and_back(
        shape in shapes(),
        (count, slice) in (1..4_usize, 0..3_usize),
        (affine, relu, argmax) in any::<(bool, bool, bool)>(),
        diverged in 0..2_u32,
        aligned: bool,
        seed: u64,
    ) {
        let case = MaxPoolCase { shape, count, slice, affine, relu, argmax, diverged: 9 * diverged, aligned };
        check(&case.case(seed), 1e-6);
    }
}
