//! A model file, checked against the data set and opened on the device.

use std::path::{Path, PathBuf};

use pbe::data::{Dataset, Normalisation};
use pbe::device::Device;
use pbe::engine::graph::Graph;
use pbe::engine::{Engine, EngineOptions};
use pbe::error::{Error, Result};
use pbe::model::{Weights, load};

/// A model as it is in a file.
pub struct Model {
    path: PathBuf,
    pub weights: Weights,
}

/// A network for images of one set.
pub struct Network {
    pub graph: Graph,
    pub weights: Weights,
    pub normalisation: Normalisation,
}

impl Model {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), weights: load(path)? })
    }

    /// Number of input channels.
    pub fn channels(&self) -> Option<usize> {
        Some(self.weights.architecture.channels)
    }

    /// Input size, if the file says it.
    pub fn size(&self) -> Option<(usize, usize)> {
        self.weights.input_size
    }

    /// The network for `set`, which was read from `data`. The normalisation is `given`, else the
    /// file's, else the usual one of the set.
    ///
    /// # Errors
    /// Another number of classes, naming both files; a normalisation for other channels.
    pub fn fit(self, set: &Dataset, data: &Path, given: Option<&Normalisation>) -> Result<Network> {
        let (own, theirs) = (self.weights.architecture.classes, set.train.classes.len());
        if own != theirs {
            let cause =
                format!("the model has {own} classes, but the data in {} has {theirs}", data.display());
            return Err(Error::file(&self.path, cause));
        }
        let normalisation = given.or(self.weights.normalisation.as_ref()).unwrap_or(&set.normalisation);
        let normalisation = normalisation.clone();
        let (height, width) = (set.train.height, set.train.width);
        let graph = self.weights.architecture.graph(&normalisation, height, width)?;
        let mut weights = self.weights;
        weights.normalisation = Some(normalisation.clone());
        weights.input_size = Some((height, width));
        Ok(Network { graph, weights, normalisation })
    }
}

impl Network {
    /// Opens it on `device`.
    pub fn open(&self, device: &dyn Device, options: &EngineOptions) -> Result<Engine> {
        Engine::open(device, &self.graph, &self.weights.values, options)
    }

    /// The same network with other numbers, for saving.
    pub fn with_values(&self, values: Vec<f32>) -> Weights {
        let mut weights = self.weights.clone();
        weights.values = values;
        weights
    }
}
