//! What every kind of network does with its session: programs over lanes, after the weights are ready.

use crate::device::{Controls, Instance, ProgramId, Region, Session};
use crate::error::Result;

/// A session, and how evaluation programs run on it.
pub(super) struct Runner {
    pub session: Box<dyn Session>,
    /// The program behind a change of the weights.
    prepare: ProgramId,
    /// Images of a lane's instance.
    capacity: usize,
    /// Instances side by side.
    lanes: usize,
    ready: bool,
    instances: Vec<Instance>,
}

impl Runner {
    /// `rows` is the most images of a call.
    pub fn new(
        session: Box<dyn Session>,
        prepare: ProgramId,
        capacity: usize,
        lanes: usize,
        rows: usize,
    ) -> Self {
        Self { session, prepare, capacity, lanes, ready: false, instances: Vec::with_capacity(rows) }
    }

    /// Replaces parameters and statistics.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<()> {
        self.ready = false;
        self.session.write(Region::Weights, 0, weights)
    }

    /// The first elements of a region.
    pub fn region(&self, region: Region, len: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; len];
        self.session.read(region, 0, &mut values)?;
        Ok(values)
    }

    /// Prepares the weights for evaluation, unless they are.
    pub fn evaluation(&mut self) -> Result<()> {
        if !self.ready {
            let whole = [Instance { first: 0, count: 0 }];
            self.session.run(self.prepare, &Controls::default(), &whole)?;
            self.ready = true;
        }
        Ok(())
    }

    /// Runs an evaluation program over the first `count` rows.
    pub fn run_lanes(&mut self, program: ProgramId, count: usize, controls: &Controls) -> Result<()> {
        let size = self.capacity.min(count.div_ceil(self.lanes)).max(1);
        self.instances.clear();
        for first in (0..count).step_by(size) {
            self.instances.push(Instance { first, count: size.min(count - first) });
        }
        self.session.run(program, controls, &self.instances)
    }

    /// Runs a training program over the first `count` rows, as one instance. Evaluation has to be
    /// prepared anew.
    pub fn run_training(&mut self, program: ProgramId, count: usize, controls: &Controls) -> Result<()> {
        self.ready = false;
        self.session.run(program, controls, &[Instance { first: 0, count }])
    }
}
