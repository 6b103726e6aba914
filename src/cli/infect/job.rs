//! Training on poisoned images, in a run folder.

use std::time::Instant;

use pbe::backdoor::{Lesson, PlantConfig, plant};
use pbe::data::ImageSet;
use pbe::defense::fine_tune::{Afresh, Next, Position, Tick};
use pbe::engine::Engine;
use pbe::error::Result;
use pbe::report::csv::{Epoch, write_epochs};
use pbe::report::{RunFolder, TestBed};
use serde::{Deserialize, Serialize};

use crate::cli::checkpoint;
use crate::cli::interrupt;
use crate::cli::progress::Progress;

/// What a checkpoint holds beside weights and momentum.
#[derive(Default, Serialize, Deserialize)]
pub struct Rest {
    pub position: Position,
    pub epochs: Vec<Epoch>,
    /// Training time of the epoch in progress.
    pub seconds: f64,
}

/// A training run in a folder.
pub struct Job<'a> {
    pub images: &'a ImageSet,
    /// The images of an epoch, where each has its own.
    pub afresh: Option<Afresh<'a>>,
    pub config: &'a PlantConfig,
    pub seed: u64,
    pub bed: Option<&'a TestBed>,
    pub folder: &'a RunFolder,
}

impl Job<'_> {
    /// Trains to the end; writes metrics and a checkpoint after every epoch.
    pub fn train(&self, engine: &mut Engine, rest: &mut Rest, progress: &Progress) -> Result<()> {
        interrupt::listen();
        // The first checkpoint proves that there is room before anything is computed.
        self.store(engine, rest)?;
        let Rest { position, epochs, seconds } = rest;
        let mut now = *position;
        let mut clock = Instant::now();
        let lesson =
            Lesson { images: self.images, afresh: self.afresh, config: self.config, seed: self.seed };
        let finished = plant(engine, &lesson, &mut now, &mut |engine, tick| {
            let done = tick.position.epoch * tick.steps + tick.position.step;
            let epoch = (done - 1) / tick.steps + 1;
            let note = format!("epoch {epoch} of {}, loss {:.3}", tick.epochs, tick.loss);
            progress.show("training", done, tick.steps * tick.epochs, Some(note));
            if tick.epoch_done {
                *seconds += clock.elapsed().as_secs_f64();
                epochs.push(self.epoch(engine, tick, std::mem::take(seconds), progress)?);
                write_epochs(&self.folder.metrics(), epochs)?;
                clock = Instant::now();
            }
            let stop = interrupt::pressed();
            if tick.epoch_done || stop {
                *seconds += clock.elapsed().as_secs_f64();
                clock = Instant::now();
                *position = *tick.position;
                let rest = Rest { position: *position, epochs: epochs.clone(), seconds: *seconds };
                self.store(engine, &rest)?;
            }
            Ok(if stop { Next::Stop } else { Next::Continue })
        })?;
        progress.clear();
        if finished { Ok(()) } else { Err(interrupt::stopped()) }
    }

    fn epoch(&self, engine: &mut Engine, tick: &Tick, seconds: f64, progress: &Progress) -> Result<Epoch> {
        let epoch = tick.position.epoch - 1;
        let figures = self.bed.map(|bed| bed.measure(engine)).transpose()?.unwrap_or_default();
        engine.attach(self.images)?;
        let learning_rate = self.config.rate(epoch, tick.steps);
        let loss = tick.position.loss;
        let done =
            Epoch { epoch: epoch as u32, loss, learning_rate, acc: figures.acc, asr: figures.asr, seconds };
        say_epoch(progress, &done);
        Ok(done)
    }

    fn store(&self, engine: &Engine, rest: &Rest) -> Result<()> {
        let (weights, momentum) = (engine.weights()?, engine.momentum()?);
        checkpoint::save(
            &self.folder.checkpoint(),
            rest,
            &[("weights", &weights), ("momentum", &momentum)],
            &[],
        )
    }
}
/// A line for an epoch that is done.
pub fn say_epoch(progress: &Progress, epoch: &Epoch) {
    let percent = |value: Option<f64>| value.map_or_else(|| "—".into(), |value| format!("{value:.2}"));
    let (acc, asr, loss) = (percent(epoch.acc), percent(epoch.asr), epoch.loss.unwrap_or(f64::NAN));
    progress.log(&format!("epoch {}: loss {loss:.4}, ACC {acc}, ASR {asr}", epoch.epoch + 1));
}
