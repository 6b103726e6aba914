//! Stands in for `bf16` where no matrix unit is known.

use super::Threads;
use super::epilogue::Epilogue;
use super::memory::AlignedBuffer;
use super::rows::ProloguePointers;
use super::wgrad::Operands;
use crate::device::{ConvShape, FilterSpec};

/// There is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixUnit {}

impl MatrixUnit {
    /// None.
    pub fn detect() -> Option<Self> {
        None
    }
    /// None.
    pub fn all() -> &'static [Self] {
        &[]
    }
    /// Of none.
    pub fn name(self) -> &'static str {
        match self {}
    }
}

pub(super) struct TiledFilter(MatrixUnit);

impl TiledFilter {
    pub fn new(_spec: &FilterSpec, unit: MatrixUnit) -> Self {
        Self(unit)
    }
    pub fn elements(_spec: &FilterSpec) -> usize {
        0
    }
    pub fn scratch_len(_spec: &FilterSpec) -> usize {
        0
    }
    pub fn bytes(&self) -> usize {
        match self.0 {}
    }
    pub fn load(&mut self, _: &FilterSpec, _: &[f32], _: Option<&[f32]>, _: Threads) {
        match self.0 {}
    }
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn convolve(
        &self,
        _: &FilterSpec,
        _: usize,
        _: *const f32,
        _: ProloguePointers,
        _: Epilogue,
        _: &mut [AlignedBuffer],
        _: Threads,
    ) {
        match self.0 {}
    }
}

pub(super) struct Wgrad(ConvShape);

impl Wgrad {
    pub fn new(shape: &ConvShape) -> Self {
        Self(*shape)
    }
    pub fn shape(&self) -> &ConvShape {
        &self.0
    }
    pub fn scratch_len(&self) -> usize {
        0
    }
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn run(
        &self,
        unit: MatrixUnit,
        _: usize,
        _: Operands,
        _: &mut [f32],
        _: &mut [AlignedBuffer],
        _: &mut AlignedBuffer,
        _: Threads,
    ) {
        match unit {}
    }
}

pub(super) fn sum_shape(_shape: &ConvShape) -> [usize; 2] {
    [0, 0]
}
