//! The options of an attack, and the attack and poisoned data that follow from them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pbe::backdoor::{
    Attack, LabelMode, Picture, PoisonFile, Poisoned, PoisonedTrain, Selection, Trigger, Warp, poison,
};
use pbe::data::{ImageSet, SampleSize};
use pbe::error::{Error, Result};
use serde::Serialize;

/// How `poison.json` numbers images.
pub const ORDER: &str =
    "as pbe reads the data: by class folder name, then file name, or as the files list them";

/// The values of `--attack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttackKind {
    /// A patch: the last 3x3 pixels white, unless --mask and --pattern say otherwise
    Badnets,
    /// A pattern blended into the whole image
    Blend,
    /// A sinusoid along the columns, put on images of the target class alone
    Sig,
    /// A smooth warp, and noisy warps of other images that keep their label
    Wanet,
    /// A trigger of its own for each image, made by networks that are trained with the classifier
    Dynamic,
    /// No backdoor: a benign model (infect only)
    None,
}

/// The values of `--label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelKind {
    /// The class of --target
    AllToOne,
    /// The class after their own
    AllToAll,
}

/// Options of the trigger and of what is poisoned.
#[derive(Args, Clone, Debug)]
pub struct TriggerArgs {
    /// The attack
    #[arg(long, value_enum)]
    pub attack: AttackKind,
    /// Label of triggered images
    #[arg(long, value_enum, default_value = "all-to-one")]
    pub label: LabelKind,
    /// Target class, all-to-one
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
    /// sig: amplitude in grey levels [default: 40]
    #[arg(long, allow_negative_numbers = true)]
    pub delta: Option<f64>,
    /// sig: periods across the image [default: 6]
    #[arg(long, allow_negative_numbers = true)]
    pub frequency: Option<f64>,
    /// sig: poison images of all classes and give them the target's label
    #[arg(long)]
    pub dirty_label: bool,
    /// wanet: side of the control grid [default: 4]
    #[arg(long, value_name = "K")]
    pub grid: Option<usize>,
    /// wanet: strength of the warp [default: 0.5]
    #[arg(long, allow_negative_numbers = true)]
    pub strength: Option<f64>,
    /// wanet, dynamic: noise-mode images (noisy warp or another image's trigger, own label) for each
    /// poisoned one [default: wanet 2, dynamic 1]
    #[arg(long, value_name = "RATIO", allow_negative_numbers = true)]
    pub noise_ratio: Option<f64>,
    /// dynamic: the trigger that a run of `pbe infect --attack dynamic` has trained, its poison.json
    #[arg(long, value_name = "FILE")]
    pub generators: Option<PathBuf>,
}

/// The checked settings of an attack, as config.toml has them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PoisonSettings {
    kind: AttackKind,
    label: LabelKind,
    target: u32,
    rate: Option<f64>,
    count: Option<usize>,
    pattern: Option<PathBuf>,
    mask: Option<PathBuf>,
    alpha: Option<f64>,
    delta: Option<f64>,
    frequency: Option<f64>,
    clean_label: bool,
    grid: Option<usize>,
    strength: Option<f64>,
    noise_ratio: Option<f64>,
    generators: Option<PathBuf>,
}

impl TriggerArgs {
    /// Checks what can be checked without the data; nothing for `--attack none`.
    pub fn check(&self) -> Result<Option<PoisonSettings>> {
        let kind = self.attack;
        if kind == AttackKind::None {
            return Ok(None);
        }
        let rate = self.rate.or(self.count.is_none().then_some(0.1));
        if let Some(rate) = rate.filter(|rate| !(*rate > 0.0 && *rate <= 1.0)) {
            return Err(Error::input(format!("--rate {rate} is not above 0 and at most 1")));
        }
        if self.count == Some(0) {
            return Err(Error::input("--count 0: no image would be poisoned; see --attack none"));
        }
        self.check_belongs(kind)?;
        let of = |owner: AttackKind, given: Option<f64>, default: f64| {
            (kind == owner).then(|| given.unwrap_or(default))
        };
        let settings = PoisonSettings {
            kind,
            label: self.label,
            target: self.target,
            rate,
            count: self.count,
            pattern: self.pattern.clone(),
            mask: self.mask.clone(),
            alpha: of(AttackKind::Blend, self.alpha, 0.2),
            delta: of(AttackKind::Sig, self.delta, 40.0),
            frequency: of(AttackKind::Sig, self.frequency, 6.0),
            clean_label: kind == AttackKind::Sig && !self.dirty_label,
            grid: (kind == AttackKind::Wanet).then(|| self.grid.unwrap_or(4)),
            strength: of(AttackKind::Wanet, self.strength, 0.5),
            noise_ratio: match kind {
                AttackKind::Wanet => Some(self.noise_ratio.unwrap_or(2.0)),
                AttackKind::Dynamic => Some(self.noise_ratio.unwrap_or(1.0)),
                _ => None,
            },
            generators: self.generators.clone(),
        };
        settings.check()?;
        Ok(Some(settings))
    }

    /// Refuses an option of another attack.
    fn check_belongs(&self, kind: AttackKind) -> Result<()> {
        use AttackKind::{Badnets, Blend, Dynamic, Sig, Wanet};
        let options = [
            ("--pattern", self.pattern.is_some(), &[Badnets, Blend][..]),
            ("--mask", self.mask.is_some(), &[Badnets]),
            ("--alpha", self.alpha.is_some(), &[Blend]),
            ("--delta", self.delta.is_some(), &[Sig]),
            ("--frequency", self.frequency.is_some(), &[Sig]),
            ("--dirty-label", self.dirty_label, &[Sig]),
            ("--grid", self.grid.is_some(), &[Wanet]),
            ("--strength", self.strength.is_some(), &[Wanet]),
            ("--noise-ratio", self.noise_ratio.is_some(), &[Wanet, Dynamic]),
            ("--generators", self.generators.is_some(), &[Dynamic]),
        ];
        for (option, given, owners) in options {
            if given && !owners.contains(&kind) {
                let name = |kind: &AttackKind| format!("{kind:?}").to_lowercase();
                let owners: Vec<String> = owners.iter().map(name).collect();
                return Err(Error::input(format!("{option} belongs to --attack {}", owners.join(" or "))));
            }
        }
        Ok(())
    }
}

