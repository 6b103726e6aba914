//! Live objects by handle. A handle is a number, never a pointer: whatever a program passes is looked up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::abi::Handle;
use super::status::{Result, Status};

/// Handles lie in pages that no process has: a program that uses one as a pointer stops there.
const MARK: usize = 0xcd << 56;

/// Locks; a panic of another thread doesn't matter, the data are consistent after every statement.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The objects of one kind. Handles are never given twice, and those of different kinds differ.
pub struct Table<T> {
    kind: usize,
    next: AtomicUsize,
    live: Mutex<HashMap<Handle, Arc<T>>>,
}

impl<T> Table<T> {
    /// An empty table; `kind` tells its handles from those of other tables.
    pub fn new(kind: u8) -> Table<T> {
        Table { kind: MARK | usize::from(kind) << 48, next: AtomicUsize::new(1), live: Mutex::default() }
    }

    /// Adds an object that is told its own handle.
    pub fn add(&self, make: impl FnOnce(Handle) -> T) -> Arc<T> {
        let handle = self.kind | self.next.fetch_add(1, Ordering::Relaxed) << 4;
        let object = Arc::new(make(handle));
        lock(&self.live).insert(handle, object.clone());
        object
    }

    /// The object of a handle.
    pub fn get(&self, handle: Handle) -> Result<Arc<T>> {
        lock(&self.live).get(&handle).cloned().ok_or(Status::INVALID_HANDLE)
    }

    /// The handle of this table whose low 32 bits are these.
    pub fn with_low_half(&self, low: usize) -> Handle {
        self.kind | low
    }

    /// Takes an object out: its handle is dead from now on.
    pub fn remove(&self, handle: Handle) -> Result<Arc<T>> {
        lock(&self.live).remove(&handle).ok_or(Status::INVALID_HANDLE)
    }

    /// Takes out all objects of which `keep` says no.
    pub fn retain(&self, keep: impl Fn(&T) -> bool) {
        // What goes is dropped after the lock: its destructor may look into tables.
        let mut live = lock(&self.live);
        let gone: Vec<Handle> = live.iter().filter(|(_, object)| !keep(object)).map(|(&at, _)| at).collect();
        let gone: Vec<_> = gone.into_iter().filter_map(|handle| live.remove(&handle)).collect();
        drop(live);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_looked_up() {
        let (numbers, others) = (Table::new(1), Table::new(2));
        let handle = |object: Arc<(Handle, i32)>| object.0;
        let one = handle(numbers.add(|handle| (handle, 1)));
        let two = handle(numbers.add(|handle| (handle, 2)));
        let other = handle(others.add(|handle| (handle, 3)));
        assert_eq!(numbers.get(two).unwrap().1, 2);
        for wrong in [0, 1, one + 1, other, usize::MAX] {
            assert_eq!(numbers.get(wrong).unwrap_err(), Status::INVALID_HANDLE);
        }
        numbers.remove(one).unwrap();
        assert!(numbers.get(one).is_err() && numbers.remove(one).is_err());
        assert_ne!(handle(numbers.add(|handle| (handle, 4))), one);
        numbers.retain(|object| object.1 != 2);
        assert!(numbers.get(two).is_err());
    }
}
