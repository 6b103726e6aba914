//! Views: changes of an image that leave what it shows.
//!
//! A trigger's hold is on exact pixels: where they lie, how bright, of which colour. What an image
//! shows is none of that, so a label that doesn't outlive these changes is suspicious.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::data::ImageSet;
use crate::rng::{Purpose, Stream};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Mirrored; left out where the recipe's training doesn't mirror.
    Flip,
    /// The middle 7/10 of each side, stretched to the whole by nearest pixels.
    Zoom,
    /// 7/20 of the brightness.
    Dark,
    /// The mean of the channels in all of them.
    Grey,
    /// Noise, uniform within 16/255.
    Noise,
}

impl FromStr for View {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = View::ALL.into_iter().find(|view| view.name() == text);
        found.ok_or_else(|| format!("it is one of {}", View::ALL.map(View::name).join(", ")))
    }
}

impl View {
    /// All of them.
    pub const ALL: [View; 5] = [View::Flip, View::Zoom, View::Dark, View::Grey, View::Noise];

    /// Name in files, reports and options.
    pub fn name(self) -> &'static str {
        match self {
            View::Flip => "flip",
            View::Zoom => "zoom",
            View::Dark => "dark",
            View::Grey => "grey",
            View::Noise => "noise",
        }
    }

    /// The images at `indices`, changed; a set of its own, in that order.
    pub fn of(self, images: &ImageSet, indices: &[u32], seed: u64) -> ImageSet {
        let mut pixels = Vec::with_capacity(indices.len() * images.image_len());
        for &index in indices {
            self.change(images, index, seed, &mut pixels);
        }
        images.subset_with_pixels(indices, pixels)
    }

    /// Appends image `index` as this view has it.
    fn change(self, images: &ImageSet, index: u32, seed: u64, pixels: &mut Vec<u8>) {
        let (height, width, channels) = (images.height, images.width, images.channels);
        let image = images.image(index as usize);
        let at = |y: usize, x: usize, channel: usize| u32::from(image[(y * width + x) * channels + channel]);
        let zoomed = |position: usize, side: usize| (14 * position + 3 * side) / 20;
        // A block of words is the noise of 16 values.
        let noise = Stream::new(seed, Purpose::View, index);
        let mut words = [0; 4];
        for (value, &byte) in image.iter().enumerate() {
            let (y, x, channel) = (value / channels / width, value / channels % width, value % channels);
            if self == View::Noise && value % 16 == 0 {
                words = noise.words((value / 16) as u64);
            }
            pixels.push(match self {
                View::Flip => at(y, width - 1 - x, channel) as u8,
                View::Zoom => at(zoomed(y, height), zoomed(x, width), channel) as u8,
                View::Dark => (u32::from(byte) * 7 / 20) as u8,
                View::Grey => {
                    let sum: u32 = (0..channels).map(|channel| at(y, x, channel)).sum();
                    (sum / channels as u32) as u8
                }
                View::Noise => {
                    let drawn = words[value % 16 / 4] >> (value % 4 * 8) & 255;
                    (u32::from(byte) + drawn * 33 / 256).saturating_sub(16).min(255) as u8
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// One image of 3 x 3 pixels and two channels: the second is 100 above the first.
    fn changed(view: View) -> Vec<u8> {
        let values = [0u8, 10, 20, 30, 40, 50, 60, 70, 81];
        let pixels = values.iter().flat_map(|&value| [value, value + 100]).collect();
        let set = ImageSet { pixels: Arc::new(pixels), channels: 2, ..ImageSet::noise(1, 3, 1, 1) };
        view.of(&set, &[0], 0).pixels.to_vec()
    }

    fn first_channel(view: View) -> Vec<u8> {
        changed(view).iter().step_by(2).copied().collect()
    }

    #[test]
    fn views_of_a_small_image() {
        assert_eq!(first_channel(View::Flip), [20, 10, 0, 50, 40, 30, 81, 70, 60]);
        assert_eq!(first_channel(View::Dark), [0, 3, 7, 10, 14, 17, 21, 24, 28]);
        assert_eq!(first_channel(View::Grey), [50, 60, 70, 80, 90, 100, 110, 120, 131]);
        assert_eq!(changed(View::Grey)[1], 50);
    }

    #[test]
    fn zoom_leaves_the_middle_and_noise_its_bound() {
        let set = ImageSet::noise(2, 20, 1, 1);
        let zoomed = View::Zoom.of(&set, &[1], 0);
        // Rows and columns 3 to 16 of 20.
        assert_eq!(zoomed.pixels[0], set.image(1)[3 * 20 + 3]);
        assert_eq!(zoomed.pixels[399], set.image(1)[16 * 20 + 16]);
        let differences = |indices: &[u32]| -> Vec<i32> {
            let set = ImageSet { pixels: Arc::new(vec![128; 800]), ..set.clone() };
            View::Noise.of(&set, indices, 3).pixels.iter().map(|&byte| i32::from(byte) - 128).collect()
        };
        let both = differences(&[0, 1]);
        assert_eq!((both.iter().min(), both.iter().max()), (Some(&-16), Some(&16)));
        assert!(both.iter().sum::<i32>().abs() < 800, "no bias");
        // An image's own, wherever it stands.
        assert_eq!(differences(&[1]), both[400..]);
        assert_ne!(both[..400], both[400..]);
    }

    #[test]
    fn views_have_names() {
        assert_eq!("dark".parse(), Ok(View::Dark));
        assert_eq!(View::ALL.map(|view| view.name().parse()), View::ALL.map(Ok));
        assert_eq!(serde_json::to_value(View::ALL).unwrap(), serde_json::json!(View::ALL.map(View::name)));
        assert_eq!("wide".parse::<View>().unwrap_err(), "it is one of flip, zoom, dark, grey, noise");
    }
}
