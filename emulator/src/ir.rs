//! Decoded instructions over register files: what `ptx` produces and `exec` runs.
//!
//! **Registers.** A warp has three files of rows. A row of *words* is `[u32; 32]` (8-, 16- and 32-bit
//! values, f16x2, bf16x2, tf32, f32), a row of *longs* `[u64; 32]` (64-bit values, f64), a row of
//! *predicates* one `u32` with a bit per lane. [`Type::file`] says which file an operand of a type lives
//! in. Values of 8 and 16 bits lie in the low bits of their word; whoever writes one leaves the bits
//! above zero (also for signed types), whoever reads one looks at the low bits only.
//!
//! **Operands** are plain row indices. Immediates, special registers and addresses of variables have
//! rows too, the first ones of each file, filled when a warp starts ([`Kernel::preload`]) and never
//! written. The rows after them are shared by registers whose lives do not overlap, thread by thread: an
//! instruction must never write lanes that are not active. A destination may be the same row as a source
//! of the same instruction: read every source of a lane before writing (all lanes, for instructions that
//! look across lanes).
//!
//! **Addresses.** Global memory has the addresses that the driver gives out. `.const` variables are
//! ordinary allocations of global memory: [`Space::Const`] addresses are global addresses. Shared and
//! local memory and the parameter block start at 0 in their own space; their generic addresses are
//! [`SHARED_WINDOW`], [`LOCAL_WINDOW`], [`PARAM_WINDOW`] plus that. `cvta` is lowered to additions and
//! subtractions of these, so device allocations must lie outside `SHARED_WINDOW .. WINDOWS_END`.

use std::sync::Arc;

/// Index of a row in the file that the operand's type names.
pub type Row = u16;
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
/// First generic address behind the windows; global memory lies from here on.
pub const WINDOWS_END: u64 = 0x4_0000_0000;

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
    /// Bytes behind that variable's start.
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
    /// Content of the first rows of each file.
    pub preload: Preload,
    /// Rows of the words file, preloaded ones included.
    pub words: u32,
    /// Rows of the longs file, preloaded ones included.
    pub longs: u32,
    /// Rows of the predicate file, preloaded ones included.
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

/// What a warp's first rows hold: row `i` of a file is element `i`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preload {
    /// Rows of words.
    pub words: Vec<WordValue>,
    /// Rows of longs.
    pub longs: Vec<LongValue>,
    /// Rows of predicates (all lanes equal).
    pub predicates: Vec<bool>,
}

/// Content of a row of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WordValue {
    /// The same in all lanes: immediates, shared and local addresses.
    Constant(u32),
    /// A special register.
    Special(Special),
}

/// Content of a row of longs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LongValue {
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

/// The three register files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// `[u32; 32]` rows.
    Words,
    /// `[u64; 32]` rows.
    Longs,
    /// One lane mask a row.
    Predicates,
}

/// Types of operands. Untyped bits (`.b32`) are the unsigned type of their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Type {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
}

impl Type {
    /// Size in bytes.
    pub const fn size(self) -> u32 {
        match self {
            Type::U8 | Type::S8 => 1,
            Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 2,
            Type::U32 | Type::S32 | Type::F16x2 | Type::Bf16x2 | Type::Tf32 | Type::F32 => 4,
            Type::U64 | Type::S64 | Type::F64 => 8,
        }
    }

    /// The file that holds values of this type.
    pub const fn file(self) -> File {
        match self.size() {
            8 => File::Longs,
            _ => File::Words,
        }
    }

    /// A signed integer?
    pub const fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    /// A floating-point type?
    pub const fn is_float(self) -> bool {
        use Type::*;
        matches!(self, F16 | F16x2 | Bf16 | Bf16x2 | Tf32 | F32 | F64)
    }
}

/// State spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

/// Lanes that an instruction acts on: those of the active mask whose predicate is set (or is not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Predicate row.
    pub row: Row,
    /// `@!p`.
    pub negated: bool,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Instr {
    /// `@p`, `@!p`.
    pub guard: Option<Guard>,
    /// What it does.
    pub op: Op,
}

/// How a floating-point result is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Mode {
    /// Rounding of the result.
    pub round: Round,
    /// Subnormal inputs and results become zeros of their sign (f32; f16 with `.ftz`).
    pub ftz: bool,
    /// Clamp to [0, 1], NaN to +0.
    pub sat: bool,
    /// Negative to +0, NaN to canonical NaN (f16, bf16 fma, min, max, cvt).
    pub relu: bool,
    /// min, max: NaN if either operand is NaN (else the other operand).
    pub nan: bool,
    /// min, max: of the absolute values, with the exclusive or of the signs.
    pub xorsign: bool,
}

