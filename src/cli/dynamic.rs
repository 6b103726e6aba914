//! `pbe infect --attack dynamic`: the classifier and the networks that make its triggers, trained together.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use pbe::backdoor::dynamic::{Config, Drawn, Dynamic, Lesson, Networks, Position, Tick, train};
use pbe::backdoor::{Attack, PlantConfig, PoisonFile, PoisonedTrain, Trigger, select};
use pbe::data::ImageSet;
use pbe::defense::fine_tune::Next;
use pbe::device::{Augment, Device};
use pbe::engine::graph::Graph;
use pbe::engine::{Engine, EngineOptions, ImageEngine, ImageOptions, ImagePlan};
use pbe::error::{Error, Result};
use pbe::model::{GeneratorRole, save};
use pbe::report::csv::{Epoch, write_epochs};
use pbe::report::{Figures, RunFolder, RunResult, TestBed};
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, Checkpoint};
use super::common::{DataConfig, Loaded, Origin, remove};
use super::infect::{self, InfectArgs, Setup, say_epoch};
use super::interrupt;
use super::progress::Progress;
use super::room::{Images, Room};
use super::start::{Start, start};
use super::trigger::{Choice, ORDER};

/// The file of the trained networks in the run folder.
const GENERATORS: &str = "dynamic.safetensors";

/// How the networks that make the triggers are trained.
#[derive(Args, Clone, Debug)]
pub struct GeneratorArgs {
    /// dynamic: channels of the generators' first step [default: 32, as published]
    #[arg(long, value_name = "CHANNELS")]
    generator_width: Option<usize>,
    /// dynamic: Adam's rate for the generators [default: 0.01]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    generator_lr: Option<f32>,
    /// dynamic: steps that the mask network is trained for, before the others [default: 300]
    #[arg(long, value_name = "STEPS")]
    mask_steps: Option<usize>,
}

impl GeneratorArgs {
    /// Refuses the options where no generator is trained.
    pub fn check(&self, choice: Option<&Choice>) -> Result<()> {
        let given =
            self.generator_width.is_some() || self.generator_lr.is_some() || self.mask_steps.is_some();
        match choice {
            Some(choice) if choice.is_untrained() => self.config().check(),
            _ if given => Err(Error::input(
                "--generator-width, --generator-lr and --mask-steps belong to --attack dynamic without \
                 --generators",
            )),
            _ => Ok(()),
        }
    }

    fn config(&self) -> Config {
        let default = Config::default();
        Config {
            generator_width: self.generator_width.unwrap_or(default.generator_width),
            generator_lr: self.generator_lr.unwrap_or(default.generator_lr),
            mask_steps: self.mask_steps.unwrap_or(default.mask_steps),
            ..default
        }
    }
}

/// What a checkpoint holds beside the networks.
#[derive(Default, Serialize, Deserialize)]
struct Rest {
    position: Position,
    epochs: Vec<Epoch>,
    /// Time of the mask phase.
    mask_seconds: f64,
    /// Training time of the epoch in progress.
    seconds: f64,
}

/// Trains the three networks and writes the run folder.
pub fn infect(args: &InfectArgs, choice: &Choice, setup: Setup, progress: &Progress) -> Result<RunResult> {
    let clock = Instant::now();
    let Setup { device, loaded, config, train, normalisation, mut weights, graph } = setup;
    let (generators, seed) = (args.generators.config(), args.compute.seed);
    choice.label().check(train.classes.len())?;
    let size = (train.height, train.width);
    let dynamic = Dynamic::initialise(size, normalisation.clone(), generators.generator_width, seed)?;
    let images = loaded.limited(train);
    let graphs = [dynamic.graph(GeneratorRole::Pattern)?, dynamic.graph(GeneratorRole::Mask)?];
    let shape = Shape { device: device.as_ref(), graph: &graph, graphs: &graphs, config: &config };
    let test = loaded.set.test.as_ref();
    let need = shape.room(&images, test).check()?;
    let settings = infect::Config {
        origin: Origin::new(device.kind(), device.precision(), seed),
        network: weights.architecture.kind.name(),
        width: weights.architecture.width,
        init: args.train.init.as_deref(),
        data: DataConfig::new(&args.data, &loaded.set, &normalisation),
        attack: Some(choice),
        fresh: args.fresh,
        train: &config,
        generators: Some(&generators),
    };
    let folder = RunFolder::create(&args.output, "infect", &settings, args.resume)?;
    let from = match start::<Rest>(&folder, args.resume)? {
        Start::Finished(result) => return Ok(*result),
        Start::From(checkpoint) => Some(checkpoint),
        Start::Afresh => {
            remove(&folder.path().join(GENERATORS))?;
            None
        }
    };
    let mut networks = shape.open(&weights.values, &dynamic)?;
    let rest = match from {
        Some(checkpoint) => restore(checkpoint, &mut networks, &folder)?,
        None => Rest::default(),
    };
    progress.say(&need.to_string());
    let draw = |epoch: u32| {
        let epoch = if args.fresh { epoch } else { 0 };
        let (poisoned, cross) = select(&images, true, choice.label(), &choice.selection(seed, epoch))?;
        Ok(Drawn { poisoned, cross })
    };
    let drawn = draw(0)?;
    let lesson = Lesson {
        images: &images,
        label: choice.label(),
        draw: &draw,
        plant: &config,
        config: &generators,
        seed,
    };
    let load = clock.elapsed().as_secs_f64();
    let mut job = Job { lesson: &lesson, dynamic, test, folder: &folder, rest };
    job.train(&mut networks, progress)?;

    weights.values = networks.classifier.weights()?;
    save(&weights, folder.model())?;
    truth(&job, drawn, choice, &loaded, seed).save(&folder.poison())?;
    let mut result = infect::result(&args.compute, device.as_ref());
    result.after = job.figures(&mut networks)?.unwrap_or_default();
    let training: f64 = job.rest.epochs.iter().map(|epoch| epoch.seconds).sum();
    let seconds = [("load", load), ("mask", job.rest.mask_seconds), ("train", training)];
    result.seconds = seconds.map(|(phase, time)| (phase.to_string(), time)).into();
    result.save(&folder.result())?;
    remove(&folder.checkpoint())?;
    Ok(result)
}

