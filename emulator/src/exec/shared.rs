//! Shared memory of a block: bounds, what has been written, what is on its way, bank conflicts.

use std::cell::Cell;

use super::context::{Context, Other, Outcome, RawFault};
use super::global::AccessKind;
use super::memory::{Machine, Pattern, Request};
use super::shared_races::{Access, Races};
use super::warp::{LANES, Warp, lanes};
use crate::fault::Kind;
use crate::memory::POISON;

/// A set of bytes, a bit each.
#[derive(Default)]
pub struct ByteSet(Vec<u64>);

impl ByteSet {
    fn reset(&mut self, bytes: usize) {
        self.0.clear();
        self.0.resize(bytes.div_ceil(64), 0);
    }

    /// Words that a range touches, with the range's bits in them.
    fn words(start: u64, bytes: u64) -> impl Iterator<Item = (usize, u64)> {
        let end = start + bytes;
        (start / 64..end.div_ceil(64)).map(move |word| {
            let low = start.saturating_sub(word * 64);
            let high = (end - word * 64).min(64);
            (word as usize, (u64::MAX << low) & (u64::MAX >> (64 - high)))
        })
    }

    /// Puts a range in or out.
    pub fn put(&mut self, start: u64, bytes: u64, inside: bool) {
        for (word, bits) in Self::words(start, bytes) {
            let word = &mut self.0[word];
            *word = if inside { *word | bits } else { *word & !bits };
        }
    }

    /// First byte of a range that is in (or isn't).
    pub fn find(&self, start: u64, bytes: u64, inside: bool) -> Option<u64> {
        Self::words(start, bytes).find_map(|(word, bits)| {
            let hits = (if inside { self.0[word] } else { !self.0[word] }) & bits;
            (hits != 0).then(|| word as u64 * 64 + u64::from(hits.trailing_zeros()))
        })
    }
}

/// Shared memory of the block that runs, and what else its warps share.
#[derive(Default)]
pub struct Shared {
    /// Linear index of the block.
    pub block: u64,
    /// The bytes, in a type with the alignment of the widest access.
    data: Vec<u128>,
    /// How many there are.
    pub bytes: u32,
    /// What has been written; none if that isn't looked for.
    pub written: Option<ByteSet>,
    /// What `cp.async` will write.
    pub pending: ByteSet,
    /// How many copies there are on the way.
    pub pending_copies: usize,
    /// Last writers and readers; none if that isn't looked for.
    pub races: Option<Races>,
    /// A thread of the block has made a fence of device scope.
    pub fenced: Cell<bool>,
    /// Releases of other blocks up to this moment are known here.
    pub acquired: Cell<u64>,
}

impl Shared {
    /// Shared memory as a block finds it.
    pub fn start(&mut self, context: &Context, block: u64, warps: usize) {
        self.block = block;
        self.bytes = context.shared_bytes;
        let size = self.bytes as usize;
        self.data.clear();
        self.data.resize(size.div_ceil(16), u128::from_ne_bytes([POISON; 16]));
        let checks = &context.settings.checks;
        self.written = (checks.uninitialised && size != 0).then(|| {
            let mut written = self.written.take().unwrap_or_default();
            written.reset(size);
            written
        });
        self.pending.reset(size);
        self.pending_copies = 0;
        self.races = (checks.shared_races && size != 0).then(|| {
            let mut races = self.races.take().unwrap_or_default();
            races.reset(size >> context.shared_shift, warps);
            races
        });
        self.fenced.set(false);
        self.acquired.set(0);
    }

    /// Whether anything but bounds has to be looked at.
    pub fn watched(&self) -> bool {
        self.pending_copies != 0 || self.written.is_some() || self.races.is_some()
    }

    /// Host address of the first byte.
    pub fn base(&mut self) -> u64 {
        self.data.as_mut_ptr() as u64
    }

    /// The bytes.
    pub fn data(&mut self) -> &mut [u8] {
        // SAFETY: the vector holds at least `bytes` initialised bytes; u8 has no alignment.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_mut_ptr().cast(), self.bytes as usize) }
    }

    /// Host addresses of a request, whose lanes lie inside.
    pub fn host(&mut self, request: &Request) -> [u64; LANES] {
        let base = self.base();
        request.addresses.map(|address| base.wrapping_add(address))
    }
}

impl Machine<'_, '_> {
    /// Counts an access and checks it.
    pub fn shared_access(
        &mut self,
        warp: &Warp,
        request: &Request,
        usage: AccessKind,
        strong: bool,
    ) -> Outcome {
        self.count_shared(request, usage);
        request.require_below(u64::from(self.shared.bytes), "shared memory")?;
        self.shared_state(warp, request, usage, strong)
    }

    /// Requests, bytes, bank conflicts.
    pub fn count_shared(&mut self, request: &Request, usage: AccessKind) {
        let counters = &mut self.stats.counters;
        let traffic = match usage {
            AccessKind::Read => &mut counters.shared_loads,
            AccessKind::Write => &mut counters.shared_stores,
            AccessKind::Atomic => {
                counters.shared_atomics += 1;
                return;
            }
        };
        traffic.count(request);
        if self.context.settings.count_memory {
            counters.bank_conflicts += bank_conflicts(request);
        }
    }