/// A poisoned set with its ground truth.
pub struct PoisonedData {
    pub poisoned: Poisoned,
    pub trigger: Trigger,
    pub truth: PoisonFile,
}

impl PoisonSettings {
    fn check(&self) -> Result<()> {
        if let Some(alpha) = self.alpha.filter(|alpha| !(*alpha > 0.0 && *alpha <= 1.0)) {
            return Err(Error::input(format!("--alpha {alpha} is not above 0 and at most 1")));
        }
        let positive = [("delta", self.delta), ("frequency", self.frequency), ("strength", self.strength)];
        for (name, value) in positive {
            if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
                return Err(Error::input(format!("--{name} {value} is not above 0")));
            }
        }
        if let Some(ratio) = self.noise_ratio.filter(|ratio| !(*ratio >= 0.0 && ratio.is_finite())) {
            return Err(Error::input(format!("--noise-ratio {ratio} is below 0")));
        }
        if let Some(grid) = self.grid.filter(|grid| !(2..=64).contains(grid)) {
            return Err(Error::input(format!("--grid {grid} is not from 2 to 64")));
        }
        if self.clean_label && self.label == LabelKind::AllToAll {
            let cause = "--label all-to-all changes every label; --attack sig needs --dirty-label with it";
            return Err(Error::input(cause));
        }
        Ok(())
    }

    /// The label of triggered images.
    pub fn label(&self) -> LabelMode {
        match self.label {
            LabelKind::AllToOne => LabelMode::AllToOne { target: self.target },
            LabelKind::AllToAll => LabelMode::AllToAll,
        }
    }

    fn attack(&self, images: &ImageSet, seed: u64) -> Result<Attack> {
        let (height, width) = (images.height, images.width);
        let mut attack = match self.kind {
            AttackKind::Dynamic | AttackKind::None => self.trained()?,
            AttackKind::Badnets => Attack::badnets(height, width),
            AttackKind::Blend => Attack::blend(height, width, seed),
            AttackKind::Sig => Attack::sig(),
            AttackKind::Wanet => {
                Attack::Wanet(Warp::draw(self.grid.unwrap_or(4), self.strength.unwrap_or(0.5), seed))
            }
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
            Attack::Sig { delta, frequency } => {
                *delta = self.delta.unwrap_or(*delta);
                *frequency = self.frequency.unwrap_or(*frequency);
            }
            Attack::Wanet(_) | Attack::Dynamic(_) => {}
        }
        Ok(attack)
    }

    /// The trigger that `--generators` names.
    fn trained(&self) -> Result<Attack> {
        let Some(path) = &self.generators else {
            let cause = "--attack dynamic needs trained generators: those of a run of `pbe infect \
                         --attack dynamic`, by --generators poison.json";
            return Err(Error::input(cause));
        };
        match PoisonFile::load(path)?.attack {
            attack @ Attack::Dynamic(_) => Ok(attack),
            other => Err(Error::file(path, format!("describes attack {}, not dynamic", other.name()))),
        }
    }

    /// Whether the trigger has yet to be trained.
    pub fn is_untrained(&self) -> bool {
        self.kind == AttackKind::Dynamic && self.generators.is_none()
    }

    /// Which images are poisoned; each `epoch` draws others.
    pub fn selection(&self, seed: u64, epoch: u32) -> Selection {
        let amount = match (self.count, self.rate) {
            (Some(count), _) => SampleSize::Count(count),
            (None, rate) => SampleSize::Fraction(rate.unwrap_or(0.1)),
        };
        Selection {
            clean_label: self.clean_label,
            noise_ratio: self.noise_ratio.unwrap_or(0.0),
            epoch,
            ..Selection::new(amount, seed)
        }
    }

    /// Poisons `images`.
    pub fn poison(&self, images: ImageSet, seed: u64) -> Result<PoisonedData> {
        let attack = self.attack(&images, seed)?;
        let trigger = Trigger::for_images(&attack, &images)?;
        let poisoned = poison(images, &trigger, self.label(), &self.selection(seed, 0))?;
        let images = poisoned.images.len();
        let (indices, noise) = (poisoned.indices.clone(), poisoned.noise.clone());
        let rate = indices.len() as f64 / images.max(1) as f64;
        let train = PoisonedTrain { images, order: ORDER.into(), applied: false, indices, noise };
        let truth = PoisonFile { path: None, attack, label: self.label(), rate, seed: Some(seed), train };
        Ok(PoisonedData { poisoned, trigger, truth })
    }

    /// `images` with those poisoned that are drawn for `epoch`.
    pub fn poison_epoch(&self, images: ImageSet, seed: u64, epoch: u32) -> Result<ImageSet> {
        let trigger = Trigger::for_images(&self.attack(&images, seed)?, &images)?;
        Ok(poison(images, &trigger, self.label(), &self.selection(seed, epoch))?.images)
    }
}

fn replace(picture: &mut Picture, path: &Option<PathBuf>) -> Result<()> {
    if let Some(path) = path {
        *picture = Picture::load(path)?;
    }
    Ok(())
}
