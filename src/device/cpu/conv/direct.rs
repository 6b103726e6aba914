//! Every convolution that isn't Winograd's: matrix products over windows.
//!
//! fprop: windows of a block of output rows are copied out (im2col: each window row is a
//! contiguous run of NHWC) and multiplied by the filter as (r, s, c) × k. dgrad: the gradient's
//! pixels times the filter as k × (r, s, c) give each pixel's contribution to its window, which is
//! added to the padded input gradient (col2im): no zero is multiplied, whatever the stride.

use super::super::simd::{Level, Simd, SimdKernel, launch};
use super::epilogue::{Epilogue, FinishPixels};
use super::gemm::{Gemm, padded};
use super::memory::{BumpAllocator, room};
use super::rows::{ProloguePointers, RowRing};
use super::winograd::row_stride;
use crate::device::ConvShape;

/// Floats of a block's windows and results.
const BLOCK_FLOATS: usize = 96 * 1024;

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    pub shape: ConvShape,
    /// Output rows of a block.
    pub block_rows: usize,
}

impl Direct {
    pub fn new(shape: ConvShape) -> Self {
        let floats = row_stride(window_len(&shape)) + row_stride(shape.out_channels);
        let pixels = (BLOCK_FLOATS / floats).clamp(28, 512);
        Self { shape, block_rows: pixels.div_ceil(shape.out_width()) }
    }

    pub fn block_pixels(&self) -> usize {
        self.block_rows * self.shape.out_width()
    }

    /// Images of a parallel task.
    pub fn piece(&self) -> usize {
        (2 * self.block_rows).div_ceil(self.shape.out_height())
    }

    pub fn padded_width(&self) -> usize {
        self.shape.width + 2 * self.shape.pad
    }

    pub fn ring_len(&self) -> usize {
        self.shape.kernel * self.padded_width() * self.shape.in_channels
    }

    pub fn windows_len(&self) -> usize {
        self.block_pixels() * row_stride(window_len(&self.shape))
    }

    pub fn results_len(&self) -> usize {
        self.block_pixels() * row_stride(self.shape.out_channels)
    }

    fn padded_image_len(&self) -> usize {
        (self.shape.height + 2 * self.shape.pad) * self.padded_width() * self.shape.in_channels
    }

    pub fn scratch_len(&self) -> usize {
        let fprop = room(&[self.ring_len(), self.windows_len(), self.results_len()]);
        let dgrad = room(&[self.padded_image_len(), self.windows_len()]);
        fprop.max(dgrad)
    }

    pub fn rows(
        &self,
        level: Level,
        prologue: ProloguePointers,
        input: *const f32,
        buffer: *mut f32,
    ) -> RowRing {
        let s = &self.shape;
        let size = [s.height, s.width, s.in_channels];
        RowRing::new(level, size, s.pad, self.padded_width(), s.kernel, prologue, input, buffer)
    }

    /// Copies the windows of output rows `first..first + count` (over all images) out.
    ///
    /// # Safety
    /// As [`RowRing::fill`]; `windows` has room for a block.
    pub unsafe fn copy_windows(&self, rows: &mut RowRing, first: usize, count: usize, windows: *mut f32) {
        let s = &self.shape;
        let (width, stride) = (s.out_width(), row_stride(window_len(s)));
        for row in first..first + count {
            let (image, y) = (row / s.out_height(), row % s.out_height());
            // SAFETY: the caller's promise.
            unsafe {
                if y == 0 {
                    rows.start(image);
                }
                let top = y * s.stride;
                rows.fill(top, top + s.kernel - 1);
                for r in 0..s.kernel {
                    let run = s.kernel * s.in_channels;
                    launch(
                        rows.level,
                        CopyRuns {
                            source: rows.row(top + r),
                            source_step: s.stride * s.in_channels,
                            target: windows.add((row - first) * width * stride + r * run),
                            target_step: stride,
                            run,
                            runs: width,
                            add: false,
                        },
                    );
                }
                if y + 1 == s.out_height() {
                    rows.finish();
                }
            }
        }
    }

