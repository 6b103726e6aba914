//! fprop and dgrad in bf16: images are packed into lines, multiplied block by block, and finished in f32.

use std::arch::x86_64::*;

use super::super::epilogue::Epilogue;
use super::super::memory::{BumpAllocator, room};
use super::super::rows::ProloguePointers;
use super::filter::{COLUMNS, tiles_of};
use super::layout::{LINE, Layout, Tile};
use super::pack::{Source, lanes};
use super::unit::{DEPTH, MatrixUnit, Product, SIDE, TILE};

/// Bytes of lines that a task packs at a time, with its share of the filter within a core's second-level cache.
const TASK_BYTES: usize = 512 << 10;

/// A convolution of one direction.
pub struct Convolution<'a> {
    pub unit: MatrixUnit,
    pub layout: &'a Layout,
    /// Channels of the source.
    pub depth: usize,
    /// Channels of the output.
    pub columns: usize,
    /// The filter's tiles.
    pub filter: *const u8,
}

/// Bytes of a group's lines.
fn group_bytes(layout: &Layout, depth: usize) -> usize {
    depth.div_ceil(DEPTH) * layout.lines.len() * LINE
}

/// Groups that a task packs.
fn groups(layout: &Layout, depth: usize) -> usize {
    (TASK_BYTES / group_bytes(layout, depth)).max(1)
}

/// Images of a task.
pub fn piece(layout: &Layout, depth: usize) -> usize {
    groups(layout, depth) * layout.group
}

/// Floats of a task's scratch.
pub fn scratch_len(layout: &Layout, depth: usize) -> usize {
    room(&[groups(layout, depth) * group_bytes(layout, depth) / size_of::<f32>(), COLUMNS * COLUMNS])
}

impl Convolution<'_> {
    /// Convolves images `first..first + count`.
    ///
    /// # Safety
    /// The machine has the unit. Source, prologue and epilogue are valid for the images, which are one task's.
    pub unsafe fn run(
        &self,
        first: usize,
        count: usize,
        source: *const f32,
        prologue: ProloguePointers,
        epilogue: Epilogue,
        mut scratch: BumpAllocator,
    ) {
        let layout = self.layout;
        let bytes = group_bytes(layout, self.depth);
        let count_of_groups = count.div_ceil(layout.group);
        let lines = scratch.take(count_of_groups * bytes / size_of::<f32>()).cast::<u8>();
        let values = scratch.take(COLUMNS * COLUMNS);
        for group in 0..count_of_groups {
            let image = first + group * layout.group;
            let images = layout.group.min(first + count - image);
            // SAFETY: the images are there.
            unsafe {
                self.source(image, images, source, prologue)
                    .pack_lines(&layout.lines, lines.add(group * bytes));
            }
        }
        let blocks = Blocks { convolution: self, lines, bytes, first, count, values, epilogue };
        // SAFETY: the caller's promise.
        unsafe {
            self.unit.configure();
            blocks.run();
            self.unit.release();
        }
    }

    unsafe fn source(
        &self,
        image: usize,
        images: usize,
        values: *const f32,
        prologue: ProloguePointers,
    ) -> Source {
        let pixel = image * self.layout.source_pixels;
        let mask = match prologue.mask.is_null() {
            true => prologue.mask,
            // SAFETY: the mask is that of image 0.
            false => unsafe { prologue.mask.add(pixel * self.depth.div_ceil(DEPTH)) },
        };
        Source {
            // SAFETY: the images are there.
            values: unsafe { values.add(pixel * self.depth) },
            channels: self.depth,
            pixels: images * self.layout.source_pixels,
            prologue: ProloguePointers { mask, ..prologue },
        }
    }
}

/// The products of a task.
struct Blocks<'a> {
    convolution: &'a Convolution<'a>,
    lines: *const u8,
    /// Bytes of a group's lines.
    bytes: usize,
    first: usize,
    count: usize,
    /// A block of C.
    values: *mut f32,
    epilogue: Epilogue,
}

