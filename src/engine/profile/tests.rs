use super::*;
use crate::data::Normalisation;
use crate::device::cuda;
use crate::device::{Access, Span};
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
            estimate(&published(), 128, precision, cuda::launches).unwrap().try_into().unwrap();
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

const BATCH: usize = 4;

/// The launches of ops that share them do all the arithmetic of these ops and touch no less than they must, and no ops
/// are without a launch. All launches of a program touch no less than all its ops, each by itself.
#[test]
fn launches_do_what_their_ops_do() {
    for precision in [Precision::F32, Precision::Bf16] {
        for (mode, program) in programs(&published(), BATCH).unwrap() {
            let launches = cuda::launches(&program, BATCH, precision).unwrap();
            let (products, bytes) = done(launches.iter().flatten());
            let wanted: Cost = program.costs(BATCH, precision).into_iter().sum();
            assert!(products == wanted.products && bytes >= wanted.bytes, "{wanted:?}: {products}, {bytes}");
            for group in groups(&program, precision) {
                let own: Vec<_> = group.iter().flat_map(|&op| &launches[op]).collect();
                let wanted = least(&program, &group, precision);
                let (products, bytes) = done(own.iter().copied());
                let alike = products == wanted.products && bytes >= wanted.bytes && !own.is_empty();
                let names: Vec<_> = group.iter().map(|&op| program.ops[op].name()).collect();
                assert!(alike, "{precision:?} {mode} {names:?}: {products}, {bytes}, not {wanted:?}");
            }
        }
    }
}

/// The ops of a program, those together whose launches do each other's work.
fn groups(program: &Program, precision: Precision) -> Vec<Vec<usize>> {
    let mut group: Vec<usize> = (0..program.ops.len()).collect();
    for (op, work) in cuda::work(program, precision).into_iter().enumerate() {
        let (old, new) = (group[op], group[work.by]);
        group.iter_mut().filter(|group| **group == old).for_each(|group| *group = new);
    }
    let members = |wanted| (0..group.len()).filter(|&op| group[op] == wanted).collect::<Vec<_>>();
    (0..group.len()).map(members).filter(|ops| !ops.is_empty()).collect()
}

/// What ops do that share launches. These touch a tensor once, and need not touch one of the arena that no other op
/// reads.
fn least(program: &Program, group: &[usize], precision: Precision) -> Cost {
    let costs = program.costs(BATCH, precision);
    let mut cost: Cost = group.iter().map(|&op| costs[op]).sum();
    let works = cuda::work(program, precision);
    let bytes = |span: &Span, words: bool| {
        let per_image = matches!(span.region, Region::Arena | Region::Staging);
        let short = span.region == Region::Arena && !words;
        let bytes = span.len * size_of::<f32>() / if short { precision.per_word() } else { 1 };
        (if per_image { BATCH * bytes } else { bytes }) as u64
    };
    for &op in group {
        cost.bytes += works[op].more.iter().map(|span| bytes(span, true)).sum::<u64>();
        cost.bytes -= works[op].less.iter().map(|span| bytes(span, true)).sum::<u64>();
    }
    let spans: Vec<(usize, Span, Access)> = group.iter().flat_map(|&op| spans(program, op)).collect();
    for (at, &(op, span, access)) in spans.iter().enumerate() {
        let others = spans.iter().enumerate().filter(|(other, _)| *other != at);
        let elements = match access {
            Access::Read | Access::ReadInPlace => {
                let touched = others.filter(|(other, (.., access))| access.writes() || *other < at);
                touched.map(|(_, (_, one, _))| shared(one, &span)).max().unwrap_or(0)
            }
            Access::Write => {
                let read =
                    others.into_iter().any(|(_, (_, one, access))| *one == span && *access != Access::Write);
                let inside = read && span.region == Region::Arena && !read_later(program, op, group, &span);
                if inside { span.len } else { 0 }
            }
            Access::Update => 0,
        };
        cost.bytes -= bytes(&Span { len: elements, ..span }, false);
    }
    cost
}

fn spans(program: &Program, op: usize) -> impl Iterator<Item = (usize, Span, Access)> {
    program.ops[op].spans().map(move |(span, access)| (op, span, access))
}

/// Elements that are in both.
fn shared(one: &Span, other: &Span) -> usize {
    let end = (one.offset + one.len).min(other.offset + other.len);
    if one.region == other.region { end.saturating_sub(one.offset.max(other.offset)) } else { 0 }
}

/// Whether an op outside `group` reads what op `writer` wrote, after it or in the next turn of the loop.
fn read_later(program: &Program, writer: usize, group: &[usize], span: &Span) -> bool {
    let read_first = |ops: &mut dyn Iterator<Item = usize>| {
        let touching = |op| spans(program, op).filter(|(_, other, _)| shared(other, span) > 0);
        ops.filter(|op| !group.contains(op))
            .flat_map(touching)
            .next()
            .is_some_and(|(_, _, access)| access != Access::Write)
    };
    let part = program.loop_body.clone();
    let again = part.contains(&writer) && read_first(&mut (writer + 1..part.end).chain(part.start..writer));
    again || read_first(&mut (writer + 1..program.ops.len()))
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
