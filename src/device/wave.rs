//! Random waves: what [`Op::Waves`](super::Op::Waves) adds to an image, so that a network learns to decide
//! without any faint pattern that lies over all of it.
//!
//! Every fourth image gets a triangle wave of any direction, of up to [`CYCLES`] cycles along a side:
//!   pixel = clamp(pixel + height · (4·|turns| − 1), 0, 1), turns = phase + y·down + x·right in [-1/2, 1/2)
//! Turns are 32 bits that wrap, so devices agree to the bit. Philox's draws, by (seed, epoch, index in the set):
//! item 0 holds the height and whether there is a wave, turns from row to row and from column to column, and
//! the phase; item 1 the channels' shares of the height, and whether they are all one.

use super::Controls;
use crate::rng::{Purpose, Stream, unit};

/// Cycles along a side at most.
const CYCLES: i32 = 8;

/// The wave of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wave {
    /// Of each channel, in units of a pixel's range.
    pub heights: [f32; 3],
    phase: u32,
    down: u32,
    right: u32,
}

impl Wave {
    /// That of image `index` of height × width pixels, where it has one.
    pub fn draw(controls: &Controls, index: u32, (height, width): (usize, usize)) -> Option<Self> {
        let stream = Stream::new(controls.seed, Purpose::Wave, controls.epoch);
        let item = u64::from(index) << 1;
        let [size, down, right, phase] = stream.words(item);
        let size = (4.0 * unit(size) - 3.0) * controls.waves;
        let [a, b, c, grey] = stream.words(item + 1);
        let share = |word| if grey >> 31 == 0 { 1.0 } else { 2.0 * unit(word) - 1.0 };
        let heights = [a, b, c].map(|word| size * share(word));
        (size > 0.0).then(|| Self { heights, phase, down: turns(down, height), right: turns(right, width) })
    }

    /// Its value in [-1, 1].
    pub fn at(&self, row: usize, column: usize) -> f32 {
        let down = self.down.wrapping_mul(row as u32);
        let turns = self.phase.wrapping_add(down).wrapping_add(self.right.wrapping_mul(column as u32));
        (turns as i32).unsigned_abs() as f32 * (1.0 / 1_073_741_824.0) - 1.0
    }
}

/// Turns from pixel to pixel of a side of `size`: up to [`CYCLES`] along it, either way.
fn turns(word: u32, size: usize) -> u32 {
    (word as i32 / size as i32).wrapping_mul(2 * CYCLES) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(waves: f32, size: (usize, usize)) -> Vec<Wave> {
        let controls = Controls { waves, ..Controls::default() };
        (0..4000).filter_map(|index| Wave::draw(&controls, index, size)).collect()
    }

    #[test]
    fn every_fourth_image_has_a_wave_of_any_height_up_to_the_limit() {
        let waves = all(0.25, (32, 32));
        assert!((900..1100).contains(&waves.len()), "{}", waves.len());
        let highest = waves.iter().flat_map(|wave| wave.heights).fold(0.0, |a: f32, b| a.max(b.abs()));
        assert!((0.2..0.25).contains(&highest), "{highest}");
        let grey = waves.iter().filter(|wave| wave.heights[0] == wave.heights[1]).count();
        assert!((400..600).contains(&grey), "{grey}");
        assert!(all(0.0, (32, 32)).is_empty());
    }

    #[test]
    fn a_wave_is_a_triangle_of_up_to_eight_cycles_along_a_side() {
        let flat = Wave { heights: [1.0; 3], phase: 0, down: 0, right: 1 << 29 };
        let values: Vec<f32> = (0..9).map(|column| flat.at(5, column)).collect();
        assert_eq!(values, [-1.0, -0.5, 0.0, 0.5, 1.0, 0.5, 0.0, -0.5, -1.0]);
        for side in [32, 64, 224] {
            let waves = all(1.0, (side, side));
            let cycles = |turns: u32| (f64::from(turns as i32) / 2f64.powi(32) * side as f64).abs();
            let most = |of: fn(&Wave) -> u32| waves.iter().map(of).map(cycles).fold(0.0, f64::max);
            assert!((7.9..=8.0).contains(&most(|wave| wave.right)), "{side}");
            assert!((7.9..=8.0).contains(&most(|wave| wave.down)), "{side}");
        }
    }

    #[test]
    fn a_wave_fits_an_image_of_one_pixel() {
        assert!(all(1.0, (1, 1)).iter().all(|wave| (-1.0..=1.0).contains(&wave.at(0, 0))));
    }
}
