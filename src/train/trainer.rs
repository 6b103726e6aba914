//! The training loop: SGD over shuffled, augmented batches, resumable at any batch.

use serde::{Deserialize, Serialize};

use super::config::{PgdConfig, TrainConfig, TrainerConfig};
use super::distillation::cap_other_labels;
use super::pgd::{budgets, pgd_params};
use crate::data::ImageSet;
use crate::engine::{AttackBatch, Engine, Source, StepParams};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// Makes the images of an epoch.
pub type EpochImages<'a> = &'a dyn Fn(u32) -> Result<ImageSet>;

/// The images of a step.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Attached images as they are, augmented, or adversarial examples of them.
    pub source: Source,
    /// Which.
    pub indices: &'a [u32],
    /// Their labels.
    pub labels: &'a [u32],
    /// Logits to distil from.
    pub teacher: Option<&'a [f32]>,
}

/// How a batch changes the model, where that isn't plain SGD.
pub trait Optimizer {
    /// One step; returns the mean loss of the batch. `teacher` is the job's.
    fn step(
        &mut self,
        engine: &mut Engine,
        teacher: Option<&mut Engine>,
        batch: &Batch,
        params: &StepParams,
    ) -> Result<f32>;
}

/// One training phase and what it works on.
pub struct TrainJob<'a> {
    /// What `indices` refer to; the labels are the set's.
    pub images: &'a ImageSet,
    /// What they refer to in an epoch, where every epoch has images of its own.
    pub epoch_images: Option<EpochImages<'a>>,
    /// Images to train on.
    pub indices: &'a [u32],
    /// Epochs, rates, distillation, average.
    pub config: &'a TrainConfig,
    /// Batch and SGD.
    pub trainer: &'a TrainerConfig,
    /// Decides shuffles and augmentation, together with the epoch.
    pub seed: u64,
    /// The model to distil from, where `config.distill` > 0; or what the optimizer compares with.
    pub teacher: Option<&'a mut Engine>,
    /// Train on adversarial examples made for every batch from the network as it is (PBE's released code).
    pub attack: Option<&'a PgdConfig>,
    /// Takes the steps; SGD if none does.
    pub optimizer: Option<&'a mut dyn Optimizer>,
}

/// The batch of a phase that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainCursor {
    /// Epoch in progress.
    pub epoch: usize,
    /// Batches of it that are done.
    pub batch: usize,
    /// Sum of the losses of this epoch's batches.
    pub loss_sum: f64,
    /// Mean loss of the last whole epoch.
    pub loss: Option<f64>,
}

impl TrainCursor {
    /// The next batch, in words.
    pub(crate) fn describe(&self) -> String {
        format!("in epoch {} at batch {}", self.epoch + 1, self.batch + 1)
    }

    /// Refuses a place that a phase of so many epochs and batches doesn't have: it would never end.
    pub(crate) fn check(&self, epochs: usize, batches: usize) -> Result<()> {
        let inside = self.epoch < epochs && self.batch < batches;
        let end = (self.epoch, self.batch) == (epochs, 0);
        match inside || end || epochs == 0 {
            true => Ok(()),
            false => Err(Error::input(format!(
                "the checkpoint is {}, but there are {epochs} epochs of {batches} batches",
                self.describe()
            ))),
        }
    }

    /// Counts a batch of this loss; returns whether it ended the epoch of `batches` batches.
    pub(crate) fn advance(&mut self, loss: f64, batches: usize) -> bool {
        self.batch += 1;
        self.loss_sum += loss;
        let done = self.batch == batches;
        if done {
            let mean = self.loss_sum / batches as f64;
            *self = TrainCursor { epoch: self.epoch + 1, batch: 0, loss_sum: 0.0, loss: Some(mean) };
        }
        done
    }
}

/// Refuses a loss that is not finite; `place` says where it became so.
pub fn check_loss(loss: f64, place: impl Fn() -> String) -> Result<()> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::run(format!("the loss became {loss} {}", place()))),
    }
}

/// A batch that the trainer has finished.
pub struct StepEvent<'a> {
    /// The batch that comes next.
    pub cursor: &'a TrainCursor,
    /// Batches of an epoch.
    pub batches: usize,
    /// Epochs of the phase.
    pub epochs: usize,
    /// Loss of the batch.
    pub loss: f32,
    /// Whether the batch ended an epoch.
    pub epoch_done: bool,
}

impl StepEvent<'_> {
    /// Batches of the phase that are done.
    pub fn done(&self) -> usize {
        self.cursor.epoch * self.batches + self.cursor.batch
    }

    /// Batches of the phase.
    pub fn total(&self) -> usize {
        self.batches * self.epochs
    }
}

/// Batches of an epoch over `images` images: a smaller last one is left out, so that batch norm
/// never sees a handful (PyTorch's drop_last).
pub fn steps_per_epoch(images: usize, batch: usize, limit: usize) -> usize {
    let steps = (images / batch).max(usize::from(images > 0));
    if limit > 0 { steps.min(limit) } else { steps }
}

