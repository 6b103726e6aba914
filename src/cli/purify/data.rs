//! What a purification works on: the training images as their owner has them, or the clean set.

use pbe::backdoor::PoisonFile;
use pbe::data::{Dataset, ImageSet, SampleSize, load_single, stratified_sample};
use pbe::defense::config::PurifyConfig;
use pbe::error::{Error, Result};
use pbe::eval::Evaluator;

use super::PurifyArgs;
use crate::cli::common::{Loaded, log_skipped};
use crate::cli::memory::ImageBytes;
use crate::cli::open::{Model, Network};
use crate::cli::progress::Progress;

/// The data of a run.
pub struct Subject {
    /// As it lies on disk.
    pub set: Dataset,
    /// D_train, or the clean set.
    pub images: ImageSet,
    /// Whether `images` is known to be clean.
    pub clean_set: bool,
    /// Which of `images` are clean, where the truth is known; only for reporting.
    pub clean: Option<Vec<bool>>,
    /// What models are measured on, where there is a test split.
    pub evaluator: Option<Evaluator>,
}

impl Subject {
    /// Reads and prepares the data.
    pub fn load(args: &PurifyArgs, model: &Model, progress: &Progress) -> Result<Self> {
        let truth = args.poison.as_deref().map(PoisonFile::load).transpose()?;
        let trigger = args.trigger.as_deref().map(PoisonFile::load).transpose()?;
        let loaded = args.data.load(model.size(), model.channels(), args.compute.seed, progress)?;
        let (images, clean) = match (&args.clean, args.clean_fraction) {
            (Some(_), _) => (clean_folder(args, &loaded.set, progress)?, None),
            (None, Some(share)) => (clean_share(args, share, &loaded, truth.as_ref(), progress)?, None),
            (None, None) => suspect(&loaded, truth.as_ref())?,
        };
        let evaluator = match (&loaded.set.test, truth.as_ref().or(trigger.as_ref())) {
            (Some(test), Some(attack)) => Some(attack.evaluator(test)?),
            (Some(test), None) => Some(Evaluator::new(test)),
            (None, _) => None,
        };
        if evaluator.is_none() {
            progress.log("the data has no test split: accuracy and attack success are not measured");
        }
        let clean_set = args.clean_set();
        Ok(Self { set: loaded.set, images, clean_set, clean, evaluator })
    }

    /// Bytes of images that a run with `network` has to do with.
    pub fn bytes(&self, network: &Network, config: &PurifyConfig) -> ImageBytes {
        let attacked = match config.attack.limit {
            0 => self.images.len(),
            limit => limit.min(self.images.len()),
        };
        let examples = if config.attack.every_batch { 0 } else { attacked * network.graph.image_len() };
        let test = self.set.test.as_ref().map_or(0, |test| test.pixels.len());
        let largest = self.images.pixels.len().max(test).max(examples);
        let looks =
            if self.clean_set || config.views.is_empty() { 0 } else { config.first_size(self.images.len()) };
        ImageBytes { shared: self.in_memory() + looks * network.graph.image_len(), largest }
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

/// The training images as the suspect's owner has them, poisoned by `truth` unless they already are,
/// and which of them are clean.
pub fn suspect(loaded: &Loaded, truth: Option<&PoisonFile>) -> Result<(ImageSet, Option<Vec<bool>>)> {
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
fn clean_folder(args: &PurifyArgs, set: &Dataset, progress: &Progress) -> Result<ImageSet> {
    let Some(folder) = &args.clean else {
        return Err(Error::input("no clean folder"));
    };
    let train = &set.train;
    let mut options = args.data.read.options(Some((train.height, train.width)), Some(train.channels))?;
    options.format = None;
    options.size = Some((train.height, train.width));
    let (images, skipped) = load_single(folder, &options, &|_, _| ())?;
    log_skipped(&skipped, progress);
    images.with_classes_of(&train.classes, folder)
}

/// `--clean-fraction F` of data that is clean.
fn clean_share(
    args: &PurifyArgs,
    share: f64,
    loaded: &Loaded,
    truth: Option<&PoisonFile>,
    progress: &Progress,
) -> Result<ImageSet> {
    if let (Some(truth), Some(path)) = (truth, &args.poison)
        && truth.train.applied
    {
        let cause = format!(
            "says that the data in {} is poisoned, and --clean-fraction needs clean data; use --clean DIR",
            args.data.data.display()
        );
        return Err(Error::file(path, cause));
    }
    let train = loaded.limited(loaded.set.train.clone());
    let (taken, _) = stratified_sample(&train.labels, SampleSize::Fraction(share), args.compute.seed);
    if taken.is_empty() {
        return Err(Error::input(format!("--clean-fraction {share}: no image of {} is left", train.len())));
    }
    progress.log(&format!(
        "clean set: {} of the {} training images, as they are on disk",
        taken.len(),
        train.len()
    ));
    Ok(train.subset(&taken))
}
