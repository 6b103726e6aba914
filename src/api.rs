//! The library in a few calls: [`load_model`], [`load_data`], [`purify`], [`inspect`], [`attack`], [`score`]. The bindings
//! for C and Python are made of these.

use std::path::Path;

use crate::analysis::{Detection, UntargetedAttack};
use crate::data::{Dataset, ImageSet, LoadOptions, NormalisationChoice};
use crate::defense::settings::parse_assignment;
use crate::defense::{DefenseKind, Facts, Observer, Overlay, Recipe, RunInputs, RunState};
use crate::device::{Device, DeviceChoice, Norm, Precision};
use crate::engine::graph::Graph;
use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, Result};
use crate::eval;
use crate::inputs::Meeting;
use crate::model::container::{self, Entry, Metadata};
use crate::model::{Origin, Slot, Weights, load_bytes, load_set, save, to_bytes};
use crate::train::pgd;

/// A classifier. It is fitted to images by [`load_data`] or [`Model::fit`], where its file doesn't say how they are
/// normalised.
#[derive(Clone, Debug)]
pub struct Model {
    weights: Weights,
    origin: Origin,
    /// Its file, for messages.
    path: String,
}

/// A tensor of a state dict, its elements row by row.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Its key.
    pub name: &'a str,
    /// Outermost dimension first.
    pub shape: &'a [usize],
    /// As many as the shape says.
    pub values: &'a [f32],
}

/// Where and how to compute.
#[derive(Clone, Debug)]
pub struct Options {
    /// The device.
    pub device: DeviceChoice,
    /// What convolutions multiply; by default bf16 on a GPU, f32 on the processor.
    pub precision: Option<Precision>,
    /// Threads; by default all of the machine. No result depends on it.
    pub threads: Option<usize>,
    /// Decides everything random.
    pub seed: u64,
    /// Whether a mirrored image shows the same thing.
    pub flip: bool,
    /// Whether the images of [`purify`] are known to be clean; else some of them may be poisoned.
    pub clean: bool,
    /// Settings of [`purify`] that are not the defaults, as for `pbe purify --set`: `rounds.*.clean.epochs=5`.
    pub settings: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Auto,
            precision: None,
            threads: None,
            seed: 0,
            flip: true,
            clean: false,
            settings: vec![],
        }
    }
}

/// Reads a model: safetensors or a PyTorch checkpoint, in which nothing is executed.
///
/// # Errors
/// One line that names the file and the cause, as [`crate::model::load`].
pub fn load_model(path: impl AsRef<Path>) -> Result<Model> {
    let path = path.as_ref();
    let (weights, origin) = load_set(path, None)?;
    Ok(Model { weights, origin, path: path.display().to_string() })
}

/// Reads a data set for `model`, at the size it was trained on, and fits both to each other: the model's normalisation
/// and the order of the classes, where nothing settles them.
///
/// # Errors
/// As [`crate::data::load`]; another number of classes than the model has; a model that is no better than a guess on
/// these images.
pub fn load_data(path: impl AsRef<Path>, model: &mut Model, options: &Options) -> Result<Dataset> {
    let (size, channels) = (model.weights.input_size, Some(model.weights.architecture.channels));
    let read = LoadOptions { size, channels, ..LoadOptions::default() };
    let mut set = crate::data::load(path.as_ref(), &read, &|_, _| ())?;
    model.settle(&mut set, options)?;
    Ok(set)
}

