//! Every number of a purification, with the two recipes.

use serde::{Deserialize, Serialize};

use super::views::View;
use crate::device::Augment;
use crate::engine::EngineOptions;

/// Which published or measured setting the numbers start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// One setting for all attacks: a random budget per image, views and survivors filter,
    /// distillation, weight average.
    #[default]
    Default,
    /// Algorithm 1 with the settings of the released code.
    Paper,
}

/// The learning rate over a training phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The largest, throughout.
    Constant,
    /// Half a cosine from the largest to zero.
    Cosine,
    /// Cosine from 1/25 of the largest up to it over the first 30 %, then down to zero (PyTorch's
    /// OneCycleLR without its momentum cycle).
    OneCycle,
}

impl Schedule {
    /// The factor of the largest rate at `step` of `steps`.
    pub fn factor(self, step: usize, steps: usize) -> f32 {
        let at = step as f32 / steps.max(1) as f32;
        let down = |x: f32| 0.5 * (1.0 + (std::f32::consts::PI * x).cos());
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => down(at),
            Schedule::OneCycle if at < 0.3 => 1.0 - (1.0 - 0.04) * down(at / 0.3),
            Schedule::OneCycle => down((at - 0.3) / 0.7),
        }
    }
}

impl std::str::FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Schedule::Constant),
            "cosine" => Ok(Schedule::Cosine),
            "one-cycle" => Ok(Schedule::OneCycle),
            _ => Err("it is one of constant, cosine, one-cycle".into()),
        }
    }
}

impl std::str::FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Recipe::Default),
            "paper" => Ok(Recipe::Paper),
            _ => Err("it is one of default, paper".into()),
        }
    }
}

/// The attack of step 1. Radii in units of 1/255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttackConfig {
    /// Smallest ε; every image draws its own, log-uniform up to `epsilon_max`.
    pub epsilon_min: f32,
    /// Largest ε.
    pub epsilon_max: f32,
    /// α = ε · this.
    pub alpha_ratio: f32,
    /// PGD steps.
    pub steps: usize,
    /// Start at a random point of the ball.
    pub random_start: bool,
    /// Keep examples inside [0, 1].
    pub clamp: bool,
    /// Attack at most this many images a round; 0 for all.
    pub limit: usize,
    /// New examples for every batch from the network as it is (the paper); else once, before step 1b.
    pub every_batch: bool,
}

/// One fine-tuning step of a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TuneConfig {
    /// Epochs.
    pub epochs: usize,
    /// Batches of an epoch at most; 0 for all.
    pub batches: usize,
    /// Largest learning rate.
    pub learning_rate: f32,
    /// How the learning rate runs over the step.
    pub schedule: Schedule,
    /// Weight of the distillation from the infected model; 0 for none.
    pub distill: f32,
    /// Temperature of the distillation.
    pub temperature: f32,
    /// Largest probability at this temperature that the teacher may give a label other than the image's: what is
    /// above it goes to the image's label; 1 for any.
    pub doubt: f32,
    /// d of the weight average that the step ends with; 0 for none.
    pub average: f32,
    /// Probability of each of the four random patches painted over an image before the network sees it
    /// (its teacher doesn't); 0 for none.
    pub patches: f32,
}

/// A pass of the survivors filter: images that keep their label under this attack are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilterPass {
    /// ε in 1/255.
    pub epsilon: f32,
    /// PGD steps, of α = ε / min(steps, 4).
    pub steps: usize,
}

/// Everything a purification depends on besides the model, the data and the seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PurifyConfig {
    /// Where the numbers started from.
    pub recipe: Recipe,
    /// Images of a training step.
    pub batch: usize,
    /// SGD momentum.
    pub momentum: f32,
    /// L2 penalty.
    pub weight_decay: f32,
    /// Nesterov's form.
    pub nesterov: bool,
    /// Padding of the random crop.
    pub crop: usize,
    /// Mirror images.
    pub flip: bool,
    /// Share of the training images, drawn at random, that the first round starts from.
    pub first_share: f64,
    /// At most this many of them; 0 for all.
    pub first_limit: usize,
    /// Share of the ranking that each round's step 3 selects; as many rounds as entries (without a
    /// clean set; with one there is one round and no ranking).
    pub shares: Vec<f64>,
    /// Views that an image of the first set has to keep its label in.
    pub views: Vec<View>,
    /// Attacks of the survivors filter, which an image of the first set must not keep its label under.
    pub filter: Vec<FilterPass>,
    /// A view or an attack that would drop a larger share of the images is left out.
    pub filter_limit: f64,
    /// Keep only images whose label the model gives: in the first set the infected model, without
    /// which a trigger can't hold the label, in a selection the purified one, which gives a poisoned
    /// image with a false label another where the erasure has worked.
    pub agree: bool,
    /// Step 1a.
    pub attack: AttackConfig,
    /// Step 1b of the first round.
    pub first_adversarial: TuneConfig,
    /// Step 2 of the first round.
    pub first_clean: TuneConfig,
    /// Step 1b of later rounds.
    pub adversarial: TuneConfig,
    /// Step 2 of later rounds.
    pub clean: TuneConfig,
    /// Images of step 2 at most in rounds before the last; 0 for all.
    pub clean_limit: usize,
    /// Step 2 on the last selection, which ends the run.
    pub last: TuneConfig,
}

