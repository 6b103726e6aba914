//! Integers of 8 to 64 bits as bits in a u64.

use crate::ir::{Compare, Int1, Int2, Int3, Permute, Type};

/// Number of bits of a type.
pub fn bits(ty: Type) -> u32 {
    ty.size() * 8
}

/// The low bits that a type has.
pub fn truncate(ty: Type, value: u64) -> u64 {
    value & (u64::MAX >> (64 - bits(ty)))
}

/// The integer that bits of a type mean.
pub fn extend(ty: Type, value: u64) -> i128 {
    let shift = 64 - bits(ty);
    if ty.is_signed() {
        i128::from(((value << shift) as i64) >> shift)
    } else {
        i128::from((value << shift) >> shift)
    }
}

/// Smallest and largest value of an integer type.
pub fn limits(ty: Type) -> (i128, i128) {
    match ty.is_signed() {
        true => (-(1 << (bits(ty) - 1)), (1 << (bits(ty) - 1)) - 1),
        false => (0, (1 << bits(ty)) - 1),
    }
}

/// One operand.
pub fn int1(op: Int1, ty: Type, a: u64) -> u64 {
    let low = truncate(ty, a);
    let value = extend(ty, a);
    let spare = 64 - bits(ty);
    match op {
        Int1::Neg => truncate(ty, a.wrapping_neg()),
        Int1::Abs => truncate(ty, value.unsigned_abs() as u64),
        Int1::Not => truncate(ty, !a),
        Int1::Cnot => u64::from(low == 0),
        Int1::Popc => u64::from(low.count_ones()),
        Int1::Clz => u64::from(low.leading_zeros() - spare),
        Int1::Brev => low.reverse_bits() >> spare,
        Int1::Bfind | Int1::BfindShift => {
            let differs = if value < 0 { truncate(ty, !a) } else { low };
            match differs {
                0 => 0xffff_ffff,
                _ if op == Int1::Bfind => u64::from(63 - differs.leading_zeros()),
                _ => u64::from(differs.leading_zeros() - spare),
            }
        }
    }
}

/// Two operands.
pub fn int2(op: Int2, ty: Type, a: u64, b: u64) -> u64 {
    let (x, y) = (extend(ty, a), extend(ty, b));
    let clamp = |value: i128| value.clamp(limits(ty).0, limits(ty).1) as u64;
    let result = match op {
        Int2::Add => a.wrapping_add(b),
        Int2::AddSat => clamp(x + y),
        Int2::Sub => a.wrapping_sub(b),
        Int2::SubSat => clamp(x - y),
        Int2::MulLo => a.wrapping_mul(b),
        Int2::MulHi => high(ty, x, y),
        Int2::Mul24Lo | Int2::Mul24Hi => {
            let product = i128::from(low24(ty, a)) * i128::from(low24(ty, b));
            if op == Int2::Mul24Lo { product as u64 } else { (product >> 16) as u64 }
        }
        Int2::Div if y == 0 => u64::MAX,
        Int2::Div => (x / y) as u64,
        Int2::Rem if y == 0 => a,
        Int2::Rem => (x % y) as u64,
        Int2::Min => x.min(y) as u64,
        Int2::Max => x.max(y) as u64,
        Int2::And => a & b,
        Int2::Or => a | b,
        Int2::Xor => a ^ b,
        Int2::Shl => match b & 0xffff_ffff {
            by if by < u64::from(bits(ty)) => a << by,
            _ => 0,
        },
        Int2::Shr => (x >> (b & 0xffff_ffff).min(u64::from(bits(ty)))) as u64,
    };
    truncate(ty, result)
}

fn low24(ty: Type, value: u64) -> i64 {
    let shifted = (value << 40) as i64;
    if ty.is_signed() { shifted >> 40 } else { (shifted as u64 >> 40) as i64 }
}

fn high(ty: Type, x: i128, y: i128) -> u64 {
    match ty {
        Type::U64 => ((x as u128 * y as u128) >> 64) as u64,
        _ => ((x * y) >> bits(ty)) as u64,
    }
}

/// The product of two integers of at most 32 bits in 64.
pub fn mul_wide(ty: Type, a: u64, b: u64) -> u64 {
    (extend(ty, a) * extend(ty, b)) as u64
}

/// Three operands.
pub fn int3(op: Int3, ty: Type, a: u64, b: u64, c: u64) -> u64 {
    let (x, y, z) = (extend(ty, a), extend(ty, b), extend(ty, c));
    let result = match op {
        Int3::MadLo => a.wrapping_mul(b).wrapping_add(c),
        Int3::MadHi => high(ty, x, y).wrapping_add(c),
        Int3::MadHiSat => (extend(ty, high(ty, x, y)) + z).clamp(limits(ty).0, limits(ty).1) as u64,
        Int3::Sad => (z + (x - y).abs()) as u64,
        Int3::Bfe => bit_field_extract(ty, a, b as u32 & 0xff, c as u32 & 0xff),
    };
    truncate(ty, result)
}

