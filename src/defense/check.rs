//! What the numbers of a purification have to be, checked before anything is computed.

use super::config::PurifyConfig;
use crate::error::{Error, Result};
use crate::train::{at_least, below_one, non_negative, positive, share};

impl PurifyConfig {
    /// Refuses numbers that no run can mean; the message names the setting, its value and its range.
    pub fn check(&self, clean_set: bool) -> Result<()> {
        at_least("batch", self.batch, 1)?;
        below_one("momentum", self.momentum)?;
        non_negative("weight-decay", self.weight_decay)?;
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
        phases.into_iter().try_for_each(|(phase, config)| config.check(phase))
    }
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
        assert!(refusal(|c| c.shares = vec![0.7, 1.5]).contains("1.5, but must be above 0"));
        assert!(refusal(|c| c.shares = vec![]).contains("shares is empty"));
        assert!(refusal(|c| c.batch = 0).starts_with("batch is 0"));
        assert!(refusal(|c| c.momentum = 1.0).starts_with("momentum is 1"));
        assert!(refusal(|c| c.weight_decay = f32::NAN).starts_with("weight-decay is NaN"));
        assert!(refusal(|c| c.first_share = 0.0).starts_with("first-share"));
        assert!(refusal(|c| c.filter[0].steps = 0).contains("filter's steps"));
        assert!(refusal(|c| c.filter_limit = 0.0).starts_with("filter-limit is 0, but must be above 0"));
        assert!(
            refusal(|c| c.last.teacher_cap = 0.0).starts_with("last-teacher-cap is 0, but must be above 0")
        );
        assert!(refusal(|c| c.last.average = 1.0).starts_with("last-average is 1"));
        assert!(refusal(|c| c.last.patches = 1.1).starts_with("last-patches is 1.1"));
        assert!(refusal(|c| c.clean.patches = f32::NAN).starts_with("clean-patches is NaN"));
        assert!(refusal(|c| c.clean.learning_rate = f32::INFINITY).starts_with("clean-lr is inf"));
    }
}
