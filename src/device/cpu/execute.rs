//! From ops to kernels: an op's spans become slices.

use super::adaptive_pool::Adaptive;
use super::conv::{self, PackedFilter, PrologueArgs, Threads, Workspace};
use super::gather::{Gather, paint};
use super::generator::{self, Size, Slopes};
use super::memory::{Frame, Memory};
use super::norm::{self, AffineOutputs, Backward, Images, Room, Statistics};
use super::pgd::{self, Ball};
use super::{head, optimiser, pooling, sum};
use crate::data::ImageSet;
use crate::device::check::attached;
use crate::device::ops;
use crate::device::{Affine, FilterId, Op, Prologue, Span};
use crate::error::{Error, Result};

/// What ops share: the regions, the filters in the kernels' form, the images.
pub(super) struct Machine {
    pub memory: Memory,
    pub filters: Vec<PackedFilter>,
    pub images: Vec<Option<ImageSet>>,
}

impl Machine {
    /// [`Op::LoadFilter`], the one op that changes more than the regions.
    pub fn load_filter(&mut self, filter: FilterId, weights: Span, scale: Option<Span>, threads: Threads) {
        let slice = |span: Span| &self.memory.region(span.region)[span.offset..span.offset + span.len];
        self.filters[filter.0].load(slice(weights), scale.map(slice), threads);
    }
}

/// What kernels need beside their operands.
#[derive(Default)]
pub(super) struct Scratch {
    /// Of the convolutions; there once a program is prepared.
    pub workspace: Option<Workspace>,
    /// Of batch norm's reductions.
    pub partials: Vec<f64>,
    /// Of batch norm's backward pass.
    pub coefficients: Vec<f32>,
}

impl Scratch {
    pub fn bytes(&self) -> usize {
        let workspace = self.workspace.as_ref().map_or(0, Workspace::bytes);
        workspace + self.partials.len() * size_of::<f64>() + self.coefficients.len() * size_of::<f32>()
    }
}

/// Runs one op of a checked program (`check::check`): so the spans that an op writes overlap no
/// other of its spans, except where the op may work in place. That is what makes the slices below
/// sound. [`Op::LoadFilter`] is [`Machine::load_filter`]'s.
///
/// # Errors
/// Labels or indices out of range, images of another size.
pub(super) fn execute(op: &Op, frame: Frame, machine: &Machine, scratch: &mut Scratch) -> Result<()> {
    let one_per_channel =
        matches!(op, Op::BatchNormAffine(_) | Op::Sgd(_) | Op::Adam(_) | Op::MovingAverage(_));
    if frame.count() == 0 && !one_per_channel {
        return match op {
            Op::BatchNormStats(_) => Err(Error::run("batch statistics of no images")),
            _ => Ok(()),
        };
    }
    match op {
        Op::Conv(_) | Op::ConvDgrad(_) | Op::ConvWgrad(_) => {
            convolution(op, frame, &machine.filters, scratch)
        }
        Op::BatchNormAffine(_) | Op::BatchNormStats(_) => statistics(op, frame, scratch),
        Op::BatchNormDgrad(_) => norm_dgrad(op, frame, scratch),
        Op::Add(_) => sum(op, frame),
        Op::MaxPool(_) | Op::MaxPoolDgrad(_) => max_pool(op, frame),
        Op::CrossEntropy(_) => return loss(op, frame),
        Op::LoadImages(_) => return gather(op, frame, &machine.images),
        Op::RandomErasing(_) | Op::PgdStart(_) | Op::PgdStep(_) => attack(op, frame),
        Op::Sgd(_) | Op::Adam(_) | Op::MovingAverage(_) | Op::Copy(_) => update(op, frame),
        Op::Upsample(_) | Op::UpsampleDgrad(_) | Op::ScaledTanh(_) | Op::ScaledTanhDgrad(_) => {
            image_network(op, frame)
        }
        _ => classifier(op, frame),
    }
    Ok(())
}

/// A prologue's slices.
///
/// # Safety
/// As [`Frame::input`] and [`Frame::output_words`].
unsafe fn prologue<'a>(frame: Frame<'a>, prologue: &Prologue, masked: bool) -> PrologueArgs<'a> {
    // SAFETY: the caller's promise.
    unsafe {
        PrologueArgs {
            affine: prologue.affine.map(|affine| (frame.input(affine.scale), frame.input(affine.shift))),
            relu: prologue.relu,
            mask: prologue.mask.filter(|_| masked).map(|mask| frame.output_words(mask)),
        }
    }
}

