//! The scalar interpreter: any instruction, lane by lane.

use super::atomic::Atomic;
use super::barrier::Arrival;
use super::block::Event;
use super::compare::{Comparison, logic};
use super::context::{Outcome, RawFault};
use super::interpreter::Flow;
use super::matrix;
use super::memory::Machine;
use super::value::arithmetic::{self, halves};
use super::value::convert::convert;
use super::value::integer;
use super::warp::{Registers, Warp};
use crate::fault::Kind;
use crate::ir::File::{B32, B64, Predicates};
use crate::ir::{Op, Reg, Scope, Type};

/// Executes an instruction for the lanes of `mask`, which isn't empty but for branches. Where the flow
/// isn't [`Flow::Next`], the warp's `pc` has been set.
#[inline(never)]
pub fn execute(warp: &mut Warp, machine: &mut Machine, op: &Op, mask: u32) -> Outcome<Flow> {
    if mask == 0 && !matches!(op, Op::Bra { .. } | Op::BraIndexed(_)) {
        return Ok(Flow::Next);
    }
    match op {
        Op::Load { space, access, dst, address } => {
            machine.load(warp, *space, *access, mask, dst, address)?
        }
        Op::Store { space, access, src, address } => {
            machine.store(warp, *space, *access, mask, src, address)?;
        }
        Op::LoadParam { access, dst, offset } => machine.load_param(warp, *access, mask, dst, *offset)?,
        Op::Atomic { space, op, ty, dst, address, b, c } => {
            let atomic = Atomic { op: *op, ty: *ty, dst: *dst, address: *address, b: *b, c: *c };
            machine.atomic(warp, *space, mask, &atomic)?;
        }
        Op::IsSpace { space, wide, dst, a } => machine.is_space(warp, *space, *wide, mask, *dst, *a),
        Op::AsyncCopy(copy) => machine.async_copy(warp, mask, copy)?,
        Op::AsyncCommit => warp.copies.commit(mask),
        Op::AsyncWait { pending } => machine.async_wait(warp, mask, *pending),
        Op::AsyncWaitAll => machine.async_wait_all(warp, mask),
        Op::LdMatrix { space, count, transposed, dst, address } => {
            machine.load_matrix(warp, *space, mask, (*count, *transposed), dst, address)?;
            synchronised(warp, machine);
        }
        Op::Bra { target, reconverge } => {
            let split = warp.branch(mask, *target, *reconverge);
            machine.stats.counters.divergent_branches += u64::from(split);
            return Ok(Flow::Jumped);
        }
        Op::BraIndexed(branch) => {
            let split = warp.branch_indexed(mask, branch)?;
            machine.stats.counters.divergent_branches += u64::from(split);
            return Ok(Flow::Jumped);
        }
        Op::Exit => {
            warp.exit(mask);
            return Ok(Flow::Jumped);
        }
        Op::Trap => return Err(RawFault::new(Kind::Trap, mask.trailing_zeros(), "trap")),
        Op::Yield => {
            warp.pc += 1;
            return Ok(Flow::Stop(Event::Turn));
        }
        Op::Barrier { kind, id, threads, .. } => {
            let arrival = Arrival { kind: *kind, id: *id, threads: *threads, mask, pc: warp.pc };
            warp.pc += 1;
            return Ok(Flow::Stop(Event::Barrier(arrival)));
        }
        Op::Shfl { .. }
        | Op::Vote { .. }
        | Op::Match { .. }
        | Op::Redux { .. }
        | Op::Elect { .. }
        | Op::WarpSync { .. } => {
            across(warp, op, mask)?;
            synchronised(warp, machine);
        }
        Op::Mma(mma) => {
            matrix::require_whole(mask, "mma")?;
            match mma.a_type {
                Type::S8 | Type::U8 => matrix::multiply_integers(&mut warp.registers, mma),
                _ => matrix::multiply_floats(&mut warp.registers, mma),
            }
            synchronised(warp, machine);
        }
        Op::Fence { scope: Scope::Block } => {}
        Op::Fence { .. } => machine.shared.fenced.set(true),
        Op::ActiveMask { dst } => warp.registers.set_b32(*dst, mask, &[mask; 32]),
        Op::MarkWritten { reg } => warp.registers.set_predicate(*reg, mask, u32::MAX),
        Op::RequireWritten { reg } => {
            let missing = mask & !warp.registers.predicate(*reg);
            if missing != 0 && machine.context.settings.checks.uninitialised {
                let detail = "register that nothing wrote on this path";
                return Err(RawFault::new(Kind::Uninitialised, missing.trailing_zeros(), detail));
            }
        }
        Op::Clock { file, dst, high } => {
            let instructions = machine.stats.hits.iter().sum();
            warp.read_counter(*file, mask, *dst, *high, instructions);
        }
        Op::GlobalTimer { file, dst, high } => {
            warp.read_counter(*file, mask, *dst, *high, Warp::nanoseconds(machine.context));
        }
        _ => compute(warp, op, mask),
    }
    Ok(Flow::Next)
}

