//! Convolutions on tensor cores: the form of their bf16 operands, tiles, and how wgrad's sums are split.

use super::geometry::Parts;
use crate::device::{ConvShape, Direction, FilterSpec};

/// Channels of a vector: `VECTOR` in kernels/tensor.cuh.
const VECTOR: usize = 8;

/// k of a stage: `DEPTH` in kernels/tensor.cuh.
const DEPTH: usize = 32;

/// Rows of a block's tile, fprop's and dgrad's.
const ROWS: usize = 128;

/// Rows of a block's tile, wgrad's.
const WGRAD_ROWS: usize = 64;

/// Blocks that wgrad is split into at least, where there are pixels enough: what a large GPU holds at once.
const WGRAD_BLOCKS: usize = 512;

/// Stages of a part at least, where there are so many: what it multiplies has to be worth the sums it stores.
const WGRAD_STAGES: usize = 4;

/// Vectors of a pixel.
pub(super) fn vectors(channels: usize) -> usize {
    channels.div_ceil(VECTOR)
}

/// `channels` in whole vectors.
pub(super) fn padded(channels: usize) -> usize {
    vectors(channels) * VECTOR
}

/// Elements of a filter in the kernels' form.
pub(super) fn filter_len(spec: &FilterSpec) -> usize {
    let ConvShape { kernel, in_channels, out_channels, .. } = spec.shape;
    let sides = match spec.direction {
        Direction::Fprop => out_channels * padded(in_channels),
        Direction::Dgrad => in_channels * padded(out_channels),
    };
    kernel * kernel * sides
}

/// The tile's columns that a kernel comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// 64.
    Wide,
    /// 16.
    Narrow,
}

impl Columns {
    /// Wide tiles, which read their rows least often, where they waste no more than a quarter.
    pub fn for_channels(channels: usize) -> Self {
        let wide = channels.next_multiple_of(64) * 4 <= channels.next_multiple_of(16) * 5;
        if wide { Columns::Wide } else { Columns::Narrow }
    }

    /// The kernel of this width.
    pub fn choose(self, wide: &'static str, narrow: &'static str) -> &'static str {
        match self {
            Columns::Wide => wide,
            Columns::Narrow => narrow,
        }
    }

    /// Tiles side by side.
    pub fn tiles(self, channels: usize) -> usize {
        match self {
            Columns::Wide => channels.div_ceil(64),
            Columns::Narrow => channels.div_ceil(16),
        }
    }
}

/// fprop's tiles over so many output pixels, one below the other.
pub(super) fn row_tiles(pixels: usize) -> usize {
    pixels.div_ceil(ROWS)
}

/// Elements that the sums of fprop's tiles take: two f64 a column.
pub(super) fn column_sums(pixels: usize, channels: usize) -> usize {
    let words = size_of::<f64>() / size_of::<f32>();
    row_tiles(pixels).saturating_mul(2 * words * channels)
}

/// Pixels of dgrad's largest phase, the first.
pub(super) fn phase_pixels(shape: &ConvShape, count: usize) -> usize {
    count * shape.height.div_ceil(shape.stride) * shape.width.div_ceil(shape.stride)
}

/// wgrad's tiles in one part.
pub(super) fn wgrad_tiles(shape: &ConvShape) -> usize {
    let rows = shape.kernel * shape.kernel * padded(shape.in_channels);
    rows.div_ceil(WGRAD_ROWS) * Columns::for_channels(shape.out_channels).tiles(shape.out_channels)
}

/// wgrad over the output pixels of `count` images: parts of so many pixels, whole stages. It depends on
/// sizes only, so results do too.
pub(super) fn wgrad_parts(shape: &ConvShape, count: usize) -> Parts {
    let parts = Parts::new(stages(shape, count), most_parts(shape, count));
    Parts { rows: parts.rows * DEPTH, ..parts }
}

/// Elements that partial sums take for at most `count` images.
pub(super) fn wgrad_partials(shape: &ConvShape, count: usize) -> usize {
    let sums = shape.kernel * shape.kernel * padded(shape.in_channels) * padded(shape.out_channels);
    most_parts(shape, count).saturating_mul(sums)
}

fn most_parts(shape: &ConvShape, count: usize) -> usize {
    let worthwhile = stages(shape, count).div_ceil(WGRAD_STAGES);
    (WGRAD_BLOCKS / wgrad_tiles(shape)).min(worthwhile).max(1)
}

fn stages(shape: &ConvShape, count: usize) -> usize {
    count.saturating_mul(shape.out_height() * shape.out_width()).div_ceil(DEPTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_wide_where_little_is_wasted() {
        for (channels, columns, tiles) in [
            (3, Columns::Narrow, 1),
            (32, Columns::Narrow, 2),
            (48, Columns::Narrow, 3),
            (56, Columns::Wide, 1),
        ] {
            assert_eq!(Columns::for_channels(channels), columns, "{channels}");
            assert_eq!(columns.tiles(channels), tiles, "{channels}");
        }
        assert_eq!(Columns::for_channels(100).tiles(100), 2);
        assert_eq!(Columns::for_channels(512).tiles(512), 8);
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
                assert_eq!(parts.rows % DEPTH, 0);
                assert!(parts.count * parts.rows >= pixels && (parts.count - 1) * parts.rows < pixels);
                let sums = kernel * kernel * padded(channels) * padded(channels + 1);
                assert!(parts.count * sums <= wgrad_partials(&shape, count));
            }
        }
    }
}
