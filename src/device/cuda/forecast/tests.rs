use super::*;
use crate::device::ops;
use crate::device::{ConvShape, Direction, FilterId, FilterSpec, Prologue, Region, Span};

fn span(region: Region, offset: usize, len: usize) -> Span {
    Span { region, offset, len }
}

fn only(op: Op, filters: Vec<FilterSpec>, count: usize, precision: Precision) -> Vec<KernelLaunch> {
    let program = Program { ops: vec![op], filters, capacity: count, ..Program::default() };
    launches(&program, count, precision).unwrap().remove(0)
}

#[test]
fn a_buffer_that_is_updated_counts_twice() {
    let region = |region| span(region, 0, 1000);
    let (weights, gradients) = (region(Region::Weights), region(Region::Gradients));
    let list = only(
        Op::Sgd(ops::Sgd { weights, gradients, momentum: region(Region::Momentum) }),
        vec![],
        1,
        Precision::F32,
    );
    // 8 blocks of 128 threads; weights and momentum read and written, gradients read.
    assert_eq!(list, [KernelLaunch { kernel: "sgd", blocks: 8, bytes: 5 * 4000, products: 0 }]);
}

/// A convolution's own launch has the products and reads the filter; what stands in front of it has
/// neither.
#[test]
fn products_belong_to_the_launch_that_reads_the_filter() {
    let shape =
        ConvShape { height: 8, width: 8, in_channels: 16, out_channels: 64, kernel: 3, stride: 1, pad: 1 };
    let op = Op::Conv(ops::Conv {
        shape,
        filter: FilterId(0),
        input: span(Region::Arena, 0, shape.input_len()),
        prologue: Prologue { affine: None, relu: true, mask: None },
        bias: Some(span(Region::Derived, 0, 64)),
        residual: None,
        output: span(Region::Arena, 1 << 20, shape.output_len()),
    });
    let filters = vec![FilterSpec { shape, direction: Direction::Fprop }];
    for precision in [Precision::F32, Precision::Bf16] {
        let list = only(op.clone(), filters.clone(), 2, precision);
        let products: Vec<u64> = list.iter().map(|launch| launch.products).collect();
        assert_eq!(products, [0, 2 * 2 * 64 * 64 * 16 * 9], "{precision}");
    }
    let list = only(op, filters, 2, Precision::Bf16);
    let (input, output, filter) = (2 * 64 * 16, 2 * 64 * 64, 64 * 16 * 9);
    // From f32 to bf16; then the copy, the filter in bf16, bias and output in f32.
    assert_eq!(list[0].bytes, 4 * input + 2 * input);
    assert_eq!(list[1].bytes, 2 * input + 2 * filter + 4 * 64 + 4 * output);
}
