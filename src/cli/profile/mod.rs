//! `pbe profile`: what every op of a network takes, measured on a device or estimated for a card.

mod document;
mod launches;
mod measure;
mod rows;
mod table;
mod trace;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pbe::data::{ImageSet, Normalisation};
use pbe::device::Device;
use pbe::device::cuda;
use pbe::engine::EngineOptions;
use pbe::engine::graph::Graph;
use pbe::engine::profile::{Mode, ModeProfile, Precision, Profiler, Roofline};
use pbe::error::{Error, Result};
use pbe::model::{Architecture, NetworkKind, Weights};

use super::common::{ModelArgs, print};
use super::device::ComputeArgs;
use super::memory::{ImageBytes, MemoryEstimate};
use super::open::Model;
use measure::measure;
use rows::{ModeRows, estimated};

/// What shares are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Card {
    /// NVIDIA A100 SXM4, 80 GB
    A100,
    /// NVIDIA H100 SXM5, 80 GB
    H100,
    /// Peaks that a short measurement on the device gives
    Measured,
}

/// Options of `pbe profile`.
#[derive(Args)]
pub struct ProfileArgs {
    /// Model; else --network, --width and --classes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["network", "width", "classes"])]
    model: Option<PathBuf>,
    /// Network, as for `infect --network`
    #[arg(long, default_value = "preact-resnet18")]
    network: NetworkKind,
    /// Channels of its first stage
    #[arg(long, default_value_t = 64)]
    width: usize,
    /// Classes
    #[arg(long, default_value_t = 10)]
    classes: usize,
    /// Side of the images in pixels [default: the model's, or 32]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Images of a batch; a processor's worker takes as many of them as it does in a run
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Only these of: prepare (filters after a change of the weights), infer, attack, train
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    mode: Vec<ModeArg>,
    /// Whose roofline the shares are of
    #[arg(long, value_enum, default_value = "measured")]
    card: Card,
    /// Run nothing: estimate what the launches of the CUDA engine take at best on the card
    #[arg(long)]
    estimate: bool,
    /// Print the launches of the CUDA engine, without a device: kernel, grid, what is fused, dtype and place of each
    /// buffer
    #[arg(long, conflicts_with_all = ["estimate", "trace", "counters"])]
    plan: bool,
    /// Write the ops as a Chrome trace (chrome://tracing, Perfetto)
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// File in which the driver counts: a line of JSON for each launch, `kernel` and the `bytes` that its requests to
    /// global memory touched, caches or not. ptx-emulator writes one under PTX_EMULATOR_LAUNCHES
    #[arg(long, value_name = "FILE", conflicts_with = "estimate")]
    counters: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    Prepare,
    Infer,
    Attack,
    Train,
}

/// What was profiled, and against what.
struct Setting {
    /// The device, or that there is none.
    device: String,
    network: String,
    precision: Precision,
    estimate: bool,
    /// Of one worker, and of the whole device.
    rooflines: [Roofline; 2],
}

/// Runs the command.
pub fn run(args: &ProfileArgs) -> Result<()> {
    for (name, value) in [("width", args.width), ("classes", args.classes), ("batch", args.batch)] {
        at_least_one(name, value)?;
    }
    at_least_one("image-size", args.image_size.unwrap_or(1))?;
    let workload = Workload::new(args)?;
    if args.plan {
        return print(&launches::text(args, &workload)?);
    }
    let (setting, modes) =
        if args.estimate { estimate(args, &workload)? } else { measured(args, &workload)? };
    if let Some(path) = &args.trace {
        pbe::fs::write_atomic(path, trace::text(&setting, &modes)?.as_bytes())?;
    }
    print(&if args.compute.json { document::text(&setting, &modes)? } else { table::text(&setting, &modes) })
}

fn at_least_one(name: &str, value: usize) -> Result<()> {
    match value {
        0 => Err(Error::input(format!("--{name} is 0, but must be at least 1"))),
        _ => Ok(()),
    }
}

/// A network and what it is called.
struct Workload {
    words: String,
    graph: Graph,
    weights: Weights,
    side: usize,
}

