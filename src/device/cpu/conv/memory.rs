//! Working memory and the cutting of images into tasks.

use super::Threads;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([f32; 16]);

/// Floats that start at a cache line.
#[derive(Default)]
pub(super) struct AlignedBuffer(Vec<CacheLine>);

impl AlignedBuffer {
    pub fn new(len: usize) -> Self {
        Self(vec![CacheLine([0.0; 16]); len.div_ceil(16)])
    }
    pub fn len(&self) -> usize {
        self.0.len() * 16
    }
    pub fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
    pub fn scratch(&mut self) -> BumpAllocator {
        BumpAllocator { at: self.as_mut_ptr(), left: self.len() }
    }
}

/// The unused rest of a buffer.
pub(super) struct BumpAllocator {
    at: *mut f32,
    left: usize,
}

impl BumpAllocator {
    /// The next `len` floats, from a cache line on.
    pub fn take(&mut self, len: usize) -> *mut f32 {
        let len = len.next_multiple_of(16);
        assert!(len <= self.left, "the workspace was made without this shape");
        let at = self.at;
        // SAFETY: len of the buffer's floats are left.
        self.at = unsafe { at.add(len) };
        self.left -= len;
        at
    }
}

/// Room that `take` of these lengths needs.
pub(super) fn room(lengths: &[usize]) -> usize {
    lengths.iter().map(|n| n.next_multiple_of(16)).sum()
}

/// Pointers that tasks share; each task touches its own images only.
pub(super) struct SyncPointers<T>(T);

// SAFETY: used for pointers into buffers that outlive the tasks; the kernels give every task
// disjoint parts to write.
unsafe impl<T> Sync for SyncPointers<T> {}

impl<T> SyncPointers<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// Runs `task` for each of `0..tasks`.
pub(super) fn for_tasks(threads: Threads, tasks: usize, task: impl Fn(usize) + Send + Sync) {
    match threads {
        Threads::One => (0..tasks).for_each(task),
        Threads::All => (0..tasks).into_par_iter().for_each(task),
    }
}

/// Runs `task(first, count, scratch)` over `0..count` in pieces of `piece`. With `Threads::All` the
/// pieces go to whichever slot is free: a task's result must not depend on where it runs.
pub(super) fn for_pieces(
    slots: &mut [AlignedBuffer],
    threads: Threads,
    count: usize,
    piece: usize,
    task: impl Fn(usize, usize, BumpAllocator) + Sync,
) {
    let next = AtomicUsize::new(0);
    let work = |slot: &mut AlignedBuffer| {
        loop {
            let first = next.fetch_add(piece, Ordering::Relaxed);
            if first >= count {
                break;
            }
            task(first, piece.min(count - first), slot.scratch());
        }
    };
    match threads {
        Threads::One => slots.iter_mut().take(1).for_each(work),
        Threads::All => slots.par_iter_mut().for_each(work),
    }
}