/// As the manual's pseudo code: bits beyond the top are the sign of the field (of the value, where the
/// field reaches beyond it).
fn bit_field_extract(ty: Type, a: u64, position: u32, length: u32) -> u64 {
    let top = bits(ty) - 1;
    let bit = |index: u32| a >> index.min(top) & 1;
    let sign = if ty.is_signed() && length != 0 { bit((position + length - 1).min(top)) } else { 0 };
    let mut result = 0;
    for index in 0..=top {
        let taken = index < length && position + index <= top;
        result |= (if taken { bit(position + index) } else { sign }) << index;
    }
    result
}

/// `bfi`.
pub fn bit_field_insert(ty: Type, a: u64, b: u64, position: u32, length: u32) -> u64 {
    let mut result = b;
    let (position, length) = (position & 0xff, length & 0xff);
    for index in 0..length.min(bits(ty).saturating_sub(position)) {
        let at = position + index;
        result = result & !(1 << at) | (a >> index & 1) << at;
    }
    truncate(ty, result)
}

/// `lop3`.
pub fn lop3(a: u32, b: u32, c: u32, table: u8) -> u32 {
    let mut result = 0;
    for row in 0..8u32 {
        if table >> row & 1 == 1 {
            let pick = |value: u32, bit: u32| if row & bit != 0 { value } else { !value };
            result |= pick(a, 4) & pick(b, 2) & pick(c, 1);
        }
    }
    result
}

/// `prmt`.
pub fn permute(mode: Permute, a: u32, b: u32, c: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let byte = |index: u32| (bytes >> ((index & 7) * 8)) as u32 & 0xff;
    let low = c & 3;
    let select = |position: u32| match mode {
        Permute::Default => c >> (position * 4) & 0xf,
        Permute::F4e => (low + position) & 7,
        Permute::B4e => low.wrapping_sub(position) & 7,
        Permute::Rc8 => low,
        Permute::Ecl => low.max(position),
        Permute::Ecr => low.min(position),
        Permute::Rc16 => (low & 1) * 2 + (position & 1),
    };
    (0..4).fold(0, |result, position| {
        let chosen = select(position);
        let value = byte(chosen);
        let value = if chosen & 8 != 0 { (value >> 7) * 0xff } else { value };
        result | value << (position * 8)
    })
}

/// `shf`: a the low, b the high word.
pub fn funnel(left: bool, clamp: bool, a: u32, b: u32, c: u32) -> u32 {
    let by = if clamp { c.min(32) } else { c & 31 };
    let both = u64::from(b) << 32 | u64::from(a);
    if left { ((u128::from(both) << by) >> 32) as u32 } else { (u128::from(both) >> by) as u32 }
}

/// `dp4a`, `dp2a`.
pub fn dot(bytes: bool, high: bool, signed: (bool, bool), a: u32, b: u32, c: u32) -> u32 {
    let part = |value: u32, index: u32, width: u32, signed: bool| {
        let low = u64::from(value >> (index * width));
        let shift = 64 - width;
        if signed { ((low << shift) as i64) >> shift } else { ((low << shift) >> shift) as i64 }
    };
    let sum: i64 = match bytes {
        true => (0..4).map(|i| part(a, i, 8, signed.0) * part(b, i, 8, signed.1)).sum(),
        false => {
            let first = if high { 2 } else { 0 };
            (0..2).map(|i| part(a, i, 16, signed.0) * part(b, first + i, 8, signed.1)).sum()
        }
    };
    c.wrapping_add(sum as u32)
}

