//! [`Run`]: what every defence is run with. It trains, keeps time and checkpoints, and skips what an interrupted
//! run has done already.

use std::time::Instant;

use super::Defense;
use super::observer::{Observer, Phase};
use super::state::{Cursor, RoundRecord, RunState};
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
use crate::train::{Optimizer, PgdConfig, TrainConfig, TrainCursor, TrainJob, train};

/// Before the first phase; its time isn't counted.
const START: Phase = Phase { key: "start", label: "start" };

/// Models and data of a run.
pub struct RunInputs<'a> {
    /// θ', the model as it was handed over; never changed.
    pub infected: &'a mut Engine,
    /// θ, the model that is purified.
    pub model: &'a mut Engine,
    /// The training images; where a clean set is given, that set.
    pub images: &'a ImageSet,
    /// Whether `images` are known to be clean.
    pub clean_set: bool,
    /// Decides everything random.
    pub seed: u64,
}

/// A run in progress.
pub struct Run<'a> {
    /// θ', the model as it was handed over; never changed.
    pub infected: &'a mut Engine,
    /// θ, the model that is purified.
    pub model: &'a mut Engine,
    /// The training images; where a clean set is given, that set.
    pub images: &'a ImageSet,
    /// Whether `images` are known to be clean.
    pub clean_set: bool,
    /// Decides everything random.
    pub seed: u64,
    /// How far the run is.
    pub state: &'a mut RunState,
    /// Progress and results go there.
    pub report: Reporter<'a>,
    defense: &'a dyn Defense,
    clock: Instant,
    /// Steps of the round that have been offered to [`Run::step`].
    offered: usize,
}

/// What a phase trains on.
pub struct TrainingSet<'a> {
    /// What `indices` refer to.
    pub images: ImageSet,
    /// Images to train on.
    pub indices: Vec<u32>,
    /// Train on adversarial examples that are made for every batch.
    pub attack: Option<&'a PgdConfig>,
    /// Decides shuffles and augmentation.
    pub seed: u64,
}

/// The observer, and where the run is.
pub struct Reporter<'a> {
    /// Who follows the run.
    pub observer: &'a mut dyn Observer,
    /// From 0.
    pub round: usize,
    phase: Phase,
}

impl Reporter<'_> {
    /// `done` of `total` units of the current phase.
    pub fn progress(&mut self, done: usize, total: usize, loss: Option<f32>) -> Result<()> {
        self.observer.progress(self.round, self.phase, done, total, loss)
    }
}

/// Purifies `inputs.model` with `defense` from `state` to the end.
///
/// # Errors
/// [`Error::Interrupted`] where the observer's progress says so: it has been given a checkpoint then.
pub fn purify(
    defense: &dyn Defense,
    inputs: RunInputs,
    state: &mut RunState,
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut run = Run::new(defense, inputs, state, observer)?;
    defense.run(&mut run)?;
    run.check_end()
}

impl<'a> Run<'a> {
    /// A run that goes on from `state`.
    pub(super) fn new(
        defense: &'a dyn Defense,
        inputs: RunInputs<'a>,
        state: &'a mut RunState,
        observer: &'a mut dyn Observer,
    ) -> Result<Self> {
        let RunInputs { infected, model, images, clean_set, seed } = inputs;
        if !state.weights.is_empty() {
            model.set_weights(&state.weights)?;
            model.set_momentum(&state.momentum)?;
            model.set_average(&state.average)?;
        }
        let report = Reporter { observer, round: state.cursor.round, phase: START };
        let clock = Instant::now();
        Ok(Self { infected, model, images, clean_set, seed, state, report, defense, clock, offered: 0 })
    }

    /// Begins a round: the steps that follow belong to it.
    pub fn begin_round(&mut self, round: usize) {
        (self.report.round, self.offered) = (round, 0);
    }

    /// Does one step of the round and stores a checkpoint, unless the run has done the step before. Steps are told
    /// apart by their order, so each round has to offer the same ones; a step
    /// trains once at most.
    pub fn step(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let (round, step) = (self.report.round, self.offered + 1);
        self.step_before(Cursor { round, step, train: TrainCursor::default() }, work)
    }

    /// As [`Run::step`]; the work at `next` comes after it.
    fn step_before(&mut self, next: Cursor, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let here = (self.report.round, self.offered);
        self.offered += 1;
        if here != (self.state.cursor.round, self.state.cursor.step) {
            return Ok(());
        }
        let done = work(self);
        if done.is_ok() {
            self.state.cursor = next;
        }
        if matches!(done, Ok(()) | Err(Error::Interrupted(_))) {
            self.checkpoint()?;
        }
        done.map_err(|error| self.locate(error))
    }

    /// Tells the observer which images the round takes, and keeps the weights that it starts from.
    pub fn start_round(&mut self) -> Result<()> {
        self.state.start = self.model.weights()?;
        self.report.observer.round_started(self.report.round, &self.state.selected)
    }

