//! The loop of the three networks of the dynamic attack, in a run folder.

use std::sync::Arc;
use std::time::Instant;

use pbe::backdoor::dynamic::{Dynamic, Lesson, Networks, Position, Tick, train};
use pbe::backdoor::{Attack, Trigger};
use pbe::data::ImageSet;
use pbe::defense::fine_tune::Next;
use pbe::error::{Error, Result};
use pbe::report::csv::{Epoch, write_epochs};
use pbe::report::{Figures, RunFolder, TestBed};
use serde::{Deserialize, Serialize};

use super::job::say_epoch;
use crate::cli::checkpoint::{self, Checkpoint};
use crate::cli::interrupt;
use crate::cli::progress::Progress;

/// What a checkpoint holds beside the networks.
#[derive(Default, Serialize, Deserialize)]
pub struct Rest {
    pub position: Position,
    pub epochs: Vec<Epoch>,
    /// Time of the mask phase.
    pub mask_seconds: f64,
    /// Training time of the epoch in progress.
    pub seconds: f64,
}

/// A training run in a folder.
pub struct Job<'a> {
    pub lesson: &'a Lesson<'a>,
    /// The trigger as it was measured last.
    pub dynamic: Dynamic,
    pub test: Option<&'a ImageSet>,
    pub folder: &'a RunFolder,
    pub rest: Rest,
}

impl Job<'_> {
    /// Trains to the end; writes metrics and a checkpoint after every epoch.
    pub fn train(&mut self, networks: &mut Networks, progress: &Progress) -> Result<()> {
        interrupt::listen();
        // The first checkpoint proves that there is room before anything is computed.
        self.store(networks)?;
        let mut now = self.rest.position;
        let (mut clock, lesson) = (Instant::now(), self.lesson);
        let finished = train(networks, lesson, &mut now, &mut |networks, tick| {
            self.show(tick, progress);
            let stop = interrupt::pressed();
            let masked = tick.mask && tick.position.mask_step == lesson.config.mask_steps;
            if tick.epoch_done || masked || stop {
                let spent = if tick.mask { &mut self.rest.mask_seconds } else { &mut self.rest.seconds };
                *spent += clock.elapsed().as_secs_f64();
                if tick.epoch_done {
                    self.close(networks, tick, progress)?;
                }
                self.rest.position = *tick.position;
                self.store(networks)?;
                clock = Instant::now();
            }
            Ok(if stop { Next::Stop } else { Next::Continue })
        })?;
        progress.clear();
        self.take(networks)?;
        if finished { Ok(()) } else { Err(interrupt::stopped()) }
    }

    fn show(&self, tick: &Tick, progress: &Progress) {
        let loss = tick.loss;
        if tick.mask {
            let (done, total) = (tick.position.mask_step, self.lesson.config.mask_steps);
            return progress.show("training the masks", done, total, Some(format!("loss {loss:.3}")));
        }
        let epochs = self.lesson.plant.epochs;
        let done = tick.position.plant.epoch * tick.steps + tick.position.plant.step;
        let note = format!("epoch {} of {epochs}, loss {loss:.3}", (done - 1) / tick.steps + 1);
        progress.show("training", done, tick.steps * epochs, Some(note));
    }

    /// Measures an epoch that is done and writes it down.
    fn close(&mut self, networks: &mut Networks, tick: &Tick, progress: &Progress) -> Result<()> {
        let epoch = tick.position.plant.epoch - 1;
        let figures = self.figures(networks)?.unwrap_or_default();
        networks.attach(self.lesson.images)?;
        let done = Epoch {
            epoch: epoch as u32,
            loss: tick.position.plant.loss,
            learning_rate: self.lesson.plant.rate(epoch, tick.steps),
            acc: figures.acc,
            asr: figures.asr,
            seconds: std::mem::take(&mut self.rest.seconds),
        };
        say_epoch(progress, &done);
        self.rest.epochs.push(done);
        write_epochs(&self.folder.metrics(), &self.rest.epochs)
    }

    /// The networks' weights as the trigger.
    fn take(&mut self, networks: &Networks) -> Result<()> {
        self.dynamic.pattern = networks.pattern.weights()?;
        self.dynamic.mask = networks.mask.weights()?;
        Ok(())
    }

    /// What the classifier does with the test images and the trigger as they are; none without a test split.
    pub fn figures(&mut self, networks: &mut Networks) -> Result<Option<Figures>> {
        self.take(networks)?;
        let Some(test) = self.test else {
            return Ok(None);
        };
        let trigger = Trigger::for_images(&Attack::Dynamic(Arc::new(self.dynamic.clone())), test)?;
        let bed = TestBed::with_trigger(test, &trigger, self.lesson.label)?;
        bed.measure(&mut networks.classifier).map(Some)
    }

    fn store(&self, networks: &Networks) -> Result<()> {
        let Networks { classifier, pattern, mask } = networks;
        let arrays = [
            ("weights", classifier.weights()?),
            ("momentum", classifier.momentum()?),
            ("pattern.weights", pattern.weights()?),
            ("pattern.moments", pattern.moments()?),
            ("mask.weights", mask.weights()?),
            ("mask.moments", mask.moments()?),
        ];
        let arrays: Vec<(&str, &[f32])> = arrays.iter().map(|(name, values)| (*name, &values[..])).collect();
        checkpoint::save(&self.folder.checkpoint(), &self.rest, &arrays, &[])
    }
}

/// Puts a checkpoint into the networks.
pub fn restore(
    mut checkpoint: Checkpoint<Rest>,
    networks: &mut Networks,
    folder: &RunFolder,
) -> Result<Rest> {
    let mut take = |name: &str, len: usize| {
        let values = checkpoint.take_floats(name);
        let cause = || Error::file(folder.checkpoint(), "holds other networks");
        if values.len() == len { Ok(values) } else { Err(cause()) }
    };
    let Networks { classifier, pattern, mask } = networks;
    let (weights, trainable) = (classifier.graph().weights, classifier.graph().trainable);
    classifier.set_weights(&take("weights", weights)?)?;
    classifier.set_momentum(&take("momentum", trainable)?)?;
    for (name, network) in [("pattern", pattern), ("mask", mask)] {
        let (weights, trainable) = (network.graph().weights, network.graph().trainable);
        network.set_weights(&take(&format!("{name}.weights"), weights)?)?;
        network.set_moments(&take(&format!("{name}.moments"), 2 * trainable)?)?;
    }
    Ok(checkpoint.rest)
}
