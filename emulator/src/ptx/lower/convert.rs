//! `cvt`.

use super::super::ast::Width;
use super::operands::arity;
use super::parts::Parts;
use super::{Lowering, Reason};
use crate::ir::{Conversion, File, Op, Round, Type};

const TYPES: &str = "u8 s8 u16 s16 u32 s32 u64 s64 f16 bf16 f32 f64 tf32 f16x2 bf16x2";

impl<'a> Lowering<'a, '_> {
    /// `cvt`.
    pub fn cvt(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        if parts.take("pack") {
            return self.pack_saturated(parts);
        }
        let to = parts.ty(TYPES)?;
        let from = parts.ty(TYPES)?;
        let how = conversion(parts, from, to)?;
        if matches!(to, Type::F16x2 | Type::Bf16x2) {
            let [dst, high, low] = arity(parts.operands)?;
            let (high, low) = (self.source(high, from)?, self.source(low, from)?);
            let dst = self.destination(dst, to)?;
            self.emit(Op::ConvertPair { how, dst, high, low });
            return Ok(());
        }
        let [dst, src] = arity(parts.operands)?;
        let src = if from.is_float() { self.source(src, from)? } else { self.source_relaxed(src, from)? };
        let register = match self.register(dst)? {
            _ if to.is_float() => to,
            Some((Width::B16, _)) => Type::S16,
            Some((Width::B32, _)) => Type::S32,
            Some((Width::B64, _)) => Type::S64,
            _ => to,
        };
        if register.size() <= to.size() {
            let dst = self.destination(dst, to)?;
            self.emit(Op::Convert { how, dst, src });
            return Ok(());
        }
        // A register wider than the result is filled up by the result's sign.
        let narrow = self.temporary(to.file())?;
        self.emit_pure(Op::Convert { how, dst: narrow, src });
        let dst = self.destination(dst, register)?;
        self.emit(Op::Convert { how: Conversion::plain(to, register), dst, src: narrow });
        Ok(())
    }

    /// `cvt.pack.sat`: two saturated values side by side; bytes go below what a third operand holds.
    fn pack_saturated(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        parts.expect("sat")?;
        let to = parts.ty("u16 s16 u8 s8")?;
        let from = parts.ty("s32")?;
        let how = Conversion { sat: true, ..Conversion::plain(from, to) };
        let [dst, high, low, rest @ ..] = parts.operands else { return Err("operands missing".to_owned()) };
        let mut clamped = [0; 2];
        for (reg, operand) in clamped.iter_mut().zip([high, low]) {
            let src = self.source(operand, from)?;
            *reg = self.temporary(File::B32)?;
            self.emit_pure(Op::Convert { how, dst: *reg, src });
        }
        let [high, low] = clamped;
        if to.size() == 2 {
            arity::<0>(rest)?;
            let dst = self.destination(dst, Type::U32)?;
            self.emit(Op::Pack16 { dst, low, high });
            return Ok(());
        }
        parts.ty("b32")?;
        let [above] = arity(rest)?;
        let above = self.source(above, Type::U32)?;
        let (eight, sixteen, both) =
            (self.constant_b32(8)?, self.constant_b32(16)?, self.temporary(File::B32)?);
        let insert = |dst, a, b, at, length| Op::Bfi { ty: Type::U32, dst, a, b, position: at, length };
        self.emit_pure(insert(both, high, low, eight, eight));
        let dst = self.destination(dst, Type::U32)?;
        self.emit(insert(dst, above, both, sixteen, sixteen));
        Ok(())
    }
}

fn conversion(parts: &mut Parts, from: Type, to: Type) -> Result<Conversion, Reason> {
    let opcode = parts.opcode;
    let wrong = |message: &str| Err(format!("{opcode}: {message}"));
    let paired = matches!(to, Type::F16x2 | Type::Bf16x2);
    if matches!(from, Type::F16x2 | Type::Bf16x2 | Type::Tf32) {
        return wrong("no conversion from this type");
    }
    if (paired || to == Type::Tf32) && from != Type::F32 {
        return wrong("only from .f32");
    }
    let integral = parts.round_integral();
    let away = to == Type::Tf32 && parts.take("rna");
    let round = if away { Some(Round::NearAway) } else { parts.round() };
    let relu = from == Type::F32
        && (paired || matches!(to, Type::F16 | Type::Bf16 | Type::Tf32))
        && parts.take("relu");
    let (ftz, sat) = (parts.take("ftz"), parts.take("sat"));
    if integral.is_some() && round.is_some() {
        return wrong("two roundings");
    }
    let exact = loses_nothing(from, to);
    match (from.is_float(), to.is_float()) {
        (true, false) if integral.is_none() => return wrong("to an integer needs .rni, .rzi, .rmi or .rpi"),
        (true, false) if round.is_some() => return wrong("unknown rounding"),
        (false, false) if integral.is_some() || round.is_some() => return wrong("no rounding of integers"),
        (false, true) if integral.is_some() => return wrong("unknown rounding"),
        (false, true) if round.is_none() => return wrong("a rounding is needed"),
        (true, true) if integral.is_some() && from != to => return wrong("unknown rounding"),
        (true, true) if round.is_none() && !exact => return wrong("a rounding is needed"),
        _ => {}
    }
    let near = matches!(round, Some(Round::Near | Round::Zero));
    if (relu || paired || to == Type::Tf32) && (ftz || sat || (!near && !away) || (away && relu)) {
        return wrong("these modifiers do not go together");
    }
    if sat && !from.is_float() && !to.is_float() && holds_all(to, from) {
        return wrong("no .sat where nothing can be out of range");
    }
    if ftz && from != Type::F32 && to != Type::F32 {
        return wrong("no .ftz without .f32");
    }
    Ok(Conversion {
        from,
        to,
        round: integral.or(round).unwrap_or_default(),
        integral: integral.is_some() && to.is_float(),
        ftz,
        sat,
        relu,
    })
}

/// Does every value of one integer type exist in the other?
fn holds_all(wide: Type, narrow: Type) -> bool {
    match (wide.is_signed(), narrow.is_signed()) {
        (true, false) => wide.size() > narrow.size(),
        (false, true) => false,
        _ => wide.size() >= narrow.size(),
    }
}

/// Does every value of one float type exist in the other?
fn loses_nothing(from: Type, to: Type) -> bool {
    from == to || to == Type::F64 || (to == Type::F32 && matches!(from, Type::F16 | Type::Bf16))
}
