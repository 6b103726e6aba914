//! The training loop: SGD over shuffled, augmented batches, resumable at any batch.

use serde::{Deserialize, Serialize};

use super::config::{AttackConfig, TuneConfig};
use super::examples::{attack_controls, budgets};
use crate::data::ImageSet;
use crate::device::StepParams;
use crate::engine::{AttackBatch, Engine, Source};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// SGD's constants and the batch size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimiser {
    /// Images of a step.
    pub batch: usize,
    /// Momentum.
    pub momentum: f32,
    /// L2 penalty.
    pub weight_decay: f32,
    /// Nesterov's form.
    pub nesterov: bool,
}

/// Makes the images of an epoch.
pub type Afresh<'a> = &'a dyn Fn(u32) -> Result<ImageSet>;

/// One training phase.
pub struct Task<'a> {
    /// What `indices` refer to; the labels are the set's.
    pub images: &'a ImageSet,
    /// What they refer to in an epoch, where each has its own images.
    pub afresh: Option<Afresh<'a>>,
    /// Images to train on.
    pub indices: &'a [u32],
    /// Epochs, rates, distillation, average.
    pub tune: &'a TuneConfig,
    /// SGD.
    pub optimiser: Optimiser,
    /// Decides shuffles and augmentation, together with the epoch.
    pub seed: u64,
    /// The model to distil from, where `tune.distill` > 0.
    pub teacher: Option<&'a mut Engine>,
    /// Train on examples made for every batch from the network as it is (PBE's released code).
    pub attack: Option<&'a AttackConfig>,
}

/// Where a phase stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Epoch in progress.
    pub epoch: usize,
    /// Batches of it that are done.
    pub step: usize,
    /// Sum of the losses of this epoch's batches.
    pub loss_sum: f64,
    /// Mean loss of the last whole epoch.
    pub loss: Option<f64>,
}

impl Position {
    /// The batch that comes next, in words.
    pub(crate) fn place(&self) -> String {
        format!("in epoch {} at batch {}", self.epoch + 1, self.step + 1)
    }

    /// Behind a batch of this loss; returns whether it ended the epoch of `steps` batches.
    pub(crate) fn advance(&mut self, loss: f64, steps: usize) -> bool {
        self.step += 1;
        self.loss_sum += loss;
        let done = self.step == steps;
        if done {
            let mean = self.loss_sum / steps as f64;
            *self = Position { epoch: self.epoch + 1, step: 0, loss_sum: 0.0, loss: Some(mean) };
        }
        done
    }
}

/// Refuses a loss that is no number, with the words of where it became one.
pub(crate) fn finite(loss: f64, place: impl Fn() -> String) -> Result<()> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::run(format!("the loss became {loss} {}", place()))),
    }
}

/// What the loop tells its caller after each batch.
pub struct Tick<'a> {
    /// Where the phase stands, this batch included.
    pub position: &'a Position,
    /// Batches of an epoch.
    pub steps: usize,
    /// Epochs of the phase.
    pub epochs: usize,
    /// Loss of the batch.
    pub loss: f32,
    /// Whether the batch ended an epoch.
    pub epoch_done: bool,
}

/// What the caller wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Continue,
    /// Return after this batch.
    Stop,
}

/// Batches of an epoch over `images` images: a smaller last one is left out, so that batch norm
/// never sees a handful (method.md 2.1: drop_last).
pub fn steps_of(images: usize, batch: usize, limit: usize) -> usize {
    let steps = (images / batch).max(usize::from(images > 0));
    if limit > 0 { steps.min(limit) } else { steps }
}

/// Trains `engine` from `position` to the end of the phase or until `tick` says stop; returns
/// whether the phase is finished. A phase starts (`position` at zero) with SGD at rest and, where
/// it averages, with the average at the weights; it ends with the average as the weights.
///
/// # Errors
/// A loss that is not finite, named by epoch and batch; device errors.
pub fn train(
    engine: &mut Engine,
    task: &mut Task,
    position: &mut Position,
    tick: &mut dyn FnMut(&mut Engine, &Tick) -> Result<Next>,
) -> Result<bool> {
    let steps = steps_of(task.indices.len(), task.optimiser.batch, task.tune.batches);
    let total = steps * task.tune.epochs;
    if position.epoch == 0 && position.step == 0 {
        engine.set_momentum(&vec![0.0; engine.graph().trainable])?;
        engine.set_average(&engine.weights()?)?;
    }
    attach(engine, task, task.images)?;
    while position.epoch < task.tune.epochs {
        let own = task.afresh.map(|make| make(position.epoch as u32)).transpose()?;
        let images = own.as_ref().unwrap_or(task.images);
        if own.is_some() {
            attach(engine, task, images)?;
        }
        let order =
            Stream::new(task.seed, Purpose::Shuffle, position.epoch as u32).permutation(task.indices.len());
        while position.step < steps {
            let done = position.epoch * steps + position.step;
            let rate = task.tune.learning_rate * task.tune.schedule.factor(done, total);
            let loss = step(engine, task, images, position, &order, rate)?;
            finite(f64::from(loss), || format!("{} (learning rate {rate})", position.place()))?;
            let epoch_done = position.advance(f64::from(loss), steps);
            let report = Tick { position, steps, epochs: task.tune.epochs, loss, epoch_done };
            if tick(engine, &report)? == Next::Stop && position.epoch < task.tune.epochs {
                return Ok(false);
            }
            if epoch_done {
                break;
            }
        }
    }
    if task.tune.average > 0.0 && task.tune.epochs > 0 {
        engine.set_weights(&engine.average()?)?;
    }
    Ok(true)
}

