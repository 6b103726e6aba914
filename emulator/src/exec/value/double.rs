//! f64 arithmetic in every rounding direction: exact in integers, rounded once.

use super::format::{away, overflows_to_infinity};
use crate::ir::Round;

/// The size of a finite number that isn't 0: `mantissa * 2^exponent`.
#[derive(Clone, Copy)]
struct Exact {
    negative: bool,
    mantissa: u128,
    exponent: i32,
}

/// Least exponent of a unit in the last place.
const LEAST: i32 = -1074;

impl Exact {
    fn new(value: f64) -> Exact {
        let bits = value.to_bits();
        let (field, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
        let (mantissa, exponent) =
            if field == 0 { (fraction, LEAST) } else { (fraction | 1 << 52, field - 1 + LEAST) };
        Exact { negative: bits >> 63 == 1, mantissa: mantissa.into(), exponent }
    }

    fn times(self, other: Exact) -> Exact {
        Exact {
            negative: self.negative != other.negative,
            mantissa: self.mantissa * other.mantissa,
            exponent: self.exponent + other.exponent,
        }
    }

    /// The same number with the highest bit of the mantissa at 125.
    fn normalised(self) -> Exact {
        let shift = self.mantissa.leading_zeros() as i32 - 2;
        Exact { mantissa: self.mantissa << shift, exponent: self.exponent - shift, ..self }
    }

    /// The sum; none if it is 0. Bits that fall off make the lowest one 1: at most 106 of 126 count, so
    /// that it only says "inexact".
    fn plus(self, other: Exact) -> Option<Exact> {
        let (a, b) = (self.normalised(), other.normalised());
        let (large, small) =
            if (a.exponent, a.mantissa) >= (b.exponent, b.mantissa) { (a, b) } else { (b, a) };
        let small_mantissa = shifted(small.mantissa, large.exponent - small.exponent);
        let mantissa = if large.negative == small.negative {
            large.mantissa + small_mantissa
        } else {
            large.mantissa - small_mantissa
        };
        (mantissa != 0).then_some(Exact { mantissa, ..large })
    }

    fn round(self, round: Round) -> f64 {
        let top = self.exponent + 127 - self.mantissa.leading_zeros() as i32;
        let unit = (top - 52).max(LEAST);
        let (kept, rest, half) = match unit - self.exponent {
            shift @ ..=0 => (self.mantissa << -shift, 0, 1),
            shift @ 1..=127 => {
                (self.mantissa >> shift, self.mantissa & ((1 << shift) - 1), 1u128 << (shift - 1))
            }
            _ => (0, 1, 2),
        };
        let away = away(round, self.negative, kept & 1 == 1, rest, half);
        // A carry out of the mantissa moves on into the exponent by itself.
        let bits = (((unit - LEAST) as u64) << 52) + kept as u64 + u64::from(away);
        let size = if bits < f64::INFINITY.to_bits() {
            f64::from_bits(bits)
        } else if overflows_to_infinity(round, self.negative) {
            f64::INFINITY
        } else {
            f64::MAX
        };
        if self.negative { -size } else { size }
    }
}

fn shifted(mantissa: u128, by: i32) -> u128 {
    match by {
        0 => mantissa,
        1..=127 => mantissa >> by | u128::from(mantissa & ((1 << by) - 1) != 0),
        _ => 1,
    }
}

/// A sum that is exactly 0: of zeros of one sign that zero, else -0 when rounding down and +0 otherwise.
fn zero(negative: (bool, bool), round: Round) -> f64 {
    let minus = if negative.0 == negative.1 { negative.0 } else { round == Round::Down };
    if minus { -0.0 } else { 0.0 }
}

/// a + b.
pub fn add(a: f64, b: f64, round: Round) -> f64 {
    multiply_add(a, 1.0, b, round)
}

/// a * b.
pub fn multiply(a: f64, b: f64, round: Round) -> f64 {
    if round == Round::Near || !(a.is_finite() && b.is_finite()) || a == 0.0 || b == 0.0 {
        return a * b;
    }
    Exact::new(a).times(Exact::new(b)).round(round)
}

/// a * b + c.
pub fn multiply_add(a: f64, b: f64, c: f64, round: Round) -> f64 {
    if round == Round::Near || !(a.is_finite() && b.is_finite() && c.is_finite()) {
        return a.mul_add(b, c);
    }
    let negative = a.is_sign_negative() != b.is_sign_negative();
    if a == 0.0 || b == 0.0 {
        return if c == 0.0 { zero((negative, c.is_sign_negative()), round) } else { c };
    }
    if c == 0.0 {
        return multiply(a, b, round);
    }
    let sum = Exact::new(a).times(Exact::new(b)).plus(Exact::new(c));
    sum.map_or_else(|| zero((true, false), round), |sum| sum.round(round))
}

/// a / b.
pub fn divide(a: f64, b: f64, round: Round) -> f64 {
    if round == Round::Near || !(a.is_finite() && b.is_finite()) || a == 0.0 || b == 0.0 {
        return a / b;
    }
    let (a, b) = (Exact::new(a).normalised(), Exact::new(b));
    let (quotient, rest) = (a.mantissa / b.mantissa, a.mantissa % b.mantissa);
    Exact {
        negative: a.negative != b.negative,
        mantissa: quotient << 1 | u128::from(rest != 0),
        exponent: a.exponent - b.exponent - 1,
    }
    .round(round)
}

/// √a.
pub fn square_root(a: f64, round: Round) -> f64 {
    if round == Round::Near || !a.is_finite() || a <= 0.0 {
        return a.sqrt();
    }
    let a = Exact::new(a).normalised();
    let (mantissa, exponent) =
        if a.exponent % 2 == 0 { (a.mantissa, a.exponent) } else { (a.mantissa << 1, a.exponent - 1) };
    let root = mantissa.isqrt();
    let inexact = root * root != mantissa;
    Exact { negative: false, mantissa: root << 1 | u128::from(inexact), exponent: exponent / 2 - 1 }
        .round(round)
}
