//! Max pooling, adaptive pooling, sums of two tensors, and what image networks have beside a classifier's layers.

use super::VEC4;
use crate::device::cuda::kernels::{
    AdaptiveAvgPoolArgs, AdaptiveAvgPoolDgradArgs, AddArgs, Kernel, MaxPoolArgs, MaxPoolDgradArgs,
    ScaledTanhArgs, ScaledTanhDgradArgs, UpsampleArgs, UpsampleDgradArgs,
};
use crate::device::cuda::plan::{BLOCK, Grid, LaunchBuilder, Lowered};
use crate::device::ops;

pub(super) fn add(to: &mut LaunchBuilder, op: &ops::Add) -> Lowered {
    let ops::Add { pixels, channels, left, right, output } = op;
    let total = to.images(pixels * channels);
    let (left_scale, left_shift) = to.prologue(&left.prologue);
    let (right_scale, right_shift) = to.prologue(&right.prologue);
    let arguments = AddArgs {
        left: to.at(left.input),
        left_scale,
        left_shift,
        right: to.at(right.input),
        right_scale,
        right_shift,
        output: to.at(*output),
        total,
        channels: *channels,
        left_relu: left.prologue.relu,
        right_relu: right.prologue.relu,
    };
    to.launch(Kernel::Add, Grid::Items(total.div_ceil(VEC4)), arguments)
}

pub(super) fn max_pool(to: &mut LaunchBuilder, op: &ops::MaxPool) -> Lowered {
    let ops::MaxPool { shape, input, prologue, output, argmax } = op;
    let total = to.images(shape.out_height() * shape.out_width() * shape.pixel_words());
    let (scale, shift) = to.prologue(prologue);
    let arguments = MaxPoolArgs {
        input: to.at(*input),
        scale,
        shift,
        output: to.at(*output),
        argmax: to.optional(*argmax),
        total,
        relu: prologue.relu,
        height: shape.height,
        width: shape.width,
        channels: shape.channels,
        out_height: shape.out_height(),
        out_width: shape.out_width(),
        kernel: shape.kernel,
        stride: shape.stride,
        pad: shape.pad,
    };
    to.launch(Kernel::MaxPool, Grid::Items(total), arguments)
}

pub(super) fn max_pool_dgrad(to: &mut LaunchBuilder, op: &ops::MaxPoolDgrad) -> Lowered {
    let ops::MaxPoolDgrad { shape, gradient, argmax, output } = op;
    let arguments = MaxPoolDgradArgs {
        gradient: to.at(*gradient),
        argmax: to.at(*argmax),
        output: to.at(*output),
        height: shape.height,
        width: shape.width,
        channels: shape.channels,
        out_height: shape.out_height(),
        out_width: shape.out_width(),
        kernel: shape.kernel,
        stride: shape.stride,
        pad: shape.pad,
    };
    let blocks = (shape.width * shape.pixel_words()).div_ceil(BLOCK);
    to.launch(Kernel::MaxPoolDgrad, Grid::Blocks(to.images(shape.height), blocks), arguments)
}

pub(super) fn adaptive_avg_pool(to: &mut LaunchBuilder, op: &ops::AdaptiveAvgPool) -> Lowered {
    let &ops::AdaptiveAvgPool { height, width, channels, side, input, output } = op;
    let total = to.images(side * side * channels);
    let (input, output) = (to.at(input), to.at(output));
    let arguments = AdaptiveAvgPoolArgs { input, output, total, height, width, channels, side };
    to.launch(Kernel::AdaptiveAvgPool, Grid::Items(total), arguments)
}

pub(super) fn adaptive_avg_pool_dgrad(to: &mut LaunchBuilder, op: &ops::AdaptiveAvgPoolDgrad) -> Lowered {
    let &ops::AdaptiveAvgPoolDgrad { height, width, channels, side, gradient, output } = op;
    let total = to.images(height * width * channels);
    let (gradient, output) = (to.at(gradient), to.at(output));
    let arguments = AdaptiveAvgPoolDgradArgs { gradient, output, total, height, width, channels, side };
    to.launch(Kernel::AdaptiveAvgPoolDgrad, Grid::Items(total), arguments)
}

pub(super) fn upsample(to: &mut LaunchBuilder, op: &ops::Upsample) -> Lowered {
    let ops::Upsample { height, width, channels, input, prologue, output } = op;
    let total = to.images(4 * height * width * channels);
    let (scale, shift) = to.prologue(prologue);
    let arguments = UpsampleArgs {
        input: to.at(*input),
        scale,
        shift,
        output: to.at(*output),
        total,
        height: *height,
        width: *width,
        channels: *channels,
        relu: prologue.relu,
    };
    to.launch(Kernel::Upsample, Grid::Items(total), arguments)
}

pub(super) fn upsample_dgrad(to: &mut LaunchBuilder, op: &ops::UpsampleDgrad) -> Lowered {
    let ops::UpsampleDgrad { height, width, channels, gradient, output } = op;
    let total = to.images(height * width * channels);
    let arguments = UpsampleDgradArgs {
        gradient: to.at(*gradient),
        output: to.at(*output),
        total,
        height: *height,
        width: *width,
        channels: *channels,
    };
    to.launch(Kernel::UpsampleDgrad, Grid::Items(total), arguments)
}

pub(super) fn scaled_tanh(to: &mut LaunchBuilder, op: &ops::ScaledTanh) -> Lowered {
    let ops::ScaledTanh { pixels, channels, input, affine, output } = op;
    let total = to.images(pixels * channels);
    let (scale, shift) = to.affine(*affine);
    let (input, output) = (to.at(*input), to.at(*output));
    let arguments = ScaledTanhArgs { input, scale, shift, output, total, channels: *channels };
    to.launch(Kernel::ScaledTanh, Grid::Items(total), arguments)
}

pub(super) fn scaled_tanh_dgrad(to: &mut LaunchBuilder, op: &ops::ScaledTanhDgrad) -> Lowered {
    let ops::ScaledTanhDgrad { pixels, channels, input, affine, gradient, scale: factor, output } = op;
    let total = to.images(pixels * channels);
    let (scale, shift) = to.affine(*affine);
    let arguments = ScaledTanhDgradArgs {
        input: to.at(*input),
        scale,
        shift,
        gradient: to.at(*gradient),
        factor: to.optional(*factor),
        output: to.at(*output),
        total,
        channels: *channels,
    };
    to.launch(Kernel::ScaledTanhDgrad, Grid::Items(total), arguments)
}
