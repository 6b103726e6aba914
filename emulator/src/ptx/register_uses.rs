//! Every register that an instruction reads or writes, in one table.

use crate::ir::{
    Access, Address, BarrierKind, Combine, File, Guard, Instr, Int1, Int2, Int3, Op, Reg, Type, Vote,
};

/// Is a register read or written?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Read.
    Read,
    /// Written.
    Write,
}

use File::{B32, B64, Predicates};
use Use::{Read, Write};

/// Calls `visit` with every register of an instruction, its guard included. Reads come before writes.
pub fn visit(instr: &mut Instr, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    if let Some(Guard { reg, .. }) = &mut instr.guard {
        visit(Predicates, reg, Read);
    }
    visit_op(&mut instr.op, visit);
}

/// Must no destination share a register with a source that dies here? True where an executor that writes lane
/// by lane or destination by destination would read what it just wrote.
pub fn keeps_sources(op: &Op) -> bool {
    matches!(
        op,
        Op::Load { .. }
            | Op::Unpack16 { .. }
            | Op::Unpack32 { .. }
            | Op::Carry { .. }
            | Op::MadCarry(_)
            | Op::Setp { .. }
            | Op::Atomic { .. }
            | Op::LdMatrix { .. }
            | Op::Mma(_)
            | Op::Barrier { .. }
            | Op::Shfl { .. }
            | Op::Vote { .. }
            | Op::Match { .. }
            | Op::Redux { .. }
    )
}

fn address(address: &mut Address, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    visit(if address.wide { B64 } else { B32 }, &mut address.reg, Read);
}

fn elements(access: &Access, regs: &mut [Reg; 4], how: Use, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    for reg in regs.iter_mut().take(usize::from(access.count)) {
        visit(access.register.file(), reg, how);
    }
}

fn combine(combine: &mut Option<Combine>, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    if let Some(combine) = combine {
        visit(Predicates, &mut combine.reg, Read);
    }
}

fn optional(file: File, reg: &mut Option<Reg>, how: Use, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    if let Some(reg) = reg {
        visit(file, reg, how);
    }
}

/// The file of twice a type's width.
fn double(ty: Type) -> File {
    if ty.size() == 4 { B64 } else { B32 }
}

fn visit_op(op: &mut Op, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    match op {
        Op::Mov { file, dst, src } => {
            visit(*file, src, Read);
            visit(*file, dst, Write);
        }
        Op::Pack16 { dst, low, high } => {
            visit(B32, low, Read);
            visit(B32, high, Read);
            visit(B32, dst, Write);
        }
        Op::Unpack16 { low, high, src } => {
            visit(B32, src, Read);
            visit(B32, low, Write);
            visit(B32, high, Write);
        }
        Op::Pack32 { dst, low, high } => {
            visit(B32, low, Read);
            visit(B32, high, Read);
            visit(B64, dst, Write);
        }
        Op::Unpack32 { low, high, src } => {
            visit(B64, src, Read);
            visit(B32, low, Write);
            visit(B32, high, Write);
        }
        Op::Clock { file, dst, .. } | Op::GlobalTimer { file, dst, .. } => visit(*file, dst, Write),
        Op::ActiveMask { dst } => visit(B32, dst, Write),
        Op::Exit | Op::Trap | Op::Yield | Op::Fence { .. } | Op::Bra { .. } => {}
        Op::AsyncCommit | Op::AsyncWait { .. } | Op::AsyncWaitAll => {}
        Op::BraIndexed(branch) => visit(B32, &mut branch.index, Read),
        Op::MarkWritten { reg } => {
            // Also read: a lane that does not write keeps its bit. The register itself is visited once, since
            // the visitor may put another number there.
            let mut written = *reg;
            visit(Predicates, reg, Read);
            visit(Predicates, &mut written, Write);
        }
        Op::RequireWritten { reg } => visit(Predicates, reg, Read),
        Op::Int1 { .. } | Op::Int2 { .. } | Op::Int3 { .. } | Op::MulWide { .. } | Op::MadWide { .. } => {
            integer(op, visit);
        }
        Op::Carry { .. } | Op::MadCarry(_) | Op::Bfi { .. } | Op::Lop3 { .. } => bits(op, visit),
        Op::Prmt { .. } | Op::Shf { .. } | Op::Dot { .. } => bits(op, visit),
        Op::Float1 { .. } | Op::Float2 { .. } | Op::Fma { .. } | Op::Testp { .. } => float(op, visit),
        Op::Convert { .. } | Op::ConvertPair { .. } => float(op, visit),
        Op::Setp { .. } | Op::Set { .. } | Op::Selp { .. } | Op::Slct { .. } => choice(op, visit),
        Op::PredLogic { .. } | Op::PredNot { .. } => choice(op, visit),
        Op::LoadParam { .. } | Op::Load { .. } | Op::Store { .. } | Op::Atomic { .. } => memory(op, visit),
        Op::IsSpace { .. } | Op::AsyncCopy(_) | Op::LdMatrix { .. } => memory(op, visit),
        Op::Mma(_) | Op::Barrier { .. } | Op::WarpSync { .. } | Op::Shfl { .. } => warp(op, visit),
        Op::Vote { .. } | Op::Match { .. } | Op::Redux { .. } | Op::Elect { .. } => warp(op, visit),
    }
}

