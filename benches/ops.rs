//! The CPU device's ops at the shapes of a pre-activation ResNet-18 on 32x32 images, batch 128,
//! width 64 and 16, one slice with all threads. Throughput is bytes moved to and from memory for
//! the ops that memory bounds, multiply-adds for convolutions.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pbe::device::cpu::CpuDevice;
use pbe::device::ops;
use pbe::device::{
    Affine, BatchSlice, ConvShape, Device, Direction, FilterId, FilterSpec, MemoryLayout, Norm, Op, Program,
    Prologue, Region, Span, StepParams,
};
use std::time::Duration;

const IMAGES: usize = 128;

/// Hands out spans one after the other in their regions.
#[derive(Default)]
struct Spans {
    ends: [usize; 7],
}

impl Spans {
    fn take(&mut self, region: Region, len: usize) -> Span {
        let images = if matches!(region, Region::Arena | Region::Staging) { IMAGES } else { 1 };
        let end = &mut self.ends[region as usize];
        let span = Span { region, offset: *end, len };
        *end += (len * images).next_multiple_of(16);
        span
    }
    fn image(&mut self, len: usize) -> Span {
        self.take(Region::Arena, len)
    }
    fn channel(&mut self, len: usize) -> Span {
        self.take(Region::Derived, len)
    }
    fn affine(&mut self, channels: usize) -> Affine {
        Affine { scale: self.channel(channels), shift: self.channel(channels) }
    }
    fn layout(&self) -> MemoryLayout {
        let [weights, gradients, momentum, average, derived, arena, staging] = self.ends;
        MemoryLayout { weights, gradients, momentum, average, derived, arena, staging }
    }
}

/// Times one op over 128 images.
fn time(
    criterion: &mut Criterion,
    name: String,
    spans: &Spans,
    filters: Vec<FilterSpec>,
    op: Op,
    work: Throughput,
) {
    let device = CpuDevice::new(None).expect("threads");
    let mut session = device.open(spans.layout()).expect("memory");
    let ones = vec![0.5; spans.ends.iter().copied().max().unwrap_or(0)];
    for region in [Region::Weights, Region::Gradients, Region::Derived, Region::Arena, Region::Staging] {
        session.write(region, 0, &ones[..spans.layout().len(region)]).expect("written");
    }
    let arena = spans.ends[Region::Arena as usize];
    let program = Program { ops: vec![op], filters, capacity: IMAGES, arena, ..Program::default() };
    let program = session.prepare(program).expect("a sound program");
    let slice = [BatchSlice { first: 0, count: IMAGES }];
    let params = StepParams::default();
    let mut group = criterion.benchmark_group("ops");
    group.throughput(work).sample_size(10).measurement_time(Duration::from_secs(1));
    group.bench_function(name, |bencher| {
        bencher.iter(|| session.run(program, &params, &slice).expect("a sound run"));
    });
    group.finish();
}

fn bytes(elements: usize) -> Throughput {
    Throughput::Bytes((IMAGES * elements * size_of::<f32>()) as u64)
}

fn norms(criterion: &mut Criterion) {
    for width in [64, 16] {
        for (side, factor) in [(32, 1), (16, 2), (8, 4), (4, 8)] {
            let (pixels, channels) = (side * side, width * factor);
            let mut spans = Spans::default();
            let [input, gradient, output] = [0; 3].map(|_| spans.image(pixels * channels));
            let [gamma, beta, mean, inverse_std] = [0; 4].map(|_| spans.channel(channels));
            let [running_mean, running_variance] = [0; 2].map(|_| spans.channel(channels));
            let affine = spans.affine(channels);
            let gradients = [0; 2].map(|_| spans.take(Region::Gradients, channels));
            let statistics = Op::BatchNormStats(ops::BatchNormStats {
                pixels,
                channels,
                input,
                gamma,
                beta,
                momentum: 0.1,
                epsilon: 1e-5,
                running_mean,
                running_variance,
                mean,
                inverse_std,
                affine,
            });
            let dgrad = Op::BatchNormDgrad(ops::BatchNormDgrad {
                pixels,
                channels,
                input,
                gamma,
                mean,
                inverse_std,
                relu: Some(affine),
                gradient,
                residual: Some(output),
                output,
                gamma_gradient: gradients[0],
                beta_gradient: gradients[1],
            });
            let shape = format!("{side}x{side}x{channels}");
            let elements = pixels * channels;
            time(
                criterion,
                format!("norm_statistics {shape}"),
                &spans,
                Vec::new(),
                statistics,
                bytes(elements),
            );
            time(criterion, format!("norm_dgrad {shape}"), &spans, Vec::new(), dgrad, bytes(6 * elements));
        }
    }
}