    /// fprop of images `first..first + count`.
    ///
    /// # Safety
    /// `filter` is packed for these sizes; the pointers are valid for the images; the output isn't
    /// the input.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn fprop(
        &self,
        level: Level,
        filter: *const f32,
        first: usize,
        count: usize,
        input: *const f32,
        prologue: ProloguePointers,
        epilogue: Epilogue,
        mut scratch: BumpAllocator,
    ) {
        let s = &self.shape;
        let mut rows = self.rows(level, prologue, input, scratch.take(self.ring_len()));
        let windows = scratch.take(self.windows_len());
        let results = scratch.take(self.results_len());
        let end = (first + count) * s.out_height();
        let mut row = first * s.out_height();
        while row < end {
            let block = self.block_rows.min(end - row);
            let pixels = block * s.out_width();
            // SAFETY: windows and results hold a block; output rows follow each other over images.
            unsafe {
                self.copy_windows(&mut rows, row, block, windows);
                launch(
                    level,
                    Gemm {
                        rows: pixels,
                        columns: padded(s.out_channels),
                        depth: window_len(s),
                        a: windows,
                        a_row: row_stride(window_len(s)),
                        a_depth: 1,
                        b: filter,
                        c: results,
                        c_row: row_stride(s.out_channels),
                        accumulate: false,
                        batch: 1,
                        a_batch: 0,
                        b_batch: 0,
                        c_batch: 0,
                    },
                );
                let stride = row_stride(s.out_channels);
                launch(
                    level,
                    FinishPixels { epilogue, values: results, stride, first: row * s.out_width(), pixels },
                );
            }
            row += block;
        }
    }

    /// dgrad of images `first..first + count`.
    ///
    /// # Safety
    /// As `fprop`.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn dgrad(
        &self,
        level: Level,
        filter: *const f32,
        first: usize,
        count: usize,
        gradient: *const f32,
        epilogue: Epilogue,
        mut scratch: BumpAllocator,
    ) {
        let s = &self.shape;
        let image_len = self.padded_image_len();
        let padded_image = scratch.take(image_len);
        let windows = scratch.take(self.windows_len());
        for image in first..first + count {
            // SAFETY: the padded image and a block's windows fit their memory.
            unsafe {
                padded_image.write_bytes(0, image_len);
                let mut y = 0;
                while y < s.out_height() {
                    let block = self.block_rows.min(s.out_height() - y);
                    let pixel = (image * s.out_height() + y) * s.out_width();
                    self.multiply_gradient(
                        level,
                        filter,
                        gradient.add(pixel * s.out_channels),
                        block,
                        windows,
                    );
                    self.add_windows(level, y, block, windows, padded_image);
                    y += block;
                }
                for y in 0..s.height {
                    let at = ((y + s.pad) * self.padded_width() + s.pad) * s.in_channels;
                    launch(
                        level,
                        FinishPixels {
                            epilogue,
                            values: padded_image.add(at),
                            stride: s.in_channels,
                            first: (image * s.height + y) * s.width,
                            pixels: s.width,
                        },
                    );
                }
            }
        }
    }

    unsafe fn multiply_gradient(
        &self,
        level: Level,
        filter: *const f32,
        gradient: *const f32,
        block: usize,
        windows: *mut f32,
    ) {
        let s = &self.shape;
        // SAFETY: the caller's promise.
        unsafe {
            launch(
                level,
                Gemm {
                    rows: block * s.out_width(),
                    columns: padded(window_len(s)),
                    depth: s.out_channels,
                    a: gradient,
                    a_row: s.out_channels,
                    a_depth: 1,
                    b: filter,
                    c: windows,
                    c_row: row_stride(window_len(s)),
                    accumulate: false,
                    batch: 1,
                    a_batch: 0,
                    b_batch: 0,
                    c_batch: 0,
                },
            );
        }
    }

    unsafe fn add_windows(
        &self,
        level: Level,
        y: usize,
        block: usize,
        windows: *const f32,
        padded_image: *mut f32,
    ) {
        let s = &self.shape;
        let (stride, run) = (row_stride(window_len(s)), s.kernel * s.in_channels);
        // Windows side by side overlap, and a masked store holds up loads from all 64 bytes at its
        // address. So every `phases`-th window goes first, all its rows, then the next: no load
        // comes soon after a store that it would have to wait for.
        let phases = run.next_multiple_of(16).div_ceil(s.stride * s.in_channels).min(s.out_width());
        for i in 0..block {
            for phase in 0..phases {
                for r in 0..s.kernel {
                    let top = (y + i) * s.stride + r;
                    let left = phase * s.stride;
                    // SAFETY: windows lie inside the padded image.
                    unsafe {
                        launch(
                            level,
                            CopyRuns {
                                source: windows.add((i * s.out_width() + phase) * stride + r * run),
                                source_step: phases * stride,
                                target: padded_image.add((top * self.padded_width() + left) * s.in_channels),
                                target_step: phases * s.stride * s.in_channels,
                                run,
                                runs: (s.out_width() - phase).div_ceil(phases),
                                add: true,
                            },
                        );
                    }
                }
            }
        }
    }
}

/// Elements of a window: the depth of fprop's product.
pub(super) fn window_len(shape: &ConvShape) -> usize {
    shape.kernel * shape.kernel * shape.in_channels
}

/// Copies, or adds, `runs` runs of floats.
struct CopyRuns {
    source: *const f32,
    source_step: usize,
    target: *mut f32,
    target_step: usize,
    run: usize,
    runs: usize,
    add: bool,
}

impl SimdKernel for CopyRuns {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for i in 0..self.runs {
            let mut at = 0;
            while at < self.run {
                let n = (self.run - at).min(S::LANES);
                // SAFETY: inside the run.
                unsafe {
                    let (p, q) = (
                        self.source.add(i * self.source_step + at),
                        self.target.add(i * self.target_step + at),
                    );
                    if n == S::LANES {
                        let x = S::load(p);
                        S::store(q, if self.add { S::add(S::load(q), x) } else { x });
                    } else {
                        let x = S::load_partial(p, n);
                        let x = if self.add { S::add(S::load_partial(q, n), x) } else { x };
                        S::store_partial(q, x, n);
                    }
                }
                at += S::LANES;
            }
        }
    }
}
