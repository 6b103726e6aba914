//! What the numbers of a purification have to be, checked before anything is computed.

use super::config::{AttackConfig, PurifyConfig, TuneConfig};
use crate::error::{Error, Result};

impl PurifyConfig {
    /// Refuses numbers that no run can mean; the message names the setting, its value and its range.
    pub fn check(&self, clean_set: bool) -> Result<()> {
        at_least("batch", self.batch, 1)?;
        below_one("momentum", self.momentum)?;
        not_negative("weight-decay", self.weight_decay)?;
        share("first-share", self.first_share)?;
        if !clean_set && self.shares.is_empty() {
            return Err(Error::input("shares is empty: without a clean set there is one share per round"));
        }
        self.shares.iter().try_for_each(|&value| share("shares", value))?;
        for pass in &self.filter {
            positive("filter's epsilon", pass.epsilon)?;
            at_least("filter's steps", pass.steps, 1)?;
        }
        share("filter-limit", self.filter_limit)?;
        self.attack.check()?;
        let phases = [
            ("first-adversarial", &self.first_adversarial),
            ("first-clean", &self.first_clean),
            ("adversarial", &self.adversarial),
            ("clean", &self.clean),
            ("last", &self.last),
        ];
        phases.into_iter().try_for_each(|(phase, tune)| tune.check(phase))
    }
}

impl AttackConfig {
    fn check(&self) -> Result<()> {
        positive("epsilon-min", self.epsilon_min)?;
        positive("epsilon-max", self.epsilon_max)?;
        if self.epsilon_max < self.epsilon_min {
            let (low, high) = (self.epsilon_min, self.epsilon_max);
            return Err(Error::input(format!("epsilon-max is {high}, below epsilon-min, which is {low}")));
        }
        positive("alpha-ratio", self.alpha_ratio)?;
        at_least("steps", self.steps, 1)
    }
}

impl TuneConfig {
    /// As [`PurifyConfig::check`], for the step called `phase`.
    pub fn check(&self, phase: &str) -> Result<()> {
        not_negative(&format!("{phase}-lr"), self.learning_rate)?;
        not_negative(&format!("{phase}-distill"), self.distill)?;
        positive(&format!("{phase}-temperature"), self.temperature)?;
        share(&format!("{phase}-doubt"), f64::from(self.doubt))?;
        below_one(&format!("{phase}-average"), self.average)?;
        if (0.0..=1.0).contains(&self.patches) {
            return Ok(());
        }
        Err(Error::input(format!("{phase}-patches is {}, but must be from 0 to 1", self.patches)))
    }
}

fn positive(name: &str, value: f32) -> Result<()> {
    let usable = value > 0.0 && value.is_finite();
    if usable { Ok(()) } else { Err(Error::input(format!("{name} is {value}, but must be above 0"))) }
}

fn not_negative(name: &str, value: f32) -> Result<()> {
    let usable = value >= 0.0 && value.is_finite();
    if usable { Ok(()) } else { Err(Error::input(format!("{name} is {value}, but must be at least 0"))) }
}

fn below_one(name: &str, value: f32) -> Result<()> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::input(format!("{name} is {value}, but must be at least 0 and below 1")))
}

fn at_least(name: &str, value: usize, least: usize) -> Result<()> {
    if value >= least {
        return Ok(());
    }
    Err(Error::input(format!("{name} is {value}, but must be at least {least}")))
}

fn share(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(Error::input(format!("{name}: {value} is not above 0 and at most 1")))
}

#[cfg(test)]
mod tests {
    use super::super::config::Recipe;
    use super::*;

    fn refusal(change: impl Fn(&mut PurifyConfig)) -> String {
        let mut config = PurifyConfig::new(Recipe::Default, false);
        config.check(false).unwrap();
        change(&mut config);
        config.check(false).unwrap_err().to_string()
    }

    #[test]
    fn the_recipes_are_usable() {
        for recipe in [Recipe::Default, Recipe::Paper] {
            for clean_set in [false, true] {
                PurifyConfig::new(recipe, clean_set).check(clean_set).unwrap();
            }
        }
    }

    #[test]
    fn every_fault_is_named() {
        assert_eq!(refusal(|c| c.attack.epsilon_min = -1.0), "epsilon-min is -1, but must be above 0");
        assert!(refusal(|c| c.attack.epsilon_max = 1.0).contains("below epsilon-min"));
        assert!(refusal(|c| c.attack.steps = 0).starts_with("steps is 0"));
        assert!(refusal(|c| c.shares = vec![0.7, 1.5]).contains("1.5 is not above 0"));
        assert!(refusal(|c| c.shares = vec![]).contains("shares is empty"));
        assert!(refusal(|c| c.batch = 0).starts_with("batch is 0"));
        assert!(refusal(|c| c.momentum = 1.0).starts_with("momentum is 1"));
        assert!(refusal(|c| c.weight_decay = f32::NAN).starts_with("weight-decay is NaN"));
        assert!(refusal(|c| c.first_share = 0.0).starts_with("first-share"));
        assert!(refusal(|c| c.filter[0].steps = 0).contains("filter's steps"));
        assert!(refusal(|c| c.filter_limit = 0.0).starts_with("filter-limit: 0 is not above 0"));
        assert!(refusal(|c| c.last.doubt = 0.0).starts_with("last-doubt: 0 is not above 0"));
        assert!(refusal(|c| c.last.average = 1.0).starts_with("last-average is 1"));
        assert!(refusal(|c| c.last.patches = 1.1).starts_with("last-patches is 1.1"));
        assert!(refusal(|c| c.clean.patches = f32::NAN).starts_with("clean-patches is NaN"));
        assert!(refusal(|c| c.clean.learning_rate = f32::INFINITY).starts_with("clean-lr is inf"));
    }
}
