//! Adversarial neuron pruning (Wu & Wang, NeurIPS 2021): prunes the neurons that adversarial noise on them needs most.
//!
//! A mask m in [0, 1] scales every neuron. Each iteration: δ, ξ uniform in ±ε, one sign step of ε up the loss at
//! γ(m + δ), β(1 + ξ); then one SGD step of m alone down α · CE(m) + (1 − α) · CE(m + δ, ξ), clipped to [0, 1]. All passes
//! use batch statistics, and the running ones stay. At the end γ = 0 where m ≤ threshold; β stays.
//!
//! The authors choose the threshold by the test set's ASR. Here it is the largest that keeps the accuracy on held-out
//! images, or a fixed one.

use serde::{Deserialize, Serialize};

use super::clean_set::{self, Split};
use super::norm_noise::{Neurons, Noise};
use super::{Defense, Facts, Phase, Run};
use crate::engine::{Engine, EngineOptions, Statistics, StepParams};
use crate::error::Result;
use crate::rng::{Purpose, Stream, below};
use crate::train::{MAX_ITERATIONS, TrainerConfig, below_one, check_loss, non_negative, share, within};

const NAME: &str = "anp";
const OPTIMIZE: Phase = Phase { key: "mask", label: "optimising the mask" };
const PRUNE: Phase = Phase { key: "prune", label: "pruning" };
/// Thresholds that are tried: multiples of this up to 0.9.
const STEP: f32 = 0.05;
const TRIED: usize = 19;

/// Settings of ANP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anp {
    /// Batch and augmentation; momentum is the mask's.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
    /// Iterations, each on a batch drawn with replacement.
    pub iterations: usize,
    /// Size ε of the noise, relative to γ and β.
    pub epsilon: f32,
    /// Weight α of the loss without noise.
    pub alpha: f32,
    /// Learning rate of the mask.
    pub learning_rate: f32,
    /// Prunes neurons whose mask is at most this; 0 for the largest that keeps the held-out accuracy.
    pub threshold: f64,
    /// Share of the accuracy that pruning may cost, at least: where two standard errors are more, those.
    pub tolerance: f64,
}

impl Defense for Anp {
    fn defaults(facts: &Facts) -> Result<Self> {
        let trainer = TrainerConfig { batch: 128, weight_decay: 0.0, ..clean_set::trainer(facts) };
        let (iterations, epsilon, alpha, learning_rate) = (2000, 0.4, 0.2, 0.2);
        Ok(Self { trainer, iterations, epsilon, alpha, learning_rate, threshold: 0.0, tolerance: 0.1 })
    }

    fn check(&self, facts: &Facts) -> Result<()> {
        clean_set::check_split(facts, NAME)?;
        self.trainer.check()?;
        within("iterations", self.iterations, 1..=MAX_ITERATIONS)?;
        non_negative("epsilon", self.epsilon)?;
        non_negative("learning_rate", self.learning_rate)?;
        below_one("alpha", self.alpha)?;
        share("tolerance", self.tolerance)?;
        below_one("threshold", self.threshold as f32)
    }

    fn unused(&self, _: &Facts) -> Vec<(String, &'static str)> {
        let mut unused = vec![
            ("weight_decay".into(), "the mask has none, and no weight is trained"),
            ("nesterov".into(), "the mask's momentum is the plain one"),
        ];
        if self.threshold > 0.0 {
            unused.push(("tolerance".into(), "the threshold is given"));
        }
        unused
    }

    fn trainer(&self) -> &TrainerConfig {
        &self.trainer
    }

    fn engine_options(&self) -> EngineOptions {
        EngineOptions { gradients: true, ..self.trainer.engine_options() }
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        clean_set::begin(run)?;
        run.step(|run| self.optimize(run))?;
        run.step(|run| self.prune(run))?;
        run.end_round()
    }
}

