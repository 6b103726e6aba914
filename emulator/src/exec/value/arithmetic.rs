//! Floating-point operations in every rounding and saturation mode, one value at a time.
//!
//! A value is held as f64, which holds every f32, tf32, f16 and bf16 exactly; results are computed in
//! f64, to odd where inexact, and rounded once into their format ([`Format::encode`]).
//!
//! **Approximations** (`.approx`, `.full`) are computed in f64 and rounded to nearest: the error is half a
//! unit in the last place, inside the manual's bounds for all of them (rcp, sqrt 1 ulp; rsqrt, ex2 2
//! ulp; lg2 2^-22 absolute near 1; sin, cos 2^-20.5 absolute; tanh 2^-11; div.approx, div.full 2 ulp). As
//! the manual says, `div.approx` gives 0 for |b| in (2^126, 2^128), NaN if a is infinite there.
//! Real hardware has other last bits.

use super::format::{BF16, F16, F32, Format, TF32};
use super::{NAN32, double, integer, round};
use crate::ir::{Float1, Float2, Mode, Round, Test, Type};

/// The format of a float type of at most 32 bits; F64 has none.
pub fn format(ty: Type) -> Option<Format> {
    match ty {
        Type::F16 | Type::F16x2 => Some(F16),
        Type::Bf16 | Type::Bf16x2 => Some(BF16),
        Type::Tf32 => Some(TF32),
        Type::F32 => Some(F32),
        _ => None,
    }
}

/// The value of bits of a float type.
pub fn decode(ty: Type, bits: u64, ftz: bool) -> f64 {
    match format(ty) {
        None => f64::from_bits(bits),
        // The hardware ignores the low bits of tf32 operands; as an f32 they count.
        Some(format) => flush(format, format.decode(bits as u32), ftz),
    }
}

/// Subnormals of the format become zeros of their sign.
fn flush(format: Format, value: f64, ftz: bool) -> f64 {
    let smallest = if format == F16 { 6.103515625e-5 } else { f64::from(f32::MIN_POSITIVE) };
    if ftz && value.abs() < smallest { 0.0f64.copysign(value) } else { value }
}

/// Bits of a result with the mode's saturation.
pub fn encode(ty: Type, value: f64, mode: Mode) -> u64 {
    let Some(format) = format(ty) else {
        return saturate(value, mode.sat, mode.relu).to_bits();
    };
    let value = saturate(value, mode.sat, mode.relu);
    let bits = format.encode(value, mode.round);
    if mode.ftz && bits & (format.infinity()) == 0 {
        u64::from(bits & format.sign())
    } else {
        u64::from(bits)
    }
}

fn saturate(value: f64, sat: bool, relu: bool) -> f64 {
    if sat {
        // NaN and -0 become +0.
        return if value > 0.0 { value.min(1.0) } else { 0.0 };
    }
    if relu && value <= 0.0 { 0.0 } else { value }
}

