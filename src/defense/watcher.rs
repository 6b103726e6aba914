//! Who follows a purification: progress, checkpoints, measurements.

use super::filter::Looked;
use super::state::{RoundRecord, State};
use crate::engine::Engine;
use crate::error::Result;

/// A part of a run, for progress reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Which images the first round believes.
    Filter,
    /// Step 1a.
    Attack,
    /// Step 1b.
    Adversarial,
    /// Step 2.
    Clean,
    /// What the infected model says about all images.
    Reference,
    /// Step 3.
    Rank,
}

/// Who follows a run. What isn't written here anew lets the run go on and keeps nothing.
#[allow(unused_variables)]
pub trait Watcher {
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
    /// The state can be stored: `state` holds everything.
    fn checkpoint(&mut self, state: &State) -> Result<()> {
        Ok(())
    }
    /// The first round's set has been looked at, in this order.
    fn looked(&mut self, looked: &[Looked]) {}
    /// A round begins with the images `selected`.
    fn begun(&mut self, round: usize, selected: &[u32]) -> Result<()> {
        Ok(())
    }
    /// Step 3 has ranked all images (`scores`) and selected `selected`.
    fn ranked(&mut self, round: usize, scores: &[f32], selected: &[u32]) -> Result<()> {
        Ok(())
    }
    /// A round is over; `purified` may be measured.
    fn round_done(&mut self, record: &RoundRecord, purified: &mut Engine) -> Result<()> {
        Ok(())
    }
}

/// A watcher that lets the run go on and keeps nothing.
pub struct Quiet;

impl Watcher for Quiet {}
