//! `mov` with packing, address conversions.

use super::super::ast::Operand;
use super::operands::{arity, items};
use super::parts::Parts;
use super::{Lowering, Reason};
use crate::ir::{Conversion, File, Int2, LOCAL_WINDOW, Op, PARAM_WINDOW, Reg, SHARED_WINDOW, Space, Type};

impl<'a> Lowering<'a, '_> {
    /// `mov`.
    pub fn mov(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, src] = arity(parts.operands)?;
        if parts.take("pred") {
            let src = self.plain_predicate(src)?;
            let dst = self.predicate_destination(dst)?;
            self.emit(Op::Mov { file: File::Predicates, dst, src });
            return Ok(());
        }
        let ty = parts.ty("b16 u16 s16 b32 u32 s32 b64 u64 s64 f16 bf16 f16x2 bf16x2 f32 f64")?;
        match (dst, src) {
            (Operand::Vector(vector), src) => self.unpack(ty, vector, src),
            (dst, Operand::Vector(vector)) => self.pack(ty, dst, vector),
            (dst, Operand::Name(name, 0)) if is_time(name) => self.time(ty, dst, name),
            _ => {
                let src = self.source(src, ty)?;
                let dst = self.destination(dst, ty)?;
                self.emit(Op::Mov { file: ty.file(), dst, src });
                Ok(())
            }
        }
    }

    fn pack(&mut self, ty: Type, dst: &Operand<'a>, vector: &[Operand<'a>]) -> Result<(), Reason> {
        let part = part_type(ty, vector.len())?;
        let regs = vector.iter().map(|item| self.source(item, part)).collect::<Result<Vec<_>, _>>()?;
        let dst = self.destination(dst, ty)?;
        match *regs {
            [low, high] if ty.size() == 8 => self.emit(Op::Pack32 { dst, low, high }),
            [low, high] if ty.size() == 4 => self.emit(Op::Pack16 { dst, low, high }),
            [a, b, c, d] if ty.size() == 8 => {
                let low = self.pack_words(a, b)?;
                let high = self.pack_words(c, d)?;
                self.emit(Op::Pack32 { dst, low, high });
            }
            [a, b, c, d] if ty.size() == 4 => {
                let low = self.pack_bytes(a, b)?;
                let high = self.pack_bytes(c, d)?;
                self.emit(Op::Pack16 { dst, low, high });
            }
            [low, high] => {
                let both = self.pack_bytes(low, high)?;
                self.emit(Op::Mov { file: File::B32, dst, src: both });
            }
            _ => return Err("no vector of this size fits".to_owned()),
        }
        Ok(())
    }

    fn pack_words(&mut self, low: Reg, high: Reg) -> Result<Reg, Reason> {
        let dst = self.temporary(File::B32)?;
        self.emit_pure(Op::Pack16 { dst, low, high });
        Ok(dst)
    }

    fn pack_bytes(&mut self, low: Reg, high: Reg) -> Result<Reg, Reason> {
        let dst = self.temporary(File::B32)?;
        let eight = self.constant_b32(8)?;
        self.emit_pure(Op::Bfi { ty: Type::U32, dst, a: high, b: low, position: eight, length: eight });
        Ok(dst)
    }

    fn unpack(&mut self, ty: Type, vector: &[Operand<'a>], src: &Operand<'a>) -> Result<(), Reason> {
        let part = part_type(ty, vector.len())?;
        let src = self.source(src, ty)?;
        let regs = vector.iter().map(|item| self.destination(item, part)).collect::<Result<Vec<_>, _>>()?;
        match *regs {
            [low, high] if ty.size() == 8 => self.emit(Op::Unpack32 { low, high, src }),
            [low, high] if ty.size() == 4 => self.emit(Op::Unpack16 { low, high, src }),
            [a, b, c, d] if ty.size() == 8 => {
                let (low, high) = (self.temporary(File::B32)?, self.temporary(File::B32)?);
                self.emit_pure(Op::Unpack32 { low, high, src });
                self.emit(Op::Unpack16 { low: a, high: b, src: low });
                self.emit(Op::Unpack16 { low: c, high: d, src: high });
            }
            // Sources first: a part may be the register that is taken apart.
            _ if part == Type::U8 => {
                let copy = self.temporary(File::B32)?;
                self.emit_pure(Op::Mov { file: File::B32, dst: copy, src });
                for (index, &dst) in regs.iter().enumerate() {
                    let (shifted, by) = (self.temporary(File::B32)?, self.constant_b32(8 * index as u32)?);
                    self.emit_pure(Op::Int2 { op: Int2::Shr, ty: Type::U32, dst: shifted, a: copy, b: by });
                    let how = Conversion::plain(Type::U8, Type::U32);
                    self.emit(Op::Convert { how, dst, src: shifted });
                }
            }
            _ => return Err("no vector of this size fits".to_owned()),
        }
        Ok(())
    }

    fn time(&mut self, ty: Type, dst: &Operand<'a>, name: &str) -> Result<(), Reason> {
        let wide = matches!(name, "%clock64" | "%globaltimer");
        if ty.size() != if wide { 8 } else { 4 } {
            return Err(format!("{name} has another size than {ty:?}"));
        }
        let (file, dst, high) = (ty.file(), self.destination(dst, ty)?, name.ends_with("_hi"));
        self.emit(match name.starts_with("%clock") {
            true => Op::Clock { file, dst, high },
            false => Op::GlobalTimer { file, dst, high },
        });
        Ok(())
    }

    /// `cvta`, `cvta.to`.
    pub fn cvta(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, src] = arity(parts.operands)?;
        let op = if parts.take("to") { Int2::Sub } else { Int2::Add };
        let space = window_space(parts)?;
        let ty = parts.ty("u64")?;
        let src = self.source(src, ty)?;
        let dst = self.destination(dst, ty)?;
        let window = match space {
            Space::Shared => SHARED_WINDOW,
            Space::Local => LOCAL_WINDOW,
            Space::Param => PARAM_WINDOW,
            _ => {
                self.emit(Op::Mov { file: File::B64, dst, src });
                return Ok(());
            }
        };
        let b = self.constant_b64(window)?;
        self.emit(Op::Int2 { op, ty, dst, a: src, b });
        Ok(())
    }

    /// `isspacep`.
    pub fn isspacep(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [dst, src] = arity(parts.operands)?;
        let space = window_space(parts)?;
        if space == Space::Const {
            return Err(format!("{}: constant variables have no window of their own here", parts.opcode));
        }
        let wide = matches!(self.register(src)?, Some((super::super::ast::Width::B64, _)));
        let a = self.source(src, if wide { Type::U64 } else { Type::U32 })?;
        let dst = self.predicate_destination(dst)?;
        self.emit(Op::IsSpace { space, wide, dst, a });
        Ok(())
    }

    /// `createpolicy`: a policy changes nothing that an emulator shows, so any value will do.
    pub fn createpolicy(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        parts.expect("fractional")?;
        parts.take_prefixed("L2::");
        let ty = parts.ty("b64")?;
        let Some(dst) = parts.operands.first() else {
            return Err("createpolicy without operands".to_owned());
        };
        let src = self.constant_b64(0)?;
        let dst = self.destination(dst, ty)?;
        self.emit(Op::Mov { file: File::B64, dst, src });
        Ok(())
    }

    /// The registers of `{a, b}`, as sources or destinations of one type.
    pub fn regs(&mut self, operand: &Operand<'a>, ty: Type, written: bool) -> Result<Vec<Reg>, Reason> {
        let mut regs = Vec::new();
        for item in items(operand) {
            regs.push(if written { self.destination(item, ty)? } else { self.source(item, ty)? });
        }
        Ok(regs)
    }
}

fn is_time(name: &str) -> bool {
    matches!(
        name,
        "%clock" | "%clock_hi" | "%clock64" | "%globaltimer" | "%globaltimer_lo" | "%globaltimer_hi"
    )
}

fn part_type(ty: Type, count: usize) -> Result<Type, Reason> {
    match ty.size() as usize / count.max(1) {
        4 if count == 2 => Ok(Type::U32),
        2 if count == 2 || count == 4 => Ok(Type::U16),
        1 if count == 2 || count == 4 => Ok(Type::U8),
        _ => Err(format!("{count} parts do not make a {ty:?}")),
    }
}

fn window_space(parts: &mut Parts) -> Result<Space, Reason> {
    let spaces = [
        ("global", Space::Global),
        ("shared", Space::Shared),
        ("shared::cta", Space::Shared),
        ("local", Space::Local),
        ("const", Space::Const),
        ("param", Space::Param),
    ];
    parts.require("space", &spaces)
}
