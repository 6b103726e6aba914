//! `pbe evaluate`: ACC, and with a trigger ASR and R-ACC, of a model.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use pbe::data::{Dataset, ImageSet};
use pbe::engine::EngineOptions;
use pbe::error::{Error, Result};
use pbe::eval::{Evaluator, Metrics, logits};
use pbe::fs::check_folder_of;
use pbe::report::{RunResult, csv};

use super::common::{DataArgs, ModelArgs, print_result};
use super::device::ComputeArgs;
use super::memory::{ImageBytes, MemoryEstimate};
use super::open::{Fitting, Model, Network};
use super::progress::Progress;
use super::truth::Truth;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    Test,
    Train,
}

/// Options of `pbe evaluate`.
#[derive(Args)]
pub struct EvaluateArgs {
    /// Model to measure: safetensors, or a PyTorch checkpoint
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Attack whose success is measured: a poison.json, of which only trigger and target are read, or BackdoorBench's
    /// attack_result.pt with its bd_test_dataset
    #[arg(long, value_name = "FILE")]
    trigger: Option<PathBuf>,
    /// The model before the defence: adds its figures, and DER
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Write index, file, label, prediction and logits of every image as CSV
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Images to measure on
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    #[command(flatten)]
    input: ModelArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    args.predictions.as_deref().map_or(Ok(()), check_folder_of)?;
    let progress = Progress::new();
    let model = Model::load(&args.model, &args.input)?;
    let against = args.against.as_deref().map(|path| Model::load(path, &ModelArgs::default())).transpose()?;
    let truth = args.trigger.as_deref().map(Truth::load).transpose()?;
    let device = args.compute.open()?;
    let mut seconds = Vec::new();
    let clock = Instant::now();
    let mut loaded = args.data.load(model.size(), model.channels(), args.compute.seed(), &progress)?;
    let data = args.data.data.as_path();
    let with =
        Fitting { device: device.as_ref(), data, args: &args.input, strict: false, progress: &progress };
    let (network, against, inputs) = with.fit_both(&mut loaded.set, model, against)?;
    let images = images_of(args, &loaded.set)?;
    let images = if args.split == Split::Train { loaded.limited(images) } else { images };
    let bed = match &truth {
        Some(truth) => truth.evaluator(&images)?,
        None => Evaluator::new(&images),
    };
    seconds.push(("load", clock.elapsed()));
    let clock = Instant::now();
    let measure = |network: &Network, predictions: Option<&PathBuf>| -> Result<Metrics> {
        MemoryEstimate::of(device.as_ref(), &network.graph, ImageBytes::one(&images)).check()?;
        let mut engine = network.open(device.as_ref(), &EngineOptions::default())?;
        if let Some(path) = predictions {
            let logits = logits(&mut engine, &images)?;
            csv::write_predictions(path, &images, &logits, engine.graph().classes())?;
        }
        bed.measure(&mut engine)
    };
    let mut result = RunResult::new("evaluate", &device.describe(), args.compute.seed());
    result.inputs = Some(inputs);
    let before = against.map(|network| measure(&network, None)).transpose()?;
    let after = measure(&network, args.predictions.as_ref())?;
    result.judge(before.unwrap_or_default(), after);
    seconds.push(("measure", clock.elapsed()));
    result.seconds = seconds.into_iter().map(|(phase, time)| (phase.into(), time.as_secs_f64())).collect();
    print_result(&result, args.compute.json)
}

fn images_of(args: &EvaluateArgs, set: &Dataset) -> Result<ImageSet> {
    match (args.split, &set.test) {
        (Split::Train, _) => Ok(set.train.clone()),
        (Split::Test, Some(test)) => Ok(test.clone()),
        (Split::Test, None) => Err(Error::file(
            &args.data.data,
            "has no test split; --split train measures on the training images",
        )),
    }
}
