//! What a run reports, and to whom.

use super::state::{RoundRecord, RunState};
use crate::engine::Engine;
use crate::error::Result;
use crate::eval::FilterReport;

/// A part of a run: what progress is reported of and time is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Name in `result.json` and `metrics.csv`.
    pub key: &'static str,
    /// Name for people.
    pub label: &'static str,
}

/// Follows a run. A method that isn't overridden does nothing.
#[allow(unused_variables)]
pub trait Observer {
    /// `done` of `total` units of a phase; a loss where the phase trains. An error ends the run, after a checkpoint
    /// where it is [`Error::Interrupted`](crate::error::Error::Interrupted).
    fn progress(
        &mut self,
        round: usize,
        phase: Phase,
        done: usize,
        total: usize,
        loss: Option<f32>,
    ) -> Result<()> {
        Ok(())
    }
    /// `state` holds all that is needed to continue from here.
    fn checkpoint(&mut self, state: &RunState) -> Result<()> {
        Ok(())
    }
    /// The filters of the initial set have run, in this order.
    fn initial_set(&mut self, reports: &[FilterReport]) {}
    /// A round begins with the images `selected`.
    fn round_started(&mut self, round: usize, selected: &[u32]) -> Result<()> {
        Ok(())
    }
    /// All images have been ranked by `scores`, and `selected` are kept.
    fn ranked(&mut self, round: usize, scores: &[f32], selected: &[u32]) -> Result<()> {
        Ok(())
    }
    /// A round is over; `model` may be measured.
    fn round_done(&mut self, record: &RoundRecord, model: &mut Engine) -> Result<()> {
        Ok(())
    }
}

/// Lets the run go on and keeps nothing.
pub struct NoopObserver;

impl Observer for NoopObserver {}
