//! The attack success rate without the trigger, from the suspected images.
//!
//! What the suspected images of a label have in common beside other images is the trigger, where it is one picture,
//! patch or pattern. Put on other images it sends them to the label in the infected model. Where it doesn't (a warp, a
//! trigger of its own for each image, several labels), the suspected images themselves are counted that a model gives
//! their suspicious label: those that a defence doesn't train on.

use serde::{Deserialize, Serialize};

use super::common_change::{CommonChange, sample};
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;
use crate::eval::{LabelSuspects, Suspects, accuracy, predict};

/// A change counts as the trigger where it sends so many images to the label, in per cent.
const WORKS: f64 = 50.0;
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
    /// Of the purified model after an epoch with a hundredth of the suspected images among others.
    #[serde(default)]
    pub relearnt: Option<f64>,
}

/// What an estimate rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimatedFrom {
    /// What the suspected images have in common, put on others.
    CommonChange,
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
        let change = match *targets {
            [target] => Self::common_change(infected, images, suspects, target)?,
            _ => None,
        };
        Ok(change.or_else(|| Self::of_suspects(images, suspects, targets)))
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

    /// A change that sends images to `target`: a patch, else the one that sends the most; none where none works.
    fn common_change(
        infected: &mut Engine,
        images: &ImageSet,
        suspects: &Suspects,
        target: u32,
    ) -> Result<Option<Self>> {
        let label = |i: u32| images.labels[i as usize];
        let ours: Vec<u32> = suspects.images.iter().copied().filter(|&i| label(i) == target).collect();
        let unsuspected = suspects.unsuspected();
        let (same, others): (Vec<u32>, Vec<u32>) = unsuspected.iter().partition(|&&i| label(i) == target);
        let right = |&i: &u32| suspects.predictions[i as usize] == label(i);
        let others: Vec<u32> = others.into_iter().filter(right).collect();
        let tested: Vec<u32> = sample(&others).collect();
        let tested = images.subset(&tested).with_labels(vec![target; tested.len()]);
        // A clean-label attack poisons images of the target alone.
        for background in [&unsuspected, &same] {
            let all = CommonChange::new(images, &ours, background);
            // A patch is the trigger to the pixel. The rest of what the images have in common may help it along, so it
            // counts only where there is no patch.
            for changes in [vec![all.patch()], vec![all.certain(), all]] {
                let mut best: Option<(f64, Self)> = None;
                for change in changes {
                    let triggered = change.put_on(tested.clone());
                    let rate = given(infected, &triggered)?;
                    if rate >= WORKS && best.as_ref().is_none_or(|(most, _)| *most < rate) {
                        let (from, shift) = (EstimatedFrom::CommonChange, change.shift());
                        best = Some((rate, Self { from, shift, triggered, clean: None }));
                    }
                }
                if let Some((_, probe)) = best {
                    return Ok(Some(probe));
                }
            }
        }
        Ok(None)
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
        let clean = images.subset(&sample(&others).collect::<Vec<u32>>());
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
        let label =
            LabelSuspects { labelled: 4, images: 4, suspected: 2, consistent: 2, consistent_suspected };
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
