//! What the training images say of the infected model and of the purified one, without a trigger.

use pbe::analysis::{AsrEstimate, AsrProbe, Detection, EstimatedFrom, Verdict};
use pbe::data::ImageSet;
use pbe::engine::Engine;
use pbe::error::Result;
use pbe::eval::{Suspects, accuracy, find_suspects, predict};
use pbe::report::{ClassRecall, TrainingAccuracy};
use pbe::rng::{Purpose, Stream};
use pbe::train::{TrainConfig, TrainCursor, TrainJob, TrainerConfig, train};

use super::data::PurifyData;
use crate::cli::interrupt;
use crate::cli::progress::Progress;

/// What was found, and what it was found with.
pub struct Findings {
    pub suspects: Suspects,
    pub detection: Detection,
    pub estimate: Option<AsrEstimate>,
    /// The reconstructed trigger, in grey levels; empty where there is none.
    pub shift: Vec<f64>,
    pub recall: Vec<ClassRecall>,
    /// Where there are no test images.
    pub training_accuracy: Option<TrainingAccuracy>,
}

impl Findings {
    /// Looks at the training images with both models. With a clean set there are none to suspect. `suspects` are those
    /// that the defence has found, if it has looked for them; `relabelled` says that it trained on them.
    pub fn new(
        infected: &mut Engine,
        purified: &mut Engine,
        data: &PurifyData,
        (suspects, relabelled): (Option<Suspects>, bool),
        (trainer, seed): (&TrainerConfig, u64),
        progress: &Progress,
    ) -> Result<Option<Self>> {
        if data.clean_set {
            return Ok(None);
        }
        let (images, flip) = (&data.images, data.set.allows_flip());
        let suspects = match suspects {
            Some(suspects) => suspects,
            None => find_suspects(infected, images, flip, seed, &mut |done, total| {
                progress.show("suspected images", done, total, None);
                interrupt::check()
            })?,
        };
        progress.clear();
        let detection = Detection::new(&suspects);
        let probe = match detection.verdict {
            Verdict::Infected => AsrProbe::new(infected, images, &suspects, &detection.targets)?,
            _ => None,
        };
        // What the model was taught about the suspected images tells nothing of other images with the trigger: after SIG
        // none of those held out kept its label, and the attack success rate was 99.97.
        let probe = probe.filter(|probe| !relabelled || probe.from == EstimatedFrom::ReconstructedTrigger);
        let judged = match &data.set.test {
            Some(test) => test.clone(),
            None => images.subset(&suspects.unsuspected()),
        };
        let (recall, accuracy) = recall(infected, purified, &judged)?;
        let training_accuracy = data.set.test.is_none().then_some(accuracy);
        // Last: it trains the purified model on.
        let estimate = match &probe {
            Some(probe) => Some(estimate(
                probe,
                infected,
                purified,
                &Relearning { images, suspects: &suspects, trainer, seed },
            )?),
            None => None,
        };
        let shift = probe.map(|probe| probe.shift).unwrap_or_default();
        Ok(Some(Self { suspects, detection, estimate, shift, recall, training_accuracy }))
    }
}

/// What the purified model is trained on to see whether the backdoor comes back.
struct Relearning<'a> {
    images: &'a ImageSet,
    suspects: &'a Suspects,
    trainer: &'a TrainerConfig,
    seed: u64,
}

/// The attack success rates of both models, and of the purified one after it has been trained on.
fn estimate(
    probe: &AsrProbe,
    infected: &mut Engine,
    purified: &mut Engine,
    relearning: &Relearning,
) -> Result<AsrEstimate> {
    let [before, after] = [probe.rate(infected)?, probe.rate(purified)?];
    relearning.train(purified)?;
    let relearnt = Some(probe.rate(purified)?);
    Ok(AsrEstimate { from: probe.from, images: probe.images(), before, after, relearnt })
}

impl Relearning<'_> {
    /// One epoch on 1 % of the suspected images and 10 % of the others. A defence that only hides a backdoor
    /// loses to that (arXiv 2410.09838).
    fn train(&self, purified: &mut Engine) -> Result<()> {
        let share = |list: &[u32], part: usize| {
            let order = Stream::new(self.seed, Purpose::Split, 2).permutation(list.len());
            order[..list.len().div_ceil(part)].iter().map(|&at| list[at as usize]).collect::<Vec<u32>>()
        };
        let indices = [share(&self.suspects.images, 100), share(&self.suspects.unsuspected(), 10)].concat();
        let config = TrainConfig { epochs: 1, learning_rate: 0.01, ..TrainConfig::PLAIN };
        let mut job = TrainJob {
            images: self.images,
            epoch_images: None,
            indices: &indices,
            config: &config,
            trainer: self.trainer,
            seed: self.seed,
            teacher: None,
            attack: None,
            optimizer: None,
        };
        train(purified, &mut job, &mut TrainCursor::default(), &mut |_, _| interrupt::check())
    }
}

/// Recall of every class and accuracy, before and after.
fn recall(
    infected: &mut Engine,
    purified: &mut Engine,
    images: &ImageSet,
) -> Result<(Vec<ClassRecall>, TrainingAccuracy)> {
    let both = [predict(infected, images)?, predict(purified, images)?];
    let of_label = |predictions: &[u32], wanted: usize| {
        let pairs = predictions.iter().copied().zip(images.labels.iter().copied());
        let own = pairs.filter(|&(_, label)| label as usize == wanted);
        let (predictions, labels): (Vec<u32>, Vec<u32>) = own.unzip();
        accuracy(&predictions, &labels)
    };
    let class = |(label, name): (usize, &String)| {
        let [before, after] = both.each_ref().map(|predictions| of_label(predictions, label));
        ClassRecall { class: name.clone(), before, after }
    };
    let [before, after] =
        both.each_ref().map(|predictions| accuracy(predictions, &images.labels).unwrap_or(0.0));
    let accuracy = TrainingAccuracy { images: images.len() as u64, before, after };
    Ok((images.classes.iter().enumerate().map(class).collect(), accuracy))
}
