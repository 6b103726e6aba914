//! Launches: the one place where a kernel is started.

use std::sync::Arc;

use cudarc::driver::{CudaStream, LaunchConfig, PushKernelArg};

use super::availability::describe;
use super::kernels::{Kernels, Kind};

/// Threads of a block: `BLOCK` in kernels/common.cuh.
pub(super) const BLOCK: usize = 128;

/// Elements that a thread of a kernel that memory bounds takes at once: `VEC4` in kernels/vec4.cuh.
pub(super) const FOUR: usize = 4;

/// Kernels count their items with 32 bits.
const LARGEST: usize = 1 << 31;

/// A kernel's argument.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument {
    /// An address on the device, or 0 for an operand the op lacks.
    Pointer(u64),
    /// A size, index or flag.
    Word(u32),
    /// A scalar.
    Float(f32),
}

impl Argument {
    fn kind(&self) -> Kind {
        match self {
            Argument::Pointer(_) => Kind::Pointer,
            Argument::Word(_) => Kind::Word,
            Argument::Float(_) => Kind::Float,
        }
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Argument::Float(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Argument::Word(value)
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Self {
        Argument::Word(u32::from(value))
    }
}

impl From<u64> for Argument {
    fn from(value: u64) -> Self {
        Argument::Pointer(value)
    }
}

impl From<usize> for Argument {
    /// A size. Those of a prepared program are below 2^31 (`room::check_sizes`).
    fn from(value: usize) -> Self {
        Argument::Word(value as u32)
    }
}

/// Blocks of a launch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grid {
    /// As many as there have to be for a thread each.
    Items(usize),
    /// So many.
    Blocks(usize, usize),
}

impl Grid {
    pub fn blocks(self) -> (u32, u32, u32) {
        match self {
            Grid::Items(items) => ((items as u32).div_ceil(BLOCK as u32), 1, 1),
            Grid::Blocks(x, y) => (x as u32, y as u32, 1),
        }
    }
}

/// What takes the launches of an op.
pub(super) trait Launch {
    /// Starts a kernel. It may still be running, or have failed, when this returns.
    ///
    /// # Safety
    /// What the arguments point to is large enough, and aligned, for what the kernel does with it
    /// under the other arguments, lives until it ends, and is not used by the host meanwhile.
    ///
    /// # Errors
    /// The kernel and why the driver refuses to start it.
    unsafe fn launch(&self, name: &'static str, grid: Grid, arguments: &[Argument]) -> Result<(), String>;
}

/// Starts kernels on a stream, one after the other.
pub(super) struct Launcher {
    pub stream: Arc<CudaStream>,
    pub kernels: Arc<Kernels>,
}

impl Launch for Launcher {
    unsafe fn launch(&self, name: &'static str, grid: Grid, arguments: &[Argument]) -> Result<(), String> {
        let kernel = self.kernels.get(name).ok_or_else(|| format!("no kernel {name}"))?;
        if !arguments.iter().map(Argument::kind).eq(kernel.parameters.iter().copied()) {
            return Err(format!("{name} takes {:?}, not {arguments:?}", kernel.parameters));
        }
        if let Grid::Items(items @ LARGEST..) = grid {
            return Err(format!("{name}: {items} items"));
        }
        let grid_dim = grid.blocks();
        if grid_dim.0 == 0 || grid_dim.1 == 0 {
            return Ok(());
        }
        let mut builder = self.stream.launch_builder(&kernel.function);
        for argument in arguments {
            match argument {
                Argument::Pointer(value) => builder.arg(value),
                Argument::Word(value) => builder.arg(value),
                Argument::Float(value) => builder.arg(value),
            };
        }
        let config = LaunchConfig { grid_dim, block_dim: (BLOCK as u32, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the arguments are of the types the kernel declares, as was just checked; what they
        // point to is the caller's promise.
        unsafe { builder.launch(config) }.map_err(|error| format!("{name}: {}", describe(error)))?;
        Ok(())
    }
}
