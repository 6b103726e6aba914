//! `pbe infect`: trains a model with a planted backdoor, or a benign one.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use pbe::backdoor::dynamic::Config as GeneratorConfig;
use pbe::backdoor::{Lesson, PlantConfig, plant};
use pbe::data::{ImageSet, Normalisation};
use pbe::defense::config::Schedule;
use pbe::defense::fine_tune::{Afresh, Next, Position, Tick};
use pbe::device::Device;
use pbe::engine::Engine;
use pbe::engine::graph::Graph;
use pbe::error::{Error, Result};
use pbe::model::{Architecture, Kind, Weights, load, save};
use pbe::report::csv::{Epoch, write_epochs};
use pbe::report::{RunFolder, RunResult, TestBed};
use serde::{Deserialize, Serialize};

use super::checkpoint;
use super::common::{DataArgs, DataConfig, Loaded, NormalisationArgs, Origin, print_result, remove};
use super::device::ComputeArgs;
use super::dynamic::{self, GeneratorArgs};
use super::interrupt;
use super::progress::Progress;
use super::room::{Images, Room};
use super::start::{Start, start};
use super::trigger::{AttackKind, Choice, Planted, TriggerArgs};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Infection {
    /// A patch: the last 3x3 pixels white, unless --mask and --pattern say otherwise
    Badnets,
    /// A pattern blended into the whole image
    Blend,
    /// A sinusoid along the columns, put on images of the target class alone
    Sig,
    /// A smooth warp, and disturbed warps of other images that keep their label
    Wanet,
    /// A trigger of its own for each image, made by networks that are trained with the classifier
    Dynamic,
    /// No backdoor: a benign model
    None,
}

/// Options of `pbe infect`.
#[derive(Args)]
pub struct InfectArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Backdoor to plant
    #[arg(long, value_enum)]
    pub attack: Infection,
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
    pub normalisation: NormalisationArgs,
    /// Folder of the run: model.safetensors, poison.json, config.toml, metrics.csv, result.json
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Go on with the interrupted run in the output folder
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// How the model is trained.
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// Network: preact-resnet18 (pre-activation, 3x3 stem), resnet18 (7x7 stem and max pooling, key
    /// names of torchvision), resnet18-small-stem (3x3 stem) [default: --init's, else preact-resnet18]
    #[arg(long)]
    pub network: Option<Kind>,
    /// Channels of its first stage (64: the published size) [default: --init's, else 16]
    #[arg(long)]
    pub width: Option<usize>,
    /// Start from this model's weights (safetensors, .pt, .pth), with a fresh linear layer if it has
    /// another number of classes
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Passes over the training images
    #[arg(long, default_value_t = 15)]
    pub epochs: usize,
    /// Largest learning rate
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true)]
    pub lr: f32,
    /// How the learning rate runs: one-cycle, cosine, constant
    #[arg(long, default_value = "one-cycle")]
    pub schedule: Schedule,
    /// Images of a training step
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    /// SGD's momentum
    #[arg(long, default_value_t = 0.9, allow_negative_numbers = true)]
    pub momentum: f32,
    /// L2 penalty
    #[arg(long, default_value_t = 5e-4, allow_negative_numbers = true)]
    pub weight_decay: f32,
    /// Padding of the random crop; 0 for none
    #[arg(long, default_value_t = 4)]
    pub crop: usize,
    /// Mirror half of the images [default: yes, but not IDX files and traffic signs]
    #[arg(long, overrides_with = "no_flip")]
    pub flip: bool,
    /// Don't mirror images
    #[arg(long)]
    pub no_flip: bool,
}

impl TrainArgs {
    /// The weights of `--init`.
    ///
    /// # Errors
    /// The file can't be read, or is another network than the one asked for.
    fn given(&self) -> Result<Option<Weights>> {
        let Some(path) = &self.init else {
            return Ok(None);
        };
        let weights = load(path)?;
        let Architecture { kind, width, .. } = weights.architecture;
        let (wanted_kind, wanted_width) = (self.network.unwrap_or(kind), self.width.unwrap_or(width));
        if (kind, width) != (wanted_kind, wanted_width) {
            let cause = format!(
                "is a {} of width {width}, not a {} of width {wanted_width}",
                kind.name(),
                wanted_kind.name()
            );
            return Err(Error::file(path, cause));
        }
        Ok(Some(weights))
    }

