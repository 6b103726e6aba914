//! Images of a set, augmented; and random erasing.

use super::interpret::{Interpret, SliceContext};
use crate::data::ImageSet;
use crate::device::check::{attached, check_images};
use crate::device::ops::{LoadImages, RandomErasing};
use crate::device::patch::{PATCHES, Patch};
use crate::device::{Augment, StepParams};
use crate::error::Result;
use crate::rng::{Purpose, Stream, below};

/// Image `index` of a set in [0, 1] with `channels` channels, cropped and flipped by its draw.
fn load(set: &ImageSet, index: u32, channels: usize, augment: Augment, params: &StepParams) -> Vec<f64> {
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

/// Rectangles over an image, pixel by pixel: the last that covers it decides.
fn erase(image: &mut [f64], index: u32, (height, width): (usize, usize), params: &StepParams) {
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

impl Interpret for LoadImages {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let indices = context.words(self.indices);
        let set = attached(&context.state.images, self.images)?;
        check_images(set, (self.height, self.width, self.channels), &indices)?;
        let image = |index: &u32| load(set, *index, self.channels, self.augment, context.params);
        let values: Vec<f64> = indices.iter().flat_map(image).collect();
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for RandomErasing {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let (mut values, indices) = (context.read(self.images), context.words(self.indices));
        let images = values.chunks_exact_mut(self.height * self.width * self.channels);
        for (image, index) in images.zip(indices) {
            erase(image, index, (self.height, self.width), context.params);
        }
        context.write(self.images, &values);
        Ok(())
    }
}
