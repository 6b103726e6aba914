//! Images in memory and the formats they come from.
//!
//! [`load`] recognises image folders, CIFAR-10/100 binary batches, GTSRB's layouts and IDX files, and
//! draws a synthetic set. Images come out as `u8` NHWC, resized to the model's input, in an order that is a
//! function of the data alone: that order is the index order of `poison.json`.

mod cache;
mod cifar;
mod classes;
mod decode;
mod folder;
mod format;
mod gtsrb;
mod idx;
mod image_set;
mod kinds;
mod listing;
pub mod normalisation;
mod parts;
mod resize;
mod sample;
mod scene;
mod synthetic;
mod write;

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

pub use cache::{LARGEST_CACHE, cache};
pub use classes::ClassOrder;
pub(crate) use decode::open as open_image;
pub use format::Format;
pub use image_set::ImageSet;
pub use kinds::LeftOut;
pub use normalisation::{Normalisation, NormalisationChoice};
pub use sample::{SampleSize, stratified_sample};
pub use synthetic::synthetic;
pub use write::{png, write_folder};

/// Rows and columns of an image at most.
pub const LARGEST_SIDE: usize = 65_535;

/// Height and width as model files have them: `32x32`, each from 1 to [`LARGEST_SIDE`].
pub(crate) fn parse_size(text: &str) -> Option<(usize, usize)> {
    let side = |text: &str| text.parse().ok().filter(|side| (1..=LARGEST_SIDE).contains(side));
    let (height, width) = text.split_once('x')?;
    Some((side(height)?, side(width)?))
}

/// What to read, and as what.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The format; recognised from the files where `None`.
    pub format: Option<Format>,
    /// Height and width to resize to: those of the model. `None` keeps the images' own.
    pub size: Option<(usize, usize)>,
    /// 1 or 3. `None`: 3, or 1 where every training image is grey.
    pub channels: Option<usize>,
    /// Leave out files that can't be decoded instead of failing; they are listed.
    pub skip_bad: bool,
    /// Take about this many training images, class proportions kept.
    pub limit: Option<usize>,
    /// Decides which images `limit` takes.
    pub seed: u64,
    /// Keep decoded image folders in a cache, and read them from there.
    pub cache: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let (format, size, channels, limit) = (None, None, None, None);
        Self { format, size, channels, skip_bad: false, limit, seed: 0, cache: true }
    }
}

/// Training and test images of one data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The training split.
    pub train: ImageSet,
    /// The test split, where there is one; same size, channels and classes as `train`.
    pub test: Option<ImageSet>,
    /// What it was read as.
    pub format: Format,
    /// Files left out because of `skip_bad`, each with the cause.
    pub skipped: Vec<String>,
    /// The set's usual input normalisation (BackdoorBench's). An image folder has CIFAR-10's or
    /// Tiny-ImageNet's where its class names say so, else the identity. A grey set of any format has
    /// MNIST's; the synthetic set its own.
    pub normalisation: Normalisation,
    /// In which order the classes may be counted; the first is the one of the labels. One where it is settled.
    pub orders: Vec<ClassOrder>,
    /// The folders that the parts of an image folder were read from, relative to it: training, test.
    pub folders: [Option<String>; 2],
    /// What lies among the images and is no image that can be read.
    pub left_out: LeftOut,
}

impl Dataset {
    /// Training images from memory, whose classes are counted as they are.
    pub fn of(train: ImageSet) -> Self {
        let order = ClassOrder { from: "the labels".into(), classes: train.classes.to_vec() };
        Self {
            normalisation: Format::Folder.normalisation(&train),
            train,
            test: None,
            format: Format::Folder,
            skipped: vec![],
            orders: vec![order],
            folders: Default::default(),
            left_out: LeftOut::default(),
        }
    }
}

/// Called with (images done, images in all), from any thread.
pub type ProgressFn<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Reads the data set at `dir`, or draws the one that `synthetic:...` describes.
///
/// # Errors
/// Names the file and the cause: a folder that is absent, empty or in no known format; a file that
/// can't be decoded (unless `skip_bad`); a training split with fewer than two classes; a test split
/// with a class that the training split lacks.
pub fn load(dir: &Path, options: &LoadOptions, progress: ProgressFn) -> Result<Dataset> {
    let loaded = load_splits(dir, options, true, progress)?;
    check_training(dir, &loaded.train)?;
    Ok(loaded)
}

/// Reads one set, such as `--clean DIR`: a bare folder of classes, or the training split of any
/// format. A single class or image is allowed; see [`ImageSet::with_classes_of`] to bring the labels
/// into line with those of another set. Returns the images and the files that `skip_bad` left out.
///
/// # Errors
/// As [`load`].
pub fn load_single(
    dir: &Path,
    options: &LoadOptions,
    progress: ProgressFn,
) -> Result<(ImageSet, Vec<String>)> {
    let loaded = load_splits(dir, options, false, progress)?;
    Ok((loaded.train, loaded.skipped))
}

