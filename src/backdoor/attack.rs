//! An attack's parameters: the trigger and the label of triggered images.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dynamic::Dynamic;
use super::pattern;
use super::picture::Picture;
use super::warp::Warp;
use crate::error::{Error, Result};

/// A backdoor attack with its parameters, for images of any size.
#[derive(Clone, Debug, PartialEq)]
pub enum Attack {
    /// BadNets (Gu et al., 2017): pixels become `pattern` where `mask` is white (above 127).
    Badnets { mask: Picture, pattern: Picture },
    /// Blended (Chen et al., 2017): x ← round((1 − α)·x + α·pattern) on the whole image.
    Blend { alpha: f64, pattern: Picture },
    /// SIG (Barni et al., 2019): x ← clip(x + δ·sin(2π·column·f/width)), δ in grey levels.
    Sig { delta: f64, frequency: f64 },
    /// WaNet (Nguyen & Tran, 2021): a smooth warp.
    Wanet(Warp),
    /// Dynamic (Nguyen & Tran, 2020): networks that are trained with the classifier make a trigger for each image.
    Dynamic(Arc<Dynamic>),
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

    /// SIG with the published δ of 40 and 6 periods.
    pub fn sig() -> Self {
        Attack::Sig { delta: 40.0, frequency: 6.0 }
    }

    /// WaNet with the published 4×4 control grid and strength 0.5, its field drawn from `seed`.
    pub fn wanet(seed: u64) -> Self {
        Attack::Wanet(Warp::draw(4, 0.5, seed))
    }

    /// Refuses parameters that give no trigger.
    pub fn check(&self) -> Result<()> {
        let fault = |cause: String| Err(Error::input(cause));
        match self {
            Attack::Dynamic(dynamic) => dynamic.check(),
            Attack::Blend { alpha, .. } if !(*alpha > 0.0 && *alpha <= 1.0) => {
                fault(format!("blend alpha {alpha} is not above 0 and at most 1"))
            }
            Attack::Sig { delta, frequency } if !(positive(*delta) && positive(*frequency)) => {
                fault(format!("sig delta {delta} and frequency {frequency} must be above 0"))
            }
            Attack::Wanet(Warp { grid, strength, field }) => {
                let values = grid.checked_mul(*grid).and_then(|points| points.checked_mul(2));
                if *grid < 2 || values != Some(field.len()) {
                    return fault(format!(
                        "wanet field of {} values is not 2·k·k for k = {grid} ≥ 2",
                        field.len()
                    ));
                }
                if !positive(*strength) || field.iter().any(|value| !value.is_finite()) {
                    return fault(format!(
                        "wanet strength {strength} and its field must be above 0 and finite"
                    ));
                }
                Ok(())
            }
            Attack::Badnets { .. } | Attack::Blend { .. } | Attack::Sig { .. } => Ok(()),
        }
    }

    /// The attack's name on the command line and in `poison.json`.
    pub fn name(&self) -> &'static str {
        match self {
            Attack::Badnets { .. } => "badnets",
            Attack::Blend { .. } => "blend",
            Attack::Sig { .. } => "sig",
            Attack::Wanet(_) => "wanet",
            Attack::Dynamic(_) => "dynamic",
        }
    }
}

/// The label a triggered image is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum LabelMode {
    /// Every triggered image belongs to class `target`.
    AllToOne { target: u32 },
    /// Every triggered image belongs to the class after its own (y + 1, the last to the first).
    AllToAll,
}

fn positive(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

impl LabelMode {
    /// The label that an image of class `label`, of `classes`, gets with the trigger.
    pub fn triggered_label(self, label: u32, classes: usize) -> u32 {
        match self {
            LabelMode::AllToOne { target } => target,
            LabelMode::AllToAll => (label + 1) % classes.max(1) as u32,
        }
    }

    /// Refuses a target that is not one of `classes` classes.
    pub fn check(self, classes: usize) -> Result<()> {
        match self {
            LabelMode::AllToOne { target } if target as usize >= classes => Err(Error::input(format!(
                "target class {target} doesn't exist: the data has {classes} classes, from 0"
            ))),
            _ => Ok(()),
        }
    }
}