impl Mode {
    /// Round to nearest even, nothing else.
    pub const PLAIN: Mode =
        Mode { round: Round::Near, ftz: false, sat: false, relu: false, nan: false, xorsign: false };
}

/// Rounding directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum Round {
    /// To nearest, ties to even (`.rn`, `.rni`).
    #[default]
    Near,
    /// Towards zero (`.rz`, `.rzi`).
    Zero,
    /// Towards minus infinity (`.rm`, `.rmi`).
    Down,
    /// Towards plus infinity (`.rp`, `.rpi`).
    Up,
    /// To nearest, ties away from zero (`.rna`, to tf32).
    NearAway,
}

/// Address operand: a row of addresses and a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Row of longs if `wide`, else of words.
    pub row: Row,
    /// 64-bit address; 32-bit ones are zero-extended after the addition wrapped.
    pub wide: bool,
    /// Bytes to add.
    pub offset: i32,
}

/// What a load or store moves, per lane: `count` elements side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Type in memory, by size and sign. Signed elements narrower than the register are sign-extended to
    /// `register`, others zero-extended; a store writes the low bits.
    pub ty: Type,
    /// Width of the registers: U16, U32 or U64 ([`Type::file`] gives the file, also for the rows).
    pub register: Type,
    /// 1, 2 or 4 elements.
    pub count: u8,
    /// `.volatile`, `.relaxed`, `.acquire`, `.release`: ordered against other threads on purpose, so not
    /// a race by itself.
    pub strong: bool,
}

/// `setp … , c`: the comparison's result combined with a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combine {
    /// and, or, xor.
    pub op: Logic,
    /// Predicate row.
    pub row: Row,
    /// `!c`.
    pub negated: bool,
}

/// Bitwise operations on predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Logic {
    And,
    Or,
    Xor,
}

/// Integer operations of one operand. Operand type `ty`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int1 {
    /// 0 - a.
    Neg,
    /// Absolute value; the most negative stays.
    Abs,
    /// Complement.
    Not,
    /// 1 if zero, else 0.
    Cnot,
    /// Ones; the result is a word for both sizes.
    Popc,
    /// Leading zeros; a word.
    Clz,
    /// Position of the highest bit that differs from the sign (of the highest one for unsigned), or
    /// 0xFFFF_FFFF; a word.
    Bfind,
    /// The same as a shift amount to bring it to the top.
    BfindShift,
    /// Bits reversed.
    Brev,
}

/// Integer operations of two operands of type `ty` (U16 to S64), result of the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int2 {
    /// Wraps.
    Add,
    /// `add.sat.s32`.
    AddSat,
    /// Wraps.
    Sub,
    /// `sub.sat.s32`.
    SubSat,
    /// Low half of the product.
    MulLo,
    /// High half of the product.
    MulHi,
    /// Low 24 bits of each (sign- or zero-extended): low 32 bits of the product.
    Mul24Lo,
    /// The same, bits 16 to 47 of the product.
    Mul24Hi,
    /// Towards zero. By zero: all ones (unspecified by the manual). Most negative by -1: wraps.
    Div,
    /// a - b * (a / b). By zero: a.
    Rem,
    /// By the type's sign.
    Min,
    /// By the type's sign.
    Max,
    /// Bitwise.
    And,
    /// Bitwise.
    Or,
    /// Bitwise.
    Xor,
    /// `b` is a row of words, clamped to the width: 0 from there on.
    Shl,
    /// `b` is a row of words, clamped to the width; signed types fill with the sign.
    Shr,
}

/// Integer operations of three operands of type `ty`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int3 {
    /// a * b + c, low half.
    MadLo,
    /// High half of a * b, plus c.
    MadHi,
    /// `mad.hi.sat.s32`.
    MadHiSat,
    /// c + |a - b|.
    Sad,
    /// Bit field of a from bit b, c bits long (b, c: words, low 8 bits); signed types extend the sign.
    Bfe,
}

/// Float operations of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float1 {
    /// Sign flipped.
    Neg,
    /// Sign cleared.
    Abs,
    /// `sqrt.rnd`.
    Sqrt,
    /// `sqrt.approx`.
    SqrtApprox,
    /// `rsqrt.approx`.
    RsqrtApprox,
    /// `rcp.rnd`.
    Rcp,
    /// `rcp.approx`.
    RcpApprox,
    /// `sin.approx`.
    Sin,
    /// `cos.approx`.
    Cos,
    /// `ex2.approx`.
    Ex2,
    /// `lg2.approx`.
    Lg2,
    /// `tanh.approx`.
    Tanh,
}

