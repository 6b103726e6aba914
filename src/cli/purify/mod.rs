//! `pbe purify`: erases the backdoor of a model.

mod data;
mod findings;
mod observer;
mod page;
mod request;
mod run_keys;

use std::path::PathBuf;
use std::time::Instant;

use pbe::defense::{RunInputs, RunState, purify as run_defense};
use pbe::device::Device;
use pbe::engine::EngineOptions;
use pbe::error::{Error, Result};
use pbe::fs::write_atomic;
use pbe::model::save;
use pbe::report::{CheckpointMeta, RunFolder, RunResult, RunSizes, csv, not_done};
use serde::Serialize;
use toml::Table;

use super::checkpoint::{ResumeState, resume_state};
use super::common::{DataConfig, Digests, Provenance, print_result, remove};
use super::config_file::{check_kind, log_changes};
use super::interrupt;
use super::memory::{ImageBytes, MemoryEstimate};
use super::open::{Model, Network};
use super::progress::Progress;
use data::PurifyData;
pub use data::training_images;
use findings::Findings;
use observer::RunObserver;
pub use request::{CleanSet, PurifyArgs};
use request::{FailOn, Request};

/// Everything the result depends on.
#[derive(Serialize)]
struct PurifySettings<'a> {
    #[serde(flatten)]
    provenance: Provenance,
    model: &'a PathBuf,
    weights: Option<&'a String>,
    clean: Option<&'a CleanSet>,
    poison: Option<&'a PathBuf>,
    trigger: Option<&'a PathBuf>,
    defense: pbe::defense::DefenseKind,
    #[serde(flatten)]
    settings: &'a Table,
    data: DataConfig,
    digests: &'a Digests,
}

/// Runs the command.
pub fn run(args: &PurifyArgs) -> Result<()> {
    let result = purify(args, &Progress::new())?;
    print_result(&result, args.compute.json)?;
    match (args.fail_on, result.not_done.first()) {
        (Some(FailOn::NotDone), Some(cause)) => Err(Error::Verdict(format!("not done: {cause} (--fail-on)"))),
        _ => Ok(()),
    }
}

/// Purifies and writes the run folder.
pub fn purify(args: &PurifyArgs, progress: &Progress) -> Result<RunResult> {
    let request = Request::new(args)?;
    request.configure(None, true)?;
    let model = Model::load(&request.model, &request.input)?;
    let device = request.compute.open()?;
    check_kind(request.device_kind.as_deref(), &device.kind())?;
    let clock = Instant::now();
    let (data, network, told) = PurifyData::load(&request, model, device.as_ref(), progress)?;
    let configured = request.configure(Some(&data.images), data.set.allows_flip())?;
    let (defense, seed) = (configured.defense.as_ref(), request.compute.seed());
    let images = data.bytes(&network, defense);
    let need = memory_estimate(device.as_ref(), &network, defense.engine_options(), images).check()?;
    let digests = data.digests(&network);
    log_changes(&request.digests, &digests);
    let config = PurifySettings {
        provenance: Provenance::new(device.kind(), device.precision(), seed),
        model: &request.model,
        weights: request.input.weights.as_ref(),
        clean: request.clean.as_ref(),
        poison: request.poison.as_ref(),
        trigger: request.trigger.as_ref(),
        defense: request.defense,
        settings: &configured.settings,
        data: DataConfig::new(&request.data, &data.set, &network.normalisation),
        digests: &digests,
    };
    let begin = request.run.begin();
    let folder = RunFolder::create(request.run.folder(), "purify", &config, begin)?;
    let (mut state, meta) = match resume_state::<CheckpointMeta>(&folder, begin)? {
        ResumeState::Finished(result) => return Ok(*result),
        ResumeState::From(checkpoint) => {
            let graph = &network.graph;
            let (images, classes) = (data.images.len(), graph.classes());
            let sizes = RunSizes { images, classes, weights: graph.weights, trainable: graph.trainable };
            CheckpointMeta::restore(checkpoint, sizes, &folder)?
        }
        ResumeState::Fresh => (RunState::default(), CheckpointMeta::default()),
    };
    let load = clock.elapsed().as_secs_f64();
    let [for_infected, for_purified] = options(defense.engine_options(), !data.clean_set);
    let infected = &mut network.open(device.as_ref(), &for_infected)?;
    let purified = &mut network.open(device.as_ref(), &for_purified)?.named("the purified model");
    progress.log(&need.to_string());
    log_differences(&configured.differences, progress);

    let clock = Instant::now();
    if state.weights.is_empty() {
        state.weights = purified.weights()?;
        state.momentum = vec![0.0; network.graph.trainable];
        state.average = purified.weights()?;
    }
    interrupt::listen();
    let mut observer = RunObserver::new(&data, &folder, progress, meta);
    // The first checkpoint proves that there is room before anything is computed.
    observer.store(&state)?;
    observer.measure_before(infected)?;
    let (images, clean_set) = (&data.images, data.clean_set);
    let inputs = RunInputs { infected, model: purified, images, clean_set, seed };
    run_defense(defense, inputs, &mut state, &mut observer)?;
    progress.clear();
    let before = observer.meta.before.unwrap_or_default();
    let after = observer.measure(purified)?;
    save(&network.with_values(purified.weights()?), folder.model())?;
    let idle = configured.idle(&state);
    idle.iter().for_each(|warning| progress.log(&format!("warning: {warning}")));
    let relabelled = state.records.iter().any(|record| record.relabelled > 0);
    let suspects = (state.suspects.take(), relabelled);
    let found = Findings::new(infected, purified, &data, suspects, (defense.trainer(), seed), progress)?;
    let mut result = RunResult::new("purify", &device.describe(), seed);
    result.inputs = Some(told);
    result.judge(before, after);
    result.rounds = std::mem::take(&mut observer.meta.rounds);
    sum_seconds(&mut result, load, clock.elapsed().as_secs_f64());
    result.warnings = [data.warnings.clone(), idle].concat();
    result.second_look = state.second_look;
    if let Some(found) = &found {
        take_findings(&mut result, found);
    }
    result.not_done = not_done(&result);
    if let Some(found) = &found {
        write_findings(&result, found, &data, &folder)?;
    }
    result.save(&folder.result())?;
    remove(&folder.checkpoint())?;
    Ok(result)
}