/// Lanes of the warp have waited for one another.
fn synchronised(warp: &Warp, machine: &mut Machine) {
    if let Some(races) = &mut machine.shared.races {
        races.tick(warp.index);
    }
}

fn across(warp: &mut Warp, op: &Op, mask: u32) -> Outcome {
    match op {
        Op::Shfl { mode, dst, found, a, b, c, mask: members } => {
            warp.shuffle(*mode, mask, (*dst, *found), (*a, *b, *c), *members)
        }
        Op::Vote { mode, dst, src, mask: members } => warp.vote(*mode, mask, *dst, *src, *members),
        Op::Match { all, file, dst, found, a, mask: members } => {
            warp.match_lanes(*all, *file, mask, (*dst, *found), *a, *members)
        }
        Op::Redux { op, ty, dst, a, mask: members } => warp.reduce(*op, *ty, mask, *dst, *a, *members),
        Op::Elect { dst, found, mask: members } => warp.elect(mask, *dst, *found, *members),
        Op::WarpSync { mask: members } => warp.warp_sync(mask, *members),
        _ => Ok(()),
    }
}

/// Everything that only looks at its own lane's registers: moves and integers here.
fn compute(warp: &mut Warp, op: &Op, mask: u32) {
    let registers = &mut warp.registers;
    match *op {
        Op::Mov { file, dst, src } => registers.map(mask, (file, dst), [(file, src)], |[a]| a),
        Op::Pack16 { dst, low, high } => {
            registers
                .map(mask, (B32, dst), [(B32, low), (B32, high)], |[low, high]| high << 16 | low & 0xffff);
        }
        Op::Pack32 { dst, low, high } => {
            registers.map(mask, (B64, dst), [(B32, low), (B32, high)], |[low, high]| high << 32 | low);
        }
        Op::Unpack16 { low, high, src } => registers.unpack(16, B32, mask, (low, high), src),
        Op::Unpack32 { low, high, src } => registers.unpack(32, B64, mask, (low, high), src),
        Op::Int1 { op, ty, dst, a } => {
            let dst = (op.result(ty).file(), dst);
            registers.map(mask, dst, [(ty.file(), a)], |[a]| integer::int1(op, ty, a));
        }
        Op::Int2 { op, ty, dst, a, b } => {
            let from = [(ty.file(), a), (op.second(ty).file(), b)];
            registers.map(mask, (ty.file(), dst), from, |[a, b]| integer::int2(op, ty, a, b));
        }
        Op::Int3 { op, ty, dst, a, b, c } => {
            let others = op.others(ty).file();
            let from = [(ty.file(), a), (others, b), (others, c)];
            registers.map(mask, (ty.file(), dst), from, |[a, b, c]| integer::int3(op, ty, a, b, c));
        }
        Op::MulWide { ty, dst, a, b } => {
            let from = [a, b].map(|reg| (ty.file(), reg));
            registers.map(mask, (ty.wide_file(), dst), from, |[a, b]| integer::mul_wide(ty, a, b));
        }
        Op::MadWide { ty, dst, a, b, c } => {
            let from = [(ty.file(), a), (ty.file(), b), (ty.wide_file(), c)];
            let value = |[a, b, c]: [u64; 3]| integer::mul_wide(ty, a, b).wrapping_add(c);
            registers.map(mask, (ty.wide_file(), dst), from, value);
        }
        Op::Carry { subtract, ty, dst, a, b, carry_in, carry_out } => {
            let from = (registers.get(ty.file(), a), registers.get(ty.file(), b));
            registers.carry(subtract, ty, mask, dst, from, (carry_in, carry_out));
        }
        Op::MadCarry(ref mad) => registers.mad_carry(mask, mad),
        Op::Bfi { ty, dst, a, b, position, length } => {
            let from = [(ty.file(), a), (ty.file(), b), (B32, position), (B32, length)];
            registers.map(mask, (ty.file(), dst), from, |[a, b, position, length]| {
                integer::bit_field_insert(ty, a, b, position as u32, length as u32)
            });
        }
        Op::Lop3 { dst, a, b, c, table } => {
            words(registers, mask, dst, [a, b, c], |[a, b, c]| integer::lop3(a, b, c, table));
        }
        Op::Prmt { mode, dst, a, b, c } => {
            words(registers, mask, dst, [a, b, c], |[a, b, c]| integer::permute(mode, a, b, c));
        }
        Op::Shf { left, clamp, dst, a, b, c } => {
            words(registers, mask, dst, [a, b, c], |[a, b, c]| integer::funnel(left, clamp, a, b, c));
        }
        Op::Dot { bytes, high, a_signed, b_signed, dst, a, b, c } => {
            let signed = (a_signed, b_signed);
            words(registers, mask, dst, [a, b, c], |[a, b, c]| integer::dot(bytes, high, signed, a, b, c));
        }
        _ => compute_floats(registers, op, mask),
    }
}

