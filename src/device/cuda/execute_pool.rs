//! Sums and max pooling.

use super::execute::{Launched, Step, arguments};
use super::launch::{Argument, BLOCK, FOUR, Grid};
use crate::device::Op;
use crate::device::ops;

impl Step<'_> {
    pub(super) fn sum_or_max_pool(&self, op: &Op) -> Launched {
        match op {
            Op::Add(ops::Add { pixels, channels, left, right, output }) => {
                let total = self.count() * pixels * channels;
                let [(scale, shift), (other_scale, other_shift)] =
                    [left, right].map(|term| self.affine(&term.prologue));
                let list = arguments![
                    self.at(left.input),
                    scale,
                    shift,
                    self.at(right.input),
                    other_scale,
                    other_shift,
                    self.at(*output),
                    total,
                    *channels,
                    left.prologue.relu,
                    right.prologue.relu
                ];
                self.launch("add", Grid::Items(total.div_ceil(FOUR)), list)
            }
            Op::MaxPool(ops::MaxPool { shape, input, prologue, output, argmax }) => {
                let pixels = shape.out_height() * shape.out_width();
                let total = self.count() * pixels * shape.pixel_words();
                let (scale, shift) = self.affine(prologue);
                let list = arguments![
                    self.at(*input),
                    scale,
                    shift,
                    self.at(*output),
                    self.maybe(*argmax),
                    total,
                    prologue.relu,
                    shape.height,
                    shape.width,
                    shape.channels,
                    shape.out_height(),
                    shape.out_width(),
                    shape.kernel,
                    shape.stride,
                    shape.pad
                ];
                self.launch("max_pool", Grid::Items(total), list)
            }
            Op::MaxPoolDgrad(ops::MaxPoolDgrad { shape, gradient, argmax, output }) => {
                let row = shape.width * shape.pixel_words();
                let list = arguments![
                    self.at(*gradient),
                    self.at(*argmax),
                    self.at(*output),
                    shape.height,
                    shape.width,
                    shape.channels,
                    shape.out_height(),
                    shape.out_width(),
                    shape.kernel,
                    shape.stride,
                    shape.pad
                ];
                let grid = Grid::Blocks(self.count() * shape.height, row.div_ceil(BLOCK));
                self.launch("max_pool_dgrad", grid, list)
            }
            _ => Ok(()),
        }
    }
}
