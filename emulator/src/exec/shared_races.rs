//! Races on shared memory.
//!
//! Every warp has a clock that moves at each of its synchronisations, and knows of every other warp how
//! far that had come when they last met at a barrier (a vector clock). A record is (thread, clock,
//! instruction) of the last writer of a granule and of its last two readers from different warps. An access
//! conflicts with a record of another warp if the barriers between them didn't order it, and with a record
//! of another lane of its own warp if the warp hasn't synchronised since.
//!
//! A warp synchronises at barriers, at `bar.warp.sync`, and also at shuffles, votes and the other
//! instructions with `.sync`: those don't promise to order memory, but they make lanes wait for one
//! another, and programs rely on it. Lanes of one instruction never race with each other. A granule is as
//! many bytes as the kernel's narrowest access to shared memory.

use super::global::AccessKind;

/// Bits: 6 lane (63: several), 5 warp, 1 atomic, 20 instruction, 32 clock. 0 is no access.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Record(u64);

const SEVERAL: u32 = 63;

impl Record {
    fn new(access: Access, clock: u32) -> Record {
        Record(
            u64::from(access.lane)
                | u64::from(access.warp & 31) << 6
                | u64::from(access.usage == AccessKind::Atomic) << 11
                | u64::from(access.pc & 0xf_ffff) << 12
                | u64::from(clock) << 32,
        )
    }

    fn lane(self) -> u32 {
        self.0 as u32 & 63
    }

    fn warp(self) -> u32 {
        self.0 as u32 >> 6 & 31
    }

    fn atomic(self) -> bool {
        self.0 >> 11 & 1 == 1
    }

    fn pc(self) -> u32 {
        self.0 as u32 >> 12
    }

    fn clock(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn several_lanes(self) -> Record {
        Record(self.0 | u64::from(SEVERAL))
    }
}

/// An access by a thread.
#[derive(Clone, Copy)]
pub struct Access {
    pub warp: u32,
    pub lane: u32,
    pub pc: u32,
    pub usage: AccessKind,
}

/// The other party.
#[derive(Clone, Copy, Debug)]
pub struct Conflict {
    pub thread: u32,
    pub pc: u32,
    pub wrote: bool,
    pub same_warp: bool,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    writer: Record,
    reader: Record,
    earlier_reader: Record,
}

/// Records of a block's shared memory and clocks of its warps.
#[derive(Default)]
pub struct Races {
    cells: Vec<Cell>,
    warps: usize,
    /// What warp `w` knows of warp `v`: `clocks[w * warps + v]`.
    clocks: Vec<u32>,
}

impl Races {
    /// For a block that begins.
    pub fn reset(&mut self, granules: usize, warps: usize) {
        self.cells.clear();
        self.cells.resize(granules + 1, Cell::default());
        self.warps = warps;
        self.clocks.clear();
        self.clocks.resize(warps * warps, 0);
        (0..warps).for_each(|warp| self.clocks[warp * warps + warp] = 1);
    }

    /// A warp synchronised its lanes.
    pub fn tick(&mut self, warp: u32) {
        let warp = warp as usize;
        self.clocks[warp * self.warps + warp] += 1;
    }

    /// Warps met at a barrier: those that `wait` know afterwards what all that `arrived` knew.
    pub fn meet(&mut self, arrived: &[u32], wait: &[u32]) {
        let warps = self.warps;
        let known: Vec<u32> = (0..warps)
            .map(|of| arrived.iter().map(|&by| self.clocks[by as usize * warps + of]).max().unwrap_or(0))
            .collect();
        for &warp in wait {
            let own = &mut self.clocks[warp as usize * warps..][..warps];
            own.iter_mut().zip(&known).for_each(|(own, known)| *own = (*own).max(*known));
        }
        arrived.iter().for_each(|&warp| self.tick(warp));
    }

    /// Whether what a record says happened before the warp's present.
    fn ordered(&self, record: Record, access: Access) -> bool {
        let warp = access.warp as usize;
        let known = self.clocks[warp * self.warps + record.warp() as usize];
        if record.warp() == access.warp & 31 {
            return record.clock() < known || record.lane() == access.lane;
        }
        record.clock() <= known
    }

    /// A record that the access races with.
    pub fn conflict(&self, granule: usize, access: Access) -> Option<Conflict> {
        let cell = self.cells.get(granule)?;
        let both_atomic = |record: Record| record.atomic() && access.usage == AccessKind::Atomic;
        let races =
            |record: Record| record != Record(0) && !self.ordered(record, access) && !both_atomic(record);
        let readers = [cell.reader, cell.earlier_reader];
        let record = if races(cell.writer) {
            (cell.writer, true)
        } else if access.usage != AccessKind::Read {
            (readers.into_iter().find(|record| races(*record))?, false)
        } else {
            return None;
        };
        let (record, wrote) = record;
        let lane = if record.lane() == SEVERAL { 0 } else { record.lane() };
        let same_warp = record.warp() == access.warp & 31;
        Some(Conflict { thread: record.warp() * 32 + lane, pc: record.pc(), wrote, same_warp })
    }

    /// Remembers an access.
    pub fn record(&mut self, granule: usize, access: Access) {
        let warp = access.warp as usize;
        let clock = self.clocks[warp * self.warps + warp];
        let Some(cell) = self.cells.get_mut(granule) else { return };
        let new = Record::new(access, clock);
        if access.usage != AccessKind::Read {
            cell.writer = new;
            return;
        }
        let old = cell.reader;
        if old == Record(0) || old.warp() == new.warp() {
            let same_moment = old.clock() == clock && old != Record(0) && old.lane() != new.lane();
            cell.reader = if same_moment { new.several_lanes() } else { new };
        } else {
            cell.earlier_reader = old;
            cell.reader = new;
        }
    }
}
