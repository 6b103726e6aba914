//! IDX, the format of MNIST and Fashion-MNIST, with or without gzip.
//!
//! Big-endian: images have the magic number 0x00000803, then count, rows and columns, then a byte
//! per pixel; labels have 0x00000801, a count, and a byte per label.

use super::{ImageSet, Splits};
use crate::error::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// Images of a file at most. The largest known set, EMNIST, has 814,255.
const MOST_RECORDS: usize = 1 << 22;
/// Rows and columns of an image at most.
const LARGEST_SIDE: usize = 4096;
/// Bytes of a file at most, unpacked.
const MOST_BYTES: usize = 2 << 30;

/// Whether `dir` has training images in this format.
pub(super) fn find(dir: &Path) -> bool {
    locate(dir, "train", "images", 3).is_some()
}

/// Reads the set in `dir`: grey, one channel. Classes are numbered.
pub(super) fn load(dir: &Path, with_test: bool) -> Result<Splits> {
    let train = IdxSplit::read(dir, "train")?
        .ok_or_else(|| Error::file(dir, "no train-images-idx3-ubyte(.gz) in it"))?;
    let test = if with_test { IdxSplit::read(dir, "t10k")? } else { None };
    let classes = train.labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    train.check_classes(classes)?;
    let names = Arc::new(super::numbered_classes(classes));
    if let Some(test) = &test {
        test.check_against(&train, classes)?;
    }
    Ok(Splits { train: train.into_images(&names), test: test.map(|test| test.into_images(&names)) })
}

/// Images and labels of `train` or `t10k`.
struct IdxSplit {
    images_path: PathBuf,
    labels_path: PathBuf,
    pixels: Vec<u8>,
    labels: Vec<u8>,
    height: usize,
    width: usize,
}

impl IdxSplit {
    fn read(dir: &Path, split: &str) -> Result<Option<IdxSplit>> {
        let Some(images_path) = locate(dir, split, "images", 3) else { return Ok(None) };
        let labels_path = locate(dir, split, "labels", 1).ok_or_else(|| {
            Error::file(dir, format!("has {split}-images-idx3-ubyte but no {split}-labels-idx1-ubyte(.gz)"))
        })?;
        let (shape, pixels) = read_file::<3>(&images_path, IMAGES, "images")?;
        let (count, labels) = read_file::<1>(&labels_path, LABELS, "labels")?;
        if shape[0] != count[0] {
            let cause =
                format!("{} labels for the {} images of {}", count[0], shape[0], images_path.display());
            return Err(Error::file(labels_path, cause));
        }
        if pixels.is_empty() {
            return Err(Error::file(images_path, "no image in it"));
        }
        Ok(Some(IdxSplit { images_path, labels_path, pixels, labels, height: shape[1], width: shape[2] }))
    }

    /// A damaged label byte would add classes without images. (Class 0 may be empty: EMNIST's letters count
    /// from 1.)
    fn check_classes(&self, classes: usize) -> Result<()> {
        let Some(missing) = (1..classes).find(|&class| !self.labels.contains(&(class as u8))) else {
            return Ok(());
        };
        let index = self.labels.iter().position(|&label| usize::from(label) > missing).unwrap_or(0);
        let cause = format!(
            "label {} in record {index} is out of range: no image is of class {missing}",
            self.labels[index]
        );
        Err(Error::file(&self.labels_path, cause))
    }

    fn check_against(&self, train: &IdxSplit, classes: usize) -> Result<()> {
        if let Some(index) = self.labels.iter().position(|&label| usize::from(label) >= classes) {
            let cause = format!(
                "label {} in record {index} is not a class of the training split (0..{classes})",
                self.labels[index]
            );
            return Err(Error::file(&self.labels_path, cause));
        }
        if (self.height, self.width) != (train.height, train.width) {
            let cause = format!(
                "{}x{} images, but {} has {}x{}",
                self.width,
                self.height,
                train.images_path.display(),
                train.width,
                train.height
            );
            return Err(Error::file(&self.images_path, cause));
        }
        Ok(())
    }

    fn into_images(self, classes: &Arc<Vec<String>>) -> ImageSet {
        let name = self.images_path.file_name().unwrap_or_default().to_string_lossy();
        ImageSet {
            pixels: Arc::new(self.pixels),
            names: Arc::new((0..self.labels.len()).map(|index| format!("{name}#{index}")).collect()),
            labels: Arc::new(self.labels.iter().map(|&label| u32::from(label)).collect()),
            classes: Arc::clone(classes),
            height: self.height,
            width: self.width,
            channels: 1,
        }
    }
}

/// `train-images-idx3-ubyte` and its variants: a dot for the second hyphen, `.gz`.
fn locate(dir: &Path, split: &str, what: &str, rank: u32) -> Option<PathBuf> {
    ["-", "."]
        .iter()
        .flat_map(|mark| ["", ".gz"].map(|gz| dir.join(format!("{split}-{what}{mark}idx{rank}-ubyte{gz}"))))
        .find(|path| path.is_file())
}

/// The dimensions and bytes of an IDX file of `RANK` dimensions.
fn read_file<const RANK: usize>(path: &Path, magic: u32, what: &str) -> Result<([usize; RANK], Vec<u8>)> {
    let mut reader = open(path)?;
    let mut word = || -> Result<u32> {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(|cause| unreadable(path, &cause, "the header"))?;
        Ok(u32::from_be_bytes(bytes))
    };
    let found = word()?;
    if found != magic {
        let cause = format!("wrong magic number 0x{found:08x}, expected 0x{magic:08x} (IDX {what})");
        return Err(Error::file(path, cause));
    }
    let mut shape = [0; RANK];
    for side in &mut shape {
        *side = word()? as usize;
    }
    let expected = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    // Packed, a file of some kilobytes may unpack to any size.
    let fits = shape[0] <= MOST_RECORDS && shape[1..].iter().all(|&side| side <= LARGEST_SIDE);
    let Some(expected) = expected.filter(|&expected| fits && expected <= MOST_BYTES) else {
        return Err(Error::file(
            path,
            format!("impossible dimensions {shape:?}: {MOST_RECORDS} {what} and {MOST_BYTES} bytes are read"),
        ));
    };
    let mut bytes = Vec::new();
    // One byte more than promised is enough to notice that there are more.
    let limit = (expected as u64).saturating_add(1);
    reader.take(limit).read_to_end(&mut bytes).map_err(|cause| unreadable(path, &cause, "the data"))?;
    if bytes.len() != expected {
        let found = if bytes.len() > expected { "more".into() } else { bytes.len().to_string() };
        return Err(Error::file(path, format!("expected {expected} bytes of {what}, found {found}")));
    }
    Ok((shape, bytes))
}

/// The file, unpacked where it begins as gzip does.
fn open(path: &Path) -> Result<Box<dyn Read>> {
    let mut start = [0; 2];
    let open = || File::open(path).map_err(|cause| Error::file(path, cause));
    let read = open()?.read(&mut start).map_err(|cause| Error::file(path, cause))?;
    let reader = BufReader::new(open()?);
    Ok(if read == 2 && start == [0x1f, 0x8b] {
        Box::new(MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    })
}

fn unreadable(path: &Path, cause: &std::io::Error, what: &str) -> Error {
    match cause.kind() {
        ErrorKind::UnexpectedEof => Error::file(path, format!("truncated: the file ends within {what}")),
        _ => Error::file(path, format!("{what} can't be read: {cause}")),
    }
}
