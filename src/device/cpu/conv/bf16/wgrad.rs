//! Weight gradients in bf16: A is the output's gradient, a row for each out channel; B the input; their depth is pixels.
//!
//! Both go over the input's lines, padding and the gaps between rows included, where the gradient is zero. So a tap is a
//! shift of B by some pixels. B's rows are pairs of pixels, so it is there twice: pairs from even places, and from odd.
//!
//! Tried before: the input as A, a row for each channel, where a shift is an unaligned read. Its rows lie far apart, and
//! the products took three times as long.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::Threads;
use super::super::gemm::padded;
use super::super::memory::{AlignedBuffer, BumpAllocator, SyncPointers, for_pieces, room};
use super::super::partition::{Partition, TASK_CHANNELS};
use super::super::rows::ProloguePointers;
use super::super::wgrad::{Operands, Task};
use super::layout::{LINE, Layout};
use super::pack::{Source, lanes};
use super::unit::{DEPTH, MatrixUnit, Product, SIDE, TILE};
use crate::device::ConvShape;

/// Bytes of the input that a task packs at a time, of so many tiles of in channels: many images, for each chunk reads and
/// writes the whole sum.
const CHUNK_BYTES: usize = 768 << 10;
const COLUMN_TILES: usize = 8;

/// A convolution's wgrad.
pub struct Wgrad {
    shape: ConvShape,
    layout: Layout,
    /// The gradient's pixels, in the order of lines.
    outputs: Vec<u32>,
    /// Bytes from each step's tile of A to the next.
    steps: Vec<usize>,
}

impl Wgrad {
    pub fn new(shape: &ConvShape) -> Self {
        let layout = Layout::for_wgrad(shape);
        let outputs = layout.outputs();
        let steps = (0..outputs.len() / DEPTH).map(|step| step * TILE).collect();
        Self { shape: *shape, layout, outputs, steps }
    }

    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Floats of a row of the sum: in channels, whole tiles.
    pub fn columns(&self) -> usize {
        padded(self.shape.in_channels)
    }

    /// Bytes of 16 channels' pairs of a group, at even or at odd places.
    fn pair_bytes(&self) -> usize {
        self.layout.lines.len() / 2 * LINE
    }

    /// Bytes of 16 channels' tiles of A of a group.
    fn row_bytes(&self) -> usize {
        self.steps.len() * TILE
    }

    /// Tiles of in channels at a time.
    fn columns_at_once(&self) -> usize {
        (self.columns() / SIDE).min(COLUMN_TILES)
    }

    /// Groups of images at a time.
    fn groups(&self) -> usize {
        (CHUNK_BYTES / (2 * self.columns_at_once() * self.pair_bytes())).max(1)
    }

    /// Floats of a task's scratch.
    pub fn scratch_len(&self) -> usize {
        let rows = self.shape.out_channels.min(TASK_CHANNELS).div_ceil(SIDE);
        let bytes = [2 * self.columns_at_once() * self.pair_bytes(), rows * self.row_bytes()];
        room(&bytes.map(|bytes| self.groups() * bytes / size_of::<f32>()))
    }

    /// Adds a task's images up in its sum: [tap][out channel][in channel].
    ///
    /// # Safety
    /// The machine has the unit; the pointers are valid for the images; the sum has room for whole tiles.
    unsafe fn accumulate(&self, unit: MatrixUnit, task: Task, mut scratch: BumpAllocator) {
        let ((first, count), (_, channels)) = (task.images, task.channels);
        let (rows, at_once) = (channels.div_ceil(SIDE), self.columns_at_once());
        let room = |bytes: usize| self.groups() * bytes / size_of::<f32>();
        let pairs = scratch.take(room(2 * at_once * self.pair_bytes())).cast::<u8>();
        let tiles = scratch.take(room(rows * self.row_bytes())).cast::<u8>();
        let most = self.groups() * self.layout.group;
        for start in (first..first + count).step_by(most) {
            let images = (start, most.min(first + count - start));
            let groups = images.1.div_ceil(self.layout.group);
            let chunk = Chunk { wgrad: self, task, images, groups, rows, pairs, tiles };
            // SAFETY: the caller's promise.
            unsafe { chunk.run(unit, start > first) };
        }
    }

