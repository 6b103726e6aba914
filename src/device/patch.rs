//! Random patches: what [`Op::RandomErasing`](super::Op::RandomErasing) paints over an image, so that a network
//! learns to decide without any small part of it (compare Random Erasing, Zhong et al., AAAI 2020).
//!
//! Each image gets up to [`PATCHES`] rectangles with sides from 1 to 3/16 of the image's, anywhere,
//! also partly outside: a corner is covered as often as the middle, and corners are where triggers are.
//! A rectangle has one random colour or noise. Philox's draws, by (seed, epoch, index in the set): item 0
//! of patch n holds whether, sides, row and column; item 1 the colour and which kind; item 2 + p the
//! noise of pixel p.

use std::ops::Range;

use super::StepParams;
use crate::rng::{Purpose, Stream, below, unit};

/// Patches of an image at most; a later one covers an earlier one.
pub const PATCHES: u64 = 4;

/// One patch: the part of it inside the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
    colour: Option<[u32; 4]>,
    stream: Stream,
    base: u64,
}

impl Patch {
    /// Patch `number` of image `index` of height × width pixels, where it has one.
    pub fn draw(
        params: &StepParams,
        index: u32,
        number: u64,
        (height, width): (usize, usize),
    ) -> Option<Self> {
        let stream = Stream::new(params.seed, Purpose::Patch, params.epoch);
        let base = (u64::from(index) << 32) | (number << 24);
        let [coin, sides, row, column] = stream.words(base);
        if unit(coin) >= params.erasing_probability {
            return None;
        }
        let rows = place(sides >> 16, row, height);
        let columns = place(sides & 0xffff, column, width);
        let colour = stream.words(base + 1);
        let colour = (colour[3] >> 31 == 0).then_some(colour);
        Some(Self { rows, columns, colour, stream, base })
    }

    /// The value of `pixel` (row · width + column) in [0, 1], for channel 0 to 2.
    pub fn values(&self, pixel: usize) -> [f32; 3] {
        let [a, b, c, _] = self.colour.unwrap_or_else(|| self.stream.words(self.base + 2 + pixel as u64));
        [unit(a), unit(b), unit(c)]
    }
}

/// Where a side that the 16 bits of `side` decide lies in `size` pixels: from a position where its last
/// pixel is the first inside to one where its first is the last.
fn place(side: u32, position: u32, size: usize) -> Range<usize> {
    let longest = (3 * size / 16).max(1) as u32;
    let side = 1 + ((side * longest) >> 16) as usize;
    let end = 1 + below(position, (size + side - 1) as u32) as usize;
    end.saturating_sub(side)..end.min(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(patches: f32, size: (usize, usize)) -> Vec<Patch> {
        let params = StepParams { erasing_probability: patches, ..StepParams::default() };
        (0..2000).filter_map(|index| Patch::draw(&params, index, 0, size)).collect()
    }

    #[test]
    fn every_pixel_is_covered_about_equally_often_and_sides_go_up_to_their_limit() {
        let patches = all(1.0, (32, 16));
        assert_eq!(patches.len(), 2000);
        let rows: Vec<usize> = patches.iter().map(|patch| patch.rows.len()).collect();
        let columns: Vec<usize> = patches.iter().map(|patch| patch.columns.len()).collect();
        assert_eq!((rows.iter().min(), rows.iter().max()), (Some(&1), Some(&6)));
        assert_eq!((columns.iter().min(), columns.iter().max()), (Some(&1), Some(&3)));
        let covering = |row| patches.iter().filter(|patch| patch.rows.contains(&row)).count();
        // A side of 3.5 pixels on average in 34.5 places: 203.
        for row in 0..32 {
            assert!((140..270).contains(&covering(row)), "row {row}: {}", covering(row));
        }
    }

    #[test]
    fn a_patch_has_a_colour_or_noise_and_its_probability() {
        let patches = all(1.0, (32, 32));
        let plain = patches.iter().filter(|patch| patch.values(3) == patch.values(4)).count();
        assert!((900..1100).contains(&plain), "{plain}");
        let half = all(0.5, (32, 32)).len();
        assert!((900..1100).contains(&half), "{half}");
        assert!(all(0.0, (32, 32)).is_empty());
    }

    #[test]
    fn a_patch_fits_an_image_of_one_pixel() {
        assert!(
            all(1.0, (1, 1)).iter().all(|patch| (0..1, 0..1) == (patch.rows.clone(), patch.columns.clone()))
        );
    }
}
