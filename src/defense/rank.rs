//! Step 3: rank all training images by how much alike the infected and the purified model answer.

use super::examples::argmax;
use super::fine_tune::Next;
use crate::data::ImageSet;
use crate::device::Controls;
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
        engine.infer(Source::Images, indices, &Controls::default(), |rows| {
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

/// Indices of the top `share` of the ranking (at least one image), in ascending order. Equal scores
/// rank by index.
pub fn select(scores: &[f32], share: f64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    order.truncate(((share * scores.len() as f64).round() as usize).max(1));
    order.sort_unstable();
    order
}

/// The answer in each row of `logits`.
pub fn answers(logits: &[f32], classes: usize) -> Vec<u32> {
    logits.chunks_exact(classes).map(argmax).collect()
}

/// Those of `selected` whose answer is their label.
pub fn agreeing(selected: &[u32], answers: &[u32], labels: &[u32]) -> Vec<u32> {
    selected.iter().copied().filter(|&i| answers[i as usize] == labels[i as usize]).collect()
}

/// As [`agreeing`], but a class that the purified model has forgotten keeps its images: one that it gives to fewer
/// than half of the images that are to have it, after a round whose set, `taught`, had less than a tenth of its
/// share of them. `answers` and `labels` are those of all images. A label may have poisoned images besides, so no
/// more than an equal share of all images is expected for it.
pub fn agreeing_where_known(
    selected: &[u32],
    taught: &[u32],
    answers: &[u32],
    labels: &[u32],
    classes: usize,
) -> Vec<u32> {
    let count = |list: &mut dyn Iterator<Item = u32>| {
        let mut counts = vec![0usize; classes];
        list.for_each(|class| counts[class as usize] += 1);
        counts
    };
    let given = count(&mut answers.iter().copied());
    let labelled = count(&mut labels.iter().copied());
    let shown = count(&mut taught.iter().map(|&i| labels[i as usize]));
    let forgotten = |class: usize| {
        let expected = labelled[class].min(labels.len() / classes);
        2 * given[class] < expected && 10 * shown[class] * labels.len() < expected * taught.len()
    };
    let keeps = |i: usize| answers[i] == labels[i] || forgotten(labels[i] as usize);
    selected.iter().copied().filter(|&i| keeps(i as usize)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_the_most_alike() {
        assert_eq!(select(&[0.1, 0.9, 0.5, 0.9], 0.5), vec![1, 3]);
        assert_eq!(select(&[0.1, 0.9, 0.5, 0.9], 0.01), vec![1]);
    }

    #[test]
    fn keeps_what_the_purified_model_agrees_with() {
        let (answers, labels) = ([0, 2, 1, 0], [0, 1, 1, 2]);
        assert_eq!(agreeing(&[0, 1, 2], &answers, &labels), vec![0, 2]);
        assert_eq!(agreeing(&[3], &answers, &labels), Vec::<u32>::new());
    }
    /// The infected model's adversarial examples all landed on its target, so no image of that class came into the
    /// first set (Blend of another program, CIFAR-10): the purified model had forgotten the class, agreed with 6 of
    /// its images, and ended with a recall of 40 % there, 85 % before.
    #[test]
    fn a_forgotten_class_keeps_its_images() {
        let labels = [0, 0, 0, 0, 1, 1, 1, 1];
        let keep = |taught: &[u32], answers: &[u32]| {
            agreeing_where_known(&[0, 1, 4, 5], taught, answers, &labels, 2)
        };
        let (once, twice) = ([1, 1, 1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 1, 0, 1, 1]);
        assert_eq!(keep(&[4, 5], &once), [0, 1, 4], "neither shown class 0 nor giving it");
        assert_eq!(keep(&[0, 4], &once), [4], "shown");
        assert_eq!(keep(&[4, 5], &twice), [4], "gives it often enough, if to others");
    }

    /// Most images of the target's label are poisoned there (GTSRB, Dynamic: 3,921 of 6,171), and a purified model
    /// that gives them their true label has forgotten nothing: asked label by label whether it agrees with most,
    /// 4 % of the selection were poisoned, and ASR 50 after 1.4.
    #[test]
    fn a_label_that_is_mostly_poison_is_not_forgotten() {
        let labels = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let answers = [0, 0, 0, 1, 1, 1, 1, 1, 1, 1];
        assert_eq!(agreeing_where_known(&[0, 3, 4, 9], &[9], &answers, &labels, 2), [0, 9]);
    }
}
