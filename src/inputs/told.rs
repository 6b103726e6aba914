//! What was read and how it is used, in two lines and for `result.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fit::CandidateResult;
use crate::data::{Dataset, ImageSet, Normalisation};
use crate::model::{Origin, Weights};

/// What a command read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataInputs>,
    pub models: Vec<ModelInputs>,
}

/// A data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataInputs {
    pub path: String,
    pub format: String,
    pub train: PartInputs,
    pub test: Option<PartInputs>,
    /// By label.
    pub classes: Vec<String>,
    /// Where their order is from.
    pub class_order: String,
    /// Files that are no images, by ending.
    pub left_out: BTreeMap<String, usize>,
    /// Files that can't be decoded, each with the cause.
    pub skipped: Vec<String>,
}

/// A part of a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartInputs {
    /// Below the data folder, where it has one of its own.
    pub folder: Option<String>,
    pub images: usize,
    /// Classes that have images in it.
    pub classes: usize,
    /// SHA-256 of what a network sees: size, labels, pixels, names of the classes.
    pub digest: String,
}

/// A model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInputs {
    pub path: String,
    /// Which weights of the file.
    #[serde(flatten)]
    pub origin: Origin,
    /// SHA-256 of the weights.
    pub digest: String,
    pub network: String,
    pub width: usize,
    pub classes: usize,
    pub normalisation: String,
    /// `option`, `file`, `data set`, `fitted`, or `first batch norm` where there are no labels.
    pub normalisation_from: String,
    /// Of what was fitted, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<CandidateResult>,
    /// What may be wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Names that are listed of many classes.
const NAMED: usize = 3;

impl DataInputs {
    /// Of a set that was read from `path`.
    pub fn new(path: &Path, set: &Dataset) -> Self {
        let [train, test] = &set.folders;
        let part = |folder: &Option<String>, images: &ImageSet| {
            let mut present = vec![false; images.classes.len()];
            images.labels.iter().for_each(|&label| present[label as usize] = true);
            let classes = present.into_iter().filter(|present| *present).count();
            PartInputs { folder: folder.clone(), images: images.len(), classes, digest: images.digest() }
        };
        Self {
            path: path.display().to_string(),
            format: set.format.to_string(),
            train: part(train, &set.train),
            test: set.test.as_ref().map(|images| part(test, images)),
            classes: set.train.classes.to_vec(),
            class_order: set.orders.first().map_or_else(String::new, |order| order.from.clone()),
            left_out: set.left_out.endings.clone(),
            skipped: set.skipped.clone(),
        }
    }
}

impl fmt::Display for DataInputs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "data: {}: {}, ", self.path, self.format)?;
        let classes = self.classes.len();
        let mut part = |name: &str, part: &PartInputs| {
            let folder = part.folder.as_ref().map_or_else(String::new, |folder| format!(" in {folder}/"));
            let few = match part.classes {
                present if present < classes => format!(" of {present} classes"),
                _ => String::new(),
            };
            write!(out, "{} {name} images{folder}{few}, ", part.images)
        };
        part("training", &self.train)?;
        match &self.test {
            Some(test) => part("test", test)?,
            None => write!(out, "no test images, ")?,
        }
        match self.classes.as_slice() {
            _ if self.class_order.is_empty() => write!(out, "no labels")?,
            [first @ .., last] if first.len() > NAMED => {
                write!(
                    out,
                    "{classes} classes in {} ({}, … {last})",
                    self.class_order,
                    first[..NAMED].join(", ")
                )?;
            }
            names => write!(out, "{classes} classes in {} ({})", self.class_order, names.join(", "))?,
        }
        let left_out = self.left_out.iter().map(|(ending, files)| format!("{files} {ending}"));
        let skipped = match self.skipped.len() {
            0 => None,
            files => Some(format!("{files} that can't be decoded")),
        };
        let left_out: Vec<String> = left_out.chain(skipped).collect();
        if !left_out.is_empty() {
            write!(out, "; files left out: {}", left_out.join(", "))?;
        }
        Ok(())
    }
}

impl ModelInputs {
    /// Of a model that is trained: `path` is what it starts from.
    pub fn fresh(path: Option<&Path>, weights: &Weights, normalisation: &Normalisation, from: &str) -> Self {
        let path = path.unwrap_or(Path::new("new weights"));
        Self {
            normalisation: normalisation.words(),
            normalisation_from: from.into(),
            ..Self::new(path, &Origin::default(), weights)
        }
    }

    pub(super) fn new(path: &Path, origin: &Origin, weights: &Weights) -> Self {
        let architecture = &weights.architecture;
        Self {
            path: path.display().to_string(),
            origin: origin.clone(),
            digest: weights.digest(),
            network: architecture.network.name().into(),
            width: architecture.width,
            classes: architecture.classes,
            ..Self::default()
        }
    }
}

impl fmt::Display for ModelInputs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, origin, network, width, classes, .. } = self;
        write!(out, "model: {path}: {network} of width {width}, {classes} classes{origin}")?;
        write!(out, "; normalisation {} ({})", self.normalisation, self.normalisation_from)?;
        let score = |candidate: &CandidateResult| candidate.accuracy.map(|it| format!("{it:.1} %"));
        if let [best, others @ ..] = self.candidates.as_slice()
            && let Some(accuracy) = score(best)
        {
            write!(out, ": {accuracy} of the training images right")?;
            if let Some((next, accuracy)) = others.first().and_then(|next| Some((next, score(next)?))) {
                let order = match next.class_order == best.class_order {
                    true => String::new(),
                    false => format!(" in {}", next.class_order),
                };
                write!(out, ", next {}{order}: {accuracy}", next.normalisation)?;
            }
        }
        Ok(())
    }
}
