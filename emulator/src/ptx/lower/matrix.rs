//! `ldmatrix`, `mma`.

use super::operands::{arity, items};
use super::parts::Parts;
use super::{Lowering, Reason};
use crate::ir::{Mma, Op, Space, Type};

impl<'a> Lowering<'a, '_> {
    /// `ldmatrix`, `mma`.
    pub fn matrix(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        parts.expect("sync")?;
        parts.expect("aligned")?;
        if parts.name == "mma" { self.mma(parts) } else { self.ldmatrix(parts) }
    }

    fn ldmatrix(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [registers, address] = arity(parts.operands)?;
        parts.expect("m8n8")?;
        let count = parts.require("count", &[("x1", 1u8), ("x2", 2), ("x4", 4)])?;
        let transposed = parts.take("trans");
        let shared = parts.take("shared") || parts.take("shared::cta");
        parts.ty("b16")?;
        let (address, space) = self.address(address, if shared { Space::Shared } else { Space::Generic })?;
        if items(registers).len() != usize::from(count) {
            return Err(format!("{count} registers expected"));
        }
        let mut dst = [0; 4];
        for (reg, found) in dst.iter_mut().zip(self.regs(registers, Type::U32, true)?) {
            *reg = found;
        }
        self.emit(Op::LdMatrix { space, count, transposed, dst, address });
        Ok(())
    }

    fn mma(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [d, a, b, c] = arity(parts.operands)?;
        let shapes = [
            ("m16n8k4", (16, 8, 4)),
            ("m16n8k8", (16, 8, 8)),
            ("m16n8k16", (16, 8, 16)),
            ("m16n8k32", (16, 8, 32)),
            ("m8n8k16", (8, 8, 16)),
        ];
        let shape = parts.require("shape", &shapes)?;
        parts.expect("row")?;
        parts.expect("col")?;
        let d_type = parts.ty("f16 f32 s32")?;
        let a_type = parts.ty("f16 bf16 tf32 u8 s8")?;
        let b_type = parts.ty("f16 bf16 tf32 u8 s8")?;
        let c_type = parts.ty("f16 f32 s32")?;
        let saturate = d_type == Type::S32 && parts.take("satfinite");
        let (a_rows, b_rows) = operand_rows(shape, a_type, b_type, c_type, d_type)
            .ok_or_else(|| format!("{}: no such combination of shape and types", parts.opcode))?;
        let result_rows = |ty: Type| if ty == Type::F16 || shape.0 == 8 { 2 } else { 4 };
        let checked = |regs: Vec<u16>, count: usize, what: &str| match regs.len() == count {
            true => Ok(regs),
            false => Err(format!("{count} registers expected for {what}")),
        };
        let float = |ty: Type| if ty == Type::F32 { Type::F32 } else { Type::U32 };
        let mma = Mma {
            shape,
            a_type,
            b_type,
            c_type,
            d_type,
            saturate,
            a: checked(self.regs(a, Type::U32, false)?, a_rows, "A")?,
            b: checked(self.regs(b, Type::U32, false)?, b_rows, "B")?,
            c: checked(self.regs(c, float(c_type), false)?, result_rows(c_type), "C")?,
            d: checked(self.regs(d, float(d_type), true)?, result_rows(d_type), "D")?,
        };
        self.emit(Op::Mma(Box::new(mma)));
        Ok(())
    }
}

/// Registers of A and B where the hardware has the combination.
fn operand_rows(shape: (u8, u8, u8), a: Type, b: Type, c: Type, d: Type) -> Option<(usize, usize)> {
    let integers = matches!((a, b), (Type::U8 | Type::S8, Type::U8 | Type::S8));
    let accumulators = match a {
        Type::F16 => c != Type::S32 && c == d,
        Type::Bf16 | Type::Tf32 => c == Type::F32 && d == Type::F32,
        _ => c == Type::S32 && d == Type::S32,
    };
    if !accumulators || !(integers || a == b) {
        return None;
    }
    match (shape, a) {
        ((16, 8, 8), Type::F16 | Type::Bf16) | ((16, 8, 4), Type::Tf32) => Some((2, 1)),
        ((16, 8, 16), Type::F16 | Type::Bf16) | ((16, 8, 8), Type::Tf32) => Some((4, 2)),
        ((8, 8, 16), _) if integers => Some((1, 1)),
        ((16, 8, 16), _) if integers => Some((2, 1)),
        ((16, 8, 32), _) if integers => Some((4, 2)),
        _ => None,
    }
}
