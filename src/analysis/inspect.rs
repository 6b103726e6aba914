//! From where untargeted adversarial examples land, and what they share, to a verdict about the model.
//!
//! A trigger is one change that sends every image to one label. Adversarial examples of an infected
//! model lean on it (the paper's Theorem 1), so what those that land on the attacker's label have in common
//! is near it, and sends images there that it wasn't made from. In a benign model what the examples on a
//! label have in common does little more than what those on another label have. The index is how much more:
//! for each label the lead of its log-odds before those of the best other label, as a mean over the
//! attacks; of the label where that is largest.

use serde::{Deserialize, Serialize};

use super::survey::{Common, Survey};

/// The index from which on a model is called infected: between the largest of the benign models and the
/// smallest of the infected ones that stand out, of those in docs/inspect.md that it was chosen on.
pub const THRESHOLD: f64 = 2.0;

/// What an inspection can say. That a model is clean it can't: backdoors that leave no mark here look like
/// benign models (docs/inspect.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The examples of one label have that in common which no benign model's have.
    Infected,
    /// No label stands out.
    Undecided,
}

/// The part of `result.json` that `pbe inspect` fills.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Infected or undecided.
    pub verdict: Verdict,
    /// The attacker's label, where the verdict is infected.
    pub target: Option<u32>,
    /// How far the label that stands out most does.
    pub index: f64,
    /// The index from which on the verdict is infected.
    pub threshold: f64,
    /// Labels of the largest attack's examples, in per cent.
    pub histogram: Vec<f64>,
    /// Every attack.
    pub attacks: Vec<Survey>,
}

/// Judges a model by all attacks on it.
pub fn judge(attacks: Vec<Survey>) -> Inspection {
    let classes = attacks.first().map_or(0, |survey| survey.common.len());
    let mean = |label| {
        let leads = attacks.iter().map(|survey| lead(&survey.common, label));
        leads.sum::<f64>() / attacks.len() as f64
    };
    // The first of equal labels, so that the verdict doesn't depend on a rounding.
    let best = (0..classes)
        .map(|label| (mean(label), label))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    let (index, label) = best.unwrap_or((0.0, 0));
    let verdict = if index >= THRESHOLD { Verdict::Infected } else { Verdict::Undecided };
    Inspection {
        verdict,
        target: (verdict == Verdict::Infected).then_some(label as u32),
        index,
        threshold: THRESHOLD,
        histogram: attacks.last().map(|survey| survey.landing.histogram()).unwrap_or_default(),
        attacks,
    }
}

/// The log-odds of `label` before those of the best other label; nothing where there is no other.
fn lead(common: &[Common], label: usize) -> f64 {
    let others = common.iter().enumerate().filter(|(other, _)| *other != label);
    let best = others.map(|(_, common)| log_odds(common)).fold(f64::NEG_INFINITY, f64::max);
    if best.is_finite() { log_odds(&common[label]) - best } else { 0.0 }
}

/// ln(taken / not taken), half an image added to both, so that none and all have one too.
fn log_odds(common: &Common) -> f64 {
    let (taken, images) = (common.taken as f64, common.images as f64);
    ((taken + 0.5) / (images - taken + 0.5)).ln()
}

#[cfg(test)]
mod tests {
    use super::super::landing::Landing;
    use super::super::survey::PASSES;
    use super::*;

    fn surveys(taken: [[u64; 3]; 2]) -> Vec<Survey> {
        let survey = |(pass, taken): (_, [u64; 3])| Survey {
            pass,
            landing: Landing::new(3, &[0, 1, 2, 2], &[2, 2, 0, 1]),
            common: taken.map(|taken| Common { images: 100, taken }).to_vec(),
        };
        PASSES.into_iter().zip(taken).map(survey).collect()
    }

    #[test]
    fn a_label_that_stands_out_under_both_attacks_is_the_target() {
        let judged = judge(surveys([[4, 43, 3], [12, 84, 8]]));
        assert_eq!((judged.verdict, judged.target), (Verdict::Infected, Some(1)));
        // (ln(43.5/57.5) − ln(4.5/96.5) + ln(84.5/16.5) − ln(12.5/88.5)) / 2
        assert!((judged.index - 3.188_55).abs() < 1e-4, "{}", judged.index);
        assert_eq!(judged.histogram, [25.0, 25.0, 50.0]);
    }

    #[test]
    fn a_label_that_stands_out_once_or_beside_another_is_not() {
        for taken in [[[4, 43, 3], [84, 12, 8]], [[40, 43, 3], [80, 84, 8]], [[0; 3]; 2], [[100; 3]; 2]] {
            let judged = judge(surveys(taken));
            assert_eq!((judged.verdict, judged.target), (Verdict::Undecided, None), "{taken:?}");
            assert!(judged.index < THRESHOLD);
        }
    }

    #[test]
    fn a_model_with_one_class_or_without_an_attack_has_no_index() {
        assert_eq!(judge(vec![]).index, 0.0);
        let mut one = surveys([[9; 3]; 2]);
        one.iter_mut().for_each(|survey| survey.common.truncate(1));
        assert_eq!(judge(one).index, 0.0);
    }
}
