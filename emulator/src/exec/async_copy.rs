//! `cp.async`: from global to shared memory, delivered at the wait.
//!
//! The source is read when the copy is issued; the bytes reach shared memory when the thread waits for
//! the group. Until then the destination is pending, and every access to it a finding. So a kernel that
//! waits one group too late is caught, whatever the timing on a GPU would have been. Other threads need
//! a barrier after the wait: the delivery is a write of the waiting thread.

use super::context::{Outcome, RawFault};
use super::global::{AccessKind, sectors};
use super::memory::{Machine, Request};
use super::shared::bank_conflicts;
use super::warp::{LANES, Warp, lanes};
use crate::fault::Kind;
use crate::ir::{AsyncCopy, LOCAL_WINDOW, SHARED_WINDOW};

/// One lane's copy on its way.
#[derive(Clone, Debug)]
struct Copy {
    lane: u32,
    group: u32,
    shared: u64,
    bytes: u32,
    data: [u8; 16],
}

/// The copies of a warp.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    list: Vec<Copy>,
    /// Groups that each lane has committed.
    committed: [u32; LANES],
}

impl Copies {
    /// For a new block.
    pub fn clear(&mut self) {
        self.list.clear();
        self.committed = [0; LANES];
    }

    /// `cp.async.commit_group`.
    pub fn commit(&mut self, mask: u32) {
        lanes(mask).for_each(|lane| self.committed[lane] += 1);
    }
}

impl Machine<'_, '_> {
    /// `cp.async`.
    #[inline(never)]
    pub fn async_copy(&mut self, warp: &mut Warp, mask: u32, copy: &AsyncCopy) -> Outcome {
        let mut shared = warp.registers.addresses(&copy.shared);
        if copy.shared.wide && lanes(mask).all(|lane| (SHARED_WINDOW..LOCAL_WINDOW).contains(&shared[lane])) {
            shared = shared.map(|address| address.wrapping_sub(SHARED_WINDOW));
        }
        let target = Request::new(mask, shared, copy.bytes);
        target.require_aligned()?;
        target.require_below(u64::from(self.shared.bytes), "shared memory")?;
        if self.context.settings.count_memory {
            self.stats.counters.bank_conflicts += bank_conflicts(&target);
        }
        let sources = self.read_sources(warp, mask, copy)?;
        if self.context.settings.checks.async_copies {
            return self.send(warp, &target, &sources);
        }
        self.shared_state(warp, &target, AccessKind::Write, false)?;
        for lane in lanes(mask) {
            let (start, bytes) = (shared[lane] as usize, copy.bytes as usize);
            self.shared.data()[start..start + bytes].copy_from_slice(&sources[lane][..bytes]);
        }
        Ok(())
    }

    /// What every lane copies, zeros included.
    fn read_sources(&mut self, warp: &Warp, mask: u32, copy: &AsyncCopy) -> Outcome<[[u8; 16]; LANES]> {
        let addresses = warp.registers.addresses(&copy.global);
        let mut lengths = [copy.bytes; LANES];
        if let Some(reg) = copy.source_bytes {
            let given = warp.registers.b32(reg);
            lengths = std::array::from_fn(|lane| given[lane].min(copy.bytes));
        }
        if let Some(ignore) = copy.ignore {
            let predicate = warp.registers.predicate(ignore.reg);
            let ignored = if ignore.negated { !predicate } else { predicate };
            lanes(ignored).for_each(|lane| lengths[lane] = 0);
        }
        let mut data = [[0; 16]; LANES];
        for length in 1..=copy.bytes {
            let part =
                lanes(mask).filter(|&lane| lengths[lane] == length).fold(0, |part, lane| part | 1 << lane);
            if part == 0 {
                continue;
            }
            Request::new(part, addresses, copy.bytes).require_aligned()?;
            let request = Request::new(part, addresses, length);
            let traffic = &mut self.stats.counters.async_copies;
            traffic.count(&request);
            if self.context.settings.count_memory {
                traffic.sectors += sectors(&request);
            }
            self.global_access(warp, &request, AccessKind::Read, false)?;
            for lane in lanes(part) {
                let from = addresses[lane] as *const u8;
                // SAFETY: `global_access` found these bytes good.
                unsafe { std::ptr::copy(from, data[lane].as_mut_ptr(), length as usize) };
            }
        }
        Ok(data)
    }

    fn send(&mut self, warp: &mut Warp, target: &Request, sources: &[[u8; 16]; LANES]) -> Outcome {
        self.not_pending(target)?;
        if self.shared.races.is_some() {
            self.shared_races(warp, target, AccessKind::Write)?;
        }
        for lane in lanes(target.mask) {
            let (shared, bytes) = (target.addresses[lane], target.bytes);
            if let Some(at) = self.shared.pending.find(shared, u64::from(bytes), true) {
                let detail = "two lanes of a cp.async write the same byte";
                return Err(RawFault::at(Kind::SharedRace, lane as u32, at, detail));
            }
            self.shared.pending.put(shared, u64::from(bytes), true);
            let group = warp.copies.committed[lane];
            warp.copies.list.push(Copy { lane: lane as u32, group, shared, bytes, data: sources[lane] });
            self.shared.pending_copies += 1;
        }
        Ok(())
    }

    /// `cp.async.wait_group`: all but the youngest `pending` groups of each lane arrive.
    #[inline(never)]
    pub fn async_wait(&mut self, warp: &mut Warp, mask: u32, pending: u32) {
        self.deliver(warp, |copies, copy| {
            mask >> copy.lane & 1 == 1
                && copy.group.saturating_add(pending) < copies.committed[copy.lane as usize]
        });
    }

    /// `cp.async.wait_all`.
    #[inline(never)]
    pub fn async_wait_all(&mut self, warp: &mut Warp, mask: u32) {
        warp.copies.commit(mask);
        self.deliver(warp, |_, copy| mask >> copy.lane & 1 == 1);
    }

    fn deliver(&mut self, warp: &mut Warp, arrives: impl Fn(&Copies, &Copy) -> bool) {
        if warp.copies.list.is_empty() {
            return;
        }
        let list = std::mem::take(&mut warp.copies.list);
        let (now, later): (Vec<Copy>, Vec<Copy>) =
            list.into_iter().partition(|copy| arrives(&warp.copies, copy));
        warp.copies.list = later;
        for copy in &now {
            self.arrive(warp, copy);
        }
    }

    fn arrive(&mut self, warp: &Warp, copy: &Copy) {
        let (start, bytes) = (copy.shared, u64::from(copy.bytes));
        let range = start as usize..start as usize + copy.bytes as usize;
        self.shared.data()[range].copy_from_slice(&copy.data[..copy.bytes as usize]);
        self.shared.pending.put(start, bytes, false);
        self.shared.pending_copies -= 1;
        if let Some(written) = &mut self.shared.written {
            written.put(start, bytes, true);
        }
        self.record_arrival(warp, copy.lane, start, bytes);
    }
}
