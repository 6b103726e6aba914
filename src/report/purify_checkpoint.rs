//! What the checkpoint of a purification holds, and how it becomes the state of a run again.

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, save};
use super::{RoundResult, RunFolder};
use crate::defense::RunState;
use crate::error::{Error, Result};
use crate::eval::{LabelSuspects, Metrics, Suspects};

/// What a checkpoint holds beside arrays.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CheckpointMeta {
    state: RunState,
    /// Rounds begun so far.
    pub rounds: Vec<RoundResult>,
    /// The infected model's metrics.
    pub before: Option<Metrics>,
    /// The suspected images by label, where they have been looked for.
    suspects: Option<Vec<LabelSuspects>>,
}

/// [`CheckpointMeta`], as it is written: serde leaves the arrays of the state out.
#[derive(Serialize)]
struct Written<'a> {
    state: &'a RunState,
    rounds: &'a [RoundResult],
    before: Option<&'a Metrics>,
    suspects: Option<&'a Vec<LabelSuspects>>,
}

/// How large a run's arrays are.
#[derive(Clone, Copy, Debug)]
pub struct RunSizes {
    /// Training images.
    pub images: usize,
    /// Their classes.
    pub classes: usize,
    /// Weights of the model.
    pub weights: usize,
    /// Those that are trained.
    pub trainable: usize,
}

impl CheckpointMeta {
    /// Writes the checkpoint of a run that is at `state`.
    ///
    /// # Errors
    /// As [`save`].
    pub fn store(&self, folder: &RunFolder, state: &RunState) -> Result<()> {
        let suspects = state.suspects.as_ref();
        let labels = suspects.map(|suspects| &suspects.labels);
        save(
            folder,
            &Written { state, rounds: &self.rounds, before: self.before.as_ref(), suspects: labels },
            &[
                ("variables", &state.variables),
                ("start", &state.start),
                ("weights", &state.weights),
                ("momentum", &state.momentum),
                ("average", &state.average),
                ("deviation", suspects.map_or(&[], |suspects| &suspects.deviation)),
            ],
            &[
                ("selected", &state.selected),
                ("suspects", suspects.map_or(&[], |suspects| &suspects.images)),
                ("predictions", suspects.map_or(&[], |suspects| &suspects.predictions)),
            ],
        )
    }

    /// The state that a checkpoint holds.
    ///
    /// # Errors
    /// A checkpoint of another network or other data.
    pub fn restore(
        mut checkpoint: Checkpoint<Self>,
        sizes: RunSizes,
        folder: &RunFolder,
    ) -> Result<(RunState, Self)> {
        let mut state = std::mem::take(&mut checkpoint.meta.state);
        state.selected = checkpoint.take_words("selected");
        state.variables = checkpoint.take_floats("variables");
        state.start = checkpoint.take_floats("start");
        state.weights = checkpoint.take_floats("weights");
        state.momentum = checkpoint.take_floats("momentum");
        state.average = checkpoint.take_floats("average");
        state.suspects = checkpoint.meta.suspects.take().map(|labels| Suspects {
            images: checkpoint.take_words("suspects"),
            deviation: checkpoint.take_floats("deviation"),
            predictions: checkpoint.take_words("predictions"),
            labels,
        });
        match sizes.fit(&state) {
            true => Ok((state, checkpoint.meta)),
            false => Err(Error::file(folder.checkpoint(), "holds another run")),
        }
    }
}

impl RunSizes {
    fn fit(&self, state: &RunState) -> bool {
        let &Self { images, classes, weights: all, trainable } = self;
        let within = |list: &[u32], count: usize| list.iter().all(|&index| (index as usize) < count);
        let suspects_fit = state.suspects.as_ref().is_none_or(|suspects| {
            (suspects.deviation.len(), suspects.predictions.len(), suspects.labels.len())
                == (images, images, classes)
                && within(&suspects.images, images)
                && within(&suspects.predictions, classes)
        });
        (state.weights.len(), state.average.len(), state.momentum.len()) == (all, all, trainable)
            && (state.start.len() == all || (state.start.is_empty() && state.cursor.step == 0))
            && within(&state.selected, images)
            && suspects_fit
    }
}
