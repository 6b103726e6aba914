use super::*;
use crate::data::Normalisation;
use crate::model::{Architecture, NetworkKind};

fn published() -> Graph {
    let architecture =
        Architecture { network: NetworkKind::PreActResNet18, width: 64, classes: 10, channels: 3 };
    architecture.graph(&Normalisation::identity(3), 32, 32).unwrap()
}

fn sum(profile: &ModeProfile) -> Cost {
    profile.ops.iter().map(|op| op.cost).sum()
}

/// PreAct-ResNet-18, 32x32: the stem; four convolutions of a stage; three times a strided one, three
/// others and a shortcut; the linear layer.
const PRODUCTS: u64 = 1_769_472 + 4 * 37_748_736 + 3 * (18_874_368 + 3 * 37_748_736 + 2_097_152) + 5120;

#[test]
fn multiply_adds_of_the_published_network() {
    assert_eq!(PRODUCTS, 555_422_720);
    for precision in [Precision::F32, Precision::Bf16] {
        let [prepare, infer, attack, train] =
            estimate(&published(), 128, precision).unwrap().try_into().unwrap();
        assert_eq!(sum(&prepare).products, 0);
        assert_eq!(sum(&infer).products, 2 * 128 * PRODUCTS);
        // Forward, and back to the image; in training weights have gradients too, and the image none.
        assert_eq!(sum(&attack).products, 2 * 2 * 128 * PRODUCTS);
        assert_eq!(sum(&train).products, 2 * 128 * (3 * PRODUCTS - 1_769_472));
        let step = attack.ops.iter().filter(|op| op.in_loop).count();
        assert_eq!(attack.ops.len() - step, 3, "images, start, copy");
    }
}

fn done<'a>(launches: impl IntoIterator<Item = &'a KernelLaunch>) -> (u64, u64) {
    launches
        .into_iter()
        .fold((0, 0), |(products, bytes), launch| (products + launch.products, bytes + launch.bytes))
}

/// The launches of a program do all the arithmetic of its ops and touch no less than these must. An op's own launches
/// need not: some do part of another op's work.
#[test]
fn launches_do_what_their_ops_do() {
    for precision in [Precision::F32, Precision::Bf16] {
        for profile in estimate(&published(), 4, precision).unwrap() {
            let (products, bytes) = done(profile.ops.iter().flat_map(|op| &op.launches));
            let wanted = sum(&profile);
            assert!(products == wanted.products && bytes >= wanted.bytes, "{wanted:?}: {products}, {bytes}");
        }
    }
}

#[test]
fn an_estimate_is_the_longer_of_products_and_bytes() {
    let launch = |blocks, bytes, products| KernelLaunch {
        kernel: "k",
        blocks,
        bytes,
        products,
        ..KernelLaunch::default()
    };
    let op = |launches| OpProfile {
        op: "",
        shape: String::new(),
        in_loop: false,
        cost: Cost::default(),
        launches,
    };
    let of = |launches| op(launches).estimate(&Roofline::A100, Precision::Bf16);
    // 312 TFLOP/s on all of 108 multiprocessors; 2039 GB/s.
    let full = of(vec![launch(108, 2_038_000, 312_000_000), launch(1, 2_039_000, 0)]);
    assert!((full.products - 1e-6).abs() < 1e-12 && (full.bytes - 1e-6).abs() < 1e-12, "{full:?}");
    assert_eq!(full.gaps, 2.0 * LAUNCH_GAP);
    // 128 blocks are two rounds of 108.
    let tail = of(vec![launch(128, 0, 312_000_000)]);
    assert!((tail.products - 216.0 / 128.0 * 1e-6).abs() < 1e-12, "{tail:?}");
    let plain = op(vec![launch(108, 0, 312_000_000)]).estimate(&Roofline::A100, Precision::F32);
    assert!((plain.products - 16e-6).abs() < 1e-8, "{plain:?}");
}
