//! The instructions with a vectorised form, and how they are recognised.

use crate::ir::{
    Access, Address, Compare, Conversion, File, Float1, Float2, Int2, Int3, Logic, Mode, Op, Reg, Round,
    Space, Type,
};

/// Registers of an operation with one operand.
#[derive(Clone, Copy, Debug)]
pub struct Unary {
    pub d: Reg,
    pub a: Reg,
}

/// Registers of an operation with two operands.
#[derive(Clone, Copy, Debug)]
pub struct Binary {
    pub d: Reg,
    pub a: Reg,
    pub b: Reg,
}

/// Registers of an operation with three operands.
#[derive(Clone, Copy, Debug)]
pub struct Ternary {
    pub d: Reg,
    pub a: Reg,
    pub b: Reg,
    pub c: Reg,
}

/// A load or store of 4-byte elements in global or shared memory.
#[derive(Clone, Copy, Debug)]
pub struct VectorAccess {
    /// Global memory, else shared.
    pub global: bool,
    /// Elements of a lane.
    pub count: u8,
    pub strong: bool,
    /// The first `count` hold the elements.
    pub regs: [Reg; 4],
    pub address: Address,
}

/// Comparisons with a vectorised form; unordered ones are false with NaN but for `Neu`.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// The instructions that programs spend their time in.
#[derive(Clone, Copy, Debug)]
pub enum VectorOp {
    MovB32(Unary),
    MovB64(Unary),
    AddB32(Binary),
    SubB32(Binary),
    MulB32(Binary),
    AndB32(Binary),
    OrB32(Binary),
    XorB32(Binary),
    ShlB32(Binary),
    ShrU32(Binary),
    ShrS32(Binary),
    MinS32(Binary),
    MaxS32(Binary),
    MinU32(Binary),
    MaxU32(Binary),
    MadB32(Ternary),
    MulWideU32(Binary),
    MulWideS32(Binary),
    MadWideU32(Ternary),
    MadWideS32(Ternary),
    MulHiU32(Binary),
    AddB64(Binary),
    SubB64(Binary),
    MulB64(Binary),
    AndB64(Binary),
    MadB64(Ternary),
    ShlB64(Binary),
    AddF32(Binary),
    SubF32(Binary),
    MulF32(Binary),
    DivF32(Binary),
    MinF32(Binary),
    MaxF32(Binary),
    FmaF32(Ternary),
    NegF32(Unary),
    AbsF32(Unary),
    SqrtF32(Unary),
    Lop3(Ternary, u8),
    CompareU32(Binary, Order),
    CompareS32(Binary, Order),
    CompareU64(Binary, Order),
    CompareS64(Binary, Order),
    CompareF32(Binary, Order),
    SelB32(Ternary),
    SelB64(Ternary),
    AndPredicate(Binary),
    OrPredicate(Binary),
    XorPredicate(Binary),
    NotPredicate(Unary),
    WidenS32(Unary),
    WidenU32(Unary),
    Narrow(Unary),
    FromS32(Unary),
    FromU32(Unary),
    Unpack32 {
        low: Reg,
        high: Reg,
        a: Reg,
    },
    /// Low, high.
    Pack32(Binary),
    FromBf16(Unary),
    FromF16(Unary),
    PairBf16(Binary),
    /// Parameter of 4 bytes.
    ParamB32 {
        d: Reg,
        offset: u32,
    },
    /// Parameter of 8 bytes.
    ParamB64 {
        d: Reg,
        offset: u32,
    },
    Load(VectorAccess),
    Store(VectorAccess),
    /// `mma.sync` of floats.
    Mma,
    Bra {
        target: u32,
        reconverge: u32,
    },
    /// Anything else: the scalar interpreter runs it.
    Scalar,
}

