//! Training on poisoned images, in a run folder.

use std::time::Instant;

use pbe::backdoor::{InfectConfig, InfectJob, train_backdoored};
use pbe::data::ImageSet;
use pbe::engine::Engine;
use pbe::error::Result;
use pbe::eval::{Evaluator, Metrics};
use pbe::report::csv::{EpochMetrics, write_epochs};
use pbe::report::{RunFolder, checkpoint, two_decimals};
use pbe::train::{EpochImages, TrainCursor};
use serde::{Deserialize, Serialize};

use crate::cli::interrupt;
use crate::cli::progress::Progress;

/// The epochs of a run so far.
#[derive(Default, Serialize, Deserialize)]
pub struct EpochLog {
    pub epochs: Vec<EpochMetrics>,
    /// Training time of the epoch in progress.
    pub seconds: f64,
}

impl EpochLog {
    /// Writes down the epoch that has ended at `cursor`, after so many batches.
    pub fn close(
        &mut self,
        folder: &RunFolder,
        config: &InfectConfig,
        cursor: &TrainCursor,
        batches: usize,
        metrics: &Metrics,
        progress: &Progress,
    ) -> Result<()> {
        let epoch = cursor.epoch - 1;
        let done = EpochMetrics {
            epoch: epoch as u32,
            loss: cursor.loss,
            learning_rate: config.rate(epoch, batches),
            clean_accuracy: metrics.clean_accuracy,
            asr: metrics.asr,
            seconds: std::mem::take(&mut self.seconds),
        };
        let (acc, asr) = (two_decimals(done.clean_accuracy), two_decimals(done.asr));
        let loss = done.loss.unwrap_or(f64::NAN);
        progress.log(&format!("epoch {}: loss {loss:.4}, ACC {acc}, ASR {asr}", epoch + 1));
        self.epochs.push(done);
        write_epochs(&folder.metrics(), &self.epochs)
    }

    /// Of all epochs that are done.
    pub fn training_seconds(&self) -> f64 {
        self.epochs.iter().map(|epoch| epoch.seconds).sum()
    }
}

/// What a checkpoint holds besides weights and momentum.
#[derive(Default, Serialize, Deserialize)]
pub struct InfectMeta {
    pub cursor: TrainCursor,
    #[serde(flatten)]
    pub log: EpochLog,
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
                meta.log.seconds += clock.elapsed().as_secs_f64();
                meta.cursor = *event.cursor;
                if event.epoch_done {
                    let metrics = self.evaluator.map(|evaluator| evaluator.measure(engine)).transpose()?;
                    engine.attach(self.images)?;
                    let (cursor, metrics) = (event.cursor, metrics.unwrap_or_default());
                    meta.log.close(self.folder, self.config, cursor, event.batches, &metrics, progress)?;
                }
                self.store(engine, meta)?;
                clock = Instant::now();
            }
            interrupted
        })?;
        progress.clear();
        Ok(())
    }

    fn store(&self, engine: &Engine, meta: &InfectMeta) -> Result<()> {
        let (weights, momentum) = (engine.weights()?, engine.momentum()?);
        checkpoint::save(self.folder, meta, &[("weights", &weights), ("momentum", &momentum)], &[])
    }
}
