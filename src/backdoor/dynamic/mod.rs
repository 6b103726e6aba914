//! Dynamic, the input-aware attack (Nguyen & Tran, NeurIPS 2020): two image networks give every image a
//! trigger of its own, x' = x + (P(x) − x)·m(x). They are trained with the classifier, which also sees
//! images with the trigger of *another* image under their own label, and so learns that only the trigger
//! made for an image counts.
//!
//! | file | |
//! |---|---|
//! | `compose` | the trigger's arithmetic, the losses on it, their gradients |
//! | `job` | the networks and settings of a training, and how far it is |
//! | `train` | the mask phase, then classifier and pattern network together |
//! | `step` | a step of each |
//! | `config` | its numbers |
//! | `stamp` | the trained trigger on u8 images |
//! | `file` | both networks as one safetensors file beside `poison.json` |

pub mod compose;
mod config;
mod file;
mod job;
mod stamp;
mod step;
mod train;

use crate::data::Normalisation;
use crate::engine::graph::Graph;
use crate::error::{Error, Result};
use crate::model::{Generator, GeneratorRole};

pub use config::GeneratorConfig;
pub use job::{Drawn, DynamicCursor, DynamicEvent, DynamicJob, Networks};
pub use train::train_dynamic;

/// A trained trigger: both image networks, for images of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamic {
    /// Rows of the images.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// What is done to images first.
    pub normalisation: Normalisation,
    /// Channels of the networks' first step.
    pub generator_width: usize,
    /// Weights of the network that draws the pattern.
    pub pattern: Vec<f32>,
    /// Weights of the network that says where.
    pub mask: Vec<f32>,
}

impl Dynamic {
    /// Untrained networks, drawn from `seed`.
    ///
    /// # Errors
    /// Images that can't be halved, or networks without channels.
    pub fn initialise(
        size: (usize, usize),
        normalisation: Normalisation,
        generator_width: usize,
        seed: u64,
    ) -> Result<Self> {
        if generator_width == 0 {
            return Err(Error::input("--generator-width 0: the generators would have no channels"));
        }
        let (height, width) = size;
        let mut dynamic =
            Self { height, width, normalisation, generator_width, pattern: vec![], mask: vec![] };
        dynamic.pattern = dynamic.network(GeneratorRole::Pattern)?.initialise(seed);
        dynamic.mask = dynamic.network(GeneratorRole::Mask)?.initialise(seed);
        Ok(dynamic)
    }

    /// Channels of the images.
    pub fn channels(&self) -> usize {
        self.normalisation.channels()
    }

    /// One of the networks.
    pub fn network(&self, role: GeneratorRole) -> Result<Generator> {
        Generator::new(role, self.generator_width, self.height, self.width, self.channels())
    }

    /// It as a graph.
    pub fn graph(&self, role: GeneratorRole) -> Result<Graph> {
        self.network(role)?.graph(&self.normalisation, self.height, self.width)
    }

    /// Refuses weights of another size, and those that are not finite.
    pub fn check(&self) -> Result<()> {
        for (role, weights) in [(GeneratorRole::Pattern, &self.pattern), (GeneratorRole::Mask, &self.mask)] {
            let len = self.network(role)?.layout().len();
            if weights.len() != len {
                return Err(Error::input(format!(
                    "{role:?} network of {} weights, not {len}",
                    weights.len()
                )));
            }
            if weights.iter().any(|weight| !weight.is_finite()) {
                return Err(Error::input(format!("{role:?} network with a weight that is not finite")));
            }
        }
        Ok(())
    }
}