const PLAIN: TuneConfig = TuneConfig {
    epochs: 0,
    batches: 0,
    learning_rate: 0.02,
    schedule: Schedule::Cosine,
    distill: 0.0,
    temperature: 2.0,
    doubt: 1.0,
    average: 0.0,
    patches: 0.0,
};

/// Weaker ones leave a trigger's hold on the logits, and the distillation of step 2 brings all of it back
/// (docs/method.md).
const ADVERSARIAL: TuneConfig = TuneConfig { epochs: 8, learning_rate: 0.03, patches: 0.5, ..PLAIN };

const DISTILLED: TuneConfig = TuneConfig { distill: 1.0, average: 0.98, patches: 0.5, ..PLAIN };

/// Images that carry a trigger and a right label can be told from clean ones by nothing but the infected model's
/// doubt; there the distillation would teach the trigger (docs/method.md).
const DOUBT: f32 = 0.1;

const RANDOM_BUDGET: AttackConfig = AttackConfig {
    epsilon_min: 4.0,
    epsilon_max: 128.0,
    alpha_ratio: 0.25,
    steps: 7,
    random_start: true,
    clamp: true,
    limit: 3000,
    every_batch: false,
};

/// A trigger that holds its label against long attacks, and against a single large step: each pass sees models
/// that the others don't (docs/method.md).
const SURVIVORS: [FilterPass; 4] = [
    FilterPass { epsilon: 8.0, steps: 5 },
    FilterPass { epsilon: 4.0, steps: 5 },
    FilterPass { epsilon: 32.0, steps: 1 },
    FilterPass { epsilon: 64.0, steps: 1 },
];

impl PurifyConfig {
    /// The numbers of `recipe` with or without a clean set.
    pub fn new(recipe: Recipe, clean_set: bool) -> Self {
        match recipe {
            Recipe::Default => Self::measured(clean_set),
            Recipe::Paper => Self::paper(clean_set),
        }
    }

    /// How many of `images` the first round looks at.
    pub fn first_size(&self, images: usize) -> usize {
        let count = ((self.first_share * images as f64).round() as usize).clamp(1, images);
        if self.first_limit > 0 { count.min(self.first_limit) } else { count }
    }

    /// Fits the default recipe to a clean set of `images`: its epochs are those of 2,500 images, and a smaller
    /// set is gone through more often, up to as many steps.
    pub fn fit_clean_set(&mut self, images: usize) {
        if self.recipe == Recipe::Default {
            let times = (2500.0 / images.max(1) as f64).round().max(1.0) as usize;
            self.first_adversarial.epochs *= times;
            self.first_clean.epochs *= times;
        }
    }

    /// What a network of the run has to be opened for: θ' is attacked by the survivors filter, θ is
    /// `trained` besides.
    pub fn engine_options(&self, trained: bool) -> EngineOptions {
        let augment = Augment { pad: self.crop, flip: self.flip };
        let batch = if trained { self.batch } else { 0 };
        EngineOptions { batch, attack: true, augment, ..EngineOptions::default() }
    }

    fn measured(clean_set: bool) -> Self {
        Self {
            recipe: Recipe::Default,
            batch: 128,
            momentum: 0.9,
            weight_decay: 5e-4,
            nesterov: true,
            crop: 4,
            flip: true,
            first_share: 1.0,
            first_limit: 12000,
            shares: if clean_set { vec![] } else { vec![0.7] },
            // In each some trigger loses its hold, and no other look sees it so well (docs/method.md).
            views: View::ALL.to_vec(),
            filter: SURVIVORS.to_vec(),
            filter_limit: 0.6,
            agree: true,
            attack: AttackConfig { limit: if clean_set { 0 } else { 3000 }, ..RANDOM_BUDGET },
            first_adversarial: if clean_set { ADVERSARIAL } else { TuneConfig { epochs: 5, ..PLAIN } },
            first_clean: if clean_set {
                TuneConfig { epochs: 16, ..DISTILLED }
            } else {
                TuneConfig { epochs: 10, doubt: DOUBT, ..DISTILLED }
            },
            adversarial: TuneConfig { epochs: 24, ..ADVERSARIAL },
            clean: TuneConfig { epochs: 4, ..PLAIN },
            clean_limit: 6000,
            last: TuneConfig { epochs: 6, distill: 0.25, doubt: DOUBT, ..DISTILLED },
        }
    }

    /// method.md 1.2: the released code's settings (crop and flip in place of its augmentation).
    fn paper(clean_set: bool) -> Self {
        let constant = TuneConfig { learning_rate: 1e-3, schedule: Schedule::Constant, ..PLAIN };
        Self {
            recipe: Recipe::Paper,
            nesterov: false,
            first_share: 0.05,
            first_limit: 0,
            shares: if clean_set { vec![] } else { vec![0.2, 0.5, 0.7] },
            views: vec![],
            filter: vec![],
            agree: false,
            attack: AttackConfig {
                epsilon_min: 6.0,
                epsilon_max: 6.0,
                alpha_ratio: 0.2,
                steps: 7,
                random_start: false,
                clamp: false,
                limit: 0,
                every_batch: true,
            },
            first_adversarial: TuneConfig { epochs: if clean_set { 3 } else { 10 }, ..constant },
            first_clean: TuneConfig { epochs: if clean_set { 17 } else { 0 }, ..constant },
            adversarial: TuneConfig { epochs: 1, batches: 31, ..constant },
            clean: TuneConfig { epochs: 9, ..constant },
            clean_limit: 0,
            last: TuneConfig { epochs: 9, ..constant },
            ..Self::measured(clean_set)
        }
    }
}
