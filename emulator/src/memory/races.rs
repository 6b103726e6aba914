//! Who touched a byte of device memory last, in this launch.
//!
//! One record of the last writer and one of the last reader per granule: as many bytes as the narrowest
//! access of the kernel has, so that no two accesses share a granule without sharing a byte. A record
//! holds the launch's number, so that those of earlier launches need no clearing.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::region::Region;

/// Launch numbers in a record: after so many, all records are forgotten.
const EPOCHS: u32 = 1 << 10;

/// A record, unpacked from 64 bits: 10 of the launch's number (0: none), 1 atomic, 1 several blocks,
/// 18 of the instruction, 34 of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Linear index of the block.
    pub block: u64,
    /// Index of the instruction.
    pub instruction: u32,
    /// By an atomic instruction.
    pub atomic: bool,
    /// Other blocks did the same before.
    pub several: bool,
}

const BLOCK_BITS: u32 = 34;
const INSTRUCTION_BITS: u32 = 18;

impl Record {
    fn pack(self, epoch: u32) -> u64 {
        let instruction = u64::from(self.instruction) & ((1 << INSTRUCTION_BITS) - 1);
        (self.block & ((1 << BLOCK_BITS) - 1))
            | instruction << BLOCK_BITS
            | u64::from(self.several) << 52
            | u64::from(self.atomic) << 53
            | u64::from(epoch) << 54
    }

    fn unpack(bits: u64, epoch: u32) -> Option<Record> {
        (bits >> 54 == u64::from(epoch)).then_some(Record {
            block: bits & ((1 << BLOCK_BITS) - 1),
            instruction: (bits >> BLOCK_BITS) as u32 & ((1 << INSTRUCTION_BITS) - 1),
            several: bits >> 52 & 1 == 1,
            atomic: bits >> 53 & 1 == 1,
        })
    }
}

/// The records of all device memory.
pub struct Races {
    writers: Region,
    readers: Region,
    wraps: AtomicU32,
}

impl Races {
    pub(super) fn new(bytes: u64) -> io::Result<Races> {
        let region = || Region::new(bytes * 8);
        Ok(Races { writers: region()?, readers: region()?, wraps: AtomicU32::new(0) })
    }

    /// The number that records of this launch carry, from 1 on.
    pub(crate) fn epoch(&self, launch: u32) -> u32 {
        let wraps = launch / (EPOCHS - 1);
        if self.wraps.swap(wraps, Ordering::Relaxed) != wraps {
            self.writers.forget_all();
            self.readers.forget_all();
        }
        launch % (EPOCHS - 1) + 1
    }

    #[inline]
    fn cell(region: &Region, granule: u64) -> &AtomicU64 {
        // SAFETY: callers pass granules of offsets of device memory, with one cell for each byte.
        unsafe { &*((region.start() + granule * 8) as *const AtomicU64) }
    }

    /// Records a read; the conflicting write of another block, if there was one.
    ///
    /// Both sides publish their record before they look at the other's (the swap orders them), so of two
    /// blocks that run at the same time at least one sees the other.
    #[inline]
    pub(crate) fn read(&self, granule: u64, mut own: Record, epoch: u32) -> Option<Record> {
        let cell = Self::cell(&self.readers, granule);
        let old = cell.load(Ordering::Relaxed);
        match Record::unpack(old, epoch) {
            Some(before) if before.block == own.block || before.several => {}
            before => {
                own.several = before.is_some();
                cell.swap(own.pack(epoch), Ordering::SeqCst);
            }
        }
        let writer = Self::cell(&self.writers, granule).load(Ordering::SeqCst);
        Record::unpack(writer, epoch).filter(|writer| writer.block != own.block || writer.several)
    }

    /// Records a write, atomic or not; the conflicting access of another block, if there was one, and
    /// whether that was a write.
    #[inline]
    pub(crate) fn write(&self, granule: u64, mut own: Record, epoch: u32) -> Option<(Record, bool)> {
        let cell = Self::cell(&self.writers, granule);
        let before = Record::unpack(cell.load(Ordering::Relaxed), epoch);
        own.several = before.is_some_and(|before| before.block != own.block || before.several);
        let before = Record::unpack(cell.swap(own.pack(epoch), Ordering::SeqCst), epoch);
        if let Some(before) = before
            && (before.block != own.block || before.several)
            && !(own.atomic && before.atomic)
        {
            return Some((before, true));
        }
        let reader = Self::cell(&self.readers, granule).load(Ordering::SeqCst);
        let reader = Record::unpack(reader, epoch)?;
        (reader.block != own.block || reader.several).then_some((reader, false))
    }
}
