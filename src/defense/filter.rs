//! Which images the first round can believe: the observation turned round, on both sides.
//!
//! A poisoned image has its label from a trigger, a clean one from what it shows. The first gives way where the
//! trigger is disturbed and what the image shows is not (views), and holds where an attack takes clean images
//! away from theirs (survivors).

use super::config::{FilterPass, PurifyConfig};
use super::views::View;
use crate::data::ImageSet;
use crate::engine::{AttackBatch, Budget, Engine, Source, StepParams};
use crate::error::Result;
use crate::eval::{logits_with_progress, predictions};

/// What a look at images made of them.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The view's name; the attack as in 8x5; `label` for what the model says of the images themselves.
    pub look: String,
    /// The images looked at.
    pub came: Vec<u32>,
    /// Those of them that aren't suspicious.
    pub held: Vec<u32>,
    /// Whether the look was left out, and all that came are still believed.
    pub left_out: bool,
}

/// One look at the images.
#[derive(Clone, Copy)]
enum Look {
    /// Those that lose their label in it are suspicious.
    View(View),
    /// Those that keep their label under it are.
    Attack(FilterPass),
}

/// Looks at the images at `indices`, the cheap looks first, each at those that the ones before it left: in the end
/// those that no look of `config` finds suspicious. A look that would drop more than `filter_limit` of what comes
/// to it is left out: there it is clean images that can't, or can, be moved.
///
/// `progress` gets how much of the work is done, of `looks(config) * indices.len()`; its error ends the work.
pub fn believed(
    engine: &mut Engine,
    images: &ImageSet,
    indices: &[u32],
    config: &PurifyConfig,
    seed: u64,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<(Vec<u32>, Vec<Looked>)> {
    let mut left = indices.to_vec();
    let mut all_looked = vec![];
    for (number, look) in all(config).enumerate() {
        let mut progress = |count: usize| progress(number * indices.len() + count);
        let (logits, has_to_hold) = match look {
            Look::View(view) => {
                (logits_with_progress(engine, &view.of(images, &left, seed), &mut progress)?, true)
            }
            Look::Attack(pass) => {
                (under_attack(engine, images, &left, pass, (seed, number as u32), &mut progress)?, false)
            }
        };
        let answers = predictions(&logits, engine.graph().classes())?;
        let holds = |index: u32, answer: u32| answer == images.labels[index as usize];
        let pairs = left.iter().zip(answers);
        let held: Vec<u32> = pairs
            .filter(|&(&index, answer)| holds(index, answer) == has_to_hold)
            .map(|(&index, _)| index)
            .collect();
        let left_out = (left.len() - held.len()) as f64 > config.filter_limit * left.len() as f64;
        let next = if left_out { left.clone() } else { held.clone() };
        let came = std::mem::replace(&mut left, next);
        all_looked.push(Looked { look: look.name(), came, held, left_out });
    }
    Ok((left, all_looked))
}

impl Look {
    fn name(self) -> String {
        match self {
            Look::View(view) => view.name().into(),
            Look::Attack(FilterPass { epsilon, steps }) => format!("{epsilon}x{steps}"),
        }
    }
}

/// How many looks a configuration has.
pub fn looks(config: &PurifyConfig) -> usize {
    all(config).count()
}

fn all(config: &PurifyConfig) -> impl Iterator<Item = Look> {
    let fits = |view: &&View| **view != View::Flip || config.flip;
    let views = config.views.iter().filter(fits).map(|view| Look::View(*view));
    views.chain(config.filter.iter().map(|pass| Look::Attack(*pass)))
}

/// Logits of the images at `indices` after an untargeted attack, a row each.
fn under_attack(
    engine: &mut Engine,
    images: &ImageSet,
    indices: &[u32],
    pass: FilterPass,
    (seed, epoch): (u64, u32),
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<f32>> {
    engine.attach(images)?;
    let classes = engine.graph().classes();
    let labels: Vec<u32> = indices.iter().map(|&i| images.labels[i as usize]).collect();
    let mut logits = vec![0.0; indices.len() * classes];
    let epsilon = pass.epsilon / 255.0;
    // The steps reach the edge of the ball; one step is FGSM.
    let alpha = epsilon / pass.steps.min(4) as f32;
    let budgets = vec![Budget { epsilon, alpha }; indices.len()];
    let params = StepParams { repeats: pass.steps, seed, epoch, ..StepParams::default() };
    let target =
        AttackBatch { source: Source::Images, indices, labels: &labels, budgets: &budgets, predict: true };
    engine.attack(&target, &params, |rows| {
        rows.logits(&mut logits[rows.first * classes..])?;
        progress(rows.first + rows.count)
    })?;
    Ok(logits)
}
