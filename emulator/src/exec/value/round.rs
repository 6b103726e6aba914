//! Sums, quotients and roots in f64, rounded to odd: for results that are rounded again.
//!
//! Rounding to odd (an inexact result gets the neighbour whose last bit is 1) keeps what a second
//! rounding into a format at least two bits narrower needs to know: the result is as if rounded once.
//! Every function finds the sign of the rounding error by an error-free transformation (Dekker, Knuth).

/// `result` is the sum, product, … rounded to nearest, `error` has the sign of exact - result.
fn odd(result: f64, error: f64) -> f64 {
    if error == 0.0 || error.is_nan() || !result.is_finite() || result.to_bits() & 1 == 1 {
        return result;
    }
    if error > 0.0 { result.next_up() } else { result.next_down() }
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