fn integer(op: &mut Op, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    match op {
        Op::Int1 { op, ty, dst, a } => {
            visit(ty.file(), a, Read);
            let word = matches!(op, Int1::Popc | Int1::Clz | Int1::Bfind | Int1::BfindShift);
            visit(if word { B32 } else { ty.file() }, dst, Write);
        }
        Op::Int2 { op, ty, dst, a, b } => {
            visit(ty.file(), a, Read);
            let shift = matches!(op, Int2::Shl | Int2::Shr);
            visit(if shift { B32 } else { ty.file() }, b, Read);
            visit(ty.file(), dst, Write);
        }
        Op::Int3 { op, ty, dst, a, b, c } => {
            let others = if *op == Int3::Bfe { B32 } else { ty.file() };
            visit(ty.file(), a, Read);
            visit(others, b, Read);
            visit(others, c, Read);
            visit(ty.file(), dst, Write);
        }
        Op::MulWide { ty, dst, a, b } => {
            visit(B32, a, Read);
            visit(B32, b, Read);
            visit(double(*ty), dst, Write);
        }
        Op::MadWide { ty, dst, a, b, c } => {
            visit(B32, a, Read);
            visit(B32, b, Read);
            visit(double(*ty), c, Read);
            visit(double(*ty), dst, Write);
        }
        _ => {}
    }
}

fn bits(op: &mut Op, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    match op {
        Op::Carry { ty, dst, a, b, carry_in, carry_out, .. } => {
            visit(ty.file(), a, Read);
            visit(ty.file(), b, Read);
            optional(Predicates, carry_in, Read, visit);
            visit(ty.file(), dst, Write);
            optional(Predicates, carry_out, Write, visit);
        }
        Op::MadCarry(mad) => {
            for reg in [&mut mad.a, &mut mad.b, &mut mad.c] {
                visit(mad.ty.file(), reg, Read);
            }
            optional(Predicates, &mut mad.carry_in, Read, visit);
            visit(mad.ty.file(), &mut mad.dst, Write);
            optional(Predicates, &mut mad.carry_out, Write, visit);
        }
        Op::Bfi { ty, dst, a, b, position, length } => {
            visit(ty.file(), a, Read);
            visit(ty.file(), b, Read);
            visit(B32, position, Read);
            visit(B32, length, Read);
            visit(ty.file(), dst, Write);
        }
        Op::Lop3 { dst, a, b, c, .. }
        | Op::Prmt { dst, a, b, c, .. }
        | Op::Shf { dst, a, b, c, .. }
        | Op::Dot { dst, a, b, c, .. } => {
            for reg in [a, b, c] {
                visit(B32, reg, Read);
            }
            visit(B32, dst, Write);
        }
        _ => {}
    }
}

fn float(op: &mut Op, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    match op {
        Op::Float1 { ty, dst, a, .. } => {
            visit(ty.file(), a, Read);
            visit(ty.file(), dst, Write);
        }
        Op::Float2 { ty, dst, a, b, .. } => {
            visit(ty.file(), a, Read);
            visit(ty.file(), b, Read);
            visit(ty.file(), dst, Write);
        }
        Op::Fma { ty, dst, a, b, c, .. } => {
            for reg in [a, b, c] {
                visit(ty.file(), reg, Read);
            }
            visit(ty.file(), dst, Write);
        }
        Op::Testp { ty, dst, a, .. } => {
            visit(ty.file(), a, Read);
            visit(Predicates, dst, Write);
        }
        Op::Convert { how, dst, src } => {
            visit(how.from.file(), src, Read);
            visit(how.to.file(), dst, Write);
        }
        Op::ConvertPair { how, dst, high, low } => {
            visit(how.from.file(), high, Read);
            visit(how.from.file(), low, Read);
            visit(how.to.file(), dst, Write);
        }
        _ => {}
    }
}

