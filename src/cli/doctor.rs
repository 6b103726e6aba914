//! `pbe doctor`: what this machine offers, and the memory a run would need.

use std::path::PathBuf;

use clap::Args;
use pbe::data::{Dataset, ImageSet, LARGEST_CACHE, LARGEST_SIDE, cache};
use pbe::defense::{Defense, Facts, Pbe};
use pbe::device::Device;
use pbe::device::cpu::matrix_unit;
use pbe::device::cuda::{CudaDevice, ptx_dir};
use pbe::error::{Error, Result};
use pbe::memory;
use pbe::model::{Architecture, NetworkKind, Weights};
use serde::Serialize;

use super::common::{DataArgs, ModelArgs, ReadArgs, megabytes, print};
use super::device::ComputeArgs;
use super::memory::ImageBytes;
use super::open::{Model, Network};
use super::progress::Progress;
use super::purify::memory_estimate;

/// Options of `pbe doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Model of the run; else --width
    #[arg(long, value_name = "FILE", conflicts_with_all = ["width", "classes"])]
    model: Option<PathBuf>,
    /// Data of the run; else --size
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Width of the pre-activation ResNet-18
    #[arg(long)]
    width: Option<usize>,
    /// Classes
    #[arg(long, default_value_t = 10)]
    classes: usize,
    /// Side of the images in pixels [default: the data's, or 32]
    #[arg(long)]
    size: Option<usize>,
    /// ImageBytes of a training step
    #[arg(long, default_value_t = 128)]
    batch: usize,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// What is printed with `--json`. Bytes.
#[derive(Serialize)]
struct Report {
    schema: u32,
    command: &'static str,
    version: &'static str,
    commit: &'static str,
    device: String,
    precision: String,
    /// Why it is this one.
    precision_reason: String,
    threads: usize,
    /// What multiplies bf16 on the processor; none where it has no such unit.
    matrix_unit: Option<&'static str>,
    cuda: Cuda,
    memory_total: Option<u64>,
    /// A control group's, a container's; none where it isn't below the machine's.
    memory_limit: Option<u64>,
    memory_available: Option<u64>,
    /// Of decoded images; none where there is no place for it.
    image_cache: Option<ImageCache>,
    run: Option<RunNeed>,
}

#[derive(Serialize)]
struct ImageCache {
    folder: PathBuf,
    bytes: u64,
    /// The oldest entries go when there are more.
    most_bytes: u64,
}

/// What there is of CUDA.
#[derive(Serialize)]
struct Cuda {
    /// The newest CUDA version the driver knows.
    driver: Option<String>,
    /// Why there is no device.
    unavailable: Option<String>,
    /// The folder that kernels are read from, `PBE_PTX_DIR`; none where they are the program's own.
    ptx_dir: Option<PathBuf>,
    devices: Vec<CudaInfo>,
}

#[derive(Serialize)]
struct CudaInfo {
    name: String,
    capability: String,
    memory_total: usize,
    memory_free: usize,
    /// Why the kernels can't run on it.
    fault: Option<String>,
}

#[derive(Serialize)]
struct RunNeed {
    /// Its name and sizes.
    network: String,
    /// Bytes of both networks.
    networks: usize,
    /// Bytes.
    images: usize,
    /// Why it doesn't fit into the device.
    fault: Option<String>,
}

impl Cuda {
    fn probe() -> Self {
        let (devices, unavailable) = match CudaDevice::list() {
            Ok(devices) => (devices, None),
            Err(cause) => (vec![], Some(cause.to_string())),
        };
        let info = |device: &pbe::device::DeviceInfo| CudaInfo {
            name: device.name.clone(),
            capability: format!("{}.{}", device.capability.0, device.capability.1),
            memory_total: device.memory.total,
            memory_free: device.memory.free,
            fault: device.fault().map(|cause| cause.to_string()),
        };
        let version = CudaDevice::driver_version().ok();
        let driver = version.map(|version| format!("{}.{}", version / 1000, version % 1000 / 10));
        Self { driver, unavailable, ptx_dir: ptx_dir(), devices: devices.iter().map(info).collect() }
    }

    /// Lines of the report.
    fn words(&self) -> String {
        let driver = self.driver.as_ref().map(|version| format!("driver for CUDA {version}"));
        let line: Vec<String> = driver.into_iter().chain(self.unavailable.clone()).collect();
        let mut text = format!("cuda     {}\n", line.join("; "));
        if let Some(folder) = &self.ptx_dir {
            text += &format!("kernels  read from {} (PBE_PTX_DIR)\n", folder.display());
        }
        for (number, device) in self.devices.iter().enumerate() {
            let CudaInfo { name, capability, memory_total, memory_free, fault } = device;
            let (total, free) = (amount(Some(*memory_total as u64)), amount(Some(*memory_free as u64)));
            text += &format!("{:<9}{name}, {total}, {free} free, ", format!("cuda:{number}"));
            text += &match fault {
                Some(fault) => format!("unusable: {fault}\n"),
                None => format!("compute capability {capability}\n"),
            };
        }
        text
    }
}

/// Runs the command.
pub fn run(args: &DoctorArgs) -> Result<()> {
    let device = args.compute.open()?;
    let report = Report {
        schema: pbe::report::SCHEMA,
        command: "doctor",
        version: env!("CARGO_PKG_VERSION"),
        commit: pbe::report::COMMIT,
        device: device.describe(),
        precision: device.precision().to_string(),
        precision_reason: args.compute.why(device.precision()),
        threads: rayon::current_num_threads(),
        matrix_unit: matrix_unit(),
        cuda: Cuda::probe(),
        memory_total: memory::total(),
        memory_limit: memory::limit(),
        memory_available: memory::available(),
        image_cache: cache().map(|(folder, bytes)| ImageCache { folder, bytes, most_bytes: LARGEST_CACHE }),
        run: need(args, device.as_ref())?,
    };
    if args.compute.json {
        let text = serde_json::to_string_pretty(&report).map_err(Error::run)?;
        return print(&(text + "\n"));
    }
    print(&words(&report))
}