impl Anp {
    /// The mask, into the run's variables; its momentum follows it there.
    fn optimize(&self, run: &mut Run) -> Result<()> {
        run.enter(OPTIMIZE);
        let (split, seed) = (Split::new(run.images, run.step_seed(1)), run.step_seed(2));
        let neurons = Neurons::of(run.model, NAME)?;
        if run.state.variables.is_empty() {
            run.state.variables = [vec![1.0; neurons.len()], vec![0.0; neurons.len()]].concat();
        }
        run.model.attach(&split.kept)?;
        while run.state.cursor.train.batch < self.iterations {
            let number = run.state.cursor.train.batch as u32;
            let draws = Stream::new(seed, Purpose::Draw, number);
            let draw = |at: usize| below(draws.words(at as u64)[0], split.kept.len() as u32);
            let indices: Vec<u32> = (0..self.trainer.batch).map(draw).collect();
            let labels: Vec<u32> = indices.iter().map(|&at| split.kept.labels[at as usize]).collect();
            let noise = Noise::draw(neurons.len(), self.epsilon, seed, number);
            let (mask, momentum) = run.state.variables.split_at_mut(neurons.len());
            let params = StepParams { seed, epoch: number, ..StepParams::default() };
            let batch = MaskBatch { indices: &indices, labels: &labels, params };
            let loss = self.iterate(run.model, &neurons, &batch, noise, (mask, momentum))?;
            check_loss(f64::from(loss), || format!("in iteration {}", number + 1))?;
            run.state.cursor.train.batch += 1;
            run.report.progress(run.state.cursor.train.batch, self.iterations, Some(loss))?;
        }
        neurons.write(run.model, None, None)
    }

    /// One iteration; leaves the model's neurons as they are.
    pub(super) fn iterate(
        &self,
        model: &mut Engine,
        neurons: &Neurons,
        batch: &MaskBatch,
        mut noise: Noise,
        (mask, momentum): (&mut [f32], &mut [f32]),
    ) -> Result<f32> {
        let mut loss_at = |noise: Option<&Noise>| {
            neurons.write(model, Some(mask), noise)?;
            let loss = model.backward(Statistics::Keep, batch.indices, batch.labels, None, &batch.params)?;
            Ok((loss, neurons.gradients(model)?))
        };
        noise.ascend(&loss_at(Some(&noise))?.1, self.epsilon);
        let (loss, plain) = loss_at(None)?;
        let (noisy_loss, noisy) = loss_at(Some(&noise))?;
        neurons.write(model, None, None)?;
        let rest = 1.0 - self.alpha;
        for (i, (mask, momentum)) in mask.iter_mut().zip(momentum).enumerate() {
            *momentum =
                self.trainer.momentum * *momentum + self.alpha * plain.gamma[i] + rest * noisy.gamma[i];
            *mask = (*mask - self.learning_rate * *momentum).clamp(0.0, 1.0);
        }
        Ok(self.alpha * loss + rest * noisy_loss)
    }

    /// Sets γ of the neurons to zero whose mask is at most the threshold.
    fn prune(&self, run: &mut Run) -> Result<()> {
        run.enter(PRUNE);
        let split = Split::new(run.images, run.step_seed(1));
        let neurons = Neurons::of(run.model, NAME)?;
        let mask = run.state.variables[..neurons.len()].to_vec();
        let kept = |threshold: f32| -> Vec<f32> {
            mask.iter().map(|&mask| if mask <= threshold { 0.0 } else { 1.0 }).collect()
        };
        let before = split.accuracy(run.model)?;
        let (mut chosen, mut after) = (None, before);
        if self.threshold > 0.0 {
            chosen = Some(self.threshold as f32);
        } else {
            let least = split.least(before, self.tolerance);
            for number in 0..TRIED {
                let threshold = number as f32 * STEP;
                neurons.write(run.model, Some(&kept(threshold)), None)?;
                let accuracy = split.accuracy(run.model)?;
                run.report.progress(number + 1, TRIED, None)?;
                if accuracy >= least {
                    (chosen, after) = (Some(threshold), accuracy);
                }
            }
        }
        let Some(threshold) = chosen else {
            neurons.write(run.model, None, None)?;
            run.note(
                "no threshold keeps the held-out accuracy: nothing is pruned, the model is as it was".into(),
            );
            return Ok(());
        };
        neurons.write(run.model, Some(&kept(threshold)), None)?;
        if self.threshold > 0.0 {
            after = split.accuracy(run.model)?;
        }
        let (count, of) = (mask.iter().filter(|&&mask| mask <= threshold).count(), mask.len());
        let held = split.held_out();
        run.note(format!(
            "{count} of {of} neurons pruned at the threshold {threshold:.2}: accuracy on {held} held-out images {before:.1} to {after:.1} %"
        ));
        Ok(())
    }
}

/// The images of an iteration.
pub(super) struct MaskBatch<'a> {
    pub indices: &'a [u32],
    pub labels: &'a [u32],
    pub params: StepParams,
}
