//! t-SNE (van der Maaten and Hinton, 2008), exact: a plane in which points that were near in the space
//! of features are near. For some hundreds of points; the result is a function of points and seed.

use rayon::prelude::*;

use crate::rng::{Purpose, Stream};

/// Neighbours that a point has, in effect.
const PERPLEXITY: f64 = 30.0;
const STEPS: usize = 500;
/// In the first steps neighbours attract each other so much more, and momentum is low.
const EXAGGERATION: f64 = 12.0;
const EXAGGERATED: usize = 150;

/// A place in the plane for each of the `points`, rows of `width` numbers.
pub fn tsne(points: &[f32], width: usize, seed: u64) -> Vec<[f64; 2]> {
    let count = points.len() / width.max(1);
    let affinities = affinities(points, width, count);
    let stream = Stream::new(seed, Purpose::Initialise, 0);
    let start = |point| [0, 1].map(|lane| 1e-2 * (f64::from(stream.uniform(point, lane)) - 0.5));
    let mut places: Vec<[f64; 2]> = (0..count as u64).map(start).collect();
    let mut speeds = vec![[0.0; 2]; count];
    let mut gains = vec![[1.0f64; 2]; count];
    let rate = (count as f64 / EXAGGERATION).max(50.0);
    for step in 0..STEPS {
        let early = step < EXAGGERATED;
        let (factor, momentum) = if early { (EXAGGERATION, 0.5) } else { (1.0, 0.8) };
        let gradients = gradients(&affinities, &places, factor);
        for (point, gradient) in gradients.iter().enumerate() {
            for axis in 0..2 {
                let (speed, gain) = (&mut speeds[point][axis], &mut gains[point][axis]);
                let turning = (gradient[axis] > 0.0) == (*speed > 0.0);
                *gain = if turning { (*gain * 0.8).max(0.01) } else { *gain + 0.2 };
                *speed = momentum * *speed - rate * *gain * gradient[axis];
                places[point][axis] += *speed;
            }
        }
        centre(&mut places);
    }
    places
}

/// Symmetric probabilities that two points are neighbours: Gaussian around each, as wide as gives it
/// the perplexity.
fn affinities(points: &[f32], width: usize, count: usize) -> Vec<Vec<f64>> {
    let row = |index: usize| &points[index * width..(index + 1) * width];
    let neighbours: Vec<Vec<f64>> = (0..count)
        .into_par_iter()
        .map(|index| {
            let squares: Vec<f64> = (0..count).map(|other| square_distance(row(index), row(other))).collect();
            conditional(&squares, index)
        })
        .collect();
    let both = |a: usize, b: usize| (neighbours[a][b] + neighbours[b][a]) / (2.0 * count as f64);
    (0..count).map(|a| (0..count).map(|b| both(a, b).max(1e-12)).collect()).collect()
}

fn square_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
}

/// The probabilities of the other points as neighbours of `own`, by their squared distances.
fn conditional(squares: &[f64], own: usize) -> Vec<f64> {
    let others = || squares.iter().enumerate().filter(|(other, _)| *other != own).map(|(_, square)| *square);
    let nearest = others().fold(f64::INFINITY, f64::min);
    let goal = PERPLEXITY.min((squares.len().saturating_sub(1)) as f64 / 3.0).max(1.0).ln();
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut precision = 1.0 / (others().sum::<f64>() / squares.len() as f64 - nearest).max(1e-12);
    for _ in 0..60 {
        let weight = |square: f64| (-(square - nearest) * precision).exp();
        let total: f64 = others().map(weight).sum();
        let moment: f64 = others().map(|square| (square - nearest) * weight(square)).sum();
        let entropy = total.ln() + precision * moment / total;
        if entropy > goal {
            low = precision;
            precision = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * precision };
        } else {
            high = precision;
            precision = f64::midpoint(low, high);
        }
    }
    let mut weights: Vec<f64> =
        squares.iter().map(|square| (-(square - nearest) * precision).exp()).collect();
    weights[own] = 0.0;
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// The gradient of the divergence between the neighbourhoods in space and in the plane.
fn gradients(affinities: &[Vec<f64>], places: &[[f64; 2]], factor: f64) -> Vec<[f64; 2]> {
    let closeness = |a: [f64; 2], b: [f64; 2]| 1.0 / (1.0 + (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2));
    // Rows in parallel, their sums in order: the same bits for any number of threads.
    let sums: Vec<f64> = places
        .par_iter()
        .map(|&place| places.iter().map(|&other| closeness(place, other)).sum::<f64>() - 1.0)
        .collect();
    let total: f64 = sums.iter().sum::<f64>().max(1e-12);
    let gradient = |(place, row): (&[f64; 2], &Vec<f64>)| {
        let mut gradient = [0.0; 2];
        for (other, affinity) in places.iter().zip(row) {
            let close = closeness(*place, *other);
            let pull = 4.0 * (factor * affinity - (close / total).max(1e-12)) * close;
            for axis in 0..2 {
                gradient[axis] += pull * (place[axis] - other[axis]);
            }
        }
        gradient
    };
    places.par_iter().zip(affinities).map(gradient).collect()
}

fn centre(places: &mut [[f64; 2]]) {
    for axis in 0..2 {
        let mean = places.iter().map(|place| place[axis]).sum::<f64>() / places.len().max(1) as f64;
        places.iter_mut().for_each(|place| place[axis] -= mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clusters of 40 points in ten dimensions.
    fn clusters() -> Vec<f32> {
        let stream = Stream::new(5, Purpose::Synthetic, 0);
        let value = |index: usize| {
            let (point, axis) = (index / 10, index % 10);
            let centre = if axis == point / 40 { 3.0 } else { 0.0 };
            centre + stream.uniform(index as u64, 0)
        };
        (0..1200).map(value).collect()
    }

    #[test]
    fn what_was_together_stays_together() {
        let places = tsne(&clusters(), 10, 1);
        let square = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2);
        for (index, &place) in places.iter().enumerate() {
            let others = (0..120).filter(|&other| other != index);
            let nearest =
                others.min_by(|&a, &b| square(place, places[a]).total_cmp(&square(place, places[b])));
            assert_eq!(nearest.unwrap() / 40, index / 40, "point {index}");
        }
    }

    #[test]
    fn the_same_points_and_seed_give_the_same_places() {
        let places = tsne(&clusters(), 10, 1);
        assert_eq!(places, tsne(&clusters(), 10, 1));
        assert_ne!(places, tsne(&clusters(), 10, 2));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(places, pool.install(|| tsne(&clusters(), 10, 1)));
    }

    #[test]
    fn few_and_equal_points_have_finite_places() {
        for count in [0, 1, 2, 7] {
            let places = tsne(&vec![1.0; 3 * count], 3, 0);
            assert_eq!(places.len(), count);
            assert!(places.iter().flatten().all(|value| value.is_finite()), "{places:?}");
        }
    }
}
