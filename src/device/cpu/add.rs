//! The sum of two tensors, each after an affine map and a ReLU; and a copy.

use rayon::prelude::*;

use super::conv::PrologueArgs;
use super::execute::{Context, Execute};
use super::grain;
use super::simd::{Simd, SimdKernel, launch, level};
use crate::device::ops::{Add, Copy};
use crate::error::Result;

/// Elements of a task.
const CHUNK: usize = 16_384;

/// The addends may lie where the sum goes, and are read through addresses.
impl Execute for Add {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        let addends = [self.left, self.right].map(|addend| {
            // SAFETY: the operands were checked.
            let PrologueArgs { affine, relu, .. } = unsafe { frame.prologue(&addend.prologue, false) };
            AddendPointers { input: frame.pointer(addend.input).cast_const(), affine, relu }
        });
        let tensors = Tensors { channels: self.channels, addends, output: frame.pointer(self.output) };
        let rows = frame.count() * self.pixels;
        let (level, part) = (level(), CHUNK.div_ceil(self.channels));
        (0..rows.div_ceil(part)).into_par_iter().with_min_len(grain(frame.threads)).for_each(|chunk| {
            let first = chunk * part;
            // SAFETY: chunks are disjoint rows of the tensors; the level is the machine's.
            unsafe { launch(level, AddRows { tensors, first, count: part.min(rows - first) }) }
        });
        Ok(())
    }
}

impl Execute for Copy {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        unsafe { frame.output(self.output).copy_from_slice(frame.input(self.input)) };
        Ok(())
    }
}

/// `relu` of scale · input + shift.
#[derive(Clone, std::marker::Copy)]
struct AddendPointers<'a> {
    input: *const f32,
    affine: Option<(&'a [f32], &'a [f32])>,
    relu: bool,
}

#[derive(Clone, std::marker::Copy)]
struct Tensors<'a> {
    channels: usize,
    addends: [AddendPointers<'a>; 2],
    output: *mut f32,
}

// SAFETY: plain addresses; threads use disjoint rows.
unsafe impl Send for Tensors<'_> {}
// SAFETY: as above.
unsafe impl Sync for Tensors<'_> {}

/// Some rows of a sum. Every vector is read before it is written: the output may be an input.
struct AddRows<'a> {
    tensors: Tensors<'a>,
    first: usize,
    count: usize,
}

impl SimdKernel for AddRows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.tensors.channels;
        for row in self.first..self.first + self.count {
            let mut c = 0;
            while c < channels {
                let n = S::LANES.min(channels - c);
                let at = row * channels + c;
                // SAFETY: `launch` found the instructions; n channels from c on are in the row.
                unsafe {
                    let [left, right] = self.tensors.addends.map(|addend| addend.vector::<S>(at, c, n));
                    let (value, p) = (S::add(left, right), self.tensors.output.add(at));
                    if n == S::LANES { S::store(p, value) } else { S::store_partial(p, value, n) }
                }
                c += n;
            }
        }
    }
}

impl AddendPointers<'_> {
    /// # Safety
    /// `S`'s instructions are there, and so are n elements from `at` on, channels from `c` on.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, at: usize, c: usize, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            let load = |p: *const f32| if n == S::LANES { S::load(p) } else { S::load_partial(p, n) };
            let mut x = load(self.input.add(at));
            if let Some((scale, shift)) = self.affine {
                x = S::mul_add(load(scale.as_ptr().add(c)), x, load(shift.as_ptr().add(c)));
            }
            if self.relu { S::max(S::splat(0.0), x) } else { x }
        }
    }
}
