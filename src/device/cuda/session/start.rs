//! Running a program for a slice of a batch: what is checked before, what is captured as a graph.

use crate::device::ops;
use cudarc::driver::{CudaEvent, sys};

use super::{CudaProgram, CudaSession};
use crate::device::check::{check_images, check_slices};
use crate::device::cuda::graphs::Graphs;
use crate::device::cuda::plan::{Launch, Switches};
use crate::device::cuda::probe::describe;
use crate::device::{BatchSlice, Op, ProgramId, Region, Span, StepParams};
use crate::error::{Error, Result};

impl CudaSession {
    /// A program's launches.
    pub(super) fn launches(
        &self,
        prepared: &CudaProgram,
        slice: BatchSlice,
        params: &StepParams,
    ) -> Result<Vec<Launch>> {
        prepared.plan.launches(&prepared.program, slice.count, Switches::new(params))
    }

    /// Starts the ops at a program's beginning that the step before has done, unless something came between.
    pub(super) fn open(&self, prepared: &CudaProgram, launches: &[Launch], slice: BatchSlice) -> Result<()> {
        let ops = if self.fresh { 0..0 } else { 0..prepared.plan.opening() };
        ops.into_iter().try_for_each(|op| self.start_op(prepared, launches, op, slice))
    }

    /// Starts the launches of one op.
    pub(super) fn start_op(
        &self,
        prepared: &CudaProgram,
        launches: &[Launch],
        op: usize,
        slice: BatchSlice,
    ) -> Result<()> {
        let (memory, from) = (&self.memory.addresses, launches.partition_point(|launch| launch.op < op));
        for launch in launches[from..].iter().take_while(|launch| launch.op == op) {
            // SAFETY: `prepare` has checked the program and its sizes and reserved what its plan needs, and `run_all`
            // or `time` the slice; the memory is the session's, whose every use of it is ordered on this stream.
            let started = unsafe { self.launcher.start(launch, memory, slice) };
            started.map_err(|cause| Error::run(format!("{}: {cause}", prepared.program.ops[op].name())))?;
        }
        Ok(())
    }

    /// The moment at which all that was started so far is done.
    pub(super) fn event(&self) -> Result<CudaEvent> {
        let event = self.launcher.stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
        event.map_err(|error| Error::run(format!("an event: {}", describe(error))))
    }

    /// Starts a program's launches for a slice, as a graph where there are several ops.
    fn start(
        &self,
        prepared: &CudaProgram,
        graphs: &mut Graphs,
        params: &StepParams,
        slice: BatchSlice,
    ) -> Result<()> {
        let (program, opening) = (&prepared.program, prepared.plan.opening());
        if opening > 0 && !self.fresh {
            self.open(prepared, &self.launches(prepared, slice, params)?, slice)?;
        }
        let start = || {
            let launches = self.launches(prepared, slice, params)?;
            let mut ops = program.order(params.repeats).filter(|&op| op >= opening);
            ops.try_for_each(|op| self.start_op(prepared, &launches, op, slice))
        };
        match self.graphs && program.ops.len() > 1 {
            true => graphs.run(&self.launcher.stream, slice, params, start),
            false => start(),
        }
    }

    /// Checks what is to be run, and starts it for every slice.
    pub(super) fn run_all(
        &self,
        program: ProgramId,
        graphs: &mut Graphs,
        params: &StepParams,
        slices: &[BatchSlice],
    ) -> Result<()> {
        let prepared = &self.programs[program.0];
        check_slices(&prepared.program, prepared.rows, slices)?;
        for &slice in slices {
            prepared.program.ops.iter().try_for_each(|op| self.check_staged(op, slice))?;
        }
        slices.iter().try_for_each(|&slice| self.start(prepared, graphs, params, slice))
    }

    /// What the host wrote to the rows of a slice.
    fn staged(&self, span: Span, slice: BatchSlice) -> &[u32] {
        let first = span.offset + slice.first * span.len;
        match span.region {
            Region::Staging => self.staged.get(first..first + span.len * slice.count).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Checks what the host staged for an op to use: indices of images, labels.
    pub(super) fn check_staged(&self, op: &Op, slice: BatchSlice) -> Result<()> {
        match op {
            Op::LoadImages(ops::LoadImages { images, indices, height, width, channels, .. })
                if slice.count > 0 =>
            {
                let attached = self.memory.addresses.images.get(images.0).and_then(Option::as_ref);
                let attached =
                    attached.ok_or_else(|| Error::run(format!("no images attached as {}", images.0)))?;
                check_images(&attached.set, (*height, *width, *channels), self.staged(*indices, slice))
            }
            Op::CrossEntropy(ops::CrossEntropy { classes, labels, .. }) => {
                match self.staged(*labels, slice).iter().find(|&&label| label as usize >= *classes) {
                    Some(label) => Err(Error::run(format!("label {label} of {classes} classes"))),
                    None => Ok(()),
                }
            }
            // The words of these only count random numbers, or are a kernel's own.
            Op::LoadImages(_)
            | Op::RandomErasing(_)
            | Op::PgdStart(_)
            | Op::MaxPool(_)
            | Op::MaxPoolDgrad(_) => Ok(()),
            // These take no words that a host stages.
            Op::BatchNormAffine(_)
            | Op::LoadFilter(_)
            | Op::Conv(_)
            | Op::ConvDgrad(_)
            | Op::ConvWgrad(_)
            | Op::BatchNormStats(_)
            | Op::BatchNormDgrad(_)
            | Op::Upsample(_)
            | Op::UpsampleDgrad(_)
            | Op::ScaledTanh(_)
            | Op::ScaledTanhDgrad(_)
            | Op::Add(_)
            | Op::GlobalAvgPool(_)
            | Op::GlobalAvgPoolDgrad(_)
            | Op::AdaptiveAvgPool(_)
            | Op::AdaptiveAvgPoolDgrad(_)
            | Op::Linear(_)
            | Op::LinearDgrad(_)
            | Op::LinearWgrad(_)
            | Op::CosineSimilarity(_)
            | Op::PgdStep(_)
            | Op::Sgd(_)
            | Op::Adam(_)
            | Op::MovingAverage(_)
            | Op::Copy(_) => Ok(()),
        }
    }
}
