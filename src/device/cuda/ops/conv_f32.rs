//! Convolutions in f32: the copies that the kernels read, and how wgrad's sums are split.

use super::Parts;
use super::conv::{mask, wgrad_reduce};
use crate::device::cuda::kernels::{
    ConvDgradF32Args, ConvFpropF32Args, ConvInputArgs, ConvWgradF32Args, Kernel, LoadFilterArgs,
};
use crate::device::cuda::plan::{Buffer, GRADIENT, Grid, INPUT, Lowered, Lowering, Pointer};
use crate::device::ops;
use crate::device::{ConvShape, Direction, FilterSpec, Prologue, Span};

/// Pixels and channels a thread holds: `TILE` in kernels/common.cuh.
const TILE: usize = 4;

/// Threads that wgrad is split into at least, where there are rows enough: enough for a large GPU,
/// few enough that the partial sums stay small beside the activations.
const WGRAD_THREADS: usize = 1 << 16;

/// `n` as whole tiles.
fn whole(n: usize) -> usize {
    n.next_multiple_of(TILE)
}

/// The copy of a tensor that a kernel reads: zeros around every image and behind its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Padded {
    height: usize,
    width: usize,
    channels: usize,
    /// Zero rows and columns before the image's first.
    border: usize,
}

impl Padded {
    /// Elements of an image.
    fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// fprop's and wgrad's input: all that any tile of output pixels reads.
    fn input(shape: &ConvShape) -> Self {
        Self {
            height: (shape.out_height() - 1) * shape.stride + shape.kernel,
            width: (whole(shape.out_width()) - 1) * shape.stride + shape.kernel,
            channels: whole(shape.in_channels),
            border: shape.pad,
        }
    }

