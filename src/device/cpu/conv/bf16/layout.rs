//! Where a convolution's operand lies, so that every tile of it is 16 lines in a row.
//!
//! The source (fprop: the input; dgrad: the output's gradient) is stored as *lines*: one pixel's 32 channels in bf16, 64
//! bytes. A group of images is [channel block][plane][row][column][image] of lines. Rows and columns have the zeros of
//! the padding; a row's zeros on the right are the next one's on the left. A stride s cuts the source into s × s planes,
//! by the remainders of row and column, so that neighbouring outputs read neighbouring lines. Maps narrower than a tile
//! have several images side by side.
//!
//! dgrad with a stride has a *part* for every remainder of the input's rows and columns: each is a convolution of its own,
//! with those taps of the window that reach it.

use super::unit::{DEPTH, SIDE};
use crate::device::{ConvShape, Direction};

/// Bytes of a line.
pub const LINE: usize = DEPTH * 2;
/// No pixel.
pub const NONE: u32 = u32::MAX;

/// One operand's form and what is computed from it. Pixels are counted over a group's images.
pub struct Layout {
    /// Images side by side.
    pub group: usize,
    /// Pixels of a source image.
    pub source_pixels: usize,
    /// Pixels of an output image.
    pub output_pixels: usize,
    /// The source pixel of each line of a channel block; zeros where [`NONE`].
    pub lines: Vec<u32>,
    /// The convolutions that make up the output.
    pub parts: Vec<Part>,
}

/// Outputs that the same taps reach.
pub struct Part {
    /// The taps: place in the window, and lines from a tile's own to those that it reads.
    pub taps: Vec<(usize, usize)>,
    /// The same in bytes.
    pub offsets: Vec<usize>,
    /// The tiles that cover the outputs.
    pub tiles: Vec<Tile>,
}

/// 16 rows of the product.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Its first line.
    pub line: usize,
    /// The output pixel of each row, [`NONE`] for a row between images or in the padding.
    pub pixels: [u32; SIDE],
}

/// Rows, or columns: which of the source each output needs.
struct Axis {
    /// Planes, and zeros before the first.
    stride: usize,
    pad: usize,
    source: usize,
    /// Positions of a plane.
    positions: usize,
    parts: Vec<AxisPart>,
}

/// Outputs `first`, `first + step`, …
struct AxisPart {
    first: usize,
    step: usize,
    count: usize,
    /// Place in the window, plane, position from the output's own.
    taps: Vec<[usize; 3]>,
}

impl Axis {
    fn fprop(shape: &ConvShape, source: usize, outputs: usize) -> Self {
        let taps = (0..shape.kernel).map(|r| [r, r % shape.stride, r / shape.stride]).collect();
        let part = AxisPart { first: 0, step: 1, count: outputs, taps };
        Self::new(shape.stride, shape.pad, source, vec![part])
    }

    /// Input i gets gradient (i + pad − r) / stride by way of tap r, where that is whole.
    fn dgrad(shape: &ConvShape, inputs: usize, source: usize) -> Self {
        let ConvShape { kernel, stride, pad, .. } = *shape;
        // The first input of a remainder, and the gradient that tap `remainder` gives it.
        let start = |remainder: usize| {
            let first = (remainder + stride - pad % stride) % stride;
            (first, (first + pad - remainder) / stride)
        };
        let last_tap = |remainder: usize| (kernel - 1).saturating_sub(remainder) / stride;
        let zeros = (0..stride).map(|remainder| last_tap(remainder).saturating_sub(start(remainder).1)).max();
        let zeros = zeros.unwrap_or(0);
        let part = |remainder: usize| {
            let (first, own) = start(remainder);
            let taps = (remainder..kernel).step_by(stride);
            let taps = taps.enumerate().map(|(back, r)| [r, 0, own + zeros - back]).collect();
            AxisPart { first, step: stride, count: inputs.saturating_sub(first).div_ceil(stride), taps }
        };
        let parts = (0..stride).map(part).collect();
        Self::new(1, zeros, source, parts)
    }

    fn new(stride: usize, pad: usize, source: usize, parts: Vec<AxisPart>) -> Self {
        let reach = |part: &AxisPart| part.count + part.taps.iter().map(|tap| tap[2]).max().unwrap_or(0);
        let needed = parts.iter().map(reach).max().unwrap_or(0);
        let positions = needed.max((pad + source).div_ceil(stride));
        Self { stride, pad, source, positions, parts }
    }

    /// Columns share the zeros between rows.
    fn sharing_zeros(mut self) -> Self {
        if self.stride == 1 {
            let outputs = self.parts.iter().map(|part| part.count).max().unwrap_or(0);
            let end = outputs.max(self.pad + self.source);
            self.positions = self.positions.saturating_sub(self.pad).max(end);
        }
        self
    }

    /// The source's index at a position of a plane.
    fn source_of(&self, plane: usize, position: usize) -> Option<usize> {
        (position * self.stride + plane).checked_sub(self.pad).filter(|&index| index < self.source)
    }
}

impl Layout {
    /// Of the operand of fprop or dgrad, with so many images side by side that a row of outputs fills tiles.
    pub fn new(shape: &ConvShape, direction: Direction) -> Self {
        Self::with_outputs(shape, direction, SIDE)
    }

    /// For wgrad, whose sums go over pixels: a row of outputs fills the depth of a product.
    pub fn for_wgrad(shape: &ConvShape) -> Self {
        Self::with_outputs(shape, Direction::Fprop, DEPTH)
    }

