//! Step 3: rank all training images by how much alike the infected and the purified model answer.

use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;

/// Cosine between the logits of the purified model and `infected` (one row of logits for each image
/// of `images`), un-augmented, running statistics (PBE Eq. 15). Higher is more likely clean.
pub fn scores(purified: &mut Engine, images: &ImageSet, infected: &[f32]) -> Result<Vec<f32>> {
    purified.attach(images)?;
    let all: Vec<u32> = (0..images.len() as u32).collect();
    purified.scores(&all, infected)
}

/// Logits of every image of `images`, one row of classes each.
pub fn reference(infected: &mut Engine, images: &ImageSet) -> Result<Vec<f32>> {
    infected.attach(images)?;
    let all: Vec<u32> = (0..images.len() as u32).collect();
    infected.logits(&all)
}

/// Indices of the top `share` of the ranking (at least one image), in ascending order. Equal scores
/// rank by index.
pub fn select(scores: &[f32], share: f64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    order.truncate(((share * scores.len() as f64).round() as usize).max(1));
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_the_most_alike() {
        assert_eq!(select(&[0.1, 0.9, 0.5, 0.9], 0.5), vec![1, 3]);
        assert_eq!(select(&[0.1, 0.9, 0.5, 0.9], 0.01), vec![1]);
    }
}
