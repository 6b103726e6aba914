//! Integer instructions, lane by lane. The common ones also have a vectorised form in `interpreter`.

use super::value::integer;
use super::warp::{LANES, Registers};
use crate::ir::{File, Int1, Int2, Int3, MadCarry, Permute, Reg, Type};

/// The file of a product of twice the width.
fn wide_file(ty: Type) -> File {
    if ty.size() == 2 { File::B32 } else { File::B64 }
}

fn over<const N: usize>(mask: u32, sources: [[u64; LANES]; N], f: impl Fn([u64; N]) -> u64) -> [u64; LANES] {
    std::array::from_fn(|lane| match mask >> lane & 1 {
        0 => 0,
        _ => f(std::array::from_fn(|source| sources[source][lane])),
    })
}

impl Registers {
    #[inline(never)]
    pub fn int1(&mut self, op: Int1, ty: Type, mask: u32, dst: Reg, a: Reg) {
        let values = over(mask, [self.get(ty.file(), a)], |[a]| integer::int1(op, ty, a));
        let file = match op {
            Int1::Popc | Int1::Clz | Int1::Bfind | Int1::BfindShift => File::B32,
            _ => ty.file(),
        };
        self.set(file, dst, mask, &values);
    }

    #[inline(never)]
    pub fn int2(&mut self, op: Int2, ty: Type, mask: u32, dst: Reg, a: Reg, b: Reg) {
        let shift = matches!(op, Int2::Shl | Int2::Shr);
        let b_file = if shift { File::B32 } else { ty.file() };
        let sources = [self.get(ty.file(), a), self.get(b_file, b)];
        let values = over(mask, sources, |[a, b]| integer::int2(op, ty, a, b));
        self.set(ty.file(), dst, mask, &values);
    }

    #[inline(never)]
    pub fn int3(&mut self, op: Int3, ty: Type, mask: u32, dst: Reg, from: (Reg, Reg, Reg)) {
        let later = if op == Int3::Bfe { File::B32 } else { ty.file() };
        let sources = [self.get(ty.file(), from.0), self.get(later, from.1), self.get(later, from.2)];
        let values = over(mask, sources, |[a, b, c]| integer::int3(op, ty, a, b, c));
        self.set(ty.file(), dst, mask, &values);
    }

    /// a * b in twice the width, plus c if there is one.
    #[inline(never)]
    pub fn mul_wide(&mut self, ty: Type, mask: u32, dst: Reg, a: Reg, b: Reg, c: Option<Reg>) {
        let file = wide_file(ty);
        let c = c.map_or([0; LANES], |c| self.get(file, c));
        let values = over(mask, [self.get(ty.file(), a), self.get(ty.file(), b), c], |[a, b, c]| {
            let product = integer::extend(ty, a) * integer::extend(ty, b);
            (product as u64).wrapping_add(c)
        });
        self.set(file, dst, mask, &values);
    }

    /// a + b + carry, or a - b - borrow.
    #[inline(never)]
    pub fn carry(
        &mut self,
        subtract: bool,
        ty: Type,
        mask: u32,
        regs: (Reg, Reg, Reg),
        carry: (Option<Reg>, Option<Reg>),
    ) {
        let (a, b) = (self.get(ty.file(), regs.1), self.get(ty.file(), regs.2));
        self.add_with_carry(subtract, ty, mask, regs.0, (a, b), carry);
    }

    fn add_with_carry(
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
        for lane in super::warp::lanes(mask) {
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
    #[inline(never)]
    pub fn mad_carry(&mut self, mask: u32, mad: &MadCarry) {
        let file = mad.ty.file();
        let op = if mad.high { Int2::MulHi } else { Int2::MulLo };
        let sources = [self.get(file, mad.a), self.get(file, mad.b)];
        let product = over(mask, sources, |[a, b]| integer::int2(op, mad.ty, a, b));
        let c = self.get(file, mad.c);
        self.add_with_carry(false, mad.ty, mask, mad.dst, (product, c), (mad.carry_in, mad.carry_out));
    }

    #[inline(never)]
    pub fn bit_field_insert(&mut self, ty: Type, mask: u32, dst: Reg, ab: (Reg, Reg), field: (Reg, Reg)) {
        let file = ty.file();
        let words = |reg| self.get(File::B32, reg);
        let sources = [self.get(file, ab.0), self.get(file, ab.1), words(field.0), words(field.1)];
        let values = over(mask, sources, |[a, b, position, length]| {
            integer::bit_field_insert(ty, a, b, position as u32, length as u32)
        });
        self.set(file, dst, mask, &values);
    }

    fn b32_3(&mut self, mask: u32, dst: Reg, from: (Reg, Reg, Reg), f: impl Fn(u32, u32, u32) -> u32) {
        let (a, b, c) = (self.b32(from.0), self.b32(from.1), self.b32(from.2));
        let values = std::array::from_fn(|lane| f(a[lane], b[lane], c[lane]));
        self.set_b32(dst, mask, &values);
    }

    #[inline(never)]
    pub fn lop3(&mut self, mask: u32, dst: Reg, from: (Reg, Reg, Reg), table: u8) {
        self.b32_3(mask, dst, from, |a, b, c| integer::lop3(a, b, c, table));
    }

    #[inline(never)]
    pub fn permute(&mut self, mode: Permute, mask: u32, dst: Reg, from: (Reg, Reg, Reg)) {
        self.b32_3(mask, dst, from, |a, b, c| integer::permute(mode, a, b, c));
    }

    #[inline(never)]
    pub fn funnel(&mut self, left: bool, clamp: bool, mask: u32, dst: Reg, from: (Reg, Reg, Reg)) {
        self.b32_3(mask, dst, from, |a, b, c| integer::funnel(left, clamp, a, b, c));
    }

    #[inline(never)]
    pub fn dot(
        &mut self,
        bytes: bool,
        high: bool,
        signed: (bool, bool),
        mask: u32,
        dst: Reg,
        from: (Reg, Reg, Reg),
    ) {
        self.b32_3(mask, dst, from, |a, b, c| integer::dot(bytes, high, signed, a, b, c));
    }
}
