//! Runs kernels: blocks, warps, instructions; the checks and the counters.
//!
//! | file | |
//! |---|---|
//! | `launch` | blocks over threads, first fault wins |
//! | `block`, `barrier` | warps of a block, in a seeded order, between barriers |
//! | `warp`, `control` | registers, active lanes, divergence and reconvergence |
//! | `plan`, `vector_op` | which instructions run vectorised |
//! | `interpreter`, `vector_registers`, `vector_memory` | the vectorised interpreter: all lanes at once |
//! | `scalar` and `integer`, `compare`, `moves`, `lanes`, `matrix` | the scalar interpreter: any instruction, lane by lane |
//! | `equivalence_tests` | both give the same bits |
//! | `memory`, `global`, `shared`, `atomic`, `async_copy` | loads and stores |
//! | `value` | what an operation gives for one value |
//! | `counters` | what a launch did |
//!
//! **Divergence.** A branch that some lanes take splits the warp; the parts run one after the other and
//! meet at the branch's immediate post-dominator. So lanes of one warp that wait for one another in a loop
//! (a lock) may never end, as on hardware before Volta; the instruction limit ends them.

mod async_copy;
mod atomic;
mod barrier;
mod block;
mod compare;
mod context;
mod control;
mod counters;
#[cfg(test)]
mod equivalence_tests;
mod global;
mod integer;
mod interpreter;
mod lanes;
mod launch;
mod matrix;
mod memory;
mod moves;
mod plan;
mod random;
mod scalar;
mod shared;
mod shared_races;
pub mod value;
mod vector_memory;
mod vector_op;
mod vector_registers;
mod warp;

pub use counters::{Counters, Matrix, Traffic};
pub use launch::launch;

use crate::fault::Kind;

/// What a kernel is started with.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub dynamic_shared: u32,
    /// The parameter block, as long as the kernel says.
    pub params: Vec<u8>,
    /// Addresses of the module's variables, in their order.
    pub variables: Vec<u64>,
    /// All blocks make progress together, as in a cooperative launch.
    pub cooperative: bool,
    /// `%gridid`.
    pub id: u64,
}

/// Which checks are made. Misaligned accesses, addresses outside of device memory and launches that never
/// end are always found: nothing can run on after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// [`Kind::OutOfBounds`] between allocations of global memory.
    pub out_of_bounds: bool,
    /// [`Kind::UseAfterFree`].
    pub use_after_free: bool,
    /// [`Kind::Uninitialised`].
    pub uninitialised: bool,
    /// [`Kind::SharedRace`].
    pub shared_races: bool,
    /// [`Kind::GlobalRace`].
    pub global_races: bool,
    /// [`Kind::AsyncTooEarly`]; without it `cp.async` copies at once.
    pub async_copies: bool,
    /// [`Kind::DivergentBarrier`]; without it a barrier counts whole warps.
    pub barriers: bool,
}

impl Checks {
    /// All of them.
    pub const ALL: Checks = Checks::every(true);
    /// None of them.
    pub const NONE: Checks = Checks::every(false);

    const fn every(on: bool) -> Checks {
        Checks {
            out_of_bounds: on,
            use_after_free: on,
            uninitialised: on,
            shared_races: on,
            global_races: on,
            async_copies: on,
            barriers: on,
        }
    }

    /// The switch of a kind of finding; none for those that are always found.
    pub fn switch(&mut self, kind: Kind) -> Option<&mut bool> {
        match kind {
            Kind::OutOfBounds => Some(&mut self.out_of_bounds),
            Kind::UseAfterFree => Some(&mut self.use_after_free),
            Kind::Uninitialised => Some(&mut self.uninitialised),
            Kind::SharedRace => Some(&mut self.shared_races),
            Kind::GlobalRace => Some(&mut self.global_races),
            Kind::AsyncTooEarly => Some(&mut self.async_copies),
            Kind::DivergentBarrier => Some(&mut self.barriers),
            Kind::Misaligned | Kind::Endless | Kind::Trap => None,
        }
    }
}

/// How launches are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is checked.
    pub checks: Checks,
    /// Order of blocks and warps. 0: ascending, each warp until it has to wait. Any other: shuffled, and
    /// warps are interrupted at random points.
    pub seed: u64,
    /// Threads that run blocks.
    pub threads: usize,
    /// Instructions of warps in one launch, at most.
    pub limit: u64,
    /// Count sectors and bank conflicts, which costs time.
    pub count_memory: bool,
}

impl Default for Settings {
    /// All checks and counts, two threads, 2^36 instructions.
    fn default() -> Settings {
        Settings { checks: Checks::ALL, seed: 0, threads: 2, limit: 1 << 36, count_memory: true }
    }
}
