//! An attack prepared for images of one size.

use super::attack::Attack;
use super::picture::{Picture, Resize};
use crate::data::ImageSet;
use crate::error::{Error, Result};

/// Mask value above which a pixel takes the pattern.
const WHITE: u8 = 127;

/// Stamps images of height × width × channels bytes.
#[derive(Clone, Debug)]
pub struct Trigger {
    height: usize,
    width: usize,
    channels: usize,
    stamp: Stamp,
}

#[derive(Clone, Debug)]
enum Stamp {
    /// (position, value) of every byte that changes.
    Replace(Vec<(usize, u8)>),
    /// x ← round((1 − alpha)·x + alpha·pattern).
    Blend { alpha: f64, pattern: Vec<u8> },
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
        let stamp = match attack {
            Attack::Badnets { mask, pattern } => replace(mask, pattern, height, width, channels)?,
            Attack::Blend { alpha, .. } if !(*alpha > 0.0 && *alpha <= 1.0) => {
                return Err(Error::input(format!("blend alpha {alpha} is not above 0 and at most 1")));
            }
            Attack::Blend { alpha, pattern } => Stamp::Blend {
                alpha: *alpha,
                pattern: pattern.bytes(height, width, channels, Resize::Bilinear),
            },
        };
        Ok(Self { height, width, channels, stamp })
    }

    /// Prepares `attack` for the images of a set.
    pub fn for_images(attack: &Attack, images: &ImageSet) -> Result<Self> {
        Self::new(attack, images.height, images.width, images.channels)
    }

    /// Puts the trigger on one image (height × width × channels bytes).
    ///
    /// BackdoorBench truncates the blend to a whole number; it is rounded here (ties to even),
    /// so a byte may differ by one level.
    pub fn stamp(&self, image: &mut [u8]) {
        match &self.stamp {
            Stamp::Replace(changes) => {
                for &(position, value) in changes {
                    image[position] = value;
                }
            }
            Stamp::Blend { alpha, pattern } => {
                for (byte, &value) in image.iter_mut().zip(pattern) {
                    let blended = (1.0 - alpha) * f64::from(*byte) + alpha * f64::from(value);
                    *byte = blended.round_ties_even() as u8;
                }
            }
        }
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

/// The bytes a patch changes; a mask with nothing white would be a trigger that does nothing.
fn replace(mask: &Picture, pattern: &Picture, height: usize, width: usize, channels: usize) -> Result<Stamp> {
    let mask = mask.bytes(height, width, 1, Resize::Nearest);
    let pattern = pattern.bytes(height, width, channels, Resize::Nearest);
    let white = |position: &usize| mask[position / channels] > WHITE;
    let changes: Vec<_> =
        (0..pattern.len()).filter(white).map(|position| (position, pattern[position])).collect();
    if changes.is_empty() {
        return Err(Error::input(format!("the trigger's mask has no white pixel at {height}x{width}")));
    }
    Ok(Stamp::Replace(changes))
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
