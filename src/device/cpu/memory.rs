//! The regions of a session: one zeroed, 64-byte aligned allocation each, and how ops reach them.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::conv::{PrologueArgs, Threads};
use crate::device::{Affine, BatchSlice, MemoryLayout, Prologue, Region, Span, StepParams};

/// A cache line, and a full vector register.
const ALIGNMENT: usize = 64;

/// A zeroed run of 4-byte elements.
struct RegionBuffer {
    start: NonNull<f32>,
    len: usize,
}

impl RegionBuffer {
    fn zeroed(len: usize) -> Self {
        let Some(layout) = Self::layout(len) else {
            return Self { start: NonNull::dangling(), len: 0 };
        };
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start.cast::<f32>()) {
            Some(start) => Self { start, len },
            None => handle_alloc_error(layout),
        }
    }

    /// None for an empty block.
    fn layout(len: usize) -> Option<Layout> {
        let bytes = len.checked_mul(size_of::<f32>())?;
        Layout::from_size_align(bytes, ALIGNMENT).ok().filter(|_| len > 0)
    }
}

impl Drop for RegionBuffer {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len) {
            // SAFETY: `zeroed` allocated it with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}

// SAFETY: a block owns its memory; shared access goes through `Frame`, whose callers keep what
// threads write apart.
unsafe impl Send for RegionBuffer {}
// SAFETY: as above.
unsafe impl Sync for RegionBuffer {}

/// Every region of a session.
pub(super) struct CpuMemory {
    blocks: [RegionBuffer; 7],
}

impl CpuMemory {
    pub fn new(layout: &MemoryLayout) -> Self {
        Self { blocks: Region::ALL.map(|region| RegionBuffer::zeroed(layout.len(region))) }
    }

    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.len * size_of::<f32>()).sum()
    }

    /// All of a region.
    pub fn region(&self, region: Region) -> &[f32] {
        let block = &self.blocks[region as usize];
        // SAFETY: the block has `len` initialised elements, and no run (which would need `&mut` of
        // the session) is going on.
        unsafe { std::slice::from_raw_parts(block.start.as_ptr(), block.len) }
    }

    /// All of a region, to write.
    pub fn region_mut(&mut self, region: Region) -> &mut [f32] {
        let block = &mut self.blocks[region as usize];
        // SAFETY: the block has `len` initialised elements and is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(block.start.as_ptr(), block.len) }
    }
}

/// What an op sees: the memory, which images, and the scalars of the step.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    memory: &'a CpuMemory,
    /// Where the worker's part of the arena starts.
    arena: usize,
    slice: BatchSlice,
    pub params: &'a StepParams,
    pub threads: Threads,
}

impl<'a> Frame<'a> {
    /// A frame for ops of a checked program: every span lies inside the memory for this slice,
    /// and nothing else uses what the ops write through it while it is in use.
    ///
    /// # Safety
    /// `check::check` accepted the program, `slice` is within
    /// its capacity and staging rows, and frames in use at the same time differ in arena part and
    /// staging rows.
    pub unsafe fn new(
        memory: &'a CpuMemory,
        arena: usize,
        slice: BatchSlice,
        params: &'a StepParams,
        threads: Threads,
    ) -> Self {
        Self { memory, arena, slice, params, threads }
    }

    /// Images of the slice.
    pub fn count(&self) -> usize {
        self.slice.count
    }

    /// First element and length of what a span means for this slice.
    fn locate(&self, span: Span) -> (*mut f32, usize) {
        let (offset, len) = match span.region {
            Region::Arena => (self.arena + span.offset, span.len * self.slice.count),
            Region::Staging => (span.offset + self.slice.first * span.len, span.len * self.slice.count),
            _ => (span.offset, span.len),
        };
        let block = &self.memory.blocks[span.region as usize];
        debug_assert!(offset + len <= block.len);
        // SAFETY: `new` requires spans inside their regions.
        (unsafe { block.start.as_ptr().add(offset) }, len)
    }

    /// The first element of a span, for ops that work in place.
    pub fn pointer(&self, span: Span) -> *mut f32 {
        self.locate(span).0
    }

    /// A span to read.
    ///
    /// # Safety
    /// It is an operand of the op being run, which writes to it through no other reference.
    pub unsafe fn input(&self, span: Span) -> &'a [f32] {
        let (start, len) = self.locate(span);
        // SAFETY: in bounds and initialised by `new`; not written meanwhile by the contract above.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// A span of words to read.
    ///
    /// # Safety
    /// As [`Frame::input`].
    pub unsafe fn words(&self, span: Span) -> &'a [u32] {
        // SAFETY: as `input`.
        bytemuck::cast_slice(unsafe { self.input(span) })
    }

    /// A span to write.
    ///
    /// # Safety
    /// It is a written operand of the op being run, and no other reference to it is alive.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn output(&self, span: Span) -> &'a mut [f32] {
        let (start, len) = self.locate(span);
        // SAFETY: in bounds and initialised by `new`; unaliased by the contract above.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// A span of words to write.
    ///
    /// # Safety
    /// As [`Frame::output`].
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn output_words(&self, span: Span) -> &'a mut [u32] {
        // SAFETY: as `output`.
        bytemuck::cast_slice_mut(unsafe { self.output(span) })
    }

    /// An affine map per channel to read.
    ///
    /// # Safety
    /// As [`Frame::input`].
    pub unsafe fn affine(&self, affine: Affine) -> (&'a [f32], &'a [f32]) {
        // SAFETY: the caller's promise.
        unsafe { (self.input(affine.scale), self.input(affine.shift)) }
    }

    /// An affine map per channel to write.
    ///
    /// # Safety
    /// As [`Frame::output`].
    pub unsafe fn affine_output(&self, affine: Affine) -> (&'a mut [f32], &'a mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe { (self.output(affine.scale), self.output(affine.shift)) }
    }

    /// A prologue, its mask to write where `masked`.
    ///
    /// # Safety
    /// As [`Frame::input`] and [`Frame::output_words`].
    pub unsafe fn prologue(&self, prologue: &Prologue, masked: bool) -> PrologueArgs<'a> {
        // SAFETY: the caller's promise.
        unsafe {
            PrologueArgs {
                affine: prologue.affine.map(|affine| self.affine(affine)),
                relu: prologue.relu,
                mask: prologue.mask.filter(|_| masked).map(|mask| self.output_words(mask)),
            }
        }
    }
}
