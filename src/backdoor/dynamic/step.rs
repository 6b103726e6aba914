//! The two steps of training, and the buffers that they share.

use super::compose::{compose, compose_gradient, diversity, sparsity};
use super::job::{Drawn, DynamicCursor, DynamicJob, Networks};
use crate::engine::{Source, StepParams};
use crate::error::Result;
use crate::rng::{Purpose, Stream};

/// Adam's β₁ and β₂.
const BETAS: (f32, f32) = (0.5, 0.9);

/// Pairs of images in a step of the mask phase.
pub(super) fn mask_pairs(job: &DynamicJob) -> usize {
    (job.classifier.trainer.batch / 2).max(1)
}

/// The order of an epoch and the images that get a trigger in it.
pub(super) struct EpochPlan<'a> {
    pub number: u32,
    order: Vec<u32>,
    /// For each position in the order, the image whose trigger a cross image there gets.
    partners: Vec<u32>,
    drawn: &'a Drawn,
}

impl<'a> EpochPlan<'a> {
    pub fn new(job: &DynamicJob, number: u32, drawn: &'a Drawn) -> Self {
        let shuffle = |purpose| Stream::new(job.seed, purpose, number).permutation(job.images.len());
        Self { number, order: shuffle(Purpose::Shuffle), partners: shuffle(Purpose::PoisonNoise), drawn }
    }
}

/// Buffers of a step, made once.
pub(super) struct StepBuffers {
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

impl StepBuffers {
    pub fn new(networks: &Networks, job: &DynamicJob) -> Self {
        let batch = job.classifier.trainer.batch;
        let (len, mask_len) = (job.images.image_len(), networks.mask.graph().output_len());
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
    pub fn mask_step(
        &mut self,
        networks: &mut Networks,
        job: &DynamicJob,
        step: usize,
        epoch: &EpochPlan,
        first: usize,
    ) -> Result<f64> {
        let (count, config, pairs) = (job.images.len(), job.generators, mask_pairs(job));
        self.sources.clear();
        for list in [&epoch.order, &epoch.partners] {
            self.sources.extend((first..first + pairs).map(|place| list[place % count]));
        }
        let (len, mask_len) = (self.len, self.mask_len);
        let params = StepParams {
            learning_rate: config.mask_rate(step),
            betas: BETAS,
            step: step as u32 + 1,
            seed: job.seed,
            epoch: epoch.number,
            ..StepParams::default()
        };
        let images = &mut self.images[..2 * pairs * len];
        let masks = &mut self.masks[..2 * pairs * mask_len];
        networks.mask.forward(&self.sources, &params, images, masks)?;
        let gradients = &mut self.gradients[..2 * pairs * mask_len];
        gradients.fill(0.0);
        let weight = config.mask_weight / pairs as f64;
        let mut loss = 0.0;
        for (mask, gradient) in
            masks.chunks_exact(mask_len).zip(gradients.chunks_exact_mut(mask_len)).take(pairs)
        {
            loss += sparsity(mask, config.mask_density, weight, gradient);
        }
        let weight = config.mask_diversity / pairs as f64;
        loss += apart([images, masks], gradients, [len, mask_len], pairs, pairs, weight);
        networks.mask.step(gradients, &params)?;
        Ok(loss)
    }

    /// One step of classifier and pattern network. Returns the classifier's loss.
    pub fn step(
        &mut self,
        networks: &mut Networks,
        job: &DynamicJob,
        cursor: &mut DynamicCursor,
        epoch: &EpochPlan,
        batches: usize,
    ) -> Result<f64> {
        let (now, classifier) = (cursor.classifier, job.classifier);
        let first = now.batch * classifier.trainer.batch;
        let last = (first + classifier.trainer.batch).min(epoch.order.len());
        let indices = &epoch.order[first..last];
        let owns = self.choose(job, epoch, first, indices);
        let done = now.epoch * batches + now.batch;
        let factor = classifier.schedule.factor(done, batches * classifier.epochs);
        let params = StepParams {
            learning_rate: classifier.learning_rate * factor,
            momentum: classifier.trainer.momentum,
            weight_decay: classifier.trainer.weight_decay,
            seed: job.seed,
            epoch: epoch.number,
            ..StepParams::default()
        };
        networks.classifier.stage(indices, &params)?;
        if !self.rows.is_empty() {
            self.trigger(networks, &params)?;
        }
        let loss =
            networks.classifier.train_step(Source::Adversarial, indices, &self.labels, None, &params)?;
        if !self.rows.is_empty() {
            let params = StepParams {
                learning_rate: job.generators.pattern_lr * factor,
                betas: BETAS,
                step: cursor.pattern_step + 1,
                ..params
            };
            self.learn(networks, job, owns, &params)?;
            cursor.pattern_step += 1;
        }
        Ok(f64::from(loss))
    }

    /// Rows, sources and labels of a batch; returns how many rows have their own trigger.
    fn choose(&mut self, job: &DynamicJob, epoch: &EpochPlan, first: usize, indices: &[u32]) -> usize {
        let (images, drawn) = (job.images, epoch.drawn);
        let listed = |list: &[u32], index: &u32| list.binary_search(index).is_ok();
        self.rows.clear();
        self.sources.clear();
        self.labels.clear();
        for (row, index) in indices.iter().enumerate() {
            let own = images.labels[*index as usize];
            let poisoned = listed(&drawn.poisoned, index);
            let label = if poisoned { job.label.triggered_label(own, images.classes.len()) } else { own };
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
    fn trigger(&mut self, networks: &mut Networks, params: &StepParams) -> Result<()> {
        let (count, len, mask_len) = (self.rows.len(), self.len, self.mask_len);
        let (images, patterns) = (&mut self.images[..count * len], &mut self.patterns[..count * len]);
        networks.pattern.forward(&self.sources, params, images, patterns)?;
        let masks = &mut self.masks[..count * mask_len];
        networks.mask.generate(Source::Augmented, &self.sources, params, masks)?;
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
        job: &DynamicJob,
        owns: usize,
        params: &StepParams,
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
        let weight = job.generators.diversity / pairs.max(1) as f64;
        apart([&self.images, &self.patterns], gradients, [len, len], owns, pairs, weight);
        networks.pattern.step(gradients, params)
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