/// Float operations of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float2 {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// a * b.
    Mul,
    /// `div.rnd`.
    Div,
    /// `div.approx`.
    DivApprox,
    /// `div.full`.
    DivFull,
    /// -0 < +0; NaN as `mode.nan` says.
    Min,
    /// The same.
    Max,
    /// Magnitude of b, sign of a (the PTX operand order).
    Copysign,
}

/// `testp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Test {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

/// Comparisons. Ordered ones are false with NaN, unordered ones true. Integer types decide by their sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Unordered or equal.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    /// Neither is NaN.
    Num,
    /// One is NaN.
    Nan,
}

/// `cvt`. From a float to an integer it saturates; NaN becomes 0, or the highest bit alone where f64 or a
/// 64-bit integer takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// Source type: the low bits of the row.
    pub from: Type,
    /// Result type (8-bit and 16-bit integers zero-extended in the row, whatever their sign).
    pub to: Type,
    /// Rounding; where `integral`, to an integer in the float format.
    pub round: Round,
    /// Float to the same float type with `.rni` and its like.
    pub integral: bool,
    /// As in [`Mode`].
    pub ftz: bool,
    /// Integers: clamp to the range of `to`. Floats: to [0, 1].
    pub sat: bool,
    /// As in [`Mode`].
    pub relu: bool,
}

/// Atomic operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicOp {
    /// Integers wrap; floats round to nearest.
    Add,
    /// By the type.
    Min,
    /// By the type.
    Max,
    /// old >= b ? 0 : old + 1.
    Inc,
    /// old == 0 or old > b ? b : old - 1.
    Dec,
    /// Bitwise.
    And,
    /// Bitwise.
    Or,
    /// Bitwise.
    Xor,
    /// Exchange.
    Exch,
    /// old == b ? c : old.
    Cas,
}

/// What a barrier does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierKind {
    /// Wait for all.
    Sync,
    /// Count, do not wait.
    Arrive,
    /// `bar.red.and.pred`, `.or`: a predicate; the source predicate row, negated or not.
    Reduce {
        /// Row of the result.
        dst: Row,
        /// and, or (never xor).
        op: Logic,
        /// Source predicate.
        src: Guard,
    },
    /// `bar.red.popc.u32`: a word.
    Count {
        /// Row of the result.
        dst: Row,
        /// Source predicate.
        src: Guard,
    },
}

/// `shfl.sync` modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// `vote.sync` modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Result: a predicate.
    All,
    /// Result: a predicate.
    Any,
    /// Result: a predicate.
    Uniform,
    /// Result: a word.
    Ballot,
}

/// Scopes of fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scope {
    Block,
    Device,
    System,
}

/// `mma.sync.aligned`, A by rows, B by columns. Fragment layouts: the PTX manual's, which decide the
/// number of rows used of each operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Mma {
    /// m, n, k.
    pub shape: (u8, u8, u8),
    /// Type of A's elements: F16, Bf16, Tf32, S8, U8.
    pub a_type: Type,
    /// Type of B's elements.
    pub b_type: Type,
    /// Type of C: F16 (two elements a word), F32, S32.
    pub c_type: Type,
    /// Type of D.
    pub d_type: Type,
    /// `.satfinite`, integers only.
    pub saturate: bool,
    /// Rows of D: 4 for f32 and s32, 2 for f16 (m8n8: 2).
    pub d: Vec<Row>,
    /// Rows of A.
    pub a: Vec<Row>,
    /// Rows of B.
    pub b: Vec<Row>,
    /// Rows of C.
    pub c: Vec<Row>,
}

