//! Learning rate schedules.

use serde::{Deserialize, Serialize};

/// The learning rate over a training phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The largest, throughout.
    Constant,
    /// Half a cosine from the largest to zero.
    Cosine,
    /// Cosine from 1/25 of the largest up to it over the first 30 %, then down to zero (PyTorch's
    /// OneCycleLR without its momentum cycle).
    OneCycle,
}

impl Schedule {
    /// The factor of the largest rate at `step` of `steps`.
    pub fn factor(self, step: usize, steps: usize) -> f32 {
        let at = step as f32 / steps.max(1) as f32;
        let down = |x: f32| 0.5 * (1.0 + (std::f32::consts::PI * x).cos());
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => down(at),
            Schedule::OneCycle if at < 0.3 => 1.0 - (1.0 - 0.04) * down(at / 0.3),
            Schedule::OneCycle => down((at - 0.3) / 0.7),
        }
    }
}

impl std::str::FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Schedule::Constant),
            "cosine" => Ok(Schedule::Cosine),
            "one-cycle" => Ok(Schedule::OneCycle),
            _ => Err("it is one of constant, cosine, one-cycle".into()),
        }
    }
}
