//! Sums, products, quotients and roots in f64, rounded to odd or in a direction.
//!
//! Rounding to odd (an inexact result gets the neighbour whose last bit is 1) keeps what a second
//! rounding into a format at least two bits narrower needs to know: the result is as if rounded once.
//! Every function finds the sign of the rounding error by an error-free transformation (Dekker, Knuth).

use crate::ir::Round;

/// `result` is the sum, product, … rounded to nearest, `error` has the sign of exact - result.
fn odd(result: f64, error: f64) -> f64 {
    if error == 0.0 || error.is_nan() || !result.is_finite() || result.to_bits() & 1 == 1 {
        return result;
    }
    if error > 0.0 { result.next_up() } else { result.next_down() }
}

fn directed(result: f64, error: f64, round: Round) -> f64 {
    if error == 0.0 || error.is_nan() || !result.is_finite() {
        return result;
    }
    match round {
        Round::Near | Round::NearAway => result,
        Round::Down if error < 0.0 => result.next_down(),
        Round::Up if error > 0.0 => result.next_up(),
        Round::Zero if error < 0.0 && result > 0.0 => result.next_down(),
        Round::Zero if error > 0.0 && result < 0.0 => result.next_up(),
        _ => result,
    }
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

fn quotient(a: f64, b: f64) -> (f64, f64) {
    let result = a / b;
    let rest = (-result).mul_add(b, a);
    (result, if b < 0.0 { -rest } else { rest })
}

fn root(a: f64) -> (f64, f64) {
    let result = a.sqrt();
    (result, (-result).mul_add(result, a))
}

/// a + b to odd.
pub fn add_odd(a: f64, b: f64) -> f64 {
    let (sum, error) = two_sum(a, b);
    odd(sum, error)
}

/// a / b to odd, for values from narrower formats.
pub fn divide_odd(a: f64, b: f64) -> f64 {
    let (result, error) = quotient(a, b);
    odd(result, error)
}

/// √a to odd, for values from narrower formats.
pub fn root_odd(a: f64) -> f64 {
    let (result, error) = root(a);
    odd(result, error)
}

/// An integer to odd.
pub fn integer_odd(value: i128) -> f64 {
    let result = value as f64;
    odd(result, (value - result as i128) as f64)
}

/// a + b. An exact 0 from operands of opposite sign is -0 when rounding down.
pub fn add(a: f64, b: f64, round: Round) -> f64 {
    let (sum, error) = two_sum(a, b);
    if sum == 0.0 && round == Round::Down && error == 0.0 && (a != 0.0 || a.signum() != b.signum()) {
        return -0.0;
    }
    directed(sum, error, round)
}

/// a * b. (Where the product underflows so far that its error does too, the nearest is taken.)
pub fn multiply(a: f64, b: f64, round: Round) -> f64 {
    let product = a * b;
    directed(product, a.mul_add(b, -product), round)
}

/// a * b + c.
pub fn multiply_add(a: f64, b: f64, c: f64, round: Round) -> f64 {
    let result = a.mul_add(b, c);
    if round == Round::Near {
        return result;
    }
    let product = a * b;
    let low = a.mul_add(b, -product);
    let (sum, rest) = two_sum(product, c);
    if result == 0.0 && sum == 0.0 && low == 0.0 {
        return add(product, c, round);
    }
    directed(result, (sum - result) + (rest + low), round)
}

/// a / b.
pub fn divide(a: f64, b: f64, round: Round) -> f64 {
    let (result, error) = quotient(a, b);
    directed(result, error, round)
}

/// √a.
pub fn square_root(a: f64, round: Round) -> f64 {
    let (result, error) = root(a);
    directed(result, error, round)
}
