//! Whether a CUDA device can be had, asked without a panic where nothing of CUDA is installed.

use std::fmt;
use std::sync::Arc;

use cudarc::driver::{CudaContext, DriverError, result, sys};

use crate::device::{DeviceInfo, DeviceMemory};

/// The oldest compute capability the kernels are built for.
pub const OLDEST: (i32, i32) = (8, 0);

/// Why there is no CUDA device to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No driver library (`libcuda`) on this machine.
    NoLibrary,
    /// A driver library without a function that is needed.
    NoFunction(&'static str),
    /// A driver, but no device.
    NoDevice,
    /// Fewer devices than the number asked for.
    NoSuchDevice {
        /// Devices there are.
        count: usize,
    },
    /// The device's compute capability is below 8.0.
    TooOld {
        /// The device.
        name: String,
        /// Major compute capability.
        major: i32,
        /// Minor compute capability.
        minor: i32,
    },
    /// A file of `PBE_PTX_DIR` can't be read; which and why.
    Ptx(String),
    /// The driver doesn't take the kernels; what it says.
    Kernels(String),
    /// The driver refused; its own name and text of the error.
    Driver(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::NoLibrary => f.write_str("no CUDA driver (libcuda) is installed"),
            Unavailable::NoFunction(name) => {
                write!(f, "the CUDA driver (libcuda) lacks {name}: it is too old, or not NVIDIA's")
            }
            Unavailable::NoDevice => f.write_str("the CUDA driver finds no device"),
            Unavailable::NoSuchDevice { count } => write!(f, "no such device: the CUDA driver finds {count}"),
            Unavailable::TooOld { name, major, minor } => {
                let (oldest, point) = OLDEST;
                write!(f, "{name} has compute capability {major}.{minor}; {oldest}.{point} is needed")
            }
            Unavailable::Ptx(text) => f.write_str(text),
            Unavailable::Kernels(text) => write!(f, "the kernels don't load: {text}"),
            Unavailable::Driver(text) => write!(f, "the CUDA driver: {text}"),
        }
    }
}

impl std::error::Error for Unavailable {}

/// The driver's name and text of an error: `CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access …)`.
/// Only called with a driver library loaded: no other way leads to a [`DriverError`].
pub(super) fn describe(error: DriverError) -> String {
    let text = |found: Result<&std::ffi::CStr, DriverError>| match found {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("error {}", error.0 as u32),
    };
    format!("{} ({})", text(error.error_name()), text(error.error_string()))
}

impl From<DriverError> for Unavailable {
    fn from(error: DriverError) -> Self {
        match error.0 {
            sys::CUresult::CUDA_ERROR_NO_DEVICE => Unavailable::NoDevice,
            _ => Unavailable::Driver(describe(error)),
        }
    }
}

/// Every function that is called: cudarc panics where one is missing.
const FUNCTIONS: [&str; 38] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
];

/// Whether there is a driver library that has every function.
fn library() -> Result<(), Unavailable> {
    // SAFETY: loading libcuda runs its initialisers; it is the library that everything below needs.
    if !unsafe { sys::is_culib_present() } {
        return Err(Unavailable::NoLibrary);
    }
    // SAFETY: it is present. Addresses are asked for and never used: any type does.
    let lacks = |name: &&str| unsafe { sys::culib().get::<*const ()>(name.as_bytes()) }.is_err();
    FUNCTIONS.into_iter().find(lacks).map_or(Ok(()), |name| Err(Unavailable::NoFunction(name)))
}

/// Devices the driver finds.
///
/// # Errors
/// No library, no device, or a driver that does not start.
pub(super) fn device_count() -> Result<usize, Unavailable> {
    library()?;
    result::init()?;
    match usize::try_from(result::device::get_count()?) {
        Ok(0) | Err(_) => Err(Unavailable::NoDevice),
        Ok(count) => Ok(count),
    }
}

/// The newest CUDA version that the driver knows.
///
/// # Errors
/// No library, or the driver refuses to say.
pub(super) fn driver_version() -> Result<i32, Unavailable> {
    library()?;
    let mut version = 0;
    // SAFETY: the address is that of an integer that lives through the call.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result()?;
    Ok(version)
}

impl DeviceInfo {
    fn of(context: &CudaContext) -> Result<Self, Unavailable> {
        let (free, total) = context.mem_get_info()?;
        let memory = DeviceMemory { free, total };
        Ok(Self { name: context.name()?, capability: context.compute_capability()?, memory })
    }

    /// Why the kernels can't run on it.
    pub fn fault(&self) -> Option<Unavailable> {
        let (major, minor) = self.capability;
        (self.capability < OLDEST).then(|| Unavailable::TooOld { name: self.name.clone(), major, minor })
    }
}

/// All devices, in the driver's order.
///
/// # Errors
/// No library, no device, or the driver fails.
pub(super) fn list() -> Result<Vec<DeviceInfo>, Unavailable> {
    (0..device_count()?).map(|ordinal| DeviceInfo::of(CudaContext::new(ordinal)?.as_ref())).collect()
}

/// The primary context of a device that the kernels can run on, and what the device is.
///
/// # Errors
/// Every kind of [`Unavailable`].
pub(super) fn context(ordinal: usize) -> Result<(Arc<CudaContext>, DeviceInfo), Unavailable> {
    let count = device_count()?;
    if ordinal >= count {
        return Err(Unavailable::NoSuchDevice { count });
    }
    let context = CudaContext::new(ordinal)?;
    let info = DeviceInfo::of(&context)?;
    match info.fault() {
        Some(fault) => Err(fault),
        None => Ok((context, info)),
    }
}