/// poison.json: the images numbered as the whole set is, of which `--limit` took some.
fn truth(job: &Job, drawn: Drawn, choice: &Choice, loaded: &Loaded, seed: u64) -> PoisonFile {
    let number = |list: Vec<u32>| match &loaded.taken {
        Some(taken) => list.into_iter().map(|index| taken[index as usize]).collect(),
        None => list,
    };
    let rate = drawn.poisoned.len() as f64 / job.lesson.images.len().max(1) as f64;
    let train = PoisonedTrain {
        images: loaded.set.train.len(),
        order: ORDER.into(),
        applied: false,
        indices: number(drawn.poisoned),
        noise: number(drawn.cross),
    };
    let attack = Attack::Dynamic(Arc::new(job.dynamic.clone()));
    PoisonFile { path: None, attack, label: choice.label(), rate, seed: Some(seed), train }
}

/// The networks of a run before they are open.
struct Shape<'a> {
    device: &'a dyn Device,
    graph: &'a Graph,
    /// Of pattern and mask.
    graphs: &'a [Graph; 2],
    config: &'a PlantConfig,
}

impl Shape<'_> {
    fn options(&self, batch: usize) -> (EngineOptions, ImageOptions) {
        let augment = Augment { pad: self.config.crop, flip: self.config.flip };
        let classifier = EngineOptions { batch, augment, given: true, ..EngineOptions::default() };
        (classifier, ImageOptions { batch, augment })
    }

    fn room<'a>(&'a self, images: &ImageSet, test: Option<&ImageSet>) -> Room<'a> {
        let test = test.map_or(0, |test| test.pixels.len());
        // The test images, as they are and with triggers.
        let images =
            Images { shared: images.pixels.len() + 2 * test, largest: images.pixels.len().max(test) };
        let others = |batch| {
            let plan =
                |graph| Ok(ImagePlan::new(self.device, graph, &self.options(batch).1)?.bytes(self.device));
            self.graphs.iter().map(plan).collect()
        };
        Room {
            device: self.device,
            graph: self.graph,
            batch: self.config.batch,
            networks: Box::new(|batch| vec![self.options(batch).0]),
            others: Box::new(others),
            images,
        }
    }

    fn open(&self, weights: &[f32], dynamic: &Dynamic) -> Result<Networks> {
        let (classifier, generator) = self.options(self.config.batch);
        Ok(Networks {
            classifier: Engine::open(self.device, self.graph, weights, &classifier)?,
            pattern: ImageEngine::open(self.device, &self.graphs[0], &dynamic.pattern, &generator)?,
            mask: ImageEngine::open(self.device, &self.graphs[1], &dynamic.mask, &generator)?,
        })
    }
}

/// A training run in a folder.
struct Job<'a> {
    lesson: &'a Lesson<'a>,
    /// The trigger as it was measured last.
    dynamic: Dynamic,
    test: Option<&'a ImageSet>,
    folder: &'a RunFolder,
    rest: Rest,
}

