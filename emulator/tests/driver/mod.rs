//! The emulator as programs get it: a library that is opened at run time.

#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use cudarc::driver::{CudaContext, CudaModule};
use cudarc::nvrtc::Ptx;
use libloading::Library;

/// Kernels of `kernels/driver.cu`.
pub const DRIVER: &str = include_str!("../kernels/driver.ptx");
/// Kernels of `kernels/basics.cu`.
pub const BASICS: &str = include_str!("../kernels/basics.ptx");
/// Kernels of `kernels/checks.cu`.
pub const CHECKS: &str = include_str!("../kernels/checks.ptx");

/// The library, which cargo builds beside the test program.
pub fn path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().join("libptx_emulator.so");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

/// Opens the library. From then on cudarc's `dlopen("libcuda.so")` finds it by its name.
pub fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        // SAFETY: every test comes through here before it calls the driver, which alone reads these.
        unsafe {
            std::env::set_var("PTX_EMULATOR_MEMORY", "256M");
            std::env::set_var("PTX_EMULATOR_LIMIT", "20000000");
            Library::new(path()).unwrap()
        }
    })
}

/// A context of its own: what a fault does to it leaves other tests alone.
pub fn context() -> Arc<CudaContext> {
    library();
    CudaContext::new_non_primary(0, 0).unwrap()
}

pub fn load(context: &Arc<CudaContext>, text: &str) -> Arc<CudaModule> {
    context.load_module(Ptx::from_src(text)).unwrap()
}
