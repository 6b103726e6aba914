//! Features of images, and how far apart they are (the paper's Table 5).

use crate::data::ImageSet;
use crate::engine::{Engine, Source, StepParams};
use crate::error::Result;

/// The linear layer's inputs for all `images`, one row each.
pub fn features(engine: &mut Engine, images: &ImageSet) -> Result<Vec<f32>> {
    engine.attach(images)?;
    let (all, width): (Vec<u32>, _) = ((0..images.len() as u32).collect(), engine.graph().features());
    let mut features = vec![0.0; images.len() * width];
    engine.infer(Source::Images, &all, &StepParams::default(), |rows| {
        rows.features(&mut features[rows.first * width..])
    })?;
    Ok(features)
}

/// Mean Euclidean distance between the rows of `a` and `b`, `width` numbers each; none without rows.
pub fn mean_distance(a: &[f32], b: &[f32], width: usize) -> Option<f64> {
    let rows = a.len() / width.max(1);
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    let distance = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(square).sum::<f64>().sqrt();
    let sum: f64 = a.chunks_exact(width.max(1)).zip(b.chunks_exact(width.max(1))).map(distance).sum();
    (rows > 0).then(|| sum / rows as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_the_distances_of_rows() {
        assert_eq!(mean_distance(&[0.0, 0.0, 1.0, 1.0], &[3.0, 4.0, 1.0, 2.0], 2), Some(3.0));
        assert_eq!(mean_distance(&[], &[], 2), None);
    }
}
