//! Ranges of settings. Each message names the setting, its value and its range.

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

/// The most PGD steps of an attack. A signal ends a run after its batch, which more steps would put off for hours.
const MAX_STEPS: usize = 10_000;

/// PGD steps of an attack.
pub fn steps(name: &str, value: usize) -> Result<()> {
    let within = (1..=MAX_STEPS).contains(&value);
    ensure(within, || format!("{name} is {value}, but must be from 1 to {MAX_STEPS}"))
}

/// Above 0 and at most 1.
pub fn share(name: &str, value: f64) -> Result<()> {
    let within = value > 0.0 && value <= 1.0;
    ensure(within, || format!("{name} is {value}, but must be above 0 and at most 1"))
}

fn ensure(holds: bool, message: impl Fn() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::input(message())) }
}
