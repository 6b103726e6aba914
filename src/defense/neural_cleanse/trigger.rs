//! A trigger and its search: mask and pattern, by Adam on cross entropy towards a label and the mask's L1.
//!
//! x' = (1 − m) ⊙ x + m ⊙ p in pixels of [0, 1]; m = tanh(a) / (2 + 1e-7) + 1/2 for every pixel, p the same of b for every
//! element. L = CE(f(x'), label) + c · ‖m‖₁, Adam (0.5, 0.9). c follows the success: doubled after five passes with it,
//! divided by 2^1.5 after five without (the authors' code, with its constants).

use super::NeuralCleanse;
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;
use crate::eval::predictions;
use crate::rng::{Purpose, Stream};
use crate::train::check_loss;

const SPREAD: f32 = 2.0 + 1e-7;
const BETA: (f32, f32) = (0.5, 0.9);
const FIRST_COST: f32 = 1e-3;
/// Passes in a row that change the cost.
const PATIENCE: usize = 5;
/// Passes without an improvement of 1 % that end the search, once the cost went both ways.
const STOP_PATIENCE: usize = 25;
const IMPROVEMENT: f32 = 0.99;

/// What is stamped: a mask of pixels and a pattern (pixels × channels), in [0, 1].
#[derive(Clone, Debug, PartialEq)]
pub(in crate::defense) struct Trigger {
    pub mask: Vec<f32>,
    pub pattern: Vec<f32>,
}

impl Trigger {
    /// Numbers of a trigger for such images.
    pub fn len(images: &ImageSet) -> usize {
        images.height * images.width + images.image_len()
    }

    pub fn to_values(&self) -> Vec<f32> {
        [&self.mask[..], &self.pattern[..]].concat()
    }

    pub fn from_values(values: &[f32], images: &ImageSet) -> Self {
        let (mask, pattern) = values.split_at(images.height * images.width);
        Self { mask: mask.to_vec(), pattern: pattern.to_vec() }
    }

    /// L1 of the mask.
    pub fn norm(&self) -> f32 {
        self.mask.iter().sum()
    }

    /// The image with the trigger.
    fn stamp(&self, image: &[u8], stamped: &mut [f32]) {
        let channels = image.len() / self.mask.len();
        for (at, (&byte, out)) in image.iter().zip(stamped).enumerate() {
            let mask = self.mask[at / channels];
            *out = (1.0 - mask) * f32::from(byte) / 255.0 + mask * self.pattern[at];
        }
    }

    /// The same in place, rounded to whole bytes.
    pub fn stamp_bytes(&self, image: &mut [u8]) {
        let mut stamped = vec![0.0; image.len()];
        self.stamp(image, &mut stamped);
        image.iter_mut().zip(stamped).for_each(|(byte, value)| *byte = (255.0 * value).round() as u8);
    }
}

/// Adam over a trigger's variables a and b.
pub(in crate::defense) struct Adam {
    values: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Adam {
    pub fn new(values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self { values, first: zeros.clone(), second: zeros, steps: 0 }
    }

    fn step(&mut self, gradient: &[f32], rate: f32) {
        self.steps += 1;
        let corrections = (1.0 - BETA.0.powi(self.steps), 1.0 - BETA.1.powi(self.steps));
        for (i, &gradient) in gradient.iter().enumerate() {
            self.first[i] = BETA.0 * self.first[i] + (1.0 - BETA.0) * gradient;
            self.second[i] = BETA.1 * self.second[i] + (1.0 - BETA.1) * gradient * gradient;
            let (first, second) = (self.first[i] / corrections.0, self.second[i] / corrections.1);
            self.values[i] -= rate * first / (second.sqrt() + 1e-8);
        }
    }
}

/// The cost c of the mask's size, and when the search ends.
#[derive(Default)]
pub(in crate::defense) struct Cost {
    pub value: f32,
    begun: usize,
    /// Passes in a row with and without success.
    up: usize,
    down: usize,
    went: (bool, bool),
    best: Option<f32>,
    stale: usize,
}

impl Cost {
    /// Takes the pass's outcome, whose best norm so far is `best`; returns whether the search goes on.
    fn pass(&mut self, success: bool, best: Option<f32>) -> bool {
        if let Some(best) = best {
            let improved = self.best.is_none_or(|before| best < IMPROVEMENT * before);
            self.stale = if improved { 0 } else { self.stale + 1 };
            self.best = Some(self.best.map_or(best, |before| before.min(best)));
        }
        if self.went == (true, true) && self.stale >= STOP_PATIENCE {
            return false;
        }
        self.begun = if self.value == 0.0 && success { self.begun + 1 } else { 0 };
        if self.begun >= PATIENCE {
            (self.value, self.up, self.down, self.went) = (FIRST_COST, 0, 0, (false, false));
        }
        (self.up, self.down) = if success { (self.up + 1, 0) } else { (0, self.down + 1) };
        if self.up >= PATIENCE {
            (self.up, self.value, self.went.0) = (0, self.value * 2.0, true);
        } else if self.down >= PATIENCE {
            (self.down, self.value, self.went.1) = (0, self.value / 2f32.powf(1.5), true);
        }
        true
    }
}

/// The search for a label's trigger.
pub(in crate::defense) struct Search<'a> {
    settings: &'a NeuralCleanse,
    images: &'a ImageSet,
    label: u32,
    /// The images of other labels.
    pub others: Vec<u32>,
    seed: u64,
    pub adam: Adam,
    pub cost: Cost,
    passes: u32,
    best: Option<Trigger>,
    /// Mean cross entropy of the last pass.
    pub loss: f32,
}

