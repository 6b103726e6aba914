//! Options that several commands share, and how results are printed.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use pbe::data::{
    ClassOrder, Dataset, Format, ImageSet, LoadOptions, Normalisation, NormalisationChoice, SampleSize,
    is_unlabelled, load_unlabelled, stratified_sample,
};
use pbe::device::Precision;
use pbe::error::{Error, Result};
use pbe::report::{Begin, COMMIT, RunFolder, RunResult, comparison, findings};
use serde::Serialize;

use super::progress::Progress;

/// `--no-cache`.
static NO_CACHE: AtomicBool = AtomicBool::new(false);

/// Reads every image from its file, and keeps none in the cache.
pub fn without_cache() {
    NO_CACHE.store(true, Ordering::Relaxed);
}

/// The data set.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// Data set: a folder (train/<class>/*, test/<class>/*), CIFAR or IDX files, or `synthetic:`
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    #[command(flatten)]
    pub read: ReadArgs,
}

/// How images are read.
#[derive(Args, Clone, Debug, Default)]
pub struct ReadArgs {
    /// Format of the data [default: recognised]: folder, cifar10, cifar100, gtsrb, idx,
    /// synthetic
    #[arg(long)]
    pub format: Option<Format>,
    /// Use only N training images, class proportions kept
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// The seed that `--limit` draws with, where it isn't the run's.
    #[arg(skip)]
    pub limit_seed: Option<u64>,
    /// Skip files that can't be decoded
    #[arg(long)]
    pub skip_bad: bool,
    /// Class names by label: one a line, or JSON [default: the order that fits the model, else text order]
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// Class names by label, of a configuration.
    #[arg(skip)]
    pub class_names: Option<Vec<String>>,
    /// Resize images to this many pixels square [default: the model's size, else their own]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
}

/// How a model is read and fed.
#[derive(Args, Clone, Debug, Default)]
pub struct ModelArgs {
    /// Input normalisation: mean,mean,mean/std,std,std in units of [0, 1], or identity, cifar10, cifar10-kuangliu,
    /// cifar100, gtsrb, tiny-imagenet, imagenet, half, mnist, fashion-mnist [default: the model file's, else the one
    /// that fits]
    #[arg(long, value_name = "MEAN/STD")]
    pub normalisation: Option<NormalisationChoice>,
    /// Whether a configuration says the normalisation, and no option.
    #[arg(skip)]
    pub of_config: bool,
    /// Which weights of a file with several, by their key: state_dict_ema, net
    #[arg(long, value_name = "KEY")]
    pub weights: Option<String>,
}

impl ModelArgs {
    /// What gives the normalisation, where something does.
    pub fn normalisation_from(&self) -> &'static str {
        if self.of_config { "config" } else { "option" }
    }
}

/// The folder of a run.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Folder of the run
    ///
    /// It gets config.toml, model.safetensors, result.json, metrics.csv and more.
    #[arg(long, value_name = "DIR", required_unless_present = "resume", help_heading = "Run")]
    output: Option<PathBuf>,
    /// Go on with the interrupted run in this folder; nothing else is needed
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "force"], help_heading = "Run")]
    resume: Option<PathBuf>,
    /// Replace the run in the output folder
    #[arg(long, help_heading = "Run")]
    force: bool,
}

impl RunArgs {
    /// The run of this folder: one that has begun there goes on.
    pub fn at(folder: &Path) -> Self {
        let begun = RunFolder::settings(folder).is_ok();
        let [output, resume] = [!begun, begun].map(|wanted| wanted.then(|| folder.to_path_buf()));
        Self { output, resume, force: false }
    }

    /// The folder of the run.
    pub fn folder(&self) -> &Path {
        self.resume.as_deref().or(self.output.as_deref()).unwrap_or(Path::new(""))
    }

    /// How the run takes its folder.
    pub fn begin(&self) -> Begin {
        if self.resume.is_some() { Begin::Resume } else { begin(self.force) }
    }

    /// The settings of the run that is resumed.
    ///
    /// # Errors
    /// There is no run in the folder.
    pub fn resumed(&self) -> Result<Option<PathBuf>> {
        self.resume.as_deref().map(RunFolder::settings).transpose()
    }
}

/// How a command that nothing interrupts takes its folder.
pub fn begin(force: bool) -> Begin {
    if force { Begin::Replace } else { Begin::New }
}

/// Digests of what a run depends on beside its settings, by name.
pub type Digests = BTreeMap<&'static str, String>;

/// A data set and which of its training images are used.
pub struct Loaded {
    /// With all training images.
    pub set: Dataset,
    /// The training images that `--limit` takes, ascending; none for all.
    pub taken: Option<Vec<u32>>,
}

impl Loaded {
    /// The images of a (possibly poisoned) training set that `--limit` takes.
    pub fn limited(&self, images: ImageSet) -> ImageSet {
        match &self.taken {
            Some(taken) => images.subset(taken),
            None => images,
        }
    }
}

impl DataArgs {
    /// Reads the set for a network with `channels` input channels and of this input size, where known.
    ///
    /// All training images are read even under `--limit`, since `poison.json` counts them all.
    pub fn load(
        &self,
        size: Option<(usize, usize)>,
        channels: Option<usize>,
        seed: u64,
        progress: &Progress,
    ) -> Result<Loaded> {
        self.load_by(pbe::data::load, size, channels, seed, progress)
    }

