//! The instructions that have a vectorised form, and how they are recognised.

use super::plan::Step;
use crate::ir::{
    Access, Address, Compare, Conversion, File, Float1, Float2, Instr, Int2, Int3, Logic, Mode, Op, Round,
    Row, Space, Type,
};

/// Rows of an operation of two operands. All rows in a plan exist in the kernel's files.
#[derive(Clone, Copy, Debug)]
pub struct Two {
    pub d: Row,
    pub a: Row,
    pub b: Row,
}

/// Rows of an operation of three operands.
#[derive(Clone, Copy, Debug)]
pub struct Three {
    pub d: Row,
    pub a: Row,
    pub b: Row,
    pub c: Row,
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

/// The instructions that programs spend their time in. W: words, L: longs, U, S: sign, F: f32, P:
/// predicates.
#[derive(Clone, Copy, Debug)]
pub enum Fast {
    MovW {
        d: Row,
        a: Row,
    },
    MovL {
        d: Row,
        a: Row,
    },
    AddW(Two),
    SubW(Two),
    MulW(Two),
    AndW(Two),
    OrW(Two),
    XorW(Two),
    ShlW(Two),
    ShrU(Two),
    ShrS(Two),
    MinS(Two),
    MaxS(Two),
    MinU(Two),
    MaxU(Two),
    MadW(Three),
    MulWideU(Two),
    MulWideS(Two),
    MadWideU(Three),
    MadWideS(Three),
    MulHiU(Two),
    AddL(Two),
    SubL(Two),
    MulL(Two),
    AndL(Two),
    MadL(Three),
    ShlL(Two),
    AddF(Two),
    SubF(Two),
    MulF(Two),
    DivF(Two),
    MinF(Two),
    MaxF(Two),
    FmaF(Three),
    NegF {
        d: Row,
        a: Row,
    },
    AbsF {
        d: Row,
        a: Row,
    },
    SqrtF {
        d: Row,
        a: Row,
    },
    Lop3 {
        rows: Three,
        table: u8,
    },
    CompareU(Two, Order),
    CompareS(Two, Order),
    CompareUL(Two, Order),
    CompareSL(Two, Order),
    CompareF(Two, Order),
    SelW(Three),
    SelL(Three),
    AndP(Two),
    OrP(Two),
    XorP(Two),
    NotP {
        d: Row,
        a: Row,
    },
    WidenS {
        d: Row,
        a: Row,
    },
    WidenU {
        d: Row,
        a: Row,
    },
    Narrow {
        d: Row,
        a: Row,
    },
    FromS {
        d: Row,
        a: Row,
    },
    FromU {
        d: Row,
        a: Row,
    },
    Unpack32 {
        low: Row,
        high: Row,
        a: Row,
    },
    Pack32 {
        d: Row,
        low: Row,
        high: Row,
    },
    FromBf16 {
        d: Row,
        a: Row,
    },
    FromF16 {
        d: Row,
        a: Row,
    },
    PairBf16(Two),
    /// Parameter of 4 bytes.
    ParamW {
        d: Row,
        offset: u32,
    },
    /// Parameter of 8 bytes.
    ParamL {
        d: Row,
        offset: u32,
    },
    /// 4-byte elements.
    Load {
        global: bool,
        count: u8,
        strong: bool,
        rows: [Row; 4],
        address: Address,
    },
    /// 4-byte elements.
    Store {
        global: bool,
        count: u8,
        strong: bool,
        rows: [Row; 4],
        address: Address,
    },
    /// `mma.sync` of floats.
    Mma,
    Bra {
        target: u32,
        reconverge: u32,
    },
    /// Anything else.
    General,
}

/// Sizes of the register files.
pub struct Files {
    pub words: u32,
    pub longs: u32,
    pub predicates: u32,
}

impl Files {
    /// The instruction with its vectorised form.
    pub fn plan(&self, instruction: &Instr) -> Step {
        let guard = instruction.guard;
        let fast = match guard {
            Some(guard) if !self.has(File::Predicates, &[guard.row]) => None,
            _ => self.fast(&instruction.op),
        };
        Step { guard, fast: fast.unwrap_or(Fast::General) }
    }

    fn has(&self, file: File, rows: &[Row]) -> bool {
        let count = match file {
            File::Words => self.words,
            File::Longs => self.longs,
            File::Predicates => self.predicates,
        };
        rows.iter().all(|row| u32::from(*row) < count)
    }

