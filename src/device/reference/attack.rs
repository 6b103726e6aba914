//! Images in, and the attack on them.

use crate::data::ImageSet;
use crate::device::patch::{PATCHES, Patch};
use crate::device::{Augment, Norm, StepParams};
use crate::rng::{Purpose, Stream, below, unit};

/// Image `index` of a set in [0, 1] with `channels` channels, cropped and flipped by its draw.
pub fn gather(
    set: &ImageSet,
    index: u32,
    channels: usize,
    augment: Augment,
    params: &StepParams,
) -> Vec<f64> {
    let words = Stream::new(params.seed, Purpose::Augment, params.epoch).words(u64::from(index));
    let choices = 2 * augment.pad as u32 + 1;
    let (row, column) = (below(words[0], choices) as usize, below(words[1], choices) as usize);
    let mirrored = augment.flip && words[2] >> 31 == 1;
    let image = set.image(index as usize);
    let mut output = Vec::new();
    for (y, x) in (0..set.height).flat_map(|y| (0..set.width).map(move |x| (y, x))) {
        let x = if mirrored { set.width - 1 - x } else { x };
        let (y, x) = (y + row, x + column);
        let border = augment.pad;
        let inside = y >= border && x >= border && y - border < set.height && x - border < set.width;
        for c in 0..channels {
            let byte = inside.then(|| {
                image[((y - border) * set.width + x - border) * set.channels + c.min(set.channels - 1)]
            });
            output.push(f64::from(byte.unwrap_or(0)) / 255.0);
        }
    }
    output
}

/// Patches over an image, pixel by pixel: the last patch that covers it decides.
pub fn patches(image: &mut [f64], index: u32, (height, width): (usize, usize), params: &StepParams) {
    let channels = image.len() / (height * width);
    let patches: Vec<Patch> =
        (0..PATCHES).filter_map(|number| Patch::draw(params, index, number, (height, width))).collect();
    for (pixel, image) in image.chunks_exact_mut(channels).enumerate() {
        let covers = |patch: &&Patch| {
            patch.rows.contains(&(pixel / width)) && patch.columns.contains(&(pixel % width))
        };
        if let Some(patch) = patches.iter().rev().find(covers) {
            image.iter_mut().zip(patch.values(pixel)).for_each(|(to, value)| *to = f64::from(value));
        }
    }
}

fn length(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The ball around one image.
#[derive(Clone, Copy)]
pub struct Ball<'a> {
    pub clean: &'a [f64],
    pub epsilon: f64,
    pub norm: Norm,
}

impl Ball<'_> {
    /// clean + offset, with the offset projected to the ball, clamped to [0, 1] where asked.
    fn project(&self, offset: &[f64], params: &StepParams) -> Vec<f64> {
        let length = length(offset);
        let map = |(x, r): (&f64, &f64)| {
            let r = match self.norm {
                Norm::Linf => r.clamp(-self.epsilon, self.epsilon),
                Norm::L2 if length > self.epsilon => r * self.epsilon / length,
                Norm::L2 => *r,
            };
            if params.clamp { (x + r).clamp(0.0, 1.0) } else { x + r }
        };
        self.clean.iter().zip(offset).map(map).collect()
    }

    /// A uniform draw from the cube of radius ε, projected.
    pub fn start(&self, index: u32, params: &StepParams) -> Vec<f64> {
        if !params.random_start {
            return self.clean.to_vec();
        }
        let stream = Stream::new(params.seed, Purpose::AttackStart, params.epoch);
        let draw = |i: usize| {
            let words = stream.words((u64::from(index) << 24) | (i / 4) as u64);
            self.epsilon * (2.0 * f64::from(unit(words[i % 4])) - 1.0)
        };
        let offset: Vec<f64> = (0..self.clean.len()).map(draw).collect();
        self.project(&offset, params)
    }

    /// A step of α along the gradient's direction, projected. Gradients are f32: one shorter than a
    /// normal number gives no direction.
    pub fn step(&self, adversarial: &[f64], gradient: &[f64], alpha: f64, params: &StepParams) -> Vec<f64> {
        let length = length(gradient);
        let direction = |g: f64| match self.norm {
            Norm::Linf => f64::from(g > 0.0) - f64::from(g < 0.0),
            Norm::L2 if length >= f64::from(f32::MIN_POSITIVE) => g / length,
            Norm::L2 => 0.0,
        };
        let offset: Vec<f64> = (0..self.clean.len())
            .map(|i| adversarial[i] + alpha * direction(gradient[i]) - self.clean[i])
            .collect();
        self.project(&offset, params)
    }
}
