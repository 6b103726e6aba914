//! Is a model infected? A verdict from untargeted adversarial examples and how their perturbation transfers.
//!
//! A trigger is one change that sends every image to one label. Adversarial examples of an infected model
//! use it (the paper's Theorem 1). So the mean perturbation of the examples that end on the attacker's label
//! is close to the trigger, and it sends other images to that label too. In a benign model no label's mean
//! perturbation transfers much better than another's. The index measures the difference: for each label, the
//! log-odds of transfer minus those of the best other label, averaged over the attacks; then the largest.

use serde::{Deserialize, Serialize};

use super::detection::Detection;
use super::transfer::{AttackStatistics, Transfer};

/// A model whose index is at least this is called infected. The value lies between the largest index of the
/// benign models and the smallest of the infected models it can tell, among those of docs/inspect.md that it
/// was chosen on.
pub const THRESHOLD: f64 = 2.0;

/// What an inspection says. There is no verdict "clean": a backdoor that leaves no mark can't be excluded
/// (docs/inspect.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As hardly any benign model.
    Infected,
    /// As benign models; only from the training images.
    NoSign,
    /// Neither.
    Undecided,
}

/// What adversarial examples say: whether one label's mean perturbation transfers far better than the others'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferTest {
    /// Infected or undecided.
    pub verdict: Verdict,
    /// The attacker's label, if the verdict is infected.
    pub target: Option<u32>,
    /// Lead of the label that stands out most.
    pub index: f64,
    /// Smallest index of the verdict infected.
    pub threshold: f64,
    /// Labels of the strongest attack's examples, in per cent.
    pub histogram: Vec<f64>,
    /// Every attack.
    pub attacks: Vec<AttackStatistics>,
}

/// The part of `result.json` that `pbe inspect` fills.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Infected where one of the two tests says so; else that of the training images, where they were looked at.
    pub verdict: Verdict,
    /// The attacker's labels, if the verdict is infected.
    pub targets: Vec<u32>,
    /// What the training images say.
    pub training_images: Option<Detection>,
    /// What adversarial examples say.
    pub adversarial_examples: TransferTest,
}

impl Inspection {
    /// Both tests together.
    pub fn new(training_images: Option<Detection>, adversarial_examples: TransferTest) -> Self {
        let from_images = training_images.as_ref().map(|found| (found.verdict, found.targets.clone()));
        let (verdict, targets) = match (from_images, adversarial_examples.target) {
            (Some((Verdict::Infected, targets)), _) => (Verdict::Infected, targets),
            (_, Some(target)) => (Verdict::Infected, vec![target]),
            (Some((verdict, _)), None) => (verdict, vec![]),
            (None, None) => (Verdict::Undecided, vec![]),
        };
        Self { verdict, targets, training_images, adversarial_examples }
    }
}

/// Judges a model by all attacks on it.
pub fn judge(attacks: Vec<AttackStatistics>) -> TransferTest {
    let classes = attacks.first().map_or(0, |attack| attack.transfer.len());
    let mean = |label| {
        let leads = attacks.iter().map(|attack| lead(&attack.transfer, label));
        leads.sum::<f64>() / attacks.len() as f64
    };
    // The first of equal labels, so that the verdict doesn't depend on rounding.
    let best = (0..classes)
        .map(|label| (mean(label), label))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    let (index, label) = best.unwrap_or((0.0, 0));
    let verdict = if index >= THRESHOLD { Verdict::Infected } else { Verdict::Undecided };
    TransferTest {
        verdict,
        target: (verdict == Verdict::Infected).then_some(label as u32),
        index,
        threshold: THRESHOLD,
        histogram: attacks.last().map(|attack| attack.confusion.histogram()).unwrap_or_default(),
        attacks,
    }
}

/// The log-odds of `label` minus those of the best other label; 0 if there is no other.
fn lead(transfer: &[Transfer], label: usize) -> f64 {
    let others = transfer.iter().enumerate().filter(|(other, _)| *other != label);
    let best = others.map(|(_, other)| log_odds(other)).fold(f64::NEG_INFINITY, f64::max);
    if best.is_finite() { log_odds(&transfer[label]) - best } else { 0.0 }
}

/// ln(transferred / not transferred), with half an image added to both so that 0 and 100 % are finite.
fn log_odds(transfer: &Transfer) -> f64 {
    let (transferred, images) = (transfer.transferred as f64, transfer.images as f64);
    ((transferred + 0.5) / (images - transferred + 0.5)).ln()
}

#[cfg(test)]
mod tests {
    use super::super::confusion::ConfusionMatrix;
    use super::super::transfer::ATTACKS;
    use super::*;

    fn attacks(counts: [[u64; 3]; 2]) -> Vec<AttackStatistics> {
        let statistics = |(attack, counts): (_, [u64; 3])| AttackStatistics {
            attack,
            confusion: ConfusionMatrix::new(3, &[0, 1, 2, 2], &[2, 2, 0, 1]),
            transfer: counts.map(|transferred| Transfer { images: 100, transferred }).to_vec(),
        };
        ATTACKS.into_iter().zip(counts).map(statistics).collect()
    }

    #[test]
    fn a_label_that_stands_out_under_both_attacks_is_the_target() {
        let judged = judge(attacks([[4, 43, 3], [12, 84, 8]]));
        assert_eq!((judged.verdict, judged.target), (Verdict::Infected, Some(1)));
        // (ln(43.5/57.5) − ln(4.5/96.5) + ln(84.5/16.5) − ln(12.5/88.5)) / 2
        assert!((judged.index - 3.188_55).abs() < 1e-4, "{}", judged.index);
        assert_eq!(judged.histogram, [25.0, 25.0, 50.0]);
    }

    #[test]
    fn a_label_that_stands_out_once_or_beside_another_is_not() {
        for taken in [[[4, 43, 3], [84, 12, 8]], [[40, 43, 3], [80, 84, 8]], [[0; 3]; 2], [[100; 3]; 2]] {
            let judged = judge(attacks(taken));
            assert_eq!((judged.verdict, judged.target), (Verdict::Undecided, None), "{taken:?}");
            assert!(judged.index < THRESHOLD);
        }
    }

    #[test]
    fn a_model_with_one_class_or_without_an_attack_has_no_index() {
        assert_eq!(judge(vec![]).index, 0.0);
        let mut one = attacks([[9; 3]; 2]);
        one.iter_mut().for_each(|attack| attack.transfer.truncate(1));
        assert_eq!(judge(one).index, 0.0);
    }
}