    /// The weights that training begins with: those given, fitted to the classes, or fresh ones.
    fn initial(&self, given: Option<Weights>, images: &ImageSet, seed: u64, progress: &Progress) -> Weights {
        let classes = images.classes.len();
        let mut weights = match given {
            Some(weights) if weights.architecture.classes != classes => {
                let theirs = weights.architecture.classes;
                progress.say(&format!(
                    "--init has {theirs} classes, the data {classes}: the linear layer is begun anew"
                ));
                weights.with_classes(classes, seed)
            }
            Some(weights) => weights,
            None => {
                let kind = self.network.unwrap_or(Kind::PreActResNet18);
                let (width, channels) = (self.width.unwrap_or(16), images.channels);
                Weights::initialise(Architecture { kind, width, classes, channels }, seed)
            }
        };
        weights.input_size = Some((images.height, images.width));
        weights
    }

    pub(super) fn config(&self, mirrors: bool) -> PlantConfig {
        PlantConfig {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.lr,
            schedule: self.schedule,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            crop: self.crop,
            flip: if self.flip || self.no_flip { self.flip } else { mirrors },
        }
    }
}

/// Everything the result depends on.
#[derive(Serialize)]
pub(super) struct Config<'a> {
    #[serde(flatten)]
    pub origin: Origin,
    pub network: &'static str,
    pub width: usize,
    pub init: Option<&'a Path>,
    pub data: DataConfig,
    pub attack: Option<&'a Choice>,
    pub fresh: bool,
    pub train: &'a PlantConfig,
    pub generators: Option<&'a GeneratorConfig>,
}

/// What a checkpoint holds beside weights and momentum.
#[derive(Default, Serialize, Deserialize)]
struct Rest {
    position: Position,
    epochs: Vec<Epoch>,
    /// Training time of the epoch in progress.
    seconds: f64,
}

/// Runs the command.
pub fn run(args: &InfectArgs) -> Result<()> {
    print_result(&infect(args, &Progress::new())?, args.compute.json)
}

