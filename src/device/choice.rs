//! Which device a user asks for, and the one that there is.

use std::fmt;
use std::str::FromStr;

use super::cpu::CpuDevice;
use super::cuda::{CudaDevice, Unavailable};
use super::{Device, Precision};
use crate::error::{Error, Result};

/// Where to compute: `auto`, `cpu`, `cuda`, `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device, or else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => return Ok(DeviceChoice::Auto),
            "cpu" => return Ok(DeviceChoice::Cpu),
            "cuda" => return Ok(DeviceChoice::Cuda(0)),
            _ => {}
        }
        let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        number.map(DeviceChoice::Cuda).ok_or_else(|| "it is one of auto, cpu, cuda, cuda:N".into())
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device, and says why it is this one. `precision` is by default bf16 on a CUDA device, f32 on the
    /// processor; `threads` by default all of the machine.
    ///
    /// # Errors
    /// A CUDA device that can't be had, with the reason: nothing takes its place. Kernels of `PBE_PTX_DIR` that can't be
    /// read. bf16 on a processor without a matrix unit.
    pub fn open(
        self,
        precision: Option<Precision>,
        threads: Option<usize>,
    ) -> Result<(Box<dyn Device>, String)> {
        let processor = || -> Result<Box<dyn Device>> {
            Ok(Box::new(match precision {
                Some(Precision::Bf16) => CpuDevice::bf16(threads)?,
                _ => CpuDevice::new(threads)?,
            }))
        };
        let cuda = |number| cuda(number, precision.unwrap_or(Precision::Bf16));
        match self {
            DeviceChoice::Cpu => Ok((processor()?, "asked for".into())),
            DeviceChoice::Cuda(number) => match cuda(number) {
                Ok(device) => Ok((Box::new(device), "asked for".into())),
                Err(cause) => Err(Error::input(format!("device {self}: {cause}"))),
            },
            DeviceChoice::Auto => match cuda(0) {
                Ok(device) => Ok((Box::new(device), "chosen: the first CUDA device".into())),
                Err(cause @ Unavailable::Ptx(_)) => Err(Error::input(cause)),
                Err(cause) => Ok((processor()?, format!("chosen: {cause}"))),
            },
        }
    }
}

/// A device that the driver has compiled the kernels for: one that refuses them is none.
fn cuda(number: usize, precision: Precision) -> std::result::Result<CudaDevice, Unavailable> {
    let device = CudaDevice::open(number, precision)?;
    device.compile()?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:12", DeviceChoice::Cuda(12)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda1", "CPU"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap_err(), "it is one of auto, cpu, cuda, cuda:N");
        }
    }
}
