//! CIFAR-10 and CIFAR-100 in their binary form.
//!
//! A record is one label byte (CIFAR-100: coarse, then fine) and 3,072 bytes: the red, green and
//! blue planes of a 32x32 image, row by row.

use super::{ImageSet, Splits};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const PIXELS: usize = 3 * PLANE;

/// CIFAR-10's classes in the order of their labels.
pub(super) const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// How a CIFAR set is laid out on disk.
pub(super) struct CifarFormat {
    /// The folder its archive unpacks to.
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    /// One class name per line.
    names: &'static str,
    /// Names where there is no such file; empty: numbers.
    known: &'static [&'static str],
    classes: usize,
    /// Label bytes of a record; the last one counts.
    label_bytes: usize,
    /// Records of a training file as published.
    train_records: u64,
    /// Records of the test file as published.
    test_records: u64,
}

pub(super) const CIFAR10: CifarFormat = CifarFormat {
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    names: "batches.meta.txt",
    known: &CIFAR10_CLASSES,
    classes: 10,
    label_bytes: 1,
    train_records: 10_000,
    test_records: 10_000,
};

pub(super) const CIFAR100: CifarFormat = CifarFormat {
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    names: "fine_label_names.txt",
    known: &[],
    classes: 100,
    label_bytes: 2,
    train_records: 50_000,
    test_records: 10_000,
};

/// The folder that holds the set's training files: `dir` or the archive's folder in it.
pub(super) fn find(dir: &Path, layout: &CifarFormat) -> Option<PathBuf> {
    [dir.to_path_buf(), dir.join(layout.folder)]
        .into_iter()
        .find(|base| layout.train.iter().any(|name| base.join(name).is_file()))
}

/// Reads the set at or under `dir`.
pub(super) fn load(dir: &Path, layout: &CifarFormat, with_test: bool) -> Result<Splits> {
    let Some(base) = find(dir, layout) else {
        return Err(Error::file(dir, format!("no {} in it", layout.train[0])));
    };
    let present = layout.train.iter().rposition(|name| base.join(name).is_file()).unwrap_or(0);
    let train: Vec<PathBuf> = layout.train[..=present].iter().map(|name| base.join(name)).collect();
    let test = Some(base.join(layout.test)).filter(|test| with_test && test.is_file());
    check_lengths(&train, test.as_deref(), layout)?;
    let classes = Arc::new(class_names(&base, layout)?);
    let read = |files: &[PathBuf]| read_files(dir, files, layout, &classes);
    let test = test.map(|test| read(&[test])).transpose()?;
    Ok(Splits { train: read(&train)?, test })
}

/// Every file must hold whole records; where one file of the set is as long as published, all are.
fn check_lengths(train: &[PathBuf], test: Option<&Path>, layout: &CifarFormat) -> Result<()> {
    let record = (layout.label_bytes + PIXELS) as u64;
    let mut files = Vec::new();
    for (path, records) in train
        .iter()
        .map(|path| (path.as_path(), layout.train_records))
        .chain(test.map(|path| (path, layout.test_records)))
    {
        let length = fs::metadata(path).map_err(|cause| Error::file(path, cause))?.len();
        files.push((path, records, length));
    }
    let published = files.iter().any(|&(_, records, length)| length == records * record);
    for (path, records, length) in files {
        let wrong = if published { length != records * record } else { length % record != 0 || length == 0 };
        if wrong {
            let cause = if length < records * record { "truncated" } else { "too long" };
            return Err(Error::file(
                path,
                format!(
                    "{cause}: expected {} bytes ({records} records of {record}), found {length}",
                    records * record
                ),
            ));
        }
    }
    Ok(())
}

fn class_names(base: &Path, layout: &CifarFormat) -> Result<Vec<String>> {
    let path = base.join(layout.names);
    if !path.is_file() {
        return Ok(match layout.known {
            [] => super::numbered_classes(layout.classes),
            known => known.iter().map(ToString::to_string).collect(),
        });
    }
    let text = fs::read_to_string(&path).map_err(|cause| Error::file(&path, cause))?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect();
    if names.len() != layout.classes {
        let cause = format!("{} class names, expected {}", names.len(), layout.classes);
        return Err(Error::file(path, cause));
    }
    Ok(names)
}

fn read_files(
    dir: &Path,
    files: &[PathBuf],
    layout: &CifarFormat,
    classes: &Arc<Vec<String>>,
) -> Result<ImageSet> {
    let record = layout.label_bytes + PIXELS;
    let (mut pixels, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for path in files {
        let bytes = fs::read(path).map_err(|cause| Error::file(path, cause))?;
        let name = path.strip_prefix(dir).unwrap_or(path).to_string_lossy();
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            let label = record[layout.label_bytes - 1];
            if usize::from(label) >= layout.classes {
                let cause = format!("label {label} in record {index} is not in 0..{}", layout.classes);
                return Err(Error::file(path, cause));
            }
            labels.push(u32::from(label));
            names.push(format!("{name}#{index}"));
        }
        let start = pixels.len();
        pixels.resize(labels.len() * PIXELS, 0);
        pixels[start..]
            .par_chunks_exact_mut(PIXELS)
            .zip(bytes.par_chunks_exact(record))
            .for_each(|(out, record)| interleave(&record[layout.label_bytes..], out));
    }
    Ok(ImageSet {
        pixels: Arc::new(pixels),
        labels: Arc::new(labels),
        names: Arc::new(names),
        classes: Arc::clone(classes),
        height: SIDE,
        width: SIDE,
        channels: 3,
    })
}

/// Three planes to pixels of three bytes.
fn interleave(planes: &[u8], out: &mut [u8]) {
    for (at, pixel) in out.chunks_exact_mut(3).enumerate() {
        pixel.copy_from_slice(&[planes[at], planes[PLANE + at], planes[2 * PLANE + at]]);
    }
}
