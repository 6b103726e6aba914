//! The training: the mask network alone first, then classifier and pattern network on the same batches.
//!
//! As published (method.md 2.6), but for what a short run and one batch norm make of it: the mask phase is
//! counted in steps; both halves of a pair go through a network as one batch; the pattern network's
//! gradients start from zero in every step, where the published code lets them pile up; distances are of
//! pixels in [0, 1], not of normalised ones; the classifier has this program's schedule and augmentation.

use serde::{Deserialize, Serialize};

use super::compose::{compose, compose_gradient, diversity, sparsity};
use crate::backdoor::{LabelMode, PlantConfig};
use crate::data::ImageSet;
use crate::defense::fine_tune::{self, Next, steps_of};
use crate::device::Controls;
use crate::engine::{Engine, ImageEngine, Source};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// The epochs of the mask phase are numbered from here, so that its shuffles and crops are its own.
const MASK_EPOCHS: u32 = 1 << 16;
/// Adam's β₁ and β₂.
const BETAS: (f32, f32) = (0.5, 0.9);

/// What the generators are trained with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Channels of the generators' first step.
    pub generator_width: usize,
    /// Steps of the mask phase.
    pub mask_steps: usize,
    /// Adam's rate for both networks.
    pub generator_lr: f32,
    /// Share of a mask that costs nothing.
    pub mask_density: f32,
    /// Weight of what is above it.
    pub mask_weight: f64,
    /// Weight of the diversity loss.
    pub diversity: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            generator_width: 32,
            mask_steps: 300,
            generator_lr: 0.01,
            mask_density: 0.032,
            mask_weight: 100.0,
            diversity: 1.0,
        }
    }
}

impl Config {
    /// Refuses numbers that no run can mean.
    pub fn check(&self) -> Result<()> {
        let positive = |name: &str, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::input(format!("--{name} {value} is not above 0"))),
        };
        positive("generator-width", self.generator_width as f64)?;
        positive("mask-steps", self.mask_steps as f64)?;
        positive("generator-lr", f64::from(self.generator_lr))
    }

    /// The mask network's rate: a tenth after 2/5 of its phase, a hundredth after 4/5.
    fn mask_rate(&self, step: usize) -> f32 {
        let fifths = 5 * step / self.mask_steps.max(1);
        self.generator_lr * [1.0, 1.0, 0.1, 0.1, 0.01][fifths.min(4)]
    }
}

/// The three networks, trained together; all with room for a batch.
pub struct Networks {
    /// Opened with `given`.
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
            let now = &mut position.plant;
            finite(loss, || format!("in epoch {} at batch {}", now.epoch + 1, now.step + 1))?;
            now.step += 1;
            now.loss_sum += loss;
            let epoch_done = now.step == steps;
            if epoch_done {
                let mean = now.loss_sum / steps as f64;
                *now = fine_tune::Position { epoch: now.epoch + 1, step: 0, loss_sum: 0.0, loss: Some(mean) };
            }
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

fn finite(loss: f64, place: impl Fn() -> String) -> Result<()> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::run(format!("the loss became {loss} {}", place()))),
    }
}

/// Pairs of images in a step of the mask phase.
fn mask_pairs(lesson: &Lesson) -> usize {
    (lesson.plant.batch / 2).max(1)
}

/// The order of an epoch and who gets a trigger in it.
struct Epoch<'a> {
    number: u32,
    order: Vec<u32>,
    /// For each place in the order an image whose trigger a cross image there gets.
    partners: Vec<u32>,
    drawn: &'a Drawn,
}

impl<'a> Epoch<'a> {
    fn new(lesson: &Lesson, number: u32, drawn: &'a Drawn) -> Self {
        let shuffle = |purpose| Stream::new(lesson.seed, purpose, number).permutation(lesson.images.len());
        Self { number, order: shuffle(Purpose::Shuffle), partners: shuffle(Purpose::PoisonNoise), drawn }
    }
}

