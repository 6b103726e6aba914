//! Integer additions with carry in and carry out, lane by lane.

use super::value::integer;
use super::warp::{LANES, Registers, lanes};
use crate::ir::{Int2, MadCarry, Reg, Type};

impl Registers {
    /// a + b + carry, or a - b - borrow.
    #[inline(never)]
    pub fn carry(
        &mut self,
        subtract: bool,
        ty: Type,
        mask: u32,
        dst: Reg,
        (a, b): ([u64; LANES], [u64; LANES]),
        (carry_in, carry_out): (Option<Reg>, Option<Reg>),
    ) {
        let carries = carry_in.map_or(0, |reg| self.predicate(reg));
        let mut values = [0; LANES];
        let mut out = 0;
        for lane in lanes(mask) {
            let (x, y) = (integer::truncate(ty, a[lane]), integer::truncate(ty, b[lane]));
            let carry = i128::from(carries >> lane & 1);
            let sum = match subtract {
                true => i128::from(x) - i128::from(y) - carry,
                false => i128::from(x) + i128::from(y) + carry,
            };
            values[lane] = integer::truncate(ty, sum as u64);
            out |= u32::from(sum < 0 || sum >> integer::bits(ty) != 0) << lane;
        }
        self.set(ty.file(), dst, mask, &values);
        if let Some(reg) = carry_out {
            self.set_predicate(reg, mask, out);
        }
    }

    /// `mad.cc`, `madc`.
    pub fn mad_carry(&mut self, mask: u32, mad: &MadCarry) {
        let file = mad.ty.file();
        let op = if mad.high { Int2::MulHi } else { Int2::MulLo };
        let (a, b, c) = (self.get(file, mad.a), self.get(file, mad.b), self.get(file, mad.c));
        let product = std::array::from_fn(|lane| integer::int2(op, mad.ty, a[lane], b[lane]));
        self.carry(false, mad.ty, mask, mad.dst, (product, c), (mad.carry_in, mad.carry_out));
    }
}
