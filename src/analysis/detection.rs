//! Whether its training images say that a model is infected.
//!
//! In a benign model hardly any image is suspected. In an infected one the attacker's labels have many. The index is
//! the largest share of poisoned images that a label has for certain ([`LabelSuspects::share`]). How often a benign
//! model has one as large is known from the benign models of docs/inspect.md. A trigger that is reconstructed from a
//! label's suspected images and sends most other images to it ([`LabelSuspects::has_trigger`]) proves the infection.

use serde::{Deserialize, Serialize};

use super::inspect::Verdict;
use crate::eval::{LabelSuspects, Suspects};

/// At a p-value of at most this the model is called infected.
pub const INFECTED_P: f64 = 0.05;
/// Above this p-value there is no sign of a backdoor.
pub const NO_SIGN_P: f64 = 0.2;

/// Indices of benign models, by `scripts/inspect_calibration.sh`.
const BENIGN: &str = include_str!("benign_indices.txt");

/// The judgement of a model from its training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    pub verdict: Verdict,
    /// The attacker's labels; empty unless infected.
    pub targets: Vec<u32>,
    /// The largest share of poisoned images that a label has for certain.
    pub index: f64,
    /// How often a benign model has an index as large, at most.
    pub p_value: f64,
    /// Benign models that the p-value comes from.
    pub calibrated_on: usize,
    /// Images that were looked at.
    pub images: u64,
    /// Suspected ones among those.
    pub suspected: u64,
    /// By label.
    pub labels: Vec<LabelSuspects>,
}

impl Detection {
    /// Judges the model that `suspects` were found with.
    pub fn new(suspects: &Suspects) -> Self {
        let (benign, index) = (benign_indices(), suspects.index());
        let p = p_value(index, &benign);
        let verdict = match p {
            p if (p <= INFECTED_P || suspects.has_trigger()) && knows_its_task(&suspects.labels) => {
                Verdict::Infected
            }
            p if p > NO_SIGN_P => Verdict::NoSign,
            _ => Verdict::Undecided,
        };
        Self {
            verdict,
            targets: if verdict == Verdict::Infected { suspects.targets() } else { vec![] },
            index,
            p_value: p,
            calibrated_on: benign.len(),
            images: suspects.deviation.len() as u64,
            suspected: suspects.images.len() as u64,
            labels: suspects.labels.clone(),
        }
    }
}

/// Whether the model gives half of the training images their label: its gradients say nothing else.
fn knows_its_task(labels: &[LabelSuspects]) -> bool {
    let sum = |of: fn(&LabelSuspects) -> u64| labels.iter().map(of).sum::<u64>();
    2 * sum(|label| label.images) >= sum(|label| label.labelled)
}

/// The indices that benign models had.
fn benign_indices() -> Vec<f64> {
    BENIGN.lines().filter_map(|line| line.split(',').next()?.parse().ok()).collect()
}

/// The share of models, this one among the benign ones, whose index is at least as large.
fn p_value(index: f64, benign: &[f64]) -> f64 {
    let larger = benign.iter().filter(|&&other| other >= index).count();
    (1 + larger) as f64 / (1 + benign.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects(labels: &[(u64, u64)]) -> Suspects {
        let labels = labels.iter().map(|&(images, suspected)| LabelSuspects::of(images, suspected));
        Suspects { images: vec![], deviation: vec![], predictions: vec![], labels: labels.collect() }
    }

    fn judge(labels: &[(u64, u64)]) -> Detection {
        Detection::new(&suspects(labels))
    }

    #[test]
    fn a_label_with_many_suspects_is_the_target() {
        let found = judge(&[(500, 3), (1000, 480), (500, 0)]);
        assert_eq!((found.verdict, found.targets), (Verdict::Infected, vec![1]));
        assert!((found.index - 0.4541).abs() < 1e-3, "{}", found.index);
        let all = judge(&[(500, 200), (500, 20), (500, 0)]);
        assert_eq!(all.targets, [0, 1], "two labels of three: all-to-all");
        let one = judge(&[(500, 200), (500, 20), (500, 0), (500, 0), (500, 0)]);
        assert_eq!(one.targets, [0], "a tenth as many are none");
    }

    /// Benign, but trained on 480 images to an accuracy of 33 %: it gave two of six labels, and 80 images were suspected.
    #[test]
    fn a_model_that_has_learnt_little_is_not_called_infected() {
        let mut found = suspects(&[(80, 40), (80, 1)]);
        assert_eq!(Detection::new(&found).verdict, Verdict::Infected);
        found.labels.extend([LabelSuspects { labelled: 80, ..LabelSuspects::default() }; 4]);
        let judged = Detection::new(&found);
        assert_eq!((judged.verdict, judged.targets.len()), (Verdict::Undecided, 0));
    }

    #[test]
    fn few_suspects_say_nothing() {
        for labels in [vec![(500, 1), (500, 2)], vec![(0, 0), (10, 0)], vec![]] {
            let found = judge(&labels);
            assert_eq!((found.verdict, found.targets.len()), (Verdict::NoSign, 0), "{labels:?}");
        }
    }

    #[test]
    fn the_p_value_counts_this_model_too() {
        assert_eq!(p_value(0.5, &[0.1, 0.2, 0.3]), 0.25);
        assert_eq!(p_value(0.2, &[0.1, 0.2, 0.3]), 0.75);
        assert!(benign_indices().len() >= 30);
    }
}