    fn with_outputs(shape: &ConvShape, direction: Direction, least: usize) -> Self {
        let (input, output) = ([shape.height, shape.width], [shape.out_height(), shape.out_width()]);
        let (source, target, [rows, columns]) = match direction {
            Direction::Fprop => (input, output, [0, 1].map(|i| Axis::fprop(shape, input[i], output[i]))),
            Direction::Dgrad => (output, input, [0, 1].map(|i| Axis::dgrad(shape, input[i], output[i]))),
        };
        let columns = columns.sharing_zeros();
        let across = columns.parts.iter().map(|part| part.count).max().unwrap_or(1);
        let mut group = 1;
        while 2 * group * across <= least {
            group *= 2;
        }
        let grid =
            Grid { rows, columns, group, target_width: target[1], target_pixels: target[0] * target[1] };
        let parts = grid.parts(shape.kernel);
        // Tiles read whole; what they read past the last plane is zero.
        let end = |part: &Part| {
            let taps = part.taps.iter().map(|tap| tap.1).max().unwrap_or(0);
            let end = part.tiles.iter().map(|tile| tile.line + SIDE).max().unwrap_or(0);
            end.next_multiple_of(DEPTH) + taps
        };
        let mut lines = grid.lines(source[0] * source[1]);
        let most = parts.iter().map(end).max().unwrap_or(0).max(lines.len());
        lines.resize(most.next_multiple_of(DEPTH), NONE);
        Self {
            group,
            source_pixels: source[0] * source[1],
            output_pixels: target[0] * target[1],
            lines,
            parts,
        }
    }

    /// The output pixel of every line from a tile's own on, in the order of lines: what wgrad sums over.
    pub fn outputs(&self) -> Vec<u32> {
        let tiles = self.parts.iter().flat_map(|part| &part.tiles);
        let mut outputs = Vec::new();
        for tile in tiles {
            outputs.resize(outputs.len().max(tile.line + SIDE), NONE);
            for (output, &pixel) in outputs[tile.line..].iter_mut().zip(&tile.pixels) {
                *output = (*output).min(pixel);
            }
        }
        outputs.resize(outputs.len().next_multiple_of(DEPTH), NONE);
        outputs
    }
}

/// Both axes, while a layout is made.
struct Grid {
    rows: Axis,
    columns: Axis,
    group: usize,
    target_width: usize,
    target_pixels: usize,
}

impl Grid {
    /// The line of image 0 at a position of a plane.
    fn line(&self, planes: [usize; 2], positions: [usize; 2]) -> usize {
        let plane = planes[0] * self.columns.stride + planes[1];
        ((plane * self.rows.positions + positions[0]) * self.columns.positions + positions[1]) * self.group
    }

    fn lines(&self, source_pixels: usize) -> Vec<u32> {
        let (rows, columns) = (&self.rows, &self.columns);
        let mut lines = Vec::new();
        for plane in 0..rows.stride * columns.stride {
            for position in 0..rows.positions * columns.positions {
                let y = rows.source_of(plane / columns.stride, position / columns.positions);
                let x = columns.source_of(plane % columns.stride, position % columns.positions);
                let pixel = y.zip(x).map(|(y, x)| y * columns.source + x);
                lines.extend((0..self.group).map(|image| match pixel {
                    Some(pixel) => (image * source_pixels + pixel) as u32,
                    None => NONE,
                }));
            }
        }
        lines
    }

    fn parts(&self, kernel: usize) -> Vec<Part> {
        let pairs =
            self.rows.parts.iter().flat_map(|row| self.columns.parts.iter().map(move |column| (row, column)));
        pairs.map(|(row, column)| self.part(kernel, row, column)).collect()
    }

    fn part(&self, kernel: usize, row: &AxisPart, column: &AxisPart) -> Part {
        let tap =
            |y: &[usize; 3], x: &[usize; 3]| (y[0] * kernel + x[0], self.line([y[1], x[1]], [y[2], x[2]]));
        let taps: Vec<_> = row.taps.iter().flat_map(|y| column.taps.iter().map(move |x| tap(y, x))).collect();
        let offsets = taps.iter().map(|tap| tap.1 * LINE).collect();
        // Row by row, or as one run with the padding in it: what takes fewer tiles.
        let (run, pitch) = (column.count * self.group, self.columns.positions * self.group);
        let by_row = row.count * run.div_ceil(SIDE);
        let in_one = (row.count.saturating_sub(1) * pitch + run).div_ceil(SIDE);
        let tiles = if by_row <= in_one {
            let starts = (0..row.count).flat_map(|y| (0..run).step_by(SIDE).map(move |x| y * pitch + x));
            starts.map(|line| self.tile(row, column, line, line / pitch * pitch + run)).collect()
        } else {
            (0..in_one).map(|tile| self.tile(row, column, tile * SIDE, usize::MAX)).collect()
        };
        Part { taps, offsets, tiles }
    }

    /// The tile from `line` on, without the lines from `end` on.
    fn tile(&self, row: &AxisPart, column: &AxisPart, line: usize, end: usize) -> Tile {
        let pixels = std::array::from_fn(|i| {
            let line = line + i;
            let (position, image) = (line / self.group, line % self.group);
            let (y, x) = (position / self.columns.positions, position % self.columns.positions);
            if line >= end || y >= row.count || x >= column.count {
                return NONE;
            }
            let (y, x) = (row.first + y * row.step, column.first + x * column.step);
            (image * self.target_pixels + y * self.target_width + x) as u32
        });
        Tile { line, pixels }
    }
}
