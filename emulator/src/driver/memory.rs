//! Device memory: allocated, freed, asked about.

use super::abi::{Address, Handle, Ordinal, Out, export};
use super::context::Context;
use super::device::Purpose;
use super::state::driver;
use super::status::{Result, Status};
use super::stream::Stream;
use super::table::lock;
use super::work::{Empty, Work, submit};

/// `CU_MEM_ATTACH_GLOBAL` and `CU_MEM_ATTACH_HOST`.
const ATTACH: [u32; 2] = [1, 2];
/// Rows of pitched memory begin at multiples of this.
const PITCH: usize = 512;

fn allocate(address: Out<Address>, bytes: usize) -> Result {
    let context = Context::healthy()?;
    let driver = driver()?;
    driver.captures.forbid_unsafe()?;
    if bytes == 0 || !address.wanted() {
        return Err(Status::INVALID_VALUE);
    }
    driver.faults.at_allocation(&driver.device, driver.config.take.as_ref());
    address.set(driver.device.allocate(bytes as u64, context.handle, Purpose::Plain, None)?)
}

fn allocate_ordered(address: Out<Address>, bytes: usize, pool: Handle, stream: Handle) -> Result {
    let (context, stream) = Stream::of(stream)?;
    let driver = driver()?;
    let pool = driver.pools.get(pool)?;
    if bytes == 0 || !address.wanted() {
        return Err(Status::INVALID_VALUE);
    }
    let captured = driver.captures.frontier(&stream)?.is_some();
    let purpose = if captured { Purpose::Graph } else { Purpose::Plain };
    driver.faults.at_allocation(&driver.device, driver.config.take.as_ref());
    let new = driver.device.allocate(bytes as u64, context.handle, purpose, Some(pool.handle))?;
    pool.note(driver.device.used_of(pool.handle));
    if captured {
        driver.captures.keep_memory(&stream, new);
        submit(&context, &stream, Work::Empty(Empty::Allocate(new)))?;
    }
    address.set(new)
}

fn free(address: Address) -> Result {
    let may = |purpose| matches!(purpose, Purpose::Plain | Purpose::Managed);
    driver()?.device.free(address, |one| may(one.purpose)).inspect_err(|_| {
        eprintln!("ptx-emulator: free of {address:#x}, where no allocation begins");
    })
}

fn free_ordered(address: Address, stream: Handle) -> Result {
    let (context, stream) = Stream::of(stream)?;
    let driver = driver()?;
    if driver.captures.frontier(&stream)?.is_none() {
        return if address == 0 { Err(Status::INVALID_VALUE) } else { free(address) };
    }
    // A graph's memory stays its own until the graph ends: a replay finds it at the same address.
    match driver.device.allocation(address) {
        Some((start, one)) if start == address && one.purpose == Purpose::Graph => {
            submit(&context, &stream, Work::Empty(Empty::Free(address)))
        }
        Some((start, _)) if start == address => Err(Status::NOT_SUPPORTED),
        _ => Err(Status::INVALID_VALUE),
    }
}

/// Advice about managed memory changes nothing here; it must be about such memory.
fn advise(address: Address, bytes: usize) -> Result {
    Context::healthy()?;
    let (start, allocation) = driver()?.device.allocation(address).ok_or(Status::INVALID_VALUE)?;
    let left = allocation.bytes - (address - start);
    let managed = allocation.purpose == Purpose::Managed;
    if managed && bytes > 0 && bytes as u64 <= left { Ok(()) } else { Err(Status::INVALID_VALUE) }
}

export! {
    /// Allocates.
    fn cuMemAlloc_v2(address: Out<Address>, bytes: usize) {
        allocate(address, bytes)
    }

    /// Allocates rows.
    fn cuMemAllocPitch_v2(address: Out<Address>, pitch: Out<usize>, width: usize, rows: usize, element: u32) {
        if !matches!(element, 4 | 8 | 16) || width == 0 {
            return Err(Status::INVALID_VALUE);
        }
        let row = width.checked_next_multiple_of(PITCH).ok_or(Status::OUT_OF_MEMORY)?;
        allocate(address, row.checked_mul(rows).ok_or(Status::OUT_OF_MEMORY)?)?;
        pitch.set(row)
    }

    /// Frees; 0 is nothing to free.
    fn cuMemFree_v2(address: Address) {
        Context::healthy()?;
        driver()?.captures.forbid_unsafe()?;
        if address == 0 { Ok(()) } else { free(address) }
    }

    /// Memory that host and device share. What the host writes can't be seen, so all of it counts as written.
    fn cuMemAllocManaged(address: Out<Address>, bytes: usize, flags: u32) {
        let context = Context::healthy()?;
        let driver = driver()?;
        driver.captures.forbid_unsafe()?;
        if bytes == 0 || !ATTACH.contains(&flags) || !address.wanted() {
            return Err(Status::INVALID_VALUE);
        }
        let new = driver.device.allocate(bytes as u64, context.handle, Purpose::Managed, None)?;
        driver.device.memory.fill(new, &[0], bytes as u64).map_err(|_| Status::UNKNOWN)?;
        address.set(new)
    }

    /// Allocates, in the order of a stream.
    fn cuMemAllocAsync(address: Out<Address>, bytes: usize, stream: Handle) {
        let pool = *lock(&driver()?.device.pool);
        allocate_ordered(address, bytes, pool, stream)
    }

    /// Allocates from a pool.
    fn cuMemAllocFromPoolAsync(address: Out<Address>, bytes: usize, pool: Handle, stream: Handle) {
        allocate_ordered(address, bytes, pool, stream)
    }

    /// Frees, in the order of a stream.
    fn cuMemFreeAsync(address: Address, stream: Handle) {
        free_ordered(address, stream)
    }

    /// Free and total bytes.
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        Context::healthy()?;
        let memory = &driver()?.device.memory;
        free.set((memory.capacity() - memory.used()) as usize)?;
        total.set(memory.capacity() as usize)
    }

    /// The allocation that an address lies in.
    fn cuMemGetAddressRange_v2(start: Out<Address>, bytes: Out<usize>, address: Address) {
        Context::healthy()?;
        let (first, allocation) = driver()?.device.allocation(address).ok_or(Status::NOT_FOUND)?;
        start.set_if_wanted(first);
        bytes.set_if_wanted(allocation.bytes as usize);
        Ok(())
    }

    /// No effect.
    fn cuMemAdvise(address: Address, bytes: usize, _advice: u32, _device: Ordinal) {
        advise(address, bytes)
    }

    /// No effect. The location is a type and a number.
    fn cuMemAdvise_v2(address: Address, bytes: usize, _advice: u32, _location: u64) {
        advise(address, bytes)
    }

    /// No effect.
    fn cuMemPrefetchAsync(address: Address, bytes: usize, _device: Ordinal, stream: Handle) {
        Stream::of(stream)?;
        advise(address, bytes)
    }

    /// No effect. The location is a type and a number.
    fn cuMemPrefetchAsync_v2(address: Address, bytes: usize, _location: u64, flags: u32, stream: Handle) {
        Stream::of(stream)?;
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        advise(address, bytes)
    }
}
