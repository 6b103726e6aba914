//! Convolutions in bf16 on the processor's matrix units: operands rounded to bf16 when they are packed, everything else in
//! f32, as on a GPU's tensor cores.
//!
//! Implicit GEMM: an image becomes lines of 32 channels once (`pack`), and every tap of the window reads its tiles from
//! them in place (`layout`). There is no copy for each tap.

mod convolve;
mod filter;
mod layout;
mod pack;
mod unit;
mod wgrad;

pub use unit::MatrixUnit;
pub(super) use wgrad::{Wgrad, sum_shape};

use super::Threads;
use super::epilogue::Epilogue;
use super::memory::{AlignedBuffer, SyncPointers, for_pieces, for_tasks};
use super::rows::ProloguePointers;
use crate::device::FilterSpec;
use convolve::Convolution;
use filter::{COLUMNS, depth_and_columns, filter_bytes, pack_filter};
use layout::Layout;
use unit::SIDE;

/// A filter as tiles, and the form of the operand that it meets.
pub(super) struct TiledFilter {
    unit: MatrixUnit,
    layout: Layout,
    buffer: AlignedBuffer,
}

impl TiledFilter {
    pub fn new(spec: &FilterSpec, unit: MatrixUnit) -> Self {
        let layout = Layout::new(&spec.shape, spec.direction);
        Self { unit, layout, buffer: AlignedBuffer::new(Self::elements(spec)) }
    }

    /// Floats of its buffer.
    pub fn elements(spec: &FilterSpec) -> usize {
        filter_bytes(spec) / size_of::<f32>()
    }

    /// Floats of a thread's scratch for it.
    pub fn scratch_len(spec: &FilterSpec) -> usize {
        convolve::scratch_len(&Layout::new(&spec.shape, spec.direction), depth_and_columns(spec).0)
    }

    pub fn bytes(&self) -> usize {
        self.buffer.len() * size_of::<f32>()
    }

    /// Packs KCRS weights, each out channel k multiplied by `scale[k]`.
    pub fn load(&mut self, spec: &FilterSpec, weights: &[f32], scale: Option<&[f32]>, threads: Threads) {
        let columns = depth_and_columns(spec).1;
        let of_block = filter_bytes(spec) / columns.div_ceil(SIDE) * COLUMNS / SIDE;
        let target = SyncPointers::new(self.buffer.as_mut_ptr().cast::<u8>());
        let layout = &self.layout;
        let pack = |block: usize| {
            // SAFETY: the unit is there, and with it AVX-512 BF16; a block's tiles follow those of the blocks before.
            unsafe { pack_filter(spec, layout, weights, scale, block, target.get().add(block * of_block)) };
        };
        for_tasks(threads, columns.div_ceil(COLUMNS), pack);
    }

    /// fprop or dgrad of `count` images.
    ///
    /// # Safety
    /// Source, prologue and epilogue are valid for the images; the output isn't the source.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn convolve(
        &self,
        spec: &FilterSpec,
        count: usize,
        source: *const f32,
        prologue: ProloguePointers,
        epilogue: Epilogue,
        parts: &mut [AlignedBuffer],
        threads: Threads,
    ) {
        let (depth, columns) = depth_and_columns(spec);
        let shared = SyncPointers::new((self.buffer.as_ptr(), source, prologue, epilogue));
        let piece = convolve::piece(&self.layout, depth);
        for_pieces(parts, threads, count, piece, |first, count, scratch| {
            let &(filter, source, prologue, epilogue) = shared.get();
            let convolution =
                Convolution { unit: self.unit, layout: &self.layout, depth, columns, filter: filter.cast() };
            // SAFETY: the caller's promise; tasks write their own images.
            unsafe { convolution.run(first, count, source, prologue, epilogue, scratch) };
        });
    }
}
