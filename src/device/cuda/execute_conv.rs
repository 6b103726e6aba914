//! Convolutions: operands brought into the kernels' form, then the kernel.

use super::execute::{Launched, Step, arguments};
use super::geometry::{Padded, Parts, TILE, class_tiles, filter_len, filter_sides, wgrad_items};
use super::launch::{Argument, Grid};
use super::relay::{GRADIENT, INPUT};
use super::room::{Operand, conv_input, dgrad_gradient, wgrad_gradient};
use crate::device::operand::Prologue;
use crate::device::ops;
use crate::device::{ConvShape, Direction, FilterId, Op, Precision, Span};

/// Threads that make a word of a mask.
const MASK_THREADS: usize = 8;

/// An operand as a kernel reads it.
struct Ready {
    address: u64,
    padded: Padded,
}

impl Step<'_> {
    pub(super) fn convolution(&self, op: &Op) -> Launched {
        match self.precision {
            Precision::F32 => self.plain_convolution(op),
            Precision::Bf16 => self.tensor_convolution(op),
        }
    }

    fn plain_convolution(&self, op: &Op) -> Launched {
        match op {
            Op::LoadFilter(ops::LoadFilter { filter, weights, scale }) => {
                self.load_filter(*filter, *weights, *scale)
            }
            Op::Conv(ops::Conv { shape, filter, input, prologue, bias, residual, output }) => {
                self.mask(shape, *input, prologue)?;
                let x = self.conv_input(shape, *input, prologue)?;
                let (columns, channels) =
                    (shape.out_width().div_ceil(TILE), shape.out_channels.div_ceil(TILE));
                let total = self.count() * shape.out_height() * columns * channels;
                let list = arguments![
                    x.address,
                    self.memory.filters[filter.0].address,
                    self.maybe(*bias),
                    self.maybe(*residual),
                    self.at(*output),
                    total,
                    shape.out_height(),
                    shape.out_width(),
                    shape.out_channels,
                    columns,
                    channels,
                    x.padded.height,
                    x.padded.width,
                    x.padded.channels,
                    shape.kernel,
                    shape.stride
                ];
                self.launch("conv_fprop", Grid::Items(total), list)
            }
            Op::ConvDgrad(ops::ConvDgrad { shape, filter, gradient, add, mask, scale, residual, output }) => {
                let g = self.gradient(shape, *gradient, dgrad_gradient(shape))?;
                let (columns, channels) = (class_tiles(shape), shape.in_channels.div_ceil(TILE));
                let total = self.count() * shape.height * shape.stride * columns * channels;
                let list = arguments![
                    g.address,
                    self.memory.filters[filter.0].address,
                    self.maybe(*add),
                    self.maybe(*mask),
                    self.maybe(*scale),
                    self.maybe(*residual),
                    self.at(*output),
                    total,
                    shape.height,
                    shape.width,
                    shape.in_channels,
                    columns,
                    channels,
                    g.padded.height,
                    g.padded.width,
                    g.padded.channels,
                    g.padded.border,
                    shape.kernel,
                    shape.stride,
                    shape.pad
                ];
                self.launch("conv_dgrad", Grid::Items(total), list)
            }
            Op::ConvWgrad(ops::ConvWgrad { shape, input, prologue, gradient, weight_gradient }) => {
                let x = self.conv_input(shape, *input, prologue)?;
                let g = self.gradient(shape, *gradient, wgrad_gradient(shape))?;
                self.wgrad(shape, x, g, *weight_gradient)
            }
            _ => Ok(()),
        }
    }

    fn load_filter(&self, filter: FilterId, weights: Span, scale: Option<Span>) -> Launched {
        let spec = &self.specs[filter.0];
        let (rows, columns) = filter_sides(spec);
        let total = filter_len(spec);
        let list = arguments![
            self.at(weights),
            self.maybe(scale),
            self.memory.filters[filter.0].address,
            total,
            spec.shape.kernel * spec.shape.kernel,
            spec.shape.out_channels,
            spec.shape.in_channels,
            rows,
            columns,
            spec.direction == Direction::Dgrad
        ];
        self.launch("load_filter", Grid::Items(total), list)
    }

    /// The sign bits of a prologue, where they are wanted.
    pub(super) fn mask(&self, shape: &ConvShape, input: Span, prologue: &Prologue) -> Launched {
        let Some(mask) = prologue.mask else {
            return Ok(());
        };
        let words = shape.in_channels.div_ceil(32);
        let total = self.count() * shape.height * shape.width * words;
        let (scale, shift) = self.affine(prologue);
        let list = arguments![self.at(input), scale, shift, self.at(mask), total, shape.in_channels, words];
        self.launch("conv_mask", Grid::Items(total * MASK_THREADS), list)
    }

    /// A convolution's input behind its prologue.
    fn conv_input(
        &self,
        shape: &ConvShape,
        input: Span,
        prologue: &Prologue,
    ) -> std::result::Result<Ready, String> {
        match conv_input(shape, prologue) {
            Operand::AsItIs(padded) => Ok(Ready { address: self.at(input), padded }),
            Operand::Copy(padded) => {
                let (sizes, to) = (
                    [shape.height, shape.width, shape.in_channels],
                    self.memory.scratch.operands[INPUT].address,
                );
                self.copy_padded(self.at(input), self.affine(prologue), prologue.relu, sizes, to, padded)
            }
        }
    }

    /// A convolution's output gradient.
    fn gradient(
        &self,
        shape: &ConvShape,
        gradient: Span,
        operand: Operand,
    ) -> std::result::Result<Ready, String> {
        match operand {
            Operand::AsItIs(padded) => Ok(Ready { address: self.at(gradient), padded }),
            Operand::Copy(padded) => {
                let sizes = [shape.out_height(), shape.out_width(), shape.out_channels];
                let to = self.memory.scratch.operands[GRADIENT].address;
                self.copy_padded(self.at(gradient), (0, 0), false, sizes, to, padded)
            }
        }
    }

    fn copy_padded(
        &self,
        from: u64,
        (scale, shift): (u64, u64),
        relu: bool,
        [height, width, channels]: [usize; 3],
        to: u64,
        padded: Padded,
    ) -> std::result::Result<Ready, String> {
        let total = self.count() * padded.len();
        let list = arguments![
            from,
            scale,
            shift,
            to,
            total,
            relu,
            height,
            width,
            channels,
            padded.border,
            padded.height,
            padded.width,
            padded.channels
        ];
        self.launch("conv_input", Grid::Items(total), list)?;
        Ok(Ready { address: to, padded })
    }

    fn wgrad(&self, shape: &ConvShape, x: Ready, g: Ready, weight_gradient: Span) -> Launched {
        let rows = self.count() * shape.out_height();
        let parts = Parts::wgrad(shape, rows);
        let partials = self.memory.scratch.partials.address;
        let total = parts.count * wgrad_items(shape);
        let list = arguments![
            x.address,
            g.address,
            partials,
            total,
            shape.out_height(),
            shape.out_width(),
            x.padded.channels / TILE,
            g.padded.channels / TILE,
            x.padded.height,
            x.padded.width,
            shape.kernel,
            shape.stride,
            rows,
            parts.rows
        ];
        self.launch("conv_wgrad", Grid::Items(total), list)?;
        let padded = (g.padded.channels, x.padded.channels);
        self.wgrad_sum(shape, partials, parts.count, padded, weight_gradient)
    }

    /// Adds the parts of a filter's gradient, whose channels are padded.
    pub(super) fn wgrad_sum(
        &self,
        shape: &ConvShape,
        partials: u64,
        parts: usize,
        (padded_out, padded_in): (usize, usize),
        weight_gradient: Span,
    ) -> Launched {
        let total = shape.filter_len();
        let list = arguments![
            partials,
            self.at(weight_gradient),
            total,
            parts,
            shape.kernel * shape.kernel,
            shape.out_channels,
            shape.in_channels,
            padded_out,
            padded_in
        ];
        self.launch("conv_wgrad_reduce", Grid::Items(total), list)
    }
}