    /// Input and gradient of a group.
    unsafe fn sources(&self, task: &Task, image: usize, images: usize) -> [Source; 2] {
        let (inputs, outputs) = (self.layout.source_pixels, self.layout.output_pixels);
        // SAFETY: the images are there.
        unsafe {
            [
                Source {
                    values: task.operands.input.add(image * inputs * self.shape.in_channels),
                    channels: self.shape.in_channels,
                    pixels: images * inputs,
                    prologue: task.operands.prologue,
                },
                Source {
                    values: task.operands.gradient.add(image * outputs * self.shape.out_channels),
                    channels: self.shape.out_channels,
                    pixels: images * outputs,
                    prologue: ProloguePointers::NONE,
                },
            ]
        }
    }
}

/// Images whose operands are packed together.
struct Chunk<'a> {
    wgrad: &'a Wgrad,
    task: Task,
    /// First and count.
    images: (usize, usize),
    groups: usize,
    /// Tiles of out channels.
    rows: usize,
    /// B of some in channels.
    pairs: *mut u8,
    /// A of the task's out channels.
    tiles: *mut u8,
}

impl Chunk<'_> {
    /// # Safety
    /// As [`Wgrad::accumulate`].
    unsafe fn run(&self, unit: MatrixUnit, accumulate: bool) {
        let columns = self.wgrad.columns() / SIDE;
        // SAFETY: the caller's promise.
        unsafe {
            self.pack_gradient();
            for first in (0..columns).step_by(COLUMN_TILES) {
                let columns = first..columns.min(first + COLUMN_TILES);
                self.pack_input(columns.clone());
                unit.configure();
                self.products(unit, columns, accumulate);
                unit.release();
            }
        }
    }

    /// Input and gradient of a group.
    unsafe fn sources(&self, group: usize) -> [Source; 2] {
        let of_group = self.wgrad.layout.group;
        let (start, count) = (self.images.0 + group * of_group, self.images.1 - group * of_group);
        // SAFETY: the images are there.
        unsafe { self.wgrad.sources(&self.task, start, of_group.min(count)) }
    }

    unsafe fn pack_gradient(&self) {
        for group in 0..self.groups {
            // SAFETY: there is a tile for each 16 out channels and 32 pixels.
            unsafe {
                let [_, gradient] = self.sources(group);
                for row in 0..self.rows {
                    let to = self.tiles.add((row * self.groups + group) * self.wgrad.row_bytes());
                    gradient.pack_rows(&self.wgrad.outputs, self.task.channels.0 + row * SIDE, to);
                }
            }
        }
    }

    unsafe fn pack_input(&self, columns: Range<usize>) {
        for group in 0..self.groups {
            // SAFETY: there is a row for each 16 in channels and two pixels, twice.
            unsafe {
                let [input, _] = self.sources(group);
                for (i, column) in columns.clone().enumerate() {
                    let to =
                        |odd| self.pairs.add(((2 * i + odd) * self.groups + group) * self.wgrad.pair_bytes());
                    input.pack_pairs(&self.wgrad.layout.lines, column * SIDE, to(0), to(1));
                }
            }
        }
    }

    /// The sums of these tiles of in channels, all taps.
    unsafe fn products(&self, unit: MatrixUnit, columns: Range<usize>, accumulate: bool) {
        let wgrad = self.wgrad;
        let width = wgrad.columns();
        let (of_row, of_column) = (self.groups * wgrad.row_bytes(), self.groups * wgrad.pair_bytes());
        for row in (0..self.rows).step_by(2) {
            let rows = 2.min(self.rows - row);
            for column in (0..columns.len()).step_by(2) {
                let across = 2.min(columns.len() - column);
                for &(tap, shift) in &wgrad.layout.parts[0].taps {
                    // SAFETY: the operands were packed; the sum has the tile.
                    unsafe {
                        let pairs =
                            |i: usize| self.pairs.add((2 * i + shift % 2) * of_column + shift / 2 * LINE);
                        let product = Product {
                            a: [row, row + rows - 1].map(|row| self.tiles.add(row * of_row).cast_const()),
                            a_row: LINE,
                            offsets: &wgrad.steps,
                            blocks: self.groups,
                            a_block: wgrad.row_bytes(),
                            b: [column, column + across - 1].map(|i| pairs(i).cast_const()),
                            b_step: TILE,
                            b_block: wgrad.pair_bytes(),
                            c: self.task.sum.add(
                                (tap * self.rows + row) * SIDE * width + (columns.start + column) * SIDE,
                            ),
                            c_row: width,
                            accumulate,
                        };
                        product.run(unit, rows, across);
                    }
                }
            }
        }
    }
}

