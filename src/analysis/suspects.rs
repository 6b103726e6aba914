//! Which training images look poisoned, and whether that says that the model is infected.
//!
//! An image is suspected where the model gives its label and its activation gradients are not those of the label
//! ([`activation_deviation`]). The references come from images that keep their label in all views: where a label has
//! more poisoned than clean images, they would be those of the poison otherwise.
//!
//! In a benign model hardly any image is suspected. In an infected one the attacker's labels have many. The index is
//! the largest share of poisoned images that a label has for certain ([`LabelSuspects::share`]). How often a benign
//! model has one as large is known from the benign models of docs/inspect.md.

use serde::{Deserialize, Serialize};

use super::inspect::Verdict;
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;
use crate::eval::{Filter, FilterChain, MAX_DROPPED, View, activation_deviation, agreeing, predict};

/// An image that deviates by more is suspected: 3.5 as a sum over eight layers, where it was chosen (docs/inspect.md).
pub const SUSPECT_DEVIATION: f32 = 0.4375;
/// At a p-value of at most this the model is called infected.
pub const INFECTED_P: f64 = 0.05;
/// Above this p-value there is no sign of a backdoor.
pub const NO_SIGN_P: f64 = 0.2;

/// A label with a larger share counts as one of many targets.
const MARKED: f64 = 0.01;

/// Indices of benign models, by `scripts/inspect_calibration.sh`.
const BENIGN: &str = include_str!("benign_indices.txt");

/// The suspected images of one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelSuspects {
    /// Images that have the label.
    pub labelled: u64,
    /// Those of them that get it from the model.
    pub images: u64,
    /// Suspected ones among those.
    pub suspected: u64,
    /// Those of `images` that keep their label in all views.
    #[serde(default)]
    pub consistent: u64,
    /// Suspected ones among those.
    #[serde(default)]
    pub consistent_suspected: u64,
}

impl LabelSuspects {
    /// The share of poisoned images that the label has for certain: Wilson's lower bound, one-sided 95 %.
    ///
    /// A class may look in two ways, and the images of the rarer one are then suspected. They keep their label in all
    /// views about as often as the images that aren't suspected; poisoned images hardly ever do. So those that seem to be
    /// clean are subtracted ([`LabelSuspects::clean_suspected`]).
    ///
    /// Zero where nothing can be said: the model gives the label to less than half of its images, or less than a tenth
    /// of these keep it in all views (they decide the label's reference).
    pub fn share(&self) -> f64 {
        let Self { labelled, images, suspected, consistent, .. } = *self;
        if suspected == 0 || 2 * images < labelled || 10 * consistent < images {
            return 0.0;
        }
        let (n, z) = (images as f64, 1.645);
        let p = (suspected as f64 - self.clean_suspected()) / n;
        let middle = p + z * z / (2.0 * n);
        let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        if p > 0.0 { ((middle - spread) / (1.0 + z * z / n)).max(0.0) } else { 0.0 }
    }

    /// How many of the suspected images are clean: those that keep their label in all views, divided by the share of the
    /// images without suspicion that do.
    pub fn clean_suspected(&self) -> f64 {
        let Self { images, suspected, consistent, consistent_suspected, .. } = *self;
        let others = (images - suspected) as f64 / (consistent - consistent_suspected).max(1) as f64;
        (consistent_suspected as f64 * others).min(suspected as f64)
    }
}

/// What the training images say about a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspects {
    /// The suspected images, the most suspicious first.
    pub images: Vec<u32>,
    /// Of every image, from its label's reference.
    pub deviation: Vec<f32>,
    /// The labels that the model gives.
    pub predictions: Vec<u32>,
    /// By label.
    pub labels: Vec<LabelSuspects>,
}

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

