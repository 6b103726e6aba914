//! Convolutions: operands of the plan's precision, then the kernel of a tile, with what is fused into it.

use super::norm::column_sums;
use super::tiles::{
    self, Tile, VECTOR, filter_len, padded, phase_pixels, vectors, wgrad_across, wgrad_partials, wgrad_parts,
    wgrad_tiles,
};
use crate::device::cuda::kernels::{
    ConvDgradArgs, ConvFpropArgs, ConvInputArgs, ConvMaskArgs, ConvWgradArgs, ConvWgradReduceArgs, Kernel,
    LoadFilterArgs,
};
use crate::device::cuda::plan::{
    Buffer, ConvOperand, Fusion, Grid, LaunchBuilder, Lowered, PgdStep, Pointer,
};
use crate::device::ops;
use crate::device::{ConvShape, Direction, Precision, Prologue, Span};

/// Threads that make a word of a mask.
const MASK_THREADS: usize = 8;

pub(super) fn load_filter(to: &mut LaunchBuilder, op: &ops::LoadFilter) -> Lowered {
    let &ops::LoadFilter { filter, weights, scale } = op;
    let spec = &to.program.filters[filter.0];
    let ConvShape { kernel, stride, in_channels, out_channels, .. } = spec.shape;
    let dgrad = spec.direction == Direction::Dgrad;
    let total = filter_len(spec);
    let load = of(to, [Kernel::LoadFilterBf16, Kernel::LoadFilterF32]);
    let arguments = LoadFilterArgs {
        weights: to.at(weights),
        scale: to.optional(scale),
        filter: to.filter(filter),
        total,
        kernel,
        stride,
        out_channels,
        in_channels,
        columns: padded(if dgrad { out_channels } else { in_channels }),
        dgrad,
    };
    to.launch(load, Grid::Items(total), arguments)
}

/// fprop's and dgrad's kernels have a bit for each tap.
fn check_taps(shape: &ConvShape) -> Lowered {
    match shape.kernel > tiles::TAPS {
        true => Err(format!("a kernel has at most {} taps a side", tiles::TAPS)),
        false => Ok(()),
    }
}

pub(super) fn conv_wgrad(to: &mut LaunchBuilder, op: &ops::ConvWgrad) -> Lowered {
    let ops::ConvWgrad { shape, input, prologue, gradient, weight_gradient } = op;
    let x = conv_input(to, shape, *input, prologue)?;
    let gradient = output_gradient(to, shape, *gradient)?;
    wgrad(to, shape, x, gradient, *weight_gradient)
}

pub(super) fn conv(to: &mut LaunchBuilder, op: &ops::Conv) -> Lowered {
    let ops::Conv { shape, filter, input, prologue, bias, residual, output } = op;
    check_taps(shape)?;
    if prologue.mask.is_some() && !to.plan.masked {
        mask(to, shape, *input, prologue)?;
    }
    let x = conv_input(to, shape, *input, prologue)?;
    let (pixels, channels) = (shape.out_height() * shape.out_width(), shape.out_channels);
    let rows = to.images(pixels);
    let tile = Tile::new(rows, channels, 1, to.precision);
    let column_tiles = tile.across(channels);
    let (residual, residual_bf16) = to.addend(*residual, to.plan.bf16.residual, pixels, channels);
    let next = to.plan.forward.map(|forward| forward.prologue).unwrap_or_default();
    let (next_scale, next_shift) = to.prologue(&next);
    let stats = to.plan.fusion == Fusion::Stats;
    let kernel = match (to.precision, stats, tile) {
        (Precision::Bf16, false, Tile::T128x64) => Kernel::ConvFpropBf16x128x64,
        (Precision::Bf16, false, Tile::T64x64) => Kernel::ConvFpropBf16x64x64,
        (Precision::Bf16, false, Tile::T128x16) => Kernel::ConvFpropBf16x128x16,
        (Precision::Bf16, true, Tile::T128x64) => Kernel::ConvFpropStatsBf16x128x64,
        (Precision::Bf16, true, Tile::T64x64) => Kernel::ConvFpropStatsBf16x64x64,
        (Precision::Bf16, true, Tile::T128x16) => Kernel::ConvFpropStatsBf16x128x16,
        (Precision::F32, false, Tile::T128x16) => Kernel::ConvFpropF32x128x16,
        (Precision::F32, false, _) => Kernel::ConvFpropF32x64x64,
        (Precision::F32, true, Tile::T128x16) => Kernel::ConvFpropStatsF32x128x16,
        (Precision::F32, true, _) => Kernel::ConvFpropStatsF32x64x64,
    };
    let grid = Grid::Blocks(tile.down(rows) * column_tiles, 1);
    let arguments = ConvFpropArgs {
        x,
        w: to.filter(*filter),
        bias: to.optional(*bias),
        residual,
        residual_bf16,
        y: to.stored(*output),
        y_bf16: to.stored_bf16(*output, pixels, channels),
        next: to.forwarded(pixels, channels),
        next_scale,
        next_shift,
        next_mask: to.optional(next.mask),
        partial: if stats { column_sums(to, rows, channels) } else { None },
        next_relu: next.relu,
        rows,
        out_height: shape.out_height(),
        out_width: shape.out_width(),
        out_channels: channels,
        column_tiles,
        height: shape.height,
        width: shape.width,
        vectors: vectors(shape.in_channels, to.precision),
        kernel: shape.kernel,
        stride: shape.stride,
        pad: shape.pad,
    };
    to.launch_products(kernel, grid, arguments)?;
    if stats {
        to.fused("statistics");
    }
    if to.plan.forward.is_some() {
        to.fused("next operand");
    }
    Ok(())
}

