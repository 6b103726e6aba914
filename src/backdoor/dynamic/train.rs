//! The training: the mask network alone first, then classifier and pattern network on the same batches.
//!
//! As published, but for what a short run and one batch norm make of it: the mask phase is
//! counted in steps; both halves of a pair go through a network as one batch; the pattern network's
//! gradients start from zero in every step, where the published code lets them pile up, and its rate is
//! lower and runs as the classifier's; distances are of pixels in [0, 1], not of normalised ones; the
//! classifier has this program's schedule and augmentation.

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::step::{Epoch, Room, mask_pairs};
use crate::backdoor::{LabelMode, PlantConfig};
use crate::data::ImageSet;
use crate::defense::fine_tune::{self, Next, finite, steps_of};
use crate::engine::{Engine, ImageEngine};
use crate::error::{Error, Result};

/// The epochs of the mask phase are numbered from here, so that its shuffles and crops are its own.
const MASK_EPOCHS: u32 = 1 << 16;

/// The three networks, trained together; all with room for a batch.
pub struct Networks {
    /// Opened with `external_inputs`.
    pub classifier: Engine,
    /// Draws the pattern.
    pub pattern: ImageEngine,
    /// Says where.
    pub mask: ImageEngine,
}

impl Networks {
    /// Makes `images` the set that indices refer to.
    pub fn attach(&mut self, images: &ImageSet) -> Result<()> {
        self.classifier.attach(images)?;
        self.pattern.attach(images)?;
        self.mask.attach(images)
    }
}

/// The images of an epoch that get a trigger.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// With their own trigger and the attacker's label, ascending.
    pub poisoned: Vec<u32>,
    /// With another image's trigger and their own label, ascending.
    pub cross: Vec<u32>,
}

/// What is taught.
pub struct Lesson<'a> {
    /// The training images, clean.
    pub images: &'a ImageSet,
    /// The label that triggered images get.
    pub label: LabelMode,
    /// The images that are drawn for an epoch.
    pub draw: &'a dyn Fn(u32) -> Result<Drawn>,
    /// How the classifier is trained.
    pub plant: &'a PlantConfig,
    /// How the generators are.
    pub config: &'a Config,
    /// Decides shuffles, crops and partners.
    pub seed: u64,
}

/// Where a training stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Steps of the mask phase that are done.
    pub mask_step: usize,
    /// Steps of the pattern network that are done.
    pub pattern_step: u32,
    /// The classifier's.
    pub plant: fine_tune::Position,
}

/// What the loop tells its caller after each batch.
pub struct Tick<'a> {
    /// Where the training stands, this batch included.
    pub position: &'a Position,
    /// Batches of an epoch.
    pub steps: usize,
    /// Whether the batch was the mask phase's.
    pub mask: bool,
    /// Loss of the batch: the classifier's, or the mask network's.
    pub loss: f64,
    /// Whether the batch ended an epoch.
    pub epoch_done: bool,
}

/// Trains from `position` to the end, or until `tick` says stop; returns whether it is finished. To go
/// on, give networks the weights, momentum and moments they had, and the position. A tick that attaches
/// other images attaches the training images again.
///
/// # Errors
/// A loss that is not finite, named by phase, epoch and batch; the device's.
pub fn train(
    networks: &mut Networks,
    lesson: &Lesson,
    position: &mut Position,
    tick: Listener,
) -> Result<bool> {
    lesson.plant.check()?;
    lesson.config.check()?;
    if lesson.plant.batch < 2 {
        return Err(Error::input("--batch 1: the dynamic attack compares images of a batch"));
    }
    let mut room = Room::new(networks, lesson);
    networks.attach(lesson.images)?;
    Ok(mask_phase(&mut room, networks, lesson, position, tick)?
        && attack_phase(&mut room, networks, lesson, position, tick)?)
}

/// What hears of every batch, and may stop the training.
pub type Listener<'a> = &'a mut dyn FnMut(&mut Networks, &Tick) -> Result<Next>;

/// The mask network alone.
fn mask_phase(
    room: &mut Room,
    networks: &mut Networks,
    lesson: &Lesson,
    position: &mut Position,
    tick: Listener,
) -> Result<bool> {
    let (pairs, nobody) = (mask_pairs(lesson), Drawn::default());
    let steps = lesson.images.len().div_ceil(pairs).max(1);
    let number = |step: usize| MASK_EPOCHS + (step / steps) as u32;
    let mut epoch = Epoch::new(lesson, number(position.mask_step), &nobody);
    while position.mask_step < lesson.config.mask_steps {
        if epoch.number != number(position.mask_step) {
            epoch = Epoch::new(lesson, number(position.mask_step), &nobody);
        }
        let first = position.mask_step % steps * pairs;
        let loss = room.mask_step(networks, lesson, position.mask_step, &epoch, first)?;
        finite(loss, || format!("in step {} of the mask phase", position.mask_step + 1))?;
        position.mask_step += 1;
        let report = Tick { position, steps, mask: true, loss, epoch_done: false };
        if tick(networks, &report)? == Next::Stop {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Classifier and pattern network together.
fn attack_phase(
    room: &mut Room,
    networks: &mut Networks,
    lesson: &Lesson,
    position: &mut Position,
    tick: Listener,
) -> Result<bool> {
    let (steps, epochs) = (steps_of(lesson.images.len(), lesson.plant.batch, 0), lesson.plant.epochs);
    while position.plant.epoch < epochs {
        let drawn = (lesson.draw)(position.plant.epoch as u32)?;
        let epoch = Epoch::new(lesson, position.plant.epoch as u32, &drawn);
        loop {
            let loss = room.step(networks, lesson, position, &epoch, steps)?;
            finite(loss, || position.plant.place())?;
            let epoch_done = position.plant.advance(loss, steps);
            let report = Tick { position, steps, mask: false, loss, epoch_done };
            if tick(networks, &report)? == Next::Stop && position.plant.epoch < epochs {
                return Ok(false);
            }
            if epoch_done {
                break;
            }
        }
    }
    Ok(true)
}
