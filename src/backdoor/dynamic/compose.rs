//! The trigger's arithmetic and the losses on it, with their gradients: plain sums over a few images, on
//! the host whatever the device.

/// What keeps a distance from being divided by zero.
const EPSILON: f64 = 1e-7;

/// x' = x + (p − x)·m: an image (pixels × channels) with a pattern where the mask (pixels) is near 1.
pub fn compose(image: &[f32], pattern: &[f32], mask: &[f32], output: &mut [f32]) {
    let channels = image.len() / mask.len();
    let pairs = image.iter().zip(pattern).enumerate();
    for ((i, (x, p)), output) in pairs.zip(output) {
        *output = x + (p - x) * mask[i / channels];
    }
}

/// The gradient at the pattern of [`compose`], from the one at its output, added to `pattern_gradient`.
pub fn compose_gradient(gradient: &[f32], mask: &[f32], pattern_gradient: &mut [f32]) {
    let channels = gradient.len() / mask.len();
    for (i, (g, sum)) in gradient.iter().zip(pattern_gradient).enumerate() {
        *sum += g * mask[i / channels];
    }
}

/// Root of the mean squared difference.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    (squares.sum::<f64>() / a.len() as f64).sqrt()
}

/// What is made of two images should differ as they do: weight · rmse(images) / (rmse(made) + 1e-7). Its
/// gradient is added to `gradients`. Where the two made are equal there is none: no direction parts them.
pub fn diversity(images: [&[f32]; 2], made: [&[f32]; 2], weight: f64, gradients: [&mut [f32]; 2]) -> f64 {
    let (between, apart) = (distance(images[0], images[1]), distance(made[0], made[1]));
    let loss = weight * between / (apart + EPSILON);
    if apart > 0.0 {
        let slope = -loss / (apart + EPSILON) / (apart * made[0].len() as f64);
        let [one, other] = gradients;
        for (i, (one, other)) in one.iter_mut().zip(other).enumerate() {
            let step = (slope * (f64::from(made[0][i]) - f64::from(made[1][i]))) as f32;
            *one += step;
            *other -= step;
        }
    }
    loss
}

/// Masks should be small: weight · mean(max(0, m − density)). Its gradient is added to `gradient`.
pub fn sparsity(mask: &[f32], density: f32, weight: f64, gradient: &mut [f32]) -> f64 {
    let slope = weight / mask.len() as f64;
    let mut sum = 0.0;
    for (&m, gradient) in mask.iter().zip(gradient) {
        if m > density {
            sum += f64::from(m - density);
            *gradient += slope as f32;
        }
    }
    slope * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn draw(seed: u64, len: usize) -> Vec<f32> {
        let stream = Stream::new(seed, Purpose::Synthetic, 0);
        (0..len).map(|i| stream.uniform(i as u64, 0)).collect()
    }

    /// Asserts that `gradient` is the derivative of `loss` at `point`, by central differences.
    fn difference(point: &[f32], gradient: &[f32], loss: impl Fn(&[f32]) -> f64) {
        let step = 1.0 / 256.0;
        for i in 0..point.len() {
            let mut moved = point.to_vec();
            moved[i] = point[i] + step;
            let above = loss(&moved);
            moved[i] = point[i] - step;
            let slope = (above - loss(&moved)) / f64::from(2.0 * step);
            let error = (slope - f64::from(gradient[i])).abs();
            assert!(error < 2e-3 * (1.0 + slope.abs()), "element {i}: {} is not {slope}", gradient[i]);
        }
    }

    #[test]
    fn a_mask_of_one_is_the_pattern_and_of_zero_the_image() {
        let (image, pattern) = (draw(1, 12), draw(2, 12));
        let mut output = vec![0.0; 12];
        compose(&image, &pattern, &[1.0, 0.0, 1.0, 0.0], &mut output);
        for i in 0..12 {
            let expected = if i / 3 % 2 == 0 { pattern[i] } else { image[i] };
            assert!((output[i] - expected).abs() < 1e-6, "{i}");
        }
    }

    #[test]
    fn gradients_are_derivatives() {
        let (image, pattern, mask, seed) = (draw(1, 12), draw(2, 12), draw(3, 4), draw(4, 12));
        let mut gradient = vec![0.0; 12];
        compose_gradient(&seed, &mask, &mut gradient);
        difference(&pattern, &gradient, |pattern| {
            let mut output = vec![0.0; 12];
            compose(&image, pattern, &mask, &mut output);
            output.iter().zip(&seed).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        });
        let (other, made, apart) = (draw(5, 12), draw(6, 12), draw(7, 12));
        let (mut first, mut second) = (vec![0.0; 12], vec![0.0; 12]);
        diversity([&image, &other], [&made, &apart], 0.7, [&mut first, &mut second]);
        let loss =
            |a: &[f32], b: &[f32]| diversity([&image, &other], [a, b], 0.7, [&mut [0.0; 12], &mut [0.0; 12]]);
        difference(&made, &first, |made| loss(made, &apart));
        difference(&apart, &second, |apart| loss(&made, apart));
        let mut gradient = vec![0.0; 4];
        // No element within a step of the density.
        sparsity(&[0.1, 0.5, 0.9, 0.2], 0.3, 100.0, &mut gradient);
        difference(&[0.1, 0.5, 0.9, 0.2], &gradient, |mask| sparsity(mask, 0.3, 100.0, &mut [0.0; 4]));
    }

    #[test]
    fn equal_patterns_have_a_loss_but_no_direction() {
        let (mut a, mut b) = ([0.0; 2], [0.0; 2]);
        let loss = diversity([&[0.0; 2], &[1.0; 2]], [&[0.5; 2], &[0.5; 2]], 1.0, [&mut a, &mut b]);
        assert!(loss > 1e6 && a == [0.0; 2] && b == [0.0; 2]);
    }
}
