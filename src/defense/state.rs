//! How far a run is: enough to continue it to the same bits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pbe::SecondLook;
use crate::eval::Suspects;
use crate::train::TrainCursor;

/// The work that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// Round in progress; the number of rounds at the end.
    pub round: usize,
    /// Steps of it that are done.
    pub step: usize,
    /// Epoch and batch of the step, where it trains.
    pub train: TrainCursor,
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// From 0.
    pub round: usize,
    /// Images that the initial set was chosen from and that it left out (first round).
    pub dropped: usize,
    /// Suspected images that step 2 trained on under other labels.
    #[serde(default)]
    pub relabelled: usize,
    /// Images with a reconstructed trigger that step 2 trained on under their own labels.
    #[serde(default)]
    pub unlearned: usize,
    /// What the defence decided, in words.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Mean loss of each phase: of the adversarial examples, of a training phase's last epoch.
    pub losses: BTreeMap<String, f64>,
    /// Seconds of each phase.
    pub seconds: BTreeMap<String, f64>,
}

/// A run besides the infected model, the data and the settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The work that comes next.
    pub cursor: Cursor,
    /// Rounds so far, the one in progress included.
    pub records: Vec<RoundRecord>,
    /// The images that training takes: D_ext of PBE.
    #[serde(skip)]
    pub selected: Vec<u32>,
    /// The training images that look poisoned, where the defence has looked for them.
    #[serde(skip)]
    pub suspects: Option<Suspects>,
    /// What a second look at the images has said.
    #[serde(default)]
    pub second_look: Option<SecondLook>,
    /// Whether the rounds have begun anew since.
    #[serde(default)]
    pub restarted: bool,
    /// What the defence optimises besides the weights: ANP's mask, Neural Cleanse's triggers.
    #[serde(skip)]
    pub variables: Vec<f32>,
    /// Weights at the start of the round.
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

impl RunState {
    /// Whether what the second look has said ends the rounds after the first.
    pub fn ends_early(&self) -> bool {
        match self.second_look {
            Some(SecondLook::Poisoned) => !self.restarted,
            Some(SecondLook::NoSign) => true,
            Some(SecondLook::Undecided) | None => false,
        }
    }
}
