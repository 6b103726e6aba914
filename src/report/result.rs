//! `result.json` (schema 1): what a command did and found.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::analysis::{AsrEstimate, Detection, Inspection};
use crate::defense::SecondLook;
use crate::error::{Error, Result};
use crate::eval::{Metrics, defense_effectiveness};
use crate::fs::write_atomic;
use crate::inputs::Inputs;

/// Version of `result.json`.
pub const SCHEMA: u32 = 1;

/// The commit this program was built from: `-dirty` after it where sources were changed,
/// `unknown` outside git.
pub const COMMIT: &str = env!("PBE_COMMIT");

/// Seconds by phase of a run.
pub type Seconds = BTreeMap<String, f64>;

/// The result of one command. Also what `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub schema: u32,
    pub command: String,
    /// Of the program.
    pub version: String,
    /// Of the program: [`COMMIT`].
    pub commit: String,
    /// The device that computed, in words.
    pub device: String,
    pub seed: u64,
    /// What was read, and how it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
    /// The model given; all null where the command judges one model alone.
    pub before: Metrics,
    /// The model made or judged.
    pub after: Metrics,
    /// A benign model on the same trigger: what an ASR can't be expected to fall below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Metrics>,
    /// Defence effectiveness from `before` to `after`, in per cent.
    pub der: Option<f64>,
    pub rounds: Vec<RoundResult>,
    /// Of `pbe inspect`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub inspection: Option<Inspection>,
    /// Of `pbe purify` without a clean set: what the training images say of the model given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Detection>,
    /// What a second look at the training images has said, with the model of the first round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_look: Option<SecondLook>,
    /// The attack success rate without a trigger, where the model was infected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asr_estimate: Option<AsrEstimate>,
    /// Of `pbe purify` where there are no test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_accuracy: Option<TrainingAccuracy>,
    /// On the test images; where there are none, on the training images that aren't suspected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recall: Vec<ClassRecall>,
    /// What speaks against the purified model: it is worse than the one given, or still has the backdoor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_done: Vec<String>,
    /// What the result has to be read with: few images, settings that had no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    pub seconds: Seconds,
}

/// Images of a class that a model gives their class, in per cent; none without images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassRecall {
    pub class: String,
    pub before: Option<f64>,
    pub after: Option<f64>,
}

/// Accuracy on the training images that aren't suspected, in per cent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingAccuracy {
    pub images: u64,
    pub before: f64,
    pub after: f64,
}

/// A filter of the initial set; null is what isn't known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FilterResult {
    /// `label`: the model has to give the image's label. A view: it has to do so for the changed image. An attack
    /// (epsilon x steps): it has to give another label under attack.
    pub filter: String,
    /// Images that came to it.
    pub input: u64,
    /// Poisoned ones among those.
    pub input_poisoned: Option<u64>,
    /// Images that it keeps.
    pub kept: u64,
    /// Poisoned ones among those.
    pub kept_poisoned: Option<u64>,
    /// Whether it was skipped, because it would have dropped too many.
    pub skipped: bool,
}

/// One round of Algorithm 1; null is what was not measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundResult {
    /// From 0.
    pub round: u32,
    /// Images that the initial set was chosen from and left out.
    #[serde(default)]
    pub dropped: Option<u64>,
    /// The filters that chose it, each of what the ones before it kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterResult>,
    /// Suspected images that step 2 trained on besides, under other labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relabelled: Option<u64>,
    /// Images with a reconstructed trigger that step 2 trained on besides, under their own labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlearned: Option<u64>,
    /// What the defence decided, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Images the round trained on, before its limits.
    #[serde(default)]
    pub trained: Option<u64>,
    /// Clean images among those, 0 to 1.
    #[serde(default)]
    pub trained_precision: Option<f64>,
    /// Mean cross entropy of the adversarial examples when they were made.
    pub attack_loss: Option<f64>,
    /// Mean training loss on adversarial examples, last epoch.
    pub adversarial_loss: Option<f64>,
    /// Mean training loss on the selected images, last epoch.
    pub clean_loss: Option<f64>,
    /// Accuracy after the round, per cent.
    pub clean_accuracy: Option<f64>,
    /// Attack success rate after the round, per cent.
    pub asr: Option<f64>,
    /// Images selected for the next round.
    pub selected: Option<u64>,
    /// The same out of all training images, 0 to 1.
    pub selected_share: Option<f64>,
    /// Clean images among those selected, 0 to 1.
    pub selected_precision: Option<f64>,
    /// Average precision of "clean" over the whole ranking, 0 to 1.
    pub average_precision: Option<f64>,
    pub seconds: Seconds,
}

impl RunResult {
    /// A result with nothing measured yet.
    pub fn new(command: &str, device: &str, seed: u64) -> Self {
        Self {
            schema: SCHEMA,
            command: command.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: COMMIT.into(),
            device: device.into(),
            seed,
            inputs: None,
            before: Metrics::default(),
            after: Metrics::default(),
            floor: None,
            der: None,
            rounds: Vec::new(),
            inspection: None,
            detection: None,
            second_look: None,
            asr_estimate: None,
            training_accuracy: None,
            recall: Vec::new(),
            not_done: Vec::new(),
            warnings: Vec::new(),
            seconds: Seconds::new(),
        }
    }

    /// Sets the figures before and after, and DER from them.
    pub fn judge(&mut self, before: Metrics, after: Metrics) {
        (self.before, self.after) = (before, after);
        self.der = defense_effectiveness(&before, &after);
    }

    /// The object as indented JSON with a final newline.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::run(format!("result.json: {e}")))?;
        Ok(text + "\n")
    }

    /// Writes `result.json`, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.to_json()?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_object_has_the_documented_fields_and_nulls() {
        let mut result = RunResult::new("evaluate", "cpu (2 threads)", 7);
        let after = Metrics {
            clean_accuracy: Some(81.88),
            asr: Some(1.5),
            asr_inclusive: Some(11.0),
            robust_accuracy: None,
        };
        result.judge(Metrics::default(), after);
        let value: Value = serde_json::from_str(&result.to_json().unwrap()).unwrap();
        let expected = json!({
            "schema": 1, "command": "evaluate", "version": env!("CARGO_PKG_VERSION"), "commit": COMMIT,
            "device": "cpu (2 threads)", "seed": 7,
            "before": {"clean_accuracy": null, "asr": null, "asr_inclusive": null, "robust_accuracy": null},
            "after": {"clean_accuracy": 81.88, "asr": 1.5, "asr_inclusive": 11.0, "robust_accuracy": null},
            "der": null, "rounds": [], "seconds": {}
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_result_survives_saving() {
        let mut result = RunResult::new("purify", "cpu", u64::MAX);
        let figures = |acc, asr| Metrics { clean_accuracy: Some(acc), asr: Some(asr), ..Metrics::default() };
        result.judge(figures(81.88, 100.0), figures(81.2, 1.0 / 3.0));
        result.floor = Some(figures(82.0, 1.7));
        let seconds = Seconds::from([("attack".into(), 0.1), ("rank".into(), 2.0)]);
        result.rounds.push(RoundResult {
            round: 0,
            selected: Some(35_000),
            seconds,
            ..RoundResult::default()
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        result.save(&path).unwrap();
        let read: RunResult = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, result);
        assert!((read.der.unwrap() - (99.0 + 2.0 / 3.0 - 0.68 + 100.0) / 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_commit_is_a_hash_or_unknown() {
        let hash = COMMIT.strip_suffix("-dirty").unwrap_or(COMMIT);
        let is_hash = hash.len() >= 7 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_hash || COMMIT == "unknown", "{COMMIT}");
    }
}
