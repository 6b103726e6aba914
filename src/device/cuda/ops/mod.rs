//! From an op to its launches, a file for each family: grids, tiles, sizes of partial sums and arguments stand
//! together.

mod classifier;
mod conv;
pub(super) mod conv_f32;
mod images;
mod norm;
pub(super) mod optimizer;
mod pool;
pub(super) mod tiles;

use super::plan::{Fusion, Lowered, Lowering};
use crate::device::{FilterSpec, Op, Precision, Program};

/// Elements that a thread of a kernel that memory bounds takes at once: `FOUR` in kernels/vec4.cuh.
pub(super) const VEC4: usize = 4;

/// The launches of an op.
///
/// # Errors
/// No kernel does it.
pub(super) fn lower(to: &mut Lowering, op: &Op) -> Lowered {
    if to.count == 0 && !is_per_network(op) {
        return Ok(());
    }
    if let Fusion::Classifier(classifier) = &to.plan.fusion {
        return classifier::fused(to, classifier);
    }
    match op {
        Op::LoadFilter(_) | Op::Conv(_) | Op::ConvDgrad(_) | Op::ConvWgrad(_) => match to.precision {
            Precision::F32 => conv_f32::lower(to, op),
            Precision::Bf16 => conv::lower(to, op),
        },
        Op::BatchNormAffine(_) | Op::BatchNormStats(_) | Op::BatchNormDgrad(_) => norm::lower(to, op),
        Op::LoadImages(_) | Op::RandomErasing(_) | Op::PgdStart(_) | Op::PgdStep(_) => images::lower(to, op),
        Op::Sgd(_) | Op::Adam(_) | Op::MovingAverage(_) | Op::Copy(_) => optimizer::lower(to, op),
        Op::Add(_)
        | Op::MaxPool(_)
        | Op::MaxPoolDgrad(_)
        | Op::Upsample(_)
        | Op::UpsampleDgrad(_)
        | Op::ScaledTanh(_)
        | Op::ScaledTanhDgrad(_) => pool::lower(to, op),
        Op::GlobalAvgPool(_)
        | Op::GlobalAvgPoolDgrad(_)
        | Op::Linear(_)
        | Op::LinearDgrad(_)
        | Op::LinearWgrad(_)
        | Op::CrossEntropy(_)
        | Op::CosineSimilarity(_) => classifier::lower(to, op),
    }
}

/// Elements of a filter in the form of the kernels.
pub(super) fn filter_len(spec: &FilterSpec, precision: Precision) -> usize {
    match precision {
        Precision::F32 => conv_f32::filter_len(spec),
        Precision::Bf16 => tiles::filter_len(spec),
    }
}

/// The same in elements of 4 bytes; in bf16 channels come in whole vectors, an even number.
pub(super) fn filter_words(spec: &FilterSpec, precision: Precision) -> usize {
    filter_len(spec, precision) / precision.per_word()
}

/// The same of all filters of programs whose tables continue each other.
pub(super) fn filters_words(programs: &[Program], precision: Precision) -> usize {
    let filters = programs.iter().map(|program| &program.filters).max_by_key(|filters| filters.len());
    filters.into_iter().flatten().map(|spec| filter_words(spec, precision)).sum()
}

/// Whether an op is of the whole network, whatever the images.
fn is_per_network(op: &Op) -> bool {
    matches!(op, Op::BatchNormAffine(_) | Op::Sgd(_) | Op::Adam(_) | Op::MovingAverage(_) | Op::LoadFilter(_))
}

/// A sum over rows, in parts: [`Parts::count`] of [`Parts::rows`] rows each, the last perhaps less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub rows: usize,
    pub count: usize,
}

impl Parts {
    fn new(rows: usize, wanted: usize) -> Self {
        let per_part = rows.div_ceil(wanted.clamp(1, rows.max(1))).max(1);
        Self { rows: per_part, count: rows.div_ceil(per_part) }
    }
}
