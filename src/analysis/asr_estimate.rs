//! The attack success rate without the trigger, from the suspected images.
//!
//! What the suspected images of a label have in common beside other images is the trigger, where it is one picture,
//! patch or pattern. Put on other images it sends them to the label in the infected model. Where it doesn't (a warp, a
//! trigger of its own for each image, several labels), the suspected images that no defence trains on are counted:
//! how many of them still get their label.

use serde::{Deserialize, Serialize};

use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;
use crate::eval::{LabelSuspects, Suspects, WorkingTrigger, accuracy, evenly_sampled, predict};

/// Suspected images that would be clean, as a share of them; with more there is no estimate.
const MAX_CLEAN: f64 = 0.5;

/// An attack success rate without a trigger, in per cent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AsrEstimate {
    pub from: EstimatedFrom,
    /// Images that it was measured on.
    pub images: u64,
    /// Of the infected model.
    pub before: f64,
    /// Of the purified model.
    pub after: f64,
    /// Of the purified model after it was retrained for an epoch, with 1 % of the suspected images among others.
    #[serde(default)]
    pub relearnt: Option<f64>,
}

/// What an estimate rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimatedFrom {
    /// A trigger reconstructed from the suspected images, put on others.
    ReconstructedTrigger,
    /// The suspected images.
    Suspects,
}

/// What a model's attack success rate is estimated with.
pub struct AsrProbe {
    /// Which kind it is.
    pub from: EstimatedFrom,
    /// The change of each byte, in grey levels; empty where the suspected images are counted.
    pub shift: Vec<f64>,
    /// Images with a trigger, under the attacker's label.
    triggered: ImageSet,
    /// Clean images of the same labels, and their share among `triggered`: the suspected images that are clean.
    clean: Option<(ImageSet, f64)>,
}

impl AsrProbe {
    /// A probe for the attacker's labels `targets`; none where most suspected images of them seem to be clean.
    pub fn new(
        infected: &mut Engine,
        images: &ImageSet,
        suspects: &Suspects,
        targets: &[u32],
    ) -> Result<Option<Self>> {
        let found = match *targets {
            [target] => WorkingTrigger::find(infected, images, suspects, target)?,
            _ => None,
        };
        let probe = found.map(|found| Self {
            from: EstimatedFrom::ReconstructedTrigger,
            shift: found.trigger.shift(),
            triggered: found.triggered,
            clean: None,
        });
        Ok(probe.or_else(|| Self::of_suspects(images, suspects, targets)))
    }

    /// Images that a rate is measured on.
    pub fn images(&self) -> u64 {
        self.triggered.len() as u64
    }

    /// The attack success rate of a model, in per cent.
    pub fn rate(&self, engine: &mut Engine) -> Result<f64> {
        let given = given(engine, &self.triggered)?;
        let Some((clean, share)) = &self.clean else { return Ok(given) };
        let rate = (given - share * self::given(engine, clean)?) / (1.0 - share);
        Ok(rate.clamp(0.0, 100.0))
    }

    fn of_suspects(images: &ImageSet, suspects: &Suspects, targets: &[u32]) -> Option<Self> {
        let counted = |i: u32| targets.contains(&images.labels[i as usize]);
        let given = |i: u32| suspects.predictions[i as usize] == images.labels[i as usize];
        let labels = targets.iter().map(|&target| &suspects.labels[target as usize]);
        let clean = labels.clone().map(LabelSuspects::clean_suspected).sum::<f64>();
        let share = clean / labels.map(|label| label.suspected).sum::<u64>().max(1) as f64;
        if share > MAX_CLEAN {
            return None;
        }
        let mut ours = suspects.held_out();
        ours.retain(|&i| counted(i));
        let mut others = suspects.unsuspected();
        others.retain(|&i| counted(i) && given(i));
        let clean = images.subset(&evenly_sampled(&others).collect::<Vec<u32>>());
        let from = EstimatedFrom::Suspects;
        Some(Self { from, shift: vec![], triggered: images.subset(&ours), clean: Some((clean, share)) })
    }
}

/// Images that the model gives their label, in per cent.
fn given(engine: &mut Engine, images: &ImageSet) -> Result<f64> {
    Ok(accuracy(&predict(engine, images)?, &images.labels).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects(consistent_suspected: u64) -> Suspects {
        let label = LabelSuspects {
            labelled: 4,
            images: 4,
            suspected: 2,
            consistent: 2,
            consistent_suspected,
            probe: None,
        };
        Suspects {
            images: vec![2, 0],
            deviation: vec![1.0, 0.0, 1.0, 0.0],
            predictions: vec![1; 4],
            labels: vec![LabelSuspects::default(), label],
        }
    }

    #[test]
    fn the_suspected_images_that_are_clean_are_not_counted() {
        let images = ImageSet::noise(4, 1, 1, 1).with_labels(vec![1; 4]);
        let probe = AsrProbe::of_suspects(&images, &suspects(0), &[1]).unwrap();
        assert_eq!((probe.images(), probe.triggered.names.to_vec()), (1, vec!["2".to_string()]));
        let (clean, share) = probe.clean.unwrap();
        assert_eq!((clean.names.to_vec(), share), (vec!["1".to_string(), "3".into()], 0.0));
        assert!(AsrProbe::of_suspects(&images, &suspects(1), &[1]).is_none(), "all seem to be clean");
    }
}
