//! What instructions compute, family by family, and the operands of the long ones.

use super::{Address, Guard, Logic, Pc, Reg, Round, Type};

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

impl Int1 {
    /// Type of the result.
    pub fn result(self, ty: Type) -> Type {
        match self {
            Int1::Popc | Int1::Clz | Int1::Bfind | Int1::BfindShift => Type::U32,
            Int1::Neg | Int1::Abs | Int1::Not | Int1::Cnot | Int1::Brev => ty,
        }
    }
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
    /// `b` is a b32 register, clamped to the width: 0 from there on.
    Shl,
    /// `b` is a b32 register, clamped to the width; signed types fill with the sign.
    Shr,
}

impl Int2 {
    /// Type of `b`.
    pub fn second(self, ty: Type) -> Type {
        if matches!(self, Int2::Shl | Int2::Shr) { Type::U32 } else { ty }
    }
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
    /// Bit field of a from bit b, c bits long (b, c: b32, low 8 bits); signed types extend the sign.
    Bfe,
}

impl Int3 {
    /// Type of `b` and `c`.
    pub fn others(self, ty: Type) -> Type {
        if self == Int3::Bfe { Type::U32 } else { ty }
    }
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
    /// Source type: the low bits of the register.
    pub from: Type,
    /// Result type (8-bit and 16-bit integers zero-extended in the register, whatever their sign).
    pub to: Type,
    /// Rounding; where `integral`, to an integer in the float format.
    pub round: Round,
    /// Float to the same float type with `.rni` and its like.
    pub integral: bool,
    /// As in [`Mode`](super::Mode).
    pub ftz: bool,
    /// Integers: clamp to the range of `to`. Floats: to [0, 1].
    pub sat: bool,
    /// As in [`Mode`](super::Mode).
    pub relu: bool,
}

impl Conversion {
    /// To nearest even, nothing else. Between integers it only cuts or extends.
    pub fn plain(from: Type, to: Type) -> Conversion {
        Conversion { from, to, round: Round::Near, integral: false, ftz: false, sat: false, relu: false }
    }
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
    /// `bar.red.and.pred`, `.or`: a predicate; the source predicate register, negated or not.
    Reduce {
        /// Register of the result.
        dst: Reg,
        /// and, or (never xor).
        op: Logic,
        /// Source predicate.
        src: Guard,
    },
    /// `bar.red.popc.u32`: a word.
    Count {
        /// Register of the result.
        dst: Reg,
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

/// `mma.sync.aligned`, A by registers, B by columns. Fragment layouts: the PTX manual's, which decide the
/// number of registers used of each operand.
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
    /// Registers of D: 4 for f32 and s32, 2 for f16 (m8n8: 2).
    pub d: Vec<Reg>,
    /// Registers of A.
    pub a: Vec<Reg>,
    /// Registers of B.
    pub b: Vec<Reg>,
    /// Registers of C.
    pub c: Vec<Reg>,
}

/// Operands of `mad.cc`, `madc`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MadCarry {
    /// High half of the product, else the low one.
    pub high: bool,
    /// U32, S32, U64, S64.
    pub ty: Type,
    pub dst: Reg,
    pub a: Reg,
    pub b: Reg,
    pub c: Reg,
    pub carry_in: Option<Reg>,
    pub carry_out: Option<Reg>,
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
    /// A b32 register: bytes to read, the rest is filled with zeros.
    pub source_bytes: Option<Reg>,
    /// Lanes whose predicate is set read nothing: all zeros.
    pub ignore: Option<Guard>,
}

/// Operands of `brx.idx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BraIndexed {
    /// A b32 register.
    pub index: Reg,
    /// Where to, by index.
    pub targets: Vec<Pc>,
    /// As in [`Op::Bra`](super::Op::Bra).
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
