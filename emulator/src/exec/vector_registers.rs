//! Registers as vectors: loops over 32 lanes that the compiler turns into vector instructions wherever these
//! functions are inlined into code that may use them.

use super::value::NAN32;
use super::vector_op::{Binary, Ternary, Unary};
use super::warp::{LANES, Registers};
use crate::ir::Reg;

/// The register files as bare pointers.
///
/// Register indices come from a [`super::plan::Plan`], which only holds registers that exist, and the files don't
/// move while a warp runs. So every access below is inside its file.
#[derive(Clone, Copy)]
pub struct VectorRegisters {
    b32: *mut [u32; LANES],
    b64: *mut [u64; LANES],
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
impl VectorRegisters {
    #[inline(always)]
    pub fn new(registers: &mut Registers) -> VectorRegisters {
        VectorRegisters {
            b32: registers.b32.as_mut_ptr().cast(),
            b64: registers.b64.as_mut_ptr().cast(),
            predicates: registers.predicates.as_mut_ptr(),
        }
    }

    #[inline(always)]
    pub fn b32(&self, reg: Reg) -> &[u32; LANES] {
        // SAFETY: see the type; no write happens while the reference lives, since a writer computes all its values first.
        unsafe { &*self.b32.add(usize::from(reg)) }
    }

    #[inline(always)]
    pub fn b64(&self, reg: Reg) -> &[u64; LANES] {
        // SAFETY: as for `word`.
        unsafe { &*self.b64.add(usize::from(reg)) }
    }

    #[inline(always)]
    pub fn predicate(&self, reg: Reg) -> u32 {
        // SAFETY: see the type.
        unsafe { *self.predicates.add(usize::from(reg)) }
    }

    #[inline(always)]
    pub fn put_b32(&self, reg: Reg, mask: u32, values: [u32; LANES]) {
        // SAFETY: see the type; `values` doesn't borrow from the file.
        put(unsafe { &mut *self.b32.add(usize::from(reg)) }, mask, values);
    }

    #[inline(always)]
    pub fn put_b64(&self, reg: Reg, mask: u32, values: [u64; LANES]) {
        // SAFETY: as for `put_b32`.
        put(unsafe { &mut *self.b64.add(usize::from(reg)) }, mask, values);
    }

    #[inline(always)]
    pub fn put_predicate(&self, reg: Reg, mask: u32, bits: u32) {
        // SAFETY: see the type.
        let target = unsafe { &mut *self.predicates.add(usize::from(reg)) };
        *target = *target & !mask | bits & mask;
    }

    #[inline(always)]
    pub fn b32_1(&self, mask: u32, r: Unary, f: impl Fn(u32) -> u32) {
        let a = self.b32(r.a);
        let values = each(|lane| f(a[lane]));
        self.put_b32(r.d, mask, values);
    }

    #[inline(always)]
    pub fn b32_2(&self, mask: u32, regs: Binary, f: impl Fn(u32, u32) -> u32) {
        let (a, b) = (self.b32(regs.a), self.b32(regs.b));
        let values = each(|lane| f(a[lane], b[lane]));
        self.put_b32(regs.d, mask, values);
    }

    #[inline(always)]
    pub fn b32_3(&self, mask: u32, regs: Ternary, f: impl Fn(u32, u32, u32) -> u32) {
        let (a, b, c) = (self.b32(regs.a), self.b32(regs.b), self.b32(regs.c));
        let values = each(|lane| f(a[lane], b[lane], c[lane]));
        self.put_b32(regs.d, mask, values);
    }

    #[inline(always)]
    pub fn f32_2(&self, mask: u32, regs: Binary, f: impl Fn(f32, f32) -> f32) {
        self.b32_2(mask, regs, |a, b| bits(f(f32::from_bits(a), f32::from_bits(b))));
    }

    #[inline(always)]
    pub fn b64_2(&self, mask: u32, regs: Binary, f: impl Fn(u64, u64) -> u64) {
        let (a, b) = (self.b64(regs.a), self.b64(regs.b));
        let values = each(|lane| f(a[lane], b[lane]));
        self.put_b64(regs.d, mask, values);
    }

    #[inline(always)]
    pub fn b64_3(&self, mask: u32, regs: Ternary, f: impl Fn(u64, u64, u64) -> u64) {
        let (a, b, c) = (self.b64(regs.a), self.b64(regs.b), self.b64(regs.c));
        let values = each(|lane| f(a[lane], b[lane], c[lane]));
        self.put_b64(regs.d, mask, values);
    }

    /// A b64 result of a b32 operand.
    #[inline(always)]
    pub fn widen(&self, mask: u32, r: Unary, f: impl Fn(u32) -> u64) {
        let a = self.b32(r.a);
        let values = each(|lane| f(a[lane]));
        self.put_b64(r.d, mask, values);
    }

    #[inline(always)]
    pub fn widen2(&self, mask: u32, regs: Binary, f: impl Fn(u32, u32) -> u64) {
        let (a, b) = (self.b32(regs.a), self.b32(regs.b));
        let values = each(|lane| f(a[lane], b[lane]));
        self.put_b64(regs.d, mask, values);
    }

    /// Two b32 operands and a b64 one.
    #[inline(always)]
    pub fn widen3(&self, mask: u32, regs: Ternary, f: impl Fn(u32, u32, u64) -> u64) {
        let (a, b, c) = (self.b32(regs.a), self.b32(regs.b), self.b64(regs.c));
        let values = each(|lane| f(a[lane], b[lane], c[lane]));
        self.put_b64(regs.d, mask, values);
    }

    /// A b32 result of a b64 operand.
    #[inline(always)]
    pub fn narrow(&self, mask: u32, r: Unary, f: impl Fn(u64) -> u32) {
        let a = self.b64(r.a);
        let values = each(|lane| f(a[lane]));
        self.put_b32(r.d, mask, values);
    }

    #[inline(always)]
    pub fn compare_b32(&self, mask: u32, regs: Binary, holds: impl Fn(u32, u32) -> bool) {
        let (a, b) = (self.b32(regs.a), self.b32(regs.b));
        self.put_predicate(regs.d, mask, pack(|lane| holds(a[lane], b[lane])));
    }

    #[inline(always)]
    pub fn compare_b64(&self, mask: u32, regs: Binary, holds: impl Fn(u64, u64) -> bool) {
        let (a, b) = (self.b64(regs.a), self.b64(regs.b));
        self.put_predicate(regs.d, mask, pack(|lane| holds(a[lane], b[lane])));
    }

    #[inline(always)]
    pub fn select_b32(&self, mask: u32, regs: Ternary) {
        let (a, b, p) = (self.b32(regs.a), self.b32(regs.b), self.predicate(regs.c));
        let values = each(|lane| if p >> lane & 1 != 0 { a[lane] } else { b[lane] });
        self.put_b32(regs.d, mask, values);
    }

    #[inline(always)]
    pub fn select_b64(&self, mask: u32, regs: Ternary) {
        let (a, b, p) = (self.b64(regs.a), self.b64(regs.b), self.predicate(regs.c));
        let values = each(|lane| if p >> lane & 1 != 0 { a[lane] } else { b[lane] });
        self.put_b64(regs.d, mask, values);
    }
}
