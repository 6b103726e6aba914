//! How weight gradients are cut into tasks, and how the tasks' sums become one.
//!
//! Images are cut into parts and out channels into cuts by shape and count alone; every task has a
//! sum of its own, and the parts' sums are added in the order of the parts: the result doesn't
//! depend on threads.

use super::super::simd::{Level, Simd, SimdKernel, launch};
use super::gemm::padded;
use super::winograd::POSITIONS;
use crate::device::ConvShape;

/// Out channels of a task: wide filters are cut, so that a task's sum stays near the cache. Each cut
/// transforms the input anew, which is little work beside a wide filter's products.
pub(super) const TASK_CHANNELS: usize = 128;

/// Floats that all sums together may take; the more parts, the better threads are balanced.
const SUM_FLOATS: usize = 2 << 20;

/// How wgrad is cut: images into `parts`, out channels into `cuts`. A function of shape and count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    pub parts: usize,
    pub cuts: usize,
    /// Matrices of a sum, and their rows; a row has a float for each out channel.
    planes: usize,
    plane_rows: usize,
    shape: ConvShape,
}

impl Partition {
    /// For sums of so many matrices of so many rows.
    pub fn new(shape: &ConvShape, [planes, plane_rows]: [usize; 2], count: usize) -> Self {
        let columns = padded(shape.out_channels);
        let parts = (SUM_FLOATS / (planes * plane_rows * columns)).clamp(1, 16).min(count.max(1));
        Self { parts, cuts: columns.div_ceil(TASK_CHANNELS), planes, plane_rows, shape: *shape }
    }

    /// Images of a part: first and count.
    pub fn images(&self, part: usize, count: usize) -> (usize, usize) {
        let start = |part| part * count / self.parts;
        (start(part), start(part + 1) - start(part))
    }

    /// Out channels of a cut: first and count.
    pub fn channels(&self, cut: usize) -> (usize, usize) {
        let first = cut * TASK_CHANNELS;
        (first, TASK_CHANNELS.min(self.shape.out_channels - first))
    }

    /// Floats of one part's sum.
    pub fn sum_len(&self) -> usize {
        self.planes * self.plane_rows * padded(self.shape.out_channels)
    }

    /// Where the sum of out channels from `channel` on (a cut's first) begins in its part's.
    pub fn cut_offset(&self, channel: usize) -> usize {
        self.planes * self.plane_rows * channel
    }

    /// Writes the weight gradient of out channels `16 * block..` from the parts' sums.
    ///
    /// # Safety
    /// `sums` holds every part's sum; `target` the whole filter; no one else writes these channels.
    pub unsafe fn reduce(&self, level: Level, block: usize, sums: *const f32, target: *mut f32) {
        let (channel, count) = self.channels(16 * block / TASK_CHANNELS);
        let columns = padded(count);
        let window = self.shape.kernel * self.shape.kernel;
        let k = 16 * block;
        // SAFETY: the caller's promise.
        unsafe {
            let reduce = Reduce {
                winograd: self.planes == POSITIONS,
                in_channels: self.shape.in_channels,
                window,
                sums: sums.add(self.cut_offset(channel) + k - channel),
                row: columns,
                parts: self.parts,
                part: self.sum_len(),
                target: target.add(k * window * self.shape.in_channels),
                channels: 16.min(self.shape.out_channels - k),
            };
            launch(level, reduce);
        }
    }
}

/// Adds the parts' sums of up to 16 out channels, transforms them back, writes them as KCRS.
struct Reduce {
    winograd: bool,
    in_channels: usize,
    window: usize,
    sums: *const f32,
    /// Floats of a sum's row.
    row: usize,
    parts: usize,
    part: usize,
    target: *mut f32,
    channels: usize,
}

impl SimdKernel for Reduce {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for c in 0..self.in_channels {
            // SAFETY: rows are 16 floats or a multiple; targets are the channels' windows.
            unsafe {
                if self.winograd {
                    let mut g = [[0.0; 16]; 9];
                    for lane in (0..16).step_by(S::LANES) {
                        let mut u = [S::splat(0.0); POSITIONS];
                        for (e, u) in u.iter_mut().enumerate() {
                            *u = self.sum::<S>(e * self.in_channels + c, lane);
                        }
                        for (g, x) in g.iter_mut().zip(transform_back::<S>(&u)) {
                            S::store(g.as_mut_ptr().add(lane), x);
                        }
                    }
                    for k in 0..self.channels {
                        let target = self.target.add((k * self.in_channels + c) * 9);
                        for (i, g) in g.iter().enumerate() {
                            *target.add(i) = g[k];
                        }
                    }
                } else {
                    for tap in 0..self.window {
                        let mut g = [0.0; 16];
                        for lane in (0..16).step_by(S::LANES) {
                            let x = self.sum::<S>(tap * self.in_channels + c, lane);
                            S::store(g.as_mut_ptr().add(lane), x);
                        }
                        for (k, &x) in g.iter().enumerate().take(self.channels) {
                            *self.target.add((k * self.in_channels + c) * self.window + tap) = x;
                        }
                    }
                }
            }
        }
    }
}

impl Reduce {
    /// A vector of the parts' total, in the order of the parts.
    #[inline(always)]
    unsafe fn sum<S: Simd>(&self, row: usize, lane: usize) -> S::V {
        // SAFETY: the row exists in every part.
        unsafe {
            let p = self.sums.add(row * self.row + lane);
            let mut sum = S::load(p);
            for part in 1..self.parts {
                sum = S::add(sum, S::load(p.add(part * self.part)));
            }
            sum
        }
    }
}

/// Gᵀ u.
#[inline(always)]
unsafe fn gt<S: Simd>(u: [S::V; 4]) -> [S::V; 3] {
    // SAFETY: below `launch`.
    unsafe {
        let half = S::splat(0.5);
        let (sum, difference) = (S::mul(half, S::add(u[1], u[2])), S::mul(half, S::sub(u[1], u[2])));
        [S::add(u[0], sum), difference, S::add(sum, u[3])]
    }
}

/// Gᵀ u G.
#[inline(always)]
unsafe fn transform_back<S: Simd>(u: &[S::V; POSITIONS]) -> [S::V; 9] {
    // SAFETY: below `launch`.
    unsafe {
        let mut columns = [[S::splat(0.0); 3]; 4];
        for (j, column) in columns.iter_mut().enumerate() {
            *column = gt::<S>([u[j], u[4 + j], u[8 + j], u[12 + j]]);
        }
        let mut g = [S::splat(0.0); 9];
        for (i, g) in g.chunks_exact_mut(3).enumerate() {
            g.copy_from_slice(&gt::<S>([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]));
        }
        g
    }
}
