//! Device memory: one reserved range of the process's own addresses.
//!
//! A device address *is* the host address of its byte, so that pinned and managed memory need no
//! translation and a kernel's access is a plain load. The range is reserved without committing it: only
//! touched pages cost anything, and an address can stay unused for long after its allocation was freed.
//! Every page of the range may be read and written, so a wild access inside it is never a crash; outside
//! it, [`GlobalMemory::contains`] says no.
//!
//! Beside it lie two shadows, reserved the same way: one bit per byte, "something wrote it", and the
//! records of the last writer and reader that the race check compares ([`races`]).

mod bits;
pub mod races;
mod region;
mod table;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bits::Bits;
use races::Races;
use region::Region;
use table::Table;

/// Allocations start at multiples of this, as the driver's do.
pub const ALIGNMENT: u64 = 512;
/// What new memory holds: NaN in every floating-point format, -1 as an integer.
pub const POISON: u8 = 0xff;
/// Larger allocations aren't poisoned: that would commit all their pages. They read as zero.
const POISON_LIMIT: u64 = 1 << 30;

/// Which of the costly parts of device memory are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadows {
    /// New allocations are filled with [`POISON`].
    pub poison: bool,
    /// For every byte whether something wrote it.
    pub initialised: bool,
    /// Last writer and reader of every byte.
    pub races: bool,
}

impl Shadows {
    /// Everything.
    pub const ALL: Shadows = Shadows { poison: true, initialised: true, races: true };
    /// Nothing: the fastest.
    pub const NONE: Shadows = Shadows { poison: false, initialised: false, races: false };
}

/// Why an access to device memory is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Not inside one live allocation.
    #[error("{bytes} bytes at {address:#x} are not inside one allocation{}", near(.nearest))]
    OutOfBounds {
        /// First byte.
        address: u64,
        /// Length.
        bytes: u64,
        /// Start and length of the closest live allocation below the address.
        nearest: Option<(u64, u64)>,
    },
    /// Inside an allocation that has been freed.
    #[error("{bytes} bytes at {address:#x} lie in {length} bytes at {start:#x} that have been freed")]
    Freed {
        /// First byte.
        address: u64,
        /// Length.
        bytes: u64,
        /// Start of the freed allocation.
        start: u64,
        /// Its length.
        length: u64,
    },
}

fn near(nearest: &Option<(u64, u64)>) -> String {
    match nearest {
        Some((start, length)) => format!(" (the one before has {length} bytes at {start:#x})"),
        None => String::new(),
    }
}

/// Start and end (exclusive) of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// The memory of one device. All methods may be called from several threads.
pub struct GlobalMemory {
    region: Region,
    capacity: u64,
    poison: bool,
    table: RwLock<Table>,
    initialised: Option<Bits>,
    races: Option<Races>,
    launches: AtomicU32,
}