/// Applies a function of bits to the values of a word: both halves of a packed type, else the whole.
pub fn halves<const N: usize>(ty: Type, values: [u64; N], f: impl Fn([u64; N]) -> u64) -> u64 {
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

/// One operand. Bits in, bits out.
pub fn float1(op: Float1, ty: Type, mode: Mode, a: u64) -> u64 {
    if let Some(bits) = sign_operation(op, ty, mode, a) {
        return bits;
    }
    let x = decode(ty, a, mode.ftz);
    let f64s = ty == Type::F64;
    if f64s && mode.ftz {
        return gross(op, a);
    }
    let result = match op {
        Float1::Sqrt if f64s => double::square_root(x, mode.round),
        Float1::Sqrt => round::root_odd(x),
        Float1::SqrtApprox => x.sqrt(),
        Float1::RsqrtApprox => reciprocal_root(x),
        Float1::Rcp if f64s => double::divide(1.0, x, mode.round),
        Float1::Rcp => round::divide_odd(1.0, x),
        Float1::RcpApprox => 1.0 / x,
        Float1::Sin => x.sin(),
        Float1::Cos => x.cos(),
        Float1::Ex2 => x.exp2(),
        Float1::Lg2 => x.log2(),
        Float1::Tanh => x.tanh(),
        Float1::Neg => -x,
        Float1::Abs => x.abs(),
    };
    encode(ty, result, mode)
}

/// `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64`: only the upper word counts and is given.
fn gross(op: Float1, a: u64) -> u64 {
    let flush = |x: f64| if x.is_subnormal() { 0.0f64.copysign(x) } else { x };
    let x = f64::from_bits(a);
    if x.is_nan() {
        return NAN_WORD;
    }
    let x = flush(f64::from_bits(a & UPPER_WORD));
    let result = if op == Float1::RsqrtApprox { reciprocal_root(x) } else { 1.0 / x };
    if result.is_nan() { NAN_WORD } else { flush(result).to_bits() & UPPER_WORD }
}

const UPPER_WORD: u64 = 0xffff_ffff_0000_0000;
/// Their canonical NaN.
const NAN_WORD: u64 = 0x7fff_ffff_0000_0000;

/// 1 / √x; of -0 it is -∞.
fn reciprocal_root(x: f64) -> f64 {
    if x == 0.0 { 1.0 / x } else { 1.0 / x.sqrt() }
}

/// Negation and absolute value touch the sign only; an f32 NaN becomes canonical.
fn sign_operation(op: Float1, ty: Type, mode: Mode, a: u64) -> Option<u64> {
    let sign = if ty == Type::F64 { 1 << 63 } else { u64::from(format(ty)?.sign()) };
    let bits = match op {
        Float1::Neg => a ^ sign,
        Float1::Abs => a & !sign,
        _ => return None,
    };
    let bits = integer::truncate(ty, bits);
    match ty {
        Type::F32 if f32::from_bits(bits as u32).is_nan() => Some(u64::from(NAN32)),
        _ if mode.ftz => Some(encode(ty, decode(ty, bits, true), Mode { sat: false, ..mode })),
        _ => Some(bits),
    }
}

/// Two operands. Bits in, bits out.
pub fn float2(op: Float2, ty: Type, mode: Mode, a: u64, b: u64) -> u64 {
    if op == Float2::Copysign {
        let sign = if ty == Type::F64 { 1 << 63 } else { 1 << 31 };
        return a & sign | b & (sign - 1);
    }
    let (x, y) = (decode(ty, a, mode.ftz), decode(ty, b, mode.ftz));
    let f64s = ty == Type::F64;
    let result = match op {
        Float2::Add if f64s => double::add(x, y, mode.round),
        Float2::Sub if f64s => double::add(x, -y, mode.round),
        Float2::Mul if f64s => double::multiply(x, y, mode.round),
        Float2::Div if f64s => double::divide(x, y, mode.round),
        Float2::Add => zero_of_sum(x, y, round::add_odd(x, y), mode.round),
        Float2::Sub => zero_of_sum(x, -y, round::add_odd(x, -y), mode.round),
        Float2::Mul => x * y,
        Float2::Div => round::divide_odd(x, y),
        Float2::DivApprox if y.abs() > 2f64.powi(126) && y.is_finite() => {
            if x.is_finite() {
                0.0f64.copysign(x * y.signum())
            } else {
                f64::NAN
            }
        }
        Float2::DivApprox | Float2::DivFull => round::divide_odd(x, y),
        Float2::Min | Float2::Max if mode.xorsign => {
            let size = extreme(x.abs(), y.abs(), mode.nan, op == Float2::Max);
            if x.is_sign_negative() == y.is_sign_negative() { size } else { -size }
        }
        Float2::Min => extreme(x, y, mode.nan, false),
        Float2::Max => extreme(x, y, mode.nan, true),
        Float2::Copysign => y.abs().copysign(x),
    };
    encode(ty, result, mode)
}

/// x - x is -0 when rounding down, +0 otherwise.
fn zero_of_sum(x: f64, y: f64, sum: f64, round: Round) -> f64 {
    if sum == 0.0 && round == Round::Down && (x != 0.0 || x.signum() != y.signum()) { -0.0 } else { sum }
}

/// Smaller or larger; -0 < +0; one NaN: the other operand, or NaN if `nan`.
fn extreme(x: f64, y: f64, nan: bool, larger: bool) -> f64 {
    if x.is_nan() || y.is_nan() {
        return if nan || (x.is_nan() && y.is_nan()) {
            f64::NAN
        } else if x.is_nan() {
            y
        } else {
            x
        };
    }
    let x_first = if x == y { x.is_sign_negative() } else { x < y };
    if x_first != larger { x } else { y }
}

/// a * b + c with one rounding. Bits in, bits out.
pub fn fma(ty: Type, mode: Mode, a: u64, b: u64, c: u64) -> u64 {
    let part = |bits| decode(ty, bits, mode.ftz);
    let (x, y, z) = (part(a), part(b), part(c));
    let result = match ty {
        Type::F64 => double::multiply_add(x, y, z, mode.round),
        // The product of two narrow values is exact.
        _ => zero_of_sum(x * y, z, round::add_odd(x * y, z), mode.round),
    };
    encode(ty, result, mode)
}

/// `testp`.
pub fn test(test: Test, ty: Type, a: u64) -> bool {
    let x = decode(ty, a, false);
    let smallest = if ty == Type::F64 { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) };
    match test {
        Test::Finite => x.is_finite(),
        Test::Infinite => x.is_infinite(),
        Test::Number => !x.is_nan(),
        Test::NotANumber => x.is_nan(),
        // Zeros count as normal.
        Test::Normal => x == 0.0 || (x.is_finite() && x.abs() >= smallest),
        Test::Subnormal => x != 0.0 && x.abs() < smallest,
    }
}

