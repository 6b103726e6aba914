//! Programs, what they run on, and the scalars of a run.

use std::ops::Range;

use super::operand::{FilterSpec, Region};
use super::ops::Op;

/// Element counts of every region, fixed before a session opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLayout {
    /// `Region::Weights`.
    pub weights: usize,
    /// `Region::Gradients`.
    pub gradients: usize,
    /// `Region::Momentum`.
    pub momentum: usize,
    /// `Region::Average`.
    pub average: usize,
    /// `Region::Derived`.
    pub derived: usize,
    /// `Region::Arena`, all workers together.
    pub arena: usize,
    /// `Region::Staging`.
    pub staging: usize,
}

impl MemoryLayout {
    /// Bytes of all regions.
    pub fn bytes(&self) -> usize {
        Region::ALL.iter().map(|&region| self.len(region) * size_of::<f32>()).sum()
    }

    /// Elements of a region.
    pub fn len(&self, region: Region) -> usize {
        match region {
            Region::Weights => self.weights,
            Region::Gradients => self.gradients,
            Region::Momentum => self.momentum,
            Region::Average => self.average,
            Region::Derived => self.derived,
            Region::Arena => self.arena,
            Region::Staging => self.staging,
        }
    }
}

/// A list of ops that run in order, with what a device needs to prepare for them.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The ops.
    pub ops: Vec<Op>,
    /// The filters the ops refer to, one table for all programs of a session.
    pub filters: Vec<FilterSpec>,
    /// Ops that run [`StepParams::repeats`] times in a row: the steps of an attack. Empty for none.
    pub loop_body: Range<usize>,
    /// Images a slice has at most.
    pub capacity: usize,
    /// Arena elements a slice needs (its worker's size).
    pub arena: usize,
    /// Slices are independent of each other and run on one worker each, single-threaded; else one
    /// slice at a time, with all threads inside each op.
    pub data_parallel: bool,
}

impl Program {
    /// The ops of a run in their order, those of the loop `repeats` times.
    pub(super) fn steps(&self, repeats: usize) -> impl Iterator<Item = &Op> {
        self.order(repeats).map(|index| &self.ops[index])
    }

    /// The ops that run as often as op `index`: repetition cuts a program into three parts.
    #[cfg(feature = "cuda")]
    pub(super) fn part(&self, index: usize) -> Range<usize> {
        let Range { start, end } = self.loop_body;
        match index {
            _ if index < start => 0..start,
            _ if index < end => start..end,
            _ => end.max(start)..self.ops.len(),
        }
    }

    /// The steps as indices.
    pub(super) fn order(&self, repeats: usize) -> impl Iterator<Item = usize> + use<> {
        let Range { start, end } = self.loop_body;
        let again = (0..repeats).flat_map(move |_| start..end);
        (0..start).chain(again).chain(end..self.ops.len())
    }
}

/// A program a session has prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramId(pub usize);

/// One run of a program's ops over `count` images whose staging rows start at `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSlice {
    /// First staging row.
    pub first: usize,
    /// Images; at most the program's capacity.
    pub count: usize,
}

/// Scalars that change from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepParams {
    /// SGD step size.
    pub learning_rate: f32,
    /// SGD momentum.
    pub momentum: f32,
    /// L2 penalty, on every trainable parameter as PyTorch does.
    pub weight_decay: f32,
    /// Nesterov's form of the momentum.
    pub nesterov: bool,
    /// Adam's β₁ and β₂.
    pub betas: (f32, f32),
    /// Adam's step, from 1.
    pub step: u32,
    /// d of the moving average; 0 leaves that out.
    pub average_decay: f32,
    /// Weight of the distillation term.
    pub distill_weight: f32,
    /// Its temperature.
    pub temperature: f32,
    /// Seed of augmentation and random starts.
    pub seed: u64,
    /// Epoch of augmentation and random starts.
    pub epoch: u32,
    /// Probability of each rectangle of [`Op::RandomErasing`].
    pub erasing_probability: f32,
    /// Times a program's `loop_body` ops run: PGD steps.
    pub repeats: usize,
    /// PGD starts inside the ball.
    pub random_start: bool,
    /// PGD stays inside [0, 1].
    pub clamp: bool,
}

/// Adam's ε, PyTorch's default: keeps its divisor from zero.
pub const ADAM_EPSILON: f32 = 1e-8;
/// Divisor of the published generators' tanh (Nguyen & Tran, 2020): their images stay inside (0, 1).
pub const SCALED_TANH_DIVISOR: f64 = 2.0 + 1e-7;

impl StepParams {
    /// Adam's step size with the bias of the first moments corrected, and the factor of the root of the
    /// second that corrects theirs.
    pub fn adam_scales(&self) -> (f64, f64) {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(f64::from(self.step));
        (f64::from(self.learning_rate) / correction(self.betas.0), 1.0 / correction(self.betas.1).sqrt())
    }
}

impl Default for StepParams {
    fn default() -> Self {
        Self {
            learning_rate: 0.0,
            momentum: 0.9,
            weight_decay: 5e-4,
            nesterov: true,
            betas: (0.9, 0.999),
            step: 1,
            average_decay: 0.0,
            distill_weight: 0.0,
            temperature: 1.0,
            seed: 0,
            epoch: 0,
            erasing_probability: 0.0,
            repeats: 1,
            random_start: true,
            clamp: true,
        }
    }
}
