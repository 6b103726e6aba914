//! Do images, normalised in some way, have the statistics that the network's first batch norm remembers? They do if
//! it is the way that it was trained with. No labels are needed, and the network doesn't run.

use crate::data::{ImageSet, Normalisation};
use crate::model::{TensorRole, Weights};
use crate::rng::{Purpose, Stream};

/// Images that are looked at.
const IMAGES: usize = 256;

/// Places in each of them.
const PLACES: usize = 64;

/// The first convolution's outputs at some places of some images, for inputs that are yet to be normalised.
pub struct FirstLayer<'a> {
    channels: usize,
    outputs: usize,
    /// For each place, output and input channel: the filter's sum over pixels, and over ones. Padding counts in neither.
    sums: Vec<[f32; 2]>,
    bias: Option<&'a [f32]>,
    mean: &'a [f32],
    variance: &'a [f32],
}

impl<'a> FirstLayer<'a> {
    /// None where the network doesn't begin with a convolution and a batch norm, or there are no images.
    pub fn new(weights: &'a Weights, images: &ImageSet) -> Option<Self> {
        let tensors = weights.architecture.tensors();
        let filter = tensors.first()?;
        let &[outputs, channels, kernel, _] = filter.shape.as_slice() else { return None };
        let values = weights.tensor(&filter.name)?;
        let statistic = |role| {
            let tensor = tensors.iter().find(|tensor| tensor.role == role)?;
            weights.tensor(&tensor.name).filter(|values| values.len() == outputs)
        };
        let bias = filter.name.strip_suffix("weight").and_then(|key| weights.tensor(&format!("{key}bias")));
        if images.is_empty() || images.channels != channels {
            return None;
        }
        let mut layer = Self {
            channels,
            outputs,
            sums: vec![],
            bias,
            mean: statistic(TensorRole::RunningMean)?,
            variance: statistic(TensorRole::RunningVariance)?,
        };
        let pick = Stream::new(0, Purpose::Split, u32::MAX).permutation(images.len());
        for (number, &image) in pick.iter().take(IMAGES).enumerate() {
            let places =
                Stream::new(1, Purpose::Split, number as u32).permutation(images.height * images.width);
            for &place in places.iter().take(PLACES) {
                layer.add(values, kernel, images, image as usize, place as usize);
            }
        }
        Some(layer)
    }

    fn add(&mut self, filter: &[f32], kernel: usize, images: &ImageSet, image: usize, place: usize) {
        let (pixels, half) = (images.image(image), kernel / 2);
        let (row, column) = (place / images.width, place % images.width);
        for output in 0..self.outputs {
            for channel in 0..self.channels {
                let filter =
                    &filter[(output * self.channels + channel) * kernel * kernel..][..kernel * kernel];
                let mut sums = [0.0; 2];
                for (at, weight) in filter.iter().enumerate() {
                    let (y, x) =
                        ((row + at / kernel).wrapping_sub(half), (column + at % kernel).wrapping_sub(half));
                    if y < images.height && x < images.width {
                        let pixel = pixels[(y * images.width + x) * self.channels + channel];
                        sums[0] += weight * f32::from(pixel) / 255.0;
                        sums[1] += weight;
                    }
                }
                self.sums.push(sums);
            }
        }
    }

    /// How far the outputs' mean and variance are from those of the batch norm: the divergence of two normal
    /// distributions, the median over the channels. 0 is the same.
    pub fn distance(&self, normalisation: &Normalisation) -> f64 {
        let (mean, std) = (&normalisation.mean, &normalisation.std);
        let mut moments = vec![[0f64; 2]; self.outputs];
        for place in self.sums.chunks_exact(self.outputs * self.channels) {
            for (output, sums) in place.chunks_exact(self.channels).enumerate() {
                let normalised = sums.iter().zip(mean.iter().zip(std));
                let value: f32 =
                    normalised.map(|([pixels, ones], (mean, std))| (pixels - mean * ones) / std).sum();
                let value = f64::from(value + self.bias.map_or(0.0, |bias| bias[output]));
                moments[output][0] += value;
                moments[output][1] += value * value;
            }
        }
        let places = (self.sums.len() / (self.outputs * self.channels)) as f64;
        let divergence = |(output, [sum, squares]): (usize, &[f64; 2])| {
            let mean = sum / places;
            // A channel that is always the same counts as nearly so.
            let variance = (squares / places - mean * mean).max(1e-8);
            let (other, its) = (f64::from(self.mean[output]), f64::from(self.variance[output]).max(1e-8));
            0.5 * ((its / variance).ln() + (variance + (mean - other).powi(2)) / its - 1.0)
        };
        // The median is not moved by a dead channel.
        let mut divergences: Vec<f64> = moments.iter().enumerate().map(divergence).collect();
        divergences.sort_by(f64::total_cmp);
        divergences[divergences.len() / 2]
    }
}
