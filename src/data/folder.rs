//! Image files: parts with a folder for each class, a bare folder of classes, GTSRB's layouts, or a flat folder.

use super::decode::{self, Decoded, TargetSize};
use super::listing::{self, ImageFile, Listing};
use super::parts::{self, Part, Parts};
use super::{
    ClassOrder, Counter, Dataset, Format, ImageSet, LoadOptions, Normalisation, ProgressFn, SampleSize,
    cache, classes, gtsrb, stratified_sample,
};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Loads the folder `dir` in one of the two formats of single files; decoded pixels are kept under
/// `cached`, where given.
pub(super) fn load(
    dir: &Path,
    format: Format,
    options: &LoadOptions,
    with_test: bool,
    cached: Option<&Path>,
    progress: ProgressFn,
) -> Result<Dataset> {
    let Listings { mut train, test, folders } = list_splits(dir, format, with_test)?;
    let orders = match format {
        Format::Gtsrb => vec![ClassOrder { from: "the format".into(), classes: train.classes.clone() }],
        _ => classes::known_orders(dir, &train.classes),
    };
    let mut left_out = std::mem::take(&mut train.left_out);
    if let Some(test) = &test {
        left_out.merge(test.left_out.clone());
    }
    left_out.check(options.skip_bad)?;
    if let Some(limit) = options.limit {
        let labels: Vec<u32> = train.files.iter().map(|file| file.label).collect();
        let (taken, _) = stratified_sample(&labels, SampleSize::Count(limit), options.seed);
        let mut index = 0;
        train.files.retain(|_| {
            index += 1;
            taken.binary_search(&(index - 1)).is_ok()
        });
    }
    let total = train.files.len() + test.as_ref().map_or(0, |test| test.files.len());
    let reader = Reader {
        root: dir,
        classes: Arc::new(train.classes),
        skip_bad: options.skip_bad,
        cache: cached,
        counter: Counter::new(total, progress),
    };
    // GTSRB's images are of all sizes; BackdoorBench and the paper take them at this one.
    let usual = (format == Format::Gtsrb).then_some((32, 32));
    let size = options.size.or(usual).map(|(height, width)| TargetSize::Fixed(height, width));
    let (train, mut skipped) =
        reader.read(train.files, size.clone().unwrap_or(TargetSize::First), options.channels)?;
    let test = match test {
        None => None,
        Some(test) => {
            let like_train = || TargetSize::Like(train.height, train.width, train.names[0].clone());
            let (test, bad) =
                reader.read(test.files, size.unwrap_or_else(like_train), Some(train.channels))?;
            skipped.extend(bad);
            Some(test)
        }
    };
    let normalisation = format.normalisation(&train);
    Ok(Dataset { train, test, format, skipped, normalisation, orders, folders, left_out })
}

/// Loads the images in `dir` at any depth, without labels: all get the label 0 of one class without a name.
pub(super) fn load_flat(dir: &Path, options: &LoadOptions, progress: ProgressFn) -> Result<Dataset> {
    let Listing { classes, files, mut left_out } = listing::list_flat(dir)?;
    left_out.check(options.skip_bad)?;
    let reader = Reader {
        root: dir,
        classes: Arc::new(classes),
        skip_bad: options.skip_bad,
        cache: None,
        counter: Counter::new(files.len(), progress),
    };
    let size = options.size.map_or(TargetSize::First, |(height, width)| TargetSize::Fixed(height, width));
    let (train, skipped) = reader.read(files, size, options.channels)?;
    let normalisation = Normalisation::identity(train.channels);
    let folders = Default::default();
    Ok(Dataset {
        train,
        test: None,
        format: Format::Folder,
        skipped,
        normalisation,
        orders: vec![],
        folders,
        left_out,
    })
}

/// The pixels of single files.
pub(super) fn read_files(files: &[PathBuf], size: (usize, usize), channels: usize) -> Result<Vec<u8>> {
    let files: Result<Vec<ImageFile>> =
        files.iter().map(|path| listing::found(path, path.clone(), 0)).collect();
    let (files, size) = (files?, TargetSize::Fixed(size.0, size.1));
    let counter = Counter::new(files.len(), &|_, _| ());
    Ok(decode::decode_all(&files, &size, Some(channels), false, &counter)?.pixels)
}

/// What the parts of a data folder hold.
struct Listings {
    train: Listing,
    test: Option<Listing>,
    /// Relative to the data folder.
    folders: [Option<String>; 2],
}

/// Lists the splits; the test split's labels are those of the training split's classes.
fn list_splits(dir: &Path, format: Format, with_test: bool) -> Result<Listings> {
    let mut splits = match format {
        Format::Gtsrb => {
            let (train, test) = gtsrb::list(dir, with_test)?;
            Listings { train, test, folders: Default::default() }
        }
        _ => list_folders(dir, with_test)?,
    };
    if let Some(test) = &mut splits.test {
        relabel(test, &splits.train.classes)?;
    }
    Ok(splits)
}

