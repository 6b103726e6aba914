//! The files of an image folder, in the order that defines their indices.

use super::kinds::{FileKind, KINDS, LeftOut, kind};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

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
    pub left_out: LeftOut,
}

/// Tiny-ImageNet's list of validation images: file, class, box, with white space between.
pub(super) const ANNOTATIONS: &str = "val_annotations.txt";

/// Lists a split: `split` is a folder of class folders at or under the data folder `root`. Images may lie at any depth
/// below a class.
pub(super) fn list(root: &Path, split: &Path) -> Result<Listing> {
    let Entries { folders, files: stray } = entries(split)?;
    let walks: Result<Vec<Walk>> = folders.par_iter().map(|folder| Walk::of(folder)).collect();
    let mut left_out = LeftOut::default();
    for path in stray {
        match kind(&path) {
            FileKind::Image => left_out.add(&path, " outside the class folders"),
            FileKind::Unknown => left_out.add_unknown(path),
            FileKind::Other => left_out.add(&path, ""),
        }
    }
    let mut images = vec![];
    for (label, walk) in walks?.into_iter().enumerate() {
        left_out.merge(walk.left_out);
        images.extend(walk.images.into_iter().map(|path| (path, label as u32)));
    }
    let classes = folders.iter().map(|folder| file_name(folder)).collect();
    let files: Result<Vec<ImageFile>> =
        images.into_par_iter().map(|(path, label)| found(root, path, label)).collect();
    let files = files?;
    if files.is_empty() {
        let unknown =
            left_out.unknown.first().map(|path| format!("; {} is of no kind that is read", path.display()));
        let unknown = unknown.unwrap_or_default();
        return Err(Error::file(split, format!("no image in it ({KINDS}; one folder per class){unknown}")));
    }
    Ok(Listing { classes, files, left_out })
}

/// Lists images that lie in `folder` at any depth, without classes.
pub(super) fn list_flat(folder: &Path) -> Result<Listing> {
    let Walk { images, left_out } = Walk::of(folder)?;
    let files: Result<Vec<ImageFile>> = images.into_par_iter().map(|path| found(folder, path, 0)).collect();
    let files = files?;
    if files.is_empty() {
        return Err(Error::file(folder, format!("no image in it ({KINDS})")));
    }
    Ok(Listing { classes: vec![String::new()], files, left_out })
}

/// Lists Tiny-ImageNet's `val/`, where all images are in one folder and [`ANNOTATIONS`] has the classes.
pub(super) fn list_annotated(root: &Path, split: &Path) -> Result<Listing> {
    let path = split.join(ANNOTATIONS);
    let text = fs::read_to_string(&path).map_err(|cause| Error::file(&path, cause))?;
    let mut lines = Vec::new();
    let numbered = text.trim_start_matches('\u{feff}').lines().enumerate();
    for (number, line) in numbered.filter(|(_, line)| !line.trim().is_empty()) {
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
    Ok(Listing { files: files?, classes, left_out: LeftOut::default() })
}

pub(super) fn found(root: &Path, path: PathBuf, label: u32) -> Result<ImageFile> {
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

/// The images below a folder, sorted by path, and what lies among them.
#[derive(Default)]
struct Walk {
    images: Vec<PathBuf>,
    left_out: LeftOut,
}

impl Walk {
    fn of(folder: &Path) -> Result<Self> {
        let mut walk = Self::default();
        walk.enter(folder, 0)?;
        walk.images.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
        Ok(walk)
    }

    fn enter(&mut self, folder: &Path, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::file(
                folder,
                format!("{DEEPEST} folders within each other: a link to one above?"),
            ));
        }
        let Entries { folders, files } = entries(folder)?;
        for path in files {
            match kind(&path) {
                FileKind::Image => self.images.push(path),
                FileKind::Other => self.left_out.add(&path, ""),
                FileKind::Unknown => self.left_out.add_unknown(path),
            }
        }
        folders.iter().try_for_each(|folder| self.enter(folder, depth + 1))
    }
}

/// Whether an image lies below `folder`.
pub(super) fn has_image(folder: &Path) -> bool {
    fn any(folder: &Path, depth: usize) -> bool {
        let Ok(Entries { folders, files }) = entries(folder) else { return false };
        files.iter().any(|path| kind(path) == FileKind::Image)
            || (depth < DEEPEST && folders.iter().any(|folder| any(folder, depth + 1)))
    }
    any(folder, 0)
}

/// Whether an image lies in `folder` itself.
pub(super) fn has_direct_image(folder: &Path) -> bool {
    entries(folder).is_ok_and(|entries| entries.files.iter().any(|path| kind(path) == FileKind::Image))
}

/// Folders within each other that are looked into.
const DEEPEST: usize = 16;

/// What lies in a folder, hidden entries left out.
pub(super) struct Entries {
    /// Sorted by name.
    pub folders: Vec<PathBuf>,
    /// In no order.
    pub files: Vec<PathBuf>,
}

/// What is in `dir`; links are followed.
pub(super) fn entries(dir: &Path) -> Result<Entries> {
    let (mut folders, mut files) = (vec![], vec![]);
    for entry in fs::read_dir(dir).map_err(|cause| Error::file(dir, cause))? {
        let entry = entry.map_err(|cause| Error::file(dir, cause))?;
        let path = entry.path();
        if file_name(&path).starts_with('.') {
            continue;
        }
        let is_folder = match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => kind.is_dir(),
            _ => path.is_dir(),
        };
        if is_folder { folders.push(path) } else { files.push(path) }
    }
    folders.sort_unstable_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(Entries { folders, files })
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
