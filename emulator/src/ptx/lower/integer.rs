//! Integer arithmetic and bits.

use super::super::ast::Operand;
use super::operands::arity;
use super::parts::Parts;
use super::{Lowering, Reason};
use crate::ir::{File, Int1, Int2, Int3, Logic, MadCarry, Op, Permute, Reg, Type};

const ALL: &str = "u16 s16 u32 s32 u64 s64";

/// Which part of a product.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Low,
    High,
    Wide,
}

fn part(parts: &mut Parts) -> Result<Part, Reason> {
    parts.require("part", &[("lo", Part::Low), ("hi", Part::High), ("wide", Part::Wide)])
}

/// The type of twice the width.
fn wide(ty: Type) -> Result<Type, Reason> {
    match ty {
        Type::U16 => Ok(Type::U32),
        Type::S16 => Ok(Type::S32),
        Type::U32 => Ok(Type::U64),
        Type::S32 => Ok(Type::S64),
        _ => Err(format!("no .wide for {ty:?}")),
    }
}

impl<'a> Lowering<'a, '_> {
    /// Integer arithmetic.
    pub fn arithmetic(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        match parts.name {
            "add" | "sub" | "addc" | "subc" => self.sum(parts),
            "mul" | "mad" | "madc" | "mul24" | "mad24" => self.product(parts),
            "div" => self.int2(Int2::Div, ALL, parts),
            "rem" => self.int2(Int2::Rem, ALL, parts),
            "min" => self.int2(Int2::Min, ALL, parts),
            "max" => self.int2(Int2::Max, ALL, parts),
            "neg" => self.int1(Int1::Neg, "s16 s32 s64", parts),
            "abs" => self.int1(Int1::Abs, "s16 s32 s64", parts),
            _ => self.int3(Int3::Sad, ALL, parts),
        }
    }

    fn int1(&mut self, op: Int1, types: &str, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a] = arity(parts.operands)?;
        let ty = parts.ty(types)?;
        let a = self.source(a, ty)?;
        let dst = self.destination(dst, op.result(ty))?;
        self.emit(Op::Int1 { op, ty, dst, a });
        Ok(())
    }

    fn int2(&mut self, op: Int2, types: &str, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, b] = arity(parts.operands)?;
        let ty = parts.ty(types)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, op.second(ty))?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Int2 { op, ty, dst, a, b });
        Ok(())
    }

    fn int3(&mut self, op: Int3, types: &str, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, b, c] = arity(parts.operands)?;
        let ty = parts.ty(types)?;
        let others = op.others(ty);
        let (a, b, c) = (self.source(a, ty)?, self.source(b, others)?, self.source(c, others)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Int3 { op, ty, dst, a, b, c });
        Ok(())
    }

    /// The condition code register.
    fn carry(&mut self) -> Result<Reg, Reason> {
        match self.carry {
            Some(reg) => Ok(reg),
            None => {
                let reg = self.temporary(File::Predicates)?;
                self.carry = Some(reg);
                Ok(reg)
            }
        }
    }

    fn carries(&mut self, reads: bool, parts: &mut Parts) -> Result<(Option<Reg>, Option<Reg>), Reason> {
        let writes = parts.take("cc");
        let carry_in = if reads { Some(self.carry()?) } else { None };
        let carry_out = if writes { Some(self.carry()?) } else { None };
        Ok((carry_in, carry_out))
    }

    fn sum(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let subtract = parts.name.starts_with("sub");
        let (carry_in, carry_out) = self.carries(parts.name.ends_with('c'), parts)?;
        if carry_in.is_none() && carry_out.is_none() {
            let saturate = parts.take("sat");
            let (op, types) = match (subtract, saturate) {
                (false, false) => (Int2::Add, ALL),
                (false, true) => (Int2::AddSat, "s32"),
                (true, false) => (Int2::Sub, ALL),
                (true, true) => (Int2::SubSat, "s32"),
            };
            return self.int2(op, types, parts);
        }
        let [dst, a, b] = arity(parts.operands)?;
        let ty = parts.ty("u32 s32 u64 s64")?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Carry { subtract, ty, dst, a, b, carry_in, carry_out });
        Ok(())
    }

    fn product(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let part = part(parts)?;
        match parts.name {
            "mul" if part == Part::Wide => self.wide_product(parts, false),
            "mad" if part == Part::Wide => self.wide_product(parts, true),
            "mul" => {
                let op = if part == Part::Low { Int2::MulLo } else { Int2::MulHi };
                self.int2(op, ALL, parts)
            }
            "mul24" | "mad24" => self.product24(part, parts),
            name => {
                let (carry_in, carry_out) = self.carries(name == "madc", parts)?;
                if carry_in.is_some() || carry_out.is_some() {
                    return self.mad_carry(part, carry_in, carry_out, parts);
                }
                match (part, parts.take("sat")) {
                    (Part::Low, false) => self.int3(Int3::MadLo, ALL, parts),
                    (Part::High, false) => self.int3(Int3::MadHi, ALL, parts),
                    (Part::High, true) => self.int3(Int3::MadHiSat, "s32", parts),
                    _ => Err(format!("{}: unknown modifier .sat", parts.opcode)),
                }
            }
        }
    }

    fn wide_product(&mut self, parts: &mut Parts<'a>, adds: bool) -> Result<(), Reason> {
        let ty = parts.ty("u16 s16 u32 s32")?;
        let result = wide(ty)?;
        if adds {
            let [dst, a, b, c] = arity(parts.operands)?;
            let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, result)?);
            let dst = self.destination(dst, result)?;
            self.emit(Op::MadWide { ty, dst, a, b, c });
        } else {
            let [dst, a, b] = arity(parts.operands)?;
            let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
            let dst = self.destination(dst, result)?;
            self.emit(Op::MulWide { ty, dst, a, b });
        }
        Ok(())
    }

    fn product24(&mut self, part: Part, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let op = match part {
            Part::Low => Int2::Mul24Lo,
            Part::High => Int2::Mul24Hi,
            Part::Wide => return Err(format!("{}: unknown modifier .wide", parts.opcode)),
        };
        if parts.name == "mul24" {
            return self.int2(op, "u32 s32", parts);
        }
        let [dst, a, b, c] = arity(parts.operands)?;
        let ty = parts.ty("u32 s32")?;
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
        let product = self.temporary(File::B32)?;
        self.emit_pure(Op::Int2 { op, ty, dst: product, a, b });
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Int2 { op: Int2::Add, ty, dst, a: product, b: c });
        Ok(())
    }

    fn mad_carry(
        &mut self,
        part: Part,
        carry_in: Option<Reg>,
        carry_out: Option<Reg>,
        parts: &mut Parts<'a>,
    ) -> Result<(), Reason> {
        if part == Part::Wide {
            return Err(format!("{}: unknown modifier .wide", parts.opcode));
        }
        let [dst, a, b, c] = arity(parts.operands)?;
        let ty = parts.ty("u32 s32 u64 s64")?;
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
        let dst = self.destination(dst, ty)?;
        let high = part == Part::High;
        self.emit(Op::MadCarry(Box::new(MadCarry { high, ty, dst, a, b, c, carry_in, carry_out })));
        Ok(())
    }

    /// Bitwise operations, also on predicates.
    pub fn bits(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let bits = "b16 b32 b64";
        if matches!(parts.name, "and" | "or" | "xor" | "not") && parts.take("pred") {
            return self.on_predicates(parts);
        }
        match parts.name {
            "and" => self.int2(Int2::And, bits, parts),
            "or" => self.int2(Int2::Or, bits, parts),
            "xor" => self.int2(Int2::Xor, bits, parts),
            "not" => self.int1(Int1::Not, bits, parts),
            "cnot" => self.int1(Int1::Cnot, bits, parts),
            "shl" => self.int2(Int2::Shl, bits, parts),
            "shr" => self.int2(Int2::Shr, "b16 b32 b64 u16 s16 u32 s32 u64 s64", parts),
            "popc" => self.int1(Int1::Popc, "b32 b64", parts),
            "clz" => self.int1(Int1::Clz, "b32 b64", parts),
            "brev" => self.int1(Int1::Brev, "b32 b64", parts),
            "bfind" => {
                let op = if parts.take("shiftamt") { Int1::BfindShift } else { Int1::Bfind };
                self.int1(op, "u32 s32 u64 s64", parts)
            }
            "bfe" => self.int3(Int3::Bfe, "u32 s32 u64 s64", parts),
            "bfi" => self.bfi(parts),
            _ => self.words(parts),
        }
    }

    fn on_predicates(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        if parts.name == "not" {
            let [dst, a] = arity(parts.operands)?;
            let a = self.plain_predicate(a)?;
            let dst = self.predicate_destination(dst)?;
            self.emit(Op::PredNot { dst, a });
            return Ok(());
        }
        let [dst, a, b] = arity(parts.operands)?;
        let (a, b) = (self.plain_predicate(a)?, self.plain_predicate(b)?);
        let dst = self.predicate_destination(dst)?;
        let op = match parts.name {
            "and" => Logic::And,
            "or" => Logic::Or,
            _ => Logic::Xor,
        };
        self.emit(Op::PredLogic { op, dst, a, b });
        Ok(())
    }

    fn bfi(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, b, position, length] = arity(parts.operands)?;
        let ty = parts.ty("b32 b64")?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let (position, length) = (self.source(position, Type::U32)?, self.source(length, Type::U32)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Bfi { ty, dst, a, b, position, length });
        Ok(())
    }

    /// Operations on three words.
    fn words(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let table = match (parts.name, parts.operands.get(4)) {
            ("lop3", Some(Operand::Int(table))) => {
                u8::try_from(*table).map_err(|_| "a lop3 table has 8 bits".to_owned())?
            }
            ("lop3", _) => return Err("lop3 needs a constant table".to_owned()),
            (_, Some(_)) => return Err("4 operands expected".to_owned()),
            _ => 0,
        };
        let [dst, a, b, c] = arity(parts.operands.get(..4).unwrap_or(parts.operands))?;
        let regs = [self.source(a, Type::U32)?, self.source(b, Type::U32)?, self.source(c, Type::U32)?];
        let ([a, b, c], dst) = (regs, self.destination(dst, Type::U32)?);
        let op = match parts.name {
            "lop3" => Op::Lop3 { dst, a, b, c, table },
            "prmt" => Op::Prmt { mode: permutation(parts), dst, a, b, c },
            "shf" => {
                let left = parts.require("direction", &[("l", true), ("r", false)])?;
                let clamp = parts.require("mode", &[("clamp", true), ("wrap", false)])?;
                Op::Shf { left, clamp, dst, a, b, c }
            }
            name => {
                let bytes = name == "dp4a";
                let high = !bytes && parts.require("half", &[("lo", false), ("hi", true)])?;
                let a_signed = parts.ty("u32 s32")?.is_signed();
                let b_signed = parts.ty("u32 s32")?.is_signed();
                Op::Dot { bytes, high, a_signed, b_signed, dst, a, b, c }
            }
        };
        if matches!(op, Op::Lop3 { .. } | Op::Prmt { .. } | Op::Shf { .. }) {
            parts.ty("b32")?;
        }
        self.emit(op);
        Ok(())
    }
}

fn permutation(parts: &mut Parts) -> Permute {
    let modes = [
        ("f4e", Permute::F4e),
        ("b4e", Permute::B4e),
        ("rc8", Permute::Rc8),
        ("ecl", Permute::Ecl),
        ("ecr", Permute::Ecr),
        ("rc16", Permute::Rc16),
    ];
    parts.choose(&modes).unwrap_or(Permute::Default)
}
