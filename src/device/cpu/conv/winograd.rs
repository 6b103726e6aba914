//! Winograd convolution F(2×2, 3×3): fprop and dgrad of 3×3 kernels with stride 1.
//!
//! An output tile of 2×2 pixels needs an input tile d of 4×4: Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A (Lavin
//! and Gray, arXiv:1509.09308): 16 multiplications for each pair of channels where the sum over
//! the window needs 36. Summed over input channels, each of the 16 positions is a matrix product
//! of tiles × in channels by in × out channels. dgrad is the same with the filter rotated by half a
//! turn, its channels swapped, and padding 2 − pad.
//!
//! A block of tile rows is transformed, multiplied and transformed back while its V and M are in
//! the second-level cache. V and M are [16][tile][channel], strides a line off powers of two.

use super::super::simd::{Level, Simd, SimdKernel, launch};
use super::epilogue::Epilogue;
use super::gemm::{Gemm, padded};
use super::memory::{BumpAllocator, room};
use super::rows::{ProloguePointers, RowRing};

/// Positions of a transformed tile.
pub(super) const POSITIONS: usize = 16;

/// Distance between rows of a matrix with `n` columns, such that rows don't share cache sets.
pub(super) fn row_stride(n: usize) -> usize {
    let n = padded(n);
    if n.is_multiple_of(256) { n + 16 } else { n }
}

/// Sizes of one convolution, seen from its input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Winograd {
    pub input: [usize; 3],
    pub output: [usize; 3],
    pub pad: usize,
    pub tiles_high: usize,
    pub tiles_wide: usize,
    /// Tile rows of a block.
    pub block_rows: usize,
}

impl Winograd {
    pub fn new(input: [usize; 3], out_channels: usize, pad: usize) -> Self {
        let output = [input[0] + 2 * pad - 2, input[1] + 2 * pad - 2, out_channels];
        let (tiles_high, tiles_wide) = (output[0].div_ceil(2), output[1].div_ceil(2));
        // V and M of a block in about half of a 1 MiB cache; with wide layers more tiles than that,
        // for each transformed filter element read from afar must serve many of them.
        let channels = padded(input[2]) + padded(out_channels);
        let tiles = (BLOCK_FLOATS / (POSITIONS * channels)).clamp(64, 256);
        let block_rows = tiles.div_ceil(tiles_wide);
        Self { input, output, pad, tiles_high, tiles_wide, block_rows }
    }

    /// With at least this many tiles in a block.
    pub fn with_tiles(self, tiles: usize) -> Self {
        Self { block_rows: self.block_rows.max(tiles.div_ceil(self.tiles_wide)), ..self }
    }

    pub fn block_tiles(&self) -> usize {
        self.block_rows * self.tiles_wide
    }

    /// Images of a parallel task: a few blocks.
    pub fn piece(&self) -> usize {
        (2 * self.block_rows).div_ceil(self.tiles_high)
    }

    pub fn padded_width(&self) -> usize {
        2 * self.tiles_wide + 2
    }

    pub fn ring_len(&self) -> usize {
        4 * self.padded_width() * self.input[2]
    }

    /// Floats of V, or of M, for `channels`.
    pub fn block_len(&self, channels: usize) -> usize {
        POSITIONS * (self.block_tiles() * row_stride(channels) + 16)
    }

    pub fn scratch_len(&self) -> usize {
        room(&[self.ring_len(), self.block_len(self.input[2]), self.block_len(self.output[2])])
    }

    pub fn rows(
        &self,
        level: Level,
        prologue: ProloguePointers,
        input: *const f32,
        buffer: *mut f32,
    ) -> RowRing {
        RowRing::new(level, self.input, self.pad, self.padded_width(), 4, prologue, input, buffer)
    }

    /// Transforms tile rows `first..first + count` (counted over all images) into V.
    ///
    /// # Safety
    /// As [`RowRing::fill`]; `v` has room for the tiles, `v_position` apart for each position.
    pub unsafe fn transform_input(
        &self,
        rows: &mut RowRing,
        first: usize,
        count: usize,
        v: *mut f32,
        v_position: usize,
    ) {
        let tile = row_stride(self.input[2]);
        for row in first..first + count {
            let (image, y) = (row / self.tiles_high, row % self.tiles_high);
            // SAFETY: the caller's promise.
            unsafe {
                if y == 0 {
                    rows.start(image);
                }
                rows.fill(2 * y, 2 * y + 3);
                launch(
                    rows.level,
                    InputTransform {
                        rows: std::array::from_fn(|i| rows.row(2 * y + i)),
                        tiles: self.tiles_wide,
                        channels: self.input[2],
                        v: v.add((row - first) * self.tiles_wide * tile),
                        tile,
                        position: v_position,
                    },
                );
                if y + 1 == self.tiles_high {
                    rows.finish();
                }
            }
        }
    }