    /// The vectorised form, if there is one and its rows exist.
    fn fast(&self, op: &Op) -> Option<Fast> {
        use File::{Longs, Predicates, Words};
        match *op {
            Op::Mov { file: Words, dst: d, src: a } => self.checked(Fast::MovW { d, a }, &[(Words, &[d, a])]),
            Op::Mov { file: Longs, dst: d, src: a } => self.checked(Fast::MovL { d, a }, &[(Longs, &[d, a])]),
            Op::Int2 { op, ty, dst: d, a, b } => self.int2(op, ty, Two { d, a, b }),
            Op::Int3 { op: Int3::MadLo, ty, dst: d, a, b, c } => {
                let rows = Three { d, a, b, c };
                let fast = match ty {
                    Type::U32 | Type::S32 => Fast::MadW(rows),
                    Type::U64 | Type::S64 => Fast::MadL(rows),
                    _ => return None,
                };
                self.checked(fast, &[(ty.file(), &[d, a, b, c])])
            }
            Op::MulWide { ty, dst: d, a, b } => {
                let fast = signed(ty, Fast::MulWideU(Two { d, a, b }), Fast::MulWideS(Two { d, a, b }))?;
                self.checked(fast, &[(Longs, &[d]), (Words, &[a, b])])
            }
            Op::MadWide { ty, dst: d, a, b, c } => {
                let rows = Three { d, a, b, c };
                let fast = signed(ty, Fast::MadWideU(rows), Fast::MadWideS(rows))?;
                self.checked(fast, &[(Longs, &[d, c]), (Words, &[a, b])])
            }
            Op::Lop3 { dst: d, a, b, c, table } => {
                self.checked(Fast::Lop3 { rows: Three { d, a, b, c }, table }, &[(Words, &[d, a, b, c])])
            }
            Op::Float1 { op, ty: Type::F32, mode: Mode::PLAIN, dst: d, a } => {
                let fast = match op {
                    Float1::Neg => Fast::NegF { d, a },
                    Float1::Abs => Fast::AbsF { d, a },
                    Float1::Sqrt | Float1::SqrtApprox => Fast::SqrtF { d, a },
                    _ => return None,
                };
                self.checked(fast, &[(Words, &[d, a])])
            }
            Op::Float2 { op, ty: Type::F32, mode: Mode::PLAIN, dst: d, a, b } => {
                let rows = Two { d, a, b };
                let fast = match op {
                    Float2::Add => Fast::AddF(rows),
                    Float2::Sub => Fast::SubF(rows),
                    Float2::Mul => Fast::MulF(rows),
                    Float2::Div => Fast::DivF(rows),
                    Float2::Min => Fast::MinF(rows),
                    Float2::Max => Fast::MaxF(rows),
                    _ => return None,
                };
                self.checked(fast, &[(Words, &[d, a, b])])
            }
            Op::Fma { ty: Type::F32, mode: Mode::PLAIN, dst: d, a, b, c } => {
                self.checked(Fast::FmaF(Three { d, a, b, c }), &[(Words, &[d, a, b, c])])
            }
            Op::Convert { how, dst: d, src: a } => self.convert(how, d, a),
            Op::ConvertPair { how, dst: d, high: a, low: b } => {
                let plain = how == pair(Type::Bf16x2) || how == pair(Type::Bf16);
                self.checked(Fast::PairBf16(Two { d, a, b }), &[(Words, &[d, a, b])]).filter(|_| plain)
            }
            Op::Setp { compare, ty, ftz: false, dst: d, other: None, a, b, combine: None } => {
                self.compare(compare, ty, Two { d, a, b })
            }
            Op::Selp { file, dst: d, a, b, p: c } => {
                let rows = Three { d, a, b, c };
                let fast = match file {
                    Words => Fast::SelW(rows),
                    Longs => Fast::SelL(rows),
                    Predicates => return None,
                };
                self.checked(fast, &[(file, &[d, a, b]), (Predicates, &[c])])
            }
            Op::PredLogic { op, dst: d, a, b } => {
                let rows = Two { d, a, b };
                let fast = match op {
                    Logic::And => Fast::AndP(rows),
                    Logic::Or => Fast::OrP(rows),
                    Logic::Xor => Fast::XorP(rows),
                };
                self.checked(fast, &[(Predicates, &[d, a, b])])
            }
            Op::PredNot { dst: d, a } => self.checked(Fast::NotP { d, a }, &[(Predicates, &[d, a])]),
            Op::Unpack32 { low, high, src: a } => {
                self.checked(Fast::Unpack32 { low, high, a }, &[(Words, &[low, high]), (Longs, &[a])])
            }
            Op::Pack32 { dst: d, low, high } => {
                self.checked(Fast::Pack32 { d, low, high }, &[(Words, &[low, high]), (Longs, &[d])])
            }
            Op::LoadParam { access, dst, offset } if access.count == 1 && access.ty.size() >= 4 => {
                let d = dst[0];
                match (access.ty.size(), access.register.size()) {
                    (4, 4) => self.checked(Fast::ParamW { d, offset }, &[(Words, &[d])]),
                    (8, 8) => self.checked(Fast::ParamL { d, offset }, &[(Longs, &[d])]),
                    _ => None,
                }
            }
            Op::Load { space, access, dst: rows, address } => {
                let (global, count, strong) = self.memory(space, access, &rows, address)?;
                Some(Fast::Load { global, count, strong, rows, address })
            }
            Op::Store { space, access, src: rows, address } => {
                let (global, count, strong) = self.memory(space, access, &rows, address)?;
                Some(Fast::Store { global, count, strong, rows, address })
            }
            Op::Mma(ref mma) if !matches!(mma.a_type, Type::S8 | Type::U8) => Some(Fast::Mma),
            Op::Bra { target, reconverge } => Some(Fast::Bra { target, reconverge }),
            _ => None,
        }
    }

