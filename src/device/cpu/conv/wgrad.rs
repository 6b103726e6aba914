//! Weight gradients: both forms, on partial sums with a fixed partition.
//!
//! Winograd's form is the adjoint of the forward one: dU = Σ over tiles Vᵀ · (A dY Aᵀ), then
//! dg = Gᵀ dU G. The direct form is windowsᵀ · dY. Images are cut into parts by shape and count
//! alone; every part has a sum of its own, and the sums are added in the order of the parts: the
//! result doesn't depend on threads.

use super::super::simd::{Kernel, Level, Simd, launch};
use super::direct::{Direct, window_len};
use super::gemm::{Gemm, padded, panel_index};
use super::memory::{Scratch, room};
use super::rows::Prologue;
use super::winograd::{POSITIONS, Winograd, row_stride};
use crate::device::ConvShape;

/// Parts for a filter whose sum has `len` floats: enough to balance threads, fewer where each is
/// large, at most one per image.
pub(super) fn parts(sum_len: usize, count: usize) -> usize {
    let most = if sum_len > 1 << 20 { 2 } else { 8 };
    count.min(most)
}

/// First image of a part.
pub(super) fn part_start(part: usize, parts: usize, count: usize) -> usize {
    part * count / parts
}

/// Floats of one part's sum, Winograd's form: [16][in][padded out].
pub(super) fn winograd_sum_len(shape: &ConvShape) -> usize {
    POSITIONS * shape.in_channels * padded(shape.out_channels)
}

/// Floats of one part's sum, direct form: [(r, s, c)][padded out].
pub(super) fn direct_sum_len(shape: &ConvShape) -> usize {
    window_len(shape) * padded(shape.out_channels)
}

/// Scratch of the Winograd form: ring, V and the transformed gradient.
pub(super) fn winograd_scratch_len(w: &Winograd) -> usize {
    let gradient = POSITIONS * w.block_tiles() * padded(w.output[2]);
    room(&[w.ring_len(), w.block_len(w.input[2]), gradient])
}

/// Scratch of the direct form: ring, windows and the gradient in panels.
pub(super) fn direct_scratch_len(d: &Direct) -> usize {
    room(&[d.ring_len(), d.windows_len(), d.block_pixels() * padded(d.shape.out_channels)])
}

