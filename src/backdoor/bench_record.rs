//! BackdoorBench's record of an attack: `attack_result.pt`, which lists the poisoned images, and beside it the folders
//! `bd_train_dataset` and `bd_test_dataset` with them, `LABEL/INDEX.png`. The clean images are those of the data set, by
//! the same indices.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::{ImageSet, read_images};
use crate::error::{Error, Result};
use crate::eval::Evaluator;
use crate::model::{Entry, Object};

/// A poisoned image.
#[derive(Clone, Debug, PartialEq)]
struct RecordImage {
    /// Of the clean image in its part.
    index: usize,
    file: PathBuf,
    /// Of the clean image.
    label: u32,
    /// That the attacker wants.
    wanted: u32,
}

/// A record.
#[derive(Clone, Debug)]
pub struct BenchRecord {
    path: PathBuf,
    train: Vec<RecordImage>,
    test: Vec<RecordImage>,
}

impl BenchRecord {
    /// Whether a file may be one: a zip, as `torch.save` writes.
    pub fn is_one(path: &Path) -> bool {
        let mut start = [0; 4];
        let read =
            std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
        read.is_ok() && start == *b"PK\x03\x04"
    }

    /// Reads `attack_result.pt`.
    ///
    /// # Errors
    /// The file can't be read, or lists no poisoned images.
    pub fn load(path: &Path) -> Result<Self> {
        let object = Object::load(path)?;
        let part = |name: &str| -> Result<Vec<RecordImage>> {
            let listed =
                object.root().get(name).and_then(|part| part.get("bd_data_container")?.get("data_dict"));
            let Some(images) = listed.and_then(Entry::dict_values) else { return Ok(vec![]) };
            let image = |node: Entry| {
                let fault = || Error::file(path, format!("an image of {name} has no path and labels"));
                image(path, node).ok_or_else(fault)
            };
            let mut images: Vec<RecordImage> = images.map(image).collect::<Result<_>>()?;
            images.sort_by_key(|image| image.index);
            Ok(images)
        };
        let (train, test) = (part("bd_train")?, part("bd_test")?);
        if train.is_empty() && test.is_empty() {
            let cause =
                "lists no poisoned images (bd_train, bd_test), as BackdoorBench's attack_result.pt does";
            return Err(Error::file(path, cause));
        }
        Ok(Self { path: path.to_path_buf(), train, test })
    }

    /// `images`, the clean training set, with the poisoned ones in their places.
    ///
    /// # Errors
    /// An image can't be read; the clean image of its index has another label.
    pub fn apply(&self, mut images: ImageSet) -> Result<ImageSet> {
        self.check(&self.train, &images)?;
        let files: Vec<PathBuf> = self.train.iter().map(|image| image.file.clone()).collect();
        let poisoned = read_images(&files, &images)?;
        let size = images.image_len();
        let (pixels, labels) = (Arc::make_mut(&mut images.pixels), Arc::make_mut(&mut images.labels));
        for (image, own) in self.train.iter().zip(poisoned.chunks_exact(size)) {
            pixels[image.index * size..][..size].copy_from_slice(own);
            labels[image.index] = image.wanted;
        }
        Ok(images)
    }

    /// For each of `images` training images, whether it is clean.
    pub fn clean(&self, images: usize) -> Vec<bool> {
        let mut clean = vec![true; images];
        self.train.iter().filter(|image| image.index < images).for_each(|image| clean[image.index] = false);
        clean
    }

    /// Measures models on `images`, the clean test set, and on the triggered ones of the record.
    ///
    /// # Errors
    /// As [`BenchRecord::apply`].
    pub fn evaluator(&self, images: &ImageSet) -> Result<Evaluator> {
        self.check(&self.test, images)?;
        let files: Vec<PathBuf> = self.test.iter().map(|image| image.file.clone()).collect();
        let indices: Vec<u32> = self.test.iter().map(|image| image.index as u32).collect();
        let triggered = images.subset_with_pixels(&indices, read_images(&files, images)?);
        let wanted = self.test.iter().map(|image| image.wanted).collect();
        Ok(Evaluator::with_triggered(images, triggered, wanted))
    }

    fn check(&self, listed: &[RecordImage], images: &ImageSet) -> Result<()> {
        for image in listed {
            let fault = |cause: String| Error::file(&self.path, format!("{}: {cause}", image.file.display()));
            let Some(&label) = images.labels.get(image.index) else {
                return Err(fault(format!("image {} of {}", image.index, images.len())));
            };
            if label != image.label {
                let cause = format!(
                    "of label {}, but image {} of the data has label {label}: the data is counted otherwise than in the \
                     record",
                    image.label, image.index
                );
                return Err(fault(cause));
            }
            if image.wanted as usize >= images.classes.len() {
                return Err(fault(format!("label {} of {} classes", image.wanted, images.classes.len())));
            }
        }
        Ok(())
    }
}

/// The image of an entry, whose path is from the machine that wrote it: its last three parts count.
fn image(record: &Path, entry: Entry) -> Option<RecordImage> {
    let path = entry.get("path")?.text()?.replace('\\', "/");
    let parts: Vec<&str> = path.rsplit('/').take(3).collect();
    let &[name, label, part] = parts.as_slice() else { return None };
    let labels = entry.get("other_info")?;
    let number = |index| labels.item(index)?.int().and_then(|label| u32::try_from(label).ok());
    Some(RecordImage {
        index: name.split('.').next()?.parse().ok()?,
        file: record.parent().unwrap_or(Path::new("")).join(part).join(label).join(name),
        label: number(1)?,
        wanted: number(0)?,
    })
}