/// Matrices of the sums, and their rows: in channels of each tap, whole tiles.
pub fn sum_shape(shape: &ConvShape) -> [usize; 2] {
    [shape.kernel * shape.kernel, padded(shape.in_channels)]
}

impl Wgrad {
    /// weight_gradient (KCRS) = Σ over images and pixels of prologue(input) × gradient.
    ///
    /// # Safety
    /// The machine has the unit; the operands are valid for the images, the target for the filter.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn run(
        &self,
        unit: MatrixUnit,
        count: usize,
        operands: Operands,
        target: &mut [f32],
        scratch: &mut [AlignedBuffer],
        sums: &mut AlignedBuffer,
        threads: Threads,
    ) {
        let partition = Partition::new(&self.shape, sum_shape(&self.shape), count);
        assert!(partition.parts * partition.sum_len() <= sums.len(), "room for the sums");
        let shared = SyncPointers::new((operands, sums.as_mut_ptr(), target.as_mut_ptr()));
        for_pieces(scratch, threads, partition.parts * partition.cuts, 1, |task, _, scratch| {
            let &(operands, sums, _) = shared.get();
            let (part, channels) = (task / partition.cuts, partition.channels(task % partition.cuts));
            let images = partition.images(part, count);
            // SAFETY: the caller's promise; every task has its own sum.
            unsafe {
                let sum = sums.add(part * partition.sum_len() + partition.cut_offset(channels.0));
                self.accumulate(unit, Task { images, channels, operands, sum }, scratch);
            }
        });
        for_pieces(scratch, threads, self.shape.out_channels, SIDE, |first, count, _| {
            let &(_, sums, target) = shared.get();
            // SAFETY: the sums are complete; the channels are this task's.
            unsafe { self.reduce(&partition, first..first + count, sums, target) };
        });
    }

    /// Writes the weight gradient of out channels `range`: the parts' total, in the order of the parts.
    ///
    /// # Safety
    /// The sums are complete, and the target is the filter.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn reduce(&self, partition: &Partition, range: Range<usize>, sums: *const f32, target: *mut f32) {
        let [window, width] = sum_shape(&self.shape);
        let channels = self.shape.in_channels;
        let (first, count) = partition.channels(range.start / TASK_CHANNELS);
        let places: [i32; SIDE] = std::array::from_fn(|c| (c * window) as i32);
        // SAFETY: the caller's promise.
        unsafe {
            let places = _mm512_loadu_si512(places.as_ptr().cast());
            let sums = sums.add(partition.cut_offset(first));
            for (k, tap) in range.flat_map(|k| (0..window).map(move |tap| (k, tap))) {
                let row = tap * padded(count) + k - first;
                for c in (0..channels).step_by(SIDE) {
                    let sum = sums.add(row * width + c);
                    let mut total = _mm512_loadu_ps(sum);
                    for part in 1..partition.parts {
                        total = _mm512_add_ps(total, _mm512_loadu_ps(sum.add(part * partition.sum_len())));
                    }
                    let to = target.add((k * channels + c) * window + tap);
                    _mm512_mask_i32scatter_ps::<4>(to.cast(), lanes(channels, c), places, total);
                }
            }
        }
    }
}
