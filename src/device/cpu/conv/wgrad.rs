//! Weight gradients, both forms, as sums over one task's images and out channels.
//!
//! Winograd's form is the adjoint of the forward one: dU = Σ over tiles Vᵀ · (A dY Aᵀ); Gᵀ dU G
//! follows in [`super::partition`], where tasks and their sums are explained. The direct form is
//! windowsᵀ · dY.

use super::super::simd::{Level, Simd, SimdKernel, launch};
use super::direct::{Direct, window_len};
use super::gemm::{Gemm, padded, panel_index};
use super::memory::{BumpAllocator, room};
use super::partition::TASK_CHANNELS;
use super::rows::ProloguePointers;
use super::winograd::{POSITIONS, Winograd, row_stride};

/// Scratch of the Winograd form: ring, V and the transformed gradient.
pub(super) fn winograd_scratch_len(w: &Winograd) -> usize {
    let gradient = POSITIONS * w.block_tiles() * padded(w.output[2].min(TASK_CHANNELS));
    room(&[w.ring_len(), w.block_len(w.input[2]), gradient])
}

/// Scratch of the direct form: ring, windows and the gradient in panels.
pub(super) fn direct_scratch_len(d: &Direct) -> usize {
    let columns = padded(d.shape.out_channels.min(TASK_CHANNELS));
    room(&[d.ring_len(), d.windows_len(), d.block_pixels() * columns])
}

/// What a wgrad reads, from image 0 on.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub input: *const f32,
    pub prologue: ProloguePointers,
    pub gradient: *const f32,
}

/// One wgrad task: some images, some out channels.
#[derive(Clone, Copy)]
pub(super) struct Task {
    /// First image and count.
    pub images: (usize, usize),
    /// First out channel and count.
    pub channels: (usize, usize),
    pub operands: Operands,
    /// This task's alone.
    pub sum: *mut f32,
}

impl Winograd {
    /// Adds a task's images up in its sum.
    ///
    /// # Safety
    /// The pointers are valid for the images; the sum has the partition's length.
    pub unsafe fn accumulate(&self, level: Level, task: Task, mut scratch: BumpAllocator) {
        let ((first, count), (channel, channels)) = (task.images, task.channels);
        let [_, _, in_channels] = self.input;
        let [height, width, out_channels] = self.output;
        let v_tile = row_stride(in_channels);
        let v_position = self.block_tiles() * v_tile + 16;
        let mut rows =
            self.rows(level, task.operands.prologue, task.operands.input, scratch.take(self.ring_len()));
        let v = scratch.take(self.block_len(in_channels));
        let columns = padded(channels);
        let d = scratch.take(POSITIONS * self.block_tiles() * columns);
        // SAFETY: the sum's length.
        unsafe { task.sum.write_bytes(0, POSITIONS * in_channels * columns) };
        let end = (first + count) * self.tiles_high;
        let mut row = first * self.tiles_high;
        while row < end {
            let block = self.block_rows.min(end - row);
            let tiles = block * self.tiles_wide;
            // SAFETY: V and D hold a block; gradient rows are inside the images.
            unsafe {
                self.transform_input(&mut rows, row, block, v, v_position);
                for i in 0..block {
                    let (image, y) = ((row + i) / self.tiles_high, (row + i) % self.tiles_high);
                    launch(
                        level,
                        GradientTransform {
                            gradient: task
                                .operands
                                .gradient
                                .add((image * height + 2 * y) * width * out_channels + channel),
                            pixel: out_channels,
                            width,
                            rows: (height - 2 * y).min(2),
                            channels,
                            first_tile: i * self.tiles_wide,
                            tiles: self.tiles_wide,
                            depth: tiles,
                            d,
                        },
                    );
                }
                launch(
                    level,
                    Gemm {
                        rows: in_channels,
                        columns,
                        depth: tiles,
                        a: v,
                        a_row: 1,
                        a_depth: v_tile,
                        b: d,
                        c: task.sum,
                        c_row: columns,
                        accumulate: true,
                        batch: POSITIONS,
                        a_batch: v_position,
                        b_batch: tiles * columns,
                        c_batch: in_channels * columns,
                    },
                );
            }
            row += block;
        }
    }
}