    /// Ends the round: the observer may measure the model.
    pub fn end_round(&mut self) -> Result<()> {
        let next = Cursor { round: self.report.round + 1, ..Cursor::default() };
        self.step_before(next, |run| {
            run.count_time();
            let record = run.record().clone();
            run.report.observer.round_done(&record, run.model)
        })
    }

    /// Begins anew from the model as it was handed over. What is known of the images stays.
    pub fn restart(&mut self) -> Result<()> {
        self.reset_model()?;
        (self.state.cursor, self.state.restarted) = (Cursor::default(), true);
        self.checkpoint()
    }

    /// Makes θ what it was when it was handed over.
    pub fn reset_model(&mut self) -> Result<()> {
        let weights = self.infected.weights()?;
        let trainable = self.model.graph().trainable;
        self.model.set_weights(&weights)?;
        self.model.set_average(&weights)?;
        self.model.set_momentum(&vec![0.0; trainable])
    }

    /// Refuses a run that began at a place it doesn't have: none of its steps was done.
    fn check_end(&self) -> Result<()> {
        let (end, cursor) = (self.report.round + 1, self.state.cursor);
        match (cursor.round, cursor.step) == (end, 0) {
            true => Ok(()),
            false => Err(Error::input(format!(
                "the checkpoint is in round {} at step {}, but there are {end} rounds",
                cursor.round, cursor.step
            ))),
        }
    }

    /// From here on time and progress are those of `phase`.
    pub fn enter(&mut self, phase: Phase) {
        self.count_time();
        self.report.phase = phase;
    }

    /// The record of the round.
    pub fn record(&mut self) -> &mut RoundRecord {
        let round = self.report.round;
        while self.state.records.len() <= round {
            let round = self.state.records.len();
            self.state.records.push(RoundRecord { round, ..RoundRecord::default() });
        }
        &mut self.state.records[round]
    }

    /// Notes a decision for the result.
    pub fn note(&mut self, text: String) {
        self.record().notes.push(text);
    }

    /// Trains the model, from where the run was interrupted.
    pub fn train(&mut self, phase: Phase, set: &TrainingSet, config: &TrainConfig) -> Result<()> {
        self.train_with(phase, set, config, None)
    }

    /// As [`Run::train`], in steps of `optimizer`.
    pub fn train_with(
        &mut self,
        phase: Phase,
        set: &TrainingSet,
        config: &TrainConfig,
        optimizer: Option<&mut dyn Optimizer>,
    ) -> Result<()> {
        if config.epochs == 0 {
            return Ok(());
        }
        self.enter(phase);
        let TrainingSet { images, indices, attack, seed } = set;
        let (defense, report) = (self.defense, &mut self.report);
        let mut job = TrainJob {
            images,
            epoch_images: None,
            indices,
            config,
            trainer: defense.trainer(),
            seed: *seed,
            teacher: Some(&mut *self.infected).filter(|_| config.distill > 0.0 || optimizer.is_some()),
            attack: *attack,
            optimizer: optimizer.map(|optimizer| optimizer as &mut dyn Optimizer),
        };
        let cursor = &mut self.state.cursor.train;
        let trained = train(self.model, &mut job, cursor, &mut |_, event| {
            report.progress(event.done(), event.total(), Some(event.loss))
        });
        if let Some(loss) = cursor.loss {
            self.record().losses.insert(phase.key.into(), loss);
        }
        trained
    }

    /// A seed of its own for each of `steps` in each round (SplitMix64's finaliser).
    pub fn step_seed(&self, step: u64) -> u64 {
        let number = self.report.round as u64 * 8 + step;
        let mut z = self.seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn count_time(&mut self) {
        let seconds = self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        let phase = self.report.phase.key;
        if phase != START.key {
            *self.record().seconds.entry(phase.into()).or_default() += seconds;
        }
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.count_time();
        self.state.weights = self.model.weights()?;
        self.state.momentum = self.model.momentum()?;
        self.state.average = self.model.average()?;
        self.report.observer.checkpoint(self.state)
    }

    /// Adds round and phase to a failure of the run.
    fn locate(&self, error: Error) -> Error {
        match error {
            Error::Run(cause) => {
                Error::Run(format!("round {}, {}: {cause}", self.report.round, self.report.phase.label))
            }
            other => other,
        }
    }
}

/// At most `limit` of `set` (0 for all), drawn at random, in ascending order.
pub(super) fn sample(set: &[u32], limit: usize, seed: u64) -> Vec<u32> {
    if limit == 0 || set.len() <= limit {
        return set.to_vec();
    }
    let order = Stream::new(seed, Purpose::Split, 1).permutation(set.len());
    let mut picked: Vec<u32> = order[..limit].iter().map(|&i| set[i as usize]).collect();
    picked.sort_unstable();
    picked
}
