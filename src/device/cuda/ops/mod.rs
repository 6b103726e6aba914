//! From an op to its launches, a file for each family: grids, tiles, sizes of partial sums and arguments stand
//! together.

mod classifier;
mod conv;
mod images;
mod norm;
pub(super) mod optimizer;
mod pool;
pub(super) mod tiles;

use super::plan::{Fusion, LaunchBuilder, Lowered};
use crate::device::{FilterSpec, Op, Precision, Program};

/// Elements that a thread of a kernel that memory bounds takes at once: `VEC4` in kernels/vec4.cuh.
pub(super) const VEC4: usize = 4;

/// The launches of an op.
///
/// # Errors
/// No kernel does it.
pub(super) fn lower(to: &mut LaunchBuilder, op: &Op) -> Lowered {
    if to.count == 0 && !op.work().once {
        return Ok(());
    }
    if let Fusion::Classifier(classifier) = &to.plan.fusion {
        return classifier::fused(to, classifier);
    }
    match op {
        Op::LoadFilter(op) => conv::load_filter(to, op),
        Op::Conv(op) => conv::conv(to, op),
        Op::ConvDgrad(op) => conv::conv_dgrad(to, op),
        Op::ConvWgrad(op) => conv::conv_wgrad(to, op),
        Op::BatchNormAffine(op) => norm::batch_norm_affine(to, op),
        Op::BatchNormStats(op) => norm::batch_norm_stats(to, op),
        Op::BatchNormDgrad(op) => norm::batch_norm_dgrad(to, op),
        Op::Add(op) => pool::add(to, op),
        Op::MaxPool(op) => pool::max_pool(to, op),
        Op::MaxPoolDgrad(op) => pool::max_pool_dgrad(to, op),
        Op::AdaptiveAvgPool(op) => pool::adaptive_avg_pool(to, op),
        Op::AdaptiveAvgPoolDgrad(op) => pool::adaptive_avg_pool_dgrad(to, op),
        Op::Upsample(op) => pool::upsample(to, op),
        Op::UpsampleDgrad(op) => pool::upsample_dgrad(to, op),
        Op::ScaledTanh(op) => pool::scaled_tanh(to, op),
        Op::ScaledTanhDgrad(op) => pool::scaled_tanh_dgrad(to, op),
        Op::GlobalAvgPool(op) => classifier::global_avg_pool(to, op),
        Op::GlobalAvgPoolDgrad(op) => classifier::global_avg_pool_dgrad(to, op),
        Op::Linear(op) => classifier::linear(to, op),
        Op::LinearDgrad(op) => classifier::linear_dgrad(to, op),
        Op::LinearWgrad(op) => classifier::linear_wgrad(to, op),
        Op::CrossEntropy(op) => classifier::cross_entropy(to, op),
        Op::CosineSimilarity(op) => classifier::cosine_similarity(to, op),
        Op::LoadImages(op) => images::load_images(to, op),
        Op::RandomErasing(op) => images::random_erasing(to, op),
        Op::PgdStart(op) => images::pgd_start(to, op),
        Op::PgdStep(op) => images::pgd_step(to, op),
        Op::Sgd(op) => optimizer::sgd(to, op),
        Op::Adam(op) => optimizer::adam(to, op),
        Op::MovingAverage(op) => optimizer::moving_average(to, op),
        Op::Copy(op) => optimizer::copy(to, op),
    }
}

/// A filter in the form of the kernels, in elements of 4 bytes; it has an even number of channels.
pub(super) fn filter_words(spec: &FilterSpec, precision: Precision) -> usize {
    tiles::filter_len(spec) / precision.per_word()
}

/// The same of all filters of programs whose tables continue each other.
pub(super) fn filters_words(programs: &[Program], precision: Precision) -> usize {
    let filters = programs.iter().map(|program| &program.filters).max_by_key(|filters| filters.len());
    filters.into_iter().flatten().map(|spec| filter_words(spec, precision)).sum()
}

/// A sum over rows, in parts: [`RowParts::count`] of [`RowParts::rows`] rows each, the last perhaps less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowParts {
    pub rows: usize,
    pub count: usize,
}

impl RowParts {
    fn new(rows: usize, wanted: usize) -> Self {
        let per_part = rows.div_ceil(wanted.clamp(1, rows.max(1))).max(1);
        Self { rows: per_part, count: rows.div_ceil(per_part) }
    }
}

/// Constants and layouts that the host and the kernels share: `kernels/host.cuh` is made of them, and the kernels are
/// compiled only if they have the same.
#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::device::cuda::plan::{BLOCK, CLASSES, FEATURES};
    use crate::device::cuda::scalars::RunScalars;

    fn header() -> String {
        let constants = [
            ("BLOCK", BLOCK),
            ("VEC4", VEC4),
            ("VECTOR", tiles::padded(1)),
            ("NORM_CHANNELS", norm::CHANNELS),
            ("NORM_REDUCE_CHANNELS", norm::REDUCE_CHANNELS),
            ("PATCH_BLOCK", images::PATCH_BLOCK),
            ("FEATURES", FEATURES),
            ("CLASSES", CLASSES),
            ("UPDATE_TILE_OUT", optimizer::TILE.0),
            ("UPDATE_TILE_IN", optimizer::TILE.1),
            ("UPDATE_TAPS", optimizer::TAPS),
            ("UPDATE_PLAIN", optimizer::PLAIN),
            ("SEGMENT_BYTES", size_of::<optimizer::DeviceSegment>()),
            ("SEGMENT_DGRAD", offset_of!(optimizer::DeviceSegment, dgrad)),
            ("RUN_BYTES", size_of::<RunScalars>()),
            ("RUN_SEED", offset_of!(RunScalars, seed)),
        ];
        let lines = constants.map(|(name, value)| format!("constexpr unsigned {name} = {value};\n"));
        "// Constants of the host that the kernels are compiled against, made by\n\
         // `PBE_WRITE_ARGS=1 cargo test --lib host_header`. Do not edit.\n\
         #pragma once\n\nnamespace host {\n"
            .to_string()
            + &lines.concat()
            + "}\n"
    }

    #[test]
    fn the_host_header_is_made_of_the_constants() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/host.cuh");
        if std::env::var_os("PBE_WRITE_ARGS").is_some() {
            std::fs::write(path, header()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), header());
    }
}
