//! An attack prepared for images of one size.

use std::f64::consts::TAU;
use std::sync::Arc;

use super::attack::Attack;
use super::dynamic::Dynamic;
use super::picture::{Picture, Resize};
use super::warp::{noisy, resample};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::rng::Stream;

/// Mask value above which a pixel takes the pattern.
const WHITE: u8 = 127;

/// Stamps images of height × width × channels bytes.
#[derive(Clone, Debug)]
pub struct Trigger {
    height: usize,
    width: usize,
    channels: usize,
    transform: Transform,
}

/// How the trigger changes an image of the prepared size.
#[derive(Clone, Debug)]
enum Transform {
    /// (position, value) of every byte that changes.
    Replace(Vec<(usize, u8)>),
    /// x ← round((1 − alpha)·x + alpha·pattern).
    Blend { alpha: f64, pattern: Vec<u8> },
    /// x ← round(clip(x + offset)), an offset for each column.
    Add(Vec<f64>),
    /// Where each pixel is read: (row, column).
    Warp(Vec<(f64, f64)>),
    /// Networks make the trigger for each image.
    Generated(Arc<Dynamic>),
}

impl Trigger {
    /// Prepares `attack` for images of this size, with 1 or 3 channels.
    ///
    /// Pictures of another size are resized (a patch to the nearest pixel, a blend pattern
    /// bilinearly); images with one channel take the pictures' grey values.
    pub fn new(attack: &Attack, height: usize, width: usize, channels: usize) -> Result<Self> {
        if channels != 1 && channels != 3 {
            return Err(Error::input(format!("images have {channels} channels; a trigger fits 1 or 3")));
        }
        attack.check()?;
        let transform = match attack {
            Attack::Badnets { mask, pattern } => replace(mask, pattern, height, width, channels)?,
            Attack::Blend { alpha, pattern } => Transform::Blend {
                alpha: *alpha,
                pattern: pattern.bytes(height, width, channels, Resize::Bilinear),
            },
            Attack::Sig { delta, frequency } => {
                let angle = |column: usize| TAU * column as f64 * frequency / width as f64;
                Transform::Add((0..width).map(|column| delta * angle(column).sin()).collect())
            }
            Attack::Wanet(warp) => Transform::Warp(warp.sources(height, width)),
            Attack::Dynamic(dynamic) => generated(dynamic, height, width, channels)?,
        };
        Ok(Self { height, width, channels, transform })
    }

    /// Prepares `attack` for the images of a set.
    pub fn for_images(attack: &Attack, images: &ImageSet) -> Result<Self> {
        Self::new(attack, images.height, images.width, images.channels)
    }

    /// Puts the trigger on the images at `indices`, each of which exists.
    ///
    /// # Errors
    /// Images of another size; the networks of a trained trigger fail.
    pub(super) fn stamp_all(&self, images: &mut ImageSet, indices: &[u32]) -> Result<()> {
        self.check_fits(images)?;
        if let Transform::Generated(dynamic) = &self.transform {
            return dynamic.stamp(images, &indices.iter().map(|&index| (index, index)).collect::<Vec<_>>());
        }
        self.each(images, indices, |image, _| self.stamp(image));
        Ok(())
    }

    /// Puts a noisy trigger on the images at `indices`, each of which exists: WaNet's warp with noise from `stream`, or
    /// Dynamic's trigger for the next image of `indices` (a single image has no next).
    ///
    /// # Errors
    /// As [`Trigger::stamp_all`].
    pub(super) fn stamp_noise_all(
        &self,
        images: &mut ImageSet,
        indices: &[u32],
        stream: Stream,
    ) -> Result<()> {
        self.check_fits(images)?;
        match &self.transform {
            Transform::Generated(dynamic) if indices.len() > 1 => {
                let next = indices.iter().cycle().skip(1);
                dynamic.stamp(images, &indices.iter().copied().zip(next.copied()).collect::<Vec<_>>())?;
            }
            Transform::Warp(sources) => self.each(images, indices, |image, index| {
                let sources = noisy(sources, self.height, self.width, stream, index);
                resample(image, self.width, self.channels, &sources);
            }),
            _ => {}
        }
        Ok(())
    }