/// Puts what was found into the result.
fn take_findings(result: &mut RunResult, found: &Findings) {
    result.detection = Some(found.detection.clone());
    result.asr_estimate = found.estimate.clone();
    result.recall = found.recall.clone();
    result.training_accuracy = found.training_accuracy;
}

/// Writes `suspects.csv` and `report.html`.
fn write_findings(result: &RunResult, found: &Findings, data: &PurifyData, folder: &RunFolder) -> Result<()> {
    let all = || (0..data.images.len() as u32).collect();
    let taken = data.taken.clone().unwrap_or_else(all);
    csv::write_suspects(&folder.suspects(), &data.images, &taken, &found.suspects)?;
    let command = format!("pbe purify --config {} --output DIR", folder.config().display());
    write_atomic(folder.report(), page::page(result, found, data, &command)?.as_bytes())
}

fn log_differences(differences: &[String], progress: &Progress) {
    if !differences.is_empty() {
        progress.log("settings that differ from the default:");
        differences.iter().for_each(|difference| progress.log(&format!("  {difference}")));
    }
}

/// What the infected network and the one that is trained are opened for. Without a clean set images are `suspected`.
fn options(trained: EngineOptions, suspected: bool) -> [EngineOptions; 2] {
    let looked_at = EngineOptions { batch: 0, gradients: false, external_inputs: false, ..trained };
    [EngineOptions { activation_gradients: suspected, ..looked_at }, trained]
}

/// What decides the memory of a run: two networks.
pub fn memory_estimate<'a>(
    device: &'a dyn Device,
    network: &'a Network,
    trained: EngineOptions,
    images: ImageBytes,
) -> MemoryEstimate<'a> {
    MemoryEstimate {
        device,
        graph: &network.graph,
        batch: trained.batch,
        networks: Box::new(move |batch| options(EngineOptions { batch, ..trained }, true).to_vec()),
        others: Box::new(|_| Ok(vec![])),
        images,
    }
}

/// Seconds per phase over all rounds; `run` is what this process took for all of it.
fn sum_seconds(result: &mut RunResult, load: f64, run: f64) {
    for round in &result.rounds {
        for (phase, seconds) in &round.seconds {
            *result.seconds.entry(phase.clone()).or_default() += seconds;
        }
    }
    result.seconds.insert("load".into(), load);
    result.seconds.insert("run".into(), run);
}