/// Trains and writes the run folder.
pub fn infect(args: &InfectArgs, progress: &Progress) -> Result<RunResult> {
    let choice = match args.attack {
        Infection::Badnets => Some(AttackKind::Badnets),
        Infection::Blend => Some(AttackKind::Blend),
        Infection::Sig => Some(AttackKind::Sig),
        Infection::Wanet => Some(AttackKind::Wanet),
        Infection::Dynamic => Some(AttackKind::Dynamic),
        Infection::None => None,
    };
    let choice = choice.map(|kind| args.trigger.check(kind)).transpose()?;
    args.generators.check(choice.as_ref())?;
    let clock = Instant::now();
    let setup = Setup::new(args, progress)?;
    if let Some(choice) = choice.as_ref().filter(|choice| choice.is_untrained()) {
        return dynamic::infect(args, choice, setup, progress);
    }
    let Setup { device, loaded, config, train, normalisation, mut weights, graph } = setup;
    let data = DataConfig::new(&args.data, &loaded.set, &normalisation);
    let planted = choice.as_ref().map(|choice| {
        let planted = choice.plant(loaded.limited(train.clone()), args.compute.seed)?;
        count_all(planted, &loaded)
    });
    let planted = planted.transpose()?;
    let bed = match (&loaded.set.test, &planted) {
        (Some(test), Some(planted)) => {
            Some(TestBed::with_trigger(test, &planted.trigger, planted.truth.label)?)
        }
        (Some(test), None) => Some(TestBed::new(test)),
        (None, _) => None,
    };
    let clean = loaded.limited(train);
    let images = planted.as_ref().map_or(&clean, |planted| &planted.poisoned.images).clone();
    let bytes = Images {
        shared: images.pixels.len() + bed.as_ref().map_or(0, TestBed::bytes),
        largest: images.pixels.len().max(loaded.set.test.as_ref().map_or(0, |test| test.pixels.len())),
    };
    let trained = |batch| vec![PlantConfig { batch, ..config.clone() }.engine_options()];
    let room = Room {
        device: device.as_ref(),
        graph: &graph,
        batch: config.batch,
        networks: Box::new(trained),
        others: Box::new(|_| Ok(vec![])),
        images: bytes,
    };
    let need = room.check()?;
    let origin = Origin::new(device.kind(), device.precision(), args.compute.seed);
    let settings = Config {
        origin,
        network: weights.architecture.kind.name(),
        width: weights.architecture.width,
        init: args.train.init.as_deref(),
        data,
        attack: choice.as_ref(),
        fresh: args.fresh,
        train: &config,
        generators: None,
    };
    let folder = RunFolder::create(&args.output, "infect", &settings, args.resume)?;
    let from = match start::<Rest>(&folder, args.resume)? {
        Start::Finished(result) => return Ok(*result),
        Start::From(checkpoint) => Some(checkpoint),
        Start::Afresh => None,
    };
    if let Some(planted) = &planted {
        planted.truth.save(&folder.poison())?;
    }
    let afresh = |epoch: u32| match &choice {
        Some(choice) => Ok(choice.plant_epoch(clean.clone(), args.compute.seed, epoch)?),
        None => Ok(clean.clone()),
    };
    let mut engine = Engine::open(device.as_ref(), &graph, &weights.values, &config.engine_options())?;
    let mut rest = Rest::default();
    if let Some(mut checkpoint) = from {
        let (weights, momentum) = (checkpoint.take_floats("weights"), checkpoint.take_floats("momentum"));
        if (weights.len(), momentum.len()) != (graph.weights, graph.trainable) {
            return Err(Error::file(folder.checkpoint(), "holds another network"));
        }
        engine.set_weights(&weights)?;
        engine.set_momentum(&momentum)?;
        rest = checkpoint.rest;
    }
    progress.say(&need.to_string());
    let job = Job {
        images: &images,
        afresh: args.fresh.then_some(&afresh),
        config: &config,
        seed: args.compute.seed,
        bed: bed.as_ref(),
        folder: &folder,
    };
    let load = clock.elapsed().as_secs_f64();
    job.train(&mut engine, &mut rest, progress)?;

    weights.values = engine.weights()?;
    save(&weights, folder.model())?;
    let mut result = result(&args.compute, device.as_ref());
    if let Some(bed) = &bed {
        result.after = bed.measure(&mut engine)?;
    }
    let training: f64 = rest.epochs.iter().map(|epoch| epoch.seconds).sum();
    result.seconds = [("load".into(), load), ("train".into(), training)].into();
    result.save(&folder.result())?;
    remove(&folder.checkpoint())?;
    Ok(result)
}

/// The data and the network of a run, before anything is planted.
pub(super) struct Setup {
    pub device: Box<dyn Device>,
    pub loaded: Loaded,
    pub config: PlantConfig,
    /// All training images, clean.
    pub train: ImageSet,
    pub normalisation: Normalisation,
    /// Initial.
    pub weights: Weights,
    pub graph: Graph,
}

impl Setup {
    fn new(args: &InfectArgs, progress: &Progress) -> Result<Self> {
        if args.train.width == Some(0) {
            return Err(Error::input("--width 0: the network would have no channels"));
        }
        args.train.config(true).check()?;
        let device = args.compute.open()?;
        let given = args.train.given()?;
        let channels = given.as_ref().map(|weights| weights.architecture.channels);
        let loaded = args.data.load(None, channels, args.compute.seed, progress)?;
        let config = args.train.config(loaded.set.mirrors());
        let train = loaded.set.train.clone();
        let mut weights = args.train.initial(given, &train, args.compute.seed, progress);
        let own = weights.normalisation.take();
        let chosen = args.normalisation.normalisation.as_ref().or(own.as_ref());
        let normalisation = chosen.unwrap_or(&loaded.set.normalisation).clone();
        weights.normalisation = Some(normalisation.clone());
        let graph = weights.architecture.graph(&normalisation, train.height, train.width)?;
        Ok(Self { device, loaded, config, train, normalisation, weights, graph })
    }
}

pub(super) fn result(args: &ComputeArgs, device: &dyn Device) -> RunResult {
    RunResult::new("infect", &device.describe(), args.seed)
}