    /// dgrad's gradient: input row y reads gradient rows (y + pad − r) / stride for r < kernel, and
    /// columns likewise.
    fn gradient(shape: &ConvShape) -> Self {
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
    fn wgrad_gradient(shape: &ConvShape) -> Self {
        Self {
            height: shape.out_height(),
            width: shape.out_width(),
            channels: whole(shape.out_channels),
            border: 0,
        }
    }

    /// The tensor as it is (`height` × `width` × `channels`) where that serves as well as the copy.
    fn as_it_is(self, height: usize, width: usize, channels: usize) -> Option<Self> {
        let serves =
            self.border == 0 && self.channels == channels && self.height <= height && self.width <= width;
        serves.then_some(Self { height, width, channels, border: 0 })
    }
}

/// Tiles in a residue class (modulo the stride) of an input row.
fn class_tiles(shape: &ConvShape) -> usize {
    shape.width.div_ceil(shape.stride).div_ceil(TILE)
}

/// Elements of a filter in the kernels' form.
pub(in crate::device::cuda) fn filter_len(spec: &FilterSpec) -> usize {
    let (rows, columns) = filter_sides(spec);
    spec.shape.kernel * spec.shape.kernel * rows * columns
}

/// Rows and columns of a tap: what is summed over, and what a thread holds a tile of.
fn filter_sides(spec: &FilterSpec) -> (usize, usize) {
    let (inside, outside) = (whole(spec.shape.in_channels), whole(spec.shape.out_channels));
    match spec.direction {
        Direction::Fprop => (inside, outside),
        Direction::Dgrad => (outside, inside),
    }
}

/// Items of wgrad in one part.
fn wgrad_items(shape: &ConvShape) -> usize {
    let tiles = |channels: usize| channels.div_ceil(TILE);
    shape.kernel * shape.kernel * tiles(shape.in_channels) * tiles(shape.out_channels)
}

fn wgrad_parts(shape: &ConvShape) -> usize {
    (WGRAD_THREADS / wgrad_items(shape)).max(1)
}

/// Elements that partial sums take for at most `rows` rows: wgrad's.
fn wgrad_partials(shape: &ConvShape, rows: usize) -> usize {
    wgrad_parts(shape).min(rows.max(1)) * wgrad_items(shape) * TILE * TILE
}

pub(super) fn load_filter(to: &mut Lowering, op: &ops::LoadFilter) -> Lowered {
    let ops::LoadFilter { filter, weights, scale } = op;
    let spec = &to.program.filters[filter.0];
    let (rows, columns) = filter_sides(spec);
    let total = filter_len(spec);
    let arguments = LoadFilterArgs {
        weights: to.at(*weights),
        scale: to.optional(*scale),
        filter: to.filter(*filter),
        total,
        taps: spec.shape.kernel * spec.shape.kernel,
        out_channels: spec.shape.out_channels,
        in_channels: spec.shape.in_channels,
        rows,
        columns,
        dgrad: spec.direction == Direction::Dgrad,
    };
    to.launch(Kernel::LoadFilter, Grid::Items(total), arguments)
}

pub(super) fn conv(to: &mut Lowering, op: &ops::Conv) -> Lowered {
    let ops::Conv { shape, filter, input, prologue, bias, residual, output } = op;
    mask(to, shape, *input, prologue)?;
    let (x, padded) = conv_input(to, shape, *input, prologue)?;
    let column_tiles = shape.out_width().div_ceil(TILE);
    let channel_tiles = shape.out_channels.div_ceil(TILE);
    let total = to.images(shape.out_height() * column_tiles * channel_tiles);
    let arguments = ConvFpropF32Args {
        x,
        w: to.filter(*filter),
        bias: to.optional(*bias),
        residual: to.optional(*residual),
        y: to.at(*output),
        total,
        out_height: shape.out_height(),
        out_width: shape.out_width(),
        out_channels: shape.out_channels,
        column_tiles,
        channel_tiles,
        padded_height: padded.height,
        padded_width: padded.width,
        padded_channels: padded.channels,
        kernel: shape.kernel,
        stride: shape.stride,
    };
    to.launch_products(Kernel::ConvFpropF32, Grid::Items(total), arguments)
}

pub(super) fn conv_dgrad(to: &mut Lowering, op: &ops::ConvDgrad) -> Lowered {
    let ops::ConvDgrad { shape, filter, gradient, add, mask, scale, residual, output } = op;
    let (gradient, padded) = output_gradient(to, shape, *gradient, Padded::gradient(shape))?;
    let (column_tiles, channel_tiles) = (class_tiles(shape), shape.in_channels.div_ceil(TILE));
    let total = to.images(shape.height * shape.stride * column_tiles * channel_tiles);
    let arguments = ConvDgradF32Args {
        gradient,
        w: to.filter(*filter),
        add: to.optional(*add),
        mask: to.optional(*mask),
        scale: to.optional(*scale),
        residual: to.optional(*residual),
        output: to.at(*output),
        total,
        height: shape.height,
        width: shape.width,
        channels: shape.in_channels,
        column_tiles,
        channel_tiles,
        padded_height: padded.height,
        padded_width: padded.width,
        padded_channels: padded.channels,
        border: padded.border,
        kernel: shape.kernel,
        stride: shape.stride,
        pad: shape.pad,
    };
    to.launch_products(Kernel::ConvDgradF32, Grid::Items(total), arguments)
}

pub(super) fn conv_wgrad(to: &mut Lowering, op: &ops::ConvWgrad) -> Lowered {
    let ops::ConvWgrad { shape, input, prologue, gradient, weight_gradient } = op;
    let x = conv_input(to, shape, *input, prologue)?;
    let gradient = output_gradient(to, shape, *gradient, Padded::wgrad_gradient(shape))?;
    wgrad(to, shape, x, gradient, *weight_gradient)
}

fn wgrad(
    to: &mut Lowering,
    shape: &ConvShape,
    (x, x_padded): (Pointer, Padded),
    (gradient, padded): (Pointer, Padded),
    weight_gradient: Span,
) -> Lowered {
    let rows = to.images(shape.out_height());
    let parts = Parts::new(rows, wgrad_parts(shape));
    let total = parts.count * wgrad_items(shape);
    let partial = to.partials(total * TILE * TILE, wgrad_partials(shape, rows));
    let arguments = ConvWgradF32Args {
        x,
        gradient,
        partial,
        total,
        out_height: shape.out_height(),
        out_width: shape.out_width(),
        in_tiles: x_padded.channels / TILE,
        out_tiles: padded.channels / TILE,
        padded_height: x_padded.height,
        padded_width: x_padded.width,
        kernel: shape.kernel,
        stride: shape.stride,
        rows,
        rows_per_part: parts.rows,
    };
    to.launch_products(Kernel::ConvWgradF32, Grid::Items(total), arguments)?;
    wgrad_reduce(to, shape, partial, parts.count, (padded.channels, x_padded.channels), weight_gradient)
}

/// fprop's and wgrad's input: as it is where that serves, else a copy after the prologue.
fn conv_input(
    to: &mut Lowering,
    shape: &ConvShape,
    input: Span,
    prologue: &Prologue,
) -> Result<(Pointer, Padded), String> {
    let sizes = [shape.height, shape.width, shape.in_channels];
    operand(to, input, prologue, sizes, Buffer::Operand(INPUT), Padded::input(shape))
}

fn output_gradient(
    to: &mut Lowering,
    shape: &ConvShape,
    gradient: Span,
    padded: Padded,
) -> Result<(Pointer, Padded), String> {
    let sizes = [shape.out_height(), shape.out_width(), shape.out_channels];
    operand(to, gradient, &Prologue::default(), sizes, Buffer::Operand(GRADIENT), padded)
}

fn operand(
    to: &mut Lowering,
    from: Span,
    prologue: &Prologue,
    [height, width, channels]: [usize; 3],
    buffer: Buffer,
    padded: Padded,
) -> Result<(Pointer, Padded), String> {
    if prologue.affine.is_none()
        && !prologue.relu
        && let Some(plain) = padded.as_it_is(height, width, channels)
    {
        return Ok((to.at(from), plain));
    }
    let total = to.images(padded.len());
    let output = to.buffer(buffer, total);
    let (scale, shift) = to.prologue(prologue);
    let arguments = ConvInputArgs {
        input: to.at(from),
        scale,
        shift,
        output,
        total,
        relu: prologue.relu,
        height,
        width,
        channels,
        border: padded.border,
        padded_height: padded.height,
        padded_width: padded.width,
        padded_channels: padded.channels,
    };
    to.launch(Kernel::ConvInput, Grid::Items(total), arguments)?;
    Ok((output, padded))
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
                let parts = Parts::new(rows, wgrad_parts(&shape));
                assert!(parts.count * parts.rows >= rows && (parts.count - 1) * parts.rows < rows);
                let room = wgrad_partials(&shape, rows);
                assert!(parts.count * wgrad_items(&shape) * TILE * TILE <= room);
            }
        }
    }
}
