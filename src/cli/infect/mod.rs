//! `pbe infect`: trains a model with a planted backdoor, or a benign one.
//!
//! | file | |
//! |---|---|
//! | `setup` | data and network of a run, whatever is planted |
//! | `config` | settings from a file |
//! | `job` | training on poisoned images |
//! | `dynamic`, `joint`, `generators` | training with the networks that make the triggers: the run, its loop, its options |

mod config;
mod dynamic;
mod generators;
mod job;
mod joint;
mod setup;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use pbe::backdoor::triggered_evaluator;
use pbe::data::ImageSet;
use pbe::device::Device;
use pbe::engine::Engine;
use pbe::error::{Error, Result};
use pbe::eval::{Evaluator, Metrics};
use pbe::inputs::Inputs;
use pbe::model::{Weights, save};
use pbe::report::{RunFolder, RunResult};
use pbe::train::TrainerConfig;

pub use self::config::{Infect, expand};
use self::generators::GeneratorArgs;
use self::job::{InfectMeta, InfectRun};
use self::setup::{InfectSettings, Setup, TrainArgs};
use super::checkpoint::{ResumeState, resume_state};
use super::common::{
    DataArgs, DataConfig, Digests, Loaded, ModelArgs, Provenance, RunArgs, print_result, remove,
};
use super::config_file::log_changes;
use super::device::ComputeArgs;
use super::memory::{ImageBytes, MemoryEstimate};
use super::progress::Progress;
use super::trigger::{PoisonedData, TriggerArgs};

/// Options of `pbe infect`.
#[derive(Args)]
pub struct InfectArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub trigger: TriggerArgs,
    /// Poison other images in every epoch, as the authors of WaNet and Dynamic train [default:
    /// poison.json's]
    #[arg(long)]
    pub fresh: bool,
    #[command(flatten)]
    pub train: TrainArgs,
    #[command(flatten)]
    pub generators: GeneratorArgs,
    #[command(flatten)]
    pub input: ModelArgs,
    /// Options from a TOML file, as a run's config.toml has them; that file repeats the run
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Runs the command.
pub fn run(args: &InfectArgs) -> Result<()> {
    print_result(&infect(args, &Progress::new())?, args.compute.json)
}

