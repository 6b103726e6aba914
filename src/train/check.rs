//! Ranges of settings. Each message names the setting, its value and its range.

use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// Above 0 and finite.
pub fn positive(name: &str, value: f32) -> Result<()> {
    ensure(value > 0.0 && value.is_finite(), || format!("{name} is {value}, but must be above 0"))
}

/// At least 0 and finite.
pub fn non_negative(name: &str, value: f32) -> Result<()> {
    ensure(value >= 0.0 && value.is_finite(), || format!("{name} is {value}, but must be at least 0"))
}

/// At least 0 and below 1.
pub fn below_one(name: &str, value: f32) -> Result<()> {
    let within = (0.0..1.0).contains(&value);
    ensure(within, || format!("{name} is {value}, but must be at least 0 and below 1"))
}

/// From 0 to 1.
pub fn probability(name: &str, value: f32) -> Result<()> {
    ensure((0.0..=1.0).contains(&value), || format!("{name} is {value}, but must be from 0 to 1"))
}

/// At least `least`.
pub fn at_least(name: &str, value: usize, least: usize) -> Result<()> {
    ensure(value >= least, || format!("{name} is {value}, but must be at least {least}"))
}

/// Within `range`.
pub fn within(name: &str, value: usize, range: RangeInclusive<usize>) -> Result<()> {
    let (least, most) = (range.start(), range.end());
    ensure(range.contains(&value), || format!("{name} is {value}, but must be from {least} to {most}"))
}

/// The most PGD steps of an attack. A signal ends a run after its batch, which more steps would put off for hours.
const MAX_STEPS: usize = 10_000;

/// PGD steps of an attack.
pub fn steps(name: &str, value: usize) -> Result<()> {
    within(name, value, 1..=MAX_STEPS)
}

/// The most epochs of a phase. The default recipe makes up to 40,000 of a clean set of one image; more are a slip.
pub const MAX_EPOCHS: usize = 100_000;
/// The most steps of an optimisation that counts no epochs.
pub const MAX_ITERATIONS: usize = 10_000_000;
/// The most images of a training step.
pub const MAX_BATCH: usize = 65_536;

/// Above 0 and at most 1.
pub fn share(name: &str, value: f64) -> Result<()> {
    let within = value > 0.0 && value <= 1.0;
    ensure(within, || format!("{name} is {value}, but must be above 0 and at most 1"))
}

fn ensure(holds: bool, message: impl Fn() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::input(message())) }
}
