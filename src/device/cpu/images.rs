//! Images of a set, by index, to f32 in [0, 1], with a random crop and flip; and random erasing.

use rayon::prelude::*;

use super::execute::{Context, Execute};
use super::grain;
use super::simd::vectorised;
use crate::data::ImageSet;
use crate::device::Augment;
use crate::device::check::{attached, check_images};
use crate::device::ops::{LoadImages, RandomErasing};
use crate::device::patch::{PATCHES, Patch};
use crate::error::Result;
use crate::rng::{Purpose, Stream, below};

/// A crop into the zero-padded image, perhaps mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Crop {
    row: usize,
    column: usize,
    mirrored: bool,
}

/// The draw of image `index`: the same whatever batch it is in.
fn draw(stream: &Stream, index: u32, augment: Augment) -> Crop {
    let words = stream.words(u64::from(index));
    let choices = 2 * augment.pad as u32 + 1;
    Crop {
        row: below(words[0], choices) as usize,
        column: below(words[1], choices) as usize,
        mirrored: augment.flip && words[2] >> 31 == 1,
    }
}

impl Execute for LoadImages {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        let set = attached(context.images, self.images)?;
        // SAFETY: the operands were checked.
        let (indices, output) = unsafe { (frame.words(self.indices), frame.output(self.output)) };
        check_images(set, (self.height, self.width, self.channels), indices)?;
        let stream = Stream::new(frame.params.seed, Purpose::Augment, frame.params.epoch);
        output
            .par_chunks_mut((self.height * self.width * self.channels).max(1))
            .zip(indices.par_iter())
            .with_min_len(grain(frame.threads))
            .for_each(|(output, &index)| load(self, set, index, draw(&stream, index, self.augment), output));
        Ok(())
    }
}

/// Image `index` of a set, as its crop shows it.
fn load(op: &LoadImages, set: &ImageSet, index: u32, crop: Crop, output: &mut [f32]) {
    let (width, channels, pad, from) = (op.width, op.channels, op.augment.pad, set.channels);
    let pixels = set.image(index as usize);
    // Output columns whose source column + crop - pad lies inside the image.
    let first = pad.saturating_sub(crop.column).min(width);
    let last = (width + pad).saturating_sub(crop.column).clamp(first, width);
    for (y, row) in output.chunks_exact_mut(width * channels).enumerate() {
        let source = (y + crop.row).wrapping_sub(pad);
        if source >= op.height || first == last {
            row.fill(0.0);
            continue;
        }
        let start = (source * width + first + crop.column - pad) * from;
        let bytes = &pixels[start..start + (last - first) * from];
        row[..first * channels].fill(0.0);
        row[last * channels..].fill(0.0);
        let inside = &mut row[first * channels..last * channels];
        if from == channels {
            to_unit(bytes, inside);
        } else {
            for (pixel, &byte) in inside.chunks_exact_mut(channels).zip(bytes) {
                pixel.fill(f32::from(byte) * (1.0 / 255.0));
            }
        }
        if crop.mirrored {
            mirror(row, channels);
        }
    }
}

impl Execute for RandomErasing {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        if frame.params.erasing_probability <= 0.0 {
            return Ok(());
        }
        // SAFETY: the operands were checked.
        let (indices, images) = unsafe { (frame.words(self.indices), frame.output(self.images)) };
        let size = (self.height, self.width);
        images
            .par_chunks_mut((self.height * self.width * self.channels).max(1))
            .zip(indices.par_iter())
            .with_min_len(grain(frame.threads))
            .for_each(|(image, &index)| {
                for patch in (0..PATCHES).filter_map(|n| Patch::draw(frame.params, index, n, size)) {
                    paint(&patch, self.width, image, self.channels);
                }
            });
        Ok(())
    }
}

fn paint(patch: &Patch, width: usize, image: &mut [f32], channels: usize) {
    for row in patch.rows.clone() {
        for pixel in patch.columns.clone().map(|column| row * width + column) {
            let values = patch.values(pixel);
            image[pixel * channels..(pixel + 1) * channels].copy_from_slice(&values[..channels]);
        }
    }
}

vectorised! {
    fn to_unit(bytes: &[u8], output: &mut [f32]) {
        for (value, &byte) in output.iter_mut().zip(bytes) {
            *value = f32::from(byte) * (1.0 / 255.0);
        }
    }
}

/// Reverses the pixels of a row.
fn mirror(row: &mut [f32], channels: usize) {
    let width = row.len() / channels;
    for x in 0..width / 2 {
        let (left, right) = row.split_at_mut((width - 1 - x) * channels);
        left[x * channels..(x + 1) * channels].swap_with_slice(&mut right[..channels]);
    }
}
