//! What stands in for the CUDA device in a program that is built without the feature `cuda`: a device that can't be had.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;

use super::{
    Device, DeviceInfo, DtypeRule, KernelLaunch, MemoryLayout, Precision, Program, Session, all_f32,
};
use crate::error::{Error, Result};

/// There is no such device.
pub struct CudaDevice(Infallible);

/// Why there is no CUDA device to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The program has no CUDA engine.
    NotBuilt,
    /// A file of `PBE_PTX_DIR` can't be read; never here.
    Ptx(Infallible),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this program is built without CUDA (feature `cuda`)")
    }
}

impl std::error::Error for Unavailable {}

impl DeviceInfo {
    /// Why the kernels can't run on it.
    pub fn fault(&self) -> Option<Unavailable> {
        Some(Unavailable::NotBuilt)
    }
}

/// The folder that kernels are read from: none.
pub fn ptx_dir() -> Option<PathBuf> {
    None
}

/// The launches of each op of a program.
///
/// # Errors
/// Always.
pub fn launches(_: &Program, _: usize, _: Precision) -> Result<Vec<Vec<KernelLaunch>>> {
    Err(Error::input(Unavailable::NotBuilt))
}

impl CudaDevice {
    /// Every device.
    ///
    /// # Errors
    /// Always.
    pub fn list() -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        Err(Unavailable::NotBuilt)
    }

    /// The newest CUDA version that the driver knows.
    ///
    /// # Errors
    /// Always.
    pub fn driver_version() -> std::result::Result<i32, Unavailable> {
        Err(Unavailable::NotBuilt)
    }

    /// A device.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: usize, _: Precision) -> std::result::Result<Self, Unavailable> {
        Err(Unavailable::NotBuilt)
    }

    /// Has the driver compile the kernels.
    ///
    /// # Errors
    /// None: there is no such device.
    pub fn compile(&self) -> std::result::Result<(), Unavailable> {
        match self.0 {}
    }
}

impl Device for CudaDevice {
    fn describe(&self) -> String {
        match self.0 {}
    }

    fn kind(&self) -> String {
        match self.0 {}
    }

    fn precision(&self) -> Precision {
        match self.0 {}
    }

    fn dtypes(&self) -> DtypeRule {
        all_f32
    }

    fn needs(&self, _: &MemoryLayout, _: &[Program]) -> usize {
        match self.0 {}
    }

    fn workers(&self) -> usize {
        match self.0 {}
    }

    fn preferred_batch(&self, _: usize) -> usize {
        match self.0 {}
    }

    fn open(&self, _: MemoryLayout) -> Result<Box<dyn Session>> {
        match self.0 {}
    }
}
