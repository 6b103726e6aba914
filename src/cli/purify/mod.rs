//! `pbe purify`: erases the backdoor of a model with Algorithm 1.

mod data;
mod watch;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use pbe::defense::config::{PurifyConfig, Recipe};
use pbe::defense::pbe::{Models, Pbe};
use pbe::defense::state::State;
use pbe::device::Device;
use pbe::error::{Error, Result};
use pbe::model::save;
use pbe::report::{RunFolder, RunResult};
use serde::Serialize;

use super::common::{DataArgs, DataConfig, NormalisationArgs, Provenance, print_result, remove};
use super::device::ComputeArgs;
use super::interrupt;
use super::memory::{ImageBytes, MemoryEstimate};
use super::open::{Model, Network};
use super::progress::Progress;
use super::settings::Settings;
use super::start::{Start, start};
use data::Subject;
pub use data::suspect;
use watch::{Rest, Watch, restore};

/// Options of `pbe purify`.
#[derive(Args)]
pub struct PurifyArgs {
    /// The suspect model: safetensors, or a PyTorch checkpoint
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    /// Folder of images known to be clean (with a clean set: one round, no ranking)
    #[arg(long, value_name = "DIR", conflicts_with = "clean_fraction")]
    pub clean: Option<PathBuf>,
    /// Take this share of the data, which is known to be clean, as the clean set
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub clean_fraction: Option<f64>,
    /// The truth, where it is known: poisons the data as it says, and judges what is selected
    #[arg(long, value_name = "FILE")]
    pub poison: Option<PathBuf>,
    /// Attack whose success is measured, without --poison: only trigger and target are read
    #[arg(long, value_name = "FILE", conflicts_with = "poison")]
    pub trigger: Option<PathBuf>,
    /// Setting to start from: default (one for all attacks) or paper (as printed)
    #[arg(long, default_value = "default")]
    pub recipe: Recipe,
    #[command(flatten)]
    pub normalisation: NormalisationArgs,
    /// Folder of the run: model.safetensors, config.toml, metrics.csv, result.json
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Go on with the interrupted run in the output folder
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub settings: Settings,
}

/// Everything the result depends on.
#[derive(Serialize)]
struct Config<'a> {
    #[serde(flatten)]
    provenance: Provenance,
    model: &'a PathBuf,
    clean: Option<&'a PathBuf>,
    clean_fraction: Option<f64>,
    poison: Option<&'a PathBuf>,
    trigger: Option<&'a PathBuf>,
    data: DataConfig,
    purify: &'a PurifyConfig,
}

impl PurifyArgs {
    fn clean_set(&self) -> bool {
        self.clean.is_some() || self.clean_fraction.is_some()
    }

    /// The recipe, fitted to the data where they are known, with the settings given, checked.
    fn config(&self, subject: Option<&Subject>) -> Result<PurifyConfig> {
        let mut config = PurifyConfig::new(self.recipe, self.clean_set());
        if let Some(subject) = subject {
            config.flip &= subject.set.allows_flip();
            if subject.clean_set {
                config.fit_clean_set(subject.images.len());
            }
        }
        self.settings.apply(&mut config)?;
        config.check(self.clean_set())?;
        if let Some(share) = self.clean_fraction.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return Err(Error::input(format!("--clean-fraction {share} is not above 0 and at most 1")));
        }
        if self.clean_set() && self.settings.has("shares") {
            return Err(Error::input("--shares: with a clean set there is no ranking to take a share of"));
        }
        Ok(config)
    }
}

/// Runs the command.
pub fn run(args: &PurifyArgs) -> Result<()> {
    print_result(&purify(args, &Progress::new())?, args.compute.json)
}

/// Purifies and writes the run folder.
pub fn purify(args: &PurifyArgs, progress: &Progress) -> Result<RunResult> {
    args.config(None)?;
    let model = Model::load(&args.model)?;
    let device = args.compute.open()?;
    let clock = Instant::now();
    let subject = Subject::load(args, &model, progress)?;
    let config = args.config(Some(&subject))?;
    let network = model.fit(&subject.set, &args.data.data, args.normalisation.normalisation.as_ref())?;
    let images = subject.bytes(&network, &config);
    let need = memory_estimate(device.as_ref(), &network, &config, images).check()?;
    let settings = Config {
        provenance: Provenance::new(device.kind(), device.precision(), args.compute.seed),
        model: &args.model,
        clean: args.clean.as_ref(),
        clean_fraction: args.clean_fraction,
        poison: args.poison.as_ref(),
        trigger: args.trigger.as_ref(),
        data: DataConfig::new(&args.data, &subject.set, &network.normalisation),
        purify: &config,
    };
    let folder = RunFolder::create(&args.output, "purify", &settings, args.resume)?;
    let (mut state, rest) = match start::<Rest>(&folder, args.resume)? {
        Start::Finished(result) => return Ok(*result),
        Start::From(checkpoint) => restore(checkpoint, &network, &subject, &folder)?,
        Start::Afresh => (State::default(), Rest::default()),
    };
    let load = clock.elapsed().as_secs_f64();
    let mut models = open(&network, &config, device.as_ref())?;
    progress.log(&need.to_string());

    let clock = Instant::now();
    if state.weights.is_empty() {
        state.weights = models.purified.weights()?;
        state.momentum = vec![0.0; network.graph.trainable];
        state.average = models.purified.weights()?;
    }
    interrupt::listen();
    let mut watch = Watch::new(&subject, &folder, progress, rest);
    // The first checkpoint proves that there is room before anything is computed.
    watch.store(&state)?;
    watch.before(&mut models.infected)?;
    let (images, clean_set) = (&subject.images, subject.clean_set);
    let mut pbe = Pbe { models: &mut models, images, clean_set, config: &config, seed: args.compute.seed };
    pbe.run(&mut state, &mut watch)?;
    progress.clear();
    let before = watch.rest.before.unwrap_or_default();
    let after = watch.measure(&mut models.purified)?;
    save(&network.with_values(models.purified.weights()?), folder.model())?;
    let mut result = RunResult::new("purify", &device.describe(), args.compute.seed);
    result.judge(before, after);
    result.rounds = std::mem::take(&mut watch.rest.rounds);
    sum_seconds(&mut result, load, clock.elapsed().as_secs_f64());
    result.save(&folder.result())?;
    remove(&folder.checkpoint())?;
    Ok(result)
}

/// The suspect network, for inference and the survivors filter, and the one to be trained.
fn open(network: &Network, config: &PurifyConfig, device: &dyn Device) -> Result<Models> {
    let infected = network.open(device, &config.engine_options(false))?;
    let purified = network.open(device, &config.engine_options(true))?;
    Ok(Models { infected, purified })
}

/// What decides the memory of a run: two networks.
pub fn memory_estimate<'a>(
    device: &'a dyn Device,
    network: &'a Network,
    config: &'a PurifyConfig,
    images: ImageBytes,
) -> MemoryEstimate<'a> {
    let networks = |batch| {
        let config = PurifyConfig { batch, ..config.clone() };
        vec![config.engine_options(false), config.engine_options(true)]
    };
    MemoryEstimate {
        device,
        graph: &network.graph,
        batch: config.batch,
        networks: Box::new(networks),
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
