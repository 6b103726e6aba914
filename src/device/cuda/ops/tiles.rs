//! Convolutions: the form of their operands, tiles, and how wgrad's sums are split.

use super::RowParts;
use crate::device::{ConvShape, Direction, FilterSpec, Precision};

/// What the channels of an operand are rounded up to: `VECTOR` in kernels/common.cuh.
pub(super) const VECTOR: usize = 8;

/// Values of f32 in a vector of 16 bytes.
const PER_VECTOR: usize = 4;

/// k of a stage in bf16, two in f32: `BLOCK_K` in kernels/mma.cuh.
const BLOCK_K: usize = 32;

/// Taps of a kernel at most, down and across: `IteratorA` in kernels/conv.cu has a bit for each.
pub(super) const TAPS: usize = 15;

/// Rows of a block's tile at least, fprop's and dgrad's.
const LEAST_ROWS: usize = 64;

/// Wide tiles fewer than these leave multiprocessors of a large GPU without a block, an H100's 132: half a tile each is
/// faster then, though it reads the filter twice as often (4x4 with 512 channels: 41 us in place of 46).
const FEW: usize = 132;

/// Rows of a block's tile, wgrad's.
const WGRAD_ROWS: usize = 64;

/// Blocks that wgrad is split into at least, where there are pixels enough: what a large GPU holds at once.
const WGRAD_BLOCKS: usize = 512;

/// Stages of a part at least, where there are so many: what it multiplies has to be worth the sums it stores.
const WGRAD_STAGES: usize = 4;

/// 16-byte vectors of a pixel of an operand.
pub(in crate::device::cuda) fn vectors(channels: usize, precision: Precision) -> usize {
    padded(channels) / (PER_VECTOR * precision.per_word())
}

/// Channels of a pixel of an operand.
pub(in crate::device::cuda) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(VECTOR)
}

/// Elements of a filter in the kernels' form.
pub(in crate::device::cuda) fn filter_len(spec: &FilterSpec) -> usize {
    let ConvShape { kernel, in_channels, out_channels, .. } = spec.shape;
    let sides = match spec.direction {
        Direction::Fprop => out_channels * padded(in_channels),
        Direction::Dgrad => in_channels * padded(out_channels),
    };
    kernel * kernel * sides
}

/// The tiles that a kernel comes with, by their shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tile {
    /// Rows and columns.
    T128x64,
    T64x64,
    T128x16,
}

impl Tile {
    /// fprop's or dgrad's for so many rows, in each of `phases`, and columns. Wide tiles, which read their rows least
    /// often, where they waste no more than a quarter and there are enough of them. What a sum is added up from doesn't
    /// depend on it, nor in which order. In f32 a thread has no registers for wide tiles.
    pub fn new(rows: usize, columns: usize, phases: usize, precision: Precision) -> Self {
        if !is_wide(columns) {
            Tile::T128x16
        } else if precision == Precision::F32
            || Tile::T128x64.count(rows, columns).saturating_mul(phases) < FEW
        {
            Tile::T64x64
        } else {
            Tile::T128x64
        }
    }

    fn sides(self) -> (usize, usize) {
        match self {
            Tile::T128x64 => (128, 64),
            Tile::T64x64 => (LEAST_ROWS, 64),
            Tile::T128x16 => (128, 16),
        }
    }

    /// Tiles one below the other.
    pub fn down(self, rows: usize) -> usize {
        rows.div_ceil(self.sides().0)
    }

    /// Tiles side by side.
    pub fn across(self, columns: usize) -> usize {
        columns.div_ceil(self.sides().1)
    }

    fn count(self, rows: usize, columns: usize) -> usize {
        self.down(rows).saturating_mul(self.across(columns))
    }
}

/// Whether tiles of 64 columns waste no more than a quarter.
pub(in crate::device::cuda) fn is_wide(columns: usize) -> bool {
    columns.next_multiple_of(64) * 4 <= columns.next_multiple_of(16) * 5
}

/// Tiles one below the other at most, of so many rows or fewer, whichever tiles they take.
pub(in crate::device::cuda) fn most_down(rows: usize) -> usize {
    rows.div_ceil(LEAST_ROWS)
}

