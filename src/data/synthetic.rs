//! A synthetic set for the demo and the tests: ten classes of shapes that differ only in their outline.
//!
//! Everything else varies freely: position, scale, tilt, the colours and textures of shape and
//! background, clutter, light and noise. Images are a function of (seed, label, index) and use only
//! arithmetic that IEEE 754 rounds the same way everywhere.

use super::scene::{SHAPES, Scene};
use super::{ImageSet, Normalisation, Splits};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream, below, unit};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

const DEFAULT_SIZE: usize = 32;
const DEFAULT_PER_CLASS: usize = 500;
const DEFAULT_TEST_PER_CLASS: usize = 100;
/// Makes the test split's seed differ from the training split's.
const TEST_SEED: u64 = 0x7465_7374 << 32;

/// Whether `dir` is `synthetic:` with or without settings.
pub(super) fn is_specification(dir: &Path) -> bool {
    dir.to_string_lossy().starts_with("synthetic:")
}

/// What follows `synthetic:`, as `key=value` with commas between.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Specification {
    classes: usize,
    per_class: usize,
    test_per_class: usize,
    size: usize,
    seed: u64,
}

impl Specification {
    fn parse(text: &str) -> Result<Self> {
        let mut this = Self {
            classes: SHAPES.len(),
            per_class: DEFAULT_PER_CLASS,
            test_per_class: DEFAULT_TEST_PER_CLASS,
            size: DEFAULT_SIZE,
            seed: 0,
        };
        let settings = text.strip_prefix("synthetic:").unwrap_or("");
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            this.set(setting).map_err(|cause| Error::input(format!("{text}: {cause}")))?;
        }
        Ok(this)
    }

    fn set(&mut self, setting: &str) -> std::result::Result<(), String> {
        let known = "classes, per_class, test_per_class, size or seed";
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("`{setting}` is not of the form key=value, with {known}"))?;
        let number: u64 = value.parse().map_err(|_| format!("`{value}` is not a whole number"))?;
        let within = |low: u64, high: u64| match number {
            _ if (low..=high).contains(&number) => Ok(number as usize),
            _ => Err(format!("{key} is {number}, but must be {low} to {high}")),
        };
        match key {
            "classes" => self.classes = within(2, SHAPES.len() as u64)?,
            "per_class" => self.per_class = within(1, 100_000)?,
            "test_per_class" => self.test_per_class = within(1, 100_000)?,
            "size" => self.size = within(8, 256)?,
            "seed" => self.seed = number,
            _ => return Err(format!("unknown setting `{key}`: {known}")),
        }
        Ok(())
    }
}

/// Mean and deviation of the set, to two digits.
pub(super) fn normalisation(channels: usize) -> Normalisation {
    Normalisation { mean: vec![0.46; channels], std: vec![0.28; channels] }
}

/// Draws the set that `dir` describes.
pub(super) fn load(dir: &Path, with_test: bool) -> Result<Splits> {
    let of = Specification::parse(&dir.to_string_lossy())?;
    let train = synthetic(of.seed, of.classes, of.per_class, of.size);
    let test = with_test.then(|| synthetic(of.seed ^ TEST_SEED, of.classes, of.test_per_class, of.size));
    Ok(Splits { train, test })
}

/// Draws `per_class` images of each of the first `classes` (at most 10) shapes, `size` pixels
/// square, in colour, class by class.
pub fn synthetic(seed: u64, classes: usize, per_class: usize, size: usize) -> ImageSet {
    let shapes = &SHAPES[..classes.min(SHAPES.len())];
    let image_len = size * size * 3;
    let mut pixels = vec![0; shapes.len() * per_class * image_len];
    pixels.par_chunks_exact_mut(image_len).enumerate().for_each(|(index, out)| {
        let (label, number) = (index / per_class, index % per_class);
        // Independent of per_class, so that a larger set begins with the smaller one's images.
        let mut draws = Draws::new(seed, (label as u64) << 32 | number as u64);
        Scene::draw(&mut draws, shapes[label].1).paint(size, &mut draws, out);
    });
    ImageSet {
        pixels: Arc::new(pixels),
        labels: Arc::new((0..shapes.len() * per_class).map(|index| (index / per_class) as u32).collect()),
        names: Arc::new(
            (0..shapes.len() * per_class)
                .map(|index| format!("{}/{}", shapes[index / per_class].0, index % per_class))
                .collect(),
        ),
        classes: Arc::new(shapes.iter().map(|(name, _)| name.to_string()).collect()),
        height: size,
        width: size,
        channels: 3,
    }
}

/// The random numbers of one image, one after the other.
pub(super) struct Draws {
    stream: Stream,
    element: u64,
    next: u64,
    block: [u32; 4],
}

impl Draws {
    pub fn new(seed: u64, image: u64) -> Self {
        // Label and number together stay below 2^40; the draws' own count takes the rest.
        let stream = Stream::new(seed, Purpose::Synthetic, (image >> 32) as u32);
        Self { stream, element: (image & 0xFFFF_FFFF) << 24, next: 0, block: [0; 4] }
    }

    fn word(&mut self) -> u32 {
        let lane = (self.next % 4) as usize;
        if lane == 0 {
            self.block = self.stream.words(self.element + self.next / 4);
        }
        self.next += 1;
        self.block[lane]
    }

    /// Uniform in low..high.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * unit(self.word())
    }

    pub fn one_of(&mut self, n: u32) -> u32 {
        below(self.word(), n)
    }

    /// Three channels in 0..1.
    pub fn colour(&mut self) -> [f32; 3] {
        [(); 3].map(|()| self.between(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_seed_and_index() {
        let small = synthetic(4, 10, 2, 16);
        let large = synthetic(4, 10, 3, 16);
        for class in 0..10 {
            for index in 0..2 {
                assert_eq!(small.image(class * 2 + index), large.image(class * 3 + index));
            }
        }
        assert_ne!(small.pixels, synthetic(5, 10, 2, 16).pixels);
        assert_ne!(small.image(0), small.image(1));
        assert!(small.classes.is_sorted());
    }

    #[test]
    fn normalised_to_mean_0_and_deviation_1() {
        let set = synthetic(0, 10, 150, 16);
        let normalisation = normalisation(3);
        for channel in 0..3 {
            let (mean, std) = (normalisation.mean[channel], normalisation.std[channel]);
            let values = || set.pixels.iter().skip(channel).step_by(3);
            let values = || values().map(|&byte| f64::from((f32::from(byte) / 255.0 - mean) / std));
            let count = values().count() as f64;
            let mean = values().sum::<f64>() / count;
            let variance = values().map(|value| value * value).sum::<f64>() / count - mean * mean;
            assert!(
                mean.abs() < 0.1 && (variance - 1.0).abs() < 0.15,
                "channel {channel}: {mean} {variance}"
            );
        }
    }

    /// The bytes of one image: results on the synthetic set can be compared between machines.
    #[test]
    fn the_same_everywhere() {
        let set = synthetic(0, 10, 1, 32);
        let sums: Vec<u32> =
            (0..10).map(|index| set.image(index).iter().map(|&byte| u32::from(byte)).sum()).collect();
        assert_eq!(sums, [474202, 528089, 229521, 475159, 451303, 230300, 309340, 319951, 191634, 598031]);
    }
}
