//! `--device`: what was asked for, and the device that is.

use std::sync::OnceLock;

use clap::Args;
use pbe::device::cpu::matrix_unit;
use pbe::device::cuda::ptx_dir;
use pbe::device::{Device, DeviceChoice, Precision, is_processor};
use pbe::error::{Error, Result};

use super::progress::log;

/// `--threads`.
static THREADS: OnceLock<usize> = OnceLock::new();

/// Reads images and computes in so many threads.
///
/// # Errors
/// The operating system refuses them.
pub fn set_threads(threads: u16) -> Result<()> {
    let count = *THREADS.get_or_init(|| threads.into());
    // Images are read in rayon's own pool.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build_global();
    pool.map_err(|cause| Error::run(format!("can't start the threads: {cause}")))
}

/// Options of every command that computes.
#[derive(Args, Clone, Debug)]
pub struct ComputeArgs {
    /// Where to compute: auto, cpu, cuda or cuda:N
    ///
    /// `auto` takes a CUDA device if there is one, and says what it chose.
    #[arg(long, value_name = "DEVICE", default_value = "auto", help_heading = "Computing")]
    pub device: DeviceChoice,
    /// What convolutions multiply: bf16 or f32 [default: bf16 on a CUDA device, else f32]
    ///
    /// bf16 is for a CUDA device's tensor cores and a processor's matrix unit (AMX, AVX-512 BF16); sums stay f32.
    #[arg(long, help_heading = "Computing")]
    pub precision: Option<Precision>,
    /// Decides everything random [default: 0]
    ///
    /// The same seed gives the same result, to the bit.
    #[arg(long, help_heading = "Computing", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// Print the result as one JSON object, and nothing else, on stdout
    #[arg(long, help_heading = "Computing")]
    pub json: bool,
}

impl ComputeArgs {
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// The device that was asked for; says which it is, in which precision, and why.
    ///
    /// # Errors
    /// `cuda` that can't be had, with the reason: nothing takes its place.
    pub fn open(&self) -> Result<Box<dyn Device>> {
        let (device, chosen) = self.device.open(self.precision, THREADS.get().copied())?;
        if let Some(folder) = ptx_dir().filter(|_| !is_processor(&device.kind())) {
            log(&format!("kernels: read from {} (PBE_PTX_DIR)", folder.display()));
        }
        log(&format!("device: {} ({chosen}; {})", device.describe(), self.why(device.precision())));
        Ok(device)
    }

    /// The precision on a CUDA device.
    pub fn cuda_precision(&self) -> Precision {
        self.precision.unwrap_or(Precision::Bf16)
    }

    /// Why a device computes in this precision.
    pub fn why(&self, precision: Precision) -> String {
        match (self.precision, precision) {
            (Some(_), _) => format!("{precision}: asked for"),
            (None, Precision::Bf16) => "bf16: the fast one on a GPU; --precision f32 is the other".into(),
            (None, Precision::F32) => match matrix_unit() {
                Some(unit) => format!("f32: the default on a processor; --precision bf16 uses {unit}"),
                None => "f32: what this processor computes in".into(),
            },
        }
    }
}