fn words(report: &Report) -> String {
    let mut text = format!("pbe      {} ({})\n", report.version, report.commit);
    text += &format!("device   {}\n", report.device);
    text += &format!("         {}\n", report.precision_reason);
    text += &format!("threads  {}\n", report.threads);
    text += &match report.matrix_unit {
        Some(unit) => format!("matrix   {unit}, for --precision bf16 on the processor\n"),
        None => "matrix   no unit (AMX, AVX-512 BF16): the processor computes in f32\n".into(),
    };
    text += &report.cuda.words();
    let (total, available) = (amount(report.memory_total), amount(report.memory_available));
    let limit = report.memory_limit.map(|limit| format!(", {} for this control group", amount(Some(limit))));
    text += &format!("memory   {total} in all{}, {available} available\n", limit.unwrap_or_default());
    if let Some(ImageCache { folder, bytes, most_bytes }) = &report.image_cache {
        let (held, most) = (amount(Some(*bytes)), amount(Some(*most_bytes)));
        text += &format!(
            "images   decoded ones are kept in {}: {held} of {most}; --no-cache\n",
            folder.display()
        );
    }
    if let Some(need) = &report.run {
        let (networks, images) = (megabytes(need.networks), megabytes(need.images));
        text += &format!("network  {}\n", need.network);
        text += &format!("purify   needs {networks} for two networks and {images} for images\n");
        if let Some(fault) = &need.fault {
            text += &format!("         {fault}\n");
        }
    }
    text
}

/// Gigabytes, for a reader.
fn amount(bytes: Option<u64>) -> String {
    match bytes {
        Some(bytes) => format!("{:.1} GB", bytes as f64 / 1e9),
        None => "unknown".into(),
    }
}

/// The memory of a purification, where a network or data was named.
fn need(args: &DoctorArgs, device: &dyn Device) -> Result<Option<RunNeed>> {
    if args.model.is_none() && args.data.is_none() && args.width.is_none() && args.size.is_none() {
        return Ok(None);
    }
    for (name, value) in [("width", args.width), ("size", args.size), ("batch", Some(args.batch))] {
        if value.is_some_and(|value| !(1..=LARGEST_SIDE).contains(&value)) {
            return Err(Error::input(format!("--{name} is not from 1 to {LARGEST_SIDE}")));
        }
    }
    let model = args.model.as_deref().map(|path| Model::load(path, &ModelArgs::default())).transpose()?;
    let (set, path) = data(args, model.as_ref())?;
    let network = match model {
        Some(model) => {
            let (own, theirs) = (model.weights.architecture.classes, set.train.classes.len());
            if own != theirs {
                let cause =
                    format!("the model has {own} classes, but the data in {} has {theirs}", path.display());
                return Err(Error::input(cause));
            }
            let normalisation = model.weights.normalisation.as_ref().unwrap_or(&set.normalisation).clone();
            model.network(&set, normalisation)?
        }
        None => fresh(args, &set)?,
    };
    let mut pbe = Pbe::defaults(&Facts::new(false))?;
    pbe.trainer.batch = args.batch;
    let (train, test) = (set.train.pixels.len(), set.test.as_ref().map_or(0, |test| test.pixels.len()));
    let made = pbe.images_made(set.train.len(), false) * network.graph.image_len();
    let images = ImageBytes { shared: train + test + made, largest: train.max(test).max(made) };
    let estimate = memory_estimate(device, &network, pbe.engine_options(), images);
    let need = estimate.need()?;
    let fault = estimate.check().err().map(|cause| cause.to_string());
    let Architecture { network: kind, width, classes, .. } = network.weights.architecture;
    let network = format!("{} of width {width}, {classes} classes", kind.name());
    Ok(Some(RunNeed { network, networks: need.networks, images: need.images, fault }))
}

/// The data, or a set with no image in it.
fn data(args: &DoctorArgs, model: Option<&Model>) -> Result<(Dataset, PathBuf)> {
    let (size, channels) = (model.and_then(Model::size), model.and_then(Model::channels));
    if let Some(path) = &args.data {
        let read = ReadArgs { size: args.size, ..ReadArgs::default() };
        let data = DataArgs { data: path.clone(), read };
        return Ok((data.load(size, channels, 0, &Progress::new())?.set, path.clone()));
    }
    let side = args.size.or(size.map(|(height, _)| height)).unwrap_or(32);
    let classes = model.map_or(args.classes, |model| model.weights.architecture.classes);
    let train = ImageSet::noise(0, side, channels.unwrap_or(3), classes);
    Ok((Dataset::of(train), PathBuf::new()))
}

fn fresh(args: &DoctorArgs, set: &Dataset) -> Result<Network> {
    let (classes, channels) = (set.train.classes.len(), set.train.channels);
    let width = args.width.unwrap_or(16);
    let weights = Weights::initialise(
        Architecture { network: NetworkKind::PreActResNet18, width, classes, channels },
        0,
    );
    let graph = weights.architecture.graph(&set.normalisation, set.train.height, set.train.width)?;
    Ok(Network { graph, weights, normalisation: set.normalisation.clone(), told: Default::default() })
}
