//! Registers as vectors: loops over 32 lanes that the compiler turns into vector instructions wherever these
//! functions are inlined into code that may use them.

use super::value::NAN32;
use super::vector_op::{Binary, Ternary, Unary};
use super::warp::{LANES, Registers};
use crate::ir::Reg;

/// The register files as bare pointers.
///
/// Register indices come from a [`super::plan::Plan`], whose kernel only names registers that exist, and the files
/// don't move while a warp runs. So every access below is inside its file.
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

/// A value of a register file's lanes.
pub trait Lane: Copy + Default {
    fn get(regs: &VectorRegisters, reg: Reg) -> &[Self; LANES];
    fn put(regs: &VectorRegisters, reg: Reg, mask: u32, values: [Self; LANES]);
}

impl Lane for u32 {
    #[inline(always)]
    fn get(regs: &VectorRegisters, reg: Reg) -> &[u32; LANES] {
        // SAFETY: see the type; no write happens while the reference lives: a writer first computes all its values.
        unsafe { &*regs.b32.add(usize::from(reg)) }
    }

    #[inline(always)]
    fn put(regs: &VectorRegisters, reg: Reg, mask: u32, values: [u32; LANES]) {
        // SAFETY: see the type; `values` doesn't borrow from the file.
        put(unsafe { &mut *regs.b32.add(usize::from(reg)) }, mask, values);
    }
}

impl Lane for u64 {
    #[inline(always)]
    fn get(regs: &VectorRegisters, reg: Reg) -> &[u64; LANES] {
        // SAFETY: as for `u32`.
        unsafe { &*regs.b64.add(usize::from(reg)) }
    }

    #[inline(always)]
    fn put(regs: &VectorRegisters, reg: Reg, mask: u32, values: [u64; LANES]) {
        // SAFETY: as for `u32`.
        put(unsafe { &mut *regs.b64.add(usize::from(reg)) }, mask, values);
    }
}

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
    pub fn get<T: Lane>(&self, reg: Reg) -> &[T; LANES] {
        T::get(self, reg)
    }

    /// Writes the lanes of the mask.
    #[inline(always)]
    pub fn put<T: Lane>(&self, reg: Reg, mask: u32, values: [T; LANES]) {
        T::put(self, reg, mask, values);
    }

    #[inline(always)]
    pub fn predicate(&self, reg: Reg) -> u32 {
        // SAFETY: see the type.
        unsafe { *self.predicates.add(usize::from(reg)) }
    }

    #[inline(always)]
    pub fn put_predicate(&self, reg: Reg, mask: u32, bits: u32) {
        // SAFETY: see the type.
        let target = unsafe { &mut *self.predicates.add(usize::from(reg)) };
        *target = *target & !mask | bits & mask;
    }

    #[inline(always)]
    pub fn map<A: Lane, D: Lane>(&self, mask: u32, regs: Unary, f: impl Fn(A) -> D) {
        let a = self.get(regs.a);
        self.put(regs.d, mask, each(|lane| f(a[lane])));
    }

    #[inline(always)]
    pub fn map2<A: Lane, B: Lane, D: Lane>(&self, mask: u32, regs: Binary, f: impl Fn(A, B) -> D) {
        let (a, b) = (self.get(regs.a), self.get(regs.b));
        self.put(regs.d, mask, each(|lane| f(a[lane], b[lane])));
    }

    #[inline(always)]
    pub fn map3<A: Lane, B: Lane, C: Lane, D: Lane>(&self, mask: u32, r: Ternary, f: impl Fn(A, B, C) -> D) {
        let (a, b, c) = (self.get(r.a), self.get(r.b), self.get(r.c));
        self.put(r.d, mask, each(|lane| f(a[lane], b[lane], c[lane])));
    }

    #[inline(always)]
    pub fn float2(&self, mask: u32, regs: Binary, f: impl Fn(f32, f32) -> f32) {
        self.map2(mask, regs, |a, b| bits(f(f32::from_bits(a), f32::from_bits(b))));
    }

    #[inline(always)]
    pub fn compare<T: Lane>(&self, mask: u32, regs: Binary, holds: impl Fn(T, T) -> bool) {
        let (a, b) = (self.get(regs.a), self.get(regs.b));
        self.put_predicate(regs.d, mask, pack(|lane| holds(a[lane], b[lane])));
    }

    #[inline(always)]
    pub fn select<T: Lane>(&self, mask: u32, regs: Ternary) {
        let (a, b, p) = (self.get::<T>(regs.a), self.get(regs.b), self.predicate(regs.c));
        self.put(regs.d, mask, each(|lane| if p >> lane & 1 != 0 { a[lane] } else { b[lane] }));
    }
}
