//! Convolutions as ops: every operand there or not, in place or not. The kernels have tests of
//! their own beside them.

use super::case::check;
use pbe::device::ConvShape;
use pbe::selftest::cases::conv::{AddendPlace, ConvCase, NanInputCase};
use proptest::prelude::*;

fn shapes() -> impl Strategy<Value = ConvShape> {
    let sizes = (1..10_usize, 1..10_usize, 1..20_usize, 1..40_usize);
    let kernels = prop_oneof![Just((3, 1, 1)), Just((3, 2, 1)), Just((1, 2, 0)), Just((1, 1, 0))];
    (sizes, kernels).prop_map(|((height, width, in_channels, out_channels), (kernel, stride, pad))| {
        ConvShape { height, width, in_channels, out_channels, kernel, stride, pad }
    })
}

fn places() -> impl Strategy<Value = AddendPlace> {
    prop_oneof![Just(AddendPlace::None), Just(AddendPlace::Apart), Just(AddendPlace::Output)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn forward_and_back(
        shape in shapes(),
        (count, slice) in (1..4_usize, 0..3_usize),
        (affine, relu, mask, bias, scaled, aligned) in any::<(bool, bool, bool, bool, bool, bool)>(),
        residual in places(),
        add in places(),
        seed: u64,
    ) {
        let case = ConvCase { shape, count, slice, affine, relu, mask, bias, scaled, residual, add, aligned };
        check(&case.case(seed), 1e-3);
    }
}

#[test]
fn what_is_no_number_stays_so_behind_a_relu() {
    let memory = check(&NanInputCase { count: 3, channels: (4, 5) }.case(0), 1e-4);
    assert!(memory.iter().flatten().any(|value| value.is_nan()));
}