    fn checked(&self, fast: Fast, rows: &[(File, &[Row])]) -> Option<Fast> {
        rows.iter().all(|(file, rows)| self.has(*file, rows)).then_some(fast)
    }

    fn int2(&self, op: Int2, ty: Type, rows: Two) -> Option<Fast> {
        let Two { d, a, b } = rows;
        let fast = match (op, ty) {
            (Int2::Add, Type::U32 | Type::S32) => Fast::AddW(rows),
            (Int2::Sub, Type::U32 | Type::S32) => Fast::SubW(rows),
            (Int2::MulLo, Type::U32 | Type::S32) => Fast::MulW(rows),
            (Int2::MulHi, Type::U32) => Fast::MulHiU(rows),
            (Int2::And, Type::U32 | Type::S32 | Type::U16 | Type::S16) => Fast::AndW(rows),
            (Int2::Or, Type::U32 | Type::S32 | Type::U16 | Type::S16) => Fast::OrW(rows),
            (Int2::Xor, Type::U32 | Type::S32 | Type::U16 | Type::S16) => Fast::XorW(rows),
            (Int2::Shl, Type::U32 | Type::S32) => Fast::ShlW(rows),
            (Int2::Shr, Type::U32) => Fast::ShrU(rows),
            (Int2::Shr, Type::S32) => Fast::ShrS(rows),
            (Int2::Min, Type::S32) => Fast::MinS(rows),
            (Int2::Max, Type::S32) => Fast::MaxS(rows),
            (Int2::Min, Type::U32) => Fast::MinU(rows),
            (Int2::Max, Type::U32) => Fast::MaxU(rows),
            (Int2::Add, Type::U64 | Type::S64) => Fast::AddL(rows),
            (Int2::Sub, Type::U64 | Type::S64) => Fast::SubL(rows),
            (Int2::MulLo, Type::U64 | Type::S64) => Fast::MulL(rows),
            (Int2::And, Type::U64 | Type::S64) => Fast::AndL(rows),
            (Int2::Shl, Type::U64 | Type::S64) => {
                return self.checked(Fast::ShlL(rows), &[(File::Longs, &[d, a]), (File::Words, &[b])]);
            }
            _ => return None,
        };
        self.checked(fast, &[(ty.file(), &[d, a, b])])
    }

    fn compare(&self, compare: Compare, ty: Type, rows: Two) -> Option<Fast> {
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
        let fast = match ty {
            Type::U32 => Fast::CompareU(rows, order),
            Type::S32 => Fast::CompareS(rows, order),
            Type::U64 => Fast::CompareUL(rows, order),
            Type::S64 => Fast::CompareSL(rows, order),
            Type::F32 => Fast::CompareF(rows, order),
            _ => return None,
        };
        self.checked(fast, &[(File::Predicates, &[rows.d]), (ty.file(), &[rows.a, rows.b])])
    }

    fn convert(&self, how: Conversion, d: Row, a: Row) -> Option<Fast> {
        let Conversion { from, to, .. } = how;
        let plain = !how.ftz && !how.sat && !how.relu && !how.integral;
        let fast = match (from, to) {
            _ if !plain => return None,
            (Type::S32, Type::S64 | Type::U64) => Fast::WidenS { d, a },
            (Type::U32, Type::S64 | Type::U64) => Fast::WidenU { d, a },
            (Type::S64 | Type::U64, Type::S32 | Type::U32) => Fast::Narrow { d, a },
            (Type::S32, Type::F32) if how.round == Round::Near => Fast::FromS { d, a },
            (Type::U32, Type::F32) if how.round == Round::Near => Fast::FromU { d, a },
            (Type::Bf16, Type::F32) => Fast::FromBf16 { d, a },
            (Type::F16, Type::F32) => Fast::FromF16 { d, a },
            _ => return None,
        };
        self.checked(fast, &[(to.file(), &[d]), (from.file(), &[a])])
    }

    /// For 4-byte elements of global or shared memory: whether global, how many, strong.
    fn memory(
        &self,
        space: Space,
        access: Access,
        rows: &[Row; 4],
        address: Address,
    ) -> Option<(bool, u8, bool)> {
        let global = match space {
            Space::Global | Space::Const => true,
            Space::Shared => false,
            _ => return None,
        };
        let words = access.ty.size() == 4 && access.register.size() == 4;
        let file = if address.wide { File::Longs } else { File::Words };
        let used = rows.get(..usize::from(access.count))?;
        let good = words && self.has(file, &[address.row]) && self.has(File::Words, used);
        good.then_some((global, access.count, access.strong))
    }
}

fn signed(ty: Type, unsigned: Fast, signed: Fast) -> Option<Fast> {
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