/// Operations. `dst` is written, the other rows are read; types say which file a row is in.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    // Moves.
    /// dst = src within a file.
    Mov { file: File, dst: Row, src: Row },
    /// Word from two 16-bit halves.
    Pack16 { dst: Row, low: Row, high: Row },
    /// Two 16-bit halves of a word.
    Unpack16 { low: Row, high: Row, src: Row },
    /// Long from two words.
    Pack32 { dst: Row, low: Row, high: Row },
    /// Two words of a long.
    Unpack32 { low: Row, high: Row, src: Row },
    /// `clock`, `clock_hi` or, as a long, `clock64`: cycles (or instructions) so far, never decreasing.
    Clock { file: File, dst: Row, high: bool },
    /// `%globaltimer`, nanoseconds: a long; low or high word of it in a word.
    GlobalTimer { file: File, dst: Row, high: bool },

    // Integers.
    /// One operand.
    Int1 { op: Int1, ty: Type, dst: Row, a: Row },
    /// Two operands.
    Int2 { op: Int2, ty: Type, dst: Row, a: Row, b: Row },
    /// Three operands.
    Int3 { op: Int3, ty: Type, dst: Row, a: Row, b: Row, c: Row },
    /// Whole product of `ty` (16- or 32-bit): a result of twice the width.
    MulWide { ty: Type, dst: Row, a: Row, b: Row },
    /// Whole product plus c, which has twice the width of `ty`.
    MadWide { ty: Type, dst: Row, a: Row, b: Row, c: Row },
    /// a + b + carry, or a - b - borrow (`subtract`); carry rows are predicates. `ty`: U32, S32, U64, S64.
    Carry {
        subtract: bool,
        ty: Type,
        dst: Row,
        a: Row,
        b: Row,
        carry_in: Option<Row>,
        carry_out: Option<Row>,
    },
    /// Low or high half of a * b, plus c, plus carry; the carry out is that of the addition.
    MadCarry(Box<MadCarry>),
    /// `bfi`: a's low `length` bits put into b at `position` (words, low 8 bits). `ty`: U32, U64.
    Bfi { ty: Type, dst: Row, a: Row, b: Row, position: Row, length: Row },
    /// Any bitwise function of three words: bit `4a + 2b + c` of the table.
    Lop3 { dst: Row, a: Row, b: Row, c: Row, table: u8 },
    /// Bytes chosen from b:a by the selector c, in the default mode or one of the special ones.
    Prmt { mode: Permute, dst: Row, a: Row, b: Row, c: Row },
    /// Funnel shift of b:a (b the high word) by c: `left` gives the high word; clamped to 32 or wrapped.
    Shf { left: bool, clamp: bool, dst: Row, a: Row, b: Row, c: Row },
    /// `dp4a`: four products of bytes; `dp2a`: two of a's halves with b's low or high (`high`) bytes; plus c.
    Dot { bytes: bool, high: bool, a_signed: bool, b_signed: bool, dst: Row, a: Row, b: Row, c: Row },

    // Floats.
    /// One operand.
    Float1 { op: Float1, ty: Type, mode: Mode, dst: Row, a: Row },
    /// Two operands.
    Float2 { op: Float2, ty: Type, mode: Mode, dst: Row, a: Row, b: Row },
    /// a * b + c with one rounding.
    Fma { ty: Type, mode: Mode, dst: Row, a: Row, b: Row, c: Row },
    /// `testp`: a predicate.
    Testp { test: Test, ty: Type, dst: Row, a: Row },

    // Conversions.
    /// One value.
    Convert { how: Conversion, dst: Row, src: Row },
    /// Two f32 to f16x2 or bf16x2 (`how.to`): `high` becomes the upper half.
    ConvertPair { how: Conversion, dst: Row, high: Row, low: Row },

    // Comparisons, predicates.
    /// dst = (a ? b) combined with a predicate; `other` = the negated comparison combined. For F16x2 and
    /// Bf16x2: dst from the low halves, `other` from the high ones.
    Setp {
        compare: Compare,
        ty: Type,
        ftz: bool,
        dst: Row,
        other: Option<Row>,
        a: Row,
        b: Row,
        combine: Option<Combine>,
    },
    /// The same into a register of type `to`: all ones or 0 for integers (U32, S32, U16), 1.0 or 0.0 for
    /// floats; F16x2 and Bf16x2 half by half.
    Set {
        compare: Compare,
        ty: Type,
        to: Type,
        ftz: bool,
        dst: Row,
        a: Row,
        b: Row,
        combine: Option<Combine>,
    },
    /// p ? a : b.
    Selp { file: File, dst: Row, a: Row, b: Row, p: Row },
    /// c >= 0 ? a : b, c of type S32 or F32 (NaN takes b).
    Slct { file: File, by: Type, ftz: bool, dst: Row, a: Row, b: Row, c: Row },
    /// Predicates.
    PredLogic { op: Logic, dst: Row, a: Row, b: Row },
    /// Complement of a predicate.
    PredNot { dst: Row, a: Row },

    // Memory.
    /// Parameter block at a constant offset, the same for all lanes.
    LoadParam { access: Access, dst: [Row; 4], offset: u32 },
    /// Any space; the first `access.count` rows are used.
    Load { space: Space, access: Access, dst: [Row; 4], address: Address },
    /// Any space.
    Store { space: Space, access: Access, src: [Row; 4], address: Address },
    /// `atom` and, without a destination, `red`. `c` is read by Cas only.
    Atomic { space: Space, op: AtomicOp, ty: Type, dst: Option<Row>, address: Address, b: Row, c: Row },
    /// Is the generic address (longs if `wide`) in the space?
    IsSpace { space: Space, wide: bool, dst: Row, a: Row },
    /// `cp.async`: the boxed part says what.
    AsyncCopy(Box<AsyncCopy>),
    /// `cp.async.commit_group`.
    AsyncCommit,
    /// `cp.async.wait_group n`: at most n of the youngest groups stay pending.
    AsyncWait { pending: u32 },
    /// `cp.async.wait_all`: as commit, then wait for all.
    AsyncWaitAll,
    /// `ldmatrix.sync.aligned.m8n8.xN[.trans].shared.b16`; `count` rows of dst are used.
    LdMatrix { space: Space, count: u8, transposed: bool, dst: [Row; 4], address: Address },

    // Matrix.
    /// `mma.sync`.
    Mma(Box<Mma>),

    // Control.
    /// Lanes that take it (the guard's) go to `target`, the others on; they meet again at `reconverge`,
    /// the immediate post-dominator, or [`NO_PC`].
    Bra { target: Pc, reconverge: Pc },
    /// `brx.idx`: each lane goes to `targets[index]`; beyond the table: Trap.
    BraIndexed(Box<BraIndexed>),
    /// `exit`, `ret` of a kernel.
    Exit,
    /// `trap`.
    Trap,
    /// `nanosleep` and its like: a good moment to let other warps run.
    Yield,
    /// `bar`, `barrier` (`aligned`: all threads of the warp must execute it together). `id` and `threads`
    /// are rows of words.
    Barrier { kind: BarrierKind, aligned: bool, id: Row, threads: Option<Row> },
    /// `bar.warp.sync`; `mask` is a row of words.
    WarpSync { mask: Row },
    /// `membar`, `fence`.
    Fence { scope: Scope },

    // Across lanes; `mask` is a row of words with the member mask.
    /// `shfl.sync`; `found` is the predicate "source lane in range".
    Shfl { mode: Shuffle, dst: Row, found: Option<Row>, a: Row, b: Row, c: Row, mask: Row },
    /// `vote.sync`.
    Vote { mode: Vote, dst: Row, src: Guard, mask: Row },
    /// `match.any`, `match.all` (`all`): dst is a word of lanes; `found` only for all.
    Match { all: bool, file: File, dst: Row, found: Option<Row>, a: Row, mask: Row },
    /// `redux.sync`: Add, Min, Max, And, Or, Xor.
    Redux { op: AtomicOp, ty: Type, dst: Row, a: Row, mask: Row },
    /// `elect.sync`: the least member's number in all of them, and a predicate that is true in that one.
    Elect { dst: Row, found: Row, mask: Row },
    /// `activemask`: a word.
    ActiveMask { dst: Row },

    // Checks that lowering inserts, for registers that some path reads before it writes them.
    /// Note in predicate row `row` that the active lanes have written the register.
    MarkWritten { row: Row },
    /// Fault (uninitialised) if an active lane's bit in predicate row `row` is not set. These rows start
    /// at 0.
    RequireWritten { row: Row },
}

