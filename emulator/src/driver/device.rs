//! The device: its memory, what is allocated there, and the functions that ask about it.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::sync::{Arc, Mutex, MutexGuard};

use super::abi::{Address, Handle, Ordinal, Out, export};
use super::context::Primary;
use super::model::Model;
use super::pool::Pool;
use super::state::driver;
use super::status::{Result, Status};
use super::table::lock;
use crate::config::Config;
use crate::memory::GlobalMemory;

/// Why memory was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `cuMemAlloc`, `cuMemAllocAsync`.
    Plain,
    /// `cuMemAllocManaged`.
    Managed,
    /// Pinned host memory that kernels may touch.
    Mapped,
    /// A module's variable.
    Variable,
    /// A node of a graph.
    Graph,
}

/// An allocation of device memory.
#[derive(Clone, Copy, Debug)]
pub struct Allocation {
    /// Length.
    pub bytes: u64,
    /// Owner.
    pub context: Handle,
    /// Why.
    pub purpose: Purpose,
    /// The pool it came from.
    pub pool: Option<Handle>,
}

/// The emulated device.
pub struct Device {
    /// Its numbers.
    pub model: Model,
    /// Its memory.
    pub memory: GlobalMemory,
    /// Its primary context.
    pub primary: Mutex<Primary>,
    /// Its default memory pool.
    pub default_pool: Handle,
    /// The pool that `cuMemAllocAsync` takes from.
    pub pool: Mutex<Handle>,
    allocations: Mutex<BTreeMap<Address, Allocation>>,
    work: Mutex<()>,
}

impl Device {
    /// A device with empty memory.
    pub fn new(model: Model, config: &Config, pool: Arc<Pool>) -> Result<Device> {
        let memory = GlobalMemory::new(config.memory, config.shadows()).map_err(|error| {
            eprintln!("ptx-emulator: {} bytes of device memory can't be reserved: {error}", config.memory);
            Status::OUT_OF_MEMORY
        })?;
        Ok(Device {
            model,
            memory,
            primary: Mutex::default(),
            default_pool: pool.handle,
            pool: Mutex::new(pool.handle),
            allocations: Mutex::default(),
            work: Mutex::default(),
        })
    }

    /// Held while the device does something: threads of the host take turns.
    pub fn busy(&self) -> MutexGuard<'_, ()> {
        lock(&self.work)
    }

    /// Allocates.
    pub fn allocate(
        &self,
        bytes: u64,
        context: Handle,
        purpose: Purpose,
        pool: Option<Handle>,
    ) -> Result<Address> {
        let address = self.memory.allocate(bytes).ok_or(Status::OUT_OF_MEMORY)?;
        let allocation = Allocation { bytes, context, purpose, pool };
        lock(&self.allocations).insert(address, allocation);
        Ok(address)
    }

    /// Frees an allocation that `may` approves.
    pub fn free(&self, address: Address, may: impl FnOnce(&Allocation) -> bool) -> Result {
        let _turn = self.busy();
        let mut allocations = lock(&self.allocations);
        if !allocations.get(&address).is_some_and(may) {
            return Err(Status::INVALID_VALUE);
        }
        allocations.remove(&address);
        if self.memory.free(address) { Ok(()) } else { Err(Status::INVALID_VALUE) }
    }

    /// Frees everything of a context.
    pub fn free_all_of(&self, context: Handle) {
        let _turn = self.busy();
        lock(&self.allocations).retain(|&address, allocation| {
            let keep = allocation.context != context;
            if !keep {
                self.memory.free(address);
            }
            keep
        });
    }

    /// The allocation that an address lies in, and where that starts.
    pub fn allocation(&self, address: Address) -> Option<(Address, Allocation)> {
        let allocations = lock(&self.allocations);
        let (&start, &allocation) = allocations.range(..=address).next_back()?;
        (address - start < allocation.bytes).then_some((start, allocation))
    }

    /// Bytes allocated from a pool.
    pub fn used_of(&self, pool: Handle) -> u64 {
        let allocations = lock(&self.allocations);
        allocations.values().filter(|one| one.pool == Some(pool)).map(|one| one.bytes).sum()
    }

    /// Its name.
    pub fn name(&self) -> String {
        format!("PTX emulator sm_{}", self.model.architecture())
    }

    fn identity(&self) -> [u8; 16] {
        let mut identity = *b"ptx-emulator-000";
        identity[14] += self.model.capability.0 as u8 % 10;
        identity[15] += self.model.capability.1 as u8 % 10;
        identity
    }
}

/// Where the device claims to sit.
const BUS: &str = "0000:01:00.0";

export! {
    /// How many devices.
    fn cuDeviceGetCount(count: Out<i32>) {
        driver()?;
        count.set(1)
    }

    /// The device of an ordinal: the same number.
    fn cuDeviceGet(device: Out<Ordinal>, ordinal: i32) {
        driver()?.device(ordinal)?;
        device.set(ordinal)
    }

    /// Its name.
    fn cuDeviceGetName(name: Out<c_char>, room: i32, device: Ordinal) {
        let device = driver()?.device(device)?;
        name.set_text(&device.name(), usize::try_from(room).unwrap_or(0))
    }

    /// An identity that is the same in every run.
    fn cuDeviceGetUuid(identity: Out<[u8; 16]>, device: Ordinal) {
        identity.set(driver()?.device(device)?.identity())
    }

    /// The same.
    fn cuDeviceGetUuid_v2(identity: Out<[u8; 16]>, device: Ordinal) {
        identity.set(driver()?.device(device)?.identity())
    }

    /// Bytes of memory.
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: Ordinal) {
        bytes.set(driver()?.device(device)?.memory.capacity() as usize)
    }

    /// An attribute, see [`Model::attribute`].
    fn cuDeviceGetAttribute(value: Out<i32>, attribute: u32, device: Ordinal) {
        let device = driver()?.device(device)?;
        value.set(device.model.attribute(attribute).ok_or(Status::INVALID_VALUE)? as i32)
    }

    /// Major and minor.
    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: Ordinal) {
        let (high, low) = driver()?.device(device)?.model.capability;
        major.set(high as i32)?;
        minor.set(low as i32)
    }

    /// A device isn't its own peer.
    fn cuDeviceCanAccessPeer(can: Out<i32>, device: Ordinal, peer: Ordinal) {
        driver()?.device(device)?;
        driver()?.device(peer)?;
        can.set(0)
    }

    /// Where it sits.
    fn cuDeviceGetPCIBusId(text: Out<c_char>, room: i32, device: Ordinal) {
        driver()?.device(device)?;
        text.set_text(BUS, usize::try_from(room).unwrap_or(0))
    }

    /// The device that sits there.
    fn cuDeviceGetByPCIBusId(device: Out<Ordinal>, text: super::abi::Text) {
        driver()?;
        if text.text()? != BUS {
            return Err(Status::INVALID_DEVICE);
        }
        device.set(0)
    }

    /// The default pool.
    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: Ordinal) {
        pool.set(driver()?.device(device)?.default_pool)
    }

    /// The pool that allocations come from.
    fn cuDeviceGetMemPool(pool: Out<Handle>, device: Ordinal) {
        pool.set(*lock(&driver()?.device(device)?.pool))
    }

    /// Sets the pool that allocations come from.
    fn cuDeviceSetMemPool(device: Ordinal, pool: Handle) {
        let device = driver()?.device(device)?;
        *lock(&device.pool) = driver()?.pools.get(pool)?.handle;
        Ok(())
    }
}
