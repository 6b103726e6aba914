//! What a purification is asked for: the options, over those of `--config` and `--set`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use pbe::data::{ImageSet, NormalisationChoice};
use pbe::defense::settings::parse_assignment;
use pbe::defense::{Configured, DefenseKind, Facts, Overlay, Recipe};
use pbe::device::{DeviceChoice, is_processor};
use pbe::error::{Error, Result};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::run_keys::{ClassesKey, DataKeys, RunKeys, is_run_key, put, refuse_beside_option};
use crate::cli::common::{DataArgs, ModelArgs, ReadArgs, RunArgs};
use crate::cli::config_file::{check_origin, read};
use crate::cli::device::ComputeArgs;

/// Options of `pbe purify`.
#[derive(Args, Clone, Debug)]
pub struct PurifyArgs {
    /// The infected model: safetensors, or a PyTorch checkpoint
    #[arg(long, value_name = "FILE", required_unless_present_any = ["config", "resume"], help_heading = "Model and data")]
    pub model: Option<PathBuf>,
    /// Data set: an image folder, CIFAR or IDX files, or `synthetic:`
    ///
    /// An image folder has train/<class>/* and test/<class>/*, or classes alone.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["config", "resume"], help_heading = "Model and data")]
    pub data: Option<PathBuf>,
    /// Input normalisation, or a published one's name [default: the file's, else what fits]
    ///
    /// mean,mean,mean/std,std,std in units of [0, 1], or identity, cifar10, cifar10-kuangliu, cifar100, gtsrb,
    /// tiny-imagenet, imagenet, half, mnist, fashion-mnist.
    #[arg(long, value_name = "MEAN/STD", help_heading = "Model and data")]
    pub normalisation: Option<NormalisationChoice>,
    /// Class names by label [default: the order that fits the model]
    ///
    /// One a line, or JSON.
    #[arg(long, value_name = "FILE", help_heading = "Model and data")]
    pub classes: Option<PathBuf>,
    /// Which weights of a file with several, by their key
    ///
    /// As state_dict_ema or net.
    #[arg(long, value_name = "KEY", help_heading = "Model and data")]
    pub weights: Option<String>,
    /// Images known to be clean: a folder, or a share of the data where all of it is clean
    ///
    /// With a clean set there is one round, and no image is ranked.
    #[arg(long, value_name = "DIR|SHARE", allow_negative_numbers = true, help_heading = "Model and data")]
    pub clean: Option<CleanSet>,
    /// The truth, where it is known: poisons the data and judges what is selected
    ///
    /// A poison.json, or BackdoorBench's attack_result.pt with its bd_train_dataset.
    #[arg(long, value_name = "FILE", help_heading = "Model and data")]
    pub poison: Option<PathBuf>,
    /// Attack whose success is measured, where the data are poisoned or clean already
    ///
    /// Of a poison.json only trigger and target are read.
    #[arg(long, value_name = "FILE", conflicts_with = "poison", help_heading = "Model and data")]
    pub trigger: Option<PathBuf>,
    /// pbe, or one that needs a clean set [default: pbe]
    ///
    /// ft (fine-tuning), fine-pruning, nad, neural-cleanse, anp, ft-sam, fst or ban-ft.
    #[arg(long, help_heading = "Defence")]
    pub defense: Option<DefenseKind>,
    /// Settings to start from: default, or paper (as published)
    #[arg(long, help_heading = "Defence")]
    pub recipe: Option<Recipe>,
    /// Settings as TOML; a run's config.toml repeats the run
    #[arg(long, value_name = "FILE", help_heading = "Defence")]
    pub config: Option<PathBuf>,
    /// One setting, as config.toml names it; may be given several times
    ///
    /// As batch=64, rounds=3, rounds.0.clean.epochs=16, rounds.*.attack.steps=5, data.limit=5000 (so many training
    /// images, class proportions kept) or data.format=idx.
    #[arg(long, value_name = "PATH=VALUE", help_heading = "Defence")]
    pub set: Vec<String>,
    /// End with exit code 3 where the backdoor is still there, or the model is worse
    ///
    /// result.json has the cause as not_done.
    #[arg(long, value_name = "VERDICT", help_heading = "Run")]
    pub fail_on: Option<FailOn>,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Where the clean set comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "clean is neither a folder nor a share")]
pub enum CleanSet {
    /// This share of the data.
    Share(f64),
    Folder(PathBuf),
}

impl FromStr for CleanSet {
    type Err = std::convert::Infallible;

    /// A number is a share; a folder of that name is `./0.5`.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        Ok(number.map_or_else(|| Self::Folder(text.into()), Self::Share))
    }
}

impl CleanSet {
    /// Refuses a share that isn't one.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Share(share) if !(*share > 0.0 && *share <= 1.0) => Err(Error::input(format!(
                "--clean {share} is not above 0 and at most 1; a folder of that name is ./{share}"
            ))),
            _ => Ok(()),
        }
    }
}

