//! What both engines do with a session: prepare the weights, run programs on slices of a batch.

use crate::device::{BatchSlice, ProgramId, Region, Session, StepParams};
use crate::error::Result;

/// A session and its evaluation programs.
pub(super) struct Runner {
    pub session: Box<dyn Session>,
    /// The program that prepares changed weights for evaluation.
    prepare: ProgramId,
    /// Images of a worker's slice.
    capacity: usize,
    /// Slices side by side.
    workers: usize,
    ready: bool,
    slices: Vec<BatchSlice>,
}

impl Runner {
    /// `rows` is the most images of a call.
    pub fn new(
        session: Box<dyn Session>,
        prepare: ProgramId,
        capacity: usize,
        workers: usize,
        rows: usize,
    ) -> Self {
        Self { session, prepare, capacity, workers, ready: false, slices: Vec::with_capacity(rows) }
    }

    /// Replaces parameters and statistics.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<()> {
        self.set_parameters(0, weights)
    }

    /// Replaces the parameters from `first` on.
    pub fn set_parameters(&mut self, first: usize, values: &[f32]) -> Result<()> {
        self.ready = false;
        self.session.write(Region::Weights, first, values)
    }

    /// The first elements of a region.
    pub fn region(&self, region: Region, len: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; len];
        self.session.read(region, 0, &mut values)?;
        Ok(values)
    }

    /// Prepares the weights for evaluation if they changed.
    pub fn evaluation(&mut self) -> Result<()> {
        if !self.ready {
            let whole = [BatchSlice { first: 0, count: 0 }];
            self.session.run(self.prepare, &StepParams::default(), &whole)?;
            self.ready = true;
        }
        Ok(())
    }

    /// Runs an evaluation program over the first `count` rows.
    pub fn run_slices(&mut self, program: ProgramId, count: usize, params: &StepParams) -> Result<()> {
        let size = self.capacity.min(count.div_ceil(self.workers)).max(1);
        self.slices.clear();
        for first in (0..count).step_by(size) {
            self.slices.push(BatchSlice { first, count: size.min(count - first) });
        }
        self.session.run(program, params, &self.slices)
    }

    /// Runs a training program over the first `count` rows, as one slice. The weights then have to be prepared again.
    pub fn run_training(&mut self, program: ProgramId, count: usize, params: &StepParams) -> Result<()> {
        self.ready = false;
        self.session.run(program, params, &[BatchSlice { first: 0, count }])
    }
}