impl GlobalMemory {
    /// Memory of `capacity` bytes. Fails where the process can't have that much address space.
    pub fn new(capacity: u64, shadows: Shadows) -> io::Result<GlobalMemory> {
        let capacity = capacity.max(1 << 20).next_multiple_of(1 << 16);
        // More addresses than bytes: so freed ones can rest.
        let mut result = Err(io::Error::other("no factor tried"));
        for factor in [8, 4, 2] {
            result = Self::reserve(capacity, capacity.saturating_mul(factor), shadows);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn reserve(capacity: u64, addresses: u64, shadows: Shadows) -> io::Result<GlobalMemory> {
        let region = Region::at_device_addresses(addresses)?;
        let initialised = if shadows.initialised { Some(Bits::new(addresses)?) } else { None };
        let races = if shadows.races { Some(Races::new(addresses)?) } else { None };
        let table = RwLock::new(Table::new(region.start(), region.end(), capacity));
        let launches = AtomicU32::new(0);
        Ok(GlobalMemory { region, capacity, poison: shadows.poison, table, initialised, races, launches })
    }

    /// Bytes that can be allocated in all.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes allocated at present.
    pub fn used(&self) -> u64 {
        self.read_table(|table| table.used())
    }

    fn read_table<R>(&self, with: impl FnOnce(&Table) -> R) -> R {
        with(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write_table<R>(&self, with: impl FnOnce(&mut Table) -> R) -> R {
        with(&mut self.table.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Address of `bytes` new bytes, a multiple of [`ALIGNMENT`]; none for 0 bytes or where memory is
    /// used up.
    pub fn allocate(&self, bytes: u64) -> Option<u64> {
        let address = self.write_table(|table| table.allocate(bytes))?;
        if let Some(bits) = &self.initialised {
            bits.clear(address - self.region.start(), bytes);
        }
        if self.poison && bytes <= POISON_LIMIT {
            // SAFETY: the table gave this range of the region to no other allocation.
            unsafe { std::ptr::write_bytes(address as *mut u8, POISON, bytes as usize) };
        }
        Some(address)
    }

    /// Frees what [`GlobalMemory::allocate`] gave at this address; false where it gave nothing.
    pub fn free(&self, address: u64) -> bool {
        match self.write_table(|table| table.free(address)) {
            Some(bytes) => {
                self.region.forget(address, bytes);
                true
            }
            None => false,
        }
    }

    /// The live allocation that holds this address: start and length.
    pub fn allocation(&self, address: u64) -> Option<(u64, u64)> {
        self.read_table(|table| table.allocation(address))
    }

    /// Whether `bytes` bytes at `address` lie inside one live allocation.
    pub fn check(&self, address: u64, bytes: u64) -> Result<(), AccessError> {
        self.read_table(|table| table.check(address, bytes))
    }

    /// Copies device bytes out. Bytes that nothing wrote hold the poison.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), AccessError> {
        self.check(address, into.len() as u64)?;
        // SAFETY: checked; a kernel that writes there meanwhile is the emulated program's race.
        unsafe { std::ptr::copy(address as *const u8, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies host bytes in.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), AccessError> {
        self.check(address, from.len() as u64)?;
        // SAFETY: checked.
        unsafe { std::ptr::copy(from.as_ptr(), address as *mut u8, from.len()) };
        self.mark(address, from.len() as u64);
        Ok(())
    }

    /// Writes `count` times the bytes of `element`.
    pub fn fill(&self, address: u64, element: &[u8], count: u64) -> Result<(), AccessError> {
        let bytes = (element.len() as u64).saturating_mul(count);
        self.check(address, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: checked.
        let target = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes as usize) };
        match element {
            [byte] => target.fill(*byte),
            _ => target.chunks_exact_mut(element.len()).for_each(|chunk| chunk.copy_from_slice(element)),
        }
        self.mark(address, bytes);
        Ok(())
    }

    /// Copies inside device memory; the ranges may overlap. What wasn't initialised stays so.
    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), AccessError> {
        self.check(from, bytes)?;
        self.check(to, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: both checked.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes as usize) };
        if let Some(bits) = &self.initialised {
            bits.copy(to - self.region.start(), from - self.region.start(), bytes);
        }
        Ok(())
    }

    /// First byte of the range that nothing wrote; none where all are, or where that isn't kept.
    pub fn first_uninitialised(&self, address: u64, bytes: u64) -> Option<u64> {
        let bits = self.initialised.as_ref()?;
        bits.first_clear(address - self.region.start(), bytes).map(|at| at + self.region.start())
    }

    /// Whether the range lies in the reserved addresses, and can so be touched without a crash.
    pub fn contains(&self, address: u64, bytes: u64) -> bool {
        address >= self.region.start() && bytes <= self.region.end().saturating_sub(address)
    }

    /// First and one past the last of the reserved addresses.
    pub(crate) fn reserved(&self) -> Range {
        Range { start: self.region.start(), end: self.region.end() }
    }

    /// Remembers that something wrote these bytes, which [`GlobalMemory::contains`] approved.
    pub(crate) fn mark(&self, address: u64, bytes: u64) {
        if let Some(bits) = &self.initialised {
            bits.set(address - self.region.start(), bytes);
        }
    }

    /// Whether initialisation is kept.
    pub(crate) fn keeps_initialised(&self) -> bool {
        self.initialised.is_some()
    }

    /// The race records and the number of a launch that begins now.
    pub(crate) fn begin_launch(&self) -> (Option<&Races>, u32) {
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        (self.races.as_ref(), number)
    }

    /// Offset of an address in the shadows.
    pub(crate) fn offset(&self, address: u64) -> u64 {
        address - self.region.start()
    }

    /// The live allocations, sorted: what a launch checks its accesses with.
    pub(crate) fn allocations(&self) -> Arc<Vec<Range>> {
        if let Some(list) = self.read_table(|table| table.snapshot()) {
            return list;
        }
        self.write_table(|table| table.make_snapshot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GlobalMemory {
        GlobalMemory::new(1 << 24, Shadows::ALL).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let memory = memory();
        let a = memory.allocate(1000).unwrap();
        assert_eq!(a % ALIGNMENT, 0);
        let mut got = [0; 4];
        memory.read(a, &mut got).unwrap();
        assert_eq!(got, [POISON; 4]);
        assert_eq!(memory.first_uninitialised(a, 1000), Some(a));
        memory.write(a + 3, &[1, 2, 3, 4]).unwrap();
        memory.read(a + 3, &mut got).unwrap();
        assert_eq!(got, [1, 2, 3, 4]);
        assert_eq!(memory.first_uninitialised(a + 3, 5), Some(a + 7));
        assert_eq!(memory.first_uninitialised(a + 3, 4), None);
        memory.fill(a, &[7, 0], 500).unwrap();
        assert_eq!(memory.first_uninitialised(a, 1000), None);
        memory.read(a + 998, &mut got[..2]).unwrap();
        assert_eq!(got[..2], [7, 0]);
    }

    #[test]
    fn copies_carry_what_is_not_initialised() {
        let memory = memory();
        let a = memory.allocate(300).unwrap();
        let b = memory.allocate(300).unwrap();
        memory.write(a + 5, &[9; 100]).unwrap();
        memory.write(b, &[1; 300]).unwrap();
        memory.copy(b + 1, a, 200).unwrap();
        assert_eq!(memory.first_uninitialised(b, 300), Some(b + 1));
        assert_eq!(memory.first_uninitialised(b + 6, 100), None);
        assert_eq!(memory.first_uninitialised(b + 6, 101), Some(b + 106));
        assert_eq!(memory.first_uninitialised(b + 201, 99), None);
        // Overlapping, both ways.
        memory.copy(a + 7, a + 5, 100).unwrap();
        assert_eq!(memory.first_uninitialised(a + 5, 102), None);
        memory.copy(a, a + 5, 102).unwrap();
        assert_eq!(memory.first_uninitialised(a, 107), None);
    }

    #[test]
    fn bounds_and_freed_ranges_are_told_apart() {
        let memory = memory();
        let a = memory.allocate(100).unwrap();
        let b = memory.allocate(100).unwrap();
        assert!(memory.check(a, 100).is_ok());
        assert!(matches!(memory.check(a, 101), Err(AccessError::OutOfBounds { .. })));
        assert!(matches!(memory.check(a - 1, 1), Err(AccessError::OutOfBounds { .. })));
        assert!(matches!(memory.check(u64::MAX - 3, 8), Err(AccessError::OutOfBounds { .. })));
        assert!(memory.free(a));
        assert!(!memory.free(a));
        assert!(!memory.free(b + 1));
        assert!(matches!(memory.check(a + 50, 4), Err(AccessError::Freed { .. })));
        assert!(memory.check(b, 100).is_ok());
        let c = memory.allocate(100).unwrap();
        assert_ne!(a, c, "a freed address rests");
    }

    #[test]
    fn memory_is_used_up_and_comes_back() {
        let memory = memory();
        let capacity = memory.capacity();
        assert!(memory.allocate(0).is_none());
        assert!(memory.allocate(capacity + 1).is_none());
        assert!(memory.allocate(u64::MAX).is_none());
        let a = memory.allocate(capacity).unwrap();
        assert!(memory.allocate(1).is_none());
        assert!(memory.free(a));
        assert_eq!(memory.used(), 0);
        // Far more than the reserved addresses in all: they come around.
        for _ in 0..40 {
            let a = memory.allocate(capacity / 2).unwrap();
            let b = memory.allocate(capacity / 4).unwrap();
            assert!(memory.free(a) && memory.free(b));
        }
    }
}
