//! Follows a purification: progress, checkpoints, what each round is worth.

use pbe::defense::filter::Looked;
use pbe::defense::state::{RoundRecord, State};
use pbe::defense::watcher::{Phase, Watcher};
use pbe::engine::Engine;
use pbe::error::{Error, Result};
use pbe::eval::{Metrics, average_precision, precision};
use pbe::report::csv::write_metrics;
use pbe::report::{Look, Round, RunFolder};
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::cli::checkpoint::{self, Checkpoint};
use crate::cli::interrupt;
use crate::cli::open::Network;
use crate::cli::progress::Progress;

/// What a checkpoint holds beside arrays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rest {
    state: State,
    /// Rounds begun so far.
    pub rounds: Vec<Round>,
    /// The suspect model's figures.
    pub before: Option<Metrics>,
}

/// The program's watcher.
pub struct Watch<'a> {
    subject: &'a Subject,
    folder: &'a RunFolder,
    progress: &'a Progress,
    pub rest: Rest,
}

impl<'a> Watch<'a> {
    pub fn new(subject: &'a Subject, folder: &'a RunFolder, progress: &'a Progress, rest: Rest) -> Self {
        Self { subject, folder, progress, rest }
    }

    /// Measures the suspect model, unless that was done before the run was interrupted.
    pub fn before(&mut self, infected: &mut Engine) -> Result<()> {
        if self.rest.before.is_none() {
            let figures = self.measure(infected)?;
            self.progress.log(&format!("before: {}", words(&figures)));
            self.rest.before = Some(figures);
        }
        Ok(())
    }

    /// The figures of a model; none without test images.
    pub fn measure(&self, engine: &mut Engine) -> Result<Metrics> {
        self.subject.evaluator.as_ref().map_or(Ok(Metrics::default()), |evaluator| evaluator.measure(engine))
    }

    /// Writes the checkpoint.
    pub fn store(&self, state: &State) -> Result<()> {
        let Rest { rounds, before, .. } = self.rest.clone();
        let scalars = State {
            round: state.round,
            stage: state.stage,
            position: state.position,
            records: state.records.clone(),
            ..State::default()
        };
        checkpoint::save(
            &self.folder.checkpoint(),
            &Rest { state: scalars, rounds, before },
            &[
                ("start", &state.start),
                ("weights", &state.weights),
                ("momentum", &state.momentum),
                ("average", &state.average),
            ],
            &[("selected", &state.selected)],
        )
    }

    /// The round's entry, which is made if a run is in it for the first time.
    fn round(&mut self, round: usize) -> &mut Round {
        if self.rest.rounds.len() <= round {
            let entry = |round: usize| Round { round: round as u32, ..Round::default() };
            self.rest.rounds.extend((self.rest.rounds.len()..=round).map(entry));
        }
        &mut self.rest.rounds[round]
    }
}

/// The state that a checkpoint holds, and the rest.
///
/// # Errors
/// A checkpoint of another network or other data.
pub fn restore(
    mut checkpoint: Checkpoint<Rest>,
    network: &Network,
    subject: &Subject,
    folder: &RunFolder,
) -> Result<(State, Rest)> {
    let mut state = std::mem::take(&mut checkpoint.rest.state);
    state.selected = checkpoint.take_words("selected");
    state.start = checkpoint.take_floats("start");
    state.weights = checkpoint.take_floats("weights");
    state.momentum = checkpoint.take_floats("momentum");
    state.average = checkpoint.take_floats("average");
    let (all, trained) = (network.graph.weights, network.graph.trainable);
    let fits = (state.weights.len(), state.average.len(), state.momentum.len()) == (all, all, trained)
        && (state.start.is_empty() || state.start.len() == all)
        && state.selected.iter().all(|&index| (index as usize) < subject.images.len());
    if fits {
        Ok((state, checkpoint.rest))
    } else {
        Err(Error::file(folder.checkpoint(), "holds another run"))
    }
}