impl Workload {
    fn new(args: &ProfileArgs) -> Result<Self> {
        let (weights, known) =
            match args.model.as_deref().map(|path| Model::load(path, &ModelArgs::default())).transpose()? {
                Some(model) => (model.weights.clone(), model.size().map(|(height, _)| height)),
                None => {
                    let ProfileArgs { network, width, classes, .. } = *args;
                    (
                        Weights::initialise(
                            Architecture { network, width, classes, channels: 3 },
                            args.compute.seed(),
                        ),
                        None,
                    )
                }
            };
        let architecture = weights.architecture;
        let side = args.image_size.or(known).unwrap_or(32);
        let graph = architecture.graph(&Normalisation::identity(architecture.channels), side, side)?;
        let (network, width) = (architecture.network.name(), architecture.width);
        let words = format!("{network} of width {width}, {side}x{side}, batch {}", args.batch);
        Ok(Self { words, graph, weights, side })
    }
}

impl ProfileArgs {
    /// Every mode, or those that were asked for.
    fn modes(&self) -> impl Iterator<Item = Mode> {
        let wanted = |name| self.mode.is_empty() || self.mode.contains(&name);
        let names = [ModeArg::Prepare, ModeArg::Infer, ModeArg::Attack, ModeArg::Train];
        Mode::ALL.into_iter().zip(names).filter(move |&(_, name)| wanted(name)).map(|(mode, _)| mode)
    }

    /// The ops of the modes that were asked for on a GPU that need not be there.
    fn profiles(&self, workload: &Workload) -> Result<Vec<ModeProfile>> {
        let precision = self.compute.cuda_precision();
        let mut profiles =
            pbe::engine::profile::estimate(&workload.graph, self.batch, precision, cuda::launches)?;
        profiles.retain(|profile| self.modes().any(|mode| mode == profile.mode));
        Ok(profiles)
    }

    /// The rooflines of a worker and of the device.
    fn rooflines(&self, device: Option<&dyn Device>) -> Result<[Roofline; 2]> {
        match (self.card, device) {
            (Card::A100, _) => Ok([Roofline::A100; 2]),
            (Card::H100, _) => Ok([Roofline::H100; 2]),
            (Card::Measured, Some(device)) => {
                Ok([Roofline::measure(device, true)?, Roofline::measure(device, false)?])
            }
            (Card::Measured, None) => Err(Error::input("--estimate is for --card a100 or h100")),
        }
    }
}

fn estimate(args: &ProfileArgs, workload: &Workload) -> Result<(Setting, Vec<ModeRows>)> {
    let precision = args.compute.cuda_precision();
    let rooflines = args.rooflines(None)?;
    let profiles = args.profiles(workload)?;
    let modes = profiles.into_iter().map(|profile| estimated(profile, &rooflines[1], precision)).collect();
    let (device, network) = ("none: an estimate".into(), workload.words.clone());
    Ok((Setting { device, network, precision, estimate: true, rooflines }, modes))
}

fn measured(args: &ProfileArgs, workload: &Workload) -> Result<(Setting, Vec<ModeRows>)> {
    let device = args.compute.open()?;
    let device = device.as_ref();
    let Workload { words, graph, weights, side } = workload;
    let architecture = weights.architecture;
    let images = ImageSet::noise(args.batch, *side, architecture.channels, architecture.classes);
    let options = |batch| vec![EngineOptions { batch, attack: true, ..EngineOptions::default() }];
    let estimate = MemoryEstimate::of(device, graph, ImageBytes::one(&images));
    MemoryEstimate { batch: args.batch, networks: Box::new(options), ..estimate }.check()?;
    let rooflines = args.rooflines(Some(device))?;
    let mut profiler = Profiler::open(device, graph, &weights.values, &images)?;
    let modes = args.modes().map(|mode| {
        let profile = profiler.profile(mode)?.clone();
        let times = measure(&mut profiler, &profile, args.counters.as_deref())?;
        let roofline = rooflines[usize::from(!profile.one_worker)];
        Ok(rows::measured(profile, times, &roofline, device.precision()))
    });
    let modes = modes.collect::<Result<_>>()?;
    let (device, precision) = (device.describe(), device.precision());
    Ok((Setting { device, network: words.clone(), precision, estimate: false, rooflines }, modes))
}