/// Operands of `mad.cc`, `madc`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MadCarry {
    /// High half of the product, else the low one.
    pub high: bool,
    /// U32, S32, U64, S64.
    pub ty: Type,
    pub dst: Row,
    pub a: Row,
    pub b: Row,
    pub c: Row,
    pub carry_in: Option<Row>,
    pub carry_out: Option<Row>,
}

/// Operands of `cp.async`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsyncCopy {
    /// 4, 8 or 16.
    pub bytes: u32,
    /// `.cg`: past the first-level cache.
    pub bypass: bool,
    /// Where to, in shared memory.
    pub shared: Address,
    /// Where from, in global memory.
    pub global: Address,
    /// Row of words: bytes to read, the rest is filled with zeros.
    pub source_bytes: Option<Row>,
    /// Lanes whose predicate is set read nothing: all zeros.
    pub ignore: Option<Guard>,
}

/// Operands of `brx.idx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BraIndexed {
    /// Row of words.
    pub index: Row,
    /// Where to, by index.
    pub targets: Vec<Pc>,
    /// As in [`Op::Bra`].
    pub reconverge: Pc,
}

/// `prmt` modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permute {
    /// A selector nibble a byte, its top bit replicates the sign.
    Default,
    /// Forward 4 extract.
    F4e,
    /// Backward 4 extract.
    B4e,
    /// Replicate 8.
    Rc8,
    /// Edge clamp left.
    Ecl,
    /// Edge clamp right.
    Ecr,
    /// Replicate 16.
    Rc16,
}