impl<'a> Search<'a> {
    pub fn new(settings: &'a NeuralCleanse, images: &'a ImageSet, label: u32, seed: u64) -> Self {
        let seed = seed.wrapping_add(u64::from(label));
        let draws = Stream::new(seed, Purpose::Initialise, 0);
        // A mask and a pattern uniform in [0, 1], through the map's inverse.
        let start = |at| ((draws.uniform(at as u64, 0) - 0.5) * SPREAD).atanh();
        let adam = Adam::new((0..Trigger::len(images)).map(start).collect());
        let others = (0..images.len() as u32).filter(|&at| images.labels[at as usize] != label).collect();
        let cost = Cost::default();
        Self { settings, images, label, others, seed, adam, cost, passes: 0, best: None, loss: 0.0 }
    }

    pub fn trigger(&self) -> Trigger {
        let values: Vec<f32> = self.adam.values.iter().map(|value| value.tanh() / SPREAD + 0.5).collect();
        Trigger::from_values(&values, self.images)
    }

    /// The smallest trigger with the success asked for; the last one where none had it.
    pub fn best(&self) -> Trigger {
        self.best.clone().unwrap_or_else(|| self.trigger())
    }

    /// One pass over the images of other labels; returns whether there should be more.
    pub fn pass(&mut self, model: &mut Engine) -> Result<bool> {
        let order = Stream::new(self.seed, Purpose::Shuffle, self.passes).permutation(self.others.len());
        self.passes += 1;
        let (mut hits, mut loss, mut norms, mut batches) = (0, 0.0, 0.0, 0);
        for batch in order.chunks(self.settings.trainer.batch) {
            let indices: Vec<u32> = batch.iter().map(|&at| self.others[at as usize]).collect();
            let (batch_loss, batch_hits) = self.step(model, &indices)?;
            hits += batch_hits;
            loss += f64::from(batch_loss) * indices.len() as f64;
            norms += self.trigger().norm();
            batches += 1;
        }
        let count = self.others.len().max(1) as f64;
        self.loss = (loss / count) as f32;
        check_loss(loss, || format!("for the trigger of label {} in pass {}", self.label, self.passes))?;
        let (success, norm) = (hits as f64 / count >= self.settings.success, norms / batches.max(1) as f32);
        if success && self.cost.best.is_none_or(|best| norm < best) {
            self.best = Some(self.trigger());
        }
        let best = match (success, self.cost.best) {
            (true, best) => Some(best.map_or(norm, |best| best.min(norm))),
            (false, best) => best,
        };
        Ok(self.cost.pass(success, best))
    }

    /// One step of Adam on a batch; returns the mean cross entropy, and how many images get the label.
    pub fn step(&mut self, model: &mut Engine, indices: &[u32]) -> Result<(f32, usize)> {
        let (trigger, len) = (self.trigger(), self.images.image_len());
        let image = |index: u32| &self.images.pixels[index as usize * len..][..len];
        let mut stamped = vec![0.0; len];
        for (row, &index) in indices.iter().enumerate() {
            trigger.stamp(image(index), &mut stamped);
            model.set_staged(row, &stamped)?;
        }
        let loss = model.staged_loss(&vec![self.label; indices.len()])?;
        let mut logits = vec![0.0; indices.len() * model.graph().classes()];
        model.staged_logits(indices.len(), &mut logits)?;
        let hits = predictions(&logits, model.graph().classes())?;
        let mut gradient = vec![0.0; Trigger::len(self.images)];
        let (mut own, channels) = (vec![0.0; len], self.images.channels);
        let (of_mask, of_pattern) = gradient.split_at_mut(trigger.mask.len());
        for (row, &index) in indices.iter().enumerate() {
            model.input_gradient(row, &mut own)?;
            for (at, (&own, &byte)) in own.iter().zip(image(index)).enumerate() {
                of_mask[at / channels] += own * (trigger.pattern[at] - f32::from(byte) / 255.0);
                of_pattern[at] += own * trigger.mask[at / channels];
            }
        }
        let count = indices.len() as f32;
        of_mask.iter_mut().for_each(|gradient| *gradient = *gradient / count + self.cost.value);
        of_pattern.iter_mut().for_each(|gradient| *gradient /= count);
        for (gradient, value) in gradient.iter_mut().zip(&self.adam.values) {
            let tanh = value.tanh();
            *gradient *= (1.0 - tanh * tanh) / SPREAD;
        }
        self.adam.step(&gradient, self.settings.learning_rate);
        Ok((loss, hits.iter().filter(|&&label| label == self.label).count()))
    }
}
