//! Which addresses are allocated, which have been freed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ALIGNMENT, AccessError, Range};

/// Addresses left unused after an allocation: an access a little past the end hits nothing.
const GAP: u64 = 16 << 10;

/// Start and length of live and of freed allocations. New ones are placed after the last one, and from
/// the beginning again only when the end is reached: so a freed address stays unused for long.
pub struct Table {
    first: u64,
    end: u64,
    capacity: u64,
    used: u64,
    cursor: u64,
    live: BTreeMap<u64, u64>,
    freed: BTreeMap<u64, u64>,
    snapshot: Option<Arc<Vec<Range>>>,
}

impl Table {
    pub fn new(first: u64, end: u64, capacity: u64) -> Table {
        let (live, freed) = (BTreeMap::new(), BTreeMap::new());
        let first = first.next_multiple_of(ALIGNMENT) + GAP;
        Table { first, end, capacity, used: 0, cursor: first, live, freed, snapshot: None }
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    pub fn allocate(&mut self, bytes: u64) -> Option<u64> {
        if bytes == 0 || bytes > self.capacity - self.used {
            return None;
        }
        let place = bytes.next_multiple_of(ALIGNMENT) + GAP;
        let address = self.gap(self.cursor, place).or_else(|| self.gap(self.first, place))?;
        self.forget_freed(address, address + place);
        self.live.insert(address, bytes);
        self.used += bytes;
        self.cursor = address + place;
        self.snapshot = None;
        Some(address)
    }

    /// First address from `from` on with `place` bytes that no live allocation (and its gap) holds.
    fn gap(&self, from: u64, place: u64) -> Option<u64> {
        let mut at = from;
        if let Some((start, length)) = self.live.range(..from).next_back() {
            at = at.max(start + length.next_multiple_of(ALIGNMENT) + GAP);
        }
        for (start, length) in self.live.range(from..) {
            if start.checked_sub(at).is_some_and(|free| free >= place) {
                return Some(at);
            }
            at = start + length.next_multiple_of(ALIGNMENT) + GAP;
        }
        (self.end.checked_sub(at)? >= place).then_some(at)
    }

    fn forget_freed(&mut self, start: u64, end: u64) {
        while let Some((&at, &length)) = self.freed.range(..end).next_back() {
            if at + length <= start {
                break;
            }
            self.freed.remove(&at);
        }
    }

    /// Length of the allocation freed.
    pub fn free(&mut self, address: u64) -> Option<u64> {
        let bytes = self.live.remove(&address)?;
        self.freed.insert(address, bytes);
        self.used -= bytes;
        self.snapshot = None;
        Some(bytes)
    }

    pub fn allocation(&self, address: u64) -> Option<(u64, u64)> {
        let (&start, &length) = self.live.range(..=address).next_back()?;
        (address - start < length).then_some((start, length))
    }

    pub fn check(&self, address: u64, bytes: u64) -> Result<(), AccessError> {
        let nearest = self.live.range(..=address).next_back().map(|(&start, &length)| (start, length));
        if let Some((start, length)) = nearest
            && address - start <= length
            && bytes <= length - (address - start)
        {
            return Ok(());
        }
        if let Some((&start, &length)) = self.freed.range(..=address).next_back()
            && address - start < length
        {
            return Err(AccessError::Freed { address, bytes, start, length });
        }
        Err(AccessError::OutOfBounds { address, bytes, nearest })
    }

    pub fn snapshot(&self) -> Option<Arc<Vec<Range>>> {
        self.snapshot.clone()
    }

    pub fn make_snapshot(&mut self) -> Arc<Vec<Range>> {
        let list = self.live.iter().map(|(&start, &length)| Range { start, end: start + length }).collect();
        self.snapshot.insert(Arc::new(list)).clone()
    }
}
