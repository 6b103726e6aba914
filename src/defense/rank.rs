//! Step 3: rank all training images by how much alike the infected and the purified model answer.

use super::examples::argmax;
use super::fine_tune::Next;
use crate::data::ImageSet;
use crate::device::StepParams;
use crate::engine::{Engine, Source};
use crate::error::Result;

/// What step 3 finds about every image.
#[derive(Debug, Default)]
pub struct Scored {
    /// Cosine between the purified and the infected model's logits (PBE Eq. 15). Higher is more
    /// likely clean.
    pub scores: Vec<f32>,
    /// The label that the purified model gives.
    pub answers: Vec<u32>,
}

/// Scores `images` with the purified model against `infected` (one row of logits for each of them),
/// un-augmented, running statistics.
///
/// `done` hears how many images are finished, and may stop the work.
pub fn scores(
    purified: &mut Engine,
    images: &ImageSet,
    infected: &[f32],
    done: &mut dyn FnMut(usize) -> Next,
) -> Result<Option<Scored>> {
    purified.attach(images)?;
    let classes = purified.graph().classes();
    let mut scored = Scored { scores: vec![0.0; images.len()], answers: vec![0; images.len()] };
    let mut logits = vec![0.0; purified.rows().min(images.len()) * classes];
    let finished = by_chunk(purified, images.len(), done, |engine, indices| {
        let first = indices[0] as usize;
        let reference = &infected[first * classes..][..indices.len() * classes];
        engine.score(indices, reference, |rows| {
            rows.scores(&mut scored.scores[first..])?;
            rows.logits(&mut logits)?;
            let answers = logits.chunks_exact(classes).take(rows.count).map(argmax);
            scored.answers[first..].iter_mut().zip(answers).for_each(|(to, answer)| *to = answer);
            Ok(())
        })
    })?;
    Ok(finished.then_some(scored))
}

/// Logits of every image of `images`, one row of classes each. `done` as in [`scores`].
pub fn reference(
    infected: &mut Engine,
    images: &ImageSet,
    done: &mut dyn FnMut(usize) -> Next,
) -> Result<Option<Vec<f32>>> {
    infected.attach(images)?;
    let classes = infected.graph().classes();
    let mut logits = vec![0.0; images.len() * classes];
    let finished = by_chunk(infected, images.len(), done, |engine, indices| {
        let first = indices[0] as usize;
        engine.infer(Source::Images, indices, &StepParams::default(), |rows| {
            rows.logits(&mut logits[first * classes..])
        })
    })?;
    Ok(finished.then_some(logits))
}

/// Does `job` for 0..`images`, as many at a time as staging holds; whether all was done.
fn by_chunk(
    engine: &mut Engine,
    images: usize,
    done: &mut dyn FnMut(usize) -> Next,
    mut job: impl FnMut(&mut Engine, &[u32]) -> Result<()>,
) -> Result<bool> {
    for first in (0..images).step_by(engine.rows()) {
        let last = images.min(first + engine.rows());
        let indices: Vec<u32> = (first as u32..last as u32).collect();
        job(engine, &indices)?;
        if done(last) == Next::Stop {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The answer in each row of `logits`.
pub fn answers(logits: &[f32], classes: usize) -> Vec<u32> {
    logits.chunks_exact(classes).map(argmax).collect()
}

/// Those of `selected` whose answer is their label.
pub fn agreeing(selected: &[u32], answers: &[u32], labels: &[u32]) -> Vec<u32> {
    selected.iter().copied().filter(|&i| answers[i as usize] == labels[i as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_the_purified_model_agrees_with() {
        let (answers, labels) = ([0, 2, 1, 0], [0, 1, 1, 2]);
        assert_eq!(agreeing(&[0, 1, 2], &answers, &labels), vec![0, 2]);
        assert_eq!(agreeing(&[3], &answers, &labels), Vec::<u32>::new());
    }
}