fn choice(op: &mut Op, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    match op {
        Op::Setp { ty, dst, other, a, b, combine: with, .. } => {
            visit(ty.file(), a, Read);
            visit(ty.file(), b, Read);
            combine(with, visit);
            visit(Predicates, dst, Write);
            optional(Predicates, other, Write, visit);
        }
        Op::Set { ty, to, dst, a, b, combine: with, .. } => {
            visit(ty.file(), a, Read);
            visit(ty.file(), b, Read);
            combine(with, visit);
            visit(to.file(), dst, Write);
        }
        Op::Selp { file, dst, a, b, p } => {
            visit(*file, a, Read);
            visit(*file, b, Read);
            visit(Predicates, p, Read);
            visit(*file, dst, Write);
        }
        Op::Slct { file, by, dst, a, b, c, .. } => {
            visit(*file, a, Read);
            visit(*file, b, Read);
            visit(by.file(), c, Read);
            visit(*file, dst, Write);
        }
        Op::PredLogic { dst, a, b, .. } => {
            visit(Predicates, a, Read);
            visit(Predicates, b, Read);
            visit(Predicates, dst, Write);
        }
        Op::PredNot { dst, a } => {
            visit(Predicates, a, Read);
            visit(Predicates, dst, Write);
        }
        _ => {}
    }
}

fn memory(op: &mut Op, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    match op {
        Op::LoadParam { access, dst, .. } => elements(access, dst, Write, visit),
        Op::Load { access, dst, address: from, .. } => {
            address(from, visit);
            elements(access, dst, Write, visit);
        }
        Op::Store { access, src, address: to, .. } => {
            address(to, visit);
            elements(access, src, Read, visit);
        }
        Op::Atomic { op, ty, dst, address: at, b, c, .. } => {
            address(at, visit);
            visit(ty.file(), b, Read);
            if *op == crate::ir::AtomicOp::Cas {
                visit(ty.file(), c, Read);
            }
            optional(ty.file(), dst, Write, visit);
        }
        Op::IsSpace { wide, dst, a, .. } => {
            visit(if *wide { B64 } else { B32 }, a, Read);
            visit(Predicates, dst, Write);
        }
        Op::AsyncCopy(copy) => {
            address(&mut copy.shared, visit);
            address(&mut copy.global, visit);
            optional(B32, &mut copy.source_bytes, Read, visit);
            if let Some(guard) = &mut copy.ignore {
                visit(Predicates, &mut guard.reg, Read);
            }
        }
        Op::LdMatrix { count, dst, address: from, .. } => {
            address(from, visit);
            for reg in dst.iter_mut().take(usize::from(*count)) {
                visit(B32, reg, Write);
            }
        }
        _ => {}
    }
}

fn warp(op: &mut Op, visit: &mut dyn FnMut(File, &mut Reg, Use)) {
    match op {
        Op::Mma(mma) => {
            for reg in mma.a.iter_mut().chain(&mut mma.b).chain(&mut mma.c) {
                visit(B32, reg, Read);
            }
            for reg in &mut mma.d {
                visit(B32, reg, Write);
            }
        }
        Op::Barrier { kind, id, threads, .. } => {
            visit(B32, id, Read);
            optional(B32, threads, Read, visit);
            match kind {
                BarrierKind::Reduce { dst, src, .. } => {
                    visit(Predicates, &mut src.reg, Read);
                    visit(Predicates, dst, Write);
                }
                BarrierKind::Count { dst, src } => {
                    visit(Predicates, &mut src.reg, Read);
                    visit(B32, dst, Write);
                }
                BarrierKind::Sync | BarrierKind::Arrive => {}
            }
        }
        Op::WarpSync { mask } => visit(B32, mask, Read),
        Op::Shfl { dst, found, a, b, c, mask, .. } => {
            for reg in [a, b, c, mask] {
                visit(B32, reg, Read);
            }
            visit(B32, dst, Write);
            optional(Predicates, found, Write, visit);
        }
        Op::Vote { mode, dst, src, mask } => {
            visit(Predicates, &mut src.reg, Read);
            visit(B32, mask, Read);
            visit(if *mode == Vote::Ballot { B32 } else { Predicates }, dst, Write);
        }
        Op::Match { file, dst, found, a, mask, .. } => {
            visit(*file, a, Read);
            visit(B32, mask, Read);
            visit(B32, dst, Write);
            optional(Predicates, found, Write, visit);
        }
        Op::Elect { dst, found, mask } => {
            visit(B32, mask, Read);
            visit(B32, dst, Write);
            visit(Predicates, found, Write);
        }
        Op::Redux { dst, a, mask, .. } => {
            visit(B32, a, Read);
            visit(B32, mask, Read);
            visit(B32, dst, Write);
        }
        _ => {}
    }
}