pub(super) fn conv_dgrad(to: &mut LaunchBuilder, op: &ops::ConvDgrad) -> Lowered {
    let &ops::ConvDgrad { ref shape, filter, gradient, add, mask, scale, residual, output } = op;
    check_taps(shape)?;
    let gradient = output_gradient(to, shape, gradient)?;
    let (pixels, channels) = (shape.height * shape.width, shape.in_channels);
    let (rows, phases) = (phase_pixels(shape, to.count), shape.stride * shape.stride);
    let tile = Tile::new(rows, channels, phases, to.precision);
    let column_tiles = tile.across(channels);
    let (add, add_bf16) = to.addend(add, to.plan.bf16.add, pixels, channels);
    let (residual, residual_bf16) = to.addend(residual, to.plan.bf16.residual, pixels, channels);
    let step = if let Fusion::PgdStep(step) = to.plan.fusion { Some(step) } else { None };
    let operand = |span: fn(PgdStep) -> Span| step.and_then(|step| to.at(span(step)));
    let kernel = match (to.precision, step.is_some(), tile) {
        (Precision::Bf16, true, _) => Kernel::ConvDgradPgdBf16,
        (Precision::Bf16, false, Tile::T128x64) => Kernel::ConvDgradBf16x128x64,
        (Precision::Bf16, false, Tile::T64x64) => Kernel::ConvDgradBf16x64x64,
        (Precision::Bf16, false, Tile::T128x16) => Kernel::ConvDgradBf16x128x16,
        (Precision::F32, true, _) => Kernel::ConvDgradPgdF32,
        (Precision::F32, false, Tile::T128x16) => Kernel::ConvDgradF32x128x16,
        (Precision::F32, false, _) => Kernel::ConvDgradF32x64x64,
    };
    let grid = Grid::Blocks(tile.down(rows) * column_tiles, phases);
    let arguments = ConvDgradArgs {
        gradient,
        w: to.filter(filter),
        add,
        add_bf16,
        mask: to.optional(mask),
        scale: to.optional(scale),
        residual,
        residual_bf16,
        output: to.stored(output),
        next: step.map_or_else(|| to.bf16_output(output, pixels, channels), |_| None),
        clean: operand(|step| step.clean),
        epsilons: operand(|step| step.epsilon),
        alphas: operand(|step| step.alpha),
        adversarial: operand(|step| step.adversarial),
        run: step.and_then(|_| to.scalars()),
        count: to.count,
        height: shape.height,
        width: shape.width,
        channels,
        column_tiles,
        out_height: shape.out_height(),
        out_width: shape.out_width(),
        vectors: vectors(shape.out_channels, to.precision),
        kernel: shape.kernel,
        stride: shape.stride,
        pad: shape.pad,
    };
    to.launch_products(kernel, grid, arguments)?;
    if to.plan.forward.is_some() {
        to.fused("next operand");
    }
    Ok(())
}

