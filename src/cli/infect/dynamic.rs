//! `pbe infect --attack dynamic`: the classifier and the networks that make its triggers, trained together.

use std::sync::Arc;
use std::time::Instant;

use pbe::backdoor::dynamic::{Drawn, Dynamic, DynamicJob, Networks};
use pbe::backdoor::{Attack, InfectConfig, PoisonFile, PoisonedTrain, select};
use pbe::data::ImageSet;
use pbe::device::{Augment, Device};
use pbe::engine::graph::Graph;
use pbe::engine::{Engine, EngineOptions, ImageEngine, ImageOptions, ImagePlan};
use pbe::error::Result;
use pbe::eval::Evaluator;
use pbe::model::{GeneratorRole, save};
use pbe::report::{RunFolder, RunResult};

use super::InfectArgs;
use super::joint::{DynamicMeta, DynamicRun, restore};
use super::setup::{InfectSettings, Setup};
use crate::cli::checkpoint::{ResumeState, resume_state};
use crate::cli::common::{DataConfig, Loaded, Provenance};
use crate::cli::memory::{ImageBytes, MemoryEstimate};
use crate::cli::progress::Progress;
use crate::cli::trigger::{ORDER, PoisonSettings};

/// Trains the three networks and writes the run folder.
pub fn infect(
    args: &InfectArgs,
    poison_settings: &PoisonSettings,
    setup: Setup,
    progress: &Progress,
) -> Result<RunResult> {
    let clock = Instant::now();
    let Setup { device, loaded, config, train, normalisation, mut weights, graph, inputs } = setup;
    let (generators, seed) = (args.generators.config(), args.compute.seed());
    poison_settings.label().check(train.classes.len())?;
    let size = (train.height, train.width);
    let dynamic = Dynamic::initialise(size, normalisation.clone(), generators.generator_width, seed)?;
    let images = loaded.limited(train);
    let graphs = [dynamic.graph(GeneratorRole::Pattern)?, dynamic.graph(GeneratorRole::Mask)?];
    let shape = NetworkSetup { device: device.as_ref(), graph: &graph, graphs: &graphs, config: &config };
    let test = loaded.set.test.as_ref();
    let need = shape.memory_estimate(&images, test).check()?;
    let digests = super::digests(args, &weights, &images, test.map(Evaluator::new).as_ref())?;
    let settings = InfectSettings {
        provenance: Provenance::new(device.kind(), device.precision(), seed),
        network: weights.architecture.network.name(),
        width: weights.architecture.width,
        init: args.train.init.as_deref(),
        weights: args.input.weights.as_deref(),
        data: DataConfig::new(&args.data, &loaded.set, &normalisation),
        attack: Some(poison_settings),
        fresh: args.fresh,
        train: &config,
        generators: Some(&generators),
        digests: &digests,
    };
    let folder = RunFolder::create(args.run.folder(), "infect", &settings, args.run.begin())?;
    let from = match resume_state::<DynamicMeta>(&folder, args.run.begin())? {
        ResumeState::Finished(result) => return Ok(*result),
        ResumeState::From(checkpoint) => Some(checkpoint),
        ResumeState::Fresh => None,
    };
    let mut networks = shape.open(&weights.values, &dynamic)?;
    let meta = match from {
        Some(checkpoint) => restore(checkpoint, &mut networks, &folder)?,
        None => DynamicMeta::default(),
    };
    progress.log(&need.to_string());
    let draw = |epoch: u32| {
        let epoch = if args.fresh { epoch } else { 0 };
        let (poisoned, cross) =
            select(&images, true, poison_settings.label(), &poison_settings.selection(seed, epoch))?;
        Ok(Drawn { poisoned, cross })
    };
    let drawn = draw(0)?;
    let training = DynamicJob {
        images: &images,
        label: poison_settings.label(),
        draw: &draw,
        classifier: &config,
        generators: &generators,
        seed,
    };
    let load = clock.elapsed().as_secs_f64();
    let mut run = DynamicRun { training: &training, dynamic, test, folder: &folder, meta };
    run.train(&mut networks, progress)?;

    weights.values = networks.classifier.weights()?;
    save(&weights, folder.model())?;
    truth(&run, drawn, poison_settings, &loaded, seed).save(&folder.poison())?;
    let after = run.measure(&mut networks)?.unwrap_or_default();
    let meta = &run.meta;
    let seconds = [("load", load), ("mask", meta.mask_seconds), ("train", meta.log.training_seconds())];
    super::finish(&folder, args, device.as_ref(), inputs, after, &seconds)
}

/// poison.json: the images numbered as the whole set is, of which `--limit` took some.
fn truth(
    run: &DynamicRun,
    drawn: Drawn,
    poison_settings: &PoisonSettings,
    loaded: &Loaded,
    seed: u64,
) -> PoisonFile {
    let number = |list: Vec<u32>| match &loaded.taken {
        Some(taken) => list.into_iter().map(|index| taken[index as usize]).collect(),
        None => list,
    };
    let rate = drawn.poisoned.len() as f64 / run.training.images.len().max(1) as f64;
    let train = PoisonedTrain {
        images: loaded.set.train.len(),
        order: ORDER.into(),
        applied: false,
        indices: number(drawn.poisoned),
        noise: number(drawn.cross),
    };
    let attack = Attack::Dynamic(Arc::new(run.dynamic.clone()));
    PoisonFile { path: None, attack, label: poison_settings.label(), rate, seed: Some(seed), train }
}

/// The networks of a run before they are open.
struct NetworkSetup<'a> {
    device: &'a dyn Device,
    graph: &'a Graph,
    /// Of pattern and mask.
    graphs: &'a [Graph; 2],
    config: &'a InfectConfig,
}

impl NetworkSetup<'_> {
    fn options(&self, batch: usize) -> (EngineOptions, ImageOptions) {
        let augment = Augment { pad: self.config.trainer.crop, flip: self.config.trainer.flip };
        let classifier = EngineOptions { batch, augment, external_inputs: true, ..EngineOptions::default() };
        (classifier, ImageOptions { batch, augment })
    }

    fn memory_estimate<'a>(&'a self, images: &ImageSet, test: Option<&ImageSet>) -> MemoryEstimate<'a> {
        let test = test.map_or(0, |test| test.pixels.len());
        // The test images, as they are and with triggers.
        let images =
            ImageBytes { shared: images.pixels.len() + 2 * test, largest: images.pixels.len().max(test) };
        let others = |batch| {
            let plan =
                |graph| Ok(ImagePlan::new(self.device, graph, &self.options(batch).1)?.bytes(self.device));
            self.graphs.iter().map(plan).collect()
        };
        MemoryEstimate {
            device: self.device,
            graph: self.graph,
            batch: self.config.trainer.batch,
            networks: Box::new(|batch| vec![self.options(batch).0]),
            others: Box::new(others),
            images,
        }
    }

    fn open(&self, weights: &[f32], dynamic: &Dynamic) -> Result<Networks> {
        let (classifier, generator) = self.options(self.config.trainer.batch);
        Ok(Networks {
            classifier: Engine::open(self.device, self.graph, weights, &classifier)?,
            pattern: ImageEngine::open(self.device, &self.graphs[0], &dynamic.pattern, &generator)?,
            mask: ImageEngine::open(self.device, &self.graphs[1], &dynamic.mask, &generator)?,
        })
    }
}
