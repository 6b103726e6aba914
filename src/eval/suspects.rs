//! Which training images look poisoned.
//!
//! An image is suspected where the model gives its label and its activation gradients are not those of the label
//! ([`activation_deviation`]). The references come from images that keep their label in all views: where a label has
//! more poisoned than clean images, they would be those of the poison otherwise.

use serde::{Deserialize, Serialize};

use super::activation_gradients::activation_deviation;
use super::filter::{Filter, FilterChain, MAX_DROPPED, agreeing};
use super::predict::predict;
use super::reconstructed_trigger::{LabelProbe, TRIGGER_WORKS, probe_label};
use super::views::View;
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;

/// An image that deviates by more is suspected: 3.5 as a sum over eight layers, where it was chosen (docs/inspect.md).
pub const SUSPECT_DEVIATION: f32 = 0.4375;
/// A label with a larger share of poisoned images counts as one of many targets.
const MARKED: f64 = 0.01;
/// One of so many suspected images is held out.
const HELD_OUT: usize = 5;

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
    /// Whether its most deviating images show a trigger; none with few images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<LabelProbe>,
}

impl LabelSuspects {
    /// The share of poisoned images that the label has for certain: Wilson's lower bound, one-sided 95 %.
    ///
    /// A class may look in two ways, and the images of the rarer one are then suspected. They keep their label in all
    /// views about as often as the images that aren't suspected; poisoned images hardly ever do. So those that seem to be
    /// clean are subtracted ([`LabelSuspects::clean_suspected`]).
    ///
    /// Zero where nothing can be said: see [`LabelSuspects::is_known`].
    pub fn share(&self) -> f64 {
        let Self { images, suspected, .. } = *self;
        if suspected == 0 || !self.is_known() {
            return 0.0;
        }
        let (n, z) = (images as f64, 1.645);
        let p = (suspected as f64 - self.clean_suspected()) / n;
        let middle = p + z * z / (2.0 * n);
        let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        if p > 0.0 { ((middle - spread) / (1.0 + z * z / n)).max(0.0) } else { 0.0 }
    }

    /// Whether the model gives the label to half of its images, and a tenth of these keep it in all views (they decide the
    /// label's reference).
    pub fn is_known(&self) -> bool {
        2 * self.images >= self.labelled && 10 * self.consistent >= self.images
    }

    /// Whether a trigger that is reconstructed from the most deviating images works in the model. No rare look of a class
    /// does that.
    pub fn has_trigger(&self) -> bool {
        self.probe.is_some_and(|probe| probe.rate >= TRIGGER_WORKS)
    }