fn wgrad(
    to: &mut LaunchBuilder,
    shape: &ConvShape,
    x: Pointer,
    gradient: Pointer,
    weight_gradient: Span,
) -> Lowered {
    let parts = wgrad_parts(shape, to.count);
    let (padded_out, padded_in) = (padded(shape.out_channels), padded(shape.in_channels));
    let sums = shape.kernel * shape.kernel * padded_out * padded_in;
    let partial = to.partials(parts.count.saturating_mul(sums), wgrad_partials(shape, to.count));
    let kernel = match (to.precision, tiles::is_wide(shape.out_channels)) {
        (Precision::Bf16, true) => Kernel::ConvWgradBf16x64x64,
        (Precision::Bf16, false) => Kernel::ConvWgradBf16x64x16,
        (Precision::F32, true) => Kernel::ConvWgradF32x64x64,
        (Precision::F32, false) => Kernel::ConvWgradF32x64x16,
    };
    let grid = Grid::Blocks(wgrad_tiles(shape), parts.count);
    let arguments = ConvWgradArgs {
        x,
        gradient,
        partial,
        column_tiles: wgrad_across(shape),
        out_height: shape.out_height(),
        out_width: shape.out_width(),
        out_vectors: vectors(shape.out_channels, to.precision),
        height: shape.height,
        width: shape.width,
        vectors: vectors(shape.in_channels, to.precision),
        kernel: shape.kernel,
        stride: shape.stride,
        pad: shape.pad,
        pixels: to.images(shape.out_height() * shape.out_width()),
        pixels_per_part: parts.rows,
    };
    to.launch_products(kernel, grid, arguments)?;
    wgrad_reduce(to, shape, partial, parts.count, (padded_out, padded_in), weight_gradient)
}

/// The kernel of the plan's precision.
fn of(to: &LaunchBuilder, [bf16, f32]: [Kernel; 2]) -> Kernel {
    if to.precision == Precision::F32 { f32 } else { bf16 }
}

/// Adds the parts of a filter's gradient, whose channels are padded.
pub(super) fn wgrad_reduce(
    to: &mut LaunchBuilder,
    shape: &ConvShape,
    partial: Pointer,
    parts: usize,
    (padded_out, padded_in): (usize, usize),
    weight_gradient: Span,
) -> Lowered {
    let arguments = ConvWgradReduceArgs {
        partial,
        weight_gradient: to.at(weight_gradient),
        total: shape.filter_len(),
        parts,
        taps: shape.kernel * shape.kernel,
        out_channels: shape.out_channels,
        in_channels: shape.in_channels,
        padded_out,
        padded_in,
    };
    to.launch(Kernel::ConvWgradReduce, Grid::Items(shape.filter_len()), arguments)
}

/// The sign bits of a prologue, where they are wanted.
pub(super) fn mask(to: &mut LaunchBuilder, shape: &ConvShape, input: Span, prologue: &Prologue) -> Lowered {
    let Some(mask) = prologue.mask else { return Ok(()) };
    let words = shape.in_channels.div_ceil(32);
    let total = to.images(shape.height * shape.width * words);
    let (scale, shift) = to.prologue(prologue);
    let (input, mask) = (to.at(input), to.at(mask));
    let arguments = ConvMaskArgs { input, scale, shift, mask, total, channels: shape.in_channels, words };
    to.launch(Kernel::ConvMask, Grid::Items(total.saturating_mul(MASK_THREADS)), arguments)
}

/// A convolution's input after its prologue.
fn conv_input(
    to: &mut LaunchBuilder,
    shape: &ConvShape,
    input: Span,
    prologue: &Prologue,
) -> Result<Pointer, String> {
    operand(to, to.plan.input, input, prologue, (shape.height * shape.width, shape.in_channels))
}

fn output_gradient(to: &mut LaunchBuilder, shape: &ConvShape, gradient: Span) -> Result<Pointer, String> {
    let size = (shape.out_height() * shape.out_width(), shape.out_channels);
    operand(to, to.plan.gradient, gradient, &Prologue::default(), size)
}

/// An operand: the tensor itself if it has its form; else a buffer, filled here unless another op does.
fn operand(
    to: &mut LaunchBuilder,
    operand: ConvOperand,
    from: Span,
    prologue: &Prologue,
    (pixels, channels): (usize, usize),
) -> Result<Pointer, String> {
    let Some(buffer) = operand.buffer else { return Ok(to.bf16(from, pixels, channels)) };
    let output = to.buffer(Buffer::Operand(buffer), to.images(pixels * padded(channels)));
    if operand.fill {
        let total = to.images(pixels * padded(channels)) / VECTOR;
        let (scale, shift) = to.prologue(prologue);
        let kernel = of(to, [Kernel::ConvInputBf16, Kernel::ConvInputF32]);
        let arguments = ConvInputArgs {
            input: to.at(from),
            scale,
            shift,
            output,
            total,
            relu: prologue.relu,
            channels,
            padded_channels: padded(channels),
        };
        to.launch(kernel, Grid::Items(total), arguments)?;
    }
    Ok(output)
}