fn convolution(op: &Op, frame: Frame, filters: &[PackedFilter], scratch: &mut Scratch) {
    let Some(workspace) = &mut scratch.workspace else {
        return;
    };
    let (count, threads) = (frame.count(), frame.threads);
    let in_place = |span: &Option<Span>| span.map(|span| frame.pointer(span).cast_const());
    // SAFETY: the operands were checked (`execute`); residual and add, which may be the output, are
    // passed as addresses.
    unsafe {
        match op {
            Op::Conv(ops::Conv { shape, filter, input, prologue: before, bias, residual, output }) => {
                conv::fprop(
                    shape,
                    &filters[filter.0],
                    count,
                    frame.input(*input),
                    prologue(frame, before, true),
                    bias.map(|bias| frame.input(bias)),
                    in_place(residual),
                    frame.pointer(*output),
                    workspace,
                    threads,
                )
            }
            Op::ConvDgrad(ops::ConvDgrad { shape, filter, gradient, add, mask, scale, residual, output }) => {
                conv::dgrad(
                    shape,
                    &filters[filter.0],
                    count,
                    frame.input(*gradient),
                    in_place(add),
                    mask.map(|mask| frame.words(mask)),
                    scale.map(|scale| frame.input(scale)),
                    in_place(residual),
                    frame.pointer(*output),
                    workspace,
                    threads,
                )
            }
            Op::ConvWgrad(ops::ConvWgrad { shape, input, prologue: before, gradient, weight_gradient }) => {
                conv::wgrad(
                    shape,
                    count,
                    frame.input(*input),
                    prologue(frame, before, false),
                    frame.input(*gradient),
                    frame.output(*weight_gradient),
                    workspace,
                    threads,
                )
            }
            _ => {}
        }
    }
}

/// # Safety
/// As [`Frame::output`], for both spans.
unsafe fn affine_outputs<'a>(frame: Frame<'a>, affine: &Affine) -> AffineOutputs<'a> {
    // SAFETY: the caller's promise.
    unsafe { AffineOutputs { scale: frame.output(affine.scale), shift: frame.output(affine.shift) } }
}

fn statistics(op: &Op, frame: Frame, scratch: &mut Scratch) {
    // SAFETY: the operands were checked (`execute`).
    unsafe {
        match op {
            Op::BatchNormAffine(ops::BatchNormAffine { gamma, beta, mean, variance, epsilon, affine }) => {
                norm::affine(
                    frame.input(*gamma),
                    frame.input(*beta),
                    frame.input(*mean),
                    frame.input(*variance),
                    *epsilon,
                    affine_outputs(frame, affine),
                )
            }
            Op::BatchNormStats(ops::BatchNormStats {
                input,
                gamma,
                beta,
                momentum,
                epsilon,
                running_mean,
                running_variance,
                mean,
                inverse_std,
                affine,
                ..
            }) => {
                let statistics = Statistics {
                    gamma: frame.input(*gamma),
                    beta: frame.input(*beta),
                    momentum: *momentum,
                    epsilon: *epsilon,
                    running_mean: frame.output(*running_mean),
                    running_variance: frame.output(*running_variance),
                    mean: frame.output(*mean),
                    inverse_std: frame.output(*inverse_std),
                    affine: affine_outputs(frame, affine),
                };
                norm::statistics(frame.input(*input), &mut scratch.partials, frame.threads, statistics);
            }
            _ => {}
        }
    }
}

fn norm_dgrad(op: &Op, frame: Frame, scratch: &mut Scratch) {
    let Op::BatchNormDgrad(ops::BatchNormDgrad {
        pixels,
        channels,
        input,
        gamma,
        mean,
        inverse_std,
        relu,
        gradient,
        residual,
        output,
        gamma_gradient,
        beta_gradient,
    }) = op
    else {
        return;
    };
    let images = Images {
        len: frame.count() * pixels * channels,
        input: frame.pointer(*input),
        gradient: frame.pointer(*gradient),
        residual: residual.map(|residual| frame.pointer(residual).cast_const()),
        output: frame.pointer(*output),
    };
    let room = Room { partials: &mut scratch.partials, coefficients: &mut scratch.coefficients };
    // SAFETY: the operands were checked (`execute`): the output is disjoint from the others but
    // gradient and residual, which it may equal.
    unsafe {
        let backward = Backward {
            gamma: frame.input(*gamma),
            mean: frame.input(*mean),
            inverse_std: frame.input(*inverse_std),
            relu: relu.map(|affine| (frame.input(affine.scale), frame.input(affine.shift))),
            gamma_gradient: frame.output(*gamma_gradient),
            beta_gradient: frame.output(*beta_gradient),
        };
        norm::dgrad(images, room, frame.threads, backward);
    }
}

