//! Batch norm: sums in parts, then what is derived from them.

use super::{RowParts, tiles};
use crate::device::cuda::kernels::{
    Kernel, NormAffineArgs, NormDgradArgs, NormDgradPartialArgs, NormDgradReduceArgs, NormStatsArgs,
    NormStatsPartialArgs,
};
use crate::device::cuda::plan::{Fusion, Grid, LaunchBuilder, Lowered, Pointer};
use crate::device::ops;

/// Channels that a block of the sums takes: `CHANNELS` in kernels/norm.cu.
pub(super) const CHANNELS: usize = 32;
/// Channels of a block that adds up the parts: `REDUCE_CHANNELS` there.
pub(super) const REDUCE_CHANNELS: usize = 2;

/// Two sums of f64 a channel, of every part.
fn sums(to: &LaunchBuilder, parts: usize, most: usize, channels: usize) -> Pointer {
    to.partials(parts.saturating_mul(2 * channels), most.saturating_mul(2 * channels))
}

/// 64 rows each, four for every lane of a block; at most 448 parts, which 64 threads add up: of 64 channels that is
/// as many blocks as an H100 holds at once.
fn most_parts(rows: usize) -> usize {
    rows.div_ceil(64).clamp(1, 448)
}

/// A fused convolution's sums of the columns of its tiles.
pub(super) fn column_sums(to: &LaunchBuilder, rows: usize, channels: usize) -> Pointer {
    let tiles = tiles::Tile::new(rows, channels, 1, to.precision).down(rows);
    sums(to, tiles, tiles::most_down(rows), channels)
}

pub(super) fn batch_norm_affine(to: &mut LaunchBuilder, op: &ops::BatchNormAffine) -> Lowered {
    let ops::BatchNormAffine { gamma, beta, mean, variance, epsilon, affine } = op;
    let arguments = NormAffineArgs {
        gamma: to.at(*gamma),
        beta: to.at(*beta),
        mean: to.at(*mean),
        variance: to.at(*variance),
        scale: to.at(affine.scale),
        shift: to.at(affine.shift),
        channels: gamma.len,
        epsilon: *epsilon,
    };
    to.launch(Kernel::NormAffine, Grid::Items(gamma.len), arguments)
}

pub(super) fn batch_norm_stats(to: &mut LaunchBuilder, op: &ops::BatchNormStats) -> Lowered {
    let &ops::BatchNormStats {
        pixels,
        channels,
        input,
        gamma,
        beta,
        momentum,
        epsilon,
        running_mean,
        running_variance,
        mean,
        inverse_std,
        affine,
    } = op;
    let rows = to.images(pixels);
    // A convolution's sums are of its tiles, and not of differences from a row.
    let (partial, parts, pivot) = if to.plan.fusion == Fusion::StatsReady {
        (column_sums(to, rows, channels), tiles::Tile::new(rows, channels, 1, to.precision).down(rows), None)
    } else {
        let parts = RowParts::new(rows, most_parts(rows));
        let partial = sums(to, parts.count, most_parts(rows), channels);
        let arguments =
            NormStatsPartialArgs { x: to.at(input), partial, rows, channels, rows_per_part: parts.rows };
        to.launch(
            Kernel::NormStatsPartial,
            Grid::Blocks(channels.div_ceil(CHANNELS), parts.count),
            arguments,
        )?;
        // Of the images only the first pixel is read again.
        (partial, parts.count, to.part(input, channels))
    };
    let arguments = NormStatsArgs {
        partial,
        x: pivot,
        gamma: to.at(gamma),
        beta: to.at(beta),
        running_mean: to.at(running_mean),
        running_variance: to.at(running_variance),
        mean: to.at(mean),
        inverse_std: to.at(inverse_std),
        scale: to.at(affine.scale),
        shift: to.at(affine.shift),
        rows,
        channels,
        parts,
        momentum,
        epsilon,
    };
    to.launch(Kernel::NormStats, Grid::Blocks(channels.div_ceil(REDUCE_CHANNELS), 1), arguments)
}

pub(super) fn batch_norm_dgrad(to: &mut LaunchBuilder, op: &ops::BatchNormDgrad) -> Lowered {
    let &ops::BatchNormDgrad {
        pixels,
        channels,
        input,
        gamma,
        mean,
        inverse_std,
        relu,
        gradient,
        residual,
        output,
        gamma_gradient,
        beta_gradient,
    } = op;
    let rows = to.images(pixels);
    let parts = RowParts::new(rows, most_parts(rows));
    let partial = sums(to, parts.count, most_parts(rows), channels);
    let (x, mean, inverse_std, gradient) = (to.at(input), to.at(mean), to.at(inverse_std), to.at(gradient));
    let (scale, shift) = to.affine(relu);
    let (gamma_gradient, beta_gradient) = (to.at(gamma_gradient), to.at(beta_gradient));
    let blocks = channels.div_ceil(CHANNELS);
    let arguments = NormDgradPartialArgs {
        x,
        gradient,
        mean,
        scale,
        shift,
        partial,
        rows,
        channels,
        rows_per_part: parts.rows,
    };
    to.launch(Kernel::NormDgradPartial, Grid::Blocks(blocks, parts.count), arguments)?;
    let arguments = NormDgradReduceArgs {
        partial,
        inverse_std,
        gamma_gradient,
        beta_gradient,
        channels,
        parts: parts.count,
    };
    to.launch(Kernel::NormDgradReduce, Grid::Blocks(channels.div_ceil(REDUCE_CHANNELS), 1), arguments)?;
    // It leaves no sums: as many parts as fill a large GPU twice.
    let parts = RowParts::new(rows, rows.div_ceil(64).clamp(1, 1024));
    let arguments = NormDgradArgs {
        x,
        gamma: to.at(gamma),
        mean,
        inverse_std,
        scale,
        shift,
        gamma_gradient,
        beta_gradient,
        gradient,
        residual: to.optional(residual),
        output: to.stored(output),
        rows,
        channels,
        rows_per_part: parts.rows,
        next: to.forwarded(pixels, channels),
        padded: tiles::padded(channels),
    };
    to.launch(Kernel::NormDgrad, Grid::Blocks(blocks, parts.count), arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_and_are_not_too_many() {
        for rows in [1, 2, 255, 256, 257, 1000, 131_072, 400_000] {
            let parts = RowParts::new(rows, most_parts(rows));
            assert!(parts.count * parts.rows >= rows && (parts.count - 1) * parts.rows < rows);
            assert!(parts.count <= most_parts(rows));
        }
    }
}