impl Blocks<'_> {
    /// Columns first, so that a block of the filter stays in the cache while all pixels pass by.
    ///
    /// # Safety
    /// As [`Convolution::run`].
    unsafe fn run(&self) {
        let Convolution { layout, columns, depth, filter, .. } = *self.convolution;
        let depth_blocks = depth.div_ceil(DEPTH);
        let groups = self.count.div_ceil(layout.group);
        let mut filter = filter;
        for block in 0..columns.div_ceil(COLUMNS) {
            let tiles = tiles_of(columns, block);
            for part in &layout.parts {
                let all = groups * part.tiles.len();
                for pair in (0..all).step_by(2) {
                    let places = [pair, (pair + 1).min(all - 1)]
                        .map(|i| (i / part.tiles.len(), &part.tiles[i % part.tiles.len()]));
                    // SAFETY: the lines of the tiles were packed.
                    unsafe {
                        let a =
                            places.map(|(group, tile)| self.lines.add(group * self.bytes + tile.line * LINE));
                        let product = Product {
                            a,
                            a_row: LINE,
                            offsets: &part.offsets,
                            blocks: depth_blocks,
                            a_block: layout.lines.len() * LINE,
                            b: [filter, filter.add((tiles - 1) * TILE)],
                            b_step: tiles * TILE,
                            b_block: part.taps.len() * tiles * TILE,
                            c: self.values,
                            c_row: COLUMNS,
                            accumulate: false,
                        };
                        let rows = 2.min(all - pair);
                        product.run(self.convolution.unit, rows, tiles);
                        for (half, (group, tile)) in places.into_iter().enumerate().take(rows) {
                            self.finish(block * COLUMNS, tiles, half, (group, tile));
                        }
                    }
                }
                // SAFETY: the next part's tiles follow.
                filter = unsafe { filter.add(depth_blocks * part.taps.len() * tiles * TILE) };
            }
        }
    }

    /// The epilogue of a tile's rows.
    unsafe fn finish(&self, column: usize, tiles: usize, half: usize, (group, tile): (usize, &Tile)) {
        let layout = self.convolution.layout;
        let image = group * layout.group;
        let images = layout.group.min(self.count - image);
        let rows = FinishRows {
            epilogue: &self.epilogue,
            // SAFETY: rows of this tile in the block of C.
            values: unsafe { self.values.add(half * SIDE * COLUMNS) },
            pixels: &tile.pixels,
            end: images * layout.output_pixels,
            first: (self.first + image) * layout.output_pixels,
            column,
            tiles,
        };
        // SAFETY: a machine with a matrix unit has AVX-512; the pixels are this task's.
        unsafe { rows.run() };
    }
}

/// The epilogue of 16 pixels' channels from `column` on, at most 32 of them.
struct FinishRows<'a> {
    epilogue: &'a Epilogue,
    values: *const f32,
    pixels: &'a [u32; SIDE],
    /// Pixels of the group that there are.
    end: usize,
    /// The group's first pixel.
    first: usize,
    column: usize,
    /// Of 16 channels each.
    tiles: usize,
}

impl FinishRows<'_> {
    #[target_feature(enable = "avx512f")]
    unsafe fn run(&self) {
        let e = self.epilogue;
        // SAFETY: the caller's promise.
        unsafe {
            match (e.add.is_null(), e.mask.is_null(), e.residual.is_null()) {
                (true, true, true) => self.rows::<false, false, false>(),
                (true, true, false) => self.rows::<false, false, true>(),
                (true, false, true) => self.rows::<false, true, false>(),
                (true, false, false) => self.rows::<false, true, true>(),
                (false, true, true) => self.rows::<true, false, false>(),
                (false, true, false) => self.rows::<true, false, true>(),
                (false, false, true) => self.rows::<true, true, false>(),
                (false, false, false) => self.rows::<true, true, true>(),
            }
        }
    }

    /// ((v + bias + add) ⊙ mask) · scale + residual; a bias that there isn't is 0, a scale 1.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn rows<const ADD: bool, const MASK: bool, const RESIDUAL: bool>(&self) {
        let e = self.epilogue;
        let words = e.channels.div_ceil(COLUMNS);
        // SAFETY: lanes beyond the channels are neither read nor written; the pixels are there.
        unsafe {
            let halves = [self.column, self.column + SIDE].map(|c| {
                let lanes = lanes(e.channels, c);
                let of = |p: *const f32, none: f32| match p.is_null() {
                    true => _mm512_set1_ps(none),
                    false => _mm512_maskz_loadu_ps(lanes, p.add(c)),
                };
                (c, lanes, of(e.bias, 0.0), of(e.scale, 1.0))
            });
            for (row, &pixel) in self.pixels.iter().enumerate() {
                if pixel as usize >= self.end {
                    continue;
                }
                let pixel = self.first + pixel as usize;
                let word = if MASK { *e.mask.add(pixel * words + self.column / COLUMNS) } else { 0 };
                for (half, &(c, lanes, bias, scale)) in halves.iter().enumerate().take(self.tiles) {
                    let at = pixel * e.channels + c;
                    let mut v = _mm512_loadu_ps(self.values.add(row * COLUMNS + half * SIDE));
                    v = _mm512_add_ps(v, bias);
                    if ADD {
                        v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(lanes, e.add.add(at)));
                    }
                    if MASK {
                        v = _mm512_maskz_mov_ps((word >> (half * SIDE)) as u16, v);
                    }
                    v = _mm512_mul_ps(v, scale);
                    if RESIDUAL {
                        v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(lanes, e.residual.add(at)));
                    }
                    _mm512_mask_storeu_ps(e.output.add(at), lanes, v);
                }
            }
        }
    }
}
