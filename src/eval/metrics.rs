//! What a classifier and its backdoor are judged by. All values are per cent.

use serde::{Deserialize, Serialize};

/// The metrics of one model; `None` where not measured or where no image counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Accuracy on clean test images.
    pub clean_accuracy: Option<f64>,
    /// Attack success rate: triggered images that get the attacker's label, out of those that
    /// don't belong to it anyway (all-to-one: images of the target class are left out).
    pub asr: Option<f64>,
    /// The same out of all images, as the paper's released code counts.
    pub asr_inclusive: Option<f64>,
    /// Triggered images that still get their true label, out of those that `asr` counts.
    pub robust_accuracy: Option<f64>,
}

/// Predictions that are right.
pub fn accuracy(predicted: &[u32], labels: &[u32]) -> Option<f64> {
    share(predicted.iter().zip(labels).map(|(predicted, label)| predicted == label))
}

/// ASR, inclusive ASR and R-ACC of predictions on triggered images, with their true `labels` and the labels
/// that the attacker `wanted`. `clean_accuracy` is left out.
pub fn attack_metrics(predicted: &[u32], labels: &[u32], wanted: &[u32]) -> Metrics {
    let all = || predicted.iter().zip(labels).zip(wanted).map(|((p, label), wanted)| (p, label, wanted));
    let others = || all().filter(|(_, label, wanted)| label != wanted);
    Metrics {
        clean_accuracy: None,
        asr: share(others().map(|(p, _, wanted)| p == wanted)),
        asr_inclusive: share(all().map(|(p, _, wanted)| p == wanted)),
        robust_accuracy: share(others().map(|(p, label, _)| p == label)),
    }
}

/// DER, the defence effectiveness rate (Zhu et al., FT-SAM, Eq. 7):
/// (max(0, drop of ASR) − max(0, drop of ACC) + 1) / 2, in per cent.
pub fn defense_effectiveness(before: &Metrics, after: &Metrics) -> Option<f64> {
    let drop = |before: Option<f64>, after: Option<f64>| Some((before? - after?).max(0.0));
    Some((drop(before.asr, after.asr)? - drop(before.clean_accuracy, after.clean_accuracy)? + 100.0) / 2.0)
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

    #[test]
    fn images_of_the_target_class_do_not_count_as_successes() {
        let labels = [0, 0, 1, 2, 3, 4];
        let metrics = attack_metrics(&[0, 0, 0, 0, 3, 1], &labels, &[0; 6]);
        assert_eq!(metrics.asr, Some(50.0));
        assert_eq!(metrics.asr_inclusive, Some(100.0 * 4.0 / 6.0));
        assert_eq!(metrics.robust_accuracy, Some(25.0));
        assert_eq!(metrics.clean_accuracy, None);
    }

    /// A model with no backdoor that is always right: its inclusive ASR is the share of the target.
    #[test]
    fn a_perfect_model_has_no_attack_success() {
        let labels: Vec<u32> = (0..100).map(|index| index % 10).collect();
        let metrics = attack_metrics(&labels, &labels, &[0; 100]);
        assert_eq!(
            (metrics.asr, metrics.asr_inclusive, metrics.robust_accuracy),
            (Some(0.0), Some(10.0), Some(100.0))
        );
        assert_eq!(accuracy(&labels, &labels), Some(100.0));
    }

    #[test]
    fn all_to_all_counts_every_image() {
        let metrics = attack_metrics(&[1, 2, 2, 0], &[0, 1, 2, 2], &[1, 2, 0, 0]);
        assert_eq!(
            (metrics.asr, metrics.asr_inclusive, metrics.robust_accuracy),
            (Some(75.0), Some(75.0), Some(25.0))
        );
    }

    #[test]
    fn nothing_to_count_is_no_figure() {
        assert_eq!(accuracy(&[], &[]), None);
        let metrics = attack_metrics(&[0, 1], &[0, 0], &[0, 0]);
        assert_eq!((metrics.asr, metrics.asr_inclusive, metrics.robust_accuracy), (None, Some(50.0), None));
    }

    #[test]
    fn effectiveness_follows_its_formula() {
        let metrics = |acc, asr| Metrics { clean_accuracy: Some(acc), asr: Some(asr), ..Metrics::default() };
        // BadNets of the paper's Table 1: (0.9891 − 0.0047 + 1) / 2.
        let der = defense_effectiveness(&metrics(94.67, 100.0), &metrics(94.20, 1.09)).unwrap();
        assert!((der - 99.22).abs() < 1e-9, "{der}");
        // Gains count as nothing.
        assert_eq!(defense_effectiveness(&metrics(90.0, 10.0), &metrics(95.0, 20.0)), Some(50.0));
        assert_eq!(defense_effectiveness(&metrics(90.0, 10.0), &Metrics::default()), None);
    }
}
