//! Comparisons and choices.

use super::super::ast::Operand;
use super::operands::arity;
use super::parts::Parts;
use super::{Lowering, Reason};
use crate::ir::{Combine, Compare, Logic, Op, Type};

const TYPES: &str = "b16 b32 b64 u16 s16 u32 s32 u64 s64 f32 f64 f16 f16x2 bf16 bf16x2";

/// What a comparison can compare.
#[derive(Clone, Copy, PartialEq)]
enum Operands {
    /// Anything.
    Any,
    /// All but bare bits.
    Numbers,
    Unsigned,
    Floats,
}

/// The comparison, for operands that have it.
fn comparison(parts: &mut Parts) -> Result<(Compare, Operands), Reason> {
    let names = [
        ("eq", (Compare::Eq, Operands::Any)),
        ("ne", (Compare::Ne, Operands::Any)),
        ("lt", (Compare::Lt, Operands::Numbers)),
        ("le", (Compare::Le, Operands::Numbers)),
        ("gt", (Compare::Gt, Operands::Numbers)),
        ("ge", (Compare::Ge, Operands::Numbers)),
        ("lo", (Compare::Lt, Operands::Unsigned)),
        ("ls", (Compare::Le, Operands::Unsigned)),
        ("hi", (Compare::Gt, Operands::Unsigned)),
        ("hs", (Compare::Ge, Operands::Unsigned)),
        ("equ", (Compare::Equ, Operands::Floats)),
        ("neu", (Compare::Neu, Operands::Floats)),
        ("ltu", (Compare::Ltu, Operands::Floats)),
        ("leu", (Compare::Leu, Operands::Floats)),
        ("gtu", (Compare::Gtu, Operands::Floats)),
        ("geu", (Compare::Geu, Operands::Floats)),
        ("num", (Compare::Num, Operands::Floats)),
        ("nan", (Compare::Nan, Operands::Floats)),
    ];
    parts.require("comparison", &names)
}

/// Does the comparison go with the type?
fn check(parts: &Parts, operands: Operands, ty: Type, ftz: bool) -> Result<(), Reason> {
    let bits = parts.opcode.split('.').any(|part| matches!(part, "b16" | "b32" | "b64"));
    let good = match operands {
        Operands::Any => true,
        Operands::Numbers => !bits,
        Operands::Unsigned => !bits && !ty.is_float() && !ty.is_signed(),
        Operands::Floats => ty.is_float(),
    };
    if !good {
        return Err(format!("{}: this comparison is not for this type", parts.opcode));
    }
    if ftz && !matches!(ty, Type::F32 | Type::F16 | Type::F16x2) {
        return Err(format!("{}: no .ftz for this type", parts.opcode));
    }
    Ok(())
}

/// Does `set` give this type from a comparison of that one?
fn sets(to: Type, ty: Type) -> bool {
    match ty {
        Type::F16 | Type::Bf16 => to == ty || !to.is_float(),
        Type::F16x2 | Type::Bf16x2 => to == ty || matches!(to, Type::U32 | Type::S32),
        _ => matches!(to, Type::U32 | Type::S32 | Type::F32 | Type::F16 | Type::Bf16),
    }
}

impl<'a> Lowering<'a, '_> {
    /// `setp`, `set`, `selp`, `slct`.
    pub fn compare(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        match parts.name {
            "setp" => self.setp(parts),
            "set" => self.set(parts),
            "selp" => self.selp(parts),
            _ => self.slct(parts),
        }
    }

    /// The boolean operator with its predicate, and the other operands.
    fn combined<'o>(
        &mut self,
        parts: &mut Parts<'a>,
    ) -> Result<(Option<Combine>, &'o [Operand<'a>; 3]), Reason> {
        let logic = [("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)];
        let Some(op) = parts.choose(&logic) else { return Ok((None, arity(parts.operands)?)) };
        let [first @ .., last] = parts.operands else { return Err("operands missing".to_owned()) };
        let guard = self.predicate(last)?;
        Ok((Some(Combine { op, reg: guard.reg, negated: guard.negated }), arity(first)?))
    }

    fn setp(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let (compare, compared) = comparison(parts)?;
        let (combine, [dst, a, b]) = self.combined(parts)?;
        let ftz = parts.take("ftz");
        let ty = parts.ty(TYPES)?;
        check(parts, compared, ty, ftz)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let (first, second) = Self::pair(dst);
        if matches!(ty, Type::F16x2 | Type::Bf16x2) && second.is_none() {
            return Err(format!("{}: two predicates needed", parts.opcode));
        }
        let dst = self.predicate_destination(&first)?;
        let other = second.map(|second| self.predicate_destination(&second)).transpose()?;
        self.emit(Op::Setp { compare, ty, ftz, dst, other, a, b, combine });
        Ok(())
    }

    fn set(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let (compare, compared) = comparison(parts)?;
        let (combine, [dst, a, b]) = self.combined(parts)?;
        let ftz = parts.take("ftz");
        let to = parts.ty("u16 s16 u32 s32 f32 f16 bf16 f16x2 bf16x2")?;
        let ty = parts.ty(TYPES)?;
        check(parts, compared, ty, ftz)?;
        if !sets(to, ty) {
            return Err(format!("{}: no such result of this comparison", parts.opcode));
        }
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let dst = self.destination(dst, to)?;
        self.emit(Op::Set { compare, ty, to, ftz, dst, a, b, combine });
        Ok(())
    }

    fn selp(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, b, p] = arity(parts.operands)?;
        let ty = parts.ty("b16 b32 b64 u16 s16 u32 s32 u64 s64 f32 f64")?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let p = self.plain_predicate(p)?;
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Selp { file: ty.file(), dst, a, b, p });
        Ok(())
    }

    fn slct(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, a, b, c] = arity(parts.operands)?;
        let ftz = parts.take("ftz");
        let ty = parts.ty("b16 b32 b64 u16 s16 u32 s32 u64 s64 f32 f64")?;
        let by = parts.ty(if ftz { "f32" } else { "s32 f32" })?;
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, by)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Slct { file: ty.file(), by, ftz, dst, a, b, c });
        Ok(())
    }
}
