//! What can go wrong inside a launch, and where.

use std::fmt;

/// The kinds of finding. Each can be switched off ([`crate::exec::Checks`]) except those that no
/// execution can continue after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Global, shared, local, constant or parameter access outside its object.
    OutOfBounds,
    /// Access to freed memory.
    UseAfterFree,
    /// Address not a multiple of the access's size.
    Misaligned,
    /// Read of memory, or use of a register, that nothing wrote.
    Uninitialised,
    /// Two threads of a block touch a shared byte without a barrier between, one writing.
    SharedRace,
    /// Two blocks of a launch touch a global byte, one writing, not both atomically.
    GlobalRace,
    /// A destination of `cp.async` touched before its wait.
    AsyncTooEarly,
    /// A barrier that not all threads of the warp reach together, or that not all of the block reach.
    DivergentBarrier,
    /// More instructions than the limit: a launch that would never end.
    Endless,
    /// trap, or an instruction that has no meaning with these operands.
    Trap,
}

/// Where a thread stood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the kernel.
    pub kernel: String,
    /// File and line of the source, through `.loc`, where the module has them.
    pub source: Option<(String, u32)>,
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// Block index.
    pub block: [u32; 3],
    /// Thread index in its block.
    pub thread: [u32; 3],
}

/// A finding. The launch that made it fails with the code of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// The address, in its space, where one is meant.
    pub address: Option<u64>,
    /// The other party of a race, the allocation that was missed, …
    pub detail: String,
    /// The other party's place, for races.
    pub other: Option<Place>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Place { kernel, source, ptx_line, block: b, thread: t } = self;
        write!(f, "{kernel}")?;
        if let Some((file, line)) = source {
            write!(f, " at {file}:{line}")?;
        }
        write!(f, " (PTX line {ptx_line}), block ({},{},{})", b[0], b[1], b[2])?;
        write!(f, " thread ({},{},{})", t[0], t[1], t[2])
    }
}