#[cfg(test)]
mod tests {
    use super::super::convert::convert;
    use super::*;
    use crate::ir::Conversion;
    use proptest::prelude::*;

    fn bits(x: f32) -> u64 {
        u64::from(x.to_bits())
    }

    proptest! {
        #[test]
        fn nearest_is_the_processors(a: u32, b: u32, c: u32) {
            let (x, y, z) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
            let same = |got: u64, expected: f32| {
                if expected.is_nan() { got == u64::from(NAN32) } else { got == bits(expected) }
            };
            let two = |op| float2(op, Type::F32, Mode::PLAIN, a.into(), b.into());
            prop_assert!(same(two(Float2::Add), x + y));
            prop_assert!(same(two(Float2::Sub), x - y));
            prop_assert!(same(two(Float2::Mul), x * y));
            prop_assert!(same(two(Float2::Div), x / y));
            prop_assert!(same(fma(Type::F32, Mode::PLAIN, a.into(), b.into(), c.into()), x.mul_add(y, z)));
            prop_assert!(same(float1(Float1::Sqrt, Type::F32, Mode::PLAIN, a.into()), x.sqrt()));
            prop_assert!(same(float1(Float1::Rcp, Type::F32, Mode::PLAIN, a.into()), 1.0 / x));
        }

        #[test]
        fn directed_results_enclose(a: u32, b: u32) {
            let (a, b) = (u64::from(a), u64::from(b));
            let value = |op, round| {
                let got = float2(op, Type::F32, Mode { round, ..Mode::PLAIN }, a, b) as u32;
                f32::from_bits(got)
            };
            for op in [Float2::Add, Float2::Mul, Float2::Div] {
                let (down, near, up) = (value(op, Round::Down), value(op, Round::Near), value(op, Round::Up));
                if near.is_nan() { continue; }
                prop_assert!(down <= near && near <= up);
                prop_assert!(down == up || down.next_up() == up);
                let zero = value(op, Round::Zero);
                let towards_zero = if near > 0.0 { down } else { up };
                prop_assert!(near == 0.0 || zero == towards_zero);
            }
        }

        #[test]
        fn integers_to_f32(x: i64, y: u64) {
            let how = |from| Conversion::plain(from, Type::F32);
            prop_assert_eq!(convert(how(Type::S64), x as u64), bits(x as f32));
            prop_assert_eq!(convert(how(Type::U64), y), bits(y as f32));
            prop_assert_eq!(convert(how(Type::S32), x as u32 as u64), bits(x as i32 as f32));
        }
    }

    #[test]
    fn conversions_saturate_and_round() {
        let how = |to, round| Conversion { round, ..Conversion::plain(Type::F32, to) };
        assert_eq!(convert(how(Type::S32, Round::Zero), bits(f32::NAN)), 0);
        assert_eq!(convert(how(Type::S32, Round::Zero), bits(3e9)), 0x7fff_ffff);
        assert_eq!(convert(how(Type::U8, Round::Near), bits(-5.0)), 0);
        assert_eq!(convert(how(Type::S8, Round::Near), bits(-500.0)), 0x80);
        assert_eq!(convert(how(Type::S32, Round::Near), bits(2.5)), 2);
        assert_eq!(convert(how(Type::S32, Round::Down), bits(-2.5)), 0xffff_fffd);
        assert_eq!(convert(how(Type::U64, Round::Zero), bits(f32::INFINITY)), u64::MAX);
    }

    #[test]
    fn minima_and_saturation() {
        let min = |a, b, nan| float2(Float2::Min, Type::F32, Mode { nan, ..Mode::PLAIN }, a, b);
        assert_eq!(min(bits(f32::NAN), bits(1.0), false), bits(1.0));
        assert_eq!(min(bits(f32::NAN), bits(1.0), true), u64::from(NAN32));
        assert_eq!(min(bits(0.0), bits(-0.0), false), bits(-0.0));
        let sat = Mode { sat: true, ..Mode::PLAIN };
        assert_eq!(float2(Float2::Add, Type::F32, sat, bits(f32::NAN), bits(1.0)), 0);
        assert_eq!(float2(Float2::Add, Type::F32, sat, bits(-3.0), bits(1.0)), 0);
        assert_eq!(float2(Float2::Add, Type::F32, sat, bits(3.0), bits(1.0)), bits(1.0));
        let ftz = Mode { ftz: true, ..Mode::PLAIN };
        assert_eq!(float2(Float2::Mul, Type::F32, ftz, bits(-1e-30), bits(1e-10)), bits(-0.0));
        assert_eq!(float2(Float2::Add, Type::F32, ftz, bits(1e-40), bits(0.0)), 0);
    }
}