fn image_network(op: &Op, frame: Frame) {
    let threads = frame.threads;
    // SAFETY: the operands were checked (`execute`); a gradient that may be the output is passed as an
    // address.
    unsafe {
        match op {
            Op::Upsample(ops::Upsample { height, width, channels, input, prologue: before, output }) => {
                let size = Size { height: *height, width: *width, channels: *channels };
                let before = prologue(frame, before, false);
                generator::upsample(size, frame.input(*input), before, frame.output(*output), threads);
            }
            Op::UpsampleDgrad(ops::UpsampleDgrad { height, width, channels, gradient, output }) => {
                let size = Size { height: *height, width: *width, channels: *channels };
                let (gradient, output) = (frame.input(*gradient), frame.output(*output));
                generator::upsample_dgrad(size, gradient, output, threads);
            }
            Op::ScaledTanh(ops::ScaledTanh { input, affine, output, .. }) => {
                let affine = affine.map(|map| (frame.input(map.scale), frame.input(map.shift)));
                generator::scaled_tanh(frame.input(*input), affine, frame.output(*output), threads);
            }
            Op::ScaledTanhDgrad(ops::ScaledTanhDgrad { input, affine, gradient, scale, output, .. }) => {
                let slopes = Slopes {
                    input: frame.input(*input),
                    affine: affine.map(|map| (frame.input(map.scale), frame.input(map.shift))),
                    gradient: frame.pointer(*gradient),
                    scale: scale.map(|scale| frame.input(scale)),
                    output: frame.pointer(*output),
                };
                generator::scaled_tanh_dgrad(slopes, threads);
            }
            _ => {}
        }
    }
}

fn sum(op: &Op, frame: Frame) {
    let Op::Add(ops::Add { pixels, channels, left, right, output }) = op else {
        return;
    };
    // SAFETY: the operands were checked (`execute`); addends, one of which may be the output, are passed
    // as addresses.
    unsafe {
        let terms = [left, right].map(|term| {
            let PrologueArgs { affine, relu, .. } = prologue(frame, &term.prologue, false);
            sum::Term { input: frame.pointer(term.input).cast_const(), affine, relu }
        });
        let whole = sum::Sum { channels: *channels, terms, output: frame.pointer(*output) };
        sum::sum(frame.count() * pixels, whole, frame.threads);
    }
}

fn max_pool(op: &Op, frame: Frame) {
    let threads = frame.threads;
    // SAFETY: the operands were checked (`execute`).
    unsafe {
        match op {
            Op::MaxPool(ops::MaxPool { shape, input, prologue: before, output, argmax }) => {
                let before = prologue(frame, before, false);
                let argmax = argmax.map(|argmax| frame.output_words(argmax));
                let (input, output) = (frame.input(*input), frame.output(*output));
                pooling::max_pool(shape, before, input, output, argmax, threads);
            }
            Op::MaxPoolDgrad(ops::MaxPoolDgrad { shape, gradient, argmax, output }) => {
                let (gradient, argmax) = (frame.input(*gradient), frame.words(*argmax));
                pooling::max_pool_dgrad(shape, gradient, argmax, frame.output(*output), threads);
            }
            _ => {}
        }
    }
}

fn classifier(op: &Op, frame: Frame) {
    let threads = frame.threads;
    // SAFETY: the operands were checked (`execute`).
    unsafe {
        match op {
            Op::GlobalAvgPool(ops::GlobalAvgPool { pixels, channels, input, output }) => {
                head::pool(*pixels, *channels, frame.input(*input), frame.output(*output), threads);
            }
            Op::GlobalAvgPoolDgrad(ops::GlobalAvgPoolDgrad { pixels, channels, gradient, output }) => {
                head::pool_dgrad(*pixels, *channels, frame.input(*gradient), frame.output(*output), threads);
            }
            &Op::AdaptiveAvgPool(ops::AdaptiveAvgPool { height, width, channels, side, input, output }) => {
                let sizes = Adaptive { height, width, channels, side };
                sizes.forward(frame.input(input), frame.output(output), threads);
            }
            &Op::AdaptiveAvgPoolDgrad(ops::AdaptiveAvgPoolDgrad {
                height,
                width,
                channels,
                side,
                gradient,
                output,
            }) => {
                let sizes = Adaptive { height, width, channels, side };
                sizes.backward(frame.input(gradient), frame.output(output), threads);
            }
            Op::Linear(ops::Linear { inputs, weight, bias, input, output, .. }) => {
                let (weight, bias) = (frame.input(*weight), frame.input(*bias));
                head::linear(*inputs, weight, bias, frame.input(*input), frame.output(*output), threads);
            }
            Op::LinearDgrad(ops::LinearDgrad { inputs, weight, gradient, output, .. }) => {
                let (weight, gradient) = (frame.input(*weight), frame.input(*gradient));
                head::linear_dgrad(*inputs, weight, gradient, frame.output(*output), threads);
            }
            Op::LinearWgrad(ops::LinearWgrad { input, gradient, weight_gradient, bias_gradient, .. }) => {
                head::linear_wgrad(
                    frame.input(*input),
                    frame.input(*gradient),
                    frame.output(*weight_gradient),
                    frame.output(*bias_gradient),
                    threads,
                )
            }
            Op::CosineSimilarity(ops::CosineSimilarity { classes, logits, reference, score }) => {
                let (logits, reference) = (frame.input(*logits), frame.input(*reference));
                head::cosine(*classes, logits, reference, frame.output(*score));
            }
            _ => {}
        }
    }
}

