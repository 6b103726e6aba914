//! What the training images say of the infected model and of the purified one, without a trigger.

use pbe::analysis::{AsrEstimate, Detection, Suspects, Verdict, estimate_asr, find_suspects};
use pbe::data::ImageSet;
use pbe::engine::Engine;
use pbe::error::Result;
use pbe::eval::predict;
use pbe::report::ClassRecall;

use super::data::PurifyData;
use crate::cli::interrupt;
use crate::cli::progress::Progress;

/// What was found, and what it was found with.
pub struct Findings {
    pub suspects: Suspects,
    pub detection: Detection,
    pub estimate: Option<AsrEstimate>,
    /// The mean difference of the suspected images, in grey levels; empty without any.
    pub difference: Vec<f64>,
    pub recall: Vec<ClassRecall>,
}

impl Findings {
    /// Looks at the training images with both models. With a clean set there are none to suspect.
    pub fn new(
        infected: &mut Engine,
        purified: &mut Engine,
        data: &PurifyData,
        seed: u64,
        progress: &Progress,
    ) -> Result<Option<Self>> {
        if data.clean_set {
            return Ok(None);
        }
        let (images, flip) = (&data.images, data.set.allows_flip());
        let suspects = find_suspects(infected, images, flip, seed, &mut |done, total| {
            progress.show("suspected images", done, total, None);
            interrupt::check()
        })?;
        progress.clear();
        let detection = suspects.judge();
        let found = match detection.verdict {
            Verdict::Infected if detection.targets.len() == 1 => {
                estimate_asr(infected, purified, images, &suspects, detection.targets[0])?
            }
            _ => None,
        };
        let (estimate, difference) = found.unzip();
        let judged = match &data.set.test {
            Some(test) => test.clone(),
            None => images.subset(&suspects.unsuspected()),
        };
        let recall = recall(infected, purified, &judged)?;
        Ok(Some(Self { suspects, detection, estimate, difference: difference.unwrap_or_default(), recall }))
    }
}

/// Recall of every class, before and after.
fn recall(infected: &mut Engine, purified: &mut Engine, images: &ImageSet) -> Result<Vec<ClassRecall>> {
    let [before, after] = [predict(infected, images)?, predict(purified, images)?];
    let of = |predictions: &[u32], label: usize| {
        let own = || (0..images.len()).filter(|&i| images.labels[i] as usize == label);
        let right = own().filter(|&i| predictions[i] as usize == label).count();
        (own().count() > 0).then(|| 100.0 * right as f64 / own().count() as f64)
    };
    let class = |(label, name): (usize, &String)| ClassRecall {
        class: name.clone(),
        before: of(&before, label),
        after: of(&after, label),
    };
    Ok(images.classes.iter().enumerate().map(class).collect())
}
