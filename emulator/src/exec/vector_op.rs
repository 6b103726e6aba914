//! The instructions with a vectorised form, and how they are recognised.

use super::plan::PlannedInstr;
use crate::ir::{
    Access, Address, Compare, Conversion, File, Float1, Float2, Instr, Int2, Int3, Logic, Mode, Op, Reg,
    Round, Space, Type,
};

/// Registers of an operation with one operand. All registers in a plan exist in the kernel's files.
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
    Pack32 {
        d: Reg,
        low: Reg,
        high: Reg,
    },
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

/// Sizes of the register files.
pub struct Files {
    pub b32: u32,
    pub b64: u32,
    pub predicates: u32,
}

impl Files {
    /// The instruction with its vectorised form.
    pub fn plan(&self, instruction: &Instr) -> PlannedInstr {
        let guard = instruction.guard;
        let op = match guard {
            Some(guard) if !self.has(File::Predicates, &[guard.reg]) => None,
            _ => self.vectorised(&instruction.op),
        };
        PlannedInstr { guard, op: op.unwrap_or(VectorOp::Scalar) }
    }

    fn has(&self, file: File, regs: &[Reg]) -> bool {
        let count = match file {
            File::B32 => self.b32,
            File::B64 => self.b64,
            File::Predicates => self.predicates,
        };
        regs.iter().all(|reg| u32::from(*reg) < count)
    }

    /// The vectorised form, if there is one and its registers exist.
    fn vectorised(&self, op: &Op) -> Option<VectorOp> {
        use File::{B32, B64, Predicates};
        match *op {
            Op::Mov { file: B32, dst: d, src: a } => {
                self.checked(VectorOp::MovB32(Unary { d, a }), &[(B32, &[d, a])])
            }
            Op::Mov { file: B64, dst: d, src: a } => {
                self.checked(VectorOp::MovB64(Unary { d, a }), &[(B64, &[d, a])])
            }
            Op::Int2 { op, ty, dst: d, a, b } => self.int2(op, ty, Binary { d, a, b }),
            Op::Int3 { op: Int3::MadLo, ty, dst: d, a, b, c } => {
                let regs = Ternary { d, a, b, c };
                let op = match ty {
                    Type::U32 | Type::S32 => VectorOp::MadB32(regs),
                    Type::U64 | Type::S64 => VectorOp::MadB64(regs),
                    _ => return None,
                };
                self.checked(op, &[(ty.file(), &[d, a, b, c])])
            }
            Op::MulWide { ty, dst: d, a, b } => {
                let op = signed(
                    ty,
                    VectorOp::MulWideU32(Binary { d, a, b }),
                    VectorOp::MulWideS32(Binary { d, a, b }),
                )?;
                self.checked(op, &[(B64, &[d]), (B32, &[a, b])])
            }
            Op::MadWide { ty, dst: d, a, b, c } => {
                let regs = Ternary { d, a, b, c };
                let op = signed(ty, VectorOp::MadWideU32(regs), VectorOp::MadWideS32(regs))?;
                self.checked(op, &[(B64, &[d, c]), (B32, &[a, b])])
            }
            Op::Lop3 { dst: d, a, b, c, table } => {
                self.checked(VectorOp::Lop3(Ternary { d, a, b, c }, table), &[(B32, &[d, a, b, c])])
            }
            Op::Float1 { op, ty: Type::F32, mode: Mode::PLAIN, dst: d, a } => {
                let op = match op {
                    Float1::Neg => VectorOp::NegF32(Unary { d, a }),
                    Float1::Abs => VectorOp::AbsF32(Unary { d, a }),
                    Float1::Sqrt | Float1::SqrtApprox => VectorOp::SqrtF32(Unary { d, a }),
                    _ => return None,
                };
                self.checked(op, &[(B32, &[d, a])])
            }
            Op::Float2 { op, ty: Type::F32, mode: Mode::PLAIN, dst: d, a, b } => {
                let regs = Binary { d, a, b };
                let op = match op {
                    Float2::Add => VectorOp::AddF32(regs),
                    Float2::Sub => VectorOp::SubF32(regs),
                    Float2::Mul => VectorOp::MulF32(regs),
                    Float2::Div => VectorOp::DivF32(regs),
                    Float2::Min => VectorOp::MinF32(regs),
                    Float2::Max => VectorOp::MaxF32(regs),
                    _ => return None,
                };
                self.checked(op, &[(B32, &[d, a, b])])
            }
            Op::Fma { ty: Type::F32, mode: Mode::PLAIN, dst: d, a, b, c } => {
                self.checked(VectorOp::FmaF32(Ternary { d, a, b, c }), &[(B32, &[d, a, b, c])])
            }
            Op::Convert { how, dst: d, src: a } => self.convert(how, d, a),
            Op::ConvertPair { how, dst: d, high: a, low: b } => {
                let plain = how == pair(Type::Bf16x2) || how == pair(Type::Bf16);
                self.checked(VectorOp::PairBf16(Binary { d, a, b }), &[(B32, &[d, a, b])]).filter(|_| plain)
            }
            Op::Setp { compare, ty, ftz: false, dst: d, other: None, a, b, combine: None } => {
                self.compare(compare, ty, Binary { d, a, b })
            }
            Op::Selp { file, dst: d, a, b, p: c } => {
                let regs = Ternary { d, a, b, c };
                let op = match file {
                    B32 => VectorOp::SelB32(regs),
                    B64 => VectorOp::SelB64(regs),
                    Predicates => return None,
                };
                self.checked(op, &[(file, &[d, a, b]), (Predicates, &[c])])
            }
            Op::PredLogic { op, dst: d, a, b } => {
                let regs = Binary { d, a, b };
                let op = match op {
                    Logic::And => VectorOp::AndPredicate(regs),
                    Logic::Or => VectorOp::OrPredicate(regs),
                    Logic::Xor => VectorOp::XorPredicate(regs),
                };
                self.checked(op, &[(Predicates, &[d, a, b])])
            }
            Op::PredNot { dst: d, a } => {
                self.checked(VectorOp::NotPredicate(Unary { d, a }), &[(Predicates, &[d, a])])
            }
            Op::Unpack32 { low, high, src: a } => {
                self.checked(VectorOp::Unpack32 { low, high, a }, &[(B32, &[low, high]), (B64, &[a])])
            }
            Op::Pack32 { dst: d, low, high } => {
                self.checked(VectorOp::Pack32 { d, low, high }, &[(B32, &[low, high]), (B64, &[d])])
            }
            Op::LoadParam { access, dst, offset } if access.count == 1 && access.ty.size() >= 4 => {
                let d = dst[0];
                match (access.ty.size(), access.register.size()) {
                    (4, 4) => self.checked(VectorOp::ParamB32 { d, offset }, &[(B32, &[d])]),
                    (8, 8) => self.checked(VectorOp::ParamB64 { d, offset }, &[(B64, &[d])]),
                    _ => None,
                }
            }
            Op::Load { space, access, dst, address } => {
                self.memory(space, access, dst, address).map(VectorOp::Load)
            }
            Op::Store { space, access, src, address } => {
                self.memory(space, access, src, address).map(VectorOp::Store)
            }
            Op::Mma(ref mma) if !matches!(mma.a_type, Type::S8 | Type::U8) => Some(VectorOp::Mma),
            Op::Bra { target, reconverge } => Some(VectorOp::Bra { target, reconverge }),
            _ => None,
        }
    }

