//! What the convolution kernels want their operands to look like, and how wgrad's sums are split.

use crate::device::{ConvShape, Direction, FilterSpec};

/// Pixels and channels a thread holds: `TILE` in kernels/common.cuh.
pub(super) const TILE: usize = 4;

/// Threads that wgrad is split into at least, where there are rows enough: enough for a large GPU,
/// few enough that the partial sums stay small beside the activations.
const WGRAD_THREADS: usize = 1 << 16;

/// `n` as whole tiles.
pub(super) fn whole(n: usize) -> usize {
    n.next_multiple_of(TILE)
}

/// The copy of a tensor that a kernel reads: zeros around every image and behind its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Padded {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Zero rows and columns before the image's first.
    pub border: usize,
}

impl Padded {
    /// Elements of an image.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// fprop's and wgrad's input: all that any tile of output pixels reads.
    pub fn input(shape: &ConvShape) -> Self {
        Self {
            height: (shape.out_height() - 1) * shape.stride + shape.kernel,
            width: (whole(shape.out_width()) - 1) * shape.stride + shape.kernel,
            channels: whole(shape.in_channels),
            border: shape.pad,
        }
    }

    /// dgrad's gradient: input row y reads gradient rows (y + pad − r) / stride for r < kernel, and
    /// columns likewise.
    pub fn gradient(shape: &ConvShape) -> Self {
        let ConvShape { height, kernel, stride, pad, .. } = *shape;
        let border = (kernel - 1).saturating_sub(pad).div_ceil(stride);
        Self {
            height: (height - 1 + pad) / stride + 1 + border,
            width: pad.div_ceil(stride) + TILE * class_tiles(shape) + border,
            channels: whole(shape.out_channels),
            border,
        }
    }

    /// wgrad's gradient, which needs no border.
    pub fn wgrad_gradient(shape: &ConvShape) -> Self {
        Self {
            height: shape.out_height(),
            width: shape.out_width(),
            channels: whole(shape.out_channels),
            border: 0,
        }
    }

    /// The tensor as it is (`height` × `width` × `channels`) where that serves as well as the copy.
    pub fn as_it_is(self, height: usize, width: usize, channels: usize) -> Option<Self> {
        let serves =
            self.border == 0 && self.channels == channels && self.height <= height && self.width <= width;
        serves.then_some(Self { height, width, channels, border: 0 })
    }
}

/// Tiles in a residue class (modulo the stride) of an input row.
pub(super) fn class_tiles(shape: &ConvShape) -> usize {
    shape.width.div_ceil(shape.stride).div_ceil(TILE)
}

/// Elements of a filter in the kernels' form.
pub(super) fn filter_len(spec: &FilterSpec) -> usize {
    let (rows, columns) = filter_sides(spec);
    spec.shape.kernel * spec.shape.kernel * rows * columns
}

/// Rows and columns of a tap: what is summed over, and what a thread holds a tile of.
pub(super) fn filter_sides(spec: &FilterSpec) -> (usize, usize) {
    let (inside, outside) = (whole(spec.shape.in_channels), whole(spec.shape.out_channels));
    match spec.direction {
        Direction::Fprop => (inside, outside),
        Direction::Dgrad => (outside, inside),
    }
}

/// A sum over rows, in parts: [`Parts::count`] of [`Parts::rows`] rows each, the last perhaps less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub rows: usize,
    pub count: usize,
}

impl Parts {
    pub fn new(rows: usize, wanted: usize) -> Self {
        let per_part = rows.div_ceil(wanted.clamp(1, rows.max(1))).max(1);
        Self { rows: per_part, count: rows.div_ceil(per_part) }
    }

    /// wgrad over `rows` output rows of all images. It depends on sizes only, so results do too.
    pub fn wgrad(shape: &ConvShape, rows: usize) -> Self {
        Self::new(rows, wgrad_parts(shape))
    }

    /// Batch norm over `rows` pixels of all images.
    pub fn norm(rows: usize) -> Self {
        Self::new(rows, norm_parts(rows))
    }

    /// Rows of its gradient, which leave no sums: as many parts as fill a large GPU twice.
    pub fn norm_dgrad(rows: usize) -> Self {
        Self::new(rows, rows.div_ceil(64).clamp(1, 1024))
    }
}

