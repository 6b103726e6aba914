//! WaNet's warp (Nguyen & Tran, ICLR 2021): a smooth displacement field that bends an image by a
//! fraction of a pixel.

use crate::rng::{Purpose, Stream};

/// The coefficient of PyTorch's bicubic kernel.
const CUBIC: f64 = -0.75;

/// A warping field, for images of any size.
#[derive(Clone, Debug, PartialEq)]
pub struct Warp {
    /// Side of the control grid (k).
    pub grid: usize,
    /// Strength (s), about the mean displacement in half pixels.
    pub strength: f64,
    /// Displacements of the control points: k×k along the columns, then k×k along the rows; the mean
    /// of their absolute values is 1.
    pub field: Vec<f64>,
}

impl Warp {
    /// The published warp (k = 4, s = 0.5 by default): u ~ U(−1, 1), u ← u / mean|u|.
    pub fn draw(grid: usize, strength: f64, seed: u64) -> Self {
        let stream = Stream::new(seed, Purpose::Pattern, 1);
        let uniform = |element: usize| 2.0 * f64::from(stream.uniform(element as u64, 0)) - 1.0;
        let mut field: Vec<f64> = (0..2 * grid * grid).map(uniform).collect();
        let mean = field.iter().map(|value| value.abs()).sum::<f64>() / field.len().max(1) as f64;
        field.iter_mut().for_each(|value| *value /= mean.max(f64::MIN_POSITIVE));
        Self { grid, strength, field }
    }

    /// Where each pixel of a height × width image is read: (row, column), inside the image.
    pub fn sources(&self, height: usize, width: usize) -> Vec<(f64, f64)> {
        let (across, down) = self.field.split_at(self.grid * self.grid);
        let place = |index: usize| {
            let (row, column) = (index / width, index % width);
            let (y, x) = (control(row, height, self.grid), control(column, width, self.grid));
            // The published grid is in [−1, 1] and moves by s·N/size of it: half that many pixels
            // of size − 1.
            let moved = |at: usize, size: usize, field: &[f64]| {
                let shift = self.strength * bicubic(field, self.grid, y, x) / size as f64;
                at as f64 + shift * (size - 1) as f64 / 2.0
            };
            inside((moved(row, height, down), moved(column, width, across)), height, width)
        };
        (0..height * width).map(place).collect()
    }
}

/// `sources`, each moved by noise of up to half a pixel (noise mode: the network learns to ignore such warps).
/// `image` and the stream determine the noise.
pub fn noisy(
    sources: &[(f64, f64)],
    height: usize,
    width: usize,
    stream: Stream,
    image: u64,
) -> Vec<(f64, f64)> {
    let move_one = |(pixel, &(row, column)): (usize, &(f64, f64))| {
        let element = image * sources.len() as u64 + pixel as u64;
        let noise = |lane: usize, size: usize| {
            let uniform = 2.0 * f64::from(stream.uniform(element, lane)) - 1.0;
            uniform / size as f64 * (size - 1) as f64 / 2.0
        };
        inside((row + noise(1, height), column + noise(0, width)), height, width)
    };
    sources.iter().enumerate().map(move_one).collect()
}

/// Reads `image` (height × width × channels) at `sources`, bilinearly, rounded.
pub fn resample(image: &mut [u8], width: usize, channels: usize, sources: &[(f64, f64)]) {
    let original = image.to_vec();
    let height = original.len() / (width * channels);
    for (pixel, &(row, column)) in image.chunks_exact_mut(channels).zip(sources) {
        let (top, left) = (row.floor() as usize, column.floor() as usize);
        let (bottom, right) = ((top + 1).min(height - 1), (left + 1).min(width - 1));
        let (down, across) = (row - top as f64, column - left as f64);
        for (channel, byte) in pixel.iter_mut().enumerate() {
            let at =
                |row: usize, column: usize| f64::from(original[(row * width + column) * channels + channel]);
            let upper = (1.0 - across) * at(top, left) + across * at(top, right);
            let lower = (1.0 - across) * at(bottom, left) + across * at(bottom, right);
            *byte = ((1.0 - down) * upper + down * lower).round_ties_even() as u8;
        }
    }
}

fn inside((row, column): (f64, f64), height: usize, width: usize) -> (f64, f64) {
    (row.clamp(0.0, (height - 1) as f64), column.clamp(0.0, (width - 1) as f64))
}