/// Erases what may be planted in `model`, from its training images, or from clean ones where `options.clean` says so.
/// Gives the purified model. `observer` follows the run, and may end it by an error.
///
/// # Errors
/// Images that the model can't take; an unknown setting; too little memory; what the observer returns.
pub fn purify(
    model: &Model,
    images: &ImageSet,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Model> {
    let facts = Facts {
        recipe: Recipe::Default,
        rounds: None,
        clean_set: options.clean,
        images: Some(images.len()),
        side: Some(images.height.min(images.width)),
        allows_flip: options.flip,
    };
    let set = options.settings.iter().map(|text| parse_assignment(text)).collect::<Result<_>>()?;
    let defense = DefenseKind::Pbe.configure(&facts, &Overlay { set, ..Overlay::default() })?.defense;
    let device = options.device()?;
    let training = defense.engine_options();
    let looking = EngineOptions { batch: 0, activation_gradients: !options.clean, ..training };
    let infected = &mut model.open(images, device.as_ref(), &looking)?;
    let purified = &mut model.open(images, device.as_ref(), &training)?;
    let inputs =
        RunInputs { infected, model: purified, images, clean_set: options.clean, seed: options.seed };
    crate::defense::purify(defense.as_ref(), inputs, &mut RunState::default(), observer)?;
    Ok(model.with_values(purified.weights()?))
}

/// Says from its training images whether a model is infected, for which labels, and which images are suspected.
///
/// # Errors
/// Images that the model can't take; too little memory.
pub fn inspect(model: &Model, images: &ImageSet, options: &Options) -> Result<(Detection, eval::Suspects)> {
    let open = EngineOptions { activation_gradients: true, ..EngineOptions::default() };
    let mut engine = model.open(images, options.device()?.as_ref(), &open)?;
    let suspects = eval::find_suspects(&mut engine, images, options.flip, options.seed, &mut |_, _| Ok(()))?;
    Ok((Detection::new(&suspects), suspects))
}

/// Untargeted adversarial examples of `images`: seven PGD steps in the L∞ ball of radius `epsilon`/255 (PBE Eq. 10 to
/// 12), in their order and under their labels.
///
/// # Errors
/// Images that the model can't take; a radius that is none; too little memory.
pub fn attack(model: &Model, images: &ImageSet, epsilon: f32, options: &Options) -> Result<ImageSet> {
    let config = UntargetedAttack { norm: Norm::Linf, epsilon }.config();
    config.check("attack")?;
    let open = EngineOptions { attack: true, ..EngineOptions::default() };
    let mut engine = model.open(images, options.device()?.as_ref(), &open)?;
    let all: Vec<u32> = (0..images.len() as u32).collect();
    Ok(pgd(&mut engine, images, &all, &config, options.seed, &mut |_| Ok(()))?.images)
}

/// How likely each image is clean: the cosine between the logits of the infected model and of the purified one (PBE Eq.
/// 15), -1 to 1.
///
/// # Errors
/// Images that a model can't take; too little memory.
pub fn score(infected: &Model, purified: &Model, images: &ImageSet, options: &Options) -> Result<Vec<f32>> {
    let device = options.device()?;
    let reference =
        eval::logits(&mut infected.open(images, device.as_ref(), &EngineOptions::default())?, images)?;
    let mut engine = purified.open(images, device.as_ref(), &EngineOptions::default())?;
    Ok(eval::agreement(&mut engine, images, &reference, &mut |_| Ok(()))?.cosine)
}

/// The logits that the model gives each image: a row of classes for each.
///
/// # Errors
/// Images that the model can't take; too little memory.
pub fn logits(model: &Model, images: &ImageSet, options: &Options) -> Result<Vec<f32>> {
    eval::logits(&mut model.open(images, options.device()?.as_ref(), &EngineOptions::default())?, images)
}

/// The class that the model gives each image.
///
/// # Errors
/// Images that the model can't take; too little memory.
pub fn predict(model: &Model, images: &ImageSet, options: &Options) -> Result<Vec<u32>> {
    eval::predict(&mut model.open(images, options.device()?.as_ref(), &EngineOptions::default())?, images)
}

impl Model {
    /// A model from the bytes of its file.
    ///
    /// # Errors
    /// As [`load_model`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (weights, origin) = load_bytes(bytes)?;
        Ok(Self { weights, origin, path: "the model".into() })
    }

    /// A model from the tensors of a state dict.
    ///
    /// # Errors
    /// Another number of values than the shape says; else as [`load_model`].
    pub fn from_tensors(tensors: &[Tensor]) -> Result<Self> {
        let bytes = |tensor: &Tensor| tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let bytes: Vec<Vec<u8>> = tensors.iter().map(bytes).collect();
        let mut entries = vec![];
        for (&Tensor { name, shape, values }, bytes) in tensors.iter().zip(&bytes) {
            if shape.iter().try_fold(1usize, |all, &side| all.checked_mul(side)) != Some(values.len()) {
                let text = format!("{name}: {} values for the shape {shape:?}", values.len());
                return Err(Error::input(text));
            }
            entries.push(Entry { name, dtype: safetensors::Dtype::F32, shape, bytes });
        }
        Self::from_bytes(&container::write(&Metadata::new(), &entries))
    }

    /// Its tensors under PyTorch's names, without the counts of batches (`num_batches_tracked`), which nothing reads.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.weights.layout().slots().iter().map(|Slot { tensor, range }| Tensor {
            name: &tensor.name,
            shape: &tensor.shape,
            values: &self.weights.values[range.clone()],
        })
    }

    /// The bytes of a safetensors file of the model, its tensors named as in the file it came from.
    ///
    /// # Errors
    /// A weight that isn't finite.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        to_bytes(&self.weights)
    }

    /// Writes the model as safetensors, atomically.
    ///
    /// # Errors
    /// The file can't be written; a weight that isn't finite.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        save(&self.weights, path)
    }

    /// Network, normalisation, size of its images, and the numbers.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Says how the model's images are normalised, where its file doesn't: `cifar10` and other published names, or
    /// `mean,mean,mean/std,std,std`.
    ///
    /// # Errors
    /// Another name; numbers for other channels.
    pub fn set_normalisation(&mut self, text: &str) -> Result<()> {
        let choice: NormalisationChoice = text.parse()?;
        self.weights.normalisation = Some(choice.resolve(self.weights.architecture.channels)?);
        Ok(())
    }

    /// Settles how labelled images are normalised, where the model's file doesn't say it: the published normalisations
    /// are tried. [`load_data`] does it for a folder.
    ///
    /// # Errors
    /// Images that the model can't take; no normalisation that makes it better than a guess on them.
    pub fn fit(&mut self, images: &ImageSet, options: &Options) -> Result<()> {
        self.settle(&mut Dataset::of(images.clone()), options)
    }

    fn settle(&mut self, set: &mut Dataset, options: &Options) -> Result<()> {
        self.check(&set.train)?;
        let device = options.device()?;
        let meeting = Meeting {
            device: device.as_ref(),
            path: self.path.as_ref(),
            origin: &self.origin,
            weights: &self.weights,
            set,
            labelled: true,
            given: None,
            strict: true,
        };
        let settled = meeting.settle(&mut |_, _| ())?;
        if let Some(order) = settled.order {
            set.set_order(order);
        }
        self.weights.normalisation = Some(settled.normalisation);
        self.weights.input_size = Some((set.train.height, set.train.width));
        Ok(())
    }

    /// Refuses images of other channels or classes.
    fn check(&self, images: &ImageSet) -> Result<()> {
        let own = &self.weights.architecture;
        for (what, own, theirs) in
            [("channels", own.channels, images.channels), ("classes", own.classes, images.classes.len())]
        {
            if own != theirs {
                let text = format!("{}: the model has {own} {what}, but the images have {theirs}", self.path);
                return Err(Error::input(text));
            }
        }
        Ok(())
    }

    fn graph(&self, images: &ImageSet) -> Result<Graph> {
        self.check(images)?;
        let normalisation = self.weights.normalisation.as_ref().ok_or_else(|| {
            Error::input(format!("{}: its normalisation isn't known: `Model::fit` it to images", self.path))
        })?;
        self.weights.architecture.graph(normalisation, images.height, images.width)
    }

    fn open(&self, images: &ImageSet, device: &dyn Device, options: &EngineOptions) -> Result<Engine> {
        Engine::open(device, &self.graph(images)?, &self.weights.values, options)
    }

    /// The same network with other numbers.
    fn with_values(&self, values: Vec<f32>) -> Self {
        let mut model = Self { origin: Origin::default(), ..self.clone() };
        model.weights.values = values;
        model
    }
}

impl Options {
    fn device(&self) -> Result<Box<dyn Device>> {
        Ok(self.device.open(self.precision, self.threads)?.0)
    }
}
