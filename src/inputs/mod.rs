//! Where a model and its data meet: what neither an option nor a file settles is fitted on the images, and all of it is
//! told.
//!
//! | | settled by | else |
//! |---|---|---|
//! | normalisation | an option, the model's file | the published ones are tried |
//! | order of the classes | a list of names, a format that numbers them | the orders that programs use are tried |

mod fit;
mod pooling;
mod statistics;
mod told;

use std::path::Path;

use crate::data::{ClassOrder, Dataset, Normalisation};
use crate::engine::Device;
use crate::error::{Error, Result};
use crate::model::{Origin, Weights};

pub use fit::CandidateResult;
use fit::{Feeding, Fit};
use statistics::FirstLayer;
pub use told::{DataInputs, Inputs, ModelInputs, PartInputs};

/// A model's file and what it meets.
pub struct Meeting<'a> {
    pub device: &'a dyn Device,
    /// The model's file, for messages.
    pub path: &'a Path,
    pub origin: &'a Origin,
    pub weights: &'a Weights,
    pub set: &'a Dataset,
    /// Whether the images have labels.
    pub labelled: bool,
    /// The normalisation that is given, and by what: `option` or `config`.
    pub given: Option<(&'a Normalisation, &'static str)>,
    /// Whether a model that is no better than a guess on its training images is refused.
    pub strict: bool,
}

/// How a model is fed.
pub struct Settled {
    pub normalisation: Normalisation,
    /// The order that the labels have to be counted in.
    pub order: Option<ClassOrder>,
    pub told: ModelInputs,
}

/// A first batch norm this far from its inputs was trained on others.
const FAR: f64 = 0.5;

impl Meeting<'_> {
    /// Settles the normalisation and the order of the classes.
    ///
    /// # Errors
    /// The images' size is one for which the file doesn't say what the network computes. Where `strict`: nothing that is known makes the model better than a guess.
    pub fn settle(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<Settled> {
        let Self { device, weights, set, .. } = *self;
        if !self.origin.own
            && let Some(cause) = pooling::ambiguity(weights, set.train.height, set.train.width)?
        {
            return Err(Error::file(self.path, cause));
        }
        let usual = &set.normalisation;
        let known = match (self.given, &weights.normalisation) {
            (Some(given), _) => Some(given),
            (None, Some(own)) => Some((own, "file")),
            (None, None) => None,
        };
        let normalisations = match known {
            Some((known, _)) => vec![known.clone()],
            None => fit::candidates(usual),
        };
        let open = known.is_none() || set.orders.len() > 1;
        let fit = match (open, self.labelled) {
            (false, _) => None,
            (true, true) => {
                let fit =
                    fit::fit(device, weights, &set.train, &normalisations, &set.orders, usual, progress);
                Some(fit.map_err(|cause| self.of_the_model(cause))?)
            }
            (true, false) => Some(fit::fit_unlabelled(weights, &set.train, &normalisations, usual)),
        };
        let mut told = ModelInputs::new(self.path, self.origin, weights);
        told.warnings = match &fit {
            Some(fit) => self.doubts(fit, known.is_none())?,
            None => vec![],
        };
        told.warnings.extend(known.and_then(|(known, _)| self.mismatch(known)));
        let best = fit.as_ref().and_then(|fit| fit.candidates.first());
        let normalisation = best.map_or(&normalisations[0], |best| &best.normalisation).clone();
        told.normalisation = normalisation.words();
        let fitted = if self.labelled { "fitted" } else { "first batch norm" };
        told.normalisation_from = known.map_or(fitted, |(_, from)| from).into();
        let candidates = fit.as_ref().map_or(&[][..], |fit| &fit.candidates);
        told.candidates = candidates.iter().map(|candidate| self.result(candidate)).collect();
        let order = set.orders.get(best.map_or(0, |best| best.order)).cloned();
        Ok(Settled { normalisation, order, told })
    }

    /// A failed run with the model's name: its logits aren't finite, for one.
    fn of_the_model(&self, cause: Error) -> Error {
        match cause {
            Error::Run(cause) => Error::run(format!("{}: {cause}", self.path.display())),
            other => other,
        }
    }

    fn result(&self, candidate: &Feeding) -> CandidateResult {
        CandidateResult {
            normalisation: candidate.normalisation.words(),
            class_order: self
                .set
                .orders
                .get(candidate.order)
                .map_or_else(String::new, |order| order.from.clone()),
            accuracy: candidate.accuracy,
            distance: candidate.distance,
        }
    }

    /// What may be wrong with the best of a fit.
    fn doubts(&self, fit: &Fit, normalisation_open: bool) -> Result<Vec<String>> {
        let words = |candidate: &Feeding| {
            let CandidateResult { normalisation, class_order, accuracy, .. } = self.result(candidate);
            let accuracy = accuracy.map_or_else(String::new, |accuracy| format!(" gives {accuracy:.1} %"));
            let order = if class_order.is_empty() {
                String::new()
            } else {
                format!(" with classes in {class_order}")
            };
            format!("{normalisation}{order}{accuracy}")
        };
        let mut options = vec![];
        if normalisation_open {
            options.push("--normalisation");
        }
        if self.set.orders.len() > 1 {
            options.push("--classes");
        }
        let options = options.join(" and ");
        if fit.is_unusable() {
            let others = match self.origin.others.as_slice() {
                [] => String::new(),
                others => format!(", or --weights for another set of the file ({})", others.join(", ")),
            };
            let cause = format!(
                "no better than a guess on {} of its training images, however they are normalised and their classes \
                 counted: {} (the most frequent class: {:.1} %); {options} if you know better{others}",
                fit.images,
                fit.candidates.first().map(words).unwrap_or_default(),
                fit.chance
            );
            let error = Error::file(self.path, cause);
            return if self.strict { Err(error) } else { Ok(vec![error.to_string()]) };
        }
        match fit.candidates.as_slice() {
            [first, second, ..] if !fit.clear => Ok(vec![format!(
                "{}: {} and {} fit as well, the first is taken; {options} settles it",
                self.path.display(),
                words(first),
                words(second)
            )]),
            _ => Ok(vec![]),
        }
    }

    /// A warning where another normalisation than the one that is settled fits the first batch norm far better.
    fn mismatch(&self, settled: &Normalisation) -> Option<String> {
        let layer = FirstLayer::new(self.weights, &self.set.train)?;
        let own = layer.distance(settled);
        let all = fit::candidates(&self.set.normalisation);
        let others = all.iter().map(|other| (layer.distance(other), other));
        let (least, other) = others.min_by(|a, b| a.0.total_cmp(&b.0))?;
        (own > FAR && least < 0.1 * own).then(|| {
            format!(
                "{}: these images, normalised by {}, are far from what the model was trained on; by {} they are near",
                self.path.display(),
                settled.words(),
                other.words()
            )
        })
    }
}