/// A word of three.
fn words(registers: &mut Registers, mask: u32, dst: Reg, from: [Reg; 3], f: impl Fn([u32; 3]) -> u32) {
    let value = |words: [u64; 3]| f(words.map(|word| word as u32)).into();
    registers.map(mask, (B32, dst), from.map(|reg| (B32, reg)), value);
}

/// Floats, conversions, comparisons and choices.
fn compute_floats(registers: &mut Registers, op: &Op, mask: u32) {
    match *op {
        Op::Float1 { op, ty, mode, dst, a } => {
            let value = |a| halves(ty, a, |[a]| arithmetic::float1(op, ty, mode, a));
            registers.map(mask, (ty.file(), dst), [(ty.file(), a)], value);
        }
        Op::Float2 { op, ty, mode, dst, a, b } => {
            let value = |ab| halves(ty, ab, |[a, b]| arithmetic::float2(op, ty, mode, a, b));
            registers.map(mask, (ty.file(), dst), [a, b].map(|reg| (ty.file(), reg)), value);
        }
        Op::Fma { ty, mode, dst, a, b, c } => {
            let value = |abc| halves(ty, abc, |[a, b, c]| arithmetic::fma(ty, mode, a, b, c));
            registers.map(mask, (ty.file(), dst), [a, b, c].map(|reg| (ty.file(), reg)), value);
        }
        Op::Testp { test, ty, dst, a } => {
            let value = |[a]: [u64; 1]| arithmetic::test(test, ty, a).into();
            registers.map(mask, (Predicates, dst), [(ty.file(), a)], value);
        }
        Op::Convert { how, dst, src } => {
            let packed = if how.to == how.from { how.from } else { Type::U32 };
            let value = |a| halves(packed, a, |[a]| convert(how, a));
            registers.map(mask, (how.to.file(), dst), [(how.from.file(), src)], value);
        }
        Op::ConvertPair { how, dst, high, low } => {
            let value = |[high, low]: [u64; 2]| convert(how, high) << 16 | convert(how, low);
            registers.map(mask, (B32, dst), [(B32, high), (B32, low)], value);
        }
        Op::Setp { compare, ty, ftz, dst, other, a, b, combine } => {
            registers.setp(Comparison { compare, ty, ftz }, mask, (dst, other), (a, b), combine);
        }
        Op::Set { compare, ty, to, ftz, dst, a, b, combine } => {
            registers.set_value(Comparison { compare, ty, ftz }, to, mask, dst, (a, b), combine);
        }
        Op::Selp { file, dst, a, b, p } => {
            let from = [(file, a), (file, b), (Predicates, p)];
            registers.map(mask, (file, dst), from, |[a, b, p]| if p == 1 { a } else { b });
        }
        Op::Slct { file, by, ftz, dst, a, b, c } => {
            let first = |c: u64| match by {
                Type::F32 => arithmetic::decode(by, c, ftz) >= 0.0,
                _ => c as i32 >= 0,
            };
            let from = [(file, a), (file, b), (B32, c)];
            registers.map(mask, (file, dst), from, |[a, b, c]| if first(c) { a } else { b });
        }
        Op::PredLogic { op, dst, a, b } => {
            let bits = logic(op, registers.predicate(a), registers.predicate(b));
            registers.set_predicate(dst, mask, bits);
        }
        Op::PredNot { dst, a } => {
            let bits = !registers.predicate(a);
            registers.set_predicate(dst, mask, bits);
        }
        _ => {}
    }
}