impl Job<'_> {
    /// Trains to the end; writes metrics and a checkpoint after every epoch.
    fn train(&mut self, networks: &mut Networks, progress: &Progress) -> Result<()> {
        interrupt::listen();
        // The first checkpoint proves that there is room before anything is computed.
        self.store(networks)?;
        let mut now = self.rest.position;
        let (mut clock, lesson) = (Instant::now(), self.lesson);
        let finished = train(networks, lesson, &mut now, &mut |networks, tick| {
            self.show(tick, progress);
            let stop = interrupt::pressed();
            let masked = tick.mask && tick.position.mask_step == lesson.config.mask_steps;
            if tick.epoch_done || masked || stop {
                let spent = if tick.mask { &mut self.rest.mask_seconds } else { &mut self.rest.seconds };
                *spent += clock.elapsed().as_secs_f64();
                if tick.epoch_done {
                    self.close(networks, tick, progress)?;
                }
                self.rest.position = *tick.position;
                self.store(networks)?;
                clock = Instant::now();
            }
            Ok(if stop { Next::Stop } else { Next::Continue })
        })?;
        progress.clear();
        self.take(networks)?;
        if finished { Ok(()) } else { Err(interrupt::stopped()) }
    }

    fn show(&self, tick: &Tick, progress: &Progress) {
        let loss = tick.loss;
        if tick.mask {
            let (done, total) = (tick.position.mask_step, self.lesson.config.mask_steps);
            return progress.show("training the masks", done, total, Some(format!("loss {loss:.3}")));
        }
        let epochs = self.lesson.plant.epochs;
        let done = tick.position.plant.epoch * tick.steps + tick.position.plant.step;
        let note = format!("epoch {} of {epochs}, loss {loss:.3}", (done - 1) / tick.steps + 1);
        progress.show("training", done, tick.steps * epochs, Some(note));
    }

    /// Measures an epoch that is done and writes it down.
    fn close(&mut self, networks: &mut Networks, tick: &Tick, progress: &Progress) -> Result<()> {
        let epoch = tick.position.plant.epoch - 1;
        let figures = self.figures(networks)?.unwrap_or_default();
        networks.attach(self.lesson.images)?;
        let done = Epoch {
            epoch: epoch as u32,
            loss: tick.position.plant.loss,
            learning_rate: self.lesson.plant.rate(epoch, tick.steps),
            acc: figures.acc,
            asr: figures.asr,
            seconds: std::mem::take(&mut self.rest.seconds),
        };
        say_epoch(progress, &done);
        self.rest.epochs.push(done);
        write_epochs(&self.folder.metrics(), &self.rest.epochs)
    }

    /// The networks' weights as the trigger.
    fn take(&mut self, networks: &Networks) -> Result<()> {
        self.dynamic.pattern = networks.pattern.weights()?;
        self.dynamic.mask = networks.mask.weights()?;
        Ok(())
    }

    /// What the classifier does with the test images and the trigger as they are; none without a test part.
    fn figures(&mut self, networks: &mut Networks) -> Result<Option<Figures>> {
        self.take(networks)?;
        let Some(test) = self.test else {
            return Ok(None);
        };
        let trigger = Trigger::for_images(&Attack::Dynamic(Arc::new(self.dynamic.clone())), test)?;
        let bed = TestBed::with_trigger(test, &trigger, self.lesson.label)?;
        bed.measure(&mut networks.classifier).map(Some)
    }

    fn store(&self, networks: &Networks) -> Result<()> {
        let Networks { classifier, pattern, mask } = networks;
        let arrays = [
            ("weights", classifier.weights()?),
            ("momentum", classifier.momentum()?),
            ("pattern.weights", pattern.weights()?),
            ("pattern.moments", pattern.moments()?),
            ("mask.weights", mask.weights()?),
            ("mask.moments", mask.moments()?),
        ];
        let arrays: Vec<(&str, &[f32])> = arrays.iter().map(|(name, values)| (*name, &values[..])).collect();
        checkpoint::save(&self.folder.checkpoint(), &self.rest, &arrays, &[])
    }
}

/// Puts a checkpoint into the networks.
fn restore(mut checkpoint: Checkpoint<Rest>, networks: &mut Networks, folder: &RunFolder) -> Result<Rest> {
    let mut take = |name: &str, len: usize| {
        let values = checkpoint.take_floats(name);
        let cause = || Error::file(folder.checkpoint(), "holds other networks");
        if values.len() == len { Ok(values) } else { Err(cause()) }
    };
    let Networks { classifier, pattern, mask } = networks;
    let (weights, trainable) = (classifier.graph().weights, classifier.graph().trainable);
    classifier.set_weights(&take("weights", weights)?)?;
    classifier.set_momentum(&take("momentum", trainable)?)?;
    for (name, network) in [("pattern", pattern), ("mask", mask)] {
        let (weights, trainable) = (network.graph().weights, network.graph().trainable);
        network.set_weights(&take(&format!("{name}.weights"), weights)?)?;
        network.set_moments(&take(&format!("{name}.moments"), 2 * trainable)?)?;
    }
    Ok(checkpoint.rest)
}