fn loss(op: &Op, frame: Frame) -> Result<()> {
    let Op::CrossEntropy(ops::CrossEntropy { classes, logits, labels, teacher, mean, loss, gradient }) = op
    else {
        return Ok(());
    };
    let spec = head::Loss {
        classes: *classes,
        divisor: if *mean { frame.count() as f64 } else { 1.0 },
        distill_weight: f64::from(frame.params.distill_weight),
        temperature: f64::from(frame.params.temperature),
    };
    // SAFETY: the operands were checked (`execute`).
    unsafe {
        head::cross_entropy(
            spec,
            frame.input(*logits),
            frame.words(*labels),
            teacher.map(|teacher| frame.input(teacher)),
            frame.output(*loss),
            gradient.map(|gradient| frame.output(gradient)),
            frame.threads,
        )
    }
}

fn gather(op: &Op, frame: Frame, images: &[Option<ImageSet>]) -> Result<()> {
    let Op::LoadImages(ops::LoadImages { images: slot, indices, height, width, channels, augment, output }) =
        op
    else {
        return Ok(());
    };
    let gather = Gather {
        images: attached(images, *slot)?,
        height: *height,
        width: *width,
        channels: *channels,
        augment: *augment,
        seed: frame.params.seed,
        epoch: frame.params.epoch,
    };
    // SAFETY: the operands were checked (`execute`).
    unsafe { gather.run(frame.words(*indices), frame.output(*output), frame.threads) }
}

fn attack(op: &Op, frame: Frame) {
    let (params, threads) = (frame.params, frame.threads);
    // SAFETY: the operands were checked (`execute`).
    unsafe {
        match op {
            Op::RandomErasing(ops::RandomErasing { indices, height, width, images, .. }) => {
                let images = frame.output(*images);
                paint((*height, *width), frame.words(*indices), images, params, threads);
            }
            Op::PgdStart(ops::PgdStart { elements, clean, indices, epsilon, norm, adversarial }) => {
                let (clean, epsilon) = (frame.input(*clean), frame.input(*epsilon));
                let ball = Ball { elements: *elements, norm: *norm, clean, epsilon };
                pgd::start(ball, frame.words(*indices), frame.output(*adversarial), params, threads);
            }
            Op::PgdStep(ops::PgdStep { elements, clean, gradient, epsilon, alpha, norm, adversarial }) => {
                let (clean, epsilon) = (frame.input(*clean), frame.input(*epsilon));
                let ball = Ball { elements: *elements, norm: *norm, clean, epsilon };
                let (gradient, alpha) = (frame.input(*gradient), frame.input(*alpha));
                pgd::step(ball, gradient, alpha, frame.output(*adversarial), params, threads);
            }
            _ => {}
        }
    }
}

fn update(op: &Op, frame: Frame) {
    let (params, threads) = (frame.params, frame.threads);
    // SAFETY: the operands were checked (`execute`).
    unsafe {
        match op {
            Op::Sgd(ops::Sgd { weights, gradients, momentum }) => {
                let (weights, velocity) = (frame.output(*weights), frame.output(*momentum));
                optimiser::sgd(weights, frame.input(*gradients), velocity, params, threads);
            }
            Op::Adam(ops::Adam { weights, gradients, first, second }) => {
                let moments = (frame.output(*first), frame.output(*second));
                optimiser::adam(frame.output(*weights), frame.input(*gradients), moments, params, threads);
            }
            Op::MovingAverage(ops::MovingAverage { weights, average }) if params.average_decay > 0.0 => {
                let decay = params.average_decay;
                optimiser::moving_average(frame.output(*average), frame.input(*weights), decay, threads);
            }
            Op::Copy(ops::Copy { input, output, .. }) => {
                frame.output(*output).copy_from_slice(frame.input(*input))
            }
            _ => {}
        }
    }
}
