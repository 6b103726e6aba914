//! How many blocks a multiprocessor holds: NVIDIA's occupancy calculation.

use super::abi::{Handle, Out, export};
use super::context::Context;
use super::model::{Model, REGISTERS};
use super::module::Function;
use super::state::driver;
use super::status::{Result, Status};

/// Registers are given to warps in pieces of this.
const REGISTER_PIECE: u32 = 256;
/// Shared memory is given to blocks in pieces of this.
const SHARED_PIECE: u32 = 128;
/// Warps that have a quarter of the registers: they are given in fours.
const PARTITIONS: u32 = 4;

/// Blocks of `threads` threads with `dynamic` bytes of dynamic shared memory that run on one
/// multiprocessor at a time.
pub fn active_blocks(model: &Model, function: &Function, threads: u32, dynamic: u32) -> u32 {
    if threads == 0 || threads > function.max_threads() || dynamic > function.max_dynamic() {
        return 0;
    }
    let warps = threads.div_ceil(32);
    let by_warps = model.threads / 32 / warps;
    let registers = (function.registers() * 32).next_multiple_of(REGISTER_PIECE);
    let by_registers = REGISTERS / registers / PARTITIONS * PARTITIONS / warps;
    let shared = (function.kernel.shared_bytes + dynamic).saturating_add(model.shared_reserved);
    let by_shared = model.shared.checked_div(shared.next_multiple_of(SHARED_PIECE)).unwrap_or(u32::MAX);
    by_warps.min(by_registers).min(by_shared).min(model.blocks)
}

fn active(blocks: Out<i32>, function: Handle, threads: i32, dynamic: usize, flags: u32) -> Result {
    Context::healthy()?;
    let driver = driver()?;
    let function = driver.functions.get(function)?;
    if threads <= 0 || flags > 1 {
        return Err(Status::INVALID_VALUE);
    }
    let dynamic = u32::try_from(dynamic).unwrap_or(u32::MAX);
    blocks.set(active_blocks(&driver.device.model, &function, threads as u32, dynamic) as i32)
}

type SharedOfBlock = extern "C" fn(i32) -> usize;

/// The block size with which most threads run at a time, and the blocks that fill the device.
fn best(
    [blocks, size]: [Out<i32>; 2],
    function: Handle,
    shared: Option<SharedOfBlock>,
    dynamic: usize,
    limit: i32,
) -> Result {
    Context::healthy()?;
    let driver = driver()?;
    let (model, function) = (&driver.device.model, driver.functions.get(function)?);
    if limit < 0 {
        return Err(Status::INVALID_VALUE);
    }
    let most = if limit == 0 { u32::MAX } else { limit as u32 }.min(function.max_threads());
    let mut found = (0, 0, 0);
    let mut threads = most;
    while threads > 0 {
        let bytes = shared.map_or(dynamic, |shared| shared(threads as i32));
        let active = active_blocks(model, &function, threads, u32::try_from(bytes).unwrap_or(u32::MAX));
        if active * threads > found.0 {
            found = (active * threads, active, threads);
        }
        threads = (threads - 1) / 32 * 32;
    }
    blocks.set((found.1 * model.processors) as i32)?;
    size.set(found.2 as i32)
}

export! {
    /// Blocks on a multiprocessor.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: Out<i32>,
        function: Handle,
        threads: i32,
        dynamic: usize,
    ) {
        active(blocks, function, threads, dynamic, 0)
    }

    /// Blocks on a multiprocessor.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<i32>,
        function: Handle,
        threads: i32,
        dynamic: usize,
        flags: u32,
    ) {
        active(blocks, function, threads, dynamic, flags)
    }

    /// The best block size.
    fn cuOccupancyMaxPotentialBlockSize(
        blocks: Out<i32>,
        size: Out<i32>,
        function: Handle,
        shared: Option<SharedOfBlock>,
        dynamic: usize,
        limit: i32,
    ) {
        best([blocks, size], function, shared, dynamic, limit)
    }

    /// The best block size.
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        blocks: Out<i32>,
        size: Out<i32>,
        function: Handle,
        shared: Option<SharedOfBlock>,
        dynamic: usize,
        limit: i32,
        flags: u32,
    ) {
        if flags > 1 {
            return Err(Status::INVALID_VALUE);
        }
        best([blocks, size], function, shared, dynamic, limit)
    }

    /// Dynamic shared memory of a block if `blocks` of them are to run at a time.
    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: Out<usize>, function: Handle, blocks: i32, threads: i32) {
        Context::healthy()?;
        let driver = driver()?;
        let (model, function) = (&driver.device.model, driver.functions.get(function)?);
        if blocks <= 0 || threads <= 0 || threads as u32 > function.max_threads() {
            return Err(Status::INVALID_VALUE);
        }
        let own = function.kernel.shared_bytes;
        let share = model.shared / blocks as u32 / SHARED_PIECE * SHARED_PIECE;
        let left = share.saturating_sub(own + model.shared_reserved);
        bytes.set(left.min(model.shared_block.saturating_sub(own)) as usize)
    }
}