fn attack(criterion: &mut Criterion) {
    for norm in [Norm::Linf, Norm::L2] {
        let elements = 3072;
        let mut spans = Spans::default();
        let [clean, gradient, adversarial] = [0; 3].map(|_| spans.image(elements));
        let [epsilon, alpha] = [0; 2].map(|_| spans.image(1));
        let indices = spans.take(Region::Staging, 1);
        let start = Op::PgdStart(ops::PgdStart { elements, clean, indices, epsilon, norm, adversarial });
        let step = Op::PgdStep(ops::PgdStep { elements, clean, gradient, epsilon, alpha, norm, adversarial });
        time(criterion, format!("pgd_start {norm:?}"), &spans, Vec::new(), start, bytes(2 * elements));
        time(criterion, format!("pgd_step {norm:?}"), &spans, Vec::new(), step, bytes(4 * elements));
    }
}

fn updates(criterion: &mut Criterion) {
    let len = 11_171_146;
    let mut spans = Spans::default();
    let weights = spans.take(Region::Weights, len);
    let gradients = spans.take(Region::Gradients, len);
    let momentum = spans.take(Region::Momentum, len);
    let average = spans.take(Region::Average, len);
    let moved = |times: usize| Throughput::Bytes((times * len * size_of::<f32>()) as u64);
    let sgd = Op::Sgd(ops::Sgd { weights, gradients, momentum });
    time(criterion, "sgd width 64".to_string(), &spans, Vec::new(), sgd, moved(5));
    let op = Op::MovingAverage(ops::MovingAverage { weights, average });
    time(criterion, "moving_average width 64".to_string(), &spans, Vec::new(), op, moved(3));
}

/// The convolutions of a stage: the plain one inside it, and the two that enter it.
fn stage(width: usize, side: usize, factor: usize) -> Vec<ConvShape> {
    let (out, entered) = (width * factor, factor > 1);
    let shape = |side, in_channels, kernel, stride, pad| ConvShape {
        height: side,
        width: side,
        in_channels,
        out_channels: out,
        kernel,
        stride,
        pad,
    };
    let mut shapes = vec![shape(side, out, 3, 1, 1)];
    if entered {
        shapes.push(shape(2 * side, out / 2, 3, 2, 1));
        shapes.push(shape(2 * side, out / 2, 1, 2, 0));
    } else {
        shapes.push(shape(side, 3, 3, 1, 1));
    }
    shapes
}

fn convolutions(criterion: &mut Criterion) {
    let stages = [(32, 1), (16, 2), (8, 4), (4, 8)];
    let shapes = [64, 16].iter().flat_map(|&width| stages.map(|(side, factor)| stage(width, side, factor)));
    for shape in shapes.flatten() {
        let mut spans = Spans::default();
        let (input, output) = (spans.image(shape.input_len()), spans.image(shape.output_len()));
        let weight_gradient = spans.take(Region::Gradients, shape.filter_len());
        let filters = |direction| vec![FilterSpec { shape, direction }];
        let filter = FilterId(0);
        let prologue = Prologue::default();
        let fprop = Op::Conv(ops::Conv::plain(shape, filter, input, output));
        let dgrad = Op::ConvDgrad(ops::ConvDgrad::plain(shape, filter, output, input));
        let wgrad =
            Op::ConvWgrad(ops::ConvWgrad { shape, input, prologue, gradient: output, weight_gradient });
        let ConvShape { height, in_channels, out_channels, kernel, stride, .. } = shape;
        let name = format!("{height}x{height}x{in_channels}-{out_channels} {kernel}x{kernel}/{stride}");
        let work = || Throughput::Elements((IMAGES * shape.multiply_adds()) as u64);
        time(criterion, format!("fprop {name}"), &spans, filters(Direction::Fprop), fprop, work());
        time(criterion, format!("dgrad {name}"), &spans, filters(Direction::Dgrad), dgrad, work());
        time(criterion, format!("wgrad {name}"), &spans, Vec::new(), wgrad, work());
    }
}

criterion_group!(benches, norms, attack, updates, convolutions);
criterion_main!(benches);
