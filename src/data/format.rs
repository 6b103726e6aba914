//! The format of a data folder: named by the user, or recognised from its files.

use super::{Dataset, ImageSet, Normalisation, cifar, classes, gtsrb, idx, listing, synthetic};
use crate::error::{Error, Result};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A data format; its text form is the value of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `train/<class>/*` with `test/` or `val/`, or a bare folder of classes.
    Folder,
    /// `data_batch_*.bin`, `test_batch.bin`.
    Cifar10,
    /// `train.bin`, `test.bin` with coarse and fine labels.
    Cifar100,
    /// German traffic signs as they are published: `Train.csv`, or PPM files with `GT-*.csv`.
    Gtsrb,
    /// MNIST's files, with or without gzip.
    Idx,
    /// Drawn, not read: `synthetic:`, `synthetic:per_class=200,seed=1`.
    Synthetic,
}

const NAMES: [(Format, &str); 6] = [
    (Format::Folder, "folder"),
    (Format::Cifar10, "cifar10"),
    (Format::Cifar100, "cifar100"),
    (Format::Gtsrb, "gtsrb"),
    (Format::Idx, "idx"),
    (Format::Synthetic, "synthetic"),
];

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(format, _)| format == self).map_or("", |(_, name)| name);
        out.pad(name)
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        NAMES.iter().find(|(_, name)| *name == text).map(|(format, _)| *format).ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|(_, name)| *name).collect();
            Error::input(format!("unknown format `{text}`: it is one of {}", known.join(", ")))
        })
    }
}

impl Format {
    /// The usual input normalisation of a set of this format.
    pub(super) fn normalisation(self, train: &ImageSet) -> Normalisation {
        if train.channels == 1 {
            return Normalisation::for_mnist(1);
        }
        match self {
            Format::Cifar10 => Normalisation::for_cifar10(),
            Format::Cifar100 => Normalisation::for_cifar100(),
            Format::Idx => Normalisation::for_mnist(train.channels),
            Format::Folder if is_cifar10(train) => Normalisation::for_cifar10(),
            Format::Folder if is_tiny_imagenet(train) => Normalisation::for_tiny_imagenet(),
            Format::Synthetic => synthetic::normalisation(train.channels),
            Format::Folder | Format::Gtsrb => Normalisation::identity(train.channels),
        }
    }
}

impl Dataset {
    /// Whether training may flip images horizontally. Not digits, letters and clothes (IDX files), nor traffic
    /// signs (GTSRB: 43 classes named by numbers, 00000 or 0 to 42): some mean another class when flipped.
    pub fn allows_flip(&self) -> bool {
        let classes = &self.train.classes;
        let is_sign = |class: &String| class.parse().is_ok_and(|sign: u32| sign < 43);
        let signs = self.format == Format::Gtsrb || (classes.len() == 43 && classes.iter().all(is_sign));
        !signs && self.format != Format::Idx
    }
}

/// Whether the classes are CIFAR-10's, by whatever names.
fn is_cifar10(train: &ImageSet) -> bool {
    train.classes.len() == 10 && train.classes.iter().all(|class| classes::cifar10_label(class).is_some())
}

/// Whether the classes are named like WordNet's: n and eight digits.
fn is_tiny_imagenet(train: &ImageSet) -> bool {
    train.classes.iter().all(|class| {
        class.len() == 9 && class.starts_with('n') && class.bytes().skip(1).all(|byte| byte.is_ascii_digit())
    })
}

/// The format of `dir`: what was asked for, else what its files look like.
pub(super) fn recognise(dir: &Path, asked: Option<Format>) -> Result<Format> {
    if asked == Some(Format::Synthetic) || (asked.is_none() && synthetic::is_specification(dir)) {
        return Ok(Format::Synthetic);
    }
    let metadata = std::fs::metadata(dir).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => Error::file(dir, "no such folder"),
        _ => Error::file(dir, cause),
    })?;
    if !metadata.is_dir() {
        return Err(Error::file(dir, "a file, where a data folder is expected"));
    }
    let mut entries = std::fs::read_dir(dir).map_err(|cause| Error::file(dir, cause))?;
    if entries.next().is_none() {
        return Err(Error::file(dir, "the folder is empty"));
    }
    if let Some(format) = asked {
        return Ok(format);
    }
    if cifar::find(dir, &cifar::CIFAR10).is_some() {
        Ok(Format::Cifar10)
    } else if cifar::find(dir, &cifar::CIFAR100).is_some() {
        Ok(Format::Cifar100)
    } else if idx::find(dir) {
        Ok(Format::Idx)
    } else if gtsrb::find(dir) {
        Ok(Format::Gtsrb)
    } else if looks_like_classes(dir)? {
        Ok(Format::Folder)
    } else {
        Err(Error::file(
            dir,
            "no known data format: looked for folders of images by class (train/<class>/ or <class>/, with \
             JPEG, PNG, PNM, BMP, TIFF, WebP or GIF files), CIFAR-10 (data_batch_1.bin), CIFAR-100 (train.bin), GTSRB \
             (Train.csv, or Train/ with GT-*.csv) and IDX (train-images-idx3-ubyte, .gz)",
        ))
    }
}

/// Whether `dir` holds images in folders.
fn looks_like_classes(dir: &Path) -> Result<bool> {
    let folders = listing::entries(dir)?.folders;
    if folders.iter().any(|folder| listing::has_image(folder)) {
        return Ok(true);
    }
    if listing::has_direct_image(dir) {
        return Err(Error::file(dir, "images lie directly in the folder: one folder per class is expected"));
    }
    Ok(false)
}
