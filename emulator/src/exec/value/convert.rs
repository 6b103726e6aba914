//! Conversions between all types, one value at a time.

use super::arithmetic::{decode, encode};
use super::{double, integer, round};
use crate::ir::{Conversion, Mode, Round, Type};

/// `cvt`. Bits in, bits out.
pub fn convert(how: Conversion, bits: u64) -> u64 {
    let mode = Mode { round: how.round, ftz: how.ftz, sat: how.sat, relu: how.relu, ..Mode::PLAIN };
    match (how.from.is_float(), how.to.is_float()) {
        (false, false) => {
            let value = integer::extend(how.from, bits);
            let (low, high) = integer::limits(how.to);
            integer::truncate(how.to, if how.sat { value.clamp(low, high) } else { value } as u64)
        }
        (false, true) => from_integer(how.to, integer::extend(how.from, bits), mode),
        (true, false) => to_integer(how, decode(how.from, bits, how.ftz)),
        (true, true) => float_to_float(how, bits, mode),
    }
}

fn from_integer(to: Type, value: i128, mode: Mode) -> u64 {
    if to != Type::F64 {
        return encode(to, round::integer_odd(value), mode);
    }
    let nearest = value as f64;
    let error = (value - nearest as i128) as f64;
    encode(to, double::add(nearest, error, mode.round), mode)
}

/// Rounds in the direction, clamps to the type. NaN is 0, but where f64 or 64 bits take part only the highest
/// bit is set.
fn to_integer(how: Conversion, value: f64) -> u64 {
    let (low, high) = integer::limits(how.to);
    if value.is_nan() && (how.from == Type::F64 || how.to.size() == 8) {
        return 1 << (integer::bits(how.to) - 1);
    }
    let value = integral(value, how.round);
    // `as` clamps to i128 and makes NaN 0.
    integer::truncate(how.to, (value as i128).clamp(low, high) as u64)
}

fn integral(value: f64, round: Round) -> f64 {
    match round {
        Round::Near => value.round_ties_even(),
        Round::NearAway => value.round(),
        Round::Zero => value.trunc(),
        Round::Down => value.floor(),
        Round::Up => value.ceil(),
    }
}

fn float_to_float(how: Conversion, bits: u64, mode: Mode) -> u64 {
    // Flushing belongs to f32: its operand on the way in, its result on the way out.
    let value = decode(how.from, bits, how.ftz && how.from == Type::F32);
    let mode = Mode { ftz: how.ftz && how.to == Type::F32, ..mode };
    if how.integral {
        return encode(how.to, integral(value, how.round), Mode { round: Round::Near, ..mode });
    }
    encode(how.to, value, mode)
}