    /// Convolves images `first..first + count`.
    ///
    /// # Safety
    /// `filter` is the transformed filter of these sizes; the input, prologue and epilogue pointers
    /// are valid for the images; the output isn't the input.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn convolve(
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
        let [_, _, in_channels] = self.input;
        let [height, width, out_channels] = self.output;
        let (v_tile, m_tile) = (row_stride(in_channels), row_stride(out_channels));
        let (v_position, m_position) = (self.block_tiles() * v_tile + 16, self.block_tiles() * m_tile + 16);
        let mut rows = self.rows(level, prologue, input, scratch.take(self.ring_len()));
        let v = scratch.take(self.block_len(in_channels));
        let m = scratch.take(self.block_len(out_channels));
        let end = (first + count) * self.tiles_high;
        let mut row = first * self.tiles_high;
        while row < end {
            let block = self.block_rows.min(end - row);
            // SAFETY: V and M hold a block; pixels of the epilogue are inside the images.
            unsafe {
                self.transform_input(&mut rows, row, block, v, v_position);
                launch(
                    level,
                    Gemm {
                        rows: block * self.tiles_wide,
                        columns: padded(out_channels),
                        depth: in_channels,
                        a: v,
                        a_row: v_tile,
                        a_depth: 1,
                        b: filter,
                        c: m,
                        c_row: m_tile,
                        accumulate: false,
                        batch: POSITIONS,
                        a_batch: v_position,
                        b_batch: in_channels * padded(out_channels),
                        c_batch: m_position,
                    },
                );
                for i in 0..block {
                    let (image, y) = ((row + i) / self.tiles_high, (row + i) % self.tiles_high);
                    launch(
                        level,
                        OutputTransform {
                            m: m.add(i * self.tiles_wide * m_tile),
                            tile: m_tile,
                            position: m_position,
                            tiles: self.tiles_wide,
                            epilogue,
                            pixel: (image * height + 2 * y) * width,
                            width,
                            rows: (height - 2 * y).min(2),
                        },
                    );
                }
            }
            row += block;
        }
    }
}

/// Floats of V and M of a block.
const BLOCK_FLOATS: usize = 128 * 1024;

/// V = Bᵀ d B for a row of tiles.
struct InputTransform {
    rows: [*const f32; 4],
    tiles: usize,
    channels: usize,
    v: *mut f32,
    tile: usize,
    position: usize,
}

/// Bᵀ d.
#[inline(always)]
unsafe fn bt<S: Simd>(d: [S::V; 4]) -> [S::V; 4] {
    // SAFETY: below `launch`.
    unsafe { [S::sub(d[0], d[2]), S::add(d[1], d[2]), S::sub(d[2], d[1]), S::sub(d[1], d[3])] }
}

impl SimdKernel for InputTransform {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut c = 0;
        while c < self.channels {
            let n = (self.channels - c).min(S::LANES);
            // SAFETY: the rows hold 2 · tiles + 2 pixels; V's rows are padded to whole vectors.
            unsafe {
                macro_rules! column {
                    ($x:expr) => {{
                        let mut d = [S::splat(0.0); 4];
                        for (d, row) in d.iter_mut().zip(self.rows) {
                            let p = row.add($x * self.channels + c);
                            *d = if n == S::LANES { S::load(p) } else { S::load_partial(p, n) };
                        }
                        bt::<S>(d)
                    }};
                }
                // Neighbouring tiles share two columns: they move along in registers.
                let (mut w0, mut w1) = (column!(0), column!(1));
                for t in 0..self.tiles {
                    let (w2, w3) = (column!(2 * t + 2), column!(2 * t + 3));
                    let v = self.v.add(t * self.tile + c);
                    for i in 0..4 {
                        let row = bt::<S>([w0[i], w1[i], w2[i], w3[i]]);
                        for (j, x) in row.into_iter().enumerate() {
                            S::store(v.add((4 * i + j) * self.position), x);
                        }
                    }
                    (w0, w1) = (w2, w3);
                }
            }
            c += S::LANES;
        }
    }
}

/// Y = Aᵀ m A for a row of tiles, and the epilogue.
struct OutputTransform {
    m: *const f32,
    tile: usize,
    position: usize,
    tiles: usize,
    epilogue: Epilogue,
    pixel: usize,
    width: usize,
    rows: usize,
}

/// Aᵀ m.
#[inline(always)]
unsafe fn at<S: Simd>(m: [S::V; 4]) -> [S::V; 2] {
    // SAFETY: below `launch`.
    unsafe { [S::add(S::add(m[0], m[1]), m[2]), S::sub(S::sub(m[1], m[2]), m[3])] }
}

impl SimdKernel for OutputTransform {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.epilogue.channels;
        let mut c = 0;
        while c < channels {
            let n = (channels - c).min(S::LANES);
            // SAFETY: M's rows are padded to whole vectors; only pixels inside are finished.
            unsafe {
                match n == S::LANES {
                    true => self.channels::<S, true>(c, n),
                    false => self.channels::<S, false>(c, n),
                }
            }
            c += S::LANES;
        }
    }
}

impl OutputTransform {
    /// A vector of channels of all tiles.
    #[inline(always)]
    unsafe fn channels<S: Simd, const WHOLE: bool>(&self, c: usize, n: usize) {
        for t in 0..self.tiles {
            // SAFETY: as the caller's.
            unsafe {
                let m = self.m.add(t * self.tile + c);
                let mut s = [[S::splat(0.0); 4]; 2];
                #[allow(clippy::needless_range_loop)] // s is filled by columns
                for j in 0..4 {
                    let mut column = [S::splat(0.0); 4];
                    for (i, x) in column.iter_mut().enumerate() {
                        *x = S::load(m.add((4 * i + j) * self.position));
                    }
                    [s[0][j], s[1][j]] = at::<S>(column);
                }
                for (i, s) in s.into_iter().enumerate().take(self.rows) {
                    let y = at::<S>(s);
                    let pixel = self.pixel + i * self.width + 2 * t;
                    self.epilogue.finish::<S, WHOLE>(y[0], pixel, c, n);
                    if 2 * t + 1 < self.width {
                        self.epilogue.finish::<S, WHOLE>(y[1], pixel + 1, c, n);
                    }
                }
            }
        }
    }
}
