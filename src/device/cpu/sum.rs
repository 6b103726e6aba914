//! The sum of two tensors, each behind an affine map and a ReLU.

use rayon::prelude::*;

use super::conv::Threads;
use super::grain;
use super::simd::{Kernel, Simd, launch};
use super::vectorised::level;

/// Elements of a task.
const CHUNK: usize = 16_384;

/// An addend: `relu` of scale · input + shift.
#[derive(Clone, Copy)]
pub(super) struct Term<'a> {
    pub input: *const f32,
    pub affine: Option<(&'a [f32], &'a [f32])>,
    pub relu: bool,
}

/// Both addends and where the sum goes, which may be one of them.
#[derive(Clone, Copy)]
pub(super) struct Sum<'a> {
    pub channels: usize,
    pub terms: [Term<'a>; 2],
    pub output: *mut f32,
}

// SAFETY: plain addresses; `sum`'s contract covers their use from several threads.
unsafe impl Send for Sum<'_> {}
// SAFETY: as above.
unsafe impl Sync for Sum<'_> {}

/// Writes the sum of `rows` pixels of all images.
///
/// # Safety
/// The pointers are good for `rows` times the channels, `output` alone for writing; nothing else uses
/// what it points to meanwhile; it overlaps an input only where it equals it.
pub(super) unsafe fn sum(rows: usize, whole: Sum, threads: Threads) {
    let (level, part) = (level(), CHUNK.div_ceil(whole.channels));
    (0..rows.div_ceil(part)).into_par_iter().with_min_len(grain(threads)).for_each(|chunk| {
        let first = chunk * part;
        // SAFETY: chunks are disjoint rows of the tensors; the level is the machine's.
        unsafe { launch(level, Rows { sum: whole, first, count: part.min(rows - first) }) }
    });
}

/// Some rows of a sum. Every vector is read before it is written: the output may be an input.
struct Rows<'a> {
    sum: Sum<'a>,
    first: usize,
    count: usize,
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.sum.channels;
        for row in self.first..self.first + self.count {
            let mut c = 0;
            while c < channels {
                let n = S::LANES.min(channels - c);
                let at = row * channels + c;
                // SAFETY: `launch` found the instructions; n channels from c on are in the row.
                unsafe {
                    let [left, right] = self.sum.terms.map(|term| term.vector::<S>(at, c, n));
                    let (value, p) = (S::add(left, right), self.sum.output.add(at));
                    if n == S::LANES { S::store(p, value) } else { S::store_partial(p, value, n) }
                }
                c += n;
            }
        }
    }
}

impl Term<'_> {
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
