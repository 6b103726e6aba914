//! The settings of PBE, with the two recipes.

use serde::{Deserialize, Serialize};

use super::second_look::SecondLook;
use crate::defense::{Facts, Recipe, RunState};
use crate::error::{Error, Result};
use crate::eval::{FilterAttack, MAX_DROPPED, View};
use crate::train::{PgdConfig, Schedule, TrainConfig, TrainerConfig, at_least, positive, share, steps};

/// Progressive Backdoor Erasing: everything it depends on besides model, data and seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pbe {
    /// Where the settings started from.
    pub recipe: Recipe,
    /// Batch, SGD, augmentation.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// D⁰, without a clean set.
    pub initial_set: InitialSet,
    /// Algorithm 1's iterations.
    pub rounds: Vec<Round>,
}

/// How the images of the first round are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InitialSet {
    /// Share of the training images that it is chosen from, drawn at random.
    pub share: f64,
    /// At most this many of them; 0 for all.
    pub limit: usize,
    /// Keep only images whose label the infected model gives: a trigger can't hold another one.
    pub label_agreement: bool,
    /// Views that an image has to keep its label in.
    pub views: Vec<View>,
    /// Attacks that an image must not keep its label under (robustness filter).
    pub attacks: Vec<FilterAttack>,
    /// A view or an attack that would drop a larger share of the images is skipped.
    pub max_dropped: f64,
    /// Where a label has a larger share of poisoned images for certain, by activation gradients, these decide instead:
    /// sets hold the images that get their label from the model and aren't suspected, and rounds may `relabel`. 1 for
    /// never: then no image is suspected.
    pub suspicion: f64,
    /// Where every label has a smaller share, in a second look with the model of the first round too, the model is left as
    /// it is. 0 for never.
    pub no_sign: f64,
    /// Where suspicion decides, a set holds images of the attacker's labels only from this share of all images, the best
    /// by activation gradients.
    pub best: f64,
}

/// One iteration of Algorithm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Step 1a: the adversarial examples.
    pub attack: PgdConfig,
    /// Step 1b: training on them.
    pub adversarial: TrainConfig,
    /// Step 2: training on the selected images.
    pub clean: TrainConfig,
    /// Where `initial_set.suspicion` lets suspicion decide, step 2 trains on the suspected images too, in place of step
    /// 1: each under the label that the model of the round's beginning gives it, its own left out. They carry the
    /// trigger, which adversarial examples have to guess. Not where that model still gives half of them their own label.
    pub relabel: bool,
    /// Where a trigger that is reconstructed from the suspected images works, step 2 trains on some of its images with this
    /// trigger too, under their own labels (unlearning, as in Neural Cleanse): so many, as a share of its images. 0 for none.
    pub unlearn: f64,
    /// Step 3, without a clean set: which images the next round takes.
    pub select: Select,
}

/// Which images of the ranking are selected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Select {
    /// Best share of the ranking.
    pub share: f64,
    /// Keep only images whose label the purified model gives: a poisoned image with a false label gets another one
    /// where the erasure has worked.
    pub label_agreement: bool,
}

const PLAIN: TrainConfig = TrainConfig::PLAIN;

/// With less of it the logits keep a trace of the trigger, and the distillation of step 2 brings all of it back
/// (docs/method.md).
const ADVERSARIAL: TrainConfig = TrainConfig { epochs: 8, learning_rate: 0.03, erasing: 0.5, ..PLAIN };

const DISTILLED: TrainConfig = TrainConfig { distill: 1.0, average: 0.98, erasing: 0.5, ..PLAIN };

/// Only the infected model's probabilities tell images with a trigger and a right label from clean ones; without the
/// cap the distillation would teach the trigger from them (docs/method.md).
const TEACHER_CAP: f32 = 0.1;

/// Every image draws its own radius, so that one setting reaches all triggers.
const RANDOM_BUDGET: PgdConfig = PgdConfig {
    epsilon_min: 4.0,
    epsilon_max: 128.0,
    alpha_ratio: 0.25,
    steps: 7,
    random_start: true,
    clamp: true,
    every_batch: false,
};

/// Some triggers hold their label against long attacks, some against a single large step: each attack finds models
/// that the others miss (docs/method.md).
const FILTER_ATTACKS: [FilterAttack; 4] = [
    FilterAttack { epsilon: 8.0, steps: 5 },
    FilterAttack { epsilon: 4.0, steps: 5 },
    FilterAttack { epsilon: 32.0, steps: 1 },
    FilterAttack { epsilon: 64.0, steps: 1 },
];