/// A line for an epoch that is done.
pub(super) fn say_epoch(progress: &Progress, epoch: &Epoch) {
    let percent = |value: Option<f64>| value.map_or_else(|| "—".into(), |value| format!("{value:.2}"));
    let (acc, asr, loss) = (percent(epoch.acc), percent(epoch.asr), epoch.loss.unwrap_or(f64::NAN));
    progress.say(&format!("epoch {}: loss {loss:.4}, ACC {acc}, ASR {asr}", epoch.epoch + 1));
}

/// Numbers the poisoned images as the whole set does, of which `--limit` took some, and makes them
/// again under these numbers, as everybody will who reads `poison.json`.
fn count_all(mut planted: Planted, loaded: &Loaded) -> Result<Planted> {
    if let Some(taken) = &loaded.taken {
        let train = &mut planted.truth.train;
        let all = train.indices.iter_mut().chain(&mut train.noise);
        all.for_each(|index| *index = taken[*index as usize]);
        train.images = loaded.set.train.len();
        planted.poisoned.images = loaded.limited(planted.truth.apply(loaded.set.train.clone())?);
    }
    Ok(planted)
}

/// A training run in a folder.
struct Job<'a> {
    images: &'a ImageSet,
    /// The images of an epoch, where each has its own.
    afresh: Option<Afresh<'a>>,
    config: &'a PlantConfig,
    seed: u64,
    bed: Option<&'a TestBed>,
    folder: &'a RunFolder,
}

impl Job<'_> {
    /// Trains to the end; writes metrics and a checkpoint after every epoch.
    fn train(&self, engine: &mut Engine, rest: &mut Rest, progress: &Progress) -> Result<()> {
        interrupt::listen();
        // The first checkpoint proves that there is room before anything is computed.
        self.store(engine, rest)?;
        let Rest { position, epochs, seconds } = rest;
        let mut now = *position;
        let mut clock = Instant::now();
        let lesson =
            Lesson { images: self.images, afresh: self.afresh, config: self.config, seed: self.seed };
        let finished = plant(engine, &lesson, &mut now, &mut |engine, tick| {
            let done = tick.position.epoch * tick.steps + tick.position.step;
            let epoch = (done - 1) / tick.steps + 1;
            let note = format!("epoch {epoch} of {}, loss {:.3}", tick.epochs, tick.loss);
            progress.show("training", done, tick.steps * tick.epochs, Some(note));
            if tick.epoch_done {
                *seconds += clock.elapsed().as_secs_f64();
                epochs.push(self.epoch(engine, tick, std::mem::take(seconds), progress)?);
                write_epochs(&self.folder.metrics(), epochs)?;
                clock = Instant::now();
            }
            let stop = interrupt::pressed();
            if tick.epoch_done || stop {
                *seconds += clock.elapsed().as_secs_f64();
                clock = Instant::now();
                *position = *tick.position;
                let rest = Rest { position: *position, epochs: epochs.clone(), seconds: *seconds };
                self.store(engine, &rest)?;
            }
            Ok(if stop { Next::Stop } else { Next::Continue })
        })?;
        progress.clear();
        if finished { Ok(()) } else { Err(interrupt::stopped()) }
    }

    fn epoch(&self, engine: &mut Engine, tick: &Tick, seconds: f64, progress: &Progress) -> Result<Epoch> {
        let epoch = tick.position.epoch - 1;
        let figures = self.bed.map(|bed| bed.measure(engine)).transpose()?.unwrap_or_default();
        engine.attach(self.images)?;
        let learning_rate = self.config.rate(epoch, tick.steps);
        let loss = tick.position.loss;
        let done =
            Epoch { epoch: epoch as u32, loss, learning_rate, acc: figures.acc, asr: figures.asr, seconds };
        say_epoch(progress, &done);
        Ok(done)
    }

    fn store(&self, engine: &Engine, rest: &Rest) -> Result<()> {
        let (weights, momentum) = (engine.weights()?, engine.momentum()?);
        checkpoint::save(
            &self.folder.checkpoint(),
            rest,
            &[("weights", &weights), ("momentum", &momentum)],
            &[],
        )
    }
}
