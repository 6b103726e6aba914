//! Whole rows at once: loops over 32 lanes that the compiler makes vector instructions of, wherever
//! these functions are inlined into code that may use them.

use super::fast::{Three, Two};
use super::value::NAN32;
use super::warp::{LANES, Registers};
use crate::ir::Row;

/// The register files as bare pointers.
///
/// Rows come from a [`super::plan::Plan`], which only holds rows that exist, and the files don't move while
/// a warp runs; so every access below is inside its file.
#[derive(Clone, Copy)]
pub struct Rows {
    words: *mut [u32; LANES],
    longs: *mut [u64; LANES],
    predicates: *mut u32,
}

/// Writes the lanes of a mask.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn put<T: Copy>(target: &mut [T; LANES], mask: u32, values: [T; LANES]) {
    if mask == u32::MAX {
        *target = values;
    } else {
        // Written without branches, so that it becomes a blend.
        for lane in 0..LANES {
            target[lane] = if mask >> lane & 1 != 0 { values[lane] } else { target[lane] };
        }
    }
}

/// An f32 result, with NaN made canonical.
#[inline(always)]
pub fn bits(value: f32) -> u32 {
    if value.is_nan() { NAN32 } else { value.to_bits() }
}

/// A value for every lane. (`array::from_fn` isn't inlined into code with other processor features.)
#[inline(always)]
pub fn each<T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; LANES] {
    let mut values = [T::default(); LANES];
    for (lane, value) in values.iter_mut().enumerate() {
        *value = f(lane);
    }
    values
}

#[inline(always)]
fn pack(holds: impl Fn(usize) -> bool) -> u32 {
    let mut mask = 0;
    for lane in 0..LANES {
        mask |= u32::from(holds(lane)) << lane;
    }
    mask
}

#[allow(clippy::missing_safety_doc)]
impl Rows {
    #[inline(always)]
    pub fn new(registers: &mut Registers) -> Rows {
        Rows {
            words: registers.words.as_mut_ptr().cast(),
            longs: registers.longs.as_mut_ptr().cast(),
            predicates: registers.predicates.as_mut_ptr(),
        }
    }

    #[inline(always)]
    pub fn word(&self, row: Row) -> &[u32; LANES] {
        // SAFETY: see the type; nobody writes while the reference lives, as writers finish their values first.
        unsafe { &*self.words.add(usize::from(row)) }
    }

    #[inline(always)]
    pub fn long(&self, row: Row) -> &[u64; LANES] {
        // SAFETY: as for `word`.
        unsafe { &*self.longs.add(usize::from(row)) }
    }

    #[inline(always)]
    pub fn predicate(&self, row: Row) -> u32 {
        // SAFETY: see the type.
        unsafe { *self.predicates.add(usize::from(row)) }
    }

    #[inline(always)]
    pub fn put_word(&self, row: Row, mask: u32, values: [u32; LANES]) {
        // SAFETY: see the type; `values` doesn't borrow from the file.
        put(unsafe { &mut *self.words.add(usize::from(row)) }, mask, values);
    }

    #[inline(always)]
    pub fn put_long(&self, row: Row, mask: u32, values: [u64; LANES]) {
        // SAFETY: as for `put_word`.
        put(unsafe { &mut *self.longs.add(usize::from(row)) }, mask, values);
    }

    #[inline(always)]
    pub fn put_predicate(&self, row: Row, mask: u32, bits: u32) {
        // SAFETY: see the type.
        let target = unsafe { &mut *self.predicates.add(usize::from(row)) };
        *target = *target & !mask | bits & mask;
    }

    #[inline(always)]
    pub fn words1(&self, mask: u32, d: Row, a: Row, f: impl Fn(u32) -> u32) {
        let a = self.word(a);
        let values = each(|lane| f(a[lane]));
        self.put_word(d, mask, values);
    }

    #[inline(always)]
    pub fn words2(&self, mask: u32, rows: Two, f: impl Fn(u32, u32) -> u32) {
        let (a, b) = (self.word(rows.a), self.word(rows.b));
        let values = each(|lane| f(a[lane], b[lane]));
        self.put_word(rows.d, mask, values);
    }

