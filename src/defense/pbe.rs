//! Progressive Backdoor Erasing, Algorithm 1 (Mu et al., CVPR 2023).

use std::time::Instant;

use super::config::PurifyConfig;
use super::filter::{Looked, believed, looks};
use super::selection::{Ranking, agreeing};
use super::state::{RoundRecord, Stage, State};
use super::watcher::{Phase, Watcher};
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::eval::{Agreement, agreement, logits_with_progress, predictions};
use crate::rng::{Purpose, Stream};
use crate::train::{PgdConfig, Sgd, TrainConfig, TrainCursor, TrainJob, pgd, train};

/// The two networks of a run.
pub struct Models {
    /// θ', the model as it was handed over; never changed.
    pub infected: Engine,
    /// θ, the model being purified.
    pub purified: Engine,
}

/// A run of Algorithm 1.
pub struct Pbe<'a> {
    /// θ' and θ.
    pub models: &'a mut Models,
    /// D_train; where a clean set is given, that set.
    pub images: &'a ImageSet,
    /// Whether `images` is known to be clean: step 1 and step 2 once, no ranking.
    pub clean_set: bool,
    /// The numbers.
    pub config: &'a PurifyConfig,
    /// Seed of everything random.
    pub seed: u64,
}

impl Pbe<'_> {
    /// Runs from `state` to the end.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the watcher's progress says so; a checkpoint has been stored then.
    pub fn run(&mut self, state: &mut State, watcher: &mut dyn Watcher) -> Result<()> {
        self.config.check(self.clean_set)?;
        let rounds = if self.clean_set { 1 } else { self.config.shares.len() + 1 };
        self.restore(state)?;
        // θ' never changes, so its logits are taken once.
        let mut infected = None;
        while state.round < rounds {
            let done = match state.stage {
                Stage::Begin => self.begin(state, &mut infected, watcher),
                Stage::Adversarial => self.adversarial(state, watcher),
                Stage::Clean => self.clean(state, rounds, watcher),
                Stage::Rank => self.rank(state, rounds, &mut infected, watcher),
            };
            if matches!(done, Ok(()) | Err(Error::Interrupted(_))) {
                self.store(state, watcher)?;
            }
            done?;
        }
        Ok(())
    }

    /// The round's set D_ext and its starting weights.
    fn begin(
        &mut self,
        state: &mut State,
        infected: &mut Option<Vec<f32>>,
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        let clock = Instant::now();
        let mut record = RoundRecord { round: state.round, ..RoundRecord::default() };
        if state.round == 0 && self.clean_set {
            state.selected = (0..self.images.len() as u32).collect();
        } else if state.round == 0 {
            let set = self.first_set(infected, watcher)?;
            record.dropped = self.config.first_size(self.images.len()) - set.len();
            state.selected = set;
        }
        watcher.begun(state.round, &state.selected)?;
        record.selected = state.selected.len();
        record.seconds.filter = clock.elapsed().as_secs_f64();
        state.start = self.models.purified.weights()?;
        state.records.push(record);
        state.stage = Stage::Adversarial;
        state.position = TrainCursor::default();
        Ok(())
    }

    /// D⁰: of a random share of all images those whose label θ' gives (an attack on another says nothing about a
    /// trigger), without those that the filter finds suspicious.
    fn first_set(&mut self, infected: &mut Option<Vec<f32>>, watcher: &mut dyn Watcher) -> Result<Vec<u32>> {
        let mut set = Stream::new(self.seed, Purpose::Split, 0).permutation(self.images.len());
        set.truncate(self.config.first_size(self.images.len()));
        set.sort_unstable();
        let (mut given, classes) = (set.clone(), self.models.infected.graph().classes());
        let mut looked = vec![];
        if self.config.agree {
            let logits = self.infected_logits(0, infected, watcher)?;
            given = agreeing(&set, &predictions(logits, classes)?, &self.images.labels);
            let (came, held) = (set.clone(), given.clone());
            looked.push(Looked { look: "label".into(), came, held, left_out: false });
        }
        let total = given.len() * looks(self.config);
        let engine = &mut self.models.infected;
        let (left, further) = believed(engine, self.images, &given, self.config, self.seed, &mut |done| {
            watcher.progress(0, Phase::Filter, done, total, None)
        })?;
        looked.extend(further);
        watcher.looked(&looked);
        // A model that nothing moves leaves nothing: the unfiltered set is then the better guess.
        Ok(if left.len() < self.config.batch.min(set.len()) { set } else { left })
    }

    /// Step 1: untargeted adversarial examples of the starting weights, fine-tuning on them.
    fn adversarial(&mut self, state: &mut State, watcher: &mut dyn Watcher) -> Result<()> {
        let first = state.round == 0;
        let tune = if first { &self.config.first_adversarial } else { &self.config.adversarial };
        let seed = phase_seed(self.seed, state.round, 1);
        if tune.epochs == 0 {
            state.stage = Stage::Clean;
            return Ok(());
        }
        if self.config.attack.every_batch {
            let set = state.selected.clone();
            let attack = Some(&self.config.attack);
            return self.tune(state, watcher, Phase::Adversarial, tune, self.images, &set, seed, attack);
        }
        let clock = Instant::now();
        let set = sample(&state.selected, self.config.attack.limit, seed);
        let now = self.models.purified.weights()?;
        self.models.purified.set_weights(&state.start)?;
        let engine = &mut self.models.purified;
        let examples = pgd(engine, self.images, &set, &self.config.attack, seed, &mut |done| {
            watcher.progress(state.round, Phase::Attack, done, set.len(), None)
        });
        self.models.purified.set_weights(&now)?;
        let examples = examples?;
        if let Some(record) = state.records.last_mut() {
            record.seconds.attack += clock.elapsed().as_secs_f64();
            record.attack_loss = Some(examples.loss);
        }
        let all: Vec<u32> = (0..examples.images.len() as u32).collect();
        self.tune(state, watcher, Phase::Adversarial, tune, &examples.images, &all, seed, None)
    }

    /// Step 2: fine-tuning on the set believed clean.
    fn clean(&mut self, state: &mut State, rounds: usize, watcher: &mut dyn Watcher) -> Result<()> {
        let (first, last) = (state.round == 0, state.round + 1 == rounds);
        let tune = match (first, last) {
            (true, _) => &self.config.first_clean,
            (false, true) => &self.config.last,
            (false, false) => &self.config.clean,
        };
        let seed = phase_seed(self.seed, state.round, 2);
        let limit = if last { 0 } else { self.config.clean_limit };
        let set = sample(&state.selected, limit, seed);
        self.tune(state, watcher, Phase::Clean, tune, self.images, &set, seed, None)
    }

    /// Step 3: ranking of all images, selection of the next set. After the last round: the end.
    fn rank(
        &mut self,
        state: &mut State,
        rounds: usize,
        infected: &mut Option<Vec<f32>>,
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        let clock = Instant::now();
        if !self.clean_set {
            let Agreement { cosine: scores, predictions } = self.scores(state.round, infected, watcher)?;
            let ranking = Ranking {
                scores: &scores,
                answers: &predictions,
                labels: &self.images.labels,
                taught: &state.selected,
                classes: self.models.purified.graph().classes(),
            };
            let share = self.config.shares[state.round.min(rounds - 2)];
            let mut selected = ranking.best(share);
            if self.config.agree {
                let agreed = ranking.agreed(share);
                // A purified model that has forgotten its task is no judge.
                if agreed.len() >= self.config.batch.min(selected.len()) {
                    selected = agreed;
                }
            }
            watcher.ranked(state.round, &scores, &selected)?;
            if state.round + 1 < rounds {
                state.selected = selected;
            }
        }
        if let Some(record) = state.records.last_mut() {
            record.seconds.rank = clock.elapsed().as_secs_f64();
            watcher.round_done(record, &mut self.models.purified)?;
        }
        state.round += 1;
        state.stage = Stage::Begin;
        Ok(())
    }

    /// The score of every image, with the logits of θ'.
    fn scores(
        &mut self,
        round: usize,
        infected: &mut Option<Vec<f32>>,
        watcher: &mut dyn Watcher,
    ) -> Result<Agreement> {
        let logits = self.infected_logits(round, infected, watcher)?;
        let total = self.images.len();
        agreement(&mut self.models.purified, self.images, logits, &mut |done| {
            watcher.progress(round, Phase::Rank, done, total, None)
        })
    }

    /// The logits of θ' for every image, made the first time they are asked for.
    fn infected_logits<'b>(
        &mut self,
        round: usize,
        infected: &'b mut Option<Vec<f32>>,
        watcher: &mut dyn Watcher,
    ) -> Result<&'b [f32]> {
        if infected.is_none() {
            let total = self.images.len();
            let logits = logits_with_progress(&mut self.models.infected, self.images, &mut |done| {
                watcher.progress(round, Phase::Reference, done, total, None)
            })?;
            *infected = Some(logits);
        }
        Ok(infected.as_deref().unwrap_or_default())
    }

    /// A training stage, from `state.position`; moves to the next stage when it is finished.
    #[allow(clippy::too_many_arguments)]
    fn tune(
        &mut self,
        state: &mut State,
        watcher: &mut dyn Watcher,
        phase: Phase,
        tune: &TrainConfig,
        images: &ImageSet,
        indices: &[u32],
        seed: u64,
        attack: Option<&PgdConfig>,
    ) -> Result<()> {
        let clock = Instant::now();
        let config = self.config;
        let sgd = Sgd {
            batch: config.batch,
            momentum: config.momentum,
            weight_decay: config.weight_decay,
            nesterov: config.nesterov,
        };
        let Models { infected, purified } = &mut *self.models;
        let teacher = Some(infected).filter(|_| tune.distill > 0.0);
        let mut job =
            TrainJob { images, epoch_images: None, indices, config: tune, sgd, seed, teacher, attack };
        let round = state.round;
        let mut position = state.position;
        let trained = train(purified, &mut job, &mut position, &mut |_, event| {
            watcher.progress(round, phase, event.done(), event.total(), Some(event.loss))
        });
        state.position = position;
        if let Some(record) = state.records.last_mut() {
            let seconds = clock.elapsed().as_secs_f64();
            match phase {
                Phase::Adversarial => {
                    record.seconds.adversarial += seconds;
                    record.adversarial_loss = position.loss;
                }
                _ => {
                    record.seconds.clean += seconds;
                    record.clean_loss = position.loss;
                }
            }
        }
        trained.map_err(|error| locate(error, round, phase))?;
        state.position = TrainCursor::default();
        state.stage = if phase == Phase::Adversarial { Stage::Clean } else { Stage::Rank };
        Ok(())
    }

    fn store(&self, state: &mut State, watcher: &mut dyn Watcher) -> Result<()> {
        state.weights = self.models.purified.weights()?;
        state.momentum = self.models.purified.momentum()?;
        state.average = self.models.purified.average()?;
        watcher.checkpoint(state)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        if !state.weights.is_empty() {
            self.models.purified.set_weights(&state.weights)?;
            self.models.purified.set_momentum(&state.momentum)?;
            self.models.purified.set_average(&state.average)?;
        }
        Ok(())
    }
}

/// Puts the place into a failure of the run.
fn locate(error: Error, round: usize, phase: Phase) -> Error {
    let step = if phase == Phase::Adversarial { "step 1b (adversarial)" } else { "step 2 (clean)" };
    match error {
        Error::Run(cause) => Error::Run(format!("round {round}, {step}: {cause}")),
        other => other,
    }
}

/// At most `limit` of `set` (0 for all), drawn at random, in ascending order.
fn sample(set: &[u32], limit: usize, seed: u64) -> Vec<u32> {
    if limit == 0 || set.len() <= limit {
        return set.to_vec();
    }
    let order = Stream::new(seed, Purpose::Split, 1).permutation(set.len());
    let mut picked: Vec<u32> = order[..limit].iter().map(|&i| set[i as usize]).collect();
    picked.sort_unstable();
    picked
}

/// A seed of its own for each step of each round (SplitMix64's finaliser).
fn phase_seed(seed: u64, round: usize, step: u64) -> u64 {
    let mut z = seed.wrapping_add((round as u64 * 8 + step).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
