use super::*;
use crate::device::FilterSpec;
use crate::device::ops;

fn shape(in_channels: usize, kernel: usize) -> ConvShape {
    ConvShape { height: 8, width: 8, in_channels, out_channels: 20, kernel, stride: 1, pad: kernel / 2 }
}

fn load(filter: usize, offset: usize, len: usize) -> Op {
    let weights = Span { region: Region::Weights, offset, len };
    Op::LoadFilter(ops::LoadFilter { filter: FilterId(filter), weights, scale: None })
}

fn all(region: Region, len: usize) -> Span {
    Span { region, offset: 0, len }
}

fn program(kernel: usize) -> Program {
    let (first, second) = (shape(3, 3), shape(20, kernel));
    let spec = |shape, direction| FilterSpec { shape, direction };
    let filters =
        vec![spec(first, Direction::Fprop), spec(second, Direction::Fprop), spec(second, Direction::Dgrad)];
    let (a, b) = (first.filter_len(), second.filter_len());
    let sgd = Op::Sgd(ops::Sgd {
        weights: all(Region::Weights, a + 10 + b),
        gradients: all(Region::Gradients, a + 10 + b),
        momentum: all(Region::Momentum, a + 10 + b),
    });
    let (weights, average) = (all(Region::Weights, a + b + 40), all(Region::Average, a + b + 40));
    let ops = vec![
        load(1, a + 10, b),
        load(2, a + 10, b),
        load(0, 0, a),
        sgd,
        Op::MovingAverage(ops::MovingAverage { weights, average }),
    ];
    Program { ops, filters, capacity: 1, ..Program::default() }
}

#[test]
fn parts_cover_all_weights_and_blocks_their_parts() {
    let program = program(3);
    let update = Update::of(&program).unwrap();
    assert_eq!((update.opening, update.sgd, update.average), (3, 3, Some(4)));
    let kinds: Vec<bool> = update.segments.iter().map(|segment| segment.filter.is_some()).collect();
    assert_eq!(kinds, [true, false, true, false]);
    let mut end = 0;
    for segment in &update.segments {
        assert_eq!(segment.offset, end);
        end += segment.len;
    }
    assert_eq!(end, shape(3, 3).filter_len() + shape(20, 3).filter_len() + 40);
    // 20 out channels are two tiles, 3 and 20 in channels one and three.
    assert_eq!(update.blocks(), 2 + 1 + 6 + 1);
    let [first, _, second, _] = &update.segments[..] else { panic!() };
    assert_eq!(first.filter.unwrap().dgrad, None);
    assert_eq!(second.filter.unwrap().dgrad, Some(FilterId(2)));
}

#[test]
fn other_programs_have_none() {
    assert_eq!(Update::of(&program(8)), None, "too many taps");
    let scaled = |op: Op| match op {
        Op::LoadFilter(ops::LoadFilter { filter, weights, .. }) => {
            Op::LoadFilter(ops::LoadFilter { filter, weights, scale: Some(all(Region::Derived, 20)) })
        }
        op => op,
    };
    let mut folded = program(3);
    folded.ops = folded.ops.into_iter().map(scaled).collect();
    assert_eq!(Update::of(&folded), None, "not the weights");
    let mut late = program(3);
    late.ops.swap(2, 3);
    assert_eq!(Update::of(&late), None, "a filter loaded late");
    let mut twice = program(3);
    twice.ops.insert(0, load(1, 0, shape(3, 3).filter_len()));
    assert_eq!(Update::of(&twice), None, "a filter of two weights");
}
