//! FilterChain: tests that an image has to pass before its label is believed.
//!
//! A poisoned image has its label from a trigger, a clean one from what it shows. The trigger's label is lost where
//! a view disturbs the trigger and not what the image shows; it stays where an attack moves clean images (the
//! robustness filter).

use serde::{Deserialize, Serialize};

use super::predict::{logits_with_progress, predictions};
use super::views::View;
use crate::data::ImageSet;
use crate::engine::{AttackBatch, Budget, Engine, Source, StepParams};
use crate::error::Result;

/// The usual [`FilterChain::max_dropped`]: a filter that would drop more tells clean images apart, not poisoned ones.
pub const MAX_DROPPED: f64 = 0.6;

/// An attack of the robustness filter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterAttack {
    /// ε in 1/255.
    pub epsilon: f32,
    /// PGD steps, of α = ε / min(steps, 4).
    pub steps: usize,
}

/// A test that an image has to pass.
#[derive(Clone, Copy, Debug)]
pub enum Filter {
    /// It has to keep its label in this view.
    View(View),
    /// It has to lose its label under this attack.
    Attack(FilterAttack),
}

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

/// FilterChain, one after the other: the cheap ones should come first.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// Each gets what the ones before it left.
    pub list: Vec<Filter>,
    /// A filter that would drop a larger share of its images is skipped.
    pub max_dropped: f64,
}

impl FilterChain {
    /// The images at `indices` that pass every filter, and a report of each. `progress` gets the work that is done, of
    /// `list.len() * indices.len()`; its error ends the work.
    pub fn apply(
        &self,
        engine: &mut Engine,
        images: &ImageSet,
        indices: &[u32],
        seed: u64,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<(Vec<u32>, Vec<FilterReport>)> {
        let (mut left, mut reports) = (indices.to_vec(), vec![]);
        for (number, filter) in self.list.iter().enumerate() {
            let mut progress = |count: usize| progress(number * indices.len() + count);
            let (logits, keeps_label) = match *filter {
                Filter::View(view) => {
                    (logits_with_progress(engine, &view.of(images, &left, seed), &mut progress)?, true)
                }
                Filter::Attack(attack) => {
                    let seed = (seed, number as u32);
                    (logits_under_attack(engine, images, &left, attack, seed, &mut progress)?, false)
                }
            };
            let predicted = predictions(&logits, engine.graph().classes())?;
            let passes = |(&index, class): (&u32, u32)| {
                ((class == images.labels[index as usize]) == keeps_label).then_some(index)
            };
            let kept: Vec<u32> = left.iter().zip(predicted).filter_map(passes).collect();
            let skipped = (left.len() - kept.len()) as f64 > self.max_dropped * left.len() as f64;
            let next = if skipped { left.clone() } else { kept.clone() };
            let input = std::mem::replace(&mut left, next);
            reports.push(FilterReport { filter: filter.name(), input, kept, skipped });
        }
        Ok((left, reports))
    }
}

impl Filter {
    fn name(self) -> String {
        match self {
            Filter::View(view) => view.name().into(),
            Filter::Attack(FilterAttack { epsilon, steps }) => format!("{epsilon}x{steps}"),
        }
    }
}

/// Those of `selected` whose prediction is their label. `predictions` and `labels` are of all images.
pub fn agreeing(selected: &[u32], predictions: &[u32], labels: &[u32]) -> Vec<u32> {
    selected.iter().copied().filter(|&i| predictions[i as usize] == labels[i as usize]).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_whose_label_is_predicted_are_kept() {
        let (predictions, labels) = ([0, 2, 1, 0], [0, 1, 1, 2]);
        assert_eq!(agreeing(&[0, 1, 2], &predictions, &labels), vec![0, 2]);
        assert_eq!(agreeing(&[3], &predictions, &labels), Vec::<u32>::new());
    }
}
