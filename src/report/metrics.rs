//! What a classifier and its backdoor are judged by. All figures are per cent.

use serde::{Deserialize, Serialize};

use crate::backdoor::LabelMode;
use crate::error::{Error, Result};

/// The figures of one model; none where not measured or where no image counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Accuracy on clean test images.
    pub acc: Option<f64>,
    /// Attack success rate: triggered images that get the attacker's label, out of those that
    /// don't belong to it anyway (all-to-one: images of the target class are left out).
    pub asr: Option<f64>,
    /// The same out of all images, as the paper's released code counts.
    pub asr_inclusive: Option<f64>,
    /// Triggered images that still get their true label, out of those that `asr` counts.
    pub racc: Option<f64>,
}

/// The class of the largest logit for each row of `classes` logits (the first of equals).
///
/// Errors: a logit that is not finite, with its image.
pub fn predictions(logits: &[f32], classes: usize) -> Result<Vec<u32>> {
    let rows = logits.chunks_exact(classes.max(1));
    rows.enumerate()
        .map(|(image, row)| {
            if let Some(class) = row.iter().position(|logit| !logit.is_finite()) {
                let logit = row[class];
                return Err(Error::run(format!("logit of image {image} for class {class} is {logit}")));
            }
            let larger = |best, class| if row[class] > row[best] { class } else { best };
            Ok((0..row.len()).fold(0, larger) as u32)
        })
        .collect()
}

/// Predictions that are right.
pub fn accuracy(predicted: &[u32], labels: &[u32]) -> Option<f64> {
    share(predicted.iter().zip(labels).map(|(predicted, label)| predicted == label))
}

/// ASR, inclusive ASR and R-ACC of predictions on triggered images, with their true `labels`
/// out of `classes` (method.md 2.7). `acc` is left to the clean images.
pub fn attack_figures(predicted: &[u32], labels: &[u32], mode: LabelMode, classes: usize) -> Figures {
    let goal = |label: u32| mode.triggered_label(label, classes);
    let all = || predicted.iter().zip(labels).map(|(&predicted, &label)| (predicted, label));
    let others = || all().filter(|&(_, label)| goal(label) != label);
    let hit = |(predicted, label)| predicted == goal(label);
    Figures {
        acc: None,
        asr: share(others().map(hit)),
        asr_inclusive: share(all().map(hit)),
        racc: share(others().map(|(predicted, label)| predicted == label)),
    }
}

/// DER, the defence effectiveness rate (Zhu et al., FT-SAM, Eq. 7):
/// (max(0, fall of ASR) − max(0, fall of ACC) + 1) / 2, in per cent.
pub fn defense_effectiveness(before: &Figures, after: &Figures) -> Option<f64> {
    let fall = |before: Option<f64>, after: Option<f64>| Some((before? - after?).max(0.0));
    Some((fall(before.asr, after.asr)? - fall(before.acc, after.acc)? + 100.0) / 2.0)
}

/// Per cent of `outcomes` that are true; none for no outcomes.
fn share(outcomes: impl Iterator<Item = bool>) -> Option<f64> {
    let (mut hits, mut count) = (0u64, 0u64);
    for outcome in outcomes {
        hits += u64::from(outcome);
        count += 1;
    }
    (count > 0).then(|| 100.0 * hits as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: LabelMode = LabelMode::AllToOne { target: 0 };

    #[test]
    fn the_largest_logit_wins_and_the_first_of_equals() {
        let logits = [1.0, 3.0, 2.0, 5.0, 5.0, -1.0, -3.0, -2.0, -1.0];
        assert_eq!(predictions(&logits, 3).unwrap(), [1, 0, 2]);
        let message = predictions(&[0.0, 1.0, 2.0, f32::NAN], 2).unwrap_err().to_string();
        assert_eq!(message, "logit of image 1 for class 1 is NaN");
    }

    #[test]
    fn images_of_the_target_class_do_not_count_as_successes() {
        let labels = [0, 0, 1, 2, 3, 4];
        let figures = attack_figures(&[0, 0, 0, 0, 3, 1], &labels, MODE, 10);
        assert_eq!(figures.asr, Some(50.0));
        assert_eq!(figures.asr_inclusive, Some(100.0 * 4.0 / 6.0));
        assert_eq!(figures.racc, Some(25.0));
        assert_eq!(figures.acc, None);
    }

    /// A model with no backdoor that is always right: its inclusive ASR is the share of the target.
    #[test]
    fn a_perfect_model_has_no_attack_success() {
        let labels: Vec<u32> = (0..100).map(|index| index % 10).collect();
        let figures = attack_figures(&labels, &labels, MODE, 10);
        assert_eq!((figures.asr, figures.asr_inclusive, figures.racc), (Some(0.0), Some(10.0), Some(100.0)));
        assert_eq!(accuracy(&labels, &labels), Some(100.0));
    }

    #[test]
    fn all_to_all_counts_every_image() {
        let figures = attack_figures(&[1, 2, 2, 0], &[0, 1, 2, 2], LabelMode::AllToAll, 3);
        assert_eq!((figures.asr, figures.asr_inclusive, figures.racc), (Some(75.0), Some(75.0), Some(25.0)));
    }

    #[test]
    fn nothing_to_count_is_no_figure() {
        assert_eq!(accuracy(&[], &[]), None);
        let figures = attack_figures(&[0, 1], &[0, 0], MODE, 10);
        assert_eq!((figures.asr, figures.asr_inclusive, figures.racc), (None, Some(50.0), None));
    }

    #[test]
    fn effectiveness_follows_its_formula() {
        let figures = |acc, asr| Figures { acc: Some(acc), asr: Some(asr), ..Figures::default() };
        // BadNets of the paper's Table 1: (0.9891 − 0.0047 + 1) / 2.
        let der = defense_effectiveness(&figures(94.67, 100.0), &figures(94.20, 1.09)).unwrap();
        assert!((der - 99.22).abs() < 1e-9, "{der}");
        // Gains count as nothing.
        assert_eq!(defense_effectiveness(&figures(90.0, 10.0), &figures(95.0, 20.0)), Some(50.0));
        assert_eq!(defense_effectiveness(&figures(90.0, 10.0), &Figures::default()), None);
    }
}
