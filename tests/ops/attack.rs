//! Images in, and PGD.

use crate::case::Case;
use pbe::data::ImageSet;
use pbe::device::{Augment, ImageSlot, Norm, Op};
use proptest::prelude::*;
use std::sync::Arc;

fn images(case: &mut Case, count: usize, height: usize, width: usize, channels: usize) -> ImageSet {
    let pixels = (0..count * height * width * channels).map(|_| case.below(256) as u8).collect();
    ImageSet {
        pixels: Arc::new(pixels),
        labels: Arc::new(vec![0; count]),
        names: Arc::new(vec![String::new(); count]),
        classes: Arc::new(vec!["one".to_string()]),
        height,
        width,
        channels,
    }
}

fn norm(l2: bool) -> Norm {
    if l2 { Norm::L2 } else { Norm::Linf }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn gather(
        count in 1..9_usize,
        height in 1..12_usize,
        width in 1..12_usize,
        colours in (0..3_usize).prop_map(|i| [(1, 1), (3, 3), (1, 3)][i]),
        pad in 0..6_usize,
        flip: bool,
        lane in 0..4_usize,
        seed: u64,
    ) {
        let mut case = Case::new(count, lane, seed);
        case.images = Some(images(&mut case, 5, height, width, colours.0));
        case.controls.epoch = 3;
        let op = Op::Gather {
            images: ImageSlot(0),
            indices: case.word(5),
            height,
            width,
            channels: colours.1,
            augment: Augment { pad, flip },
            output: case.image(height * width * colours.1),
        };
        case.ops.push(op);
        case.check(1e-7);
    }

    #[test]
    fn pgd(
        count in 1..6_usize,
        elements in 1..200_usize,
        l2: bool,
        random_start: bool,
        clamp: bool,
        lane in 0..4_usize,
        seed: u64,
    ) {
        let mut case = Case::new(count, lane, seed);
        (case.controls.random_start, case.controls.clamp) = (random_start, clamp);
        let clean = case.image_of(elements, |v| v as f32 / 511.0);
        let reach = if l2 { 1.0 } else { 0.05 };
        let epsilon = case.image_of(1, |v| v as f32 / 511.0 * reach);
        let alpha = case.image_of(1, |v| v as f32 / 511.0 * reach);
        let adversarial = case.image(elements);
        let indices = case.word(1 << 20);
        // A zero here and there: the sign of zero is zero.
        let gradient = case.image_of(elements, |v| (v % 9) as f32 - 4.0);
        let norm = norm(l2);
        case.ops = vec![
            Op::PgdStart { elements, clean, indices, epsilon, norm, adversarial },
            Op::PgdStep { elements, clean, gradient, epsilon, alpha, norm, adversarial },
        ];
        case.check(1e-6);
        // The step alone, from anywhere.
        case.ops.remove(0);
        case.check(1e-6);
    }
}

#[test]
fn steps_repeat_as_often_as_asked_and_stay_inside_the_ball() {
    let mut case = Case::new(3, 0, 1);
    case.controls.clamp = false;
    let clean = case.image_of(100, |_| 0.5);
    let (epsilon, alpha) = (case.image_of(1, |_| 0.25), case.image_of(1, |_| 0.0625));
    let (gradient, adversarial) = (case.image_of(100, |_| 1.0), case.image_of(100, |_| 0.5));
    let norm = Norm::Linf;
    let step = Op::PgdStep { elements: 100, clean, gradient, epsilon, alpha, norm, adversarial };
    case.ops = vec![step];
    case.repeated = 0..1;
    for (repeats, expected) in [(0, 0.5), (1, 0.5625), (3, 0.6875), (9, 0.75)] {
        case.controls.repeats = repeats;
        let arena = &case.check(0.0)[5];
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
        case.ops =
            vec![Op::PgdStart { elements: 50, clean, indices: word, epsilon, norm: Norm::Linf, adversarial }];
        case.check(1e-6)[5][adversarial.offset..adversarial.offset + 100].to_vec()
    };
    let (one, other) = (start(vec![7, 8]), start(vec![8, 7]));
    assert_eq!(one[..50], other[50..]);
    assert_ne!(one[..50], one[50..]);
}
