//! The one place where a kernel is started.

use std::sync::Arc;

use cudarc::driver::{CudaStream, DeviceRepr, LaunchConfig, PushKernelArg};

use super::kernels::{Kernels, Parameter, layout};
use super::memory::Addresses;
use super::plan::{Argument, BLOCK, Launch};
use super::probe::describe;
use crate::device::BatchSlice;

/// Starts kernels on a stream, one after the other.
pub(super) struct Launcher {
    pub stream: Arc<CudaStream>,
    pub kernels: Arc<Kernels>,
}

/// Bytes of a struct of arguments at most.
const BYTES: usize = 512;

/// A struct of arguments as the kernel reads it.
#[repr(C, align(8))]
struct Packed([u8; BYTES]);

// SAFETY: plain bytes, aligned as the kernels' structs are; the driver copies as many as the kernel declares.
unsafe impl DeviceRepr for Packed {}

/// An argument's bits.
#[derive(Clone, Copy)]
enum Bits {
    Address(u64),
    Word(u32),
}

impl Launcher {
    /// Starts a launch for a slice of a batch. It may still be running, or have failed, when this returns.
    ///
    /// # Safety
    /// The launch is one of a program that `check::check` accepted, at a slice that it allows; the workspace has what
    /// the program's plan needs; and all memory lives until the launch has ended, and isn't used by the host meanwhile.
    ///
    /// # Errors
    /// The kernel and why the driver refuses to start it.
    pub unsafe fn start(&self, launch: &Launch, memory: &Addresses, slice: BatchSlice) -> Result<(), String> {
        let (name, (x, y)) = (launch.kernel.name(), launch.grid.blocks());
        if x == 0 || y == 0 {
            return Ok(());
        }
        let mut bits = Vec::with_capacity(launch.values.len());
        for value in &launch.values {
            bits.push(match *value {
                Argument::Pointer(None) => Bits::Address(0),
                Argument::Pointer(Some(tensor)) => Bits::Address(memory.address(tensor.buffer, slice)?),
                Argument::Word(word) => Bits::Word(word),
                Argument::Float(value) => Bits::Word(value.to_bits()),
                Argument::ImageSet(size) => Bits::Word(memory.image_set(size)?),
            });
        }
        let arguments = pack(launch.kernel.parameters(), &bits)?;
        let mut builder = self.stream.launch_builder(self.kernels.get(launch.kernel));
        builder.arg(&arguments);
        let config =
            LaunchConfig { grid_dim: (x, y, 1), block_dim: (BLOCK as u32, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the arguments are the struct that the kernel declares: `Launch::new` has built them from its row of
        // the table, of which kernels/args.cuh is made and whose size was compared with the PTX when that was loaded.
        // What they point to is the caller's promise.
        unsafe { builder.launch(config) }.map_err(|error| format!("{name}: {}", describe(error)))?;
        Ok(())
    }
}

/// A struct of these arguments.
fn pack(parameters: &[Parameter], bits: &[Bits]) -> Result<Packed, String> {
    let mut packed = Packed([0; BYTES]);
    for (offset, bits) in layout(parameters).0.into_iter().zip(bits) {
        let (word, address);
        let bytes: &[u8] = match bits {
            Bits::Address(value) => {
                address = value.to_ne_bytes();
                &address
            }
            Bits::Word(value) => {
                word = value.to_ne_bytes();
                &word
            }
        };
        let to = packed.0.get_mut(offset..offset + bytes.len());
        to.ok_or_else(|| format!("{} arguments take over {BYTES} bytes", parameters.len()))?
            .copy_from_slice(bytes);
    }
    Ok(packed)
}
