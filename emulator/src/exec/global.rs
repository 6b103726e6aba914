//! Global memory: which accesses are good, and what they cost.
//!
//! **Races between blocks.** Two blocks that touch the same byte, one of them writing and not both
//! atomically, race, unless the later one can know of the earlier: the earlier block made a fence and then
//! an atomic or strong access (a release), and the later one an atomic or strong load after that (an
//! acquire). That accepts more than it should (what a block writes after its last release counts as
//! released), so that no correct program is accused. Races between threads of one block on global
//! memory aren't looked for.

use std::sync::atomic::Ordering;

use super::context::{Context, GlobalRaces, Other, Outcome, RawFault};
use super::memory::{Machine, Pattern, Request};
use super::warp::{Warp, lanes};
use crate::fault::Kind;
use crate::memory::races::Record;
use crate::memory::{AccessError, Range};

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    Read,
    Write,
    Atomic,
}

impl Machine<'_, '_> {
    /// Requests, bytes and sectors.
    pub fn count_global(&mut self, request: &Request, usage: AccessKind) {
        let sectors = if self.context.settings.count_memory { sectors(request) } else { 0 };
        let counters = &mut self.stats.counters;
        let traffic = match usage {
            AccessKind::Read => &mut counters.global_loads,
            AccessKind::Write => &mut counters.global_stores,
            AccessKind::Atomic => {
                counters.global_atomics += 1;
                return;
            }
        };
        traffic.count(request);
        traffic.sectors += sectors;
    }

    /// Bounds, initialisation, races.
    pub fn global_access(
        &mut self,
        warp: &Warp,
        request: &Request,
        usage: AccessKind,
        strong: bool,
    ) -> Outcome {
        let (low, high) = request.span();
        let context = self.context;
        if !context.checked {
            let inside = low >= context.reserved.start && high <= context.reserved.end;
            return if inside { Ok(()) } else { self.explain(request) };
        }
        let last = &mut self.stats.last[warp.pc as usize];
        if low < last.start || high > last.end {
            match allocation(context, low, high) {
                Some(range) => *last = range,
                None => self.explain(request)?,
            }
        }
        if context.memory.keeps_initialised() {
            self.initialisation(request, usage)?;
        }
        match &context.races {
            Some(races) => self.races(warp, races, request, usage, strong),
            None => Ok(()),
        }
    }

    /// The access isn't inside one allocation: says which lane and why, if that is looked for.
    #[cold]
    fn explain(&self, request: &Request) -> Outcome {
        let checks = self.context.settings.checks;
        for lane in lanes(request.mask) {
            let (address, bytes) = (request.addresses[lane], u64::from(request.bytes));
            let Err(error) = self.context.memory.check(address, bytes) else { continue };
            let freed = matches!(error, AccessError::Freed { .. });
            let (kind, wanted) = match freed {
                true => (Kind::UseAfterFree, checks.use_after_free),
                false => (Kind::OutOfBounds, checks.out_of_bounds),
            };
            if wanted || !self.context.memory.contains(address, bytes) {
                return Err(RawFault::at(kind, lane as u32, address, error.to_string()));
            }
        }
        Ok(())
    }

    fn initialisation(&self, request: &Request, usage: AccessKind) -> Outcome {
        let memory = self.context.memory;
        for (_, start, bytes) in request.ranges() {
            if usage != AccessKind::Write
                && self.context.settings.checks.uninitialised
                && let Some(at) = memory.first_uninitialised(start, bytes)
            {
                let detail = "global memory that nothing wrote";
                return Err(RawFault::at(Kind::Uninitialised, request.lane_of(at), at, detail));
            }
            if usage != AccessKind::Read {
                memory.mark(start, bytes);
            }
        }
        Ok(())
    }

    fn races(
        &self,
        warp: &Warp,
        races: &GlobalRaces,
        request: &Request,
        usage: AccessKind,
        strong: bool,
    ) -> Outcome {
        let block = self.shared.block;
        if strong || usage == AccessKind::Atomic {
            self.synchronise(races, usage);
        }
        if strong && usage != AccessKind::Atomic {
            return Ok(());
        }
        let atomic = usage == AccessKind::Atomic;
        let own = Record { block, instruction: warp.pc, atomic, several: false };
        for (_, start, bytes) in request.ranges() {
            let offset = self.context.memory.offset(start);
            for granule in offset >> races.shift..=(offset + bytes - 1) >> races.shift {
                let conflict = match usage {
                    AccessKind::Read => {
                        races.records.read(granule, own, races.epoch).map(|other| (other, true))
                    }
                    _ => races.records.write(granule, own, races.epoch),
                };
                if let Some((other, wrote)) = conflict
                    && !self.ordered(races, other.block)
                {
                    let at = start - offset + (granule << races.shift);
                    return Err(race(request.lane_of(at.max(start)), at, other, wrote, usage));
                }
            }
        }
        Ok(())
    }

    /// An atomic or strong access: a release if a fence went before, and an acquire.
    fn synchronise(&self, races: &GlobalRaces, usage: AccessKind) {
        let block = self.shared.block as usize;
        let Some(released) = races.released.get(block) else { return };
        if usage != AccessKind::Read && self.shared.fenced.get() {
            released.store(races.moments.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        }
        if usage != AccessKind::Write {
            self.shared.acquired.set(races.moments.load(Ordering::SeqCst));
        }
    }

    /// Whether the other block released, and this one acquired after that.
    fn ordered(&self, races: &GlobalRaces, other: u64) -> bool {
        let released = races.released.get(other as usize).map_or(0, |at| at.load(Ordering::SeqCst));
        released != 0 && released <= self.shared.acquired.get()
    }
}

fn race(lane: u32, address: u64, other: Record, wrote: bool, usage: AccessKind) -> Box<RawFault> {
    let own = match usage {
        AccessKind::Read => "read",
        AccessKind::Write => "write",
        AccessKind::Atomic => "atomic access",
    };
    let theirs = match (other.atomic, wrote) {
        (true, _) => "updated atomically",
        (_, true) => "written",
        _ => "read",
    };
    let detail = format!("{own} of what another block has {theirs} in this launch");
    let other = Some(Other::Block { block: other.block, pc: other.instruction });
    Box::new(RawFault { kind: Kind::GlobalRace, lane, address: Some(address), detail, other })
}

/// The allocation that holds a range.
fn allocation(context: &Context, low: u64, high: u64) -> Option<Range> {
    let list = &context.allocations;
    let after = list.partition_point(|range| range.start <= low);
    let range = *list.get(after.checked_sub(1)?)?;
    (high <= range.end).then_some(range)
}

/// Sectors of 32 bytes that a request touches.
pub fn sectors(request: &Request) -> u64 {
    if request.pattern != Pattern::Scattered {
        let (low, high) = request.span();
        return (high.saturating_sub(1) >> 5) - (low >> 5) + 1;
    }
    let mut list = [0u64; 64];
    let mut count = 0;
    for lane in lanes(request.mask) {
        let first = request.addresses[lane];
        // Aligned accesses of at most 16 bytes lie in one sector.
        let sector = first >> 5;
        if count == 0 || list[count - 1] != sector {
            list[count] = sector;
            count += 1;
        }
    }
    let list = &mut list[..count];
    list.sort_unstable();
    1 + list.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64
}
