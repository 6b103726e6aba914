//! Runs ops on f64 regions: operands are copied out, results copied in.

use super::{conv, norm};
use crate::data::ImageSet;
use crate::device::ops::each_op;
use crate::device::{
    Affine, BatchSlice, Bf16Tensors, MemoryLayout, Precision, Program, Prologue, Region, Span, StepParams,
};
use crate::error::Result;

/// The regions, the images, and the filters as they were last loaded (KCRS, scaled).
pub struct ReferenceState {
    pub regions: [Vec<f64>; 7],
    pub images: Vec<Option<ImageSet>>,
    pub filters: Vec<Vec<f64>>,
    pub precision: Precision,
}

/// The state at one slice of a run.
pub(super) struct SliceContext<'a> {
    pub state: &'a mut ReferenceState,
    pub program: &'a Program,
    pub params: &'a StepParams,
    pub slice: BatchSlice,
    pub rounded: Bf16Tensors,
}

impl ReferenceState {
    pub fn new(layout: &MemoryLayout, precision: Precision) -> Self {
        let regions = Region::ALL.map(|region| vec![0.0; layout.len(region)]);
        Self { regions, images: Vec::new(), filters: Vec::new(), precision }
    }

    /// Runs an op of a checked program: its number, and which of its tensors are in bf16.
    pub fn run(
        &mut self,
        program: &Program,
        (op, rounded): (usize, Bf16Tensors),
        params: &StepParams,
        slice: BatchSlice,
    ) -> Result<()> {
        let missing = program.filters.len().saturating_sub(self.filters.len());
        self.filters.extend(vec![Vec::new(); missing]);
        let mut context = SliceContext { state: self, program, params, slice, rounded };
        each_op!(&program.ops[op], op => op.interpret(&mut context))
    }
}

/// An op as its definition says; in the file of its family.
pub(super) trait Interpret {
    /// # Errors
    /// Labels or indices out of range, images of another size.
    fn interpret(&self, context: &mut SliceContext) -> Result<()>;
}

impl SliceContext<'_> {
    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let start = match span.region {
            Region::Staging => span.offset + self.slice.first * span.len,
            _ => span.offset,
        };
        let images = match span.region {
            Region::Arena | Region::Staging => self.slice.count,
            _ => 1,
        };
        start..start + span.len * images
    }

    pub fn read(&self, span: Span) -> Vec<f64> {
        self.state.regions[span.region as usize][self.range(span)].to_vec()
    }

    pub fn words(&self, span: Span) -> Vec<u32> {
        self.read(span).into_iter().map(|word| word as u32).collect()
    }

    pub fn write(&mut self, span: Span, values: &[f64]) {
        let range = self.range(span);
        self.state.regions[span.region as usize][range].copy_from_slice(values);
    }

    pub fn affine(&self, affine: Affine) -> norm::ScaleShift {
        (self.read(affine.scale), self.read(affine.shift))
    }

    pub fn prologue(&self, channels: usize, prologue: &Prologue, input: Span) -> Vec<f64> {
        let affine = prologue.affine.map(|affine| self.affine(affine));
        let affine = affine.as_ref().map(|(scale, shift)| (scale.as_slice(), shift.as_slice()));
        conv::prologue(&self.read(input), channels, affine, prologue.relu)
    }

    /// Values as a convolution multiplies them.
    pub fn rounded(&self, values: Vec<f64>) -> Vec<f64> {
        values.into_iter().map(|value| self.state.precision.round(value)).collect()
    }

    /// values += the span, if there is one.
    pub fn add(&self, values: &mut [f64], span: Option<Span>, rounded: bool) {
        if let Some(span) = span {
            let read = self.read(span);
            let more = if rounded { self.rounded(read) } else { read };
            values.iter_mut().zip(more).for_each(|(value, more)| *value += more);
        }
    }
}