/// Buffers of a step, made once.
struct Room {
    /// Elements of an image and of a mask.
    len: usize,
    mask_len: usize,
    /// Batch rows with a trigger: first their own, then another's.
    rows: Vec<usize>,
    /// The images their triggers are made for.
    sources: Vec<u32>,
    labels: Vec<u32>,
    images: Vec<f32>,
    patterns: Vec<f32>,
    masks: Vec<f32>,
    gradients: Vec<f32>,
    image: Vec<f32>,
    output: Vec<f32>,
}

impl Room {
    fn new(networks: &Networks, lesson: &Lesson) -> Self {
        let batch = lesson.plant.batch;
        let (len, mask_len) = (lesson.images.image_len(), networks.mask.graph().output_len());
        Self {
            len,
            mask_len,
            rows: Vec::with_capacity(batch),
            sources: Vec::with_capacity(batch),
            labels: Vec::with_capacity(batch),
            images: vec![0.0; batch * len],
            patterns: vec![0.0; batch * len],
            masks: vec![0.0; batch * mask_len],
            gradients: vec![0.0; batch * len],
            image: vec![0.0; len],
            output: vec![0.0; len],
        }
    }

    /// One step of the mask network: the pairs of an epoch from `first` on, half a batch of them.
    fn mask_step(
        &mut self,
        networks: &mut Networks,
        lesson: &Lesson,
        step: usize,
        epoch: &Epoch,
        first: usize,
    ) -> Result<f64> {
        let (count, config, pairs) = (lesson.images.len(), lesson.config, mask_pairs(lesson));
        self.sources.clear();
        for list in [&epoch.order, &epoch.partners] {
            self.sources.extend((first..first + pairs).map(|place| list[place % count]));
        }
        let (len, mask_len) = (self.len, self.mask_len);
        let controls = Controls {
            learning_rate: config.mask_rate(step),
            betas: BETAS,
            step: step as u32 + 1,
            seed: lesson.seed,
            epoch: epoch.number,
            ..Controls::default()
        };
        let images = &mut self.images[..2 * pairs * len];
        let masks = &mut self.masks[..2 * pairs * mask_len];
        networks.mask.forward(&self.sources, &controls, images, masks)?;
        let gradients = &mut self.gradients[..2 * pairs * mask_len];
        gradients.fill(0.0);
        let weight = config.mask_weight / pairs as f64;
        let mut loss = 0.0;
        for (mask, gradient) in
            masks.chunks_exact(mask_len).zip(gradients.chunks_exact_mut(mask_len)).take(pairs)
        {
            loss += sparsity(mask, config.mask_density, weight, gradient);
        }
        // λ enters twice, as published.
        let weight = config.diversity * config.diversity / pairs as f64;
        loss += apart([images, masks], gradients, [len, mask_len], pairs, pairs, weight);
        networks.mask.step(gradients, &controls)?;
        Ok(loss)
    }

    /// One step of classifier and pattern network. Returns the classifier's loss.
    fn step(
        &mut self,
        networks: &mut Networks,
        lesson: &Lesson,
        position: &mut Position,
        epoch: &Epoch,
        steps: usize,
    ) -> Result<f64> {
        let (now, plant) = (position.plant, lesson.plant);
        let first = now.step * plant.batch;
        let last = (first + plant.batch).min(epoch.order.len());
        let indices = &epoch.order[first..last];
        let owns = self.choose(lesson, epoch, first, indices);
        let done = now.epoch * steps + now.step;
        let controls = Controls {
            learning_rate: plant.learning_rate * plant.schedule.factor(done, steps * plant.epochs),
            momentum: plant.momentum,
            weight_decay: plant.weight_decay,
            seed: lesson.seed,
            epoch: epoch.number,
            ..Controls::default()
        };
        networks.classifier.stage(indices, &controls)?;
        if !self.rows.is_empty() {
            self.trigger(networks, &controls)?;
        }
        let loss =
            networks.classifier.train_step(Source::Adversarial, indices, &self.labels, None, &controls)?;
        if !self.rows.is_empty() {
            let controls = Controls {
                learning_rate: lesson.config.generator_lr,
                betas: BETAS,
                step: position.pattern_step + 1,
                ..controls
            };
            self.learn(networks, lesson, owns, &controls)?;
            position.pattern_step += 1;
        }
        Ok(f64::from(loss))
    }

