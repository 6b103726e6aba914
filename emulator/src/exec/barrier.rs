//! The 16 barriers of a block.
//!
//! A barrier without a number of threads is complete when every warp that hasn't ended is there; with
//! one, when so many threads are (in whole warps, as the hardware counts).

use super::context::{Context, Outcome, RawFault};
use super::warp::{LANES, Warp};
use crate::fault::Kind;
use crate::ir::{BarrierKind, Guard, Logic, Pc, Reg};

/// A warp that waits, and where its result goes.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    warp: u32,
    mask: u32,
    kind: BarrierKind,
}

/// One barrier: the warps that have arrived since it was last complete.
#[derive(Default)]
pub struct Slot {
    arrived: Vec<u32>,
    waiting: Vec<Waiter>,
    threads: Option<u32>,
    all: bool,
    any: bool,
    count: u32,
}

/// The barriers.
#[derive(Default)]
pub struct Barriers {
    slots: [Slot; 16],
}

/// What a warp brings to a barrier.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub kind: BarrierKind,
    pub id: Reg,
    pub threads: Option<Reg>,
    pub mask: u32,
    pub pc: Pc,
}

impl Arrival {
    /// A warp arrives with all its living lanes, or the barrier is in divergent code.
    pub fn require_converged(&self, warp: &Warp, context: &Context) -> Outcome {
        if self.mask == warp.live || !context.settings.checks.barriers {
            return Ok(());
        }
        let detail = format!(
            "barrier reached by the lanes {:#010x}, while {:#010x} of the warp are elsewhere",
            self.mask,
            warp.live & !self.mask
        );
        Err(RawFault::new(Kind::DivergentBarrier, self.mask.trailing_zeros(), detail))
    }

    fn blocks(&self) -> bool {
        self.kind != BarrierKind::Arrive
    }
}

fn predicate(warp: &Warp, guard: Guard) -> u32 {
    let bits = warp.registers.predicate(guard.reg);
    if guard.negated { !bits } else { bits }
}

impl Barriers {
    /// For a new block.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(Slot::clear);
    }

    /// A warp arrives; its index of barrier, and whether it has to wait.
    pub fn arrive(&mut self, warp: &Warp, arrival: &Arrival) -> Outcome<(usize, bool)> {
        let lane = arrival.mask.trailing_zeros();
        let first = lane as usize & 31;
        let trap = |detail: String| Err(RawFault::new(Kind::Trap, lane, detail));
        let id = warp.registers.b32(arrival.id)[first];
        let Some(slot) = self.slots.get_mut(id as usize) else {
            return trap(format!("barrier {id} of 16"));
        };
        let threads = arrival.threads.map(|reg| warp.registers.b32(reg)[first]);
        if let Some(threads) = threads.filter(|threads| threads % 32 != 0 || *threads == 0) {
            return trap(format!("barrier of {threads} threads, which isn't a multiple of the warp size"));
        }
        if slot.arrived.is_empty() {
            slot.clear();
            slot.threads = threads;
        } else if slot.threads != threads {
            return trap(format!("barrier {id} with different numbers of threads"));
        }
        slot.arrived.push(warp.index);
        slot.take(warp, arrival);
        Ok((id as usize, arrival.blocks()))
    }

    /// Warps that have arrived at a barrier that is complete, and those of them that waited.
    pub fn complete(&mut self, id: usize, warps: &mut [Warp], living: usize) -> Option<(Vec<u32>, Vec<u32>)> {
        let slot = &mut self.slots[id & 15];
        let enough = match slot.threads {
            None => slot.arrived.len() >= living,
            Some(threads) => slot.arrived.len() as u32 * 32 >= threads,
        };
        if slot.arrived.is_empty() || !enough {
            return None;
        }
        slot.waiting.iter().for_each(|waiter| slot.give(waiter, &mut warps[waiter.warp as usize]));
        let waited = slot.waiting.iter().map(|waiter| waiter.warp).collect();
        let arrived = std::mem::take(&mut slot.arrived);
        slot.clear();
        Some((arrived, waited))
    }

    /// A barrier that warps wait at, with the number of threads it waits for.
    pub fn stuck(&self) -> Option<(usize, usize, Option<u32>)> {
        let at = self.slots.iter().position(|slot| !slot.waiting.is_empty())?;
        Some((at, self.slots[at].arrived.len(), self.slots[at].threads))
    }
}

impl Slot {
    fn clear(&mut self) {
        self.arrived.clear();
        self.waiting.clear();
        self.threads = None;
        (self.all, self.any, self.count) = (true, false, 0);
    }

    fn take(&mut self, warp: &Warp, arrival: &Arrival) {
        let Arrival { kind, mask, .. } = *arrival;
        if let BarrierKind::Reduce { src, .. } | BarrierKind::Count { src, .. } = kind {
            let set = predicate(warp, src) & mask;
            self.all &= set == mask;
            self.any |= set != 0;
            self.count += set.count_ones();
        }
        if arrival.blocks() {
            self.waiting.push(Waiter { warp: warp.index, mask, kind });
        }
    }

    fn give(&self, waiter: &Waiter, warp: &mut Warp) {
        match waiter.kind {
            BarrierKind::Reduce { dst, op, .. } => {
                let holds = if op == Logic::Or { self.any } else { self.all };
                let bits = if holds { u32::MAX } else { 0 };
                warp.registers.set_predicate(dst, waiter.mask, bits);
            }
            BarrierKind::Count { dst, .. } => {
                warp.registers.set_b32(dst, waiter.mask, &[self.count; LANES]);
            }
            BarrierKind::Sync | BarrierKind::Arrive => {}
        }
    }
}
