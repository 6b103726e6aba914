//! How the generators are trained: the published numbers, the mask phase cut short.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::train::{MAX_ITERATIONS, at_least, positive, within};

/// What the generators are trained with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GeneratorConfig {
    /// Channels of the generators' first step.
    pub generator_width: usize,
    /// Steps of the mask phase.
    pub mask_steps: usize,
    /// Adam's rate for the mask network.
    pub mask_lr: f32,
    /// Adam's largest rate for the pattern network. Published is ten times as much, for gradients that
    /// pile up and so change direction slowly.
    pub pattern_lr: f32,
    /// Share of a mask that costs nothing.
    pub mask_density: f32,
    /// Weight of what is above it.
    pub mask_weight: f64,
    /// Weight of the masks' diversity. Published is 1, of images divided by their standard deviation,
    /// which is about a quarter.
    pub mask_diversity: f64,
    /// Weight of the patterns' diversity, in which that scale cancels out.
    pub diversity: f64,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            generator_width: 32,
            mask_steps: 300,
            mask_lr: 0.01,
            pattern_lr: 0.001,
            mask_density: 0.032,
            mask_weight: 100.0,
            mask_diversity: 4.0,
            diversity: 1.0,
        }
    }
}

impl GeneratorConfig {
    /// Refuses numbers that no run can mean.
    pub fn check(&self) -> Result<()> {
        at_least("generator-width", self.generator_width, 1)?;
        within("mask-steps", self.mask_steps, 1..=MAX_ITERATIONS)?;
        positive("pattern-lr", self.pattern_lr)
    }

    /// The mask network's rate: a tenth after 2/5 of its phase, a hundredth after 4/5.
    pub(super) fn mask_rate(&self, step: usize) -> f32 {
        let fifths = 5 * step / self.mask_steps.max(1);
        self.mask_lr * [1.0, 1.0, 0.1, 0.1, 0.01][fifths.min(4)]
    }
}
