//! Every register that an instruction reads or writes, in one table.

use super::{Access, Address, AtomicOp, BarrierKind, Combine, File, Instr, Op, Reg, Vote};

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
    let mut visitor = Visitor(visit);
    visitor.reads(Predicates, instr.guard.as_mut().map(|guard| &mut guard.reg));
    visitor.op(&mut instr.op);
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

struct Visitor<'a>(&'a mut dyn FnMut(File, &mut Reg, Use));

impl Visitor<'_> {
    fn reads<'r>(&mut self, file: File, regs: impl IntoIterator<Item = &'r mut Reg>) {
        regs.into_iter().for_each(|reg| (self.0)(file, reg, Read));
    }

    fn writes<'r>(&mut self, file: File, regs: impl IntoIterator<Item = &'r mut Reg>) {
        regs.into_iter().for_each(|reg| (self.0)(file, reg, Write));
    }

    /// Reads `from` and writes `dst`, in one file.
    fn within<'r>(&mut self, file: File, dst: &mut Reg, from: impl IntoIterator<Item = &'r mut Reg>) {
        self.reads(file, from);
        self.writes(file, [dst]);
    }

    fn address(&mut self, address: &mut Address) {
        self.reads(if address.wide { B64 } else { B32 }, [&mut address.reg]);
    }

    fn combine(&mut self, combine: &mut Option<Combine>) {
        self.reads(Predicates, combine.as_mut().map(|combine| &mut combine.reg));
    }

    fn op(&mut self, op: &mut Op) {
        match op {
            Op::Mov { file, dst, src } => self.within(*file, dst, [src]),
            Op::Pack16 { dst, low, high } => self.within(B32, dst, [low, high]),
            Op::Unpack16 { low, high, src } => {
                self.reads(B32, [src]);
                self.writes(B32, [low, high]);
            }
            Op::Pack32 { dst, low, high } => {
                self.reads(B32, [low, high]);
                self.writes(B64, [dst]);
            }
            Op::Unpack32 { low, high, src } => {
                self.reads(B64, [src]);
                self.writes(B32, [low, high]);
            }
            Op::Clock { file, dst, .. } | Op::GlobalTimer { file, dst, .. } => self.writes(*file, [dst]),
            Op::ActiveMask { dst } => self.writes(B32, [dst]),
            Op::Exit | Op::Trap | Op::Yield | Op::Fence { .. } | Op::Bra { .. } => {}
            Op::AsyncCommit | Op::AsyncWait { .. } | Op::AsyncWaitAll => {}
            Op::BraIndexed(branch) => self.reads(B32, [&mut branch.index]),
            Op::MarkWritten { reg } => {
                // Also read: a lane that does not write keeps its bit. The register itself is visited once, since
                // the visitor may put another number there.
                let mut written = *reg;
                self.within(Predicates, &mut written, [reg]);
            }
            Op::RequireWritten { reg } => self.reads(Predicates, [reg]),
            Op::Int1 { op, ty, dst, a } => {
                self.reads(ty.file(), [a]);
                self.writes(op.result(*ty).file(), [dst]);
            }
            Op::Int2 { op, ty, dst, a, b } => {
                self.reads(ty.file(), [a]);
                self.reads(op.second(*ty).file(), [b]);
                self.writes(ty.file(), [dst]);
            }
            Op::Int3 { op, ty, dst, a, b, c } => {
                self.reads(ty.file(), [a]);
                self.reads(op.others(*ty).file(), [b, c]);
                self.writes(ty.file(), [dst]);
            }
            Op::MulWide { ty, dst, a, b } => {
                self.reads(B32, [a, b]);
                self.writes(ty.wide_file(), [dst]);
            }
            Op::MadWide { ty, dst, a, b, c } => {
                self.reads(B32, [a, b]);
                self.within(ty.wide_file(), dst, [c]);
            }
            Op::Carry { ty, dst, a, b, carry_in, carry_out, .. } => {
                self.reads(ty.file(), [a, b]);
                self.reads(Predicates, carry_in);
                self.writes(ty.file(), [dst]);
                self.writes(Predicates, carry_out);
            }
            Op::MadCarry(mad) => {
                self.reads(mad.ty.file(), [&mut mad.a, &mut mad.b, &mut mad.c]);
                self.reads(Predicates, &mut mad.carry_in);
                self.writes(mad.ty.file(), [&mut mad.dst]);
                self.writes(Predicates, &mut mad.carry_out);
            }
            Op::Bfi { ty, dst, a, b, position, length } => {
                self.reads(ty.file(), [a, b]);
                self.reads(B32, [position, length]);
                self.writes(ty.file(), [dst]);
            }
            Op::Lop3 { dst, a, b, c, .. }
            | Op::Prmt { dst, a, b, c, .. }
            | Op::Shf { dst, a, b, c, .. }
            | Op::Dot { dst, a, b, c, .. } => self.within(B32, dst, [a, b, c]),
            Op::Float1 { ty, dst, a, .. } => self.within(ty.file(), dst, [a]),
            Op::Float2 { ty, dst, a, b, .. } => self.within(ty.file(), dst, [a, b]),
            Op::Fma { ty, dst, a, b, c, .. } => self.within(ty.file(), dst, [a, b, c]),
            Op::Testp { ty, dst, a, .. } => {
                self.reads(ty.file(), [a]);
                self.writes(Predicates, [dst]);
            }
            Op::Convert { how, dst, src } => {
                self.reads(how.from.file(), [src]);
                self.writes(how.to.file(), [dst]);
            }
            Op::ConvertPair { how, dst, high, low } => {
                self.reads(how.from.file(), [high, low]);
                self.writes(how.to.file(), [dst]);
            }
            Op::Setp { ty, dst, other, a, b, combine, .. } => {
                self.reads(ty.file(), [a, b]);
                self.combine(combine);
                self.writes(Predicates, [dst]);
                self.writes(Predicates, other);
            }
            Op::Set { ty, to, dst, a, b, combine, .. } => {
                self.reads(ty.file(), [a, b]);
                self.combine(combine);
                self.writes(to.file(), [dst]);
            }
            Op::Selp { file, dst, a, b, p } => {
                self.reads(*file, [a, b]);
                self.reads(Predicates, [p]);
                self.writes(*file, [dst]);
            }
            Op::Slct { file, by, dst, a, b, c, .. } => {
                self.reads(*file, [a, b]);
                self.reads(by.file(), [c]);
                self.writes(*file, [dst]);
            }
            Op::PredLogic { dst, a, b, .. } => self.within(Predicates, dst, [a, b]),
            Op::PredNot { dst, a } => self.within(Predicates, dst, [a]),
            Op::LoadParam { access, dst, .. } => self.writes(access.register.file(), elements(access, dst)),
            Op::Load { access, dst, address, .. } => {
                self.address(address);
                self.writes(access.register.file(), elements(access, dst));
            }
            Op::Store { access, src, address, .. } => {
                self.address(address);
                self.reads(access.register.file(), elements(access, src));
            }
            Op::Atomic { op, ty, dst, address, b, c, .. } => {
                self.address(address);
                self.reads(ty.file(), [b]);
                self.reads(ty.file(), (*op == AtomicOp::Cas).then_some(c));
                self.writes(ty.file(), dst);
            }
            Op::IsSpace { wide, dst, a, .. } => {
                self.reads(if *wide { B64 } else { B32 }, [a]);
                self.writes(Predicates, [dst]);
            }
            Op::AsyncCopy(copy) => {
                self.address(&mut copy.shared);
                self.address(&mut copy.global);
                self.reads(B32, &mut copy.source_bytes);
                self.reads(Predicates, copy.ignore.as_mut().map(|guard| &mut guard.reg));
            }
            Op::LdMatrix { count, dst, address, .. } => {
                self.address(address);
                self.writes(B32, dst.iter_mut().take(usize::from(*count)));
            }
            Op::Mma(mma) => {
                self.reads(B32, mma.a.iter_mut().chain(&mut mma.b).chain(&mut mma.c));
                self.writes(B32, &mut mma.d);
            }
            Op::Barrier { kind, id, threads, .. } => {
                self.reads(B32, [id]);
                self.reads(B32, threads);
                match kind {
                    BarrierKind::Reduce { dst, src, .. } => self.within(Predicates, dst, [&mut src.reg]),
                    BarrierKind::Count { dst, src } => {
                        self.reads(Predicates, [&mut src.reg]);
                        self.writes(B32, [dst]);
                    }
                    BarrierKind::Sync | BarrierKind::Arrive => {}
                }
            }
            Op::WarpSync { mask } => self.reads(B32, [mask]),
            Op::Shfl { dst, found, a, b, c, mask, .. } => {
                self.within(B32, dst, [a, b, c, mask]);
                self.writes(Predicates, found);
            }
            Op::Vote { mode, dst, src, mask } => {
                self.reads(Predicates, [&mut src.reg]);
                self.reads(B32, [mask]);
                self.writes(if *mode == Vote::Ballot { B32 } else { Predicates }, [dst]);
            }
            Op::Match { file, dst, found, a, mask, .. } => {
                self.reads(*file, [a]);
                self.within(B32, dst, [mask]);
                self.writes(Predicates, found);
            }
            Op::Elect { dst, found, mask } => {
                self.within(B32, dst, [mask]);
                self.writes(Predicates, [found]);
            }
            Op::Redux { dst, a, mask, .. } => self.within(B32, dst, [a, mask]),
        }
    }
}

/// The registers that an access uses.
fn elements<'a>(access: &Access, regs: &'a mut [Reg; 4]) -> impl Iterator<Item = &'a mut Reg> + use<'a> {
    regs.iter_mut().take(usize::from(access.count))
}
