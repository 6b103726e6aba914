//! What a purification works on: the training images as their owner has them, or the clean set.

use std::path::Path;

use pbe::data::{Dataset, ImageSet, SampleSize, load_single, stratified_sample};
use pbe::defense::Defense;
use pbe::device::Device;
use pbe::error::{Error, Result};
use pbe::eval::Evaluator;
use pbe::inputs::Inputs;

use super::request::{CleanSet, Request};
use crate::cli::common::{Digests, Loaded, log_skipped};
use crate::cli::memory::ImageBytes;
use crate::cli::open::{Fitting, Model, Network, tell};
use crate::cli::progress::Progress;
use crate::cli::truth::Truth;

/// The data of a run.
pub struct PurifyData {
    /// As it lies on disk.
    pub set: Dataset,
    /// D_train, or the clean set.
    pub images: ImageSet,
    /// Which training images `images` are, where `data.limit` left some out.
    pub taken: Option<Vec<u32>>,
    /// Whether `images` is known to be clean.
    pub clean_set: bool,
    /// Which of `images` are clean, where the truth is known; only for reporting.
    pub clean: Option<Vec<bool>>,
    /// What models are measured on, where there is a test split.
    pub evaluator: Option<Evaluator>,
    /// What the result has to be read with.
    pub warnings: Vec<String>,
}

/// With fewer images a purification costs much accuracy or leaves the backdoor (docs/report.md): without a clean set, and
/// of clean ones.
const ENOUGH: [usize; 2] = [5000, 500];

impl PurifyData {
    /// Reads and prepares the data.
    pub fn load(
        request: &Request,
        model: Model,
        device: &dyn Device,
        progress: &Progress,
    ) -> Result<(Self, Network, Inputs)> {
        let truth = request.poison.as_deref().map(Truth::load).transpose()?;
        let trigger = request.trigger.as_deref().map(Truth::load).transpose()?;
        let size = request.size.or(model.size());
        let mut loaded = request.data.load(size, model.channels(), request.compute.seed(), progress)?;
        let data = request.data.data.as_path();
        let with = Fitting { device, data, args: &request.input, strict: true, progress };
        let network = model.fit(&mut loaded.set, &with)?;
        let inputs = tell(data, &loaded.set, &[&network.told], progress);
        let (images, clean) = match &request.clean {
            Some(CleanSet::Folder(folder)) => (clean_folder(request, folder, &loaded.set, progress)?, None),
            Some(CleanSet::Share(share)) => {
                (clean_share(request, *share, &loaded, truth.as_ref(), progress)?, None)
            }
            None => training_images(&loaded, truth.as_ref())?,
        };
        let evaluator = match (&loaded.set.test, truth.as_ref().or(trigger.as_ref())) {
            (Some(test), Some(attack)) => Some(attack.evaluator(test)?),
            (Some(test), None) => Some(Evaluator::new(test)),
            (None, _) => None,
        };
        if evaluator.is_none() {
            progress.log("the data has no test split: accuracy and attack success are not measured");
        }
        let clean_set = request.clean.is_some();
        let warnings: Vec<String> = few(images.len(), clean_set).into_iter().collect();
        warnings.iter().for_each(|warning| progress.log(&format!("warning: {warning}")));
        let taken = loaded.taken.clone();
        Ok((Self { set: loaded.set, images, taken, clean_set, clean, evaluator, warnings }, network, inputs))
    }

    /// Digests of what a run depends on beside its settings.
    pub fn digests(&self, network: &Network) -> Digests {
        let own = [("model_weights", network.told.digest.clone()), ("training_images", self.images.digest())];
        own.into_iter().chain(self.evaluator.iter().flat_map(Evaluator::digests)).collect()
    }

    /// Bytes of images that a run with `network` holds.
    pub fn bytes(&self, network: &Network, defense: &dyn Defense) -> ImageBytes {
        let made = defense.images_made(self.images.len(), self.clean_set) * network.graph.image_len();
        let test = self.set.test.as_ref().map_or(0, |test| test.pixels.len());
        let largest = self.images.pixels.len().max(test).max(made);
        ImageBytes { shared: self.in_memory() + made, largest }
    }

    fn in_memory(&self) -> usize {
        let test = self.set.test.as_ref().map_or(0, |test| test.pixels.len());
        let train = self.set.train.pixels.len();
        let own = if std::sync::Arc::ptr_eq(&self.set.train.pixels, &self.images.pixels) {
            0
        } else {
            self.images.pixels.len()
        };
        train + own + test + self.evaluator.as_ref().map_or(0, Evaluator::bytes)
    }
}

/// A warning where so many images are too few.
fn few(images: usize, clean_set: bool) -> Option<String> {
    let (least, kind) = (ENOUGH[usize::from(clean_set)], if clean_set { "clean" } else { "training" });
    (images < least).then(|| {
        format!(
            "{images} {kind} images are few: with less than {least} a purification costs much accuracy, or leaves the backdoor"
        )
    })
}

/// The training images as the model's owner has them, poisoned by `truth` unless they already are,
/// and which of them are clean.
pub fn training_images(loaded: &Loaded, truth: Option<&Truth>) -> Result<(ImageSet, Option<Vec<bool>>)> {
    let train = loaded.set.train.clone();
    let Some(truth) = truth else {
        return Ok((loaded.limited(train), None));
    };
    let clean = truth.clean(train.len())?;
    let clean = match &loaded.taken {
        Some(taken) => taken.iter().map(|&index| clean[index as usize]).collect(),
        None => clean,
    };
    Ok((loaded.limited(truth.apply(train)?), Some(clean)))
}

/// `--clean DIR`, with the labels of the data.
fn clean_folder(request: &Request, folder: &Path, set: &Dataset, progress: &Progress) -> Result<ImageSet> {
    let train = &set.train;
    let mut options = request.data.read.options(Some((train.height, train.width)), Some(train.channels))?;
    options.format = None;
    options.size = Some((train.height, train.width));
    let (images, skipped) = load_single(folder, &options, &|_, _| ())?;
    log_skipped(&skipped, progress);
    images.with_classes_of(&train.classes, folder)
}

/// `--clean SHARE` of data that is clean.
fn clean_share(
    request: &Request,
    share: f64,
    loaded: &Loaded,
    truth: Option<&Truth>,
    progress: &Progress,
) -> Result<ImageSet> {
    if let (Some(truth), Some(path)) = (truth, &request.poison)
        && truth.is_applied()
    {
        let cause = format!(
            "says that the data in {} is poisoned, and --clean {share} needs clean data; use --clean DIR",
            request.data.data.display()
        );
        return Err(Error::file(path, cause));
    }
    let train = loaded.limited(loaded.set.train.clone());
    let (taken, _) = stratified_sample(&train.labels, SampleSize::Fraction(share), request.compute.seed());
    if taken.is_empty() {
        return Err(Error::input(format!("--clean {share}: no image of {} is left", train.len())));
    }
    progress.log(&format!(
        "clean set: {} of the {} training images, as they are on disk",
        taken.len(),
        train.len()
    ));
    Ok(train.subset(&taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_images_are_warned_of() {
        assert!(few(4999, false).is_some_and(|text| text.contains("4999 training images are few")));
        assert_eq!((few(5000, false), few(500, true)), (None, None));
        assert!(few(499, true).is_some_and(|text| text.contains("499 clean images")));
    }
}
