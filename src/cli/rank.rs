//! `pbe rank`: how likely each training image is clean, from a model before and after purification.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use pbe::data::ImageSet;
use pbe::engine::EngineOptions;
use pbe::error::{Error, Result};
use pbe::eval::{agreement, average_precision, logits_with_progress, precision_recall, predictions};
use pbe::fs::check_folder_of;
use pbe::report::{RoundResult, RunResult, csv};

use super::common::{DataArgs, ModelArgs, print};
use super::device::ComputeArgs;
use super::memory::{ImageBytes, MemoryEstimate};
use super::open::{Fitting, Model, tell};
use super::progress::Progress;
use super::purify::training_images;
use super::truth::Truth;

/// Options of `pbe rank`.
#[derive(Args)]
pub struct RankArgs {
    /// The infected model: safetensors, or a PyTorch checkpoint
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The same model, purified
    #[arg(long, value_name = "FILE")]
    purified: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// The truth, where it is known: poisons the data as it says, and judges the ranking. A poison.json, or
    /// BackdoorBench's attack_result.pt with its bd_train_dataset
    #[arg(long, value_name = "FILE")]
    poison: Option<PathBuf>,
    /// Write the ranking as CSV: index, file, label, score
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Write the precision-recall curve as CSV (needs --poison)
    #[arg(long, value_name = "FILE", requires = "poison")]
    pr: Option<PathBuf>,
    #[command(flatten)]
    input: ModelArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
pub fn run(args: &RankArgs) -> Result<()> {
    let progress = Progress::new();
    [Some(&args.output), args.pr.as_ref()]
        .into_iter()
        .flatten()
        .try_for_each(|path| check_folder_of(path))?;
    let infected = Model::load(&args.model, &args.input)?;
    let purified = Model::load(&args.purified, &ModelArgs::default())?;
    if infected.weights.architecture != purified.weights.architecture {
        return Err(Error::file(&args.purified, "is another architecture than the infected model"));
    }
    let truth = args.poison.as_deref().map(Truth::load).transpose()?;
    let device = args.compute.open()?;
    let clock = Instant::now();
    let mut loaded = args.data.load(infected.size(), infected.channels(), args.compute.seed(), &progress)?;
    let data = args.data.data.as_path();
    let with =
        Fitting { device: device.as_ref(), data, args: &args.input, strict: true, progress: &progress };
    let infected = infected.fit(&mut loaded.set, &with)?;
    let purified = purified.fit(&mut loaded.set, &with)?;
    let inputs = tell(data, &loaded.set, &[&infected.told, &purified.told], &progress);
    let (images, clean) = training_images(&loaded, truth.as_ref())?;
    MemoryEstimate::of(device.as_ref(), &infected.graph, ImageBytes::one(&images)).check()?;
    let load = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let total = 2 * images.len();
    let show = |done: usize| {
        progress.show("ranking", done, total, None);
        Ok(())
    };
    let options = EngineOptions::default();
    let mut engine = infected.open(device.as_ref(), &options)?;
    let logits = logits_with_progress(&mut engine, &images, &mut |done| show(done))?;
    let mut engine = purified.open(device.as_ref(), &options)?;
    let compared = agreement(&mut engine, &images, &logits, &mut |done| show(images.len() + done))?;
    let scores = compared.cosine;
    progress.clear();
    csv::write_ranking(&args.output, &images, &scores)?;
    let precision = clean.as_ref().and_then(|clean| average_precision(&scores, clean));
    if let (Some(path), Some(clean)) = (&args.pr, &clean) {
        csv::write_precision_recall(path, &precision_recall(&scores, clean))?;
    }
    let seconds = [("load".into(), load), ("rank".into(), clock.elapsed().as_secs_f64())];
    if args.compute.json {
        let mut result = RunResult::new("rank", &device.describe(), args.compute.seed());
        result.inputs = Some(inputs);
        result.rounds = vec![RoundResult { average_precision: precision, ..RoundResult::default() }];
        result.seconds = seconds.into();
        return print(&result.to_json()?);
    }
    let mut judged =
        precision.map_or_else(String::new, |value| format!(", average precision of clean {value:.4}"));
    if let Some(clean) = &clean {
        let predictions = predictions(&logits, infected.weights.architecture.classes)?;
        judged += &obeyed(&images, &scores, clean, &predictions).unwrap_or_default();
    }
    print(&format!("{} images ranked to {}{judged}\n", images.len(), args.output.display()))
}

/// The average precision without poison that the infected model doesn't obey, in words, where there is some: such an
/// image has the logits of a clean one, before and after.
fn obeyed(images: &ImageSet, scores: &[f32], clean: &[bool], answers: &[u32]) -> Option<String> {
    let kept = |&i: &usize| clean[i] || answers[i] == images.labels[i];
    let (scores, clean): (Vec<f32>, Vec<bool>) =
        (0..images.len()).filter(kept).map(|i| (scores[i], clean[i])).unzip();
    let (left_out, value) = (images.len() - scores.len(), average_precision(&scores, &clean)?);
    let text = format!(
        "; {value:.4} without {left_out} poisoned images whose label the infected model doesn't give"
    );
    (left_out > 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BadNets, CIFAR-10: 145 of the 260 poisoned images in the best 70 % were such that the model gave them another
    /// label than the one they came with.
    #[test]
    fn poison_that_is_not_obeyed_is_told_apart() {
        let images = ImageSet::noise(4, 2, 1, 1);
        let told =
            |answers: &[u32]| obeyed(&images, &[0.9, 0.8, 0.7, 0.6], &[true, false, true, false], answers);
        let (label, other) = (images.labels[0], images.labels[0] + 1);
        assert_eq!(told(&[other, label, label, label]), None, "a clean image isn't asked");
        let one = told(&[label, other, label, label]).unwrap();
        assert!(one.starts_with("; 1.0000 without 1 poisoned image"), "{one}");
    }
}
