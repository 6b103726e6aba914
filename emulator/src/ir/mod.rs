//! Decoded instructions over register files: what `ptx` produces and `exec` runs.
//!
//! **Registers.** A warp has three register files. A *b32* register is `[u32; 32]`, a value for each lane (8-, 16- and
//! 32-bit values, f16x2, bf16x2, tf32, f32). A *b64* register is `[u64; 32]` (64-bit values, f64). A *predicate* is
//! one `u32` with a bit for each lane. [`Type::file`] says which file holds operands of a type. Values of 8 and 16
//! bits lie in the low bits of a b32 register: writers leave the bits above them zero (also for signed types), and
//! readers take the low bits only.
//!
//! **Operands** are plain register indices. Immediates, special registers and addresses of variables have
//! registers too, the first ones of each file, filled when a warp starts ([`Kernel::preload`]) and never
//! written. Each register after them holds several virtual registers whose lives do not overlap, thread by thread:
//! an instruction must never write lanes that are not active. A destination may be the same register as a source
//! of the same instruction: read every source of a lane before writing (all lanes, for instructions that
//! look across lanes).
//!
//! **Addresses.** Global memory has the addresses that the driver gives out. `.const` variables are
//! ordinary allocations of global memory: [`Space::Const`] addresses are global addresses. Shared and
//! local memory and the parameter block start at 0 in their own space; their generic addresses are
//! [`SHARED_WINDOW`], [`LOCAL_WINDOW`], [`PARAM_WINDOW`] plus that. `cvta` is lowered to additions and
//! subtractions of these, so device allocations must lie outside `SHARED_WINDOW .. WINDOWS_END`.

mod module;
mod op;
mod operations;
pub(crate) mod register_uses;
mod types;

pub use module::*;
pub use op::*;
pub use operations::*;
pub use types::*;

/// Index of a register in the file that the operand's type names.
pub type Reg = u16;
/// Index into [`Kernel::code`].
pub type Pc = u32;
/// Reconvergence point of branches whose paths meet only where the kernel ends.
pub const NO_PC: Pc = u32::MAX;

/// First generic address of shared memory.
pub const SHARED_WINDOW: u64 = 0x1_0000_0000;
/// First generic address of a thread's local memory.
pub const LOCAL_WINDOW: u64 = 0x2_0000_0000;
/// First generic address of the parameter block.
pub const PARAM_WINDOW: u64 = 0x3_0000_0000;
/// First generic address after the windows; global memory lies from here on.
pub const WINDOWS_END: u64 = 0x4_0000_0000;
