//! Follows a purification: progress, checkpoints, what each round reaches.

use pbe::defense::{Observer, Phase, RoundRecord, RunState};
use pbe::engine::Engine;
use pbe::error::Result;
use pbe::eval::{FilterReport, Metrics, average_precision, precision};
use pbe::report::csv::write_metrics;
use pbe::report::{CheckpointMeta, FilterResult, RoundResult, RunFolder, two_decimals};

use super::PurifyData;
use crate::cli::interrupt;
use crate::cli::progress::Progress;

/// The program's observer.
pub struct RunObserver<'a> {
    data: &'a PurifyData,
    folder: &'a RunFolder,
    progress: &'a Progress,
    pub meta: CheckpointMeta,
}

impl<'a> RunObserver<'a> {
    pub fn new(
        data: &'a PurifyData,
        folder: &'a RunFolder,
        progress: &'a Progress,
        meta: CheckpointMeta,
    ) -> Self {
        Self { data, folder, progress, meta }
    }

    /// Measures the infected model, unless that was done before the run was interrupted.
    pub fn measure_before(&mut self, infected: &mut Engine) -> Result<()> {
        if self.meta.before.is_none() {
            let metrics = self.measure(infected)?;
            self.progress.log(&format!("before: {}", text(&metrics)));
            self.meta.before = Some(metrics);
        }
        Ok(())
    }

    /// The metrics of a model; none without test images.
    pub fn measure(&self, engine: &mut Engine) -> Result<Metrics> {
        self.data.evaluator.as_ref().map_or(Ok(Metrics::default()), |evaluator| evaluator.measure(engine))
    }

    /// Writes the checkpoint.
    pub fn store(&self, state: &RunState) -> Result<()> {
        self.meta.store(self.folder, state)
    }

    /// The round's entry, which is made if a run is in it for the first time.
    fn round(&mut self, round: usize) -> &mut RoundResult {
        if self.meta.rounds.len() <= round {
            let entry = |round: usize| RoundResult { round: round as u32, ..RoundResult::default() };
            self.meta.rounds.extend((self.meta.rounds.len()..=round).map(entry));
        }
        &mut self.meta.rounds[round]
    }
}

impl Observer for RunObserver<'_> {
    fn progress(
        &mut self,
        round: usize,
        phase: Phase,
        done: usize,
        total: usize,
        loss: Option<f32>,
    ) -> Result<()> {
        let note = loss.map(|loss| format!("loss {loss:.3}"));
        self.progress.show(&format!("round {round}, {}", phase.label), done, total, note);
        interrupt::check()
    }

    fn checkpoint(&mut self, state: &RunState) -> Result<()> {
        self.store(state)
    }

    fn initial_set(&mut self, reports: &[FilterReport]) {
        let clean = self.data.clean.as_ref();
        let poisoned = |images: &[u32]| {
            clean.map(|clean| images.iter().filter(|&&index| !clean[index as usize]).count() as u64)
        };
        let result = |report: &FilterReport| FilterResult {
            filter: report.filter.clone(),
            input: report.input.len() as u64,
            input_poisoned: poisoned(&report.input),
            kept: report.kept.len() as u64,
            kept_poisoned: poisoned(&report.kept),
            skipped: report.skipped,
        };
        let filters = reports.iter().map(result).collect();
        self.round(0).filters = filters;
    }

    fn round_started(&mut self, round: usize, selected: &[u32]) -> Result<()> {
        let clean = self.data.clean.as_ref().and_then(|clean| precision(selected, clean));
        let entry = self.round(round);
        entry.trained = Some(selected.len() as u64);
        entry.trained_precision = clean;
        Ok(())
    }

    fn ranked(&mut self, round: usize, scores: &[f32], selected: &[u32]) -> Result<()> {
        let clean = self.data.clean.as_ref();
        let right = clean.and_then(|clean| precision(selected, clean));
        let average = clean.and_then(|clean| average_precision(scores, clean));
        let entry = self.round(round);
        entry.selected = Some(selected.len() as u64);
        entry.selected_share = Some(selected.len() as f64 / scores.len().max(1) as f64);
        entry.selected_precision = right;
        entry.average_precision = average;
        Ok(())
    }

    fn round_done(&mut self, record: &RoundRecord, model: &mut Engine) -> Result<()> {
        let metrics = self.measure(model)?;
        record.notes.iter().for_each(|note| self.progress.log(note));
        let entry = self.round(record.round);
        entry.dropped = (record.round == 0).then_some(record.dropped as u64);
        entry.relabelled = Some(record.relabelled as u64).filter(|&count| count > 0);
        entry.unlearned = Some(record.unlearned as u64).filter(|&count| count > 0);
        entry.notes = record.notes.clone();
        let loss = |phase: &str| record.losses.get(phase).copied();
        entry.attack_loss = loss("attack");
        entry.adversarial_loss = loss("adversarial");
        entry.clean_loss = loss("clean");
        (entry.clean_accuracy, entry.asr) = (metrics.clean_accuracy, metrics.asr);
        entry.seconds = record.seconds.clone();
        let ranking = match (entry.selected_precision, entry.average_precision) {
            (Some(right), Some(average)) => {
                format!(", {:.2} % of the selected are clean, average precision {average:.4}", 100.0 * right)
            }
            _ => String::new(),
        };
        self.progress.log(&format!("round {}: {}{ranking}", record.round, text(&metrics)));
        write_metrics(&self.folder.metrics(), &self.meta.rounds)
    }
}

fn text(metrics: &Metrics) -> String {
    format!("ACC {}, ASR {}", two_decimals(metrics.clean_accuracy), two_decimals(metrics.asr))
}