    #[inline(always)]
    pub fn words3(&self, mask: u32, rows: Three, f: impl Fn(u32, u32, u32) -> u32) {
        let (a, b, c) = (self.word(rows.a), self.word(rows.b), self.word(rows.c));
        let values = each(|lane| f(a[lane], b[lane], c[lane]));
        self.put_word(rows.d, mask, values);
    }

    #[inline(always)]
    pub fn floats2(&self, mask: u32, rows: Two, f: impl Fn(f32, f32) -> f32) {
        self.words2(mask, rows, |a, b| bits(f(f32::from_bits(a), f32::from_bits(b))));
    }

    #[inline(always)]
    pub fn longs2(&self, mask: u32, rows: Two, f: impl Fn(u64, u64) -> u64) {
        let (a, b) = (self.long(rows.a), self.long(rows.b));
        let values = each(|lane| f(a[lane], b[lane]));
        self.put_long(rows.d, mask, values);
    }

    #[inline(always)]
    pub fn longs3(&self, mask: u32, rows: Three, f: impl Fn(u64, u64, u64) -> u64) {
        let (a, b, c) = (self.long(rows.a), self.long(rows.b), self.long(rows.c));
        let values = each(|lane| f(a[lane], b[lane], c[lane]));
        self.put_long(rows.d, mask, values);
    }

    /// Longs from words.
    #[inline(always)]
    pub fn widen(&self, mask: u32, d: Row, a: Row, f: impl Fn(u32) -> u64) {
        let a = self.word(a);
        let values = each(|lane| f(a[lane]));
        self.put_long(d, mask, values);
    }

    #[inline(always)]
    pub fn widen2(&self, mask: u32, rows: Two, f: impl Fn(u32, u32) -> u64) {
        let (a, b) = (self.word(rows.a), self.word(rows.b));
        let values = each(|lane| f(a[lane], b[lane]));
        self.put_long(rows.d, mask, values);
    }

    /// Two words and a long.
    #[inline(always)]
    pub fn widen3(&self, mask: u32, rows: Three, f: impl Fn(u32, u32, u64) -> u64) {
        let (a, b, c) = (self.word(rows.a), self.word(rows.b), self.long(rows.c));
        let values = each(|lane| f(a[lane], b[lane], c[lane]));
        self.put_long(rows.d, mask, values);
    }

    /// Words from longs.
    #[inline(always)]
    pub fn narrow(&self, mask: u32, d: Row, a: Row, f: impl Fn(u64) -> u32) {
        let a = self.long(a);
        let values = each(|lane| f(a[lane]));
        self.put_word(d, mask, values);
    }

    #[inline(always)]
    pub fn compare_words(&self, mask: u32, rows: Two, holds: impl Fn(u32, u32) -> bool) {
        let (a, b) = (self.word(rows.a), self.word(rows.b));
        self.put_predicate(rows.d, mask, pack(|lane| holds(a[lane], b[lane])));
    }

    #[inline(always)]
    pub fn compare_longs(&self, mask: u32, rows: Two, holds: impl Fn(u64, u64) -> bool) {
        let (a, b) = (self.long(rows.a), self.long(rows.b));
        self.put_predicate(rows.d, mask, pack(|lane| holds(a[lane], b[lane])));
    }

    #[inline(always)]
    pub fn select_words(&self, mask: u32, rows: Three) {
        let (a, b, p) = (self.word(rows.a), self.word(rows.b), self.predicate(rows.c));
        let values = each(|lane| if p >> lane & 1 != 0 { a[lane] } else { b[lane] });
        self.put_word(rows.d, mask, values);
    }

    #[inline(always)]
    pub fn select_longs(&self, mask: u32, rows: Three) {
        let (a, b, p) = (self.long(rows.a), self.long(rows.b), self.predicate(rows.c));
        let values = each(|lane| if p >> lane & 1 != 0 { a[lane] } else { b[lane] });
        self.put_long(rows.d, mask, values);
    }
}
