//! A block: its warps take turns.

use super::barrier::{Arrival, Barriers};
use super::context::{Context, RawFault, Stats};
use super::interpreter;
use super::memory::Machine;
use super::random::Random;
pub use super::shared::Shared;
use super::warp::Warp;
use crate::fault::{Fault, Kind};

/// Why a warp stopped.
#[derive(Debug)]
pub enum Event {
    /// Its turn is over, or it said so.
    Turn,
    /// It stands at a barrier.
    Barrier(Arrival),
    /// All its threads have ended.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Waiting,
    Ended,
}

/// Instructions of a turn without a seed: warps run until they have to wait, but one that waits for
/// another in a loop doesn't keep it from running.
const LONG_TURN: u64 = 1 << 14;
/// With a seed, turns are up to this long.
const SHORT_TURN: u64 = 256;

/// A block that runs, and its storage, which the next one uses again.
pub struct Block {
    shared: Shared,
    warps: Vec<Warp>,
    states: Vec<State>,
    barriers: Barriers,
    random: Random,
    current: usize,
}

impl Block {
    pub fn new(context: &Context) -> Block {
        let count = context.threads().div_ceil(32);
        Block {
            shared: Shared::default(),
            warps: (0..count).map(Warp::new).collect(),
            states: Vec::new(),
            barriers: Barriers::default(),
            random: Random::new(0, 0),
            current: 0,
        }
    }

    /// Makes it the block with this index, before its first instruction.
    pub fn start(&mut self, context: &Context, stats: &mut Stats, index: u64) {
        self.shared.start(context, index, self.warps.len());
        self.warps.iter_mut().for_each(|warp| warp.start(context, index));
        self.states.clear();
        self.states.resize(self.warps.len(), State::Ready);
        self.barriers.clear();
        self.random = Random::new(context.settings.seed, index + 1);
        self.current = 0;
        stats.counters.blocks += 1;
        stats.counters.warps += self.warps.len() as u64;
    }

    /// Runs warps for `turns` turns; whether the block has ended.
    pub fn run(&mut self, context: &Context, stats: &mut Stats, turns: u64) -> Result<bool, Box<Fault>> {
        for _ in 0..turns {
            let Some(warp) = self.choose(context) else {
                return match self.states.iter().all(|state| *state == State::Ended) {
                    true => Ok(true),
                    false => Err(self.stuck(context)),
                };
            };
            self.turn(context, stats, warp)?;
        }
        Ok(false)
    }

    /// The warp whose turn it is.
    fn choose(&mut self, context: &Context) -> Option<usize> {
        let count = self.states.len();
        let from =
            if context.settings.seed == 0 { self.current } else { self.random.below(count as u64) as usize };
        let next =
            (0..count).map(|step| (from + step) % count).find(|&warp| self.states[warp] == State::Ready)?;
        self.current = next;
        Some(next)
    }

    fn turn(&mut self, context: &Context, stats: &mut Stats, index: usize) -> Result<(), Box<Fault>> {
        let length = if context.settings.seed == 0 { LONG_TURN } else { 1 + self.random.below(SHORT_TURN) };
        let warp = &mut self.warps[index];
        let before = warp.instructions;
        let mut machine = Machine { context, shared: &mut self.shared, stats };
        let event = interpreter::run(warp, &mut machine, length);
        let spent = warp.instructions - before;
        let event = event.map_err(|raw| self.fault(context, index, *raw))?;
        if !context.spend(spent) {
            let detail = format!("more than {} instructions of warps", context.settings.limit);
            let lane = self.warps[index].active.trailing_zeros() & 31;
            return Err(self.fault(context, index, *RawFault::new(Kind::Endless, lane, detail)));
        }
        match event {
            Event::Turn => self.current = (index + 1) % self.warps.len(),
            Event::Ended => {
                self.states[index] = State::Ended;
                (0..16).for_each(|id| self.release(id));
            }
            Event::Barrier(arrival) => self.barrier(context, stats, index, &arrival)?,
        }
        Ok(())
    }

    fn barrier(
        &mut self,
        context: &Context,
        stats: &mut Stats,
        index: usize,
        arrival: &Arrival,
    ) -> Result<(), Box<Fault>> {
        stats.counters.barriers += 1;
        let warp = &self.warps[index];
        let result =
            arrival.require_converged(warp, context).and_then(|()| self.barriers.arrive(warp, arrival));
        let (id, waits) = result.map_err(|raw| self.fault_at(context, index, *raw, arrival.pc))?;
        if waits {
            self.states[index] = State::Waiting;
        }
        self.release(id);
        Ok(())
    }

    /// Lets the warps go on that wait at a barrier which is complete.
    fn release(&mut self, id: usize) {
        let living = self.states.iter().filter(|state| **state != State::Ended).count();
        let Some((arrived, waited)) = self.barriers.complete(id, &mut self.warps, living) else { return };
        if let Some(races) = &mut self.shared.races {
            races.meet(&arrived, &waited);
        }
        waited.iter().for_each(|&warp| self.states[warp as usize] = State::Ready);
    }

    /// No warp can run, and not all have ended.
    fn stuck(&self, context: &Context) -> Box<Fault> {
        let index = self.states.iter().position(|state| *state == State::Waiting).unwrap_or(0);
        let detail = match self.barriers.stuck() {
            Some((id, warps, Some(threads))) => {
                format!("barrier {id} waits for {threads} threads for ever: only {warps} warps come")
            }
            Some((id, warps, None)) => format!("barrier {id} waits for ever: only {warps} warps come"),
            None => "no warp can go on".to_owned(),
        };
        let raw =
            RawFault::new(Kind::DivergentBarrier, self.warps[index].active.trailing_zeros() & 31, detail);
        self.fault_at(context, index, *raw, self.warps[index].pc.saturating_sub(1))
    }

    fn fault(&self, context: &Context, warp: usize, raw: RawFault) -> Box<Fault> {
        self.fault_at(context, warp, raw, self.warps[warp].pc)
    }

    fn fault_at(&self, context: &Context, warp: usize, raw: RawFault, pc: u32) -> Box<Fault> {
        let thread = warp as u32 * 32 + (raw.lane & 31);
        Box::new(context.fault(raw, self.shared.block, thread, pc))
    }
}