/// Makes `images` what indices refer to, for the network and its teacher.
fn attach(engine: &mut Engine, task: &mut Task, images: &ImageSet) -> Result<()> {
    engine.attach(images)?;
    task.teacher.as_mut().map_or(Ok(()), |teacher| teacher.attach(images))
}

/// One batch: PGD first where the task attacks every batch, the teacher's logits where it distils,
/// then one SGD step.
fn step(
    engine: &mut Engine,
    task: &mut Task,
    images: &ImageSet,
    position: &Position,
    order: &[u32],
    learning_rate: f32,
) -> Result<f32> {
    let first = position.step * task.optimiser.batch;
    let last = (first + task.optimiser.batch).min(order.len());
    let indices: Vec<u32> = order[first..last].iter().map(|&i| task.indices[i as usize]).collect();
    let labels: Vec<u32> = indices.iter().map(|&i| images.labels[i as usize]).collect();
    let params = StepParams {
        learning_rate,
        momentum: task.optimiser.momentum,
        weight_decay: task.optimiser.weight_decay,
        nesterov: task.optimiser.nesterov,
        average_decay: task.tune.average,
        distill_weight: task.tune.distill,
        temperature: task.tune.temperature,
        seed: task.seed,
        epoch: position.epoch as u32,
        ..StepParams::default()
    };
    let source = match task.attack {
        None => Source::Augmented,
        Some(attack) => {
            let budgets = budgets(attack, &indices, task.seed);
            let params = attack_controls(attack, task.seed, position.epoch as u32);
            let target = AttackBatch {
                source: Source::Augmented,
                indices: &indices,
                labels: &labels,
                budgets: &budgets,
                predict: false,
            };
            engine.attack(&target, &params, |_| Ok(()))?;
            Source::Adversarial
        }
    };
    let mut logits = vec![];
    if let Some(teacher) = task.teacher.as_deref_mut().filter(|_| task.tune.distill > 0.0) {
        let classes = teacher.graph().classes();
        logits.resize(indices.len() * classes, 0.0);
        teacher.infer(Source::Augmented, &indices, &params, |rows| {
            rows.logits(&mut logits[rows.first * classes..])
        })?;
        for (row, &label) in logits.chunks_exact_mut(classes).zip(&labels) {
            resolve(row, label as usize, task.tune);
        }
    }
    let params = StepParams { erasing_probability: task.tune.patches, ..params };
    let distil = (!logits.is_empty()).then_some(logits.as_slice());
    engine.train_step(source, &indices, &labels, distil, &params)
}

/// Raises the label's logit until no other label has more than `tune.doubt` of the probability at the
/// distillation's temperature.
///
/// An infected model is in doubt where an image has a trigger and its own label all the same (the cross mode of
/// WaNet and of the dynamic attack): what it gives the attacker's label there would teach the trigger anew.
fn resolve(row: &mut [f32], label: usize, tune: &TuneConfig) {
    let others = || row.iter().enumerate().filter(|&(other, _)| other != label).map(|(_, &logit)| logit);
    let best = others().fold(f32::MIN, f32::max);
    let odds: f32 = others().map(|logit| ((logit - best) / tune.temperature).exp()).sum();
    // best has 1 / (odds + e^((logit - best) / T)).
    let rest = 1.0 / tune.doubt - odds;
    if rest > 0.0 {
        row[label] = row[label].max(best + tune.temperature * rest.ln());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defense::config::{PurifyConfig, Recipe};

    /// Cross mode kept the dynamic attack alive: ASR 21 after the first round with not a poisoned image in the
    /// data, 3.6 without the images of cross mode (docs/method.md).
    #[test]
    fn the_teacher_gives_other_labels_no_more_than_the_doubt() {
        let tune = TuneConfig { doubt: 0.05, ..PurifyConfig::new(Recipe::Default, false).last };
        let largest_other = |row: &[f32], label: usize| {
            let odds: Vec<f32> = row.iter().map(|logit| (logit / tune.temperature).exp()).collect();
            let total: f32 = odds.iter().sum();
            (0..row.len()).filter(|&k| k != label).map(|k| odds[k] / total).fold(0.0, f32::max)
        };
        for label in 0..3 {
            let mut row = [2.0, -1.0, 0.5];
            resolve(&mut row, label, &tune);
            assert!((largest_other(&row, label) - 0.05).abs() < 1e-6, "{row:?}");
            // Among themselves the others stay as they were.
            let original = [2.0, -1.0, 0.5];
            assert!((0..3).filter(|&k| k != label).all(|k| row[k] == original[k]));
        }
        // Without doubt nothing changes.
        let mut certain = [12.0, -1.0, 0.5];
        resolve(&mut certain, 0, &tune);
        assert_eq!(certain, [12.0, -1.0, 0.5]);
        let mut any = [2.0, -1.0, 0.5];
        resolve(&mut any, 1, &TuneConfig { doubt: 1.0, ..tune });
        assert_eq!(any, [2.0, -1.0, 0.5]);
    }
}
