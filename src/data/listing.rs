//! The files of an image folder, in the order that defines their indices.

use crate::error::{Error, Result};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// File name extensions of images; other files are ignored.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "ppm", "pgm"];

/// An image file of a split.
pub(super) struct ImageFile {
    pub path: PathBuf,
    /// Relative to the data folder, with `/`.
    pub name: String,
    /// Index into the split's classes.
    pub label: u32,
    /// Size, time of modification, time of change: whether the file was touched since.
    pub stamp: [i128; 3],
}

/// The classes (sorted by name) and files (by class, then by name) of one split.
pub(super) struct Listing {
    pub classes: Vec<String>,
    pub files: Vec<ImageFile>,
}

/// Whether `dir` holds images by class, directly or under `train/`.
pub(super) fn looks_like_classes(dir: &Path) -> Result<bool> {
    if dir.join("train").is_dir() {
        return Ok(true);
    }
    for class in folders(dir)? {
        if !images_under(&class)?.is_empty() {
            return Ok(true);
        }
    }
    let direct = entries(dir)?.iter().any(|path| is_image(path));
    if direct {
        return Err(Error::file(dir, "images lie directly in the folder: one folder per class is expected"));
    }
    Ok(false)
}

/// Tiny-ImageNet's list of validation images: file, class, box, with white space between.
pub(super) const ANNOTATIONS: &str = "val_annotations.txt";

/// Lists a split: `split` is a folder of class folders at or under the data folder `root`.
///
/// Tiny-ImageNet's `val/`, where all images are in one folder and [`ANNOTATIONS`] has the classes,
/// is listed as if its images were sorted into class folders.
pub(super) fn list(root: &Path, split: &Path) -> Result<Listing> {
    if split.join(ANNOTATIONS).is_file() {
        return list_annotated(root, split);
    }
    let folders = folders(split)?;
    let classes: Vec<String> = folders.iter().map(|folder| file_name(folder)).collect();
    let files: Result<Vec<Vec<ImageFile>>> = folders
        .par_iter()
        .enumerate()
        .map(|(label, folder)| {
            images_under(folder)?.into_iter().map(|path| found(root, path, label as u32)).collect()
        })
        .collect();
    let files: Vec<ImageFile> = files?.into_iter().flatten().collect();
    if files.is_empty() {
        return Err(Error::file(split, "no image in it (JPEG, PNG, PPM or PGM, one folder per class)"));
    }
    Ok(Listing { classes, files })
}

fn list_annotated(root: &Path, split: &Path) -> Result<Listing> {
    let path = split.join(ANNOTATIONS);
    let text = fs::read_to_string(&path).map_err(|cause| Error::file(&path, cause))?;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut fields = line.split_whitespace();
        let (Some(file), Some(class)) = (fields.next(), fields.next()) else {
            return Err(Error::file(&path, format!("line {}: no file and class", number + 1)));
        };
        lines.push((class.to_string(), split.join("images").join(file)));
    }
    list_labelled(root, lines)
}

/// Lists files whose classes come from a table.
pub(super) fn list_labelled(root: &Path, mut files: Vec<(String, PathBuf)>) -> Result<Listing> {
    files.sort_unstable();
    let mut classes: Vec<String> = files.iter().map(|(class, _)| class.clone()).collect();
    classes.dedup();
    let label = |class: &String| classes.partition_point(|other| other < class) as u32;
    let files: Result<Vec<ImageFile>> =
        files.par_iter().map(|(class, path)| found(root, path.clone(), label(class))).collect();
    Ok(Listing { files: files?, classes })
}

fn found(root: &Path, path: PathBuf, label: u32) -> Result<ImageFile> {
    let metadata = fs::metadata(&path).map_err(|cause| Error::file(&path, cause))?;
    let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.map_or(0, |since| since.as_nanos() as i128);
    Ok(ImageFile { path, name, label, stamp: [i128::from(metadata.len()), modified, changed(&metadata)] })
}

/// When the file's metadata last changed: unlike the time of modification, unpacking an archive
/// can't set it back.
#[cfg(unix)]
fn changed(metadata: &fs::Metadata) -> i128 {
    use std::os::unix::fs::MetadataExt;
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_: &fs::Metadata) -> i128 {
    0
}

/// The images of a class folder and of the folders right inside it (`images/` in Tiny-ImageNet).
fn images_under(class: &Path) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for path in entries(class)? {
        if is_image(&path) {
            images.push(path);
        } else if path.is_dir() {
            images.extend(entries(&path)?.into_iter().filter(|path| is_image(path)));
        }
    }
    images.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(images)
}

/// The folders in `dir`, sorted by name.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = entries(dir)?.into_iter().filter(|path| path.is_dir()).collect();
    folders.sort_unstable_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(folders)
}

/// What is in `dir`, hidden entries left out, in no order.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(|cause| Error::file(dir, cause))? {
        let path = entry.map_err(|cause| Error::file(dir, cause))?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
