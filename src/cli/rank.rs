//! `pbe rank`: how likely each training image is clean, from a model before and after purification.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use pbe::backdoor::PoisonFile;
use pbe::defense::fine_tune::Next;
use pbe::defense::rank::{reference, scores};
use pbe::engine::EngineOptions;
use pbe::error::{Error, Result};
use pbe::report::{Round, RunResult, average_precision, csv, precision_recall};

use super::common::{DataArgs, NormalisationArgs, print};
use super::device::ComputeArgs;
use super::open::Model;
use super::progress::Progress;
use super::purify::suspect;
use super::room::{Images, Room};

/// Options of `pbe rank`.
#[derive(Args)]
pub struct RankArgs {
    /// The suspect model: safetensors, or a PyTorch checkpoint
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The same model, purified
    #[arg(long, value_name = "FILE")]
    purified: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// The truth, where it is known: poisons the data as it says, and judges the ranking
    #[arg(long, value_name = "FILE")]
    poison: Option<PathBuf>,
    /// Write the ranking as CSV: index, file, label, score
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Write the precision-recall curve as CSV (needs --poison)
    #[arg(long, value_name = "FILE", requires = "poison")]
    pr: Option<PathBuf>,
    #[command(flatten)]
    normalisation: NormalisationArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
pub fn run(args: &RankArgs) -> Result<()> {
    let progress = Progress::new();
    let (infected, purified) = (Model::load(&args.model)?, Model::load(&args.purified)?);
    if infected.weights.architecture != purified.weights.architecture {
        return Err(Error::file(&args.purified, "is another architecture than the suspect model"));
    }
    let truth = args.poison.as_deref().map(PoisonFile::load).transpose()?;
    let device = args.compute.open()?;
    let clock = Instant::now();
    let loaded = args.data.load(infected.size(), infected.channels(), args.compute.seed, &progress)?;
    let given = args.normalisation.normalisation.as_ref();
    let infected = infected.fit(&loaded.set, &args.data.data, given)?;
    let purified = purified.fit(&loaded.set, &args.data.data, given)?;
    let (images, clean) = suspect(&loaded, truth.as_ref())?;
    Room::of(device.as_ref(), &infected.graph, Images::one(&images)).check()?;
    let load = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let total = 2 * images.len();
    let show = |done: usize| {
        progress.show("ranking", done, total, None);
        Next::Continue
    };
    let options = EngineOptions::default();
    let logits = reference(&mut infected.open(device.as_ref(), &options)?, &images, &mut |done| show(done))?;
    let logits = logits.unwrap_or_default();
    let mut engine = purified.open(device.as_ref(), &options)?;
    let scored = scores(&mut engine, &images, &logits, &mut |done| show(images.len() + done))?;
    let scores = scored.unwrap_or_default().scores;
    progress.clear();
    csv::write_ranking(&args.output, &images, &scores)?;
    let precision = clean.as_ref().and_then(|clean| average_precision(&scores, clean));
    if let (Some(path), Some(clean)) = (&args.pr, &clean) {
        csv::write_precision_recall(path, &precision_recall(&scores, clean))?;
    }
    let seconds = [("load".into(), load), ("rank".into(), clock.elapsed().as_secs_f64())];
    if args.compute.json {
        let mut result = RunResult::new("rank", &device.describe(), args.compute.seed);
        result.rounds = vec![Round { average_precision: precision, ..Round::default() }];
        result.seconds = seconds.into();
        return print(&result.to_json()?);
    }
    let judged =
        precision.map_or_else(String::new, |value| format!(", average precision of clean {value:.4}"));
    print(&format!("{} images ranked to {}{judged}\n", images.len(), args.output.display()))
}
