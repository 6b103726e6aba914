//! What all blocks of a launch share, and what each of the emulator's threads keeps to itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::plan::Plan;
use super::{Counters, Launch, Settings};
use crate::fault::{Fault, Kind, Place};
use crate::ir::Kernel;
use crate::memory::races::Races;
use crate::memory::{GlobalMemory, Range};

/// Result of an instruction.
pub type Outcome<T = ()> = Result<T, Box<RawFault>>;

/// A fault as the instruction that found it knows it: [`Context::fault`] adds the names.
#[derive(Debug)]
pub struct RawFault {
    pub kind: Kind,
    pub lane: u32,
    pub address: Option<u64>,
    pub detail: String,
    pub other: Option<Other>,
}

/// The other party of a race.
#[derive(Clone, Copy, Debug)]
pub enum Other {
    /// A thread of another block; which one isn't kept.
    Block { block: u64, pc: u32 },
    /// A thread of this block.
    Thread { thread: u32, pc: u32 },
}

impl RawFault {
    /// A finding without an address.
    pub fn new(kind: Kind, lane: u32, detail: impl Into<String>) -> Box<RawFault> {
        Box::new(RawFault { kind, lane, address: None, detail: detail.into(), other: None })
    }

    /// A finding at an address.
    pub fn at(kind: Kind, lane: u32, address: u64, detail: impl Into<String>) -> Box<RawFault> {
        Box::new(RawFault { kind, lane, address: Some(address), detail: detail.into(), other: None })
    }
}

/// Records of accesses by blocks, for global races.
pub struct GlobalRaces<'a> {
    pub records: &'a Races,
    pub epoch: u32,
    /// log2 of the bytes of a granule.
    pub shift: u32,
    /// Moments at which a block released what it had written: fence, then atomic or strong store. Empty
    /// if the kernel has no fence.
    pub released: Vec<AtomicU64>,
    /// The clock of these moments.
    pub moments: AtomicU64,
}

/// What all blocks share.
pub struct Context<'a> {
    pub kernel: &'a Kernel,
    pub plan: &'a Plan,
    pub launch: &'a Launch,
    pub settings: &'a Settings,
    pub memory: &'a GlobalMemory,
    pub allocations: Arc<Vec<Range>>,
    pub reserved: Range,
    /// Bounds, initialisation or races of global memory are looked at.
    pub checked: bool,
    pub races: Option<GlobalRaces<'a>>,
    /// log2 of the bytes of a granule of shared memory.
    pub shared_shift: u32,
    pub shared_bytes: u32,
    pub started: Instant,
    /// Instructions of warps that are left.
    pub left: AtomicU64,
}

impl Context<'_> {
    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.launch.block.iter().fold(1, |product: u32, &count| product.saturating_mul(count))
    }

    /// Index of a block in x, y, z.
    pub fn block_index(&self, block: u64) -> [u32; 3] {
        let [x, y, _] = self.launch.grid.map(|count| u64::from(count.max(1)));
        [(block % x) as u32, (block / x % y) as u32, (block / (x * y)) as u32]
    }

    /// Index of a thread in x, y, z.
    pub fn thread_index(&self, thread: u32) -> [u32; 3] {
        let [x, y, _] = self.launch.block.map(|count| count.max(1));
        [thread % x, thread / x % y, thread / (x * y)]
    }

    /// Where a thread stands.
    pub fn place(&self, block: u64, thread: u32, pc: u32) -> Place {
        let line = self.kernel.lines.get(pc as usize).copied().unwrap_or_default();
        let file = self.kernel.files.get(usize::from(line.file)).filter(|_| line.line != 0);
        Place {
            kernel: self.kernel.name.clone(),
            source: file.map(|file| (file.clone(), line.line)),
            ptx_line: line.ptx,
            block: self.block_index(block),
            thread: self.thread_index(thread),
        }
    }

    /// The finding with names instead of indices.
    pub fn fault(&self, raw: RawFault, block: u64, thread: u32, pc: u32) -> Fault {
        let mut detail = raw.detail;
        let other = raw.other.map(|other| match other {
            Other::Block { block, pc } => {
                detail.push_str(" (of the other block no thread is kept)");
                self.place(block, 0, pc)
            }
            Other::Thread { thread, pc } => self.place(block, thread, pc),
        });
        let place = self.place(block, thread, pc);
        Fault { kind: raw.kind, place, address: raw.address, detail, other }
    }

    /// Takes instructions from what is left; false if there are none.
    pub fn spend(&self, count: u64) -> bool {
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(count)));
        before.is_ok_and(|left| left > count)
    }
}

/// What one of the emulator's threads counts.
pub struct Stats {
    /// Everything that isn't counted by instruction.
    pub counters: Counters,
    /// How often warps executed each instruction.
    pub hits: Vec<u64>,
    /// With how many active lanes in all.
    pub lanes: Vec<u64>,
    /// The allocation that an instruction touched last, by instruction.
    pub last: Vec<Range>,
}

impl Stats {
    pub fn new(instructions: usize) -> Stats {
        Stats {
            counters: Counters::default(),
            hits: vec![0; instructions],
            lanes: vec![0; instructions],
            last: vec![Range { start: 0, end: 0 }; instructions],
        }
    }
}
