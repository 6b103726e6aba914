//! D⁰: the images of the first round, from what tells poisoned images from clean ones in an infected model.
//!
//! A poisoned image has its label from a trigger, a clean one from what it shows. The trigger's label is lost where
//! a view disturbs the trigger and not what the image shows; it stays where an attack moves clean images (the
//! robustness filter).

use super::INITIAL_SET;
use super::config::{FilterAttack, Pbe};
use super::select::agreeing;
use crate::data::ImageSet;
use crate::defense::Run;
use crate::engine::{AttackBatch, Budget, Engine, Source, StepParams};
use crate::error::Result;
use crate::eval::View;
use crate::eval::{logits_with_progress, predictions};
use crate::rng::{Purpose, Stream};

/// What a filter made of the images that came to it.
#[derive(Clone, Debug)]
pub struct FilterReport {
    /// `label` for the model's predictions of the images as they are; the view's name; the attack as in 8x5.
    pub filter: String,
    /// The images that came to it.
    pub input: Vec<u32>,
    /// Those of them that it keeps.
    pub kept: Vec<u32>,
    /// Whether it was skipped: it would have dropped too many, and all of its input goes on.
    pub skipped: bool,
}

/// A test that an image has to pass.
#[derive(Clone, Copy)]
enum Filter {
    /// It has to keep its label in this view.
    View(View),
    /// It has to lose its label under this attack.
    Attack(FilterAttack),
}

impl Filter {
    fn name(self) -> String {
        match self {
            Filter::View(view) => view.name().into(),
            Filter::Attack(FilterAttack { epsilon, steps }) => format!("{epsilon}x{steps}"),
        }
    }
}

impl Pbe {
    /// D⁰: a clean set as a whole; else candidates whose label the infected model gives (an attack on another label
    /// says nothing about a trigger), without those that a filter drops. `reference` are the infected model's logits
    /// of all images.
    pub(super) fn initial_set(&self, run: &mut Run, reference: &[f32]) -> Result<Vec<u32>> {
        let (images, classes) = (run.images, run.infected.graph().classes());
        if run.clean_set {
            return Ok((0..images.len() as u32).collect());
        }
        run.enter(INITIAL_SET);
        let mut candidates = Stream::new(run.seed, Purpose::Split, 0).permutation(images.len());
        candidates.truncate(self.candidates(images.len()));
        candidates.sort_unstable();
        let (mut kept, mut reports) = (candidates.clone(), vec![]);
        if self.initial_set.label_agreement {
            kept = agreeing(&candidates, &predictions(reference, classes)?, &images.labels);
            let (input, kept) = (candidates.clone(), kept.clone());
            reports.push(FilterReport { filter: "label".into(), input, kept, skipped: false });
        }
        let (total, report) = (kept.len() * self.filters().count(), &mut run.report);
        let (kept, further) = self
            .filter(run.infected, images, &kept, run.seed, &mut |done| report.progress(done, total, None))?;
        reports.extend(further);
        run.report.observer.initial_set(&reports);
        // A model whose predictions no attack changes leaves nothing: then the candidates are the better guess.
        let set = if kept.len() < self.trainer.batch.min(candidates.len()) { candidates } else { kept };
        run.record().dropped = self.candidates(images.len()) - set.len();
        Ok(set)
    }

    /// The images at `indices` that pass every filter, and a report of each. The cheap filters come first; each
    /// gets what the ones before it left. One that would drop more than `max_dropped` of its input is skipped: it
    /// tells clean images apart, not poisoned ones.
    ///
    /// `progress` gets the work that is done, of `filters().count() * indices.len()`; its error ends the work.
    pub(super) fn filter(
        &self,
        engine: &mut Engine,
        images: &ImageSet,
        indices: &[u32],
        seed: u64,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<(Vec<u32>, Vec<FilterReport>)> {
        let (mut left, mut reports) = (indices.to_vec(), vec![]);
        for (number, filter) in self.filters().enumerate() {
            let mut progress = |count: usize| progress(number * indices.len() + count);
            let (logits, keeps_label) = match filter {
                Filter::View(view) => {
                    (logits_with_progress(engine, &view.of(images, &left, seed), &mut progress)?, true)
                }
                Filter::Attack(attack) => {
                    let logits = logits_under_attack(
                        engine,
                        images,
                        &left,
                        attack,
                        (seed, number as u32),
                        &mut progress,
                    )?;
                    (logits, false)
                }
            };
            let predicted = predictions(&logits, engine.graph().classes())?;
            let passes = |(&index, class): (&u32, u32)| {
                ((class == images.labels[index as usize]) == keeps_label).then_some(index)
            };
            let kept: Vec<u32> = left.iter().zip(predicted).filter_map(passes).collect();
            let skipped = (left.len() - kept.len()) as f64 > self.initial_set.max_dropped * left.len() as f64;
            let next = if skipped { left.clone() } else { kept.clone() };
            let input = std::mem::replace(&mut left, next);
            reports.push(FilterReport { filter: filter.name(), input, kept, skipped });
        }
        Ok((left, reports))
    }

    fn filters(&self) -> impl Iterator<Item = Filter> {
        let applies = |view: &&View| **view != View::Flip || self.trainer.flip;
        let views = self.initial_set.views.iter().filter(applies).map(|view| Filter::View(*view));
        views.chain(self.initial_set.attacks.iter().map(|attack| Filter::Attack(*attack)))
    }
}

/// Logits of the images at `indices` after an untargeted attack, a row each.
fn logits_under_attack(
    engine: &mut Engine,
    images: &ImageSet,
    indices: &[u32],
    attack: FilterAttack,
    (seed, epoch): (u64, u32),
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<f32>> {
    engine.attach(images)?;
    let classes = engine.graph().classes();
    let labels: Vec<u32> = indices.iter().map(|&i| images.labels[i as usize]).collect();
    let mut logits = vec![0.0; indices.len() * classes];
    let epsilon = attack.epsilon / 255.0;
    // The steps reach the edge of the ball; one step is FGSM.
    let alpha = epsilon / attack.steps.min(4) as f32;
    let budgets = vec![Budget { epsilon, alpha }; indices.len()];
    let params = StepParams { repeats: attack.steps, seed, epoch, ..StepParams::default() };
    let batch =
        AttackBatch { source: Source::Images, indices, labels: &labels, budgets: &budgets, predict: true };
    engine.attack(&batch, &params, |rows| {
        rows.logits(&mut logits[rows.first * classes..])?;
        progress(rows.first + rows.count)
    })?;
    Ok(logits)
}
