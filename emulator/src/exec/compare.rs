//! Comparisons and predicates.

use super::value::{arithmetic, integer};
use super::warp::{LANES, Registers, lanes};
use crate::ir::{Combine, Compare, Logic, Reg, Type};

/// Combines lane masks.
pub fn logic(op: Logic, a: u32, b: u32) -> u32 {
    match op {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

/// Result for one value each.
fn holds(compare: Compare, ty: Type, ftz: bool, a: u64, b: u64) -> bool {
    if ty.is_float() {
        integer::compare(compare, arithmetic::decode(ty, a, ftz), arithmetic::decode(ty, b, ftz))
    } else {
        integer::compare(compare, integer::extend(ty, a), integer::extend(ty, b))
    }
}

/// A comparison: what, of which type, flushing subnormals or not.
#[derive(Clone, Copy)]
pub struct Comparison {
    pub compare: Compare,
    pub ty: Type,
    pub ftz: bool,
}

impl Registers {
    /// The lanes where a comparison holds; for packed types of the low and of the high halves.
    fn compare(&self, how: Comparison, mask: u32, a: Reg, b: Reg) -> (u32, u32) {
        let Comparison { compare, ty, ftz } = how;
        let (a, b) = (self.get(ty.file(), a), self.get(ty.file(), b));
        let (single, packed) = match ty {
            Type::F16x2 => (Type::F16, true),
            Type::Bf16x2 => (Type::Bf16, true),
            _ => (ty, false),
        };
        lanes(mask).fold((0, 0), |(low, high), lane| {
            let (x, y) = (a[lane], b[lane]);
            let first = if packed { (x & 0xffff, y & 0xffff) } else { (x, y) };
            let low = low | u32::from(holds(compare, single, ftz, first.0, first.1)) << lane;
            let upper = packed && holds(compare, single, ftz, x >> 16, y >> 16);
            (low, high | u32::from(upper) << lane)
        })
    }

    /// The lanes of a result combined with a predicate.
    pub fn combine(&self, result: u32, combine: Option<Combine>) -> u32 {
        match combine {
            None => result,
            Some(Combine { op, reg, negated }) => {
                let other = self.predicate(reg);
                logic(op, result, if negated { !other } else { other })
            }
        }
    }

    #[inline(never)]
    pub fn setp(
        &mut self,
        how: Comparison,
        mask: u32,
        dst: (Reg, Option<Reg>),
        ab: (Reg, Reg),
        combine: Option<Combine>,
    ) {
        let (low, high) = self.compare(how, mask, ab.0, ab.1);
        let packed = matches!(how.ty, Type::F16x2 | Type::Bf16x2);
        let second = self.combine(if packed { high } else { !low }, combine);
        let first = self.combine(low, combine);
        self.set_predicate(dst.0, mask, first);
        if let Some(other) = dst.1 {
            self.set_predicate(other, mask, second);
        }
    }

    #[inline(never)]
    pub fn set_value(
        &mut self,
        how: Comparison,
        to: Type,
        mask: u32,
        dst: Reg,
        ab: (Reg, Reg),
        combine: Option<Combine>,
    ) {
        let (low, high) = self.compare(how, mask, ab.0, ab.1);
        let (low, high) = (self.combine(low, combine), self.combine(high, combine));
        let yes: u64 = match to {
            Type::F32 => 0x3f80_0000,
            Type::F64 => 0x3ff0_0000_0000_0000,
            Type::F16 | Type::F16x2 => 0x3c00,
            Type::Bf16 | Type::Bf16x2 => 0x3f80,
            _ => u64::MAX >> (64 - integer::bits(to)),
        };
        // Packed comparisons fill both halves, whatever the result's type.
        let packed = matches!(how.ty, Type::F16x2 | Type::Bf16x2);
        let yes = if packed { yes & 0xffff } else { yes };
        let values: [u64; LANES] = std::array::from_fn(|lane| {
            let pick = |mask: u32| if mask >> lane & 1 == 1 { yes } else { 0 };
            if packed { pick(high) << 16 | pick(low) } else { pick(low) }
        });
        self.set(to.file(), dst, mask, &values);
    }
}
