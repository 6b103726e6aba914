//! Which folders of a data folder are its parts: training and test, under any of the usual names.

use super::listing::{self, ANNOTATIONS, Entries, entries, file_name, has_direct_image, has_image};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Names of training parts, in lower case without signs between words; the first that is there is taken.
const TRAINING: [&str; 9] = [
    "train",
    "training",
    "trainset",
    "trainingset",
    "traindata",
    "trainingdata",
    "segtrain",
    "trainimages",
    "imagestrain",
];

/// Names of parts that models are measured on, the same.
const TEST: [&str; 15] = [
    "test",
    "testing",
    "testset",
    "testdata",
    "segtest",
    "testimages",
    "imagestest",
    "val",
    "valid",
    "validation",
    "valset",
    "validationset",
    "segval",
    "eval",
    "evaluation",
];

/// A part that images are read from.
pub(super) enum Part {
    /// With a folder for each class.
    Folders(PathBuf),
    /// As Tiny-ImageNet's `val/`: a table has the classes.
    Annotated(PathBuf),
}

impl Part {
    pub fn folder(&self) -> &Path {
        match self {
            Part::Folders(folder) | Part::Annotated(folder) => folder,
        }
    }

    pub fn list(&self, root: &Path) -> Result<listing::Listing> {
        match self {
            Part::Folders(folder) => listing::list(root, folder),
            Part::Annotated(folder) => listing::list_annotated(root, folder),
        }
    }
}

/// The parts of a data folder.
pub(super) struct Parts {
    pub train: Part,
    pub test: Option<Part>,
}

/// Finds the parts of `dir`, each looked at before it is chosen; a folder without parts is a training part itself.
///
/// # Errors
/// A test part without a training part; parts whose images have no class folders; folders that can't be classes.
pub(super) fn find(dir: &Path) -> Result<Parts> {
    let folders = entries(dir)?.folders;
    if let Some(record) = folders.iter().find(|folder| file_name(folder) == "bd_train_dataset") {
        let cause = "poisoned images of BackdoorBench, without the clean ones: give the data set that they are of, and \
                     the attack_result.pt beside them as --poison (evaluate: --trigger)";
        return Err(Error::file(record, cause));
    }
    let ranked = |names: &[&str]| {
        let mut found: Vec<(usize, &PathBuf)> =
            folders.iter().filter_map(|folder| Some((rank(folder, names)?, folder))).collect();
        found.sort();
        found.into_iter().map(|(_, folder)| folder.clone()).collect::<Vec<PathBuf>>()
    };
    let tests = ranked(&TEST);
    let train = ranked(&TRAINING).into_iter().map(descend).find(|folder| !class_folders(folder).is_empty());
    if let Some(train) = train {
        let test = test_part(&tests, &class_folders(&train));
        return Ok(Parts { train: Part::Folders(train), test });
    }
    // An archive that was unpacked into a folder of its own.
    if let [only] = folders.as_slice()
        && entries(only)?.folders.iter().any(|folder| rank(folder, &TRAINING).is_some())
        && !has_direct_image(only)
    {
        return find(only);
    }
    if let Some(test) = tests.iter().find(|folder| class_folders(folder).len() > 1) {
        return Err(Error::file(dir, format!("has {} but no train/ folder", test.display())));
    }
    let is_part = |folder: &PathBuf| rank(folder, &TRAINING).or(rank(folder, &TEST)).is_some();
    if !folders.is_empty() && folders.iter().all(is_part) {
        let cause = "its parts have no class folders with images: one folder per class is expected in each";
        return Err(Error::file(dir, cause));
    }
    check_classes(dir, &folders)?;
    Ok(Parts { train: Part::Folders(dir.to_path_buf()), test: None })
}

/// Whether the images in `dir` have no classes: they lie directly in it, or in one folder that is no part.
pub(super) fn is_unlabelled(dir: &Path) -> bool {
    let Ok(Entries { folders, .. }) = entries(dir) else { return false };
    match class_folders(dir).as_slice() {
        [] => has_direct_image(dir),
        [_] => !folders.iter().any(|folder| rank(folder, &TRAINING).or(rank(folder, &TEST)).is_some()),
        _ => false,
    }
}

/// Its place among `names`.
fn rank(folder: &Path, names: &[&str]) -> Option<usize> {
    let name: String = file_name(folder).to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    names.iter().position(|known| *known == name)
}

/// A part may hold one folder of its own name, as Kaggle's `seg_train/seg_train/`.
fn descend(part: PathBuf) -> PathBuf {
    match entries(&part) {
        Ok(Entries { folders, .. }) if folders.len() == 1 && file_name(&folders[0]) == file_name(&part) => {
            folders[0].clone()
        }
        _ => part,
    }
}

/// The names of the folders in `part` that hold images.
fn class_folders(part: &Path) -> Vec<String> {
    let folders = entries(part).map_or_else(|_| vec![], |entries| entries.folders);
    folders.iter().filter(|folder| has_image(folder)).map(|folder| file_name(folder)).collect()
}

/// The first part with labels that are the training part's: Tiny-ImageNet's `test/` has none.
fn test_part(parts: &[PathBuf], classes: &[String]) -> Option<Part> {
    let mut others = None;
    for part in parts.iter().cloned().map(descend) {
        let own = class_folders(&part);
        if own.iter().any(|class| classes.contains(class)) {
            return Some(Part::Folders(part));
        }
        if part.join(ANNOTATIONS).is_file() {
            return Some(Part::Annotated(part));
        }
        // Named as a fault where there is no better one.
        if own.len() > 1 {
            others.get_or_insert(part);
        }
    }
    others.map(Part::Folders)
}

/// Refuses folders that all hold the same folders of images: they are parts of a set, by names that aren't known.
fn check_classes(dir: &Path, folders: &[PathBuf]) -> Result<()> {
    let [first, second, ..] = folders else { return Ok(()) };
    let inner = class_folders(first);
    let same = |folder: &PathBuf| !has_direct_image(folder) && class_folders(folder) == inner;
    if inner.len() > 1 && folders.iter().all(same) {
        let (first, second) = (file_name(first), file_name(second));
        let cause = format!(
            "its folders `{first}` and `{second}` hold the same folders (`{}`, `{}`), so they are parts and no classes; \
             name them train/ and test/",
            inner[0], inner[1]
        );
        return Err(Error::file(dir, cause));
    }
    Ok(())
}
