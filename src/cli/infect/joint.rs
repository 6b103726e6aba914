//! The loop of the three networks of the dynamic attack, in a run folder.

use std::sync::Arc;
use std::time::Instant;

use pbe::backdoor::dynamic::{Dynamic, DynamicCursor, DynamicEvent, DynamicJob, Networks, train_dynamic};
use pbe::backdoor::{Attack, Trigger, triggered_evaluator};
use pbe::data::ImageSet;
use pbe::error::{Error, Result};
use pbe::eval::Metrics;
use pbe::report::RunFolder;
use pbe::report::checkpoint::{self, Checkpoint};
use serde::{Deserialize, Serialize};

use super::job::EpochLog;
use crate::cli::interrupt;
use crate::cli::progress::Progress;

/// What a checkpoint holds besides the networks.
#[derive(Default, Serialize, Deserialize)]
pub struct DynamicMeta {
    pub cursor: DynamicCursor,
    #[serde(flatten)]
    pub log: EpochLog,
    /// Time of the mask phase.
    pub mask_seconds: f64,
}

/// A training run in a folder.
pub struct DynamicRun<'a> {
    pub training: &'a DynamicJob<'a>,
    /// The trigger as it was measured last.
    pub dynamic: Dynamic,
    pub test: Option<&'a ImageSet>,
    pub folder: &'a RunFolder,
    pub meta: DynamicMeta,
}

impl DynamicRun<'_> {
    /// Trains to the end; writes metrics and a checkpoint after every epoch.
    pub fn train(&mut self, networks: &mut Networks, progress: &Progress) -> Result<()> {
        interrupt::listen();
        // The first checkpoint proves that there is room before anything is computed.
        self.store(networks)?;
        let mut cursor = self.meta.cursor;
        let (mut clock, training) = (Instant::now(), self.training);
        train_dynamic(networks, training, &mut cursor, &mut |networks, event| {
            self.show(event, progress);
            let interrupted = interrupt::check();
            let masked = event.mask && event.cursor.mask_step == training.generators.mask_steps;
            if event.epoch_done || masked || interrupted.is_err() {
                let spent = if event.mask { &mut self.meta.mask_seconds } else { &mut self.meta.log.seconds };
                *spent += clock.elapsed().as_secs_f64();
                if event.epoch_done {
                    let metrics = self.measure(networks)?.unwrap_or_default();
                    networks.attach(training.images)?;
                    let (config, cursor) = (training.classifier, &event.cursor.classifier);
                    self.meta.log.close(self.folder, config, cursor, event.batches, &metrics, progress)?;
                }
                self.meta.cursor = *event.cursor;
                self.store(networks)?;
                clock = Instant::now();
            }
            interrupted
        })?;
        progress.clear();
        self.take(networks)
    }

    fn show(&self, event: &DynamicEvent, progress: &Progress) {
        let loss = event.loss;
        if event.mask {
            let (done, total) = (event.cursor.mask_step, self.training.generators.mask_steps);
            return progress.show("training the masks", done, total, Some(format!("loss {loss:.3}")));
        }
        let epochs = self.training.classifier.epochs;
        let done = event.cursor.classifier.epoch * event.batches + event.cursor.classifier.batch;
        let note = format!("epoch {} of {epochs}, loss {loss:.3}", (done - 1) / event.batches + 1);
        progress.show("training", done, event.batches * epochs, Some(note));
    }

    /// The networks' weights as the trigger.
    fn take(&mut self, networks: &Networks) -> Result<()> {
        self.dynamic.pattern = networks.pattern.weights()?;
        self.dynamic.mask = networks.mask.weights()?;
        Ok(())
    }

    /// Metrics of the classifier with the present trigger; none without a test split.
    pub fn measure(&mut self, networks: &mut Networks) -> Result<Option<Metrics>> {
        self.take(networks)?;
        let Some(test) = self.test else {
            return Ok(None);
        };
        let trigger = Trigger::for_images(&Attack::Dynamic(Arc::new(self.dynamic.clone())), test)?;
        let evaluator = triggered_evaluator(test, &trigger, self.training.label)?;
        evaluator.measure(&mut networks.classifier).map(Some)
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
        checkpoint::save(self.folder, &self.meta, &arrays, &[])
    }
}

/// Puts a checkpoint into the networks.
pub fn restore(
    mut checkpoint: Checkpoint<DynamicMeta>,
    networks: &mut Networks,
    folder: &RunFolder,
) -> Result<DynamicMeta> {
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
    Ok(checkpoint.meta)
}
