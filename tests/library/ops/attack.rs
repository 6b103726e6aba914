//! Images in, and PGD.

use super::case::check;
use pbe::device::ops;
use pbe::device::{Augment, Norm, Op};
use pbe::selftest::case::Case;
use pbe::selftest::cases::attack::{CopyCase, FaintGradientCase, GatherCase, PatchesCase, PgdCase};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn gather(
        count in 1..9_usize,
        height in 1..12_usize,
        width in 1..12_usize,
        channels in (0..3_usize).prop_map(|i| [(1, 1), (3, 3), (1, 3)][i]),
        pad in 0..6_usize,
        flip: bool,
        slice in 0..4_usize,
        aligned: bool,
        seed: u64,
    ) {
        let augment = Augment { pad, flip };
        check(&GatherCase { count, height, width, channels, augment, slice, aligned }.case(seed), 1e-7);
    }

    #[test]
    fn patches(
        count in 1..9_usize,
        height in 1..40_usize,
        width in 1..40_usize,
        grey: bool,
        probability in 0.0..1.01_f32,
        slice in 0..4_usize,
        seed: u64,
    ) {
        let channels = if grey { 1 } else { 3 };
        check(&PatchesCase { count, height, width, channels, probability, slice }.case(seed), 1e-7);
    }

    #[test]
    fn pgd(
        count in 1..6_usize,
        elements in 1..200_usize,
        l2: bool,
        random_start: bool,
        clamp: bool,
        slice in 0..4_usize,
        // From anywhere, or after a start.
        (start, steps) in (0..3_usize).prop_map(|i| [(true, 0), (true, 2), (false, 1)][i]),
        aligned: bool,
        seed: u64,
    ) {
        let norm = if l2 { Norm::L2 } else { Norm::Linf };
        let case = PgdCase { count, elements, norm, random_start, clamp, slice, start, steps, aligned };
        check(&case.case(seed), 1e-6);
    }

    #[test]
    fn copies(count in 1..6_usize, elements in 1..200_usize, slice in 0..4_usize, seed: u64) {
        check(&CopyCase { count, elements, slice }.case(seed), 0.0);
    }
}

#[test]
fn steps_repeat_as_often_as_asked_and_stay_inside_the_ball() {
    let mut case = Case::new(3, 0, 1);
    case.params.clamp = false;
    let clean = case.image_of(100, |_| 0.5);
    let (epsilon, alpha) = (case.image_of(1, |_| 0.25), case.image_of(1, |_| 0.0625));
    let (gradient, adversarial) = (case.image_of(100, |_| 1.0), case.image_of(100, |_| 0.5));
    let norm = Norm::Linf;
    let step =
        Op::PgdStep(ops::PgdStep { elements: 100, clean, gradient, epsilon, alpha, norm, adversarial });
    case.ops = vec![step];
    case.loop_body = 0..1;
    for (repeats, expected) in [(0, 0.5), (1, 0.5625), (3, 0.6875), (9, 0.75)] {
        case.params.repeats = repeats;
        let arena = &check(&case, 0.0)[5];
        assert_eq!(arena[adversarial.offset..adversarial.offset + 300], [expected; 300]);
    }
}

#[test]
fn a_start_depends_on_the_image_not_on_its_place() {
    let start = |indices: Vec<u32>| {
        let mut case = Case::new(2, 0, 5);
        let (clean, epsilon) = (case.image_of(50, |_| 0.5), case.image_of(1, |_| 0.1));
        let (adversarial, word) = (case.image(50), case.word(2));
        case.set_words(word, indices);
        case.ops = vec![Op::PgdStart(ops::PgdStart {
            elements: 50,
            clean,
            indices: word,
            epsilon,
            norm: Norm::Linf,
            adversarial,
        })];
        check(&case, 1e-6)[5][adversarial.offset..adversarial.offset + 100].to_vec()
    };
    let (one, other) = (start(vec![7, 8]), start(vec![8, 7]));
    assert_eq!(one[..50], other[50..]);
    assert_ne!(one[..50], one[50..]);
}

#[test]
fn a_gradient_whose_length_is_no_normal_number_has_no_direction() {
    for scale in [0.0, 1e-44, 1e-41, 1e-38, 1e-36] {
        let memory = check(&FaintGradientCase { count: 3, elements: 40, scale }.case(0), 1e-6);
        assert!(memory.iter().flatten().all(|value| value.is_finite()), "{scale}");
    }
}
