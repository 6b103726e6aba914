//! A joint training: its networks, its settings, how far it is.

use serde::{Deserialize, Serialize};

use super::config::GeneratorConfig;
use crate::backdoor::{InfectConfig, LabelMode};
use crate::data::ImageSet;
use crate::engine::{Engine, ImageEngine};
use crate::error::Result;
use crate::train::TrainCursor;

/// The three networks, trained together; all opened for a batch.
pub struct Networks {
    /// Opened with `external_inputs`.
    pub classifier: Engine,
    /// Makes the pattern.
    pub pattern: ImageEngine,
    /// Makes the mask.
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

/// A joint training of the three networks.
pub struct DynamicJob<'a> {
    /// The training images, clean.
    pub images: &'a ImageSet,
    /// The label that triggered images get.
    pub label: LabelMode,
    /// Draws the images of an epoch that get a trigger.
    pub draw: &'a dyn Fn(u32) -> Result<Drawn>,
    /// How the classifier is trained.
    pub classifier: &'a InfectConfig,
    /// How the generators are trained.
    pub generators: &'a GeneratorConfig,
    /// Decides shuffles, crops and partners.
    pub seed: u64,
}

/// The step that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DynamicCursor {
    /// Steps of the mask phase that are done.
    pub mask_step: usize,
    /// Steps of the pattern network that are done.
    pub pattern_step: u32,
    /// The classifier's.
    pub classifier: TrainCursor,
}

/// A batch that is finished.
pub struct DynamicEvent<'a> {
    /// The step that comes next.
    pub cursor: &'a DynamicCursor,
    /// Batches of an epoch.
    pub batches: usize,
    /// Whether the batch was the mask phase's.
    pub mask: bool,
    /// Loss of the batch: the classifier's, or the mask network's.
    pub loss: f64,
    /// Whether the batch ended an epoch.
    pub epoch_done: bool,
}

/// Called after every batch; its error ends the training.
pub type OnStep<'a> = &'a mut dyn FnMut(&mut Networks, &DynamicEvent) -> Result<()>;