/// No benign model of docs/inspect.md has a label with as large a share.
const SUSPICION: f64 = 0.15;
/// 28 of the 30 benign models that the p-value counts (docs/inspect.md) have no label with as large a share.
const NO_SIGN: f64 = 0.05;
/// As Neural Cleanse has it.
const UNLEARN: f64 = 0.2;
/// Training images that the epochs of the last step 2 are made for.
const USUAL_IMAGES: f64 = 50_000.0;
/// With fewer images it has more epochs, up to so many times.
const MOST_TIMES: f64 = 5.0;

impl Pbe {
    /// This program's settings: one for all attacks.
    pub(super) fn default_recipe(facts: &Facts) -> Self {
        let initial_set = InitialSet {
            share: 1.0,
            limit: 12000,
            label_agreement: true,
            views: View::ALL.to_vec(),
            attacks: FILTER_ATTACKS.to_vec(),
            max_dropped: MAX_DROPPED,
            suspicion: SUSPICION,
            no_sign: NO_SIGN,
            best: 0.7,
        };
        let count = facts.rounds.unwrap_or(if facts.clean_set { 1 } else { 2 });
        let rounds = match facts.clean_set {
            true => vec![clean_set_round(facts.images)],
            false => default_rounds(count, facts.images),
        };
        let trainer = TrainerConfig { flip: facts.allows_flip, ..TrainerConfig::default() };
        Self { recipe: Recipe::Default, trainer, initial_set, rounds }
    }

    /// The settings of the released code, with crop and flip in place of its augmentation.
    pub(super) fn paper_recipe(facts: &Facts) -> Self {
        let mut pbe = Self::default_recipe(facts);
        pbe.recipe = Recipe::Paper;
        pbe.trainer.nesterov = false;
        pbe.initial_set = InitialSet {
            share: 0.05,
            limit: 0,
            label_agreement: false,
            views: vec![],
            attacks: vec![],
            suspicion: 1.0,
            ..pbe.initial_set
        };
        let count = facts.rounds.unwrap_or(if facts.clean_set { 1 } else { 4 });
        pbe.rounds = paper_rounds(count, facts.clean_set);
        pbe
    }

    /// Images that the initial set is chosen from, out of `images`.
    pub fn candidates(&self, images: usize) -> usize {
        let InitialSet { share, limit, .. } = self.initial_set;
        let count = ((share * images as f64).round() as usize).max(1).min(images);
        if limit > 0 { count.min(limit) } else { count }
    }

