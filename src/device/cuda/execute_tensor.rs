//! Convolutions on tensor cores: operands rounded to bf16, then the kernel.

use super::execute::{Launched, Step, arguments};
use super::fuse::{PixelStep, Share};
use super::launch::{Argument, Grid};
use super::relay::Operand;
use super::tensor::{
    Tile, filter_len, padded, phase_pixels, vectors, wgrad_across, wgrad_parts, wgrad_tiles, wide,
};
use crate::device::operand::Prologue;
use crate::device::ops;
use crate::device::{ConvShape, Direction, FilterId, Op, Span};

impl Step<'_> {
    pub(super) fn tensor_convolution(&self, op: &Op) -> Launched {
        match op {
            Op::LoadFilter(ops::LoadFilter { filter, weights, scale }) => {
                self.tensor_filter(*filter, *weights, *scale)
            }
            Op::Conv(ops::Conv { shape, filter, input, prologue, bias, residual, output }) => {
                if !self.links.has_mask(op) {
                    self.mask(shape, *input, prologue)?;
                }
                let x = self.tensor_input(shape, *input, prologue)?;
                let next = self.links.next.map(|next| next.prologue).unwrap_or_default();
                let (scale, shift) = self.affine(&next);
                let rows = self.count() * shape.out_height() * shape.out_width();
                let tile = Tile::new(rows, shape.out_channels, 1);
                let tiles = tile.across(shape.out_channels);
                let [wide, rounded] = self.addend(*residual, self.links.rounded.residual);
                let list = arguments![
                    x,
                    self.memory.filters[filter.0].address,
                    self.maybe(*bias),
                    wide,
                    rounded,
                    self.stored(*output),
                    self.rounded(*output),
                    rows,
                    shape.out_height(),
                    shape.out_width(),
                    shape.out_channels,
                    tiles,
                    shape.height,
                    shape.width,
                    vectors(shape.in_channels),
                    shape.kernel,
                    shape.stride,
                    shape.pad,
                    self.next(),
                    scale,
                    shift,
                    self.maybe(next.mask),
                    next.relu
                ];
                let grid = Grid::Blocks(tile.down(rows) * tiles, 1);
                if self.links.share == Share::WithSums {
                    let kernel = tile.choose(
                        "conv_fprop_stats_bf16_128x64",
                        "conv_fprop_stats_bf16_64x64",
                        "conv_fprop_stats_bf16_128x16",
                    );
                    let partials = arguments![self.memory.scratch.partials.address];
                    return self.launch(kernel, grid, &joined::<24>(list, partials));
                }
                let kernel =
                    tile.choose("conv_fprop_bf16_128x64", "conv_fprop_bf16_64x64", "conv_fprop_bf16_128x16");
                self.launch(kernel, grid, list)
            }
            Op::ConvDgrad(ops::ConvDgrad { shape, filter, gradient, add, mask, scale, residual, output }) => {
                let g = self.tensor_gradient(shape, *gradient)?;
                let (rows, phases) = (phase_pixels(shape, self.count()), shape.stride * shape.stride);
                let tile = Tile::new(rows, shape.in_channels, phases);
                let tiles = tile.across(shape.in_channels);
                let [add, rounded_add] = self.addend(*add, self.links.rounded.add);
                let [residual, rounded_residual] = self.addend(*residual, self.links.rounded.residual);
                let list = arguments![
                    g,
                    self.memory.filters[filter.0].address,
                    add,
                    rounded_add,
                    self.maybe(*mask),
                    self.maybe(*scale),
                    residual,
                    rounded_residual,
                    self.stored(*output),
                    self.count(),
                    shape.height,
                    shape.width,
                    shape.in_channels,
                    tiles,
                    shape.out_height(),
                    shape.out_width(),
                    vectors(shape.out_channels),
                    shape.kernel,
                    shape.stride,
                    shape.pad
                ];
                let grid = Grid::Blocks(tile.down(rows) * tiles, phases);
                let Share::WithStep(PixelStep { clean, epsilon, alpha, adversarial }) = self.links.share
                else {
                    let kernel = tile.choose(
                        "conv_dgrad_bf16_128x64",
                        "conv_dgrad_bf16_64x64",
                        "conv_dgrad_bf16_128x16",
                    );
                    return self.launch(
                        kernel,
                        grid,
                        &joined::<21>(list, arguments![self.next_or_rounded(*output)]),
                    );
                };
                let [clean, epsilon, alpha, adversarial] =
                    [clean, epsilon, alpha, adversarial].map(|span| self.at(span));
                let step = arguments![clean, epsilon, alpha, adversarial, self.scalars()];
                self.launch("conv_dgrad_pgd_bf16_128x16", grid, &joined::<25>(list, step))
            }
            Op::ConvWgrad(ops::ConvWgrad { shape, input, prologue, gradient, weight_gradient }) => {
                let x = self.tensor_input(shape, *input, prologue)?;
                let g = self.tensor_gradient(shape, *gradient)?;
                self.tensor_wgrad(shape, x, g, *weight_gradient)
            }
            _ => Ok(()),
        }
    }

    fn tensor_filter(&self, filter: FilterId, weights: Span, scale: Option<Span>) -> Launched {
        let spec = &self.specs[filter.0];
        let ConvShape { kernel, stride, in_channels, out_channels, .. } = spec.shape;
        let dgrad = spec.direction == Direction::Dgrad;
        let total = filter_len(spec);
        let list = arguments![
            self.at(weights),
            self.maybe(scale),
            self.memory.filters[filter.0].address,
            total,
            kernel,
            stride,
            out_channels,
            in_channels,
            padded(if dgrad { out_channels } else { in_channels }),
            dgrad
        ];
        self.launch("load_filter_bf16", Grid::Items(total), list)
    }

    /// The address of a convolution's input behind its prologue.
    fn tensor_input(&self, shape: &ConvShape, input: Span, prologue: &Prologue) -> Result<u64, String> {
        let size = (self.count() * shape.height * shape.width, shape.in_channels);
        self.operand(self.links.input, self.at(input), self.affine(prologue), prologue.relu, size)
    }

    /// The address of a convolution's output gradient.
    fn tensor_gradient(&self, shape: &ConvShape, gradient: Span) -> Result<u64, String> {
        let size = (self.count() * shape.out_height() * shape.out_width(), shape.out_channels);
        self.operand(self.links.gradient, self.at(gradient), (0, 0), false, size)
    }

    /// The address of an operand: what is at `from` if that is rounded; else made of it, unless it has been handed on.
    fn operand(
        &self,
        operand: Operand,
        from: u64,
        (scale, shift): (u64, u64),
        relu: bool,
        (pixels, channels): (usize, usize),
    ) -> Result<u64, String> {
        let Some(buffer) = operand.buffer else { return Ok(from) };
        let to = self.memory.scratch.operands[buffer].address;
        if operand.fill {
            let total = pixels * vectors(channels);
            let list = arguments![from, scale, shift, to, total, relu, channels, padded(channels)];
            self.launch("conv_input_bf16", Grid::Items(total), list)?;
        }
        Ok(to)
    }

    fn tensor_wgrad(&self, shape: &ConvShape, x: u64, g: u64, weight_gradient: Span) -> Launched {
        let parts = wgrad_parts(shape, self.count());
        let partials = self.memory.scratch.partials.address;
        let list = arguments![
            x,
            g,
            partials,
            wgrad_across(shape),
            shape.out_height(),
            shape.out_width(),
            vectors(shape.out_channels),
            shape.height,
            shape.width,
            vectors(shape.in_channels),
            shape.kernel,
            shape.stride,
            shape.pad,
            self.count() * shape.out_height() * shape.out_width(),
            parts.rows
        ];
        let kernel = if wide(shape.out_channels) { "conv_wgrad_bf16_64x64" } else { "conv_wgrad_bf16_64x16" };
        self.launch(kernel, Grid::Blocks(wgrad_tiles(shape), parts.count), list)?;
        let (out_channels, in_channels) = (padded(shape.out_channels), padded(shape.in_channels));
        self.wgrad_sum(shape, partials, parts.count, (out_channels, in_channels), weight_gradient)
    }
}

/// Two parts of `N` arguments.
fn joined<const N: usize>(first: &[Argument], rest: &[Argument]) -> [Argument; N] {
    let mut all = first.iter().chain(rest);
    std::array::from_fn(|_| all.next().copied().unwrap_or(Argument::Word(0)))
}
