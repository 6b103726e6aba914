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