/// The pixels of image files, brought to the size and the channels of `like`.
///
/// # Errors
/// A file that can't be read or decoded.
pub fn read_images(files: &[PathBuf], like: &ImageSet) -> Result<Vec<u8>> {
    folder::read_files(files, (like.height, like.width), like.channels)
}

/// Whether `dir` holds images without labels: directly, or in one folder that is no part of a set.
pub fn is_unlabelled(dir: &Path) -> bool {
    parts::is_unlabelled(dir)
}

/// Reads the images in a folder, at any depth and without labels: all get the label 0 of one class.
///
/// # Errors
/// As [`load`].
pub fn load_unlabelled(dir: &Path, options: &LoadOptions, progress: ProgressFn) -> Result<Dataset> {
    check_options(options)?;
    folder::load_flat(dir, options, progress)
}

fn load_splits(dir: &Path, options: &LoadOptions, with_test: bool, progress: ProgressFn) -> Result<Dataset> {
    check_options(options)?;
    let format = format::recognise(dir, options.format)?;
    let loaded = match format {
        Format::Folder | Format::Gtsrb => {
            let cache = cache::default_folder().filter(|_| options.cache);
            return folder::load(dir, format, options, with_test, cache.as_deref(), progress);
        }
        Format::Cifar10 => cifar::load(dir, &cifar::CIFAR10, with_test)?,
        Format::Cifar100 => cifar::load(dir, &cifar::CIFAR100, with_test)?,
        Format::Idx => idx::load(dir, with_test)?,
        Format::Synthetic => synthetic::load(dir, with_test)?,
    };
    let train = match options.limit {
        Some(limit) => loaded
            .train
            .subset(&stratified_sample(&loaded.train.labels, SampleSize::Count(limit), options.seed).0),
        None => loaded.train,
    };
    let fit = |images: ImageSet| resize::fit(images, options.size, options.channels);
    let (train, test) = (fit(train)?, loaded.test.map(fit).transpose()?);
    let total = train.len() + test.as_ref().map_or(0, ImageSet::len);
    progress(total, total);
    let normalisation = format.normalisation(&train);
    let orders = vec![ClassOrder { from: "the format".into(), classes: train.classes.to_vec() }];
    Ok(Dataset {
        train,
        test,
        format,
        skipped: Vec::new(),
        normalisation,
        orders,
        folders: Default::default(),
        left_out: LeftOut::default(),
    })
}

/// The parts of a format that is read whole, before `limit`, size and channels are applied.
struct Splits {
    train: ImageSet,
    test: Option<ImageSet>,
}

fn check_options(options: &LoadOptions) -> Result<()> {
    if let Some((height, width)) = options.size
        && (height.min(width) == 0 || height.max(width) > LARGEST_SIDE)
    {
        return Err(Error::input(format!(
            "image size {height}x{width}: both sides must be from 1 to {LARGEST_SIDE}"
        )));
    }
    if let Some(channels) = options.channels
        && !matches!(channels, 1 | 3)
    {
        return Err(Error::input(format!("{channels} channels: images have 1 or 3")));
    }
    if options.limit == Some(0) {
        return Err(Error::input("limit 0: no training image would be left"));
    }
    Ok(())
}

/// A training set needs at least two classes.
fn check_training(dir: &Path, train: &ImageSet) -> Result<()> {
    if train.len() == 1 {
        return Err(Error::file(dir, "one image: a training set needs at least two classes"));
    }
    let mut present = train.labels.iter().map(|&label| &train.classes[label as usize]);
    if let Some(first) = present.next()
        && present.all(|class| class == first)
    {
        return Err(Error::file(dir, format!("one class (`{first}`): nothing to classify")));
    }
    Ok(())
}

/// Class names of a format that only numbers them, with leading zeros so that they sort.
fn numbered_classes(count: usize) -> Vec<String> {
    let digits = count.saturating_sub(1).to_string().len();
    (0..count).map(|class| format!("{class:0digits$}")).collect()
}

/// Counts images across threads and reports to the caller.
struct Counter<'a> {
    done: AtomicUsize,
    total: usize,
    progress: ProgressFn<'a>,
}

impl<'a> Counter<'a> {
    fn new(total: usize, progress: ProgressFn<'a>) -> Self {
        Self { done: AtomicUsize::new(0), total, progress }
    }

    fn add(&self, images: usize) {
        let done = self.done.fetch_add(images, Ordering::Relaxed) + images;
        (self.progress)(done, self.total);
    }
}
