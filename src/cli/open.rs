//! A model file, brought together with the data set and opened on the device.

use std::path::{Path, PathBuf};

use pbe::data::{Dataset, Normalisation};
use pbe::device::Device;
use pbe::engine::graph::Graph;
use pbe::engine::{Engine, EngineOptions};
use pbe::error::{Error, Result};
use pbe::inputs::{DataInputs, Inputs, Meeting, ModelInputs, Settled};
use pbe::model::{Origin, Weights, load_set};

use super::common::ModelArgs;
use super::progress::Progress;

/// A model as it is in a file.
pub struct Model {
    path: PathBuf,
    pub weights: Weights,
    origin: Origin,
}

/// A network for images of one set.
pub struct Network {
    pub graph: Graph,
    pub weights: Weights,
    pub normalisation: Normalisation,
    /// What is said about it.
    pub told: ModelInputs,
}

/// What a model is fitted with.
pub struct Fitting<'a> {
    pub device: &'a dyn Device,
    /// Where the data is from.
    pub data: &'a Path,
    pub args: &'a ModelArgs,
    /// Whether a model that can't be made better than a guess is refused.
    pub strict: bool,
    pub progress: &'a Progress,
}

impl Fitting<'_> {
    /// Fits a model, and one that it is compared with, to `set`; says what was read.
    pub fn fit_both(
        &self,
        set: &mut Dataset,
        model: Model,
        other: Option<Model>,
    ) -> Result<(Network, Option<Network>, Inputs)> {
        let network = model.fit(set, self)?;
        let other = other.map(|other| other.fit(set, self)).transpose()?;
        let models: Vec<_> = std::iter::once(&network).chain(&other).map(|it| &it.told).collect();
        let inputs = tell(self.data, set, &models, self.progress);
        Ok((network, other, inputs))
    }
}

impl Model {
    /// Reads the file.
    pub fn load(path: &Path, args: &ModelArgs) -> Result<Self> {
        let (weights, origin) = load_set(path, args.weights.as_deref())?;
        Ok(Self { path: path.to_path_buf(), weights, origin })
    }

    /// Number of input channels.
    pub fn channels(&self) -> Option<usize> {
        Some(self.weights.architecture.channels)
    }

    /// Input size, if the file says it.
    pub fn size(&self) -> Option<(usize, usize)> {
        self.weights.input_size
    }

    /// The network for `set`, whose labels are then counted as the model does.
    ///
    /// # Errors
    /// Another number of classes, naming both files; a normalisation for other channels; what [`Meeting::settle`]
    /// refuses.
    pub fn fit(self, set: &mut Dataset, with: &Fitting) -> Result<Network> {
        let (own, theirs) = (self.weights.architecture.classes, set.train.classes.len());
        let labelled = !set.orders.is_empty();
        if own != theirs && labelled {
            let data = with.data.display();
            let cause = format!("the model has {own} classes, but the data in {data} has {theirs}");
            return Err(Error::file(&self.path, cause));
        }
        let channels = self.weights.architecture.channels;
        let given = with.args.normalisation.as_ref().map(|given| given.resolve(channels)).transpose()?;
        let meeting = Meeting {
            device: with.device,
            path: &self.path,
            origin: &self.origin,
            weights: &self.weights,
            set,
            labelled,
            given: given.as_ref().map(|given| (given, with.args.normalisation_from())),
            strict: with.strict,
        };
        let label = format!("fitting the inputs of {}", self.path.display());
        let Settled { normalisation, order, told } =
            meeting.settle(&mut |done, total| with.progress.show(&label, done, total, None))?;
        with.progress.clear();
        if let Some(order) = order {
            set.set_order(order);
        }
        Ok(Network { told, ..self.network(set, normalisation)? })
    }

    /// The network for `set` with this normalisation.
    pub fn network(self, set: &Dataset, normalisation: Normalisation) -> Result<Network> {
        let (height, width) = (set.train.height, set.train.width);
        let graph = self.weights.architecture.graph(&normalisation, height, width)?;
        let mut weights = self.weights;
        weights.normalisation = Some(normalisation.clone());
        weights.input_size = Some((height, width));
        Ok(Network { graph, weights, normalisation, told: ModelInputs::default() })
    }
}

/// Says what was read, in two lines and what may be wrong; what `result.json` has.
pub fn tell(data: &Path, set: &Dataset, models: &[&ModelInputs], progress: &Progress) -> Inputs {
    let data = DataInputs::new(data, set);
    progress.log(&data.to_string());
    for model in models {
        progress.log(&model.to_string());
        model.warnings.iter().for_each(|warning| progress.log(&format!("warning: {warning}")));
    }
    Inputs { data: Some(data), models: models.iter().map(|&model| model.clone()).collect() }
}

impl Network {
    /// Opens it on `device`.
    pub fn open(&self, device: &dyn Device, options: &EngineOptions) -> Result<Engine> {
        let engine = Engine::open(device, &self.graph, &self.weights.values, options)?;
        Ok(engine.named(&self.told.path))
    }

    /// The same network with other numbers, for saving.
    pub fn with_values(&self, values: Vec<f32>) -> Weights {
        let mut weights = self.weights.clone();
        weights.values = values;
        weights
    }
}