/// The vectorised form of an instruction, if there is one.
pub fn vectorised(op: &Op) -> Option<VectorOp> {
    Some(match *op {
        Op::Mov { file: File::B32, dst: d, src: a } => VectorOp::MovB32(Unary { d, a }),
        Op::Mov { file: File::B64, dst: d, src: a } => VectorOp::MovB64(Unary { d, a }),
        Op::Int2 { op, ty, dst: d, a, b } => return int2(op, ty, Binary { d, a, b }),
        Op::Int3 { op: Int3::MadLo, ty, dst: d, a, b, c } => {
            let regs = Ternary { d, a, b, c };
            match ty {
                Type::U32 | Type::S32 => VectorOp::MadB32(regs),
                Type::U64 | Type::S64 => VectorOp::MadB64(regs),
                _ => return None,
            }
        }
        Op::MulWide { ty: Type::U32, dst: d, a, b } => VectorOp::MulWideU32(Binary { d, a, b }),
        Op::MulWide { ty: Type::S32, dst: d, a, b } => VectorOp::MulWideS32(Binary { d, a, b }),
        Op::MadWide { ty: Type::U32, dst: d, a, b, c } => VectorOp::MadWideU32(Ternary { d, a, b, c }),
        Op::MadWide { ty: Type::S32, dst: d, a, b, c } => VectorOp::MadWideS32(Ternary { d, a, b, c }),
        Op::Lop3 { dst: d, a, b, c, table } => VectorOp::Lop3(Ternary { d, a, b, c }, table),
        Op::Float1 { op, ty: Type::F32, mode: Mode::PLAIN, dst: d, a } => match op {
            Float1::Neg => VectorOp::NegF32(Unary { d, a }),
            Float1::Abs => VectorOp::AbsF32(Unary { d, a }),
            Float1::Sqrt | Float1::SqrtApprox => VectorOp::SqrtF32(Unary { d, a }),
            _ => return None,
        },
        Op::Float2 { op, ty: Type::F32, mode: Mode::PLAIN, dst: d, a, b } => {
            let regs = Binary { d, a, b };
            match op {
                Float2::Add => VectorOp::AddF32(regs),
                Float2::Sub => VectorOp::SubF32(regs),
                Float2::Mul => VectorOp::MulF32(regs),
                Float2::Div => VectorOp::DivF32(regs),
                Float2::Min => VectorOp::MinF32(regs),
                Float2::Max => VectorOp::MaxF32(regs),
                _ => return None,
            }
        }
        Op::Fma { ty: Type::F32, mode: Mode::PLAIN, dst: d, a, b, c } => {
            VectorOp::FmaF32(Ternary { d, a, b, c })
        }
        Op::Convert { how, dst: d, src: a } => return convert(how, Unary { d, a }),
        Op::ConvertPair { how, dst: d, high: a, low: b }
            if [Type::Bf16x2, Type::Bf16].map(|to| Conversion::plain(Type::F32, to)).contains(&how) =>
        {
            VectorOp::PairBf16(Binary { d, a, b })
        }
        Op::Setp { compare: how, ty, ftz: false, dst: d, other: None, a, b, combine: None } => {
            return compare(how, ty, Binary { d, a, b });
        }
        Op::Selp { file: File::B32, dst: d, a, b, p: c } => VectorOp::SelB32(Ternary { d, a, b, c }),
        Op::Selp { file: File::B64, dst: d, a, b, p: c } => VectorOp::SelB64(Ternary { d, a, b, c }),
        Op::PredLogic { op, dst: d, a, b } => match op {
            Logic::And => VectorOp::AndPredicate(Binary { d, a, b }),
            Logic::Or => VectorOp::OrPredicate(Binary { d, a, b }),
            Logic::Xor => VectorOp::XorPredicate(Binary { d, a, b }),
        },
        Op::PredNot { dst: d, a } => VectorOp::NotPredicate(Unary { d, a }),
        Op::Unpack32 { low, high, src: a } => VectorOp::Unpack32 { low, high, a },
        Op::Pack32 { dst: d, low: a, high: b } => VectorOp::Pack32(Binary { d, a, b }),
        Op::LoadParam { access, dst: [d, ..], offset } if access.count == 1 => {
            match (access.ty.size(), access.register.size()) {
                (4, 4) => VectorOp::ParamB32 { d, offset },
                (8, 8) => VectorOp::ParamB64 { d, offset },
                _ => return None,
            }
        }
        Op::Load { space, access, dst, address } => VectorOp::Load(memory(space, access, dst, address)?),
        Op::Store { space, access, src, address } => VectorOp::Store(memory(space, access, src, address)?),
        Op::Mma(ref mma) if !matches!(mma.a_type, Type::S8 | Type::U8) => VectorOp::Mma,
        Op::Bra { target, reconverge } => VectorOp::Bra { target, reconverge },
        _ => return None,
    })
}

