//! Images of a set, by index, to f32 in [0, 1], with a random crop and flip.

use rayon::prelude::*;

use super::conv::Threads;
use super::grain;
use super::vectorised::vectorised;
use crate::data::ImageSet;
use crate::device::check::check_images;
use crate::device::patch::{PATCHES, Patch};
use crate::device::{Augment, StepParams};
use crate::error::Result;
use crate::rng::{Purpose, Stream, below};

/// A window into the zero-padded image, perhaps mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    row: usize,
    column: usize,
    mirrored: bool,
}

/// The draw of image `index`: the same whatever batch it is in.
fn draw(stream: &Stream, index: u32, augment: Augment) -> Window {
    let words = stream.words(u64::from(index));
    let choices = 2 * augment.pad as u32 + 1;
    Window {
        row: below(words[0], choices) as usize,
        column: below(words[1], choices) as usize,
        mirrored: augment.flip && words[2] >> 31 == 1,
    }
}

/// What is gathered, and how.
pub(super) struct Gather<'a> {
    pub images: &'a ImageSet,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub augment: Augment,
    pub seed: u64,
    pub epoch: u32,
}

impl Gather<'_> {
    /// Fills `output` (images × height × width × channels) with the images at `indices`.
    ///
    /// # Errors
    /// The set has another image size, or fewer images than an index asks for.
    pub fn run(&self, indices: &[u32], output: &mut [f32], threads: Threads) -> Result<()> {
        check_images(self.images, (self.height, self.width, self.channels), indices)?;
        let stream = Stream::new(self.seed, Purpose::Augment, self.epoch);
        output
            .par_chunks_mut((self.height * self.width * self.channels).max(1))
            .zip(indices.par_iter())
            .with_min_len(grain(threads))
            .for_each(|(output, &index)| {
                self.image(self.images.image(index as usize), draw(&stream, index, self.augment), output);
            });
        Ok(())
    }

    fn image(&self, pixels: &[u8], window: Window, output: &mut [f32]) {
        let (width, pad, from) = (self.width, self.augment.pad, self.images.channels);
        // Output columns whose source column + window - pad lies inside the image.
        let first = pad.saturating_sub(window.column).min(width);
        let last = (width + pad).saturating_sub(window.column).clamp(first, width);
        for (y, row) in output.chunks_exact_mut(width * self.channels).enumerate() {
            let source = (y + window.row).wrapping_sub(pad);
            if source >= self.height || first == last {
                row.fill(0.0);
                continue;
            }
            let start = (source * width + first + window.column - pad) * from;
            let bytes = &pixels[start..start + (last - first) * from];
            row[..first * self.channels].fill(0.0);
            row[last * self.channels..].fill(0.0);
            let inside = &mut row[first * self.channels..last * self.channels];
            if from == self.channels {
                to_unit(bytes, inside);
            } else {
                for (pixel, &byte) in inside.chunks_exact_mut(self.channels).zip(bytes) {
                    pixel.fill(f32::from(byte) * (1.0 / 255.0));
                }
            }
            if window.mirrored {
                mirror(row, self.channels);
            }
        }
    }
}

/// Paints the patches of the images at `indices` over `images`, `size` rows × columns each.
pub(super) fn paint(
    size: (usize, usize),
    indices: &[u32],
    images: &mut [f32],
    params: &StepParams,
    threads: Threads,
) {
    if params.erasing_probability <= 0.0 {
        return;
    }
    let len = images.len() / indices.len().max(1);
    images.par_chunks_mut(len.max(1)).zip(indices.par_iter()).with_min_len(grain(threads)).for_each(
        |(image, &index)| {
            for patch in (0..PATCHES).filter_map(|number| Patch::draw(params, index, number, size)) {
                paint_one(&patch, size.1, image, len / (size.0 * size.1));
            }
        },
    );
}

fn paint_one(patch: &Patch, width: usize, image: &mut [f32], channels: usize) {
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