    /// Rows, sources and labels of a batch; returns how many rows have their own trigger.
    fn choose(&mut self, lesson: &Lesson, epoch: &Epoch, first: usize, indices: &[u32]) -> usize {
        let (images, drawn) = (lesson.images, epoch.drawn);
        let listed = |list: &[u32], index: &u32| list.binary_search(index).is_ok();
        self.rows.clear();
        self.sources.clear();
        self.labels.clear();
        for (row, index) in indices.iter().enumerate() {
            let own = images.labels[*index as usize];
            let poisoned = listed(&drawn.poisoned, index);
            let label = if poisoned { lesson.label.triggered_label(own, images.classes.len()) } else { own };
            self.labels.push(label);
            if poisoned {
                self.rows.push(row);
                self.sources.push(*index);
            }
        }
        let owns = self.rows.len();
        for (row, _) in indices.iter().enumerate().filter(|(_, index)| listed(&drawn.cross, index)) {
            self.rows.push(row);
            self.sources.push(epoch.partners[first + row]);
        }
        owns
    }

    /// Makes the triggers and puts them on the staged images.
    fn trigger(&mut self, networks: &mut Networks, controls: &Controls) -> Result<()> {
        let (count, len, mask_len) = (self.rows.len(), self.len, self.mask_len);
        let (images, patterns) = (&mut self.images[..count * len], &mut self.patterns[..count * len]);
        networks.pattern.forward(&self.sources, controls, images, patterns)?;
        let masks = &mut self.masks[..count * mask_len];
        networks.mask.generate(Source::Augmented, &self.sources, controls, masks)?;
        let made = self.patterns.chunks_exact(len).zip(self.masks.chunks_exact(mask_len));
        for (&row, (pattern, mask)) in self.rows.iter().zip(made) {
            networks.classifier.staged(row, &mut self.image)?;
            compose(&self.image, pattern, mask, &mut self.output);
            networks.classifier.set_staged(row, &self.output)?;
        }
        Ok(())
    }

    /// The pattern network's step: from the classifier's gradient at the triggered images, and from the
    /// diversity of the patterns.
    fn learn(
        &mut self,
        networks: &mut Networks,
        lesson: &Lesson,
        owns: usize,
        controls: &Controls,
    ) -> Result<()> {
        let (count, len, mask_len) = (self.rows.len(), self.len, self.mask_len);
        let gradients = &mut self.gradients[..count * len];
        gradients.fill(0.0);
        let rows = self.rows.iter().zip(self.masks.chunks_exact(mask_len));
        for ((&row, mask), gradient) in rows.zip(gradients.chunks_exact_mut(len)) {
            networks.classifier.input_gradient(row, &mut self.image)?;
            compose_gradient(&self.image, mask, gradient);
        }
        let pairs = owns.min(count - owns);
        let weight = lesson.config.diversity / pairs.max(1) as f64;
        apart([&self.images, &self.patterns], gradients, [len, len], owns, pairs, weight);
        networks.pattern.step(gradients, controls)
    }
}

/// The diversity of `pairs` pairs: row i with row `offset` + i, of images and of what was made of them,
/// whose lengths are `lens`. Returns the loss.
fn apart(
    [images, made]: [&[f32]; 2],
    gradients: &mut [f32],
    [len, made_len]: [usize; 2],
    offset: usize,
    pairs: usize,
    weight: f64,
) -> f64 {
    let row = |len: usize, i: usize| i * len..(i + 1) * len;
    let (near, far) = gradients.split_at_mut(offset * made_len);
    let mut loss = 0.0;
    for i in 0..pairs {
        let (a, b) = (row(len, i), row(len, offset + i));
        let (m, n) = (row(made_len, i), row(made_len, offset + i));
        let own = row(made_len, i);
        loss += diversity(
            [&images[a], &images[b]],
            [&made[m], &made[n]],
            weight,
            [&mut near[own.clone()], &mut far[own]],
        );
    }
    loss
}
