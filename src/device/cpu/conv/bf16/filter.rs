//! Filters as tiles of B: [32 output columns][part][32 channels of depth][tap][tile of 16 columns].

use std::arch::x86_64::*;

use super::layout::Layout;
use super::pack::{lanes, pair_order, round};
use super::unit::{DEPTH, SIDE, TILE};
use crate::device::{ConvShape, Direction, FilterSpec};

/// Columns of a block of C.
pub const COLUMNS: usize = 2 * SIDE;

/// Depth and columns of a filter as seen from the side that it is for.
pub fn depth_and_columns(spec: &FilterSpec) -> (usize, usize) {
    let ConvShape { in_channels, out_channels, .. } = spec.shape;
    match spec.direction {
        Direction::Fprop => (in_channels, out_channels),
        Direction::Dgrad => (out_channels, in_channels),
    }
}

/// Tiles side by side in a block of columns.
pub fn tiles_of(columns: usize, block: usize) -> usize {
    (columns - block * COLUMNS).min(COLUMNS).div_ceil(SIDE)
}

/// Bytes of a filter's tiles.
pub fn filter_bytes(spec: &FilterSpec) -> usize {
    let (depth, columns) = depth_and_columns(spec);
    // Every tap is in one part.
    let window = spec.shape.kernel * spec.shape.kernel;
    columns.div_ceil(SIDE) * depth.div_ceil(DEPTH) * window * TILE
}

/// Writes a block of columns: KCRS weights, each out channel k multiplied by `scale[k]`, rounded.
///
/// # Safety
/// The machine has AVX-512 BF16; weights and scale are the filter's; the target has room for the block's tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn pack_filter(
    spec: &FilterSpec,
    layout: &Layout,
    weights: &[f32],
    scale: Option<&[f32]>,
    block: usize,
    target: *mut u8,
) {
    let (depth, columns) = depth_and_columns(spec);
    let mut target = target;
    for part in &layout.parts {
        for first in (0..depth).step_by(DEPTH) {
            for &(tap, _) in &part.taps {
                for tile in 0..tiles_of(columns, block) {
                    let column = block * COLUMNS + tile * SIDE;
                    // SAFETY: the caller's promise.
                    unsafe {
                        pack_tile(spec, weights, scale, (first, column, tap), target);
                        target = target.add(TILE);
                    }
                }
            }
        }
    }
}

/// A tile: 32 of the depth from `first` on, 16 columns from `column` on, of one tap.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_tile(
    spec: &FilterSpec,
    weights: &[f32],
    scale: Option<&[f32]>,
    (first, column, tap): (usize, usize, usize),
    target: *mut u8,
) {
    let (depth, columns) = depth_and_columns(spec);
    let window = spec.shape.kernel * spec.shape.kernel;
    let (k_step, c_step) = (spec.shape.in_channels * window, window);
    let fprop = spec.direction == Direction::Fprop;
    let (d_step, n_step) = if fprop { (c_step, k_step) } else { (k_step, c_step) };
    let lanes = lanes(columns, column);
    // SAFETY: lanes beyond the columns and depths beyond the last aren't read.
    unsafe {
        let steps: [i32; SIDE] = std::array::from_fn(|n| (n * n_step) as i32);
        let steps = _mm512_loadu_si512(steps.as_ptr().cast());
        let factors = match scale {
            Some(scale) if fprop => _mm512_maskz_loadu_ps(lanes, scale.as_ptr().add(column)),
            _ => _mm512_set1_ps(1.0),
        };
        let row = |d: usize| {
            if d >= depth {
                return _mm512_setzero_ps();
            }
            let at = weights.as_ptr().add(d * d_step + column * n_step + tap);
            let values = _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), lanes, steps, at);
            match scale {
                Some(scale) if !fprop => _mm512_mul_ps(values, _mm512_set1_ps(scale[d])),
                _ => _mm512_mul_ps(values, factors),
            }
        };
        let order = pair_order();
        for pair in 0..DEPTH / 2 {
            let rounded = round(row(first + 2 * pair), row(first + 2 * pair + 1));
            _mm512_store_si512(target.add(pair * 64).cast(), _mm512_permutexvar_epi16(order, rounded));
        }
    }
}