impl Winograd {
    /// Adds images `first..first + count` up in `sum`.
    ///
    /// # Safety
    /// The pointers are valid for the images; `sum` has [`winograd_sum_len`] floats.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn accumulate(
        &self,
        level: Level,
        first: usize,
        count: usize,
        input: *const f32,
        prologue: Prologue,
        gradient: *const f32,
        sum: *mut f32,
        mut scratch: Scratch,
    ) {
        let [_, _, in_channels] = self.input;
        let [height, width, out_channels] = self.output;
        let v_tile = row_stride(in_channels);
        let v_position = self.block_tiles() * v_tile + 16;
        let mut rows = self.rows(level, prologue, input, scratch.take(self.ring_len()));
        let v = scratch.take(self.block_len(in_channels));
        let columns = padded(out_channels);
        let d = scratch.take(POSITIONS * self.block_tiles() * columns);
        // SAFETY: the sum's length.
        unsafe { sum.write_bytes(0, POSITIONS * in_channels * columns) };
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
                            gradient: gradient.add((image * height + 2 * y) * width * out_channels),
                            width,
                            rows: (height - 2 * y).min(2),
                            channels: out_channels,
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
                        c: sum,
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
    /// Adds images `first..first + count` up in `sum`.
    ///
    /// # Safety
    /// The pointers are valid for the images; `sum` has [`direct_sum_len`] floats.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn accumulate(
        &self,
        level: Level,
        first: usize,
        count: usize,
        input: *const f32,
        prologue: Prologue,
        gradient: *const f32,
        sum: *mut f32,
        mut scratch: Scratch,
    ) {
        let s = &self.shape;
        let columns = padded(s.out_channels);
        let mut rows = self.rows(level, prologue, input, scratch.take(self.ring_len()));
        let windows = scratch.take(self.windows_len());
        let panels = scratch.take(self.block_pixels() * columns);
        // SAFETY: the sum's length.
        unsafe { sum.write_bytes(0, window_len(s) * columns) };
        let end = (first + count) * s.out_height();
        let mut row = first * s.out_height();
        while row < end {
            let block = self.block_rows.min(end - row);
            let pixels = block * s.out_width();
            // SAFETY: windows and panels hold a block; output rows follow each other over images.
            unsafe {
                self.copy_windows(&mut rows, row, block, windows);
                let gradient = gradient.add(row * s.out_width() * s.out_channels);
                launch(level, PackPanels { gradient, channels: s.out_channels, pixels, panels });
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
                        c: sum,
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

/// Writes the gradient of in channel `c` (KCRS, all k) from the parts' sums.
///
/// # Safety
/// `sums` holds `parts` sums; `target` the whole filter; no one else writes channel `c`.
pub(super) unsafe fn winograd_reduce(
    shape: &ConvShape,
    c: usize,
    parts: usize,
    sums: *const f32,
    target: *mut f32,
) {
    let columns = padded(shape.out_channels);
    let (position, part) = (shape.in_channels * columns, winograd_sum_len(shape));
    for k in 0..shape.out_channels {
        // SAFETY: the caller's promise.
        unsafe {
            let u: [f32; POSITIONS] = std::array::from_fn(|e| {
                (0..parts).map(|p| *sums.add(p * part + e * position + c * columns + k)).sum()
            });
            let g = transform_back(&u);
            target.add((k * shape.in_channels + c) * 9).copy_from_nonoverlapping(g.as_ptr(), 9);
        }
    }
}

/// As [`winograd_reduce`], for direct sums.
///
/// # Safety
/// As there.
pub(super) unsafe fn direct_reduce(
    shape: &ConvShape,
    c: usize,
    parts: usize,
    sums: *const f32,
    target: *mut f32,
) {
    let columns = padded(shape.out_channels);
    let (window, part) = (shape.kernel * shape.kernel, direct_sum_len(shape));
    for k in 0..shape.out_channels {
        for tap in 0..window {
            // SAFETY: the caller's promise.
            unsafe {
                let at = (tap * shape.in_channels + c) * columns + k;
                let sum = (0..parts).map(|p| *sums.add(p * part + at)).sum();
                *target.add((k * shape.in_channels + c) * window + tap) = sum;
            }
        }
    }
}

/// Gᵀ u G.
fn transform_back(u: &[f32; POSITIONS]) -> [f32; 9] {
    let side = |a: f32, b: f32, c: f32, d: f32| [a + 0.5 * (b + c), 0.5 * (b - c), 0.5 * (b + c) + d];
    let columns: [[f32; 3]; 4] = std::array::from_fn(|j| side(u[j], u[4 + j], u[8 + j], u[12 + j]));
    let mut g = [0.0; 9];
    for i in 0..3 {
        let [a, b, c, d] = std::array::from_fn(|j| columns[j][i]);
        g[3 * i..3 * i + 3].copy_from_slice(&side(a, b, c, d));
    }
    g
}

/// D = A y Aᵀ for a row of tiles, into panels of `depth` rows.
struct GradientTransform {
    gradient: *const f32,
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

impl Kernel for GradientTransform {
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
                            let p = self.gradient.add((i * self.width + 2 * t + j) * self.channels + c);
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
    channels: usize,
    pixels: usize,
    panels: *mut f32,
}

impl Kernel for PackPanels {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let columns = padded(self.channels);
        for i in 0..self.pixels {
            let mut c = 0;
            while c < columns {
                let n = self.channels.saturating_sub(c).min(S::LANES);
                // SAFETY: channels inside the pixel; the panels hold pixels × columns.
                unsafe {
                    let p = self.gradient.add(i * self.channels + c);
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
