//! A second look at the training images, once the first round has made a purified model.
//!
//! The first look takes a label's reference from images that keep their label in all views, which goes wrong where the
//! infected model is weak, or most images of the label are poisoned. A purified model tells clean images from poisoned
//! ones better: clean ones keep their label in it.

use serde::{Deserialize, Serialize};

use super::SECOND_LOOK;
use super::config::Pbe;
use crate::defense::Run;
use crate::error::Result;
use crate::eval::{Agreement, Suspects, find_suspects_again};

/// What the second look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondLook {
    /// The suspected images decide: the rounds begin anew from the infected model, with sets that they choose.
    Poisoned,
    /// Neither look has found anything: the model is left as it is.
    NoSign,
    /// Neither of these: the rounds go on.
    Undecided,
}

impl Pbe {
    /// Looks again after the first round, where the first look didn't decide. `scores` are the purified model's.
    pub(super) fn second_look(&self, run: &mut Run, scores: &Agreement) -> Result<()> {
        if run.report.round > 0 || run.state.suspects.is_none() || self.decisive(run).is_some() {
            return Ok(());
        }
        run.enter(SECOND_LOOK);
        // It stays in the state: a run that is interrupted here looks again.
        let Some(first) = &run.state.suspects else { return Ok(()) };
        let (report, predictions) = (&mut run.report, first.predictions.clone());
        let mut progress = |done, total| report.progress(done, total, None);
        let second =
            find_suspects_again(run.infected, run.images, predictions, &scores.predictions, &mut progress)?;
        let largest = first.index().max(second.index());
        let said = match self.decides(&second) {
            true => SecondLook::Poisoned,
            false
                if largest < self.initial_set.no_sign
                    && !first.has_trigger()
                    && !loses_a_label(first, &second) =>
            {
                SecondLook::NoSign
            }
            false => SecondLook::Undecided,
        };
        run.state.second_look = Some(said);
        if said == SecondLook::Poisoned {
            run.state.suspects = Some(second);
        }
        Ok(())
    }
}

/// Whether the purified model no longer gives a label to images that kept it in all views: a trigger that all images of
/// the label have would be lost so (a clean-label attack).
fn loses_a_label(first: &Suspects, second: &Suspects) -> bool {
    first.labels.iter().zip(&second.labels).any(|(first, second)| first.is_known() && !second.is_known())
}
