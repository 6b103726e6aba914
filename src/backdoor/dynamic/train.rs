//! The training: the mask network alone first, then classifier and pattern network on the same batches.
//!
//! As published, with these differences, made for short runs and one batch norm: the mask phase is counted in
//! steps; both halves of a pair go through a network as one batch; the pattern network's gradients start from
//! zero in every step, where the published code accumulates them, and its rate is lower and follows the
//! classifier's schedule; distances are of pixels in [0, 1], not of normalised ones; the classifier has this
//! program's schedule and augmentation.

use super::job::{Drawn, DynamicCursor, DynamicEvent, DynamicJob, Networks, OnStep};
use super::step::{EpochPlan, StepBuffers, mask_pairs};
use crate::error::{Error, Result};
use crate::train::{check_loss, steps_per_epoch};

/// The epochs of the mask phase are numbered from here, so that its shuffles and crops are its own.
const MASK_EPOCHS: u32 = 1 << 16;

/// Trains from `cursor` to the end. To continue, give the networks the weights, momentum and moments they had,
/// and the cursor. An `on_step` that attaches other images attaches the training images again.
///
/// # Errors
/// A loss that is not finite, named by phase, epoch and batch; the device's.
pub fn train_dynamic(
    networks: &mut Networks,
    job: &DynamicJob,
    cursor: &mut DynamicCursor,
    on_step: OnStep,
) -> Result<()> {
    job.classifier.check()?;
    job.generators.check()?;
    if job.classifier.trainer.batch < 2 {
        return Err(Error::input("--batch 1: the dynamic attack compares images of a batch"));
    }
    let mut buffers = StepBuffers::new(networks, job);
    networks.attach(job.images)?;
    mask_phase(&mut buffers, networks, job, cursor, on_step)?;
    attack_phase(&mut buffers, networks, job, cursor, on_step)
}

/// The mask network alone.
fn mask_phase(
    buffers: &mut StepBuffers,
    networks: &mut Networks,
    job: &DynamicJob,
    cursor: &mut DynamicCursor,
    on_step: OnStep,
) -> Result<()> {
    let (pairs, none) = (mask_pairs(job), Drawn::default());
    let batches = job.images.len().div_ceil(pairs).max(1);
    let number = |step: usize| MASK_EPOCHS + (step / batches) as u32;
    if cursor.mask_step > job.generators.mask_steps {
        return Err(Error::input(format!(
            "the checkpoint is at step {} of the mask phase",
            cursor.mask_step
        )));
    }
    let mut epoch = EpochPlan::new(job, number(cursor.mask_step), &none);
    while cursor.mask_step < job.generators.mask_steps {
        if epoch.number != number(cursor.mask_step) {
            epoch = EpochPlan::new(job, number(cursor.mask_step), &none);
        }
        let first = cursor.mask_step % batches * pairs;
        let loss = buffers.mask_step(networks, job, cursor.mask_step, &epoch, first)?;
        check_loss(loss, || format!("in step {} of the mask phase", cursor.mask_step + 1))?;
        cursor.mask_step += 1;
        on_step(networks, &DynamicEvent { cursor, batches, mask: true, loss, epoch_done: false })?;
    }
    Ok(())
}

/// Classifier and pattern network together.
fn attack_phase(
    buffers: &mut StepBuffers,
    networks: &mut Networks,
    job: &DynamicJob,
    cursor: &mut DynamicCursor,
    on_step: OnStep,
) -> Result<()> {
    let batches = steps_per_epoch(job.images.len(), job.classifier.trainer.batch, 0);
    cursor.classifier.check(job.classifier.epochs, batches)?;
    while cursor.classifier.epoch < job.classifier.epochs {
        let drawn = (job.draw)(cursor.classifier.epoch as u32)?;
        let epoch = EpochPlan::new(job, cursor.classifier.epoch as u32, &drawn);
        let mut epoch_done = false;
        while !epoch_done {
            let loss = buffers.step(networks, job, cursor, &epoch, batches)?;
            check_loss(loss, || cursor.classifier.describe())?;
            epoch_done = cursor.classifier.advance(loss, batches);
            on_step(networks, &DynamicEvent { cursor, batches, mask: false, loss, epoch_done })?;
        }
    }
    Ok(())
}