    /// Whether the most deviating images were the clean ones: most others are poisoned then.
    pub fn is_inverted(&self) -> bool {
        self.probe.is_some_and(|probe| probe.inverted)
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
    let before = filters.list.len() * images.len();
    let total = before + 2 * images.len();
    let predictions = predict(engine, images)?;
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let given = agreeing(&all, &predictions, &images.labels);
    let (trusted, _) = filters.apply(engine, images, &given, seed, &mut |done| progress(done, total))?;
    suspects(engine, images, predictions, given, &trusted, &mut |done| progress(before + 2 * done, total))
}

/// As [`find_suspects`], where a purified model is at hand: clean images keep their label in it, poisoned ones don't. So the
/// references come from the images to which it gives their label too, and these stand in for the images that keep their
/// label in all views. `predictions` are the labels that the infected model gives, `purified` those of the purified one.
pub fn find_suspects_again(
    engine: &mut Engine,
    images: &ImageSet,
    predictions: Vec<u32>,
    purified: &[u32],
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Suspects> {
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let given = agreeing(&all, &predictions, &images.labels);
    let trusted = agreeing(&given, purified, &images.labels);
    suspects(engine, images, predictions, given, &trusted, &mut |done| progress(done, images.len()))
}

/// The suspected images among those that get their label from the model (`given`), with references from those of `trusted`.
fn suspects(
    engine: &mut Engine,
    images: &ImageSet,
    predictions: Vec<u32>,
    given: Vec<u32>,
    trusted: &[u32],
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Suspects> {
    let deviation = activation_deviation(engine, images, &predictions, trusted, progress)?;
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
    let mut found = Suspects { images: suspected, deviation, predictions, labels };
    found.probe(engine, images)?;
    Ok(found)
}

impl Suspects {
    /// Looks for a trigger in each label. Where it is in the images that aren't suspected, the suspected ones are clean: then
    /// the others are the suspected ones.
    fn probe(&mut self, engine: &mut Engine, images: &ImageSet) -> Result<()> {
        let given = |&i: &u32| self.predictions[i as usize] == images.labels[i as usize];
        let given: Vec<u32> = (0..images.len() as u32).filter(given).collect();
        let mut inverted = vec![];
        for label in 0..self.labels.len() {
            let own = self.deviating(label as u32, images);
            let others: Vec<u32> =
                given.iter().copied().filter(|&i| images.labels[i as usize] as usize != label).collect();
            let suspected = self.labels[label].suspected as usize;
            self.labels[label].probe = probe_label(engine, images, &own, suspected, &others)?;
            if self.labels[label].probe.is_some_and(|probe| probe.inverted) {
                inverted.extend_from_slice(&own[suspected..]);
                self.images.retain(|&i| images.labels[i as usize] as usize != label);
                let label = &mut self.labels[label];
                label.suspected = label.images - label.suspected;
                // They keep their label in all views: that they are poisoned is known from the trigger.
                label.consistent_suspected = 0;
            }
        }
        self.images.extend(inverted);
        Ok(())
    }

    /// The images of `label` that get it from the model, the most deviating first.
    pub(super) fn deviating(&self, label: u32, images: &ImageSet) -> Vec<u32> {
        let own = |&i: &u32| images.labels[i as usize] == label && self.predictions[i as usize] == label;
        let mut list: Vec<u32> = (0..images.len() as u32).filter(own).collect();
        list.sort_by(|&a, &b| self.deviation[b as usize].total_cmp(&self.deviation[a as usize]));
        list
    }

    /// The largest share of poisoned images that a label has for certain.
    pub fn index(&self) -> f64 {
        self.labels.iter().map(LabelSuspects::share).fold(0.0, f64::max)
    }

    /// Whether a trigger that is reconstructed from a label's images works in the model.
    pub fn has_trigger(&self) -> bool {
        self.labels.iter().any(LabelSuspects::has_trigger)
    }

    /// The attacker's labels in a model that is infected: all labels with poisoned images where these are half of all
    /// labels or more (all-to-all); else those with a trigger that works, and those with at least half as many poisoned
    /// images as the worst.
    pub fn targets(&self) -> Vec<u32> {
        let above = |least: f64| -> Vec<u32> {
            let labels = 0..self.labels.len() as u32;
            labels.filter(|&label| self.labels[label as usize].share() >= least).collect()
        };
        let marked = above(MARKED);
        if 2 * marked.len() >= self.labels.len() && marked.len() > 1 {
            marked
        } else {
            let least = (self.index() / 2.0).max(if self.has_trigger() { MARKED } else { 0.0 });
            let is_target =
                |label: &LabelSuspects| label.has_trigger() || (label.share() >= least && least > 0.0);
            let labels = 0..self.labels.len() as u32;
            labels.filter(|&label| is_target(&self.labels[label as usize])).collect()
        }
    }

    /// Every fifth suspected image. No defence trains on these, so that they tell how much of a backdoor is left.
    pub fn held_out(&self) -> Vec<u32> {
        self.images.iter().copied().step_by(HELD_OUT).collect()
    }

    /// The suspected images that aren't held out.
    pub fn trained_on(&self) -> Vec<u32> {
        let numbered = self.images.iter().copied().enumerate();
        numbered.filter(|(number, _)| number % HELD_OUT != 0).map(|(_, index)| index).collect()
    }

    /// Removes the suspected images from `list`.
    pub fn remove_from(&self, list: &mut Vec<u32>) {
        let mut suspected = self.images.clone();
        suspected.sort_unstable();
        list.retain(|index| suspected.binary_search(index).is_err());
    }

    /// The images that aren't suspected, ascending.
    pub fn unsuspected(&self) -> Vec<u32> {
        let mut kept = (0..self.deviation.len() as u32).collect();
        self.remove_from(&mut kept);
        kept
    }
}

#[cfg(test)]
impl LabelSuspects {
    /// So many images that get the label from the model; of those that aren't suspected half keep it in all views.
    pub fn of(images: u64, suspected: u64) -> Self {
        let consistent = (images - suspected) / 2;
        Self { labelled: images, images, suspected, consistent, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_has_a_share_for_certain_without_images_or_suspects() {
        assert_eq!(LabelSuspects::default().share(), 0.0);
        assert_eq!(LabelSuspects::of(40, 0).share(), 0.0);
        let few = LabelSuspects { consistent: 9, ..LabelSuspects::of(100, 50) };
        assert_eq!(few.share(), 0.0, "the reference is of few images");
        assert!(LabelSuspects::of(10, 1).share() < LabelSuspects::of(1000, 100).share());
        let unknown = LabelSuspects { labelled: 201, ..LabelSuspects::of(100, 50) };
        assert_eq!(unknown.share(), 0.0, "the model gives the label to less than half");
    }

    /// GTSRB, a benign ResNet-18 at 32x32: one speed limit's dark images were suspected, 119 of 333, and kept the label in
    /// all views as often as the bright ones.
    #[test]
    fn a_class_that_looks_in_two_ways_is_no_target() {
        let two = LabelSuspects { consistent: 180, consistent_suspected: 60, ..LabelSuspects::of(300, 100) };
        assert_eq!(two.share(), 0.0);
        let poisoned = LabelSuspects { consistent_suspected: 2, ..two };
        assert!(poisoned.share() > 0.25, "{}", poisoned.share());
    }

    #[test]
    fn a_fifth_of_the_suspected_images_is_held_out() {
        let images: Vec<u32> = (10..21).collect();
        let found = Suspects { images, deviation: vec![0.0; 30], predictions: vec![], labels: vec![] };
        assert_eq!(found.held_out(), [10, 15, 20]);
        assert_eq!(found.trained_on(), [11, 12, 13, 14, 16, 17, 18, 19]);
        assert_eq!(found.unsuspected().len(), 19);
    }
}
