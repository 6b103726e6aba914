//! Instructions.

use super::*;

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Instr {
    /// `@p`, `@!p`.
    pub guard: Option<Guard>,
    /// What it does.
    pub op: Op,
}

/// Operations. `dst` is written, the other registers are read; types say which file a register is in.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    // Moves.
    /// dst = src within a file.
    Mov { file: File, dst: Reg, src: Reg },
    /// Word from two 16-bit halves.
    Pack16 { dst: Reg, low: Reg, high: Reg },
    /// Two 16-bit halves of a word.
    Unpack16 { low: Reg, high: Reg, src: Reg },
    /// A b64 register from two b32 registers.
    Pack32 { dst: Reg, low: Reg, high: Reg },
    /// Two b32 registers from a b64 register.
    Unpack32 { low: Reg, high: Reg, src: Reg },
    /// `clock`, `clock_hi` or, as a long, `clock64`: cycles (or instructions) so far, never decreasing.
    Clock { file: File, dst: Reg, high: bool },
    /// `%globaltimer`, nanoseconds: a long; low or high word of it in a word.
    GlobalTimer { file: File, dst: Reg, high: bool },

    // Integers.
    /// One operand.
    Int1 { op: Int1, ty: Type, dst: Reg, a: Reg },
    /// Two operands.
    Int2 { op: Int2, ty: Type, dst: Reg, a: Reg, b: Reg },
    /// Three operands.
    Int3 { op: Int3, ty: Type, dst: Reg, a: Reg, b: Reg, c: Reg },
    /// Whole product of `ty` (16- or 32-bit): a result of twice the width.
    MulWide { ty: Type, dst: Reg, a: Reg, b: Reg },
    /// Whole product plus c, which has twice the width of `ty`.
    MadWide { ty: Type, dst: Reg, a: Reg, b: Reg, c: Reg },
    /// a + b + carry, or a - b - borrow (`subtract`); carry registers are predicates. `ty`: U32, S32, U64, S64.
    Carry {
        subtract: bool,
        ty: Type,
        dst: Reg,
        a: Reg,
        b: Reg,
        carry_in: Option<Reg>,
        carry_out: Option<Reg>,
    },
    /// Low or high half of a * b, plus c, plus carry; the carry out is that of the addition.
    MadCarry(Box<MadCarry>),
    /// `bfi`: a's low `length` bits put into b at `position` (b32, low 8 bits). `ty`: U32, U64.
    Bfi { ty: Type, dst: Reg, a: Reg, b: Reg, position: Reg, length: Reg },
    /// Any bitwise function of three b32 values: bit `4a + 2b + c` of the table.
    Lop3 { dst: Reg, a: Reg, b: Reg, c: Reg, table: u8 },
    /// Bytes chosen from b:a by the selector c, in the default mode or one of the special ones.
    Prmt { mode: Permute, dst: Reg, a: Reg, b: Reg, c: Reg },
    /// Funnel shift of b:a (b the high word) by c: `left` gives the high word; clamped to 32 or wrapped.
    Shf { left: bool, clamp: bool, dst: Reg, a: Reg, b: Reg, c: Reg },
    /// `dp4a`: four products of bytes; `dp2a`: two of a's halves with b's low or high (`high`) bytes; plus c.
    Dot { bytes: bool, high: bool, a_signed: bool, b_signed: bool, dst: Reg, a: Reg, b: Reg, c: Reg },

    // Floats.
    /// One operand.
    Float1 { op: Float1, ty: Type, mode: Mode, dst: Reg, a: Reg },
    /// Two operands.
    Float2 { op: Float2, ty: Type, mode: Mode, dst: Reg, a: Reg, b: Reg },
    /// a * b + c with one rounding.
    Fma { ty: Type, mode: Mode, dst: Reg, a: Reg, b: Reg, c: Reg },
    /// `testp`: a predicate.
    Testp { test: Test, ty: Type, dst: Reg, a: Reg },

    // Conversions.
    /// One value.
    Convert { how: Conversion, dst: Reg, src: Reg },
    /// Two f32 to f16x2 or bf16x2 (`how.to`): `high` becomes the upper half.
    ConvertPair { how: Conversion, dst: Reg, high: Reg, low: Reg },

    // Comparisons, predicates.
    /// dst = (a ? b) combined with a predicate; `other` = the negated comparison combined. For F16x2 and
    /// Bf16x2: dst from the low halves, `other` from the high ones.
    Setp {
        compare: Compare,
        ty: Type,
        ftz: bool,
        dst: Reg,
        other: Option<Reg>,
        a: Reg,
        b: Reg,
        combine: Option<Combine>,
    },
    /// The same into a register of type `to`: all ones or 0 for integers (U32, S32, U16), 1.0 or 0.0 for
    /// floats; F16x2 and Bf16x2 half by half.
    Set {
        compare: Compare,
        ty: Type,
        to: Type,
        ftz: bool,
        dst: Reg,
        a: Reg,
        b: Reg,
        combine: Option<Combine>,
    },
    /// p ? a : b.
    Selp { file: File, dst: Reg, a: Reg, b: Reg, p: Reg },
    /// c >= 0 ? a : b, c of type S32 or F32 (NaN takes b).
    Slct { file: File, by: Type, ftz: bool, dst: Reg, a: Reg, b: Reg, c: Reg },
    /// Predicates.
    PredLogic { op: Logic, dst: Reg, a: Reg, b: Reg },
    /// Complement of a predicate.
    PredNot { dst: Reg, a: Reg },

    // Memory.
    /// Parameter block at a constant offset, the same for all lanes.
    LoadParam { access: Access, dst: [Reg; 4], offset: u32 },
    /// Any space; the first `access.count` registers are used.
    Load { space: Space, access: Access, dst: [Reg; 4], address: Address },
    /// Any space.
    Store { space: Space, access: Access, src: [Reg; 4], address: Address },
    /// `atom` and, without a destination, `red`. `c` is read by Cas only.
    Atomic { space: Space, op: AtomicOp, ty: Type, dst: Option<Reg>, address: Address, b: Reg, c: Reg },
    /// Is the generic address (b64 if `wide`) in the space?
    IsSpace { space: Space, wide: bool, dst: Reg, a: Reg },
    /// `cp.async`: the boxed part says what.
    AsyncCopy(Box<AsyncCopy>),
    /// `cp.async.commit_group`.
    AsyncCommit,
    /// `cp.async.wait_group n`: at most n of the youngest groups stay pending.
    AsyncWait { pending: u32 },
    /// `cp.async.wait_all`: as commit, then wait for all.
    AsyncWaitAll,
    /// `ldmatrix.sync.aligned.m8n8.xN[.trans].shared.b16`; `count` registers of dst are used.
    LdMatrix { space: Space, count: u8, transposed: bool, dst: [Reg; 4], address: Address },

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
    /// are b32 registers.
    Barrier { kind: BarrierKind, aligned: bool, id: Reg, threads: Option<Reg> },
    /// `bar.warp.sync`; `mask` is a b32 register.
    WarpSync { mask: Reg },
    /// `membar`, `fence`.
    Fence { scope: Scope },

    // Across lanes; `mask` is a b32 register with the member mask.
    /// `shfl.sync`; `found` is the predicate "source lane in range".
    Shfl { mode: Shuffle, dst: Reg, found: Option<Reg>, a: Reg, b: Reg, c: Reg, mask: Reg },
    /// `vote.sync`.
    Vote { mode: Vote, dst: Reg, src: Guard, mask: Reg },
    /// `match.any`, `match.all` (`all`): dst is a word of lanes; `found` only for all.
    Match { all: bool, file: File, dst: Reg, found: Option<Reg>, a: Reg, mask: Reg },
    /// `redux.sync`: Add, Min, Max, And, Or, Xor.
    Redux { op: AtomicOp, ty: Type, dst: Reg, a: Reg, mask: Reg },
    /// `elect.sync`: the least member's number in all of them, and a predicate that is true in that one.
    Elect { dst: Reg, found: Reg, mask: Reg },
    /// `activemask`: a word.
    ActiveMask { dst: Reg },

    // Checks that lowering inserts, for registers that some path reads before it writes them.
    /// Note in predicate register `reg` that the active lanes have written the register.
    MarkWritten { reg: Reg },
    /// Fault (uninitialised) if an active lane's bit in predicate register `reg` is not set. These registers start
    /// at 0.
    RequireWritten { reg: Reg },
}
