//! Size and channels: bilinear with antialiasing (as PIL's, which torchvision uses), grey and colour.

use super::ImageSet;
use crate::error::{Error, Result};
use crate::memory;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, Rgb};
use rayon::prelude::*;
use std::sync::Arc;

/// Brings a set to a model's input: `size` (height, width) and `channels`, each kept where `None`.
///
/// # Errors
/// There is no memory for it.
pub(super) fn fit(
    images: ImageSet,
    size: Option<(usize, usize)>,
    channels: Option<usize>,
) -> Result<ImageSet> {
    let (height, width) = size.unwrap_or((images.height, images.width));
    let channels = channels.unwrap_or(images.channels);
    let source = (images.height, images.width);
    if source == (height, width) && channels == images.channels {
        return Ok(images);
    }
    let mut pixels = zeros(images.len(), height * width * channels)?;
    pixels.par_chunks_exact_mut(height * width * channels).enumerate().for_each(|(index, out)| {
        let converted = convert(images.image(index), images.channels, channels);
        out.copy_from_slice(&resize(converted, source, (height, width), channels));
    });
    Ok(ImageSet { pixels: Arc::new(pixels), height, width, channels, ..images })
}

/// Memory for `count` images, or an error: photographs at full size can need more than the machine has.
pub(super) fn zeros(count: usize, image_len: usize) -> Result<Vec<u8>> {
    memory::zeros(count, image_len).ok_or_else(|| {
        let gigabytes = count as f64 * image_len as f64 / 1e9;
        Error::input(format!(
            "no memory for {count} images of {image_len} bytes ({gigabytes:.0} GB): give a smaller --size or a --limit"
        ))
    })
}

/// Grey to colour by repeating, colour to grey as ITU-R 601 luma in PIL's integer form (equal
/// channels stay exactly what they are).
pub(super) fn convert(pixels: &[u8], from: usize, to: usize) -> Vec<u8> {
    match (from, to) {
        (1, 3) => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        (3, 1) => pixels.chunks_exact(3).map(luma).collect(),
        _ => pixels.to_vec(),
    }
}

fn luma(pixel: &[u8]) -> u8 {
    let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) as u8
}

/// One image of 1 or 3 channels from one (height, width) to another.
pub(super) fn resize(pixels: Vec<u8>, from: (usize, usize), to: (usize, usize), channels: usize) -> Vec<u8> {
    if from == to {
        return pixels;
    }
    let (height, width) = (from.0 as u32, from.1 as u32);
    let (new_height, new_width) = (to.0 as u32, to.1 as u32);
    if channels == 1 {
        let image = ImageBuffer::<Luma<u8>, _>::from_raw(width, height, pixels).unwrap_or_default();
        imageops::resize(&image, new_width, new_height, FilterType::Triangle).into_raw()
    } else {
        let image = ImageBuffer::<Rgb<u8>, _>::from_raw(width, height, pixels).unwrap_or_default();
        imageops::resize(&image, new_width, new_height, FilterType::Triangle).into_raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_interpolates_between_centres() {
        // Sample points of 2 → 4 lie at −1/4, 1/4, 3/4 and 5/4 of the way.
        assert_eq!(resize(vec![0, 100], (1, 2), (1, 4), 1), [0, 25, 75, 100]);
    }

    #[test]
    fn shrinking_averages_all_it_covers() {
        // Antialiased: a filter as wide as the step, not two neighbours. PIL gives the same bytes.
        let row: Vec<u8> = vec![0, 0, 0, 0, 255, 255, 255, 255];
        assert_eq!(resize(row, (1, 8), (1, 2), 1), [36, 219]);
    }

    #[test]
    fn channels_stay_apart() {
        let image = vec![10, 20, 30, 10, 20, 30, 10, 20, 30, 10, 20, 30];
        assert_eq!(resize(image, (2, 2), (3, 1), 3), [10, 20, 30, 10, 20, 30, 10, 20, 30]);
    }

    #[test]
    fn grey_and_colour() {
        assert_eq!(convert(&[1, 200], 1, 3), [1, 1, 1, 200, 200, 200]);
        assert_eq!(convert(&[1, 1, 1, 200, 200, 200, 255, 0, 0], 3, 1), [1, 200, 76]);
    }
}