    /// Changes the images at `indices`; unshared pixels in place.
    fn each(&self, images: &mut ImageSet, indices: &[u32], mut change: impl FnMut(&mut [u8], u64)) {
        let len = images.image_len();
        if indices.is_empty() || len == 0 {
            return;
        }
        let pixels = Arc::make_mut(&mut images.pixels);
        for &index in indices {
            let first = index as usize * len;
            change(&mut pixels[first..first + len], u64::from(index));
        }
    }

    /// Puts the trigger on one image (height × width × channels bytes). [`Trigger::stamp_all`] handles triggers that
    /// networks make.
    ///
    /// BackdoorBench truncates blend and sinusoid to a whole number; they are rounded here (ties to
    /// even), so a byte may differ by one level.
    pub(super) fn stamp(&self, image: &mut [u8]) {
        match &self.transform {
            Transform::Replace(changes) => {
                for &(position, value) in changes {
                    image[position] = value;
                }
            }
            Transform::Blend { alpha, pattern } => {
                for (byte, &value) in image.iter_mut().zip(pattern) {
                    let blended = (1.0 - alpha) * f64::from(*byte) + alpha * f64::from(value);
                    *byte = blended.round_ties_even() as u8;
                }
            }
            Transform::Add(offsets) => {
                for (index, byte) in image.iter_mut().enumerate() {
                    let offset = offsets[index / self.channels % self.width];
                    *byte = (f64::from(*byte) + offset).round_ties_even().clamp(0.0, 255.0) as u8;
                }
            }
            Transform::Warp(sources) => resample(image, self.width, self.channels, sources),
            Transform::Generated(_) => {}
        }
    }

    /// Whether the attack has a noise mode.
    pub fn has_noise(&self) -> bool {
        matches!(self.transform, Transform::Warp(_) | Transform::Generated(_))
    }

    /// Refuses a set whose images have another size than this trigger.
    pub(super) fn check_fits(&self, images: &ImageSet) -> Result<()> {
        let own = (self.height, self.width, self.channels);
        let theirs = (images.height, images.width, images.channels);
        if own == theirs {
            return Ok(());
        }
        Err(Error::input(format!(
            "the trigger is made for {}x{} images with {} channels, these are {}x{} with {}",
            own.0, own.1, own.2, theirs.0, theirs.1, theirs.2
        )))
    }
}

/// A trained trigger, for images of the size it was trained on.
fn generated(dynamic: &Arc<Dynamic>, height: usize, width: usize, channels: usize) -> Result<Transform> {
    let own = (dynamic.height, dynamic.width, dynamic.channels());
    if own != (height, width, channels) {
        return Err(Error::input(format!(
            "the dynamic trigger was trained on {}x{}x{} images, these are {height}x{width}x{channels}",
            own.0, own.1, own.2
        )));
    }
    Ok(Transform::Generated(Arc::clone(dynamic)))
}