/// Trains and writes the run folder.
pub fn infect(args: &InfectArgs, progress: &Progress) -> Result<RunResult> {
    let poison_settings = args.trigger.check()?;
    args.generators.check(poison_settings.as_ref())?;
    let clock = Instant::now();
    let setup = Setup::new(args, progress)?;
    if let Some(poison_settings) =
        poison_settings.as_ref().filter(|poison_settings| poison_settings.is_untrained())
    {
        return dynamic::infect(args, poison_settings, setup, progress);
    }
    let Setup { device, loaded, config, train, normalisation, mut weights, graph, inputs } = setup;
    let data = DataConfig::new(&args.data, &loaded.set, &normalisation);
    let planted = poison_settings.as_ref().map(|poison_settings| {
        let planted = poison_settings.poison(loaded.limited(train.clone()), args.compute.seed())?;
        count_all(planted, &loaded)
    });
    let planted = planted.transpose()?;
    let evaluator = match (&loaded.set.test, &planted) {
        (Some(test), Some(planted)) => {
            Some(triggered_evaluator(test, &planted.trigger, planted.truth.label)?)
        }
        (Some(test), None) => Some(Evaluator::new(test)),
        (None, _) => None,
    };
    let clean = loaded.limited(train);
    let images = planted.as_ref().map_or(&clean, |planted| &planted.poisoned.images).clone();
    let bytes = ImageBytes {
        shared: images.pixels.len() + evaluator.as_ref().map_or(0, Evaluator::bytes),
        largest: images.pixels.len().max(loaded.set.test.as_ref().map_or(0, |test| test.pixels.len())),
    };
    let trained = |batch| vec![TrainerConfig { batch, ..config.trainer.clone() }.engine_options()];
    let estimate = MemoryEstimate {
        device: device.as_ref(),
        graph: &graph,
        batch: config.trainer.batch,
        networks: Box::new(trained),
        others: Box::new(|_| Ok(vec![])),
        images: bytes,
    };
    let need = estimate.check()?;
    let provenance = Provenance::new(device.kind(), device.precision(), args.compute.seed());
    let digests = digests(args, &weights, &images, evaluator.as_ref())?;
    let settings = InfectSettings {
        provenance,
        network: weights.architecture.network.name(),
        width: weights.architecture.width,
        init: args.train.init.as_deref(),
        weights: args.input.weights.as_deref(),
        data,
        attack: poison_settings.as_ref(),
        fresh: args.fresh,
        train: &config,
        generators: None,
        digests: &digests,
    };
    let folder = RunFolder::create(args.run.folder(), "infect", &settings, args.run.begin())?;
    let from = match resume_state::<InfectMeta>(&folder, args.run.begin())? {
        ResumeState::Finished(result) => return Ok(*result),
        ResumeState::From(checkpoint) => Some(checkpoint),
        ResumeState::Fresh => None,
    };
    if let Some(planted) = &planted {
        planted.truth.save(&folder.poison())?;
    }
    let epoch_images = |epoch: u32| match &poison_settings {
        Some(poison_settings) => {
            Ok(poison_settings.poison_epoch(clean.clone(), args.compute.seed(), epoch)?)
        }
        None => Ok(clean.clone()),
    };
    let mut engine =
        Engine::open(device.as_ref(), &graph, &weights.values, &config.trainer.engine_options())?;
    let mut meta = InfectMeta::default();
    if let Some(mut checkpoint) = from {
        let (weights, momentum) = (checkpoint.take_floats("weights"), checkpoint.take_floats("momentum"));
        if (weights.len(), momentum.len()) != (graph.weights, graph.trainable) {
            return Err(Error::file(folder.checkpoint(), "holds another network"));
        }
        engine.set_weights(&weights)?;
        engine.set_momentum(&momentum)?;
        meta = checkpoint.meta;
    }
    progress.log(&need.to_string());
    let run = InfectRun {
        images: &images,
        epoch_images: args.fresh.then_some(&epoch_images),
        config: &config,
        seed: args.compute.seed(),
        evaluator: evaluator.as_ref(),
        folder: &folder,
    };
    let load = clock.elapsed().as_secs_f64();
    run.train(&mut engine, &mut meta, progress)?;

    weights.values = engine.weights()?;
    save(&weights, folder.model())?;
    let after = evaluator.map(|evaluator| evaluator.measure(&mut engine)).transpose()?.unwrap_or_default();
    let seconds = [("load", load), ("train", meta.log.training_seconds())];
    finish(&folder, args, device.as_ref(), inputs, after, &seconds)
}

/// Writes the result of a run that is done.
fn finish(
    folder: &RunFolder,
    args: &InfectArgs,
    device: &dyn Device,
    inputs: Inputs,
    after: Metrics,
    seconds: &[(&str, f64)],
) -> Result<RunResult> {
    let mut result = RunResult::new("infect", &device.describe(), args.compute.seed());
    result.inputs = Some(inputs);
    result.after = after;
    result.seconds = seconds.iter().map(|(phase, time)| (phase.to_string(), *time)).collect();
    result.save(&folder.result())?;
    remove(&folder.checkpoint())?;
    Ok(result)
}

/// Digests of what a run depends on beside its settings; says which differ from those of `--config`.
fn digests(
    args: &InfectArgs,
    weights: &Weights,
    images: &ImageSet,
    evaluator: Option<&Evaluator>,
) -> Result<Digests> {
    let own = [("initial_weights", weights.digest()), ("training_images", images.digest())];
    let digests = own.into_iter().chain(evaluator.into_iter().flat_map(Evaluator::digests)).collect();
    if let Some(path) = &args.config {
        log_changes(&config::origin(path)?.1, &digests);
    }
    Ok(digests)
}

/// Numbers the poisoned images as the whole set does, of which `--limit` took some, and makes them
/// again under these numbers, as every reader of `poison.json` does.
fn count_all(mut planted: PoisonedData, loaded: &Loaded) -> Result<PoisonedData> {
    if let Some(taken) = &loaded.taken {
        let train = &mut planted.truth.train;
        let all = train.indices.iter_mut().chain(&mut train.noise);
        all.for_each(|index| *index = taken[*index as usize]);
        train.images = loaded.set.train.len();
        planted.poisoned.images = loaded.limited(planted.truth.apply(loaded.set.train.clone())?);
    }
    Ok(planted)
}
