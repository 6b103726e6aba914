//! The CUDA device: kernels written for it, launched through the driver.
//!
//! | file | |
//! |---|---|
//! | `availability` | whether there is a device, and why not |

#![allow(unsafe_code)]

mod availability;

use std::sync::Arc;

use cudarc::driver::CudaContext;

pub use availability::Unavailable;
use availability::{context, describe, device_count};

use super::{Device, DeviceMemory, MemoryLayout, Program, Session};
use crate::error::{Error, Result};

/// Arena elements of an inference or attack instance at most: 512 MiB. A GPU wants enough images to
/// fill all its processors with one launch and gains little beyond.
const ARENA_ELEMENTS: usize = 1 << 27;

/// One CUDA device. Everything a session does on it is in order, on one stream.
pub struct CudaDevice {
    context: Arc<CudaContext>,
    name: String,
}

impl CudaDevice {
    /// Devices that the driver finds, of any age.
    ///
    /// # Errors
    /// [`Unavailable`]: no library, no device, or a driver that does not start.
    pub fn count() -> std::result::Result<usize, Unavailable> {
        device_count()
    }

    /// The device number `ordinal`, from 0.
    ///
    /// # Errors
    /// Every kind of [`Unavailable`]; never a panic.
    pub fn open(ordinal: usize) -> std::result::Result<Self, Unavailable> {
        let (context, name) = context(ordinal)?;
        Ok(Self { context, name })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The newest CUDA version the driver knows, as 12080 for 12.8.
    ///
    /// # Errors
    /// The driver refuses to say.
    pub fn driver_version(&self) -> Result<i32> {
        let mut version = 0;
        // SAFETY: the address is that of an integer that lives through the call.
        let result = unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) }.result();
        result.map_err(|error| Error::run(format!("{}: {}", self.name, describe(error))))?;
        Ok(version)
    }
}

impl Device for CudaDevice {
    fn describe(&self) -> String {
        match self.context.compute_capability() {
            Ok((major, minor)) => {
                format!("cuda:{}: {}, sm_{major}{minor}, f32", self.context.ordinal(), self.name)
            }
            Err(_) => format!("cuda:{}: {}, f32", self.context.ordinal(), self.name),
        }
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let (free, total) = self.context.mem_get_info().ok()?;
        Some(DeviceMemory { free, total })
    }

    fn needs(&self, layout: &MemoryLayout, programs: &[Program]) -> usize {
        layout.bytes() + filter_bytes(programs)
    }

    fn lanes(&self) -> usize {
        1
    }

    fn preferred_batch(&self, elements_per_image: usize) -> usize {
        (ARENA_ELEMENTS / elements_per_image.max(1)).clamp(1, 256)
    }

    fn open(&self, _layout: MemoryLayout) -> Result<Box<dyn Session>> {
        Err(Error::run("the CUDA device runs no programs yet"))
    }
}

/// Bytes of the filters of programs whose tables continue each other.
fn filter_bytes(programs: &[Program]) -> usize {
    let filters = programs.iter().map(|program| &program.filters).max_by_key(|filters| filters.len());
    filters.into_iter().flatten().map(|spec| spec.shape.filter_len() * size_of::<f32>()).sum()
}
