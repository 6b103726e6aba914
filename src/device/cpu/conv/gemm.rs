//! Matrix product on packed panels: the only place where the multiplications happen.
//!
//! C[rows × columns] (+)= A · B. B lies in panels of two vectors' width (a last one of one vector
//! where that suffices), each panel `depth` rows long. A is read by broadcasts, so it needs no
//! packing: `a[row * a_row + d * a_depth]`, one of the two strides 1. An element's terms are added
//! in the order of `depth` whatever tile it falls into.

use super::super::simd::{Level, Simd, SimdKernel};

/// Most rows a register tile has at any level.
const MOST_ROWS: usize = 14;

/// Columns of a panel at a level.
pub(super) fn panel_width(level: Level) -> usize {
    2 * level.lanes()
}

/// Columns with padding: whole vectors at every level.
pub(super) fn padded(n: usize) -> usize {
    n.next_multiple_of(16)
}

/// Where row `d`, column `n` of a depth × columns matrix in panels lies.
#[inline(always)]
pub(super) fn panel_index(panel: usize, depth: usize, columns: usize, d: usize, n: usize) -> usize {
    let first = n / panel * panel;
    let width = if columns - first < panel { columns - first } else { panel };
    first * depth + d * width + (n - first)
}

/// One product. `columns` is a multiple of 16.
#[derive(Clone, Copy)]
pub(super) struct Gemm {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub a: *const f32,
    pub a_row: usize,
    pub a_depth: usize,
    pub b: *const f32,
    pub c: *mut f32,
    pub c_row: usize,
    /// Add to C instead of overwriting it.
    pub accumulate: bool,
    /// Products of this shape, one after the other, and the distances between their operands.
    pub batch: usize,
    pub a_batch: usize,
    pub b_batch: usize,
    pub c_batch: usize,
}

impl SimdKernel for Gemm {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for i in 0..self.batch {
            // SAFETY: the operands of every product of the batch are valid.
            unsafe {
                let a = self.a.add(i * self.a_batch);
                let b = self.b.add(i * self.b_batch);
                let c = self.c.add(i * self.c_batch);
                if self.a_depth == 1 {
                    self.product::<S, false>(a, b, c);
                } else {
                    self.product::<S, true>(a, b, c);
                }
            }
        }
    }
}

impl Gemm {
    #[inline(always)]
    unsafe fn product<S: Simd, const TRANSPOSED: bool>(&self, a: *const f32, b: *const f32, c: *mut f32) {
        let panel = 2 * S::LANES;
        // Rows are dealt evenly: no tile is much smaller than the others.
        let blocks = self.rows.div_ceil(S::ROWS);
        let mut column = 0;
        while column < self.columns {
            let wide = self.columns - column >= panel;
            // SAFETY: panels are `depth` rows of `panel`, the last one maybe narrower.
            let b = unsafe { b.add(column * self.depth) };
            let mut row = 0;
            for block in 0..blocks {
                let rows = (self.rows - row).div_ceil(blocks - block);
                // SAFETY: the tile lies inside A and C.
                unsafe {
                    let a = a.add(row * self.a_row);
                    let c = c.add(row * self.c_row + column);
                    if wide {
                        self.tile::<S, TRANSPOSED, 2>(rows, a, b, c);
                    } else {
                        self.tile::<S, TRANSPOSED, 1>(rows, a, b, c);
                    }
                }
                row += rows;
            }
            column += panel;
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const T: bool, const N: usize>(
        &self,
        rows: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
    ) {
        // SAFETY: as the caller's.
        unsafe {
            match rows {
                1 => self.multiply::<S, T, N, 1>(a, b, c),
                2 => self.multiply::<S, T, N, 2>(a, b, c),
                3 => self.multiply::<S, T, N, 3>(a, b, c),
                4 => self.multiply::<S, T, N, 4>(a, b, c),
                5 => self.multiply::<S, T, N, 5>(a, b, c),
                6 => self.multiply::<S, T, N, 6>(a, b, c),
                7 => self.multiply::<S, T, N, 7>(a, b, c),
                8 => self.multiply::<S, T, N, 8>(a, b, c),
                9 => self.multiply::<S, T, N, 9>(a, b, c),
                10 => self.multiply::<S, T, N, 10>(a, b, c),
                11 => self.multiply::<S, T, N, 11>(a, b, c),
                12 => self.multiply::<S, T, N, 12>(a, b, c),
                13 => self.multiply::<S, T, N, 13>(a, b, c),
                _ => self.multiply::<S, T, N, MOST_ROWS>(a, b, c),
            }
        }
    }

    /// The register tile: R × N vectors.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const T: bool, const N: usize, const R: usize>(
        &self,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
    ) {
        if R > S::ROWS {
            return; // never asked for at this level; keeps the dead tiles out of the program
        }
        // SAFETY: as the caller's.
        unsafe {
            let mut sums = [[S::splat(0.0); N]; R];
            let (row, depth) = if T { (1, self.a_depth) } else { (self.a_row, 1) };
            for d in 0..self.depth {
                let mut columns = [S::splat(0.0); N];
                for (j, v) in columns.iter_mut().enumerate() {
                    *v = S::load(b.add(d * N * S::LANES + j * S::LANES));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = S::splat(*a.add(i * row + d * depth));
                    for (sum, &v) in sums.iter_mut().zip(&columns) {
                        *sum = S::mul_add(x, v, *sum);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (j, &sum) in sums.iter().enumerate() {
                    let p = c.add(i * self.c_row + j * S::LANES);
                    S::store(p, if self.accumulate { S::add(S::load(p), sum) } else { sum });
                }
            }
        }
    }
}