/// A verdict that ends in an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    NotDone,
}

/// A purification.
pub struct Request {
    pub model: PathBuf,
    pub data: DataArgs,
    /// Height and width of the images, where the file says them.
    pub size: Option<(usize, usize)>,
    pub input: ModelArgs,
    pub clean: Option<CleanSet>,
    pub poison: Option<PathBuf>,
    pub trigger: Option<PathBuf>,
    pub defense: DefenseKind,
    pub run: RunArgs,
    pub compute: ComputeArgs,
    /// Digests of the inputs of the run that the file is of.
    pub digests: BTreeMap<String, String>,
    /// The device of the run that the file is of, where `--device` doesn't name one.
    pub device_kind: Option<String>,
    recipe: Recipe,
    overlay: Overlay,
}

impl Request {
    /// Reads `--config` and `--set`; an option wins over both.
    ///
    /// # Errors
    /// A file that can't be read, or isn't of a purification; a run without a model or data.
    pub fn new(args: &PurifyArgs) -> Result<Self> {
        let resumed = args.run.resumed()?;
        let config = args.config.as_deref().or(resumed.as_deref());
        let mut file = config.map(read).transpose()?.unwrap_or_default();
        let mut set = vec![];
        for text in &args.set {
            let (path, value) = parse_assignment(text)?;
            refuse_beside_option(&path, args)?;
            if is_run_key(&path) {
                put(&mut file, &path, value)?;
            } else {
                set.push((path, value));
            }
        }
        let source = config.map_or("--set".into(), |path| path.display().to_string());
        let (run, settings): (Table, Table) = file.into_iter().partition(|(key, _)| is_run_key(key));
        check_origin(&run, "purify", &source)?;
        let keys = RunKeys::read(run, args, &source)?;
        let missing = |what: &str| Error::input(format!("{source}: no {what}, and no --{what}"));
        let truth_given = args.poison.is_some() || args.trigger.is_some();
        let path = args.data.clone().or(keys.data.path).ok_or_else(|| missing("data"))?;
        let (classes, class_names) = match (&args.classes, keys.data.classes) {
            (Some(path), _) => (Some(path.clone()), None),
            (None, Some(ClassesKey::File(path))) => (Some(path), None),
            (None, Some(ClassesKey::Names(names))) => (None, Some(names)),
            (None, None) => (None, None),
        };
        let DataKeys { format, skip_bad, limit, limit_seed, .. } = keys.data;
        let read = ReadArgs { format, limit, limit_seed, skip_bad, classes, class_names, size: None };
        let input = ModelArgs {
            of_config: args.normalisation.is_none() && keys.data.normalisation.is_some(),
            normalisation: args.normalisation.clone().or(keys.data.normalisation),
            weights: args.weights.clone().or(keys.weights),
        };
        let mut compute = args.compute.clone();
        compute.seed = compute.seed.or(keys.seed);
        compute.precision = compute.precision.or(keys.precision);
        let mut device_kind = keys.device.filter(|_| compute.device == DeviceChoice::Auto);
        if device_kind.as_deref().is_some_and(is_processor) {
            compute.device = DeviceChoice::Cpu;
            // Another precision is another kind of processor.
            device_kind = device_kind.filter(|_| args.compute.precision.is_none());
        }
        // A run that is resumed: its folder refuses another kind of device.
        device_kind = device_kind.filter(|_| resumed.is_none());
        Ok(Self {
            model: args.model.clone().or(keys.model).ok_or_else(|| missing("model"))?,
            data: DataArgs { data: path, read },
            size: keys.data.size.map(|side| (side, side)).or(keys.data.height.zip(keys.data.width)),
            input,
            clean: args.clean.clone().or(keys.clean),
            poison: if truth_given { args.poison.clone() } else { keys.poison },
            trigger: if truth_given { args.trigger.clone() } else { keys.trigger },
            defense: args.defense.or(keys.defense).unwrap_or_default(),
            run: args.run.clone(),
            compute,
            digests: if resumed.is_some() { BTreeMap::new() } else { keys.digests },
            device_kind,
            recipe: args.recipe.or(keys.recipe).unwrap_or_default(),
            overlay: Overlay { file: settings, set },
        })
    }

    /// The defence with its settings, checked; `images` are those it is given, where they have been read.
    pub fn configure(&self, images: Option<&ImageSet>, allows_flip: bool) -> Result<Configured> {
        self.clean.as_ref().map_or(Ok(()), CleanSet::check)?;
        let (recipe, clean_set) = (self.recipe, self.clean.is_some());
        let side = images.map(|images| images.height.min(images.width));
        let images = images.map(ImageSet::len);
        let facts = Facts { recipe, rounds: None, clean_set, images, side, allows_flip };
        self.defense.configure(&facts, &self.overlay)
    }
}