    /// As [`DataArgs::load`], for a command that needs no labels: a flat folder of images has none.
    pub fn load_any(
        &self,
        size: Option<(usize, usize)>,
        channels: Option<usize>,
        seed: u64,
        progress: &Progress,
    ) -> Result<Loaded> {
        let flat = matches!(self.read.format, None | Some(Format::Folder)) && is_unlabelled(&self.data);
        let load = if flat { load_unlabelled } else { pbe::data::load };
        self.load_by(load, size, channels, seed, progress)
    }

    fn load_by(
        &self,
        load: fn(&Path, &LoadOptions, pbe::data::ProgressFn) -> Result<Dataset>,
        size: Option<(usize, usize)>,
        channels: Option<usize>,
        seed: u64,
        progress: &Progress,
    ) -> Result<Loaded> {
        let options = self.read.options(size, channels)?;
        let label = format!("reading {}", self.data.display());
        let mut set = load(&self.data, &options, &|done, total| {
            progress.show(&label, done, total, None);
        })?;
        progress.clear();
        log_skipped(&set.skipped, progress);
        self.read.order(&mut set)?;
        let seed = self.read.limit_seed.unwrap_or(seed);
        let take = |limit: &usize| stratified_sample(&set.train.labels, SampleSize::Count(*limit), seed).0;
        let taken = self.read.limit.as_ref().map(take);
        Ok(Loaded { set, taken })
    }
}

impl ReadArgs {
    /// Counts the labels of the set as `--classes` or a configuration says.
    pub fn order(&self, set: &mut Dataset) -> Result<()> {
        let order = match (&self.classes, &self.class_names) {
            (Some(path), _) => ClassOrder::read(path, &set.train.classes)?,
            (None, Some(names)) => {
                ClassOrder::listed("data.classes".as_ref(), names.clone(), &set.train.classes)?
            }
            (None, None) => return Ok(()),
        };
        set.set_order(order);
        Ok(())
    }

    /// For the loader, without the limit.
    pub fn options(&self, size: Option<(usize, usize)>, channels: Option<usize>) -> Result<LoadOptions> {
        if self.limit == Some(0) {
            return Err(Error::input("--limit 0: no training image would be left"));
        }
        let size = self.size.map(|side| (side, side)).or(size);
        Ok(LoadOptions {
            format: self.format,
            size,
            channels,
            skip_bad: self.skip_bad,
            cache: !NO_CACHE.load(Ordering::Relaxed),
            ..LoadOptions::default()
        })
    }
}

/// Logs the files that were skipped, at most ten by name.
pub fn log_skipped(skipped: &[String], progress: &Progress) {
    for file in skipped.iter().take(10) {
        progress.log(&format!("skipped: {file}"));
    }
    if !skipped.is_empty() {
        progress.log(&format!("skipped {} files that can't be decoded", skipped.len()));
    }
}

/// Program, device and seed, as config.toml has them.
#[derive(Serialize)]
pub struct Provenance {
    version: &'static str,
    commit: &'static str,
    device: String,
    precision: String,
    seed: u64,
}

impl Provenance {
    /// `device` is its [`kind`](pbe::device::Device::kind).
    pub fn new(device: String, precision: Precision, seed: u64) -> Self {
        let precision = precision.to_string();
        Self { version: env!("CARGO_PKG_VERSION"), commit: COMMIT, device, precision, seed }
    }
}

/// The data set, as config.toml has it.
#[derive(Serialize)]
pub struct DataConfig {
    path: PathBuf,
    format: String,
    limit: Option<usize>,
    limit_seed: Option<u64>,
    skip_bad: bool,
    height: usize,
    width: usize,
    normalisation: String,
    /// By label, where it isn't text order.
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<String>>,
}

impl DataConfig {
    pub fn new(args: &DataArgs, set: &Dataset, normalisation: &Normalisation) -> Self {
        Self {
            path: args.data.clone(),
            format: set.format.to_string(),
            limit: args.read.limit,
            limit_seed: args.read.limit_seed,
            skip_bad: args.read.skip_bad,
            height: set.train.height,
            width: set.train.width,
            normalisation: normalisation.to_string(),
            classes: (!is_usual(set)).then(|| set.train.classes.to_vec()),
        }
    }
}

/// Whether the classes are counted as they are without a model and an option.
fn is_usual(set: &Dataset) -> bool {
    set.format != Format::Folder || set.train.classes.is_sorted()
}

/// Prints the result: the final table, or JSON.
pub fn print_result(result: &RunResult, json: bool) -> Result<()> {
    if json {
        return print(&result.to_json()?);
    }
    let sentences: String = findings(result).iter().map(|sentence| format!("\n{sentence}")).collect();
    print(&format!("{}{sentences}{}", comparison(result), if sentences.is_empty() { "" } else { "\n" }))
}

/// Prints text; a closed pipe is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != ErrorKind::BrokenPipe => {
            Err(Error::run(format!("standard output: {cause}")))
        }
        _ => Ok(()),
    }
}

/// Bytes as text.
pub fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Removes a file if it exists.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(Error::write(path, cause)),
        _ => Ok(()),
    }
}
