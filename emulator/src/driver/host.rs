//! Pinned memory of the host.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::sync::Mutex;

use super::abi::{Address, Host, Out, export};
use super::context::Context;
use super::device::Purpose;
use super::state::driver;
use super::status::{Result, Status};
use super::table::lock;

const DEVICE_MAP: u32 = 2;
const KNOWN_FLAGS: u32 = 7;
const KNOWN_REGISTER_FLAGS: u32 = 15;
const PAGE: usize = 4096;

#[derive(Clone, Copy)]
enum Owner {
    /// Allocated here.
    Process(Layout),
    /// Device memory: kernels can touch it at the same address.
    Device,
    /// The program's own, which it registered.
    Program,
}

#[derive(Clone, Copy)]
struct Pinned {
    bytes: usize,
    flags: u32,
    owner: Owner,
}

/// What is pinned, by address.
#[derive(Default)]
pub struct HostMemory(Mutex<BTreeMap<usize, Pinned>>);

impl HostMemory {
    /// Start, length, and whether kernels can touch it, of the pinned memory an address lies in.
    pub fn containing(&self, address: usize) -> Option<(usize, usize, bool)> {
        let pinned = lock(&self.0);
        let (&start, one) = pinned.range(..=address).next_back()?;
        let device = matches!(one.owner, Owner::Device);
        (address - start < one.bytes).then_some((start, one.bytes, device))
    }

    fn flags(&self, address: usize) -> Option<u32> {
        let (start, ..) = self.containing(address)?;
        lock(&self.0).get(&start).map(|one| one.flags)
    }

    fn add(&self, address: usize, pinned: Pinned) {
        lock(&self.0).insert(address, pinned);
    }

    /// Takes out what begins at an address, if `may` approves.
    fn take(&self, address: usize, may: impl FnOnce(&Pinned) -> bool) -> Option<Pinned> {
        let mut pinned = lock(&self.0);
        if !pinned.get(&address).is_some_and(may) {
            return None;
        }
        pinned.remove(&address)
    }

    fn overlaps(&self, address: usize, bytes: usize) -> bool {
        let end = address.saturating_add(bytes);
        lock(&self.0).range(..end).next_back().is_some_and(|(&start, one)| start + one.bytes > address)
    }
}

fn allocate(pointer: Out<usize>, bytes: usize, flags: u32) -> Result {
    let context = Context::healthy()?;
    let driver = driver()?;
    driver.captures.forbid_unsafe()?;
    if bytes == 0 || flags & !KNOWN_FLAGS != 0 || !pointer.wanted() {
        return Err(Status::INVALID_VALUE);
    }
    let (address, owner) = if flags & DEVICE_MAP != 0 {
        let address = driver.device.allocate(bytes as u64, context.handle, Purpose::Mapped, None)?;
        // The host writes without being seen: it all counts as written.
        driver.device.memory.fill(address, &[0], bytes as u64).map_err(|_| Status::UNKNOWN)?;
        (address as usize, Owner::Device)
    } else {
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Status::OUT_OF_MEMORY)?;
        // SAFETY: the layout isn't empty.
        let address = unsafe { alloc_zeroed(layout) } as usize;
        if address == 0 {
            return Err(Status::OUT_OF_MEMORY);
        }
        (address, Owner::Process(layout))
    };
    driver.host.add(address, Pinned { bytes, flags, owner });
    pointer.set(address)
}

export! {
    /// Pinned memory. Kernels can touch it only if it is made with the flag `DEVICEMAP`; it is then taken
    /// from device memory.
    fn cuMemHostAlloc(pointer: Out<usize>, bytes: usize, flags: u32) {
        allocate(pointer, bytes, flags)
    }

    /// Pinned memory.
    fn cuMemAllocHost_v2(pointer: Out<usize>, bytes: usize) {
        allocate(pointer, bytes, 0)
    }

    /// Frees pinned memory.
    fn cuMemFreeHost(pointer: Host) {
        Context::current()?;
        let driver = driver()?;
        let address = pointer as usize;
        let one = driver.host.take(address, |one| !matches!(one.owner, Owner::Program));
        match one.ok_or(Status::INVALID_VALUE)?.owner {
            // SAFETY: allocated with this layout, and taken out of the list just now.
            Owner::Process(layout) => unsafe { dealloc(pointer.cast(), layout) },
            Owner::Device => driver.device.free(address as u64, |one| one.purpose == Purpose::Mapped)?,
            Owner::Program => {}
        }
        Ok(())
    }

    /// Pins memory of the program; kernels can't touch it.
    fn cuMemHostRegister_v2(pointer: Host, bytes: usize, flags: u32) {
        Context::healthy()?;
        let host = &driver()?.host;
        if pointer.is_null() || bytes == 0 || flags & !KNOWN_REGISTER_FLAGS != 0 {
            return Err(Status::INVALID_VALUE);
        }
        if (pointer as usize).checked_add(bytes).is_none() {
            return Err(Status::INVALID_VALUE);
        }
        if host.overlaps(pointer as usize, bytes) {
            return Err(Status::HOST_MEMORY_ALREADY_REGISTERED);
        }
        host.add(pointer as usize, Pinned { bytes, flags, owner: Owner::Program });
        Ok(())
    }

    /// Undoes it.
    fn cuMemHostUnregister(pointer: Host) {
        Context::healthy()?;
        let own = driver()?.host.take(pointer as usize, |one| matches!(one.owner, Owner::Program));
        own.map(|_| ()).ok_or(Status::HOST_MEMORY_NOT_REGISTERED)
    }

    /// The address that kernels use: the same.
    fn cuMemHostGetDevicePointer_v2(address: Out<Address>, pointer: Host, flags: u32) {
        Context::healthy()?;
        match driver()?.host.containing(pointer as usize) {
            Some((_, _, true)) if flags == 0 => address.set(pointer as u64),
            Some((_, _, false)) => {
                eprintln!("ptx-emulator: pinned memory without the flag DEVICEMAP has no device address");
                Err(Status::INVALID_VALUE)
            }
            _ => Err(Status::INVALID_VALUE),
        }
    }

    /// As allocated.
    fn cuMemHostGetFlags(flags: Out<u32>, pointer: Host) {
        Context::healthy()?;
        flags.set(driver()?.host.flags(pointer as usize).ok_or(Status::INVALID_VALUE)?)
    }
}
