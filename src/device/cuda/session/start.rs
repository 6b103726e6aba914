//! From a program and a slice of it to launches: what is checked before, what is recorded.

use crate::device::ops;
use cudarc::driver::{CudaEvent, sys};

use super::{CudaSession, Prepared};
use crate::device::check::{check_images, check_slices};
use crate::device::cuda::availability::describe;
use crate::device::cuda::execute::Step;
use crate::device::cuda::execute_update::Updated;
use crate::device::cuda::graphs::Graphs;
use crate::device::{BatchSlice, Op, ProgramId, Region, Span, StepParams};
use crate::error::{Error, Result};

impl CudaSession {
    /// What an op of a program is executed with.
    pub(super) fn step<'a>(
        &'a self,
        Prepared { program, relay, .. }: &'a Prepared,
        op: usize,
        slice: BatchSlice,
        params: &'a StepParams,
    ) -> Step<'a> {
        let table = self.memory.addresses.scratch.table.address;
        Step {
            launcher: &self.launcher,
            memory: &self.memory.addresses,
            specs: &self.specs,
            slice,
            params,
            precision: self.precision,
            links: &relay.links[op],
            update: Updated::of(program, relay.update.as_ref(), table),
        }
    }

    /// Starts the ops at a program's beginning that a step leaves to the one before, where nothing has come between.
    pub(super) fn open(&self, prepared: &Prepared, slice: BatchSlice, params: &StepParams) -> Result<()> {
        let ops = if self.fresh { 0..0 } else { 0..prepared.relay.opening() };
        ops.into_iter().try_for_each(|op| self.start_op(prepared, op, slice, params))
    }

    pub(super) fn start_op(
        &self,
        prepared: &Prepared,
        op: usize,
        slice: BatchSlice,
        params: &StepParams,
    ) -> Result<()> {
        let (step, op) = (self.step(prepared, op, slice, params), &prepared.program.ops[op]);
        step.run(op).map_err(|cause| Error::run(format!("{}: {cause}", op.name())))
    }

    /// The moment at which all that was started so far is done.
    pub(super) fn event(&self) -> Result<CudaEvent> {
        let event = self.launcher.stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
        event.map_err(|error| Error::run(format!("an event: {}", describe(error))))
    }

    /// Starts a program's ops for a slice, as a graph where there are several.
    fn start(
        &self,
        prepared: &Prepared,
        graphs: &mut Graphs,
        params: &StepParams,
        slice: BatchSlice,
    ) -> Result<()> {
        let Prepared { program, relay, .. } = prepared;
        self.open(prepared, slice, params)?;
        let launch = || {
            let mut ops = program.order(params.repeats).filter(|&op| op >= relay.opening());
            ops.try_for_each(|op| self.start_op(prepared, op, slice, params))
        };
        match self.graphs && program.ops.len() > 1 {
            true => graphs.run(&self.launcher.stream, slice, params, launch),
            false => launch(),
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
            Op::BatchNormStats(_) if slice.count == 0 => Err(Error::run("batch statistics of no images")),
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
            _ => Ok(()),
        }
    }
}
