//! `pbe observe`: the paper's figures for one model and its trigger, as SVG, as data, and on one page.

mod figures;
mod runs;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use pbe::analysis::{Observation, UntargetedAttack};
use pbe::backdoor::{PoisonFile, triggered_test};
use pbe::data::{ImageSet, SampleSize, stratified_sample};
use pbe::device::{Device, Norm};
use pbe::engine::EngineOptions;
use pbe::error::{Error, Result};
use pbe::fs::write_atomic;
use pbe::report::RunFolder;
use serde::Serialize;

use super::common::{DataArgs, DataConfig, ModelArgs, Provenance, begin, print};
use super::device::ComputeArgs;
use super::memory::{ImageBytes, MemoryEstimate};
use super::open::{Fitting, Model, Network};
use super::progress::Progress;
use figures::{FigureSet, Observations};
use runs::Runs;

/// Default of `--images`.
const IMAGES: usize = 200;

/// Options of `pbe observe`.
#[derive(Args)]
pub struct ObserveArgs {
    /// Infected model: safetensors, or a PyTorch checkpoint
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// The attack: a poison.json, of which only trigger and target are read
    #[arg(long, value_name = "FILE")]
    trigger: PathBuf,
    /// A benign model to compare with
    #[arg(long, value_name = "FILE")]
    benign: Option<PathBuf>,
    /// Test images to attack (training images where there is no test split)
    #[arg(long, value_name = "N", default_value_t = IMAGES as u16, value_parser = clap::value_parser!(u16).range(2..=2000))]
    images: u16,
    /// Radius of the untargeted attack, L∞, in 1/255
    #[arg(long, value_name = "EPSILON", default_value_t = 16.0, allow_negative_numbers = true)]
    epsilon: f32,
    /// Folder of a purification: its accuracy and attack success by round; may be given several times
    #[arg(long, value_name = "DIR")]
    run: Vec<PathBuf>,
    /// Precision-recall curve that `pbe rank --pr` wrote; may be given several times
    #[arg(long, value_name = "FILE")]
    pr: Vec<PathBuf>,
    /// Folder for the page and the figures
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace what an earlier run has left in that folder
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    input: ModelArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Everything the figures depend on.
#[derive(Serialize)]
struct ObserveConfig<'a> {
    #[serde(flatten)]
    provenance: Provenance,
    model: &'a PathBuf,
    trigger: &'a PathBuf,
    benign: Option<&'a PathBuf>,
    images: u16,
    epsilon: f32,
    runs: &'a [PathBuf],
    curves: &'a [PathBuf],
    data: DataConfig,
}

/// Runs the command.
pub fn run(args: &ObserveArgs) -> Result<()> {
    if !(args.epsilon > 0.0 && args.epsilon <= 255.0) {
        return Err(Error::input(format!("--epsilon {} is not above 0 and at most 255", args.epsilon)));
    }
    let progress = Progress::new();
    let (model, truth) = (Model::load(&args.model, &args.input)?, PoisonFile::load(&args.trigger)?);
    let benign = args.benign.as_deref().map(|path| Model::load(path, &ModelArgs::default())).transpose()?;
    let runs = Runs::read(&args.run, &args.pr)?;
    let device = args.compute.open()?;
    let clock = Instant::now();
    let mut loaded = args.data.load(model.size(), model.channels(), args.compute.seed(), &progress)?;
    let data = args.data.data.as_path();
    let with =
        Fitting { device: device.as_ref(), data, args: &args.input, strict: false, progress: &progress };
    let (infected, benign, inputs) = with.fit_both(&mut loaded.set, model, benign)?;
    let images = loaded.set.test.as_ref().unwrap_or(&loaded.set.train);
    let share = SampleSize::Count(args.images.into());
    let clean = images.subset(&stratified_sample(&images.labels, share, args.compute.seed()).0);
    let triggered = triggered_test(&clean, &truth.trigger(&clean)?)?;
    let config = ObserveConfig {
        provenance: Provenance::new(device.kind(), device.precision(), args.compute.seed()),
        model: &args.model,
        trigger: &args.trigger,
        benign: args.benign.as_ref(),
        images: args.images,
        epsilon: args.epsilon,
        runs: &args.run,
        curves: &args.pr,
        data: DataConfig::new(&args.data, &loaded.set, &infected.normalisation),
    };
    let observer = ModelObserver {
        device: device.as_ref(),
        clean: &clean,
        triggered: &triggered,
        args,
        progress: &progress,
    };
    observer.check_memory(&infected)?;
    let folder = RunFolder::create(&args.output, "observe", &config, begin(args.force))?;

    let seen = Observations {
        infected: observer.observe(&infected, "attacking the infected model")?,
        benign: benign.map(|benign| observer.observe(&benign, "attacking the benign model")).transpose()?,
        clean: &clean,
        triggered: &triggered,
        mode: truth.label,
        epsilon: args.epsilon,
    };
    let figures = FigureSet::new(&seen, &runs, args.compute.seed());
    figures.write(folder.path())?;
    let seconds = clock.elapsed().as_secs_f64();
    let result = figures.result(&device.describe(), args.compute.seed(), seconds, inputs)?;
    write_atomic(folder.result(), result.as_bytes())?;
    print(&if args.compute.json {
        result
    } else {
        format!("{}\n{}\n", figures.summary(), folder.path().join(figures::PAGE).display())
    })
}

/// What the observation of any model needs.
struct ModelObserver<'a> {
    device: &'a dyn Device,
    clean: &'a ImageSet,
    triggered: &'a ImageSet,
    args: &'a ObserveArgs,
    progress: &'a Progress,
}

impl ModelObserver<'_> {
    const OPTIONS: fn() -> EngineOptions = || EngineOptions { attack: true, ..EngineOptions::default() };

    fn check_memory(&self, network: &Network) -> Result<()> {
        let bytes = self.clean.pixels.len();
        let images = ImageBytes { shared: 3 * bytes, largest: bytes };
        let networks = Box::new(|_| vec![Self::OPTIONS()]);
        MemoryEstimate { networks, ..MemoryEstimate::of(self.device, &network.graph, images) }
            .check()
            .map(drop)
    }

    fn observe(&self, network: &Network, label: &str) -> Result<Observation> {
        let mut engine = network.open(self.device, &Self::OPTIONS())?;
        let attack = UntargetedAttack { norm: Norm::Linf, epsilon: self.args.epsilon };
        let mut done = |done| self.progress.show(label, done, self.clean.len(), None);
        let seed = self.args.compute.seed();
        let observation =
            pbe::analysis::observe(&mut engine, self.clean, self.triggered, attack, seed, &mut done)?;
        self.progress.clear();
        Ok(observation)
    }
}
