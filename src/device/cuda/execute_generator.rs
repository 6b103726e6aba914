//! What image networks have beside a classifier's layers.

use super::execute::{Launched, Step, arguments};
use super::launch::{Argument, Grid};
use crate::device::ops;
use crate::device::{Affine, Op};

impl Step<'_> {
    pub(super) fn generator(&self, op: &Op) -> Launched {
        let count = self.count();
        let ends =
            |map: &Option<Affine>| (self.maybe(map.map(|m| m.scale)), self.maybe(map.map(|m| m.shift)));
        match op {
            Op::Upsample(ops::Upsample { height, width, channels, input, prologue, output }) => {
                let total = count * 4 * height * width * channels;
                let (scale, shift) = ends(&prologue.affine);
                let list = arguments![
                    self.at(*input),
                    scale,
                    shift,
                    self.at(*output),
                    total,
                    *height,
                    *width,
                    *channels,
                    prologue.relu
                ];
                self.launch("upsample", Grid::Items(total), list)
            }
            Op::UpsampleDgrad(ops::UpsampleDgrad { height, width, channels, gradient, output }) => {
                let total = count * height * width * channels;
                let (gradient, output) = (self.at(*gradient), self.at(*output));
                let list = arguments![gradient, output, total, *height, *width, *channels];
                self.launch("upsample_dgrad", Grid::Items(total), list)
            }
            Op::ScaledTanh(ops::ScaledTanh { pixels, channels, input, affine, output }) => {
                let total = count * pixels * channels;
                let (scale, shift) = ends(affine);
                let list = arguments![self.at(*input), scale, shift, self.at(*output), total, *channels];
                self.launch("scaled_tanh", Grid::Items(total), list)
            }
            Op::ScaledTanhDgrad(ops::ScaledTanhDgrad {
                pixels,
                channels,
                input,
                affine,
                gradient,
                scale: factor,
                output,
            }) => {
                let total = count * pixels * channels;
                let (scale, shift) = ends(affine);
                let list = arguments![
                    self.at(*input),
                    scale,
                    shift,
                    self.at(*gradient),
                    self.maybe(*factor),
                    self.at(*output),
                    total,
                    *channels
                ];
                self.launch("scaled_tanh_dgrad", Grid::Items(total), list)
            }
            _ => Ok(()),
        }
    }
}