/// Comparison of two numbers. Those that can't be ordered (a NaN) are unordered.
pub fn compare<T: PartialOrd>(compare: Compare, a: T, b: T) -> bool {
    use Compare::*;
    let Some(order) = a.partial_cmp(&b) else {
        return matches!(compare, Equ | Neu | Ltu | Leu | Gtu | Geu | Nan);
    };
    match compare {
        Eq | Equ => order.is_eq(),
        Ne | Neu => order.is_ne(),
        Lt | Ltu => order.is_lt(),
        Le | Leu => order.is_le(),
        Gt | Gtu => order.is_gt(),
        Ge | Geu => order.is_ge(),
        Num => true,
        Nan => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_beyond_the_width() {
        assert_eq!(int2(Int2::Shl, Type::U32, 1, 31), 1 << 31);
        assert_eq!(int2(Int2::Shl, Type::U32, 1, 32), 0);
        assert_eq!(int2(Int2::Shl, Type::U64, 1, 64), 0);
        assert_eq!(int2(Int2::Shl, Type::U64, 1, 0xffff_ffff), 0);
        assert_eq!(int2(Int2::Shr, Type::S32, 0x8000_0000, 32), 0xffff_ffff);
        assert_eq!(int2(Int2::Shr, Type::S32, 0x8000_0000, 4000), 0xffff_ffff);
        assert_eq!(int2(Int2::Shr, Type::U32, 0x8000_0000, 32), 0);
        assert_eq!(int2(Int2::Shr, Type::S16, 0x8000, 3), 0xf000);
        assert_eq!(int2(Int2::Shr, Type::U64, u64::MAX, 63), 1);
    }

    #[test]
    fn wrap_around_and_saturation() {
        let least = 0x8000_0000u64;
        assert_eq!(int2(Int2::Div, Type::S32, least, 0xffff_ffff), least);
        assert_eq!(int2(Int2::Div, Type::U16, 7, 0), 0xffff);
        assert_eq!(int2(Int2::Rem, Type::S32, (-7i32) as u32 as u64, 2), 0xffff_ffff);
        assert_eq!(int2(Int2::AddSat, Type::S32, 0x7fff_ffff, 1), 0x7fff_ffff);
        assert_eq!(int2(Int2::SubSat, Type::S32, least, 1), least);
        assert_eq!(int1(Int1::Abs, Type::S32, least), least);
        assert_eq!(int2(Int2::MulHi, Type::U64, u64::MAX, u64::MAX), u64::MAX - 1);
        assert_eq!(int2(Int2::MulHi, Type::S64, u64::MAX, u64::MAX), 0);
        assert_eq!(int2(Int2::MulHi, Type::S32, 0xffff_ffff, 2), 0xffff_ffff);
        assert_eq!(int2(Int2::Mul24Lo, Type::S32, 0xff_ffff, 2), 0xffff_fffe);
    }

    #[test]
    fn bit_fields() {
        assert_eq!(int3(Int3::Bfe, Type::U32, 0xabcd_1234, 8, 8), 0x12);
        assert_eq!(int3(Int3::Bfe, Type::S32, 0x0000_8000, 8, 8), 0xffff_ff80);
        assert_eq!(int3(Int3::Bfe, Type::S32, 0x8000_0000, 31, 8), 0xffff_ffff);
        assert_eq!(int3(Int3::Bfe, Type::U32, 0xffff_ffff, 40, 8), 0);
        assert_eq!(int3(Int3::Bfe, Type::S32, 0xffff_ffff, 0, 0), 0);
        assert_eq!(bit_field_insert(Type::U32, 0xff, 0, 28, 8), 0xf000_0000);
        assert_eq!(bit_field_insert(Type::U64, 0xff, 0, 60, 8), 0xf000_0000_0000_0000);
        assert_eq!(bit_field_insert(Type::U32, 0xff, 5, 32, 8), 5);
        assert_eq!(int1(Int1::Bfind, Type::U32, 0), 0xffff_ffff);
        assert_eq!(int1(Int1::Bfind, Type::S32, 0xffff_fff0), 3);
        assert_eq!(int1(Int1::BfindShift, Type::U32, 1), 31);
        assert_eq!(int1(Int1::Clz, Type::U64, 1), 63);
    }

    #[test]
    fn bytes_and_logic() {
        assert_eq!(permute(Permute::Default, 0x8030_2010, 0x7060_5040, 0x7531), 0x7050_8020);
        assert_eq!(permute(Permute::Default, 0x8000_0000, 0, 0xbbbb), 0xffff_ffff);
        assert_eq!(permute(Permute::F4e, 0x3322_1100, 0x7766_5544, 1), 0x4433_2211);
        assert_eq!(permute(Permute::B4e, 0x3322_1100, 0x7766_5544, 1), 0x6677_0011);
        assert_eq!(permute(Permute::Rc16, 0x3322_1100, 0, 1), 0x3322_3322);
        assert_eq!(permute(Permute::Ecl, 0x3322_1100, 0, 2), 0x3322_2222);
        assert_eq!(permute(Permute::Ecr, 0x3322_1100, 0, 2), 0x2222_1100);
        assert_eq!(lop3(0xf0, 0xcc, 0xaa, 0x80), 0xf0 & 0xcc & 0xaa);
        assert_eq!(lop3(0xf0, 0xcc, 0xaa, 0x96), 0xf0 ^ 0xcc ^ 0xaa);
        assert_eq!(funnel(true, false, 0x8000_0000, 1, 1), 3);
        assert_eq!(funnel(true, true, 5, 1, 40), 5);
        assert_eq!(funnel(false, true, 5, 9, 40), 9);
        assert_eq!(funnel(false, false, 2, 1, 1), 0x8000_0001);
        assert_eq!(dot(true, false, (true, true), 0xff01_ff01, 0x0202_0202, 10), 10);
        assert_eq!(dot(false, true, (false, false), 0x0002_0001, 0x0403_0000, 1), 12);
    }
}
