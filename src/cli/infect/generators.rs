//! The options of the networks that make the triggers.

use clap::Args;
use pbe::backdoor::dynamic::GeneratorConfig;
use pbe::error::{Error, Result};

use crate::cli::trigger::PoisonSettings;

/// How the networks that make the triggers are trained.
#[derive(Args, Clone, Debug)]
pub struct GeneratorArgs {
    /// dynamic: channels of the generators' first step [default: 32, as published]
    #[arg(long, value_name = "CHANNELS")]
    generator_width: Option<usize>,
    /// dynamic: Adam's largest rate for the network that draws the patterns; it runs as the classifier's
    /// [default: 0.001]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pattern_lr: Option<f32>,
    /// dynamic: steps that the mask network is trained for, before the others [default: 300]
    #[arg(long, value_name = "STEPS")]
    mask_steps: Option<usize>,
}

impl GeneratorArgs {
    /// Refuses the options where no generator is trained.
    pub fn check(&self, settings: Option<&PoisonSettings>) -> Result<()> {
        let given = self.generator_width.is_some() || self.pattern_lr.is_some() || self.mask_steps.is_some();
        match settings {
            Some(settings) if settings.is_untrained() => self.config().check(),
            _ if given => Err(Error::input(
                "--generator-width, --pattern-lr and --mask-steps belong to --attack dynamic without \
                 --generators",
            )),
            _ => Ok(()),
        }
    }

    pub fn config(&self) -> GeneratorConfig {
        let default = GeneratorConfig::default();
        GeneratorConfig {
            generator_width: self.generator_width.unwrap_or(default.generator_width),
            pattern_lr: self.pattern_lr.unwrap_or(default.pattern_lr),
            mask_steps: self.mask_steps.unwrap_or(default.mask_steps),
            ..default
        }
    }
}
