//! Step 3: rank all training images by how much alike the infected and the purified model answer.

use super::examples::argmax;
use super::fine_tune::Next;
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;

/// Cosine between the logits of the purified model and `infected` (one row of logits for each image
/// of `images`), un-augmented, running statistics (PBE Eq. 15). Higher is more likely clean.
///
/// `done` hears how many images are finished, and may stop the work.
pub fn scores(
    purified: &mut Engine,
    images: &ImageSet,
    infected: &[f32],
    done: &mut dyn FnMut(usize) -> Next,
) -> Result<Option<Vec<f32>>> {
    purified.attach(images)?;
    let classes = purified.graph().classes();
    by_chunk(purified, images.len(), done, |engine, indices| {
        let first = indices[0] as usize;
        engine.scores(indices, &infected[first * classes..][..indices.len() * classes])
    })
}

/// Logits of every image of `images`, one row of classes each. `done` as in [`scores`].
pub fn reference(
    infected: &mut Engine,
    images: &ImageSet,
    done: &mut dyn FnMut(usize) -> Next,
) -> Result<Option<Vec<f32>>> {
    infected.attach(images)?;
    by_chunk(infected, images.len(), done, |engine, indices| engine.logits(indices))
}

/// What `job` gives for 0..`images`, as many at a time as staging holds.
fn by_chunk(
    engine: &mut Engine,
    images: usize,
    done: &mut dyn FnMut(usize) -> Next,
    mut job: impl FnMut(&mut Engine, &[u32]) -> Result<Vec<f32>>,
) -> Result<Option<Vec<f32>>> {
    let mut values = vec![];
    for first in (0..images).step_by(engine.rows()) {
        let last = images.min(first + engine.rows());
        let indices: Vec<u32> = (first as u32..last as u32).collect();
        values.extend(job(engine, &indices)?);
        if done(last) == Next::Stop {
            return Ok(None);
        }
    }
    Ok(Some(values))
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

/// Those of `selected` that the purified model gives their label. Where the erasure has worked, a
/// poisoned image with a false label is none of them, however alike the two models' logits are.
pub fn agreeing(purified: &mut Engine, images: &ImageSet, selected: &[u32]) -> Result<Vec<u32>> {
    purified.attach(images)?;
    let logits = purified.logits(selected)?;
    let answers = logits.chunks_exact(purified.graph().classes()).map(argmax);
    let agrees = |&(index, answer): &(&u32, u32)| images.labels[*index as usize] == answer;
    Ok(selected.iter().zip(answers).filter(agrees).map(|(&index, _)| index).collect())
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