impl Direct {
    /// Adds a task's images up in its sum.
    ///
    /// # Safety
    /// The pointers are valid for the images; the sum has the partition's length.
    pub unsafe fn accumulate(&self, level: Level, task: Task, mut scratch: BumpAllocator) {
        let ((first, count), (channel, channels)) = (task.images, task.channels);
        let s = &self.shape;
        let columns = padded(channels);
        let mut rows =
            self.rows(level, task.operands.prologue, task.operands.input, scratch.take(self.ring_len()));
        let windows = scratch.take(self.windows_len());
        let panels = scratch.take(self.block_pixels() * columns);
        // SAFETY: the sum's length.
        unsafe { task.sum.write_bytes(0, window_len(s) * columns) };
        let end = (first + count) * s.out_height();
        let mut row = first * s.out_height();
        while row < end {
            let block = self.block_rows.min(end - row);
            let pixels = block * s.out_width();
            // SAFETY: windows and panels hold a block; output rows follow each other over images.
            unsafe {
                self.copy_windows(&mut rows, row, block, windows);
                let gradient = task.operands.gradient.add(row * s.out_width() * s.out_channels + channel);
                launch(level, PackPanels { gradient, pixel: s.out_channels, channels, pixels, panels });
                launch(
                    level,
                    Gemm {
                        rows: window_len(s),
                        columns,
                        depth: pixels,
                        a: windows,
                        a_row: 1,
                        a_depth: row_stride(window_len(s)),
                        b: panels,
                        c: task.sum,
                        c_row: columns,
                        accumulate: true,
                        batch: 1,
                        a_batch: 0,
                        b_batch: 0,
                        c_batch: 0,
                    },
                );
            }
            row += block;
        }
    }
}

/// D = A y Aᵀ for a row of tiles, into panels of `depth` rows.
struct GradientTransform {
    gradient: *const f32,
    /// Channels of a pixel.
    pixel: usize,
    width: usize,
    rows: usize,
    channels: usize,
    first_tile: usize,
    tiles: usize,
    depth: usize,
    d: *mut f32,
}

/// A y.
#[inline(always)]
unsafe fn a<S: Simd>(y: [S::V; 2]) -> [S::V; 4] {
    // SAFETY: below `launch`.
    unsafe { [y[0], S::add(y[0], y[1]), S::sub(y[0], y[1]), S::sub(S::splat(0.0), y[1])] }
}

impl SimdKernel for GradientTransform {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let columns = padded(self.channels);
        let position = self.depth * columns;
        for t in 0..self.tiles {
            let across = (self.width - 2 * t).min(2);
            let mut c = 0;
            while c < columns {
                let n = self.channels.saturating_sub(c).min(S::LANES);
                // SAFETY: pixels inside the image, channels inside the pixel; D's panels.
                unsafe {
                    let mut y = [[S::splat(0.0); 2]; 2];
                    for (i, y) in y.iter_mut().enumerate().take(self.rows) {
                        for (j, y) in y.iter_mut().enumerate().take(across) {
                            let p = self.gradient.add((i * self.width + 2 * t + j) * self.pixel + c);
                            if n == S::LANES {
                                *y = S::load(p);
                            } else if n > 0 {
                                *y = S::load_partial(p, n);
                            }
                        }
                    }
                    let (left, right) = (a::<S>([y[0][0], y[1][0]]), a::<S>([y[0][1], y[1][1]]));
                    let at = panel_index(2 * S::LANES, self.depth, columns, self.first_tile + t, c);
                    for i in 0..4 {
                        for (j, x) in a::<S>([left[i], right[i]]).into_iter().enumerate() {
                            S::store(self.d.add((4 * i + j) * position + at), x);
                        }
                    }
                }
                c += S::LANES;
            }
        }
    }
}

/// Gradient pixels into panels, channels padded with zeros.
struct PackPanels {
    gradient: *const f32,
    /// Channels of a pixel.
    pixel: usize,
    channels: usize,
    pixels: usize,
    panels: *mut f32,
}

impl SimdKernel for PackPanels {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let columns = padded(self.channels);
        for i in 0..self.pixels {
            let mut c = 0;
            while c < columns {
                let n = self.channels.saturating_sub(c).min(S::LANES);
                // SAFETY: channels inside the pixel; the panels hold pixels × columns.
                unsafe {
                    let p = self.gradient.add(i * self.pixel + c);
                    let x = match n {
                        0 => S::splat(0.0),
                        n if n == S::LANES => S::load(p),
                        n => S::load_partial(p, n),
                    };
                    S::store(self.panels.add(panel_index(2 * S::LANES, self.pixels, columns, i, c)), x);
                }
                c += S::LANES;
            }
        }
    }
}
