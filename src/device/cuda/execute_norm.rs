//! Batch norm: sums in parts, then what is derived from them.

use super::execute::{Launched, Step, arguments};
use super::fuse::Share;
use super::geometry::Parts;
use super::launch::{Argument, Grid};
use super::tensor::{Tile, padded};
use crate::device::ops;
use crate::device::{Op, Span};

/// Channels that a block of the sums takes: `CHANNELS` in kernels/norm.cu.
const CHANNELS: usize = 32;
/// Channels of a block that adds the parts: `REDUCE_CHANNELS` in kernels/norm.cu.
const REDUCE_CHANNELS: usize = 2;

impl Step<'_> {
    pub(super) fn norm(&self, op: &Op) -> Launched {
        match op {
            Op::BatchNormAffine(ops::BatchNormAffine { gamma, beta, mean, variance, epsilon, affine }) => {
                let list = arguments![
                    self.at(*gamma),
                    self.at(*beta),
                    self.at(*mean),
                    self.at(*variance),
                    self.at(affine.scale),
                    self.at(affine.shift),
                    gamma.len,
                    *epsilon
                ];
                self.launch("norm_affine", Grid::Items(gamma.len), list)
            }
            Op::BatchNormStats(_) => self.statistics(op),
            Op::BatchNormDgrad(_) => self.norm_dgrad(op),
            _ => Ok(()),
        }
    }

    fn statistics(&self, op: &Op) -> Launched {
        let Op::BatchNormStats(ops::BatchNormStats {
            pixels,
            channels,
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
        }) = op
        else {
            return Ok(());
        };
        let rows = self.count() * pixels;
        let partials = self.memory.scratch.partials.address;
        // A convolution's sums are of its tiles, and not of differences from a row.
        let (parts, pivot) = match self.links.share {
            Share::Summed => (Tile::new(rows, *channels, 1).down(rows), 0),
            _ => {
                let parts = Parts::norm(rows);
                let grid = Grid::Blocks(channels.div_ceil(CHANNELS), parts.count);
                let list = arguments![self.at(*input), partials, rows, *channels, parts.rows];
                self.launch("norm_stats_partial", grid, list)?;
                (parts.count, self.at(*input))
            }
        };
        let list = arguments![
            partials,
            pivot,
            self.at(*gamma),
            self.at(*beta),
            self.at(*running_mean),
            self.at(*running_variance),
            self.at(*mean),
            self.at(*inverse_std),
            self.at(affine.scale),
            self.at(affine.shift),
            rows,
            *channels,
            parts,
            *momentum,
            *epsilon
        ];
        self.launch("norm_stats", Grid::Blocks(channels.div_ceil(REDUCE_CHANNELS), 1), list)
    }

    fn norm_dgrad(&self, op: &Op) -> Launched {
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
            return Ok(());
        };
        let rows = self.count() * pixels;
        let parts = Parts::norm(rows);
        let partials = self.memory.scratch.partials.address;
        let at = |span: &Span| self.at(*span);
        let (mean, inverse_std) = (at(mean), at(inverse_std));
        let (scale, shift) = (self.maybe(relu.map(|map| map.scale)), self.maybe(relu.map(|map| map.shift)));
        let (gamma_gradient, beta_gradient) = (at(gamma_gradient), at(beta_gradient));
        let (x, gradient) = (at(input), at(gradient));
        let grid = Grid::Blocks(channels.div_ceil(CHANNELS), parts.count);
        let list = arguments![x, gradient, mean, scale, shift, partials, rows, *channels, parts.rows];
        self.launch("norm_dgrad_partial", grid, list)?;
        let list = arguments![partials, inverse_std, gamma_gradient, beta_gradient, *channels, parts.count];
        self.launch("norm_dgrad_reduce", Grid::Blocks(channels.div_ceil(REDUCE_CHANNELS), 1), list)?;
        let parts = Parts::norm_dgrad(rows);
        let list = arguments![
            x,
            at(gamma),
            mean,
            inverse_std,
            scale,
            shift,
            gamma_gradient,
            beta_gradient,
            gradient,
            self.maybe(*residual),
            self.stored(*output),
            rows,
            *channels,
            parts.rows,
            self.next(),
            padded(*channels)
        ];
        let grid = Grid::Blocks(channels.div_ceil(CHANNELS), parts.count);
        self.launch("norm_dgrad", grid, list)
    }
}