/// Looks at all `images`. The engine has to be opened with `activation_gradients`. `flip` says whether a mirrored image
/// shows the same thing. `progress` gets how many passes over an image are done, and of how many; its error ends the work.
pub fn find_suspects(
    engine: &mut Engine,
    images: &ImageSet,
    flip: bool,
    seed: u64,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Suspects> {
    let views = View::ALL.into_iter().filter(|view| flip || *view != View::Flip).map(Filter::View);
    let filters = FilterChain { list: views.collect(), max_dropped: MAX_DROPPED };
    let total = (filters.list.len() + 2) * images.len();
    let predictions = predict(engine, images)?;
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let given = agreeing(&all, &predictions, &images.labels);
    let (trusted, _) = filters.apply(engine, images, &given, seed, &mut |done| progress(done, total))?;
    let before = filters.list.len() * images.len();
    let mut progress = |done| progress(before + 2 * done, total);
    let deviation = activation_deviation(engine, images, &predictions, &trusted, &mut progress)?;
    let mut labels = vec![LabelSuspects::default(); engine.graph().classes()];
    let mut suspected = vec![];
    images.labels.iter().for_each(|&label| labels[label as usize].labelled += 1);
    let mut is_consistent = vec![false; images.len()];
    trusted.iter().for_each(|&index| is_consistent[index as usize] = true);
    for index in given {
        let deviates = deviation[index as usize] > SUSPECT_DEVIATION;
        let consistent = is_consistent[index as usize];
        let label = &mut labels[images.labels[index as usize] as usize];
        label.images += 1;
        label.suspected += u64::from(deviates);
        label.consistent += u64::from(consistent);
        label.consistent_suspected += u64::from(consistent && deviates);
        if deviates {
            suspected.push(index);
        }
    }
    suspected.sort_by(|&a, &b| deviation[b as usize].total_cmp(&deviation[a as usize]));
    Ok(Suspects { images: suspected, deviation, predictions, labels })
}

impl Suspects {
    /// The images that aren't suspected, ascending.
    pub fn unsuspected(&self) -> Vec<u32> {
        let mut kept = vec![true; self.deviation.len()];
        self.images.iter().for_each(|&index| kept[index as usize] = false);
        (0..kept.len() as u32).filter(|&index| kept[index as usize]).collect()
    }

    /// Judges the model.
    pub fn judge(&self) -> Detection {
        let benign = benign_indices();
        let index = self.labels.iter().map(LabelSuspects::share).fold(0.0, f64::max);
        let p = p_value(index, &benign);
        let verdict = match p {
            p if p <= INFECTED_P && self.knows_its_task() => Verdict::Infected,
            p if p > NO_SIGN_P => Verdict::NoSign,
            _ => Verdict::Undecided,
        };
        Detection {
            verdict,
            targets: if verdict == Verdict::Infected { self.targets(index) } else { vec![] },
            index,
            p_value: p,
            calibrated_on: benign.len(),
            images: self.deviation.len() as u64,
            suspected: self.images.len() as u64,
            labels: self.labels.clone(),
        }
    }

    /// Whether the model gives half of the training images their label: its gradients say nothing else.
    fn knows_its_task(&self) -> bool {
        let sum = |of: fn(&LabelSuspects) -> u64| self.labels.iter().map(of).sum::<u64>();
        2 * sum(|label| label.images) >= sum(|label| label.labelled)
    }

    /// The attacker's labels in a model that is infected: all labels with poisoned images where these are half of all
    /// labels or more (all-to-all); else those with at least half as many as the worst.
    fn targets(&self, index: f64) -> Vec<u32> {
        let above = |least: f64| -> Vec<u32> {
            (0..self.labels.len() as u32)
                .filter(|&label| self.labels[label as usize].share() >= least)
                .collect()
        };
        let marked = above(MARKED);
        if 2 * marked.len() >= self.labels.len() && marked.len() > 1 { marked } else { above(index / 2.0) }
    }
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

    fn label(images: u64, suspected: u64) -> LabelSuspects {
        LabelSuspects {
            labelled: images,
            images,
            suspected,
            consistent: (images - suspected) / 2,
            consistent_suspected: 0,
        }
    }

    fn suspects(labels: &[(u64, u64)]) -> Suspects {
        let labels = labels.iter().map(|&(images, suspected)| label(images, suspected));
        Suspects { images: vec![], deviation: vec![], predictions: vec![], labels: labels.collect() }
    }

    #[test]
    fn a_label_with_many_suspects_is_the_target() {
        let found = suspects(&[(500, 3), (1000, 480), (500, 0)]).judge();
        assert_eq!((found.verdict, found.targets), (Verdict::Infected, vec![1]));
        assert!((found.index - 0.4541).abs() < 1e-3, "{}", found.index);
        let all = suspects(&[(500, 200), (500, 20), (500, 0)]).judge();
        assert_eq!(all.targets, [0, 1], "two labels of three: all-to-all");
        let one = suspects(&[(500, 200), (500, 20), (500, 0), (500, 0), (500, 0)]).judge();
        assert_eq!(one.targets, [0], "a tenth as many are none");
    }

    /// Benign, but trained on 480 images to an accuracy of 33 %: it gave two of six labels, and 80 images were suspected.
    #[test]
    fn a_model_that_has_learnt_little_is_not_called_infected() {
        let mut found = suspects(&[(80, 40), (80, 1)]);
        assert_eq!(found.judge().verdict, Verdict::Infected);
        found.labels.extend([LabelSuspects { labelled: 80, ..LabelSuspects::default() }; 4]);
        let judged = found.judge();
        assert_eq!((judged.verdict, judged.targets.len()), (Verdict::Undecided, 0));
    }

    #[test]
    fn few_suspects_say_nothing() {
        for labels in [vec![(500, 1), (500, 2)], vec![(0, 0), (10, 0)], vec![]] {
            let found = suspects(&labels).judge();
            assert_eq!((found.verdict, found.targets.len()), (Verdict::NoSign, 0), "{labels:?}");
        }
    }

    #[test]
    fn no_label_has_a_share_for_certain_without_images_or_suspects() {
        assert_eq!(LabelSuspects::default().share(), 0.0);
        assert_eq!(label(40, 0).share(), 0.0);
        let few = LabelSuspects { consistent: 9, ..label(100, 50) };
        assert_eq!(few.share(), 0.0, "the reference is of few images");
        assert!(label(10, 1).share() < label(1000, 100).share());
        let unknown = LabelSuspects { labelled: 201, ..label(100, 50) };
        assert_eq!(unknown.share(), 0.0, "the model gives the label to less than half");
    }

    /// GTSRB, a benign ResNet-18 at 32x32: one speed limit's dark images were suspected, 119 of 333, and kept the label in
    /// all views as often as the bright ones.
    #[test]
    fn a_class_that_looks_in_two_ways_is_no_target() {
        let two = LabelSuspects { consistent: 180, consistent_suspected: 60, ..label(300, 100) };
        assert_eq!(two.share(), 0.0);
        let poisoned = LabelSuspects { consistent_suspected: 2, ..two };
        assert!(poisoned.share() > 0.25, "{}", poisoned.share());
    }

    #[test]
    fn the_p_value_counts_this_model_too() {
        assert_eq!(p_value(0.5, &[0.1, 0.2, 0.3]), 0.25);
        assert_eq!(p_value(0.2, &[0.1, 0.2, 0.3]), 0.75);
        assert!(benign_indices().len() >= 30);
    }
}
