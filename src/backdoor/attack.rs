//! What an attacker chooses: the trigger and the label it stands for.

use serde::{Deserialize, Serialize};

use super::pattern;
use super::picture::Picture;
use crate::error::{Error, Result};

/// A backdoor attack with its parameters, for images of any size.
#[derive(Clone, Debug, PartialEq)]
pub enum Attack {
    /// BadNets (Gu et al., 2017): pixels become `pattern` where `mask` is white (above 127).
    Badnets { mask: Picture, pattern: Picture },
    /// Blended (Chen et al., 2017): x ← round((1 − α)·x + α·pattern) on the whole image.
    Blend { alpha: f64, pattern: Picture },
}

impl Attack {
    /// The published BadNets trigger for images of this size: the last 3×3 pixels become white.
    pub fn badnets(height: usize, width: usize) -> Self {
        Attack::Badnets {
            mask: pattern::badnets_mask(height, width),
            pattern: pattern::badnets_pattern(height, width),
        }
    }

    /// Blended with the published α of 0.2 and a pattern drawn from `seed` (the published one is
    /// a picture this program can't ship).
    pub fn blend(height: usize, width: usize, seed: u64) -> Self {
        Attack::Blend { alpha: 0.2, pattern: pattern::blend_pattern(height, width, seed) }
    }

    /// The attack's name on the command line and in `poison.json`.
    pub fn name(&self) -> &'static str {
        match self {
            Attack::Badnets { .. } => "badnets",
            Attack::Blend { .. } => "blend",
        }
    }
}

/// The label a triggered image is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum LabelMode {
    /// Every triggered image belongs to class `target`.
    AllToOne { target: u32 },
}

impl LabelMode {
    /// The label that an image of class `label` gets with the trigger.
    pub fn triggered_label(self, _label: u32) -> u32 {
        match self {
            LabelMode::AllToOne { target } => target,
        }
    }

    /// Refuses a target that is not one of `classes` classes.
    pub fn check(self, classes: usize) -> Result<()> {
        let LabelMode::AllToOne { target } = self;
        if (target as usize) < classes {
            return Ok(());
        }
        Err(Error::input(format!(
            "target class {target} doesn't exist: the data has {classes} classes, from 0"
        )))
    }
}