    pub(super) fn check_all(&self, facts: &Facts) -> Result<()> {
        self.trainer.check()?;
        share("initial_set.share", self.initial_set.share)?;
        share("initial_set.max_dropped", self.initial_set.max_dropped)?;
        share("initial_set.suspicion", self.initial_set.suspicion)?;
        share("initial_set.best", self.initial_set.best)?;
        let no_sign = self.initial_set.no_sign;
        if !(0.0..=1.0).contains(&no_sign) {
            return Err(Error::input(format!("initial_set.no_sign is {no_sign}, but must be from 0 to 1")));
        }
        for (number, attack) in self.initial_set.attacks.iter().enumerate() {
            positive(&format!("initial_set.attacks.{number}.epsilon"), attack.epsilon)?;
            steps(&format!("initial_set.attacks.{number}.steps"), attack.steps)?;
        }
        if facts.clean_set && self.rounds.len() != 1 {
            let rounds = self.rounds.len();
            return Err(Error::input(format!("rounds: with a clean set there is one round, not {rounds}")));
        }
        at_least("rounds", self.rounds.len(), 1)?;
        for (number, round) in self.rounds.iter().enumerate() {
            round.attack.check(&format!("rounds.{number}.attack"))?;
            round.adversarial.check(&format!("rounds.{number}.adversarial"))?;
            round.clean.check(&format!("rounds.{number}.clean"))?;
            share(&format!("rounds.{number}.select.share"), round.select.share)?;
            let unlearn = round.unlearn;
            if !(0.0..=1.0).contains(&unlearn) {
                return Err(Error::input(format!(
                    "rounds.{number}.unlearn is {unlearn}, but must be from 0 to 1"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn unused_settings(&self, facts: &Facts) -> Vec<(String, &'static str)> {
        let mut unused = vec![];
        let InitialSet { views, attacks, .. } = &self.initial_set;
        if facts.clean_set {
            unused.push(("initial_set".into(), "with a clean set there is no initial set to choose"));
        } else if views.is_empty() && attacks.is_empty() {
            unused.push(("initial_set.max_dropped".into(), "there are no views and no attacks to skip"));
        }
        if !facts.clean_set && self.initial_set.suspicion == 1.0 {
            let names = ["best", "no_sign"].map(|name| format!("initial_set.{name}"));
            unused.extend(names.map(|name| (name, "no image is suspected")));
        }
        for (number, round) in self.rounds.iter().enumerate() {
            let path = format!("rounds.{number}");
            if round.adversarial.epochs == 0 {
                unused
                    .push((format!("{path}.attack"), "the phase that trains on its examples has no epochs"));
            }
            unused.extend(round.adversarial.unused(&format!("{path}.adversarial")));
            unused.extend(round.clean.unused(&format!("{path}.clean")));
            if facts.clean_set {
                unused.push((format!("{path}.select"), "with a clean set no images are ranked"));
            }
            if facts.clean_set || self.initial_set.suspicion == 1.0 {
                unused.extend(
                    ["relabel", "unlearn"].map(|name| (format!("{path}.{name}"), "no image is suspected")),
                );
            }
        }
        unused
    }

    /// What suspicion leaves without an effect, whether it decided the initial set or not.
    pub(super) fn idle_settings(&self, state: &RunState) -> Vec<(String, &'static str)> {
        let Some(suspects) = &state.suspects else { return vec![] };
        let rounds = 0..self.rounds.len();
        if state.second_look == Some(SecondLook::NoSign) {
            let why = "there is no sign of a backdoor, and the model was left as it is";
            return rounds.skip(1).map(|number| (format!("rounds.{number}"), why)).collect();
        }
        if !self.decides(suspects) {
            let why = "too few images are suspected to decide the initial set";
            let names = ["relabel", "unlearn"];
            let idle = rounds.flat_map(|number| names.map(|name| (format!("rounds.{number}.{name}"), why)));
            return std::iter::once(("initial_set.best".into(), why)).chain(idle).collect();
        }
        let filters = ["share", "limit", "label_agreement", "views", "attacks", "max_dropped"];
        let why = "the suspected images decide the initial set";
        // They chose the set of the first round before the rounds began anew.
        let filters = filters.into_iter().filter(|_| !state.restarted);
        let filters = filters.map(|name| (format!("initial_set.{name}"), why));
        let shares = rounds.map(|number| (format!("rounds.{number}.select.share"), why));
        let relabelled = state.records.iter().filter(|record| record.relabelled > 0);
        let attacks = relabelled.flat_map(|record| {
            let why = "the round trains on the suspected images instead";
            ["attack", "adversarial"].map(|name| (format!("rounds.{}.{name}", record.round), why))
        });
        filters.chain(shares).chain(attacks).collect()
    }
}

/// The epochs are those of 2,500 images; a smaller clean set is gone through more often, up to as many steps.
fn clean_set_round(images: Option<usize>) -> Round {
    let times = images.map_or(1, |images| (2500.0 / images.max(1) as f64).round().max(1.0) as usize);
    Round {
        attack: RANDOM_BUDGET,
        adversarial: TrainConfig { epochs: 8 * times, ..ADVERSARIAL },
        clean: TrainConfig { epochs: 16 * times, ..DISTILLED },
        relabel: false,
        unlearn: 0.0,
        select: SELECT,
    }
}

const SELECT: Select = Select { share: 0.7, label_agreement: true };

/// The epochs of the last step 2, which takes all selected images, are those of [`USUAL_IMAGES`].
fn default_rounds(count: usize, images: Option<usize>) -> Vec<Round> {
    let limit = 3000;
    let times = images.map_or(1.0, |images| (USUAL_IMAGES / images.max(1) as f64).clamp(1.0, MOST_TIMES));
    let first = Round {
        attack: RANDOM_BUDGET,
        adversarial: TrainConfig { epochs: 5, limit, ..PLAIN },
        clean: TrainConfig { epochs: 10, limit: 6000, teacher_cap: TEACHER_CAP, ..DISTILLED },
        relabel: false,
        unlearn: UNLEARN,
        select: SELECT,
    };
    let middle = Round {
        adversarial: TrainConfig { epochs: 24, limit, ..ADVERSARIAL },
        clean: TrainConfig { epochs: 4, limit: 6000, ..PLAIN },
        ..first.clone()
    };
    let last = Round {
        clean: TrainConfig {
            epochs: (6.0 * times).round() as usize,
            distill: 0.25,
            teacher_cap: TEACHER_CAP,
            ..DISTILLED
        },
        relabel: true,
        ..middle.clone()
    };
    (0..count)
        .map(|number| match number {
            0 => first.clone(),
            number if number + 1 == count => last.clone(),
            _ => middle.clone(),
        })
        .collect()
}

fn paper_rounds(count: usize, clean_set: bool) -> Vec<Round> {
    let constant = TrainConfig { learning_rate: 1e-3, schedule: Schedule::Constant, ..PLAIN };
    let attack = PgdConfig {
        epsilon_min: 6.0,
        epsilon_max: 6.0,
        alpha_ratio: 0.2,
        steps: 7,
        random_start: false,
        clamp: false,
        every_batch: true,
    };
    let [first_adversarial, first_clean] = if clean_set { [3, 17] } else { [10, 0] };
    // After the last round nothing is trained on: its selection is reported, with the share of the round before.
    let share = |number: usize| [0.2, 0.5, 0.7][number.min(count.saturating_sub(2)).min(2)];
    (0..count)
        .map(|number| {
            let (adversarial, batches, clean) =
                if number == 0 { (first_adversarial, 0, first_clean) } else { (1, 31, 9) };
            Round {
                attack: attack.clone(),
                adversarial: TrainConfig { epochs: adversarial, batches, ..constant.clone() },
                clean: TrainConfig { epochs: clean, ..constant.clone() },
                relabel: false,
                unlearn: 0.0,
                select: Select { share: share(number), label_agreement: false },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defense::Defense;

    fn refusal(change: impl Fn(&mut Pbe)) -> String {
        let facts = Facts::new(false);
        let mut pbe = Pbe::defaults(&facts).unwrap();
        change(&mut pbe);
        pbe.check(&facts).unwrap_err().to_string()
    }

    #[test]
    fn the_recipes_are_usable() {
        for recipe in [Recipe::Default, Recipe::Paper] {
            for clean_set in [false, true] {
                let facts = Facts { recipe, ..Facts::new(clean_set) };
                Pbe::defaults(&facts).unwrap().check(&facts).unwrap();
            }
        }
    }

    #[test]
    fn every_fault_is_named() {
        let first = "rounds.0.";
        assert_eq!(
            refusal(|c| c.rounds[0].attack.epsilon_min = -1.0),
            "rounds.0.attack.epsilon_min is -1, but must be above 0"
        );
        assert!(refusal(|c| c.rounds[0].attack.epsilon_max = 1.0).contains("below epsilon_min"));
        assert!(refusal(|c| c.rounds[0].attack.steps = 0).starts_with(&format!("{first}attack.steps is 0")));
        let steps = refusal(|c| c.rounds[0].attack.steps = 1_000_000_000);
        assert_eq!(steps, "rounds.0.attack.steps is 1000000000, but must be from 1 to 10000");
        assert!(refusal(|c| c.rounds[1].select.share = 1.5).starts_with("rounds.1.select.share is 1.5"));
        assert!(refusal(|c| c.rounds[1].unlearn = 1.5).starts_with("rounds.1.unlearn is 1.5"));
        assert!(refusal(|c| c.initial_set.suspicion = 0.0).starts_with("initial_set.suspicion is 0"));
        assert!(refusal(|c| c.initial_set.no_sign = -0.1).starts_with("initial_set.no_sign is -0.1"));
        assert!(refusal(|c| c.initial_set.best = 1.5).starts_with("initial_set.best is 1.5"));
        assert!(refusal(|c| c.rounds = vec![]).starts_with("rounds is 0"));
        assert!(refusal(|c| c.trainer.batch = 0).starts_with("batch is 0"));
        assert!(refusal(|c| c.trainer.momentum = 1.0).starts_with("momentum is 1"));
        assert!(refusal(|c| c.trainer.weight_decay = f32::NAN).starts_with("weight_decay is NaN"));
        assert!(refusal(|c| c.initial_set.share = 0.0).starts_with("initial_set.share is 0"));
        assert!(
            refusal(|c| c.initial_set.attacks[0].steps = 0).starts_with("initial_set.attacks.0.steps is 0")
        );
        assert!(refusal(|c| c.initial_set.max_dropped = 0.0).starts_with("initial_set.max_dropped is 0"));
        assert!(
            refusal(|c| c.rounds[0].clean.teacher_cap = 0.0).starts_with("rounds.0.clean.teacher_cap is 0")
        );
        assert!(refusal(|c| c.rounds[0].clean.average = 1.0).starts_with("rounds.0.clean.average is 1"));
        assert!(refusal(|c| c.rounds[0].clean.erasing = 1.1).starts_with("rounds.0.clean.erasing is 1.1"));
        assert!(
            refusal(|c| c.rounds[0].clean.learning_rate = f32::INFINITY).contains("learning_rate is inf")
        );
    }

    /// On 500 images of Tiny-ImageNet the epochs of 2,500 were 20 steps, and left an ASR of 49 to 77.
    #[test]
    fn a_small_clean_set_is_gone_through_more_often() {
        let epochs = |recipe, images| {
            let pbe = Pbe::defaults(&Facts { recipe, images: Some(images), ..Facts::new(true) }).unwrap();
            [pbe.rounds[0].adversarial.epochs, pbe.rounds[0].clean.epochs]
        };
        let [adversarial, clean] = epochs(Recipe::Default, 2500);
        assert_eq!(epochs(Recipe::Default, 50_000), [adversarial, clean]);
        assert_eq!(epochs(Recipe::Default, 500), [5 * adversarial, 5 * clean]);
        assert_eq!(epochs(Recipe::Paper, 500), epochs(Recipe::Paper, 2500));
    }
}
