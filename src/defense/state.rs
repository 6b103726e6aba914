//! Where a purification stands: enough to continue it to the same bits.

use serde::{Deserialize, Serialize};

use crate::train::TrainCursor;

/// The part of a round that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Choose the round's set and its starting weights.
    #[default]
    Begin,
    /// Step 1: examples, fine-tuning on them.
    Adversarial,
    /// Step 2: fine-tuning on the set believed clean.
    Clean,
    /// Step 3: ranking and selection, or the end of the run.
    Rank,
}

/// What a round did; a line of metrics.csv.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// From 0.
    pub round: usize,
    /// Images the round fine-tuned on in step 2.
    pub selected: usize,
    /// Images that the survivors filter dropped (first round).
    pub dropped: usize,
    /// Mean cross entropy of the examples of step 1a, where they are made at once.
    #[serde(default)]
    pub attack_loss: Option<f64>,
    /// Mean loss of the last epoch of step 1b.
    pub adversarial_loss: Option<f64>,
    /// Mean loss of the last epoch of step 2.
    pub clean_loss: Option<f64>,
    /// Seconds of set, step 1a, 1b, 2 and 3.
    pub seconds: Seconds,
}

/// Seconds by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Survivors filter.
    pub filter: f64,
    /// Step 1a.
    pub attack: f64,
    /// Step 1b.
    pub adversarial: f64,
    /// Step 2.
    pub clean: f64,
    /// Step 3.
    pub rank: f64,
}

/// The state of a run besides the infected model, the data and the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Round in progress; equal to the number of rounds at the end.
    pub round: usize,
    /// Part of it that comes next.
    pub stage: Stage,
    /// Progress within a training stage.
    pub position: TrainCursor,
    /// Finished rounds, and the one in progress.
    pub records: Vec<RoundRecord>,
    /// D_ext: the images believed clean.
    #[serde(skip)]
    pub selected: Vec<u32>,
    /// Weights at the start of the round (step 1a attacks these).
    #[serde(skip)]
    pub start: Vec<f32>,
    /// Weights now.
    #[serde(skip)]
    pub weights: Vec<f32>,
    /// SGD's momentum now.
    #[serde(skip)]
    pub momentum: Vec<f32>,
    /// The weight average now.
    #[serde(skip)]
    pub average: Vec<f32>,
}