impl Watcher for Watch<'_> {
    fn progress(
        &mut self,
        round: usize,
        phase: Phase,
        done: usize,
        total: usize,
        loss: Option<f32>,
    ) -> Result<()> {
        let step = match phase {
            Phase::Filter => "first set",
            Phase::Attack => "step 1a, attack",
            Phase::Adversarial => "step 1b, fine-tuning",
            Phase::Clean => "step 2, fine-tuning",
            Phase::Reference => "the infected model's answers",
            Phase::Rank => "step 3, ranking",
        };
        let note = loss.map(|loss| format!("loss {loss:.3}"));
        self.progress.show(&format!("round {round}, {step}"), done, total, note);
        interrupt::check()
    }

    fn checkpoint(&mut self, state: &State) -> Result<()> {
        self.store(state)
    }

    fn looked(&mut self, looked: &[Looked]) {
        let clean = self.subject.clean.as_ref();
        let poisoned = |images: &[u32]| {
            clean.map(|clean| images.iter().filter(|&&index| !clean[index as usize]).count() as u64)
        };
        let look = |one: &Looked| Look {
            look: one.look.clone(),
            images: one.came.len() as u64,
            poisoned: poisoned(&one.came),
            held: one.held.len() as u64,
            held_poisoned: poisoned(&one.held),
            left_out: one.left_out,
        };
        let looks = looked.iter().map(look).collect();
        self.round(0).looks = looks;
    }

    fn begun(&mut self, round: usize, selected: &[u32]) -> Result<()> {
        let clean = self.subject.clean.as_ref().and_then(|clean| precision(selected, clean));
        let entry = self.round(round);
        entry.trained = Some(selected.len() as u64);
        entry.trained_precision = clean;
        Ok(())
    }

    fn ranked(&mut self, round: usize, scores: &[f32], selected: &[u32]) -> Result<()> {
        let clean = self.subject.clean.as_ref();
        let right = clean.and_then(|clean| precision(selected, clean));
        let average = clean.and_then(|clean| average_precision(scores, clean));
        let entry = self.round(round);
        entry.selected = Some(selected.len() as u64);
        entry.selected_share = Some(selected.len() as f64 / scores.len().max(1) as f64);
        entry.selected_precision = right;
        entry.average_precision = average;
        Ok(())
    }

    fn round_done(&mut self, record: &RoundRecord, purified: &mut Engine) -> Result<()> {
        let figures = self.measure(purified)?;
        let entry = self.round(record.round);
        entry.dropped = (record.round == 0).then_some(record.dropped as u64);
        entry.attack_loss = record.attack_loss;
        entry.adversarial_loss = record.adversarial_loss;
        entry.clean_loss = record.clean_loss;
        (entry.clean_accuracy, entry.asr) = (figures.clean_accuracy, figures.asr);
        let seconds = &record.seconds;
        entry.seconds = [
            ("filter", seconds.filter),
            ("attack", seconds.attack),
            ("adversarial", seconds.adversarial),
            ("clean", seconds.clean),
            ("rank", seconds.rank),
        ]
        .map(|(phase, seconds)| (phase.to_string(), seconds))
        .into();
        let ranking = match (entry.selected_precision, entry.average_precision) {
            (Some(right), Some(average)) => {
                format!(", {:.2} % of the selected are clean, average precision {average:.4}", 100.0 * right)
            }
            _ => String::new(),
        };
        self.progress.log(&format!("round {}: {}{ranking}", record.round, words(&figures)));
        write_metrics(&self.folder.metrics(), &self.rest.rounds)
    }
}

fn words(figures: &Metrics) -> String {
    let percent = |value: Option<f64>| value.map_or_else(|| "—".into(), |value| format!("{value:.2}"));
    format!("ACC {}, ASR {}", percent(figures.clean_accuracy), percent(figures.asr))
}