    /// Copies on the way, initialisation, races.
    pub fn shared_state(
        &mut self,
        warp: &Warp,
        request: &Request,
        usage: AccessKind,
        strong: bool,
    ) -> Outcome {
        if self.shared.pending_copies != 0 {
            self.not_pending(request)?;
        }
        if let Some(written) = &mut self.shared.written {
            for (_, start, bytes) in request.ranges() {
                if usage != AccessKind::Write
                    && let Some(at) = written.find(start, bytes, false)
                {
                    let detail = "shared memory that no thread of the block wrote";
                    return Err(RawFault::at(Kind::Uninitialised, request.lane_of(at), at, detail));
                }
                if usage != AccessKind::Read {
                    written.put(start, bytes, true);
                }
            }
        }
        if self.shared.races.is_some() && !strong {
            self.shared_races(warp, request, usage)?;
        }
        Ok(())
    }

    /// No byte of a request waits for a `cp.async`.
    pub fn not_pending(&self, request: &Request) -> Outcome {
        for (_, start, bytes) in request.ranges() {
            if let Some(at) = self.shared.pending.find(start, bytes, true) {
                let detail = "destination of a cp.async whose wait hasn't come yet";
                return Err(RawFault::at(Kind::AsyncTooEarly, request.lane_of(at), at, detail));
            }
        }
        Ok(())
    }

    /// A `cp.async` of a lane has arrived: a write by that lane.
    pub fn record_arrival(&mut self, warp: &Warp, lane: u32, start: u64, bytes: u64) {
        let shift = self.context.shared_shift;
        let Some(races) = &mut self.shared.races else { return };
        for granule in start >> shift..=(start + bytes - 1) >> shift {
            races.record(
                granule as usize,
                Access { warp: warp.index, lane, pc: warp.pc, usage: AccessKind::Write },
            );
        }
    }

    /// Looks for races of a request, then records it.
    pub fn shared_races(&mut self, warp: &Warp, request: &Request, usage: AccessKind) -> Outcome {
        let shift = self.context.shared_shift;
        let Some(races) = &mut self.shared.races else { return Ok(()) };
        let access = |lane| Access { warp: warp.index, lane: lane as u32, pc: warp.pc, usage };
        // All lanes are looked at before any is recorded: lanes of one instruction don't race.
        for record in [false, true] {
            for lane in lanes(request.mask) {
                let start = request.addresses[lane];
                for granule in start >> shift..=(start + u64::from(request.bytes) - 1) >> shift {
                    let granule = granule as usize;
                    if record {
                        races.record(granule, access(lane));
                    } else if let Some(other) = races.conflict(granule, access(lane)) {
                        return Err(race(lane as u32, (granule as u64) << shift, other, usage));
                    }
                }
            }
        }
        Ok(())
    }
}

fn race(lane: u32, address: u64, other: super::shared_races::Conflict, usage: AccessKind) -> Box<RawFault> {
    let own = match usage {
        AccessKind::Read => "read",
        AccessKind::Write => "write",
        AccessKind::Atomic => "atomic access",
    };
    let theirs = if other.wrote { "written" } else { "read" };
    let who = if other.same_warp { "another lane of the warp" } else { "another warp" };
    let order = if other.same_warp { "bar.warp.sync" } else { "barrier" };
    let detail = format!("{own} of what {who} has {theirs} with no {order} between");
    let other = Some(Other::Thread { thread: other.thread, pc: other.pc });
    Box::new(RawFault { kind: Kind::SharedRace, lane, address: Some(address), detail, other })
}

/// Passes over the banks beyond those that the width needs ([`super::Counters::bank_conflicts`]).
pub fn bank_conflicts(request: &Request) -> u64 {
    if request.pattern != Pattern::Scattered {
        return 0;
    }
    let group = match request.bytes {
        16 => 8,
        8 => 16,
        _ => 32,
    };
    let groups = (0..LANES).step_by(group);
    groups.map(|first| passes(request, first, group).saturating_sub(1)).sum()
}

/// Passes of one group of lanes: the most distinct words in one bank.
fn passes(request: &Request, first: usize, group: usize) -> u64 {
    let mut words: Vec<u64> = Vec::with_capacity(LANES);
    let mask = request.mask & ((u64::from(u32::MAX) >> (32 - group)) as u32) << first;
    for lane in lanes(mask) {
        let start = request.addresses[lane] / 4;
        words.extend(start..start + u64::from(request.bytes.div_ceil(4)));
    }
    words.sort_unstable();
    words.dedup();
    let mut banks = [0u64; 32];
    words.iter().for_each(|word| banks[(word % 32) as usize] += 1);
    banks.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflicts(bytes: u32, address: impl Fn(u64) -> u64) -> u64 {
        let addresses = std::array::from_fn(|lane| address(lane as u64));
        bank_conflicts(&Request::new(u32::MAX, addresses, bytes))
    }

    #[test]
    fn banks() {
        assert_eq!(conflicts(4, |lane| lane * 4), 0);
        assert_eq!(conflicts(4, |_| 64), 0);
        assert_eq!(conflicts(4, |lane| lane * 8), 1);
        assert_eq!(conflicts(4, |lane| lane * 128), 31);
        assert_eq!(conflicts(4, |lane| lane * 132), 0);
        assert_eq!(conflicts(4, |lane| (lane ^ 5) * 4), 0);
        assert_eq!(conflicts(1, |lane| 31 - lane), 0);
        assert_eq!(conflicts(16, |lane| lane * 16), 0);
        // Every quarter: 8 lanes in one group of four banks.
        assert_eq!(conflicts(16, |lane| lane * 128), 4 * 7);
        assert_eq!(conflicts(16, |lane| lane * 144), 0);
        assert_eq!(conflicts(8, |lane| lane * 256), 2 * 15);
    }
}