    fn checked(&self, op: VectorOp, regs: &[(File, &[Reg])]) -> Option<VectorOp> {
        regs.iter().all(|(file, regs)| self.has(*file, regs)).then_some(op)
    }

    fn int2(&self, op: Int2, ty: Type, regs: Binary) -> Option<VectorOp> {
        let Binary { d, a, b } = regs;
        let op = match (op, ty) {
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
            (Int2::Shl, Type::U64 | Type::S64) => {
                return self.checked(VectorOp::ShlB64(regs), &[(File::B64, &[d, a]), (File::B32, &[b])]);
            }
            _ => return None,
        };
        self.checked(op, &[(ty.file(), &[d, a, b])])
    }

    fn compare(&self, compare: Compare, ty: Type, regs: Binary) -> Option<VectorOp> {
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
        let op = match ty {
            Type::U32 => VectorOp::CompareU32(regs, order),
            Type::S32 => VectorOp::CompareS32(regs, order),
            Type::U64 => VectorOp::CompareU64(regs, order),
            Type::S64 => VectorOp::CompareS64(regs, order),
            Type::F32 => VectorOp::CompareF32(regs, order),
            _ => return None,
        };
        self.checked(op, &[(File::Predicates, &[regs.d]), (ty.file(), &[regs.a, regs.b])])
    }

    fn convert(&self, how: Conversion, d: Reg, a: Reg) -> Option<VectorOp> {
        let Conversion { from, to, .. } = how;
        let plain = !how.ftz && !how.sat && !how.relu && !how.integral;
        let op = match (from, to) {
            _ if !plain => return None,
            (Type::S32, Type::S64 | Type::U64) => VectorOp::WidenS32(Unary { d, a }),
            (Type::U32, Type::S64 | Type::U64) => VectorOp::WidenU32(Unary { d, a }),
            (Type::S64 | Type::U64, Type::S32 | Type::U32) => VectorOp::Narrow(Unary { d, a }),
            (Type::S32, Type::F32) if how.round == Round::Near => VectorOp::FromS32(Unary { d, a }),
            (Type::U32, Type::F32) if how.round == Round::Near => VectorOp::FromU32(Unary { d, a }),
            (Type::Bf16, Type::F32) => VectorOp::FromBf16(Unary { d, a }),
            (Type::F16, Type::F32) => VectorOp::FromF16(Unary { d, a }),
            _ => return None,
        };
        self.checked(op, &[(to.file(), &[d]), (from.file(), &[a])])
    }

    /// An access of 4-byte elements of global or shared memory.
    fn memory(&self, space: Space, access: Access, regs: [Reg; 4], address: Address) -> Option<VectorAccess> {
        let global = match space {
            Space::Global | Space::Const => true,
            Space::Shared => false,
            _ => return None,
        };
        let b32 = access.ty.size() == 4 && access.register.size() == 4;
        let file = if address.wide { File::B64 } else { File::B32 };
        let used = regs.get(..usize::from(access.count))?;
        let good = b32 && self.has(file, &[address.reg]) && self.has(File::B32, used);
        good.then_some(VectorAccess { global, count: access.count, strong: access.strong, regs, address })
    }
}

fn signed(ty: Type, unsigned: VectorOp, signed: VectorOp) -> Option<VectorOp> {
    match ty {
        Type::U32 => Some(unsigned),
        Type::S32 => Some(signed),
        _ => None,
    }
}

/// The common conversion of two f32.
fn pair(to: Type) -> Conversion {
    Conversion {
        from: Type::F32,
        to,
        round: Round::Near,
        integral: false,
        ftz: false,
        sat: false,
        relu: false,
    }
}
