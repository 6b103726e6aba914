//! What operands are: types and spaces, addresses, roundings.

use super::Reg;

/// The three register files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// `[u32; 32]` registers.
    B32,
    /// `[u64; 32]` registers.
    B64,
    /// One lane mask a register.
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
            8 => File::B64,
            _ => File::B32,
        }
    }

    /// The file of values of twice the width: of products of 16 or 32 bits.
    pub const fn wide_file(self) -> File {
        if self.size() == 2 { File::B32 } else { File::B64 }
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
    /// Predicate register.
    pub reg: Reg,
    /// `@!p`.
    pub negated: bool,
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

/// Address operand: a register of addresses and a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// A b64 register if `wide`, else a b32 register.
    pub reg: Reg,
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
    /// Width of the registers: U16, U32 or U64 ([`Type::file`] gives the file, also for the registers).
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
    /// Predicate register.
    pub reg: Reg,
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
