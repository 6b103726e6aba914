//! The data and the network of a run, before anything is planted.

use std::path::{Path, PathBuf};

use clap::Args;
use pbe::backdoor::InfectConfig;
use pbe::backdoor::dynamic::GeneratorConfig;
use pbe::data::{ImageSet, Normalisation};
use pbe::device::{Device, DeviceChoice};
use pbe::engine::graph::Graph;
use pbe::error::{Error, Result};
use pbe::inputs::{Inputs, ModelInputs};
use pbe::model::{Architecture, NetworkKind, Weights, load_set};
use pbe::train::{Schedule, TrainerConfig};
use serde::Serialize;
use toml::Value;

use super::InfectArgs;
use super::config::origin;
use crate::cli::common::{DataConfig, Digests, Loaded, Provenance};
use crate::cli::config_file::{check_kind, read};
use crate::cli::open::tell;
use crate::cli::progress::Progress;
use crate::cli::trigger::PoisonSettings;

/// Channels of a network's first stage at most.
const WIDEST: usize = 4096;

/// How the model is trained.
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// Network: preact-resnet18, preact-resnet34 (3x3 stem, key names of BackdoorBench), resnet18, resnet34, resnet50
    /// (7x7 stem and max pooling, key names of torchvision), resnet18-small-stem (3x3 stem), vgg11-bn, vgg13-bn,
    /// vgg16-bn, vgg19-bn (key names of torchvision and BackdoorBench), the same with -small-head (one linear layer)
    /// [default: --init's, else preact-resnet18]
    #[arg(long)]
    pub network: Option<NetworkKind>,
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
    fn given(&self, key: Option<&str>) -> Result<Option<Weights>> {
        let Some(path) = &self.init else {
            return Ok(None);
        };
        let (weights, _) = load_set(path, key)?;
        let Architecture { network, width, .. } = weights.architecture;
        let (wanted, wanted_width) = (self.network.unwrap_or(network), self.width.unwrap_or(width));
        if (network, width) != (wanted, wanted_width) {
            let cause = format!(
                "is a {} of width {width}, not a {} of width {wanted_width}",
                network.name(),
                wanted.name()
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
                progress.log(&format!(
                    "--init has {theirs} classes, the data {classes}: the linear layer is a new one"
                ));
                weights.with_classes(classes, seed)
            }
            Some(weights) => weights,
            None => {
                let network = self.network.unwrap_or(NetworkKind::PreActResNet18);
                let (width, channels) = (self.width.unwrap_or(16), images.channels);
                Weights::initialise(Architecture { network, width, classes, channels }, seed)
            }
        };
        weights.input_size = Some((images.height, images.width));
        weights
    }

    pub fn config(&self, allows_flip: bool) -> InfectConfig {
        let trainer = TrainerConfig {
            batch: self.batch,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            nesterov: true,
            crop: self.crop,
            flip: if self.flip || self.no_flip { self.flip } else { allows_flip },
        };
        InfectConfig { epochs: self.epochs, learning_rate: self.lr, schedule: self.schedule, trainer }
    }
}

/// Everything the result depends on.
#[derive(Serialize)]
pub struct InfectSettings<'a> {
    #[serde(flatten)]
    pub provenance: Provenance,
    pub network: &'static str,
    pub width: usize,
    pub init: Option<&'a Path>,
    pub weights: Option<&'a str>,
    pub data: DataConfig,
    pub attack: Option<&'a PoisonSettings>,
    pub fresh: bool,
    pub train: &'a InfectConfig,
    pub generators: Option<&'a GeneratorConfig>,
    pub digests: &'a Digests,
}

/// The data and the network of a run, before anything is planted.
pub struct Setup {
    pub device: Box<dyn Device>,
    pub loaded: Loaded,
    pub config: InfectConfig,
    /// All training images, clean.
    pub train: ImageSet,
    pub normalisation: Normalisation,
    /// Initial.
    pub weights: Weights,
    pub graph: Graph,
    pub inputs: Inputs,
}

/// What gives the normalisation: a configuration has become options (`config.rs`).
fn normalisation_from(args: &InfectArgs) -> Result<&'static str> {
    let resumed = args.run.resumed()?;
    let Some(path) = args.config.as_deref().or(resumed.as_deref()) else { return Ok("option") };
    let file = read(path)?;
    let own = file.get("data").and_then(|data| data.get("normalisation")).and_then(Value::as_str);
    let given = args.input.normalisation.as_ref();
    Ok(if own.and_then(|own| own.parse().ok()).as_ref() == given { "config" } else { "option" })
}

impl Setup {
    pub fn new(args: &InfectArgs, progress: &Progress) -> Result<Self> {
        if let Some(width) = args.train.width.filter(|width| !(1..=WIDEST).contains(width)) {
            return Err(Error::input(format!("--width {width} is not from 1 to {WIDEST}")));
        }
        args.train.config(true).check()?;
        let device = args.compute.open()?;
        if let Some(path) = args.config.as_ref().filter(|_| args.compute.device == DeviceChoice::Auto) {
            check_kind(origin(path)?.0.as_deref(), &device.kind())?;
        }
        let given = args.train.given(args.input.weights.as_deref())?;
        let channels = given.as_ref().map(|weights| weights.architecture.channels);
        let loaded = args.data.load(None, channels, args.compute.seed(), progress)?;
        let config = args.train.config(loaded.set.allows_flip());
        let train = loaded.set.train.clone();
        config.trainer.check_crop(train.height.min(train.width))?;
        let mut weights = args.train.initial(given, &train, args.compute.seed(), progress);
        let own = weights.normalisation.take();
        let channels = weights.architecture.channels;
        let given = args.input.normalisation.as_ref().map(|given| given.resolve(channels)).transpose()?;
        let (normalisation, from) = match (given, own) {
            (Some(given), _) => (given, normalisation_from(args)?),
            (None, Some(own)) => (own, "file"),
            (None, None) => (loaded.set.normalisation.clone(), "data set"),
        };
        let told = ModelInputs::fresh(args.train.init.as_deref(), &weights, &normalisation, from);
        let inputs = tell(&args.data.data, &loaded.set, &[&told], progress);
        weights.normalisation = Some(normalisation.clone());
        let graph = weights.architecture.graph(&normalisation, train.height, train.width)?;
        Ok(Self { device, loaded, config, train, normalisation, weights, graph, inputs })
    }
}
