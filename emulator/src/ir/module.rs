//! Modules and kernels: everything around the instructions.

use std::sync::Arc;

use super::{Instr, Space};

/// A loaded module.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// `.version`: major, minor.
    pub version: (u32, u32),
    /// `.target`, as `sm_80` gives 80.
    pub target: u32,
    /// Entry functions in order of the text.
    pub kernels: Vec<Arc<Kernel>>,
    /// Module-scope `.global` and `.const` variables. The driver allocates each in global memory when it
    /// loads the module, and hands their addresses to a launch in this order.
    pub variables: Vec<Variable>,
}

/// A module-scope variable of global or constant memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name in the PTX.
    pub name: String,
    /// [`Space::Global`] or [`Space::Const`].
    pub space: Space,
    /// Alignment in bytes.
    pub align: u32,
    /// Content at load; its length is the variable's size. Without an initialiser: zeros, as on a GPU.
    pub bytes: Vec<u8>,
    /// Places in `bytes` where the 64-bit address of another variable has to be written.
    pub pointers: Vec<Pointer>,
}

/// An address inside an initialiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Byte offset of the pointer in the variable.
    pub offset: usize,
    /// Index of the variable it points to, in [`Module::variables`].
    pub variable: usize,
    /// Bytes after that variable's start.
    pub addend: u64,
}

/// An entry function, ready to run.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Its name in the PTX.
    pub name: String,
    /// Parameters in order; their offsets are those of the parameter block.
    pub params: Vec<Param>,
    /// Size of the parameter block.
    pub param_bytes: u32,
    /// Static variables of shared memory, by offset.
    pub shared: Vec<SharedVariable>,
    /// Bytes of static shared memory; dynamic shared memory starts here (already aligned for it).
    pub shared_bytes: u32,
    /// Does it name an `.extern .shared` array?
    pub dynamic_shared: bool,
    /// Bytes of local memory of a thread.
    pub local_bytes: u32,
    /// `.maxntid`: x·y·z at most.
    pub max_threads: Option<u32>,
    /// `.reqntid`: exactly.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`.
    pub min_blocks: Option<u32>,
    /// Content of the first registers of each file.
    pub preload: Preload,
    /// b32 registers, preloaded ones included.
    pub b32: u32,
    /// b64 registers, preloaded ones included.
    pub b64: u32,
    /// Predicates, preloaded ones included.
    pub predicates: u32,
    /// 32-bit registers alive at once, at most: about what an assembler would need.
    pub registers: u32,
    /// The instructions. The last one ends every thread, so running past the end is impossible.
    pub code: Vec<Instr>,
    /// Where each instruction came from; as long as `code`.
    pub lines: Vec<Line>,
    /// Source files by [`Line::file`].
    pub files: Arc<Vec<String>>,
}

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name in the PTX.
    pub name: String,
    /// Bytes from the start of the parameter block.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// A static variable of shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedVariable {
    /// Its name in the PTX.
    pub name: String,
    /// Shared address.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// What a warp's first registers hold: register `i` of a file is element `i`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preload {
    /// The b32 registers.
    pub b32: Vec<B32Value>,
    /// The b64 registers.
    pub b64: Vec<B64Value>,
    /// The predicates (all lanes equal).
    pub predicates: Vec<bool>,
}

/// Content of a b32 register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum B32Value {
    /// The same in all lanes: immediates, shared and local addresses.
    Constant(u32),
    /// A special register.
    Special(Special),
}

/// Content of a b64 register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum B64Value {
    /// The same in all lanes.
    Constant(u64),
    /// Address of a variable of the module, plus bytes.
    Variable(u32, u64),
    /// A special register, zero-extended.
    Special(Special),
}

/// Special registers that do not change while a thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// %tid.x .y .z: thread in its block.
    Tid(u8),
    /// %ntid: block size.
    Ntid(u8),
    /// %ctaid: block in the grid.
    Ctaid(u8),
    /// %nctaid: grid size.
    Nctaid(u8),
    /// %laneid.
    LaneId,
    /// %warpid: warp in its block.
    WarpId,
    /// %nwarpid: warps of a block at most.
    NwarpId,
    /// %smid.
    SmId,
    /// %nsmid.
    NsmId,
    /// %gridid.
    GridId,
    /// %lanemask_eq.
    LaneMaskEq,
    /// %lanemask_le.
    LaneMaskLe,
    /// %lanemask_lt.
    LaneMaskLt,
    /// %lanemask_ge.
    LaneMaskGe,
    /// %lanemask_gt.
    LaneMaskGt,
    /// %dynamic_smem_size.
    DynamicSharedBytes,
    /// %total_smem_size.
    TotalSharedBytes,
}

/// Where an instruction came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Line of the PTX text, from 1.
    pub ptx: u32,
    /// Line of the source, 0 where unknown.
    pub line: u32,
    /// Index into [`Kernel::files`]; meaningless where `line` is 0.
    pub file: u16,
}
