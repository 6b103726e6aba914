//! Training on poisoned images, in a run folder.

use std::time::Instant;

use pbe::backdoor::{InfectConfig, InfectJob, train_backdoored};
use pbe::data::ImageSet;
use pbe::engine::Engine;
use pbe::error::Result;
use pbe::eval::Evaluator;
use pbe::report::RunFolder;
use pbe::report::csv::{EpochMetrics, write_epochs};
use pbe::train::{EpochImages, StepEvent, TrainCursor};
use serde::{Deserialize, Serialize};

use crate::cli::checkpoint;
use crate::cli::interrupt;
use crate::cli::progress::Progress;

/// What a checkpoint holds besides weights and momentum.
#[derive(Default, Serialize, Deserialize)]
pub struct InfectMeta {
    pub cursor: TrainCursor,
    pub epochs: Vec<EpochMetrics>,
    /// Training time of the epoch in progress.
    pub seconds: f64,
}

/// A training run in a folder.
pub struct InfectRun<'a> {
    pub images: &'a ImageSet,
    /// The images of an epoch, where each has its own.
    pub epoch_images: Option<EpochImages<'a>>,
    pub config: &'a InfectConfig,
    pub seed: u64,
    pub evaluator: Option<&'a Evaluator>,
    pub folder: &'a RunFolder,
}

impl InfectRun<'_> {
    /// Trains to the end; writes metrics and a checkpoint after every epoch.
    pub fn train(&self, engine: &mut Engine, meta: &mut InfectMeta, progress: &Progress) -> Result<()> {
        interrupt::listen();
        // The first checkpoint proves that there is room before anything is computed.
        self.store(engine, meta)?;
        let mut cursor = meta.cursor;
        let mut clock = Instant::now();
        let (images, epoch_images) = (self.images, self.epoch_images);
        let job = InfectJob { images, epoch_images, config: self.config, seed: self.seed };
        train_backdoored(engine, &job, &mut cursor, &mut |engine, event| {
            let epoch = (event.done() - 1) / event.batches + 1;
            let note = format!("epoch {epoch} of {}, loss {:.3}", event.epochs, event.loss);
            progress.show("training", event.done(), event.total(), Some(note));
            let interrupted = interrupt::check();
            if event.epoch_done || interrupted.is_err() {
                meta.seconds += clock.elapsed().as_secs_f64();
                meta.cursor = *event.cursor;
                if event.epoch_done {
                    let seconds = std::mem::take(&mut meta.seconds);
                    meta.epochs.push(self.epoch(engine, event, seconds, progress)?);
                    write_epochs(&self.folder.metrics(), &meta.epochs)?;
                }
                self.store(engine, meta)?;
                clock = Instant::now();
            }
            interrupted
        })?;
        progress.clear();
        Ok(())
    }

    fn epoch(
        &self,
        engine: &mut Engine,
        event: &StepEvent,
        seconds: f64,
        progress: &Progress,
    ) -> Result<EpochMetrics> {
        let epoch = event.cursor.epoch - 1;
        let metrics =
            self.evaluator.map(|evaluator| evaluator.measure(engine)).transpose()?.unwrap_or_default();
        engine.attach(self.images)?;
        let learning_rate = self.config.rate(epoch, event.batches);
        let loss = event.cursor.loss;
        let done = EpochMetrics {
            epoch: epoch as u32,
            loss,
            learning_rate,
            clean_accuracy: metrics.clean_accuracy,
            asr: metrics.asr,
            seconds,
        };
        log_epoch(progress, &done);
        Ok(done)
    }

    fn store(&self, engine: &Engine, meta: &InfectMeta) -> Result<()> {
        let (weights, momentum) = (engine.weights()?, engine.momentum()?);
        checkpoint::save(self.folder, meta, &[("weights", &weights), ("momentum", &momentum)], &[])
    }
}

/// A line for an epoch that is done.
pub fn log_epoch(progress: &Progress, epoch: &EpochMetrics) {
    let percent = |value: Option<f64>| value.map_or_else(|| "—".into(), |value| format!("{value:.2}"));
    let (acc, asr, loss) =
        (percent(epoch.clean_accuracy), percent(epoch.asr), epoch.loss.unwrap_or(f64::NAN));
    progress.log(&format!("epoch {}: loss {loss:.4}, ACC {acc}, ASR {asr}", epoch.epoch + 1));
}