/// Items of wgrad in one part.
pub(super) fn wgrad_items(shape: &ConvShape) -> usize {
    let tiles = |channels: usize| channels.div_ceil(TILE);
    shape.kernel * shape.kernel * tiles(shape.in_channels) * tiles(shape.out_channels)
}

fn wgrad_parts(shape: &ConvShape) -> usize {
    (WGRAD_THREADS / wgrad_items(shape)).max(1)
}

/// 64 rows each, four for every lane of a block; at most 448 parts, which
/// 64 threads add up: of 64 channels that is as many blocks as an H100 holds at once.
fn norm_parts(rows: usize) -> usize {
    rows.div_ceil(64).clamp(1, 448)
}

/// Elements that partial sums take for at most `rows` rows: wgrad's.
pub(super) fn wgrad_partials(shape: &ConvShape, rows: usize) -> usize {
    wgrad_parts(shape).min(rows.max(1)) * wgrad_items(shape) * TILE * TILE
}

/// Elements that partial sums take for at most `rows` rows: batch norm's, two f64 per channel.
pub(super) fn norm_partials(rows: usize, channels: usize) -> usize {
    norm_parts(rows) * 2 * channels * (size_of::<f64>() / size_of::<f32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> impl Iterator<Item = ConvShape> {
        let sizes = [(1, 1), (4, 4), (5, 7), (32, 32), (9, 3)];
        let windows =
            [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3), (2, 3, 0), (3, 1, 2), (3, 4, 0)];
        sizes.into_iter().flat_map(move |(height, width)| {
            let windows = windows
                .into_iter()
                .filter(move |&(kernel, _, pad)| height + 2 * pad >= kernel && width + 2 * pad >= kernel);
            windows.map(move |(kernel, stride, pad)| ConvShape {
                height,
                width,
                in_channels: 3,
                out_channels: 6,
                kernel,
                stride,
                pad,
            })
        })
    }

    #[test]
    fn every_read_of_fprop_and_wgrad_is_inside_the_copy() {
        for shape in shapes() {
            let padded = Padded::input(&shape);
            let last_column = whole(shape.out_width()) - 1;
            assert!((shape.out_height() - 1) * shape.stride + shape.kernel <= padded.height);
            assert!(last_column * shape.stride + shape.kernel <= padded.width, "{shape:?}");
        }
    }

    #[test]
    fn every_read_of_dgrad_is_inside_the_copy_and_meets_every_gradient() {
        for shape in shapes() {
            let (padded, stride) = (Padded::gradient(&shape), shape.stride as i64);
            let (border, pad) = (padded.border as i64, shape.pad as i64);
            let mut met = vec![false; shape.out_height()];
            for y in 0..shape.height as i64 {
                for r in (0..shape.kernel as i64).filter(|r| (y + pad - r) % stride == 0) {
                    let row = (y + pad - r) / stride;
                    assert!(row + border >= 0 && row + border < padded.height as i64, "{shape:?}");
                    if let Some(met) = usize::try_from(row).ok().and_then(|row| met.get_mut(row)) {
                        *met = true;
                    }
                }
            }
            // Rows that read nothing but padding have no input to send a gradient to.
            let useful = |p: usize| {
                (0..shape.kernel)
                    .any(|r| (shape.pad..shape.pad + shape.height).contains(&(p * shape.stride + r)))
            };
            assert!((0..shape.out_height()).all(|p| met[p] || !useful(p)), "{shape:?}");
            for class in 0..stride {
                for s in (0..shape.kernel as i64).filter(|s| (class + pad - s) % stride == 0) {
                    let first = (class + pad - s) / stride + border;
                    let last = first + (TILE * class_tiles(&shape)) as i64;
                    assert!(first >= 0 && last <= padded.width as i64, "{shape:?}");
                }
            }
        }
    }

    #[test]
    fn parts_cover_all_rows_and_fit_the_partials() {
        for shape in shapes() {
            for rows in [1, 2, 255, 256, 257, 1000, 131_072, 400_000] {
                let parts = Parts::wgrad(&shape, rows);
                assert!(parts.count * parts.rows >= rows && (parts.count - 1) * parts.rows < rows);
                let room = wgrad_partials(&shape, rows);
                assert!(parts.count * wgrad_items(&shape) * TILE * TILE <= room);
                let parts = Parts::norm(rows);
                assert!(parts.count * parts.rows >= rows && (parts.count - 1) * parts.rows < rows);
                assert!(parts.count * 4 * 3 <= norm_partials(rows, 3));
            }
        }
    }
}
