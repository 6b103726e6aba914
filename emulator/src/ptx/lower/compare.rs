//! Comparisons and choices.

use super::super::ast::Operand;
use super::modifiers::Modifiers;
use super::operands::arity;
use super::{Lowering, Reason};
use crate::ir::{Combine, Compare, Logic, Op, Type};

const TYPES: &str = "b16 b32 b64 u16 s16 u32 s32 u64 s64 f32 f64 f16 f16x2 bf16 bf16x2";

/// The comparison and whether it is one of unsigned (lo), or of floats only (equ, num).
fn comparison(modifiers: &mut Modifiers) -> Result<(Compare, bool), Reason> {
    let both = [
        ("eq", Compare::Eq),
        ("ne", Compare::Ne),
        ("lt", Compare::Lt),
        ("le", Compare::Le),
        ("gt", Compare::Gt),
        ("ge", Compare::Ge),
    ];
    if let Some(compare) = modifiers.choose(&both) {
        return Ok((compare, false));
    }
    let unsigned = [("lo", Compare::Lt), ("ls", Compare::Le), ("hi", Compare::Gt), ("hs", Compare::Ge)];
    if let Some(compare) = modifiers.choose(&unsigned) {
        return Ok((compare, false));
    }
    let floats = [
        ("equ", Compare::Equ),
        ("neu", Compare::Neu),
        ("ltu", Compare::Ltu),
        ("leu", Compare::Leu),
        ("gtu", Compare::Gtu),
        ("geu", Compare::Geu),
        ("num", Compare::Num),
        ("nan", Compare::Nan),
    ];
    Ok((modifiers.require("comparison", &floats)?, true))
}

impl<'a> Lowering<'a, '_> {
    /// `setp`, `set`, `selp`, `slct`.
    pub fn compare(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        match modifiers.name {
            "setp" => self.setp(modifiers, operands),
            "set" => self.set(modifiers, operands),
            "selp" => self.selp(modifiers, operands),
            _ => self.slct(modifiers, operands),
        }
    }

    /// The boolean operator with its predicate, and the other operands.
    fn combined<'o>(
        &mut self,
        modifiers: &mut Modifiers<'a>,
        operands: &'o [Operand<'a>],
    ) -> Result<(Option<Combine>, &'o [Operand<'a>; 3]), Reason> {
        let logic = [("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)];
        let Some(op) = modifiers.choose(&logic) else { return Ok((None, arity(operands)?)) };
        let [first @ .., last] = operands else { return Err("operands missing".to_owned()) };
        let guard = self.predicate(last)?;
        Ok((Some(Combine { op, row: guard.row, negated: guard.negated }), arity(first)?))
    }

    fn setp(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        let (compare, floats) = comparison(modifiers)?;
        let (combine, [dst, a, b]) = self.combined(modifiers, operands)?;
        let ftz = modifiers.take("ftz");
        let ty = modifiers.ty(TYPES)?;
        if floats && !ty.is_float() {
            return Err(format!("{}: a comparison of floats", modifiers.opcode));
        }
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let (Operand::Name(first, 0), second) = Self::pair(dst) else {
            return Err("setp needs a predicate".to_owned());
        };
        if matches!(ty, Type::F16x2 | Type::Bf16x2) && second.is_none() {
            return Err(format!("{}: two predicates needed", modifiers.opcode));
        }
        let dst = self.predicate_destination(first)?;
        let other = second.map(|name| self.predicate_destination(name)).transpose()?;
        self.emit(Op::Setp { compare, ty, ftz, dst, other, a, b, combine });
        Ok(())
    }

    fn set(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        let (compare, floats) = comparison(modifiers)?;
        let (combine, [dst, a, b]) = self.combined(modifiers, operands)?;
        let ftz = modifiers.take("ftz");
        let to = modifiers.ty("u16 s16 u32 s32 f32 f16 bf16 f16x2 bf16x2")?;
        let ty = modifiers.ty(TYPES)?;
        if floats && !ty.is_float() {
            return Err(format!("{}: a comparison of floats", modifiers.opcode));
        }
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let dst = self.destination(dst, to)?;
        self.emit(Op::Set { compare, ty, to, ftz, dst, a, b, combine });
        Ok(())
    }

    fn selp(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        let [dst, a, b, p] = arity(operands)?;
        let ty = modifiers.ty("b16 b32 b64 u16 s16 u32 s32 u64 s64 f32 f64")?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let p = self.plain_predicate(p)?;
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Selp { file: ty.file(), dst, a, b, p });
        Ok(())
    }

    fn slct(&mut self, modifiers: &mut Modifiers<'a>, operands: &[Operand<'a>]) -> Result<(), Reason> {
        let [dst, a, b, c] = arity(operands)?;
        let ftz = modifiers.take("ftz");
        let ty = modifiers.ty("b16 b32 b64 u16 s16 u32 s32 u64 s64 f32 f64")?;
        let by = modifiers.ty("s32 f32")?;
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, by)?);
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Slct { file: ty.file(), by, ftz, dst, a, b, c });
        Ok(())
    }
}