/// Trains `engine` from `cursor` to the end of the phase. A phase starts (`cursor` at zero) with SGD at rest
/// and, where it averages, with the average at the weights; it ends with the average as the weights.
///
/// `on_step` is called after every batch, and its error ends the training; the cursor then is at the next batch.
/// If it attaches other images to the engine in the middle of an epoch, to measure it, it attaches the training
/// images again.
///
/// # Errors
/// A loss that is not finite, named by epoch and batch; device errors.
pub fn train(
    engine: &mut Engine,
    job: &mut TrainJob,
    cursor: &mut TrainCursor,
    on_step: &mut dyn FnMut(&mut Engine, &StepEvent) -> Result<()>,
) -> Result<()> {
    let (epochs, batches) =
        (job.config.epochs, steps_per_epoch(job.indices.len(), job.trainer.batch, job.config.batches));
    if epochs > 0 && job.indices.is_empty() {
        return Err(Error::run("there are no images to train on: what chooses them has left none"));
    }
    cursor.check(epochs, batches)?;
    if cursor.epoch == 0 && cursor.batch == 0 {
        engine.set_momentum(&vec![0.0; engine.graph().trainable])?;
        engine.set_average(&engine.weights()?)?;
    }
    job.attach(engine, job.images)?;
    while cursor.epoch < epochs {
        let own = job.epoch_images.map(|make| make(cursor.epoch as u32)).transpose()?;
        let images = own.as_ref().unwrap_or(job.images);
        if own.is_some() {
            job.attach(engine, images)?;
        }
        let order =
            Stream::new(job.seed, Purpose::Shuffle, cursor.epoch as u32).permutation(job.indices.len());
        let mut epoch_done = false;
        while !epoch_done {
            let done = cursor.epoch * batches + cursor.batch;
            let rate = job.config.learning_rate * job.config.schedule.factor(done, batches * epochs);
            let loss = job.step(engine, images, cursor, &order, rate)?;
            check_loss(f64::from(loss), || format!("{} (learning rate {rate})", cursor.describe()))?;
            epoch_done = cursor.advance(f64::from(loss), batches);
            on_step(engine, &StepEvent { cursor, batches, epochs, loss, epoch_done })?;
        }
    }
    if job.config.average > 0.0 && epochs > 0 {
        engine.set_weights(&engine.average()?)?;
    }
    Ok(())
}

impl TrainJob<'_> {
    /// Makes `images` what indices refer to, for the network and its teacher.
    fn attach(&mut self, engine: &mut Engine, images: &ImageSet) -> Result<()> {
        engine.attach(images)?;
        self.teacher.as_mut().map_or(Ok(()), |teacher| teacher.attach(images))
    }

    /// One SGD step on one batch; before it PGD and the teacher's logits, where the job asks for them.
    fn step(
        &mut self,
        engine: &mut Engine,
        images: &ImageSet,
        cursor: &TrainCursor,
        order: &[u32],
        learning_rate: f32,
    ) -> Result<f32> {
        let (config, trainer, epoch) = (self.config, self.trainer, cursor.epoch as u32);
        let first = cursor.batch * trainer.batch;
        let last = (first + trainer.batch).min(order.len());
        let indices: Vec<u32> = order[first..last].iter().map(|&i| self.indices[i as usize]).collect();
        let labels: Vec<u32> = indices.iter().map(|&i| images.labels[i as usize]).collect();
        let params = StepParams {
            learning_rate,
            momentum: trainer.momentum,
            weight_decay: trainer.weight_decay,
            nesterov: trainer.nesterov,
            average_decay: config.average,
            distill_weight: config.distill,
            temperature: config.temperature,
            seed: self.seed,
            epoch,
            ..StepParams::default()
        };
        let mut source = Source::Augmented;
        if let Some(attack) = self.attack {
            let batch = AttackBatch {
                source,
                indices: &indices,
                labels: &labels,
                budgets: &budgets(attack, &indices, self.seed),
                predict: false,
            };
            engine.attack(&batch, &pgd_params(attack, self.seed, epoch), |_| Ok(()))?;
            source = Source::Adversarial;
        }
        let taught = self.teacher_logits(&indices, &labels, &params)?;
        let params = StepParams { erasing_probability: config.erasing, ..params };
        let batch = Batch { source, indices: &indices, labels: &labels, teacher: taught.as_deref() };
        match self.optimizer.as_deref_mut() {
            Some(optimizer) => optimizer.step(engine, self.teacher.as_deref_mut(), &batch, &params),
            None => engine.train_step(source, &indices, &labels, batch.teacher, &params),
        }
    }

    /// What the teacher says about the augmented images, capped; none where nothing is distilled.
    fn teacher_logits(
        &mut self,
        indices: &[u32],
        labels: &[u32],
        params: &StepParams,
    ) -> Result<Option<Vec<f32>>> {
        let Some(teacher) = self.teacher.as_deref_mut().filter(|_| self.config.distill > 0.0) else {
            return Ok(None);
        };
        let classes = teacher.graph().classes();
        let mut logits = vec![0.0; indices.len() * classes];
        teacher.infer(Source::Augmented, indices, params, |rows| {
            rows.logits(&mut logits[rows.first * classes..])
        })?;
        for (row, &label) in logits.chunks_exact_mut(classes).zip(labels) {
            cap_other_labels(row, label as usize, self.config);
        }
        Ok(Some(logits))
    }
}
