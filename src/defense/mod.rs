//! Defences: what erases a backdoor from a model.
//!
//! A defence is a struct of its settings that implements [`Defense`]. Everything else is shared: settings are read
//! from TOML ([`settings`]), [`Run`] keeps checkpoints, resumes to the bit, trains and reports progress to an
//! [`Observer`]. A new one is a file beside `fine_tuning.rs` and its lines in [`DefenseKind`].

mod anp;
mod ban;
mod clean_set;
mod fine_pruning;
mod fine_tuning;
mod fst;
mod ft_sam;
#[cfg(test)]
mod golden;
mod nad;
mod neural_cleanse;
mod norm_noise;
mod observer;
pub mod pbe;
mod run;
pub mod settings;
mod state;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use anp::Anp;
pub use ban::BanFt;
pub use fine_pruning::FinePruning;
pub use fine_tuning::FineTuning;
pub use fst::Fst;
pub use ft_sam::FtSam;
pub use nad::Nad;
pub use neural_cleanse::NeuralCleanse;
pub use observer::{NoopObserver, Observer, Phase};
pub use pbe::{Pbe, SecondLook};
pub use run::{Run, RunInputs, TrainingSet, purify};
pub use settings::{Configured, Overlay};
pub use state::{Cursor, RoundRecord, RunState};

use crate::engine::EngineOptions;
use crate::error::Result;
use crate::train::TrainerConfig;

/// What the settings of a defence depend on before the user changes any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Published settings or this program's.
    pub recipe: Recipe,
    /// Rounds, where the user says how many.
    pub rounds: Option<usize>,
    /// Whether the images are known to be clean.
    pub clean_set: bool,
    /// Images that the defence is given, where they have been read.
    pub images: Option<usize>,
    /// Pixels of their shorter side.
    pub side: Option<usize>,
    /// Whether a mirrored image shows the same thing.
    pub allows_flip: bool,
}

impl Facts {
    /// This program's settings for images that may be mirrored.
    pub fn new(clean_set: bool) -> Self {
        Self { recipe: Recipe::Default, rounds: None, clean_set, images: None, side: None, allows_flip: true }
    }
}

/// Which published or measured settings a defence starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// This program's: one setting for all attacks.
    #[default]
    Default,
    /// Those of the authors' released code.
    Paper,
}

/// The defences by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefenseKind {
    /// Progressive Backdoor Erasing.
    #[default]
    Pbe,
    /// Plain fine-tuning.
    Ft,
    /// Fine-pruning.
    FinePruning,
    /// Neural attention distillation.
    Nad,
    /// Neural Cleanse.
    NeuralCleanse,
    /// Adversarial neuron pruning.
    Anp,
    /// Fine-tuning with sharpness-aware minimisation.
    FtSam,
    /// Feature shift tuning.
    Fst,
    /// Fine-tuning under adversarial noise on the neurons.
    BanFt,
}

impl DefenseKind {
    /// All of them. Those after the first need a clean set.
    pub const ALL: [Self; 9] = [
        Self::Pbe,
        Self::Ft,
        Self::FinePruning,
        Self::Nad,
        Self::NeuralCleanse,
        Self::Anp,
        Self::FtSam,
        Self::Fst,
        Self::BanFt,
    ];

    /// As `--defense` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pbe => "pbe",
            Self::Ft => "ft",
            Self::FinePruning => "fine-pruning",
            Self::Nad => "nad",
            Self::NeuralCleanse => "neural-cleanse",
            Self::Anp => "anp",
            Self::FtSam => "ft-sam",
            Self::Fst => "fst",
            Self::BanFt => "ban-ft",
        }
    }

    /// The defence with its settings: the recipe's, with those of `overlay` over them.
    ///
    /// # Errors
    /// A setting that is unknown, out of range, or has no effect with these `facts`.
    pub fn configure(self, facts: &Facts, overlay: &Overlay) -> Result<Configured> {
        if self != Self::Pbe {
            clean_set::check_facts(facts, self.name())?;
        }
        match self {
            Self::Pbe => settings::configure::<Pbe>(facts, overlay),
            Self::Ft => settings::configure::<FineTuning>(facts, overlay),
            Self::FinePruning => settings::configure::<FinePruning>(facts, overlay),
            Self::Nad => settings::configure::<Nad>(facts, overlay),
            Self::NeuralCleanse => settings::configure::<NeuralCleanse>(facts, overlay),
            Self::Anp => settings::configure::<Anp>(facts, overlay),
            Self::FtSam => settings::configure::<FtSam>(facts, overlay),
            Self::Fst => settings::configure::<Fst>(facts, overlay),
            Self::BanFt => settings::configure::<BanFt>(facts, overlay),
        }
    }
}

impl FromStr for DefenseKind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(format!("it is one of {names}"))
    }
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "default" => Ok(Recipe::Default),
            "paper" => Ok(Recipe::Paper),
            _ => Err("it is one of default, paper".into()),
        }
    }
}

/// A defence with its settings. Its fields are what `config.toml` and `--set` name.
pub trait Defense {
    /// The settings before the user changes any.
    ///
    /// # Errors
    /// It can't work with these facts: a clean set is missing, for one.
    fn defaults(facts: &Facts) -> Result<Self>
    where
        Self: Sized;

    /// Refuses settings that no run can mean; the message names the setting, its value and its range.
    fn check(&self, facts: &Facts) -> Result<()>;

    /// Settings that have no effect in this run, and why. A path stands for everything below it.
    #[allow(unused_variables)]
    fn unused(&self, facts: &Facts) -> Vec<(String, &'static str)> {
        vec![]
    }

    /// Settings that had no effect in the run that ended with `state`, and why: what only the images decide.
    #[allow(unused_variables)]
    fn idle(&self, state: &RunState) -> Vec<(String, &'static str)> {
        vec![]
    }

    /// Batch, SGD and augmentation.
    fn trainer(&self) -> &TrainerConfig;

    /// What the network is opened for that it changes.
    fn engine_options(&self) -> EngineOptions {
        EngineOptions { attack: true, ..self.trainer().engine_options() }
    }

    /// Images that it makes and keeps at a time at most, out of `images` that it is given.
    #[allow(unused_variables)]
    fn images_made(&self, images: usize, clean_set: bool) -> usize {
        0
    }

    /// Erases the backdoor of `run.model`, step by step: see [`Run::step`].
    fn run(&self, run: &mut Run) -> Result<()>;
}