/// Position of a pixel on a control grid whose corners are the image's (align_corners).
fn control(at: usize, size: usize, grid: usize) -> f64 {
    if size > 1 { at as f64 * (grid - 1) as f64 / (size - 1) as f64 } else { 0.0 }
}

/// Bicubic interpolation of a grid × grid field, border repeated.
fn bicubic(field: &[f64], grid: usize, y: f64, x: f64) -> f64 {
    let (row, column) = (y.floor(), x.floor());
    let (rows, columns) = (cubic_weights(y - row), cubic_weights(x - column));
    let clamped =
        |base: f64, offset: usize| (base as isize + offset as isize - 1).clamp(0, grid as isize - 1) as usize;
    let mut sum = 0.0;
    for (i, by_row) in rows.iter().enumerate() {
        for (j, by_column) in columns.iter().enumerate() {
            sum += by_row * by_column * field[clamped(row, i) * grid + clamped(column, j)];
        }
    }
    sum
}

/// Weights of the four neighbours at −1, 0, 1, 2 of a point `t` after neighbour 0 (Keys, 1981).
fn cubic_weights(t: f64) -> [f64; 4] {
    let near = |d: f64| ((CUBIC + 2.0) * d - (CUBIC + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((CUBIC * d - 5.0 * CUBIC) * d + 8.0 * CUBIC) * d - 4.0 * CUBIC;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.nn.functional.interpolate([[1, 2, 4], [3, −1, 0], [2, 2, −3]], size=(5, 4),
    /// mode="bicubic", align_corners=True)`, printed by PyTorch 2.15.
    const UPSAMPLED: [f64; 20] = [
        1.000000, 1.462963, 2.740741, 4.000000, 2.093750, 0.579861, 0.659722, 2.281250, 3.000000, 0.148148,
        -1.129630, 0.000000, 2.687500, 1.228588, -0.714699, -1.875000, 2.000000, 2.555556, 0.425926,
        -3.000000,
    ];

    #[test]
    fn the_field_is_interpolated_as_pytorch_does() {
        let field = [1.0, 2.0, 4.0, 3.0, -1.0, 0.0, 2.0, 2.0, -3.0];
        for (index, expected) in UPSAMPLED.iter().enumerate() {
            let (row, column) = (index / 4, index % 4);
            let value = bicubic(&field, 3, control(row, 5, 3), control(column, 4, 3));
            assert!((value - expected).abs() < 1e-5, "{row},{column}: {value} for {expected}");
        }
    }

    #[test]
    fn the_mean_displacement_is_about_a_quarter_of_a_pixel() {
        let sources = Warp::draw(4, 0.5, 0).sources(32, 32);
        let moved = sources
            .iter()
            .enumerate()
            .map(|(i, (row, column))| (row - (i / 32) as f64).abs() + (column - (i % 32) as f64).abs());
        let mean = moved.sum::<f64>() / 2048.0;
        assert!((0.12..0.36).contains(&mean), "{mean}");
    }

    #[test]
    fn no_strength_changes_nothing_and_half_a_pixel_averages() {
        let still = Warp::draw(4, 0.0, 3).sources(4, 5);
        let original: Vec<u8> = (0..60).map(|i| (i * 37 % 251) as u8).collect();
        let mut image = original.clone();
        resample(&mut image, 5, 3, &still);
        assert_eq!(image, original);
        let mut row = [0u8, 100, 200];
        resample(&mut row, 3, 1, &[(0.0, 0.5), (0.0, 1.25), (0.0, 2.0)]);
        assert_eq!(row, [50, 125, 200]);
    }

    #[test]
    fn noise_stays_within_half_a_pixel_and_differs_by_image() {
        let sources = Warp::draw(4, 0.5, 0).sources(8, 8);
        let stream = Stream::new(1, Purpose::Poison, 1);
        let (one, two) = (noisy(&sources, 8, 8, stream, 0), noisy(&sources, 8, 8, stream, 1));
        assert_ne!(one, two);
        assert_eq!(one, noisy(&sources, 8, 8, stream, 0));
        for (from, to) in sources.iter().zip(&one) {
            assert!((from.0 - to.0).abs() <= 0.5 && (from.1 - to.1).abs() <= 0.5);
            assert!((0.0..=7.0).contains(&to.0) && (0.0..=7.0).contains(&to.1));
        }
    }
}
