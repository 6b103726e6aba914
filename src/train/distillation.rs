//! Distillation: what a teacher's logits may teach.

use super::config::TrainConfig;

/// Raises the label's logit until no other label has more than `config.teacher_cap` of the probability at the
/// distillation's temperature.
///
/// An infected model gives two labels some probability where an image has a trigger and its own label all the
/// same (the noise mode of WaNet and of the dynamic attack): what it gives the attacker's label there would
/// teach the trigger again.
pub(super) fn cap_other_labels(row: &mut [f32], label: usize, config: &TrainConfig) {
    let others = || row.iter().enumerate().filter(|&(other, _)| other != label).map(|(_, &logit)| logit);
    let best = others().fold(f32::MIN, f32::max);
    let odds: f32 = others().map(|logit| ((logit - best) / config.temperature).exp()).sum();
    // The best other label has the probability 1 / (odds + e^((logit - best) / T)).
    let rest = 1.0 / config.teacher_cap - odds;
    if rest > 0.0 {
        row[label] = row[label].max(best + config.temperature * rest.ln());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cross mode kept the dynamic attack alive: ASR 21 after the first round with not a poisoned image in the
    /// data, 3.6 without the images of noise mode (docs/method.md).
    #[test]
    fn the_teacher_gives_other_labels_no_more_than_the_cap() {
        let config = TrainConfig { teacher_cap: 0.05, ..TrainConfig::PLAIN };
        let largest_other = |row: &[f32], label: usize| {
            let odds: Vec<f32> = row.iter().map(|logit| (logit / config.temperature).exp()).collect();
            let total: f32 = odds.iter().sum();
            (0..row.len()).filter(|&k| k != label).map(|k| odds[k] / total).fold(0.0, f32::max)
        };
        for label in 0..3 {
            let mut row = [2.0, -1.0, 0.5];
            cap_other_labels(&mut row, label, &config);
            assert!((largest_other(&row, label) - 0.05).abs() < 1e-6, "{row:?}");
            // The ratios among the other labels stay.
            let original = [2.0, -1.0, 0.5];
            assert!((0..3).filter(|&k| k != label).all(|k| row[k] == original[k]));
        }
        let mut below = [12.0, -1.0, 0.5];
        cap_other_labels(&mut below, 0, &config);
        assert_eq!(below, [12.0, -1.0, 0.5]);
        let mut uncapped = [2.0, -1.0, 0.5];
        cap_other_labels(&mut uncapped, 1, &TrainConfig { teacher_cap: 1.0, ..config });
        assert_eq!(uncapped, [2.0, -1.0, 0.5]);
    }
}