/// Pixels of dgrad's largest phase, the first.
pub(in crate::device::cuda) fn phase_pixels(shape: &ConvShape, count: usize) -> usize {
    count * shape.height.div_ceil(shape.stride) * shape.width.div_ceil(shape.stride)
}

/// wgrad's tiles side by side, as wide as those.
pub(in crate::device::cuda) fn wgrad_across(shape: &ConvShape) -> usize {
    let tile = if is_wide(shape.out_channels) { Tile::T128x64 } else { Tile::T128x16 };
    tile.across(shape.out_channels)
}

/// wgrad's tiles in one part.
pub(in crate::device::cuda) fn wgrad_tiles(shape: &ConvShape) -> usize {
    let rows = shape.kernel * shape.kernel * padded(shape.in_channels);
    rows.div_ceil(WGRAD_ROWS) * wgrad_across(shape)
}

/// wgrad over the output pixels of `count` images: parts of so many pixels, whole stages. It depends on
/// sizes only, so results do too.
pub(in crate::device::cuda) fn wgrad_parts(shape: &ConvShape, count: usize) -> RowParts {
    let parts = RowParts::new(stages(shape, count), most_parts(shape, count));
    RowParts { rows: parts.rows * BLOCK_K, ..parts }
}

/// Elements that partial sums take for at most `count` images.
pub(in crate::device::cuda) fn wgrad_partials(shape: &ConvShape, count: usize) -> usize {
    let sums = shape.kernel * shape.kernel * padded(shape.in_channels) * padded(shape.out_channels);
    most_parts(shape, count).saturating_mul(sums)
}

fn most_parts(shape: &ConvShape, count: usize) -> usize {
    let worthwhile = stages(shape, count).div_ceil(WGRAD_STAGES);
    (WGRAD_BLOCKS / wgrad_tiles(shape)).min(worthwhile).max(1)
}

fn stages(shape: &ConvShape, count: usize) -> usize {
    count.saturating_mul(shape.out_height() * shape.out_width()).div_ceil(BLOCK_K)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_wide_where_little_is_wasted_and_there_are_enough() {
        let pixels = 128 * 1024;
        for (channels, tile, across) in [
            (3, Tile::T128x16, 1),
            (32, Tile::T128x16, 2),
            (48, Tile::T128x16, 3),
            (56, Tile::T128x64, 1),
            (100, Tile::T128x64, 2),
            (512, Tile::T128x64, 8),
        ] {
            assert_eq!(Tile::new(pixels, channels, 1, Precision::Bf16), tile, "{channels}");
            assert_eq!(tile.across(channels), across, "{channels}");
        }
        assert_eq!(Tile::new(128 * 16, 512, 1, Precision::Bf16), Tile::T64x64);
        assert_eq!(Tile::new(128 * 16, 512, 4, Precision::Bf16), Tile::T128x64);
        assert_eq!(Tile::new(1, 3, 1, Precision::Bf16), Tile::T128x16);
        assert_eq!(Tile::new(pixels, 512, 1, Precision::F32), Tile::T64x64);
    }

    #[test]
    fn there_is_room_for_the_sums_of_fewer_pixels_in_lower_tiles() {
        let (channels, pixels) = (64, 128 * FEW);
        let down = |pixels| Tile::new(pixels, channels, 1, Precision::Bf16).down(pixels);
        for fewer in 1..=pixels {
            assert!(down(fewer) <= most_down(pixels), "{fewer}");
        }
        assert!(down(pixels - 128) > down(pixels));
    }

    #[test]
    fn parts_are_whole_stages_that_cover_all_pixels_and_fit_the_partials() {
        for (height, channels, kernel) in [(1, 1, 1), (5, 70, 3), (32, 64, 3), (7, 512, 3)] {
            let pad = kernel / 2;
            let shape = ConvShape {
                height,
                width: height,
                in_channels: channels,
                out_channels: channels + 1,
                kernel,
                stride: 1,
                pad,
            };
            for count in [1, 3, 128, 1000] {
                let (pixels, parts) = (count * height * height, wgrad_parts(&shape, count));
                assert_eq!(parts.rows % BLOCK_K, 0);
                assert!(parts.count * parts.rows >= pixels && (parts.count - 1) * parts.rows < pixels);
                let sums = kernel * kernel * padded(channels) * padded(channels + 1);
                assert!(parts.count * sums <= wgrad_partials(&shape, count));
            }
        }
    }
}
