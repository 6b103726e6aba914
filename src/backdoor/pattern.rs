//! The masks and patterns of the published default attacks, drawn at the image size.

use super::picture::{Picture, Resize};
use crate::rng::{Purpose, Stream};

/// Side of the BadNets patch in pixels.
const PATCH: usize = 3;

/// Mask of the published BadNets trigger: white at the last 3×3 pixels.
pub(super) fn badnets_mask(height: usize, width: usize) -> Picture {
    Picture::grey(
        height,
        width,
        |row, column| {
            if row + PATCH >= height && column + PATCH >= width { 255 } else { 0 }
        },
    )
}

/// Pattern of the published BadNets trigger: white.
pub(super) fn badnets_pattern(height: usize, width: usize) -> Picture {
    Picture::rgb(height, width, |_, _| [255; 3])
}

/// A pattern to blend with, in place of BackdoorBench's picture, which can't be distributed with this program.
///
/// Noise at three scales (4×4, 8×8 and single pixels, weights .5 .3 .2), so that it has shapes
/// like a photograph's and survives a crop, then stretched to 0..255 in every channel.
pub(super) fn blend_pattern(height: usize, width: usize, seed: u64) -> Picture {
    let stream = Stream::new(seed, Purpose::Pattern, 0);
    let scales = [(4, 4, 0.5), (8, 8, 0.3), (height, width, 0.2)];
    let mut sums = vec![0f64; height * width * 3];
    for (scale, (rows, columns, weight)) in scales.into_iter().enumerate() {
        let noise = Picture::rgb(rows, columns, |row, column| {
            let element = (scale as u64) << 32 | (row * columns + column) as u64;
            let words = stream.words(element);
            [0, 1, 2].map(|channel| (words[channel] >> 24) as u8)
        });
        for (sum, value) in sums.iter_mut().zip(noise.bytes(height, width, 3, Resize::Bilinear)) {
            *sum += weight * f64::from(value);
        }
    }
    let ranges = [0, 1, 2].map(|channel| {
        let values = || sums.iter().skip(channel).step_by(3);
        let lowest = values().copied().fold(f64::INFINITY, f64::min);
        let highest = values().copied().fold(f64::NEG_INFINITY, f64::max);
        (lowest, (highest - lowest).max(1.0))
    });
    Picture::rgb(height, width, |row, column| {
        [0, 1, 2].map(|channel| {
            let (lowest, range) = ranges[channel];
            (255.0 * (sums[(row * width + column) * 3 + channel] - lowest) / range).round() as u8
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_is_the_last_three_by_three() {
        let mask = badnets_mask(32, 32).bytes(32, 32, 1, Resize::Nearest);
        let white: Vec<usize> = (0..1024).filter(|&i| mask[i] == 255).collect();
        assert_eq!(white, [957, 958, 959, 989, 990, 991, 1021, 1022, 1023]);
        assert_eq!(mask.iter().filter(|&&value| value == 0).count(), 1024 - 9);
    }

    #[test]
    fn the_blend_pattern_depends_on_the_seed_alone_and_spans_the_range() {
        let pattern = blend_pattern(32, 28, 3);
        assert_eq!(pattern, blend_pattern(32, 28, 3));
        assert_ne!(pattern, blend_pattern(32, 28, 4));
        let bytes = pattern.bytes(32, 28, 3, Resize::Bilinear);
        for channel in 0..3 {
            let values = || bytes.iter().skip(channel).step_by(3);
            assert_eq!((values().min(), values().max()), (Some(&0), Some(&255)));
        }
    }

    #[test]
    fn a_single_pixel_has_a_pattern_too() {
        assert_eq!(blend_pattern(1, 1, 0).bytes(1, 1, 3, Resize::Bilinear).len(), 3);
    }
}