fn list_folders(dir: &Path, with_test: bool) -> Result<Listings> {
    let Parts { train, test } = parts::find(dir)?;
    let test = test.filter(|_| with_test);
    let name = |part: &Part| {
        let folder = part.folder().strip_prefix(dir).unwrap_or(part.folder());
        Some(folder.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
    };
    let folders = [name(&train), test.as_ref().and_then(name)];
    let test = test.map(|test| test.list(dir)).transpose()?;
    Ok(Listings { train: train.list(dir)?, test, folders })
}

fn relabel(listing: &mut Listing, classes: &[String]) -> Result<()> {
    for file in &mut listing.files {
        let class = &listing.classes[file.label as usize];
        match classes.binary_search(class) {
            Ok(label) => file.label = label as u32,
            Err(_) => {
                return Err(Error::file(&file.path, format!("the training split has no class `{class}`")));
            }
        }
    }
    Ok(())
}

/// What the splits of a folder are read with.
struct Reader<'a> {
    root: &'a Path,
    classes: Arc<Vec<String>>,
    skip_bad: bool,
    cache: Option<&'a Path>,
    counter: Counter<'a>,
}

impl Reader<'_> {
    /// A split's images, and a line for each file left out.
    fn read(
        &self,
        files: Vec<ImageFile>,
        size: TargetSize,
        channels: Option<usize>,
    ) -> Result<(ImageSet, Vec<String>)> {
        let decoded = self.pixels(&files, &size, channels)?;
        if decoded.kept.is_empty() {
            return Err(Error::file(self.root, format!("none of {} images can be read", files.len())));
        }
        let kept = || decoded.kept.iter().map(|&index| &files[index as usize]);
        let images = ImageSet {
            labels: Arc::new(kept().map(|file| file.label).collect()),
            names: Arc::new(kept().map(|file| file.name.clone()).collect()),
            classes: Arc::clone(&self.classes),
            height: decoded.height,
            width: decoded.width,
            channels: decoded.channels,
            pixels: Arc::new(decoded.pixels),
        };
        Ok((images, decoded.skipped))
    }

    /// From the cache, else from the files.
    fn pixels(&self, files: &[ImageFile], size: &TargetSize, channels: Option<usize>) -> Result<Decoded> {
        let cache = self.cache.filter(|_| cache::is_worthwhile(files));
        let entry = cache.map(|folder| cache::CacheEntry::new(folder, self.root, files, size, channels));
        if let Some(decoded) = entry.as_ref().and_then(|entry| entry.read(files.len())) {
            self.counter.add(files.len());
            return Ok(decoded);
        }
        let decoded = decode::decode_all(files, size, channels, self.skip_bad, &self.counter)?;
        if let Some(entry) = entry
            && decoded.skipped.is_empty()
        {
            entry.write(&decoded);
        }
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Two classes, one image each, over a mebibyte together.
    fn large_folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (class, shade) in [("a", 40), ("b", 200)] {
            fs::create_dir_all(dir.path().join(class)).unwrap();
            let image = image::GrayImage::from_pixel(800, 800, image::Luma([shade]));
            image.save(dir.path().join(class).join("1.pgm")).unwrap();
        }
        dir
    }

    #[test]
    fn the_second_load_comes_from_the_cache() {
        let dir = large_folder();
        let cache = tempfile::tempdir().unwrap();
        let options = LoadOptions { size: Some((1, 2)), ..Default::default() };
        let load = || {
            load(dir.path(), Format::Folder, &options, true, Some(cache.path()), &|_, _| ()).unwrap().train
        };
        assert_eq!(*load().pixels, [40, 40, 200, 200]);
        let entries: Vec<_> =
            fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(entries.len(), 1);
        assert_eq!(*load().pixels, [40, 40, 200, 200]);

        // Other pixels in the entry show that it is what is read.
        let files = listing::list(dir.path(), dir.path()).unwrap().files;
        let entry = cache::CacheEntry::new(cache.path(), dir.path(), &files, &TargetSize::Fixed(1, 2), None);
        let pixels = vec![1, 2, 3, 4];
        entry.write(&Decoded {
            pixels,
            height: 1,
            width: 2,
            channels: 1,
            kept: vec![0, 1],
            skipped: Vec::new(),
        });
        assert_eq!(*load().pixels, [1, 2, 3, 4]);
        fs::write(&entries[0], "damaged").unwrap();
        assert_eq!(*load().pixels, [40, 40, 200, 200]);

        // A file replaced by another of the same size is noticed.
        fs::copy(dir.path().join("a/1.pgm"), dir.path().join("b/1.pgm")).unwrap();
        assert_eq!(*load().pixels, [40; 4]);
    }
}