fn int2(op: Int2, ty: Type, regs: Binary) -> Option<VectorOp> {
    Some(match (op, ty) {
        (Int2::Add, Type::U32 | Type::S32) => VectorOp::AddB32(regs),
        (Int2::Sub, Type::U32 | Type::S32) => VectorOp::SubB32(regs),
        (Int2::MulLo, Type::U32 | Type::S32) => VectorOp::MulB32(regs),
        (Int2::MulHi, Type::U32) => VectorOp::MulHiU32(regs),
        (Int2::And, Type::U32 | Type::S32 | Type::U16 | Type::S16) => VectorOp::AndB32(regs),
        (Int2::Or, Type::U32 | Type::S32 | Type::U16 | Type::S16) => VectorOp::OrB32(regs),
        (Int2::Xor, Type::U32 | Type::S32 | Type::U16 | Type::S16) => VectorOp::XorB32(regs),
        (Int2::Shl, Type::U32 | Type::S32) => VectorOp::ShlB32(regs),
        (Int2::Shr, Type::U32) => VectorOp::ShrU32(regs),
        (Int2::Shr, Type::S32) => VectorOp::ShrS32(regs),
        (Int2::Min, Type::S32) => VectorOp::MinS32(regs),
        (Int2::Max, Type::S32) => VectorOp::MaxS32(regs),
        (Int2::Min, Type::U32) => VectorOp::MinU32(regs),
        (Int2::Max, Type::U32) => VectorOp::MaxU32(regs),
        (Int2::Add, Type::U64 | Type::S64) => VectorOp::AddB64(regs),
        (Int2::Sub, Type::U64 | Type::S64) => VectorOp::SubB64(regs),
        (Int2::MulLo, Type::U64 | Type::S64) => VectorOp::MulB64(regs),
        (Int2::And, Type::U64 | Type::S64) => VectorOp::AndB64(regs),
        (Int2::Shl, Type::U64 | Type::S64) => VectorOp::ShlB64(regs),
        _ => return None,
    })
}

fn compare(compare: Compare, ty: Type, regs: Binary) -> Option<VectorOp> {
    let order = match compare {
        Compare::Eq => Order::Eq,
        Compare::Ne if ty != Type::F32 => Order::Ne,
        Compare::Neu if ty == Type::F32 => Order::Ne,
        Compare::Lt => Order::Lt,
        Compare::Le => Order::Le,
        Compare::Gt => Order::Gt,
        Compare::Ge => Order::Ge,
        _ => return None,
    };
    Some(match ty {
        Type::U32 => VectorOp::CompareU32(regs, order),
        Type::S32 => VectorOp::CompareS32(regs, order),
        Type::U64 => VectorOp::CompareU64(regs, order),
        Type::S64 => VectorOp::CompareS64(regs, order),
        Type::F32 => VectorOp::CompareF32(regs, order),
        _ => return None,
    })
}

fn convert(how: Conversion, regs: Unary) -> Option<VectorOp> {
    let plain = Conversion { round: how.round, ..Conversion::plain(how.from, how.to) };
    if how != plain {
        return None;
    }
    Some(match (how.from, how.to) {
        (Type::S32, Type::S64 | Type::U64) => VectorOp::WidenS32(regs),
        (Type::U32, Type::S64 | Type::U64) => VectorOp::WidenU32(regs),
        (Type::S64 | Type::U64, Type::S32 | Type::U32) => VectorOp::Narrow(regs),
        (Type::S32, Type::F32) if how.round == Round::Near => VectorOp::FromS32(regs),
        (Type::U32, Type::F32) if how.round == Round::Near => VectorOp::FromU32(regs),
        (Type::Bf16, Type::F32) => VectorOp::FromBf16(regs),
        (Type::F16, Type::F32) => VectorOp::FromF16(regs),
        _ => return None,
    })
}

/// An access of 4-byte elements of global or shared memory.
fn memory(space: Space, access: Access, regs: [Reg; 4], address: Address) -> Option<VectorAccess> {
    let Access { ty, register, count, strong } = access;
    let global = match space {
        Space::Global | Space::Const => true,
        Space::Shared => false,
        _ => return None,
    };
    let b32 = ty.size() == 4 && register.size() == 4 && count <= 4;
    b32.then_some(VectorAccess { global, count, strong, regs, address })
}
