//! A set as an image folder, so that any other tool can use it.

use super::ImageSet;
use crate::error::{Error, Result};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes `images` to `dir/split/<class>/*.png`, for example with `split` = `train`.
///
/// A folder of classes is read by class first, so the images get other indices: entry k of what is
/// returned is the index in `images` of the image that [`super::load`] reads as number k. File names
/// start with the index in `images`. Classes whose names don't sort as their labels do get the label
/// as a prefix.
///
/// # Errors
/// A file or folder that can't be written.
pub fn write_folder(dir: &Path, split: &str, images: &ImageSet) -> Result<Vec<u32>> {
    let classes: Vec<PathBuf> =
        folder_names(&images.classes).iter().map(|name| dir.join(split).join(name)).collect();
    for class in &classes {
        fs::create_dir_all(class).map_err(|cause| Error::write(class, cause))?;
    }
    let digits = images.len().to_string().len();
    (0..images.len()).into_par_iter().try_for_each(|index| {
        let name = format!("{index:0digits$}_{}.png", stem(&images.names[index]));
        let path = classes[images.labels[index] as usize].join(name);
        let bytes = encode(images, index).map_err(|cause| Error::file(&path, cause))?;
        fs::write(&path, bytes).map_err(|cause| Error::write(&path, cause))
    })?;
    let mut order: Vec<u32> = (0..images.len() as u32).collect();
    order.sort_by_key(|&index| images.labels[index as usize]);
    Ok(order)
}

/// Image `index` of a set as the bytes of a PNG file.
///
/// # Errors
/// The encoder refuses it.
pub fn png(images: &ImageSet, index: usize) -> Result<Vec<u8>> {
    encode(images, index).map_err(|cause| Error::run(format!("an image can't be encoded as PNG: {cause}")))
}

fn encode(images: &ImageSet, index: usize) -> image::ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let colour = if images.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let (width, height) = (images.width as u32, images.height as u32);
    PngEncoder::new(&mut bytes).write_image(images.image(index), width, height, colour)?;
    Ok(bytes)
}

/// A folder name per class, ascending.
fn folder_names(classes: &[String]) -> Vec<String> {
    let names: Vec<String> = classes.iter().map(|class| plain(class)).collect();
    let usable = |name: &String| !name.is_empty() && !name.starts_with('.');
    if names.is_sorted_by(|a, b| a < b) && names.iter().all(usable) {
        return names;
    }
    let digits = classes.len().to_string().len();
    names.iter().enumerate().map(|(label, name)| format!("{label:0digits$}_{name}")).collect()
}

/// The last part of an image's name without its ending; a record's number stays.
fn stem(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let (file, record) = last.split_once('#').map_or((last, ""), |(file, record)| (file, record));
    let file = file.split('.').next().unwrap_or(file);
    plain(&if record.is_empty() { file.to_string() } else { format!("{file}_{record}") })
}

/// Keeps what every file system takes.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || "-_. ".contains(c) { c } else { '_' }).collect()
}
