//! What a launch did: the numbers that decide how fast a GPU would be.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;

use super::memory::Request;

/// Loads or stores of one space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Instructions of a warp with at least one active lane.
    pub requests: u64,
    /// Bytes that the lanes asked for.
    pub bytes: u64,
    /// Global memory: sectors of 32 bytes touched, each counted once a request. A request whose lanes
    /// lie side by side touches bytes / 32.
    pub sectors: u64,
}

impl Traffic {
    /// Counts a request and its bytes.
    #[inline(always)]
    pub fn count(&mut self, request: &Request) {
        self.requests += 1;
        self.bytes += u64::from(request.bytes) * u64::from(request.mask.count_ones());
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.sectors += other.sectors;
    }
}

/// A shape of matrix instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Warp instructions.
    pub instructions: u64,
    /// Multiply-adds in them.
    pub products: u64,
}

/// Sums over a launch, or over several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Launches.
    pub launches: u64,
    /// Blocks.
    pub blocks: u64,
    /// Warps.
    pub warps: u64,
    /// Instructions issued by warps.
    pub warp_instructions: u64,
    /// Instructions executed by threads: those of the active lanes.
    pub thread_instructions: u64,
    /// Warp instructions by kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Loads from global memory, without atomics.
    pub global_loads: Traffic,
    /// Stores to global memory, without atomics.
    pub global_stores: Traffic,
    /// Loads from shared memory, `ldmatrix` among them.
    pub shared_loads: Traffic,
    /// Stores to shared memory.
    pub shared_stores: Traffic,
    /// Extra passes over the 32 banks of 4 bytes, of loads, stores and what `cp.async` writes. 4-byte and
    /// narrower accesses go in one pass if no two
    /// lanes touch different words of a bank; 8-byte ones in two passes (half-warps), 16-byte ones and
    /// `ldmatrix` in four or in one a matrix (quarter-warps), each looked at by itself: these passes are
    /// not conflicts.
    pub bank_conflicts: u64,
    /// Loads and stores of local memory: spilled registers and arrays.
    pub local: Traffic,
    /// Atomic instructions on global memory.
    pub global_atomics: u64,
    /// Atomic instructions on shared memory.
    pub shared_atomics: u64,
    /// Matrix instructions by shape and types.
    pub matrix: BTreeMap<String, Matrix>,
    /// `ldmatrix` instructions.
    pub matrix_loads: u64,
    /// `cp.async`: requests, bytes read, sectors.
    pub async_copies: Traffic,
    /// Barriers that a warp reached.
    pub barriers: u64,
    /// Branches that split a warp.
    pub divergent_branches: u64,
    /// Branches.
    pub branches: u64,
}

impl AddAssign<&Counters> for Counters {
    fn add_assign(&mut self, other: &Counters) {
        self.launches += other.launches;
        self.blocks += other.blocks;
        self.warps += other.warps;
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        for (kind, count) in &other.by_kind {
            *self.by_kind.entry(kind).or_default() += count;
        }
        self.global_loads += other.global_loads;
        self.global_stores += other.global_stores;
        self.shared_loads += other.shared_loads;
        self.shared_stores += other.shared_stores;
        self.bank_conflicts += other.bank_conflicts;
        self.local += other.local;
        self.global_atomics += other.global_atomics;
        self.shared_atomics += other.shared_atomics;
        for (shape, matrix) in &other.matrix {
            let own = self.matrix.entry(shape.clone()).or_default();
            own.instructions += matrix.instructions;
            own.products += matrix.products;
        }
        self.matrix_loads += other.matrix_loads;
        self.async_copies += other.async_copies;
        self.barriers += other.barriers;
        self.divergent_branches += other.divergent_branches;
        self.branches += other.branches;
    }
}
