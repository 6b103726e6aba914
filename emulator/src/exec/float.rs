//! Floating-point instructions and conversions, lane by lane. The common ones also have a
//! vectorised form in `interpreter`.

use super::value::{arithmetic, convert};
use super::warp::{LANES, Registers, lanes};
use crate::ir::{Conversion, File, Float1, Float2, Mode, Reg, Test, Type};

/// Applies a function of bits to the values of a word: both halves of a packed type, else the whole.
fn halves<const N: usize>(ty: Type, values: [u64; N], f: impl Fn([u64; N]) -> u64) -> u64 {
    match ty {
        Type::F16x2 | Type::Bf16x2 => {
            let low = f(values.map(|value| value & 0xffff));
            let high = f(values.map(|value| value >> 16 & 0xffff));
            high << 16 | low
        }
        Type::F16 | Type::Bf16 => f(values.map(|value| value & 0xffff)),
        _ => f(values),
    }
}

/// Lane by lane, results of lanes outside the mask are 0.
fn over<const N: usize>(
    ty: Type,
    mask: u32,
    sources: [[u64; LANES]; N],
    f: impl Fn([u64; N]) -> u64,
) -> [u64; LANES] {
    let mut values = [0; LANES];
    for lane in lanes(mask) {
        values[lane] = halves(ty, std::array::from_fn(|source| sources[source][lane]), &f);
    }
    values
}

impl Registers {
    #[inline(never)]
    pub fn float1(&mut self, op: Float1, ty: Type, mode: Mode, mask: u32, dst: Reg, a: Reg) {
        let values = over(ty, mask, [self.get(ty.file(), a)], |[a]| arithmetic::float1(op, ty, mode, a));
        self.set(ty.file(), dst, mask, &values);
    }

    #[inline(never)]
    pub fn float2(&mut self, op: Float2, ty: Type, mode: Mode, mask: u32, dst: Reg, ab: (Reg, Reg)) {
        let sources = [self.get(ty.file(), ab.0), self.get(ty.file(), ab.1)];
        let values = over(ty, mask, sources, |[a, b]| arithmetic::float2(op, ty, mode, a, b));
        self.set(ty.file(), dst, mask, &values);
    }

    #[inline(never)]
    pub fn fma(&mut self, ty: Type, mode: Mode, mask: u32, dst: Reg, from: (Reg, Reg, Reg)) {
        let file = ty.file();
        let sources = [self.get(file, from.0), self.get(file, from.1), self.get(file, from.2)];
        let values = over(ty, mask, sources, |[a, b, c]| arithmetic::fma(ty, mode, a, b, c));
        self.set(file, dst, mask, &values);
    }

    #[inline(never)]
    pub fn test(&mut self, test: Test, ty: Type, mask: u32, dst: Reg, a: Reg) {
        let a = self.get(ty.file(), a);
        let bits =
            lanes(mask).fold(0, |bits, lane| bits | u32::from(arithmetic::test(test, ty, a[lane])) << lane);
        self.set_predicate(dst, mask, bits);
    }

    #[inline(never)]
    pub fn convert(&mut self, how: Conversion, mask: u32, dst: Reg, src: Reg) {
        let packed = if how.to == how.from { how.from } else { Type::U32 };
        let values = over(packed, mask, [self.get(how.from.file(), src)], |[a]| convert::convert(how, a));
        self.set(how.to.file(), dst, mask, &values);
    }

    #[inline(never)]
    pub fn convert_pair(&mut self, how: Conversion, mask: u32, dst: Reg, high: Reg, low: Reg) {
        let sources = [self.get(File::B32, high), self.get(File::B32, low)];
        let values = over(Type::U32, mask, sources, |[high, low]| {
            convert::convert(how, high) << 16 | convert::convert(how, low)
        });
        self.set(File::B32, dst, mask, &values);
    }
}
