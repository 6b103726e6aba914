//! Every number of a purification, with the two recipes.

use serde::{Deserialize, Serialize};

use super::views::View;
use crate::engine::{Augment, EngineOptions};
use crate::train::{PgdConfig, Schedule, TrainConfig};

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
    pub attack: PgdConfig,
    /// Step 1b of the first round.
    pub first_adversarial: TrainConfig,
    /// Step 2 of the first round.
    pub first_clean: TrainConfig,
    /// Step 1b of later rounds.
    pub adversarial: TrainConfig,
    /// Step 2 of later rounds.
    pub clean: TrainConfig,
    /// Images of step 2 at most in rounds before the last; 0 for all.
    pub clean_limit: usize,
    /// Step 2 on the last selection, which ends the run.
    pub last: TrainConfig,
}

const PLAIN: TrainConfig = TrainConfig::PLAIN;

/// Weaker ones leave a trigger's hold on the logits, and the distillation of step 2 brings all of it back
/// (docs/method.md).
const ADVERSARIAL: TrainConfig = TrainConfig { epochs: 8, learning_rate: 0.03, patches: 0.5, ..PLAIN };

const DISTILLED: TrainConfig = TrainConfig { distill: 1.0, average: 0.98, patches: 0.5, ..PLAIN };

/// Images that carry a trigger and a right label can be told from clean ones by nothing but the infected model's
/// doubt; there the distillation would teach the trigger (docs/method.md).
const TEACHER_CAP: f32 = 0.1;

const RANDOM_BUDGET: PgdConfig = PgdConfig {
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
            attack: PgdConfig { limit: if clean_set { 0 } else { 3000 }, ..RANDOM_BUDGET },
            first_adversarial: if clean_set { ADVERSARIAL } else { TrainConfig { epochs: 5, ..PLAIN } },
            first_clean: if clean_set {
                TrainConfig { epochs: 16, ..DISTILLED }
            } else {
                TrainConfig { epochs: 10, teacher_cap: TEACHER_CAP, ..DISTILLED }
            },
            adversarial: TrainConfig { epochs: 24, ..ADVERSARIAL },
            clean: TrainConfig { epochs: 4, ..PLAIN },
            clean_limit: 6000,
            last: TrainConfig { epochs: 6, distill: 0.25, teacher_cap: TEACHER_CAP, ..DISTILLED },
        }
    }

    /// The released code's settings (crop and flip in place of its augmentation).
    fn paper(clean_set: bool) -> Self {
        let constant = TrainConfig { learning_rate: 1e-3, schedule: Schedule::Constant, ..PLAIN };
        Self {
            recipe: Recipe::Paper,
            nesterov: false,
            first_share: 0.05,
            first_limit: 0,
            shares: if clean_set { vec![] } else { vec![0.2, 0.5, 0.7] },
            views: vec![],
            filter: vec![],
            agree: false,
            attack: PgdConfig {
                epsilon_min: 6.0,
                epsilon_max: 6.0,
                alpha_ratio: 0.2,
                steps: 7,
                random_start: false,
                clamp: false,
                limit: 0,
                every_batch: true,
            },
            first_adversarial: TrainConfig { epochs: if clean_set { 3 } else { 10 }, ..constant },
            first_clean: TrainConfig { epochs: if clean_set { 17 } else { 0 }, ..constant },
            adversarial: TrainConfig { epochs: 1, batches: 31, ..constant },
            clean: TrainConfig { epochs: 9, ..constant },
            clean_limit: 0,
            last: TrainConfig { epochs: 9, ..constant },
            ..Self::measured(clean_set)
        }
    }
}
