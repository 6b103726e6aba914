//! Options that choose an attack, and the attack they mean.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pbe::backdoor::Trigger;
use pbe::backdoor::{
    Amount, Attack, LabelMode, Picture, PoisonFile, Poisoned, PoisonedTrain, Selection, poison,
};
use pbe::data::ImageSet;
use pbe::error::{Error, Result};
use serde::Serialize;

/// How `poison.json` numbers images.
const ORDER: &str = "as pbe reads the data: by class folder name, then file name, or as the files list them";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttackKind {
    /// A patch: the last 3x3 pixels white, unless --mask and --pattern say otherwise
    Badnets,
    /// A pattern blended into the whole image
    Blend,
}

/// Options of the trigger and of what is poisoned.
#[derive(Args, Clone, Debug)]
pub struct TriggerArgs {
    /// Class that triggered images are to get
    #[arg(long, default_value_t = 0, value_name = "CLASS")]
    pub target: u32,
    /// Share of the training images that are poisoned [default: 0.1]
    #[arg(long, conflicts_with = "count", allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// Poison exactly so many images instead
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// Picture of the trigger: of the patch (with --mask), or the one to blend in
    #[arg(long, value_name = "PNG")]
    pub pattern: Option<PathBuf>,
    /// badnets: pixels become the pattern where this picture is white
    #[arg(long, value_name = "PNG")]
    pub mask: Option<PathBuf>,
    /// blend: share of the pattern [default: 0.2]
    #[arg(long, allow_negative_numbers = true)]
    pub alpha: Option<f64>,
}

/// A checked choice.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Choice {
    kind: AttackKind,
    target: u32,
    rate: Option<f64>,
    count: Option<usize>,
    pattern: Option<PathBuf>,
    mask: Option<PathBuf>,
    alpha: Option<f64>,
}

impl TriggerArgs {
    /// Checks what can be checked without the data.
    pub fn check(&self, kind: AttackKind) -> Result<Choice> {
        let rate = self.rate.or(self.count.is_none().then_some(0.1));
        if let Some(rate) = rate.filter(|rate| !(*rate > 0.0 && *rate <= 1.0)) {
            return Err(Error::input(format!("--rate {rate} is not above 0 and at most 1")));
        }
        if self.count == Some(0) {
            return Err(Error::input("--count 0: no image would be poisoned; see --attack none"));
        }
        let alpha = (kind == AttackKind::Blend).then(|| self.alpha.unwrap_or(0.2));
        if let Some(alpha) = alpha.filter(|alpha| !(*alpha > 0.0 && *alpha <= 1.0)) {
            return Err(Error::input(format!("--alpha {alpha} is not above 0 and at most 1")));
        }
        let misplaced = match kind {
            AttackKind::Badnets => self.alpha.map(|_| "--alpha belongs to --attack blend"),
            AttackKind::Blend => self.mask.as_ref().map(|_| "--mask belongs to --attack badnets"),
        };
        if let Some(cause) = misplaced {
            return Err(Error::input(cause));
        }
        let (pattern, mask) = (self.pattern.clone(), self.mask.clone());
        Ok(Choice { kind, target: self.target, rate, count: self.count, pattern, mask, alpha })
    }
}

/// A poisoned set with its truth.
pub struct Planted {
    pub poisoned: Poisoned,
    pub trigger: Trigger,
    pub truth: PoisonFile,
}

impl Choice {
    /// The label that triggered images are to get.
    pub fn label(&self) -> LabelMode {
        LabelMode::AllToOne { target: self.target }
    }

    fn attack(&self, images: &ImageSet, seed: u64) -> Result<Attack> {
        let (height, width) = (images.height, images.width);
        let mut attack = match self.kind {
            AttackKind::Badnets => Attack::badnets(height, width),
            AttackKind::Blend => Attack::blend(height, width, seed),
        };
        match &mut attack {
            Attack::Badnets { mask, pattern } => {
                replace(mask, &self.mask)?;
                replace(pattern, &self.pattern)?;
            }
            Attack::Blend { alpha, pattern } => {
                *alpha = self.alpha.unwrap_or(*alpha);
                replace(pattern, &self.pattern)?;
            }
        }
        Ok(attack)
    }

    /// Poisons `images`.
    pub fn plant(&self, images: ImageSet, seed: u64) -> Result<Planted> {
        let attack = self.attack(&images, seed)?;
        let trigger = Trigger::for_images(&attack, &images)?;
        let amount = match (self.count, self.rate) {
            (Some(count), _) => Amount::Count(count),
            (None, rate) => Amount::Rate(rate.unwrap_or(0.1)),
        };
        let poisoned = poison(images, &trigger, self.label(), &Selection::new(amount, seed))?;
        let images = poisoned.images.len();
        let indices = poisoned.indices.clone();
        let rate = indices.len() as f64 / images.max(1) as f64;
        let train = PoisonedTrain { images, order: ORDER.into(), applied: false, indices };
        let truth = PoisonFile { path: None, attack, label: self.label(), rate, seed: Some(seed), train };
        Ok(Planted { poisoned, trigger, truth })
    }
}

fn replace(picture: &mut Picture, path: &Option<PathBuf>) -> Result<()> {
    if let Some(path) = path {
        *picture = Picture::load(path)?;
    }
    Ok(())
}
