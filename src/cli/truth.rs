//! What is known about an attack: a poison.json, or BackdoorBench's record of it.

use std::path::Path;

use pbe::backdoor::{BenchRecord, PoisonFile};
use pbe::data::ImageSet;
use pbe::error::Result;
use pbe::eval::Evaluator;

/// The truth about a training set and a trigger.
pub enum Truth {
    File(PoisonFile),
    Record(BenchRecord),
}

impl Truth {
    pub fn load(path: &Path) -> Result<Self> {
        if BenchRecord::is_one(path) {
            return BenchRecord::load(path).map(Self::Record);
        }
        PoisonFile::load(path).map(Self::File)
    }

    /// The training images as the model's owner has them.
    pub fn apply(&self, images: ImageSet) -> Result<ImageSet> {
        match self {
            Self::File(file) => file.apply(images),
            Self::Record(record) => record.apply(images),
        }
    }

    /// For each of `images` training images, whether it is clean.
    pub fn clean(&self, images: usize) -> Result<Vec<bool>> {
        match self {
            Self::File(file) => file.clean(images),
            Self::Record(record) => Ok(record.clean(images)),
        }
    }

    /// Measures models on `images` without and with the trigger.
    pub fn evaluator(&self, images: &ImageSet) -> Result<Evaluator> {
        match self {
            Self::File(file) => file.evaluator(images),
            Self::Record(record) => record.evaluator(images),
        }
    }

    /// Whether the images on disk are poisoned already.
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::File(file) if file.train.applied)
    }
}