/// The bytes that a patch changes. A mask without a white pixel is refused: its trigger would do nothing.
fn replace(
    mask: &Picture,
    pattern: &Picture,
    height: usize,
    width: usize,
    channels: usize,
) -> Result<Transform> {
    let mask = mask.bytes(height, width, 1, Resize::Nearest);
    let pattern = pattern.bytes(height, width, channels, Resize::Nearest);
    let white = |position: &usize| mask[position / channels] > WHITE;
    let changes: Vec<_> =
        (0..pattern.len()).filter(white).map(|position| (position, pattern[position])).collect();
    if changes.is_empty() {
        return Err(Error::input(format!("the trigger's mask has no white pixel at {height}x{width}")));
    }
    Ok(Transform::Replace(changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn badnets_makes_the_corner_white_and_leaves_the_rest() {
        let trigger = Trigger::new(&Attack::badnets(5, 6), 5, 6, 3).unwrap();
        let mut image: Vec<u8> = (0..90).collect();
        trigger.stamp(&mut image);
        for (position, &value) in image.iter().enumerate() {
            let (row, column) = (position / 18, position / 3 % 6);
            let expected = if row >= 2 && column >= 3 { 255 } else { position as u8 };
            assert_eq!(value, expected, "row {row} column {column}");
        }
    }

    #[test]
    fn a_mask_value_of_128_is_white_and_127_is_not() {
        let attack = Attack::Badnets {
            mask: Picture::grey(1, 2, |_, column| 127 + column as u8),
            pattern: Picture::rgb(1, 2, |_, _| [0, 9, 99]),
        };
        let mut image = [5; 6];
        Trigger::new(&attack, 1, 2, 3).unwrap().stamp(&mut image);
        assert_eq!(image, [5, 5, 5, 0, 9, 99]);
    }

    /// round(0.8·x + 0.2·pattern), computed by hand in fifths: (4x + pattern)/5.
    #[test]
    fn blend_rounds() {
        let values = [0u8, 1, 2, 3, 13, 100, 254, 255];
        let patterns = [255u8, 3, 0, 0, 0, 200, 255, 0];
        let attack = Attack::Blend { alpha: 0.2, pattern: Picture::grey(1, 8, |_, column| patterns[column]) };
        let mut image = values;
        Trigger::new(&attack, 1, 8, 1).unwrap().stamp(&mut image);
        assert_eq!(image, [51, 1, 2, 2, 10, 120, 254, 204]);
    }

    #[test]
    fn every_blend_of_two_bytes_is_the_nearest_level() {
        for value in 0..=255u8 {
            let attack = Attack::Blend { alpha: 0.2, pattern: Picture::grey(1, 256, |_, c| c as u8) };
            let mut image = [value; 256];
            Trigger::new(&attack, 1, 256, 1).unwrap().stamp(&mut image);
            for (pattern, &byte) in image.iter().enumerate() {
                assert_eq!(usize::from(byte), (8 * usize::from(value) + 2 * pattern + 5) / 10);
            }
        }
    }

    #[test]
    fn a_trigger_scales_with_the_image() {
        let trigger = Trigger::new(&Attack::badnets(32, 32), 64, 64, 1).unwrap();
        let mut image = vec![0; 64 * 64];
        trigger.stamp(&mut image);
        let white: Vec<usize> = (0..4096).filter(|&i| image[i] == 255).collect();
        assert_eq!(white.len(), 36);
        assert!(white.iter().all(|&i| i / 64 >= 58 && i % 64 >= 58));
    }

    /// sin(2π·column·6/32): 0 at 0, sin(3π/8) at 1, and clipped at both ends.
    #[test]
    fn sig_adds_a_sinusoid_along_the_columns() {
        let trigger = Trigger::new(&Attack::sig(), 2, 32, 1).unwrap();
        let mut image = [100u8; 64];
        image[1] = 250;
        image[35] = 10;
        trigger.stamp(&mut image);
        // 40·sin(3π/8) = 36.96, 40·sin(9π/8) = −15.31.
        assert_eq!((image[0], image[1], image[33], image[3], image[35]), (100, 255, 137, 85, 0));
        assert_eq!(image[2], 128); // 40·sin(3π/4) = 28.28
    }

    #[test]
    fn triggers_that_mean_nothing_are_refused() {
        let black = Picture::grey(4, 4, |_, _| 0);
        let nothing = Attack::Badnets { mask: black.clone(), pattern: black.clone() };
        assert!(Trigger::new(&nothing, 4, 4, 3).is_err());
        for alpha in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(Trigger::new(&Attack::Blend { alpha, pattern: black.clone() }, 4, 4, 3).is_err());
        }
        assert!(Trigger::new(&Attack::badnets(4, 4), 4, 4, 2).is_err());
    }
}
