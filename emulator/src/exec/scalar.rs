//! The scalar interpreter: any instruction, lane by lane.

use super::atomic::Atomic;
use super::barrier::Arrival;
use super::block::Event;
use super::compare::{Comparison, logic};
use super::context::{Outcome, RawFault};
use super::interpreter::Flow;
use super::matrix;
use super::memory::Machine;
use super::warp::Warp;
use crate::fault::Kind;
use crate::ir::{Op, Scope, Type};

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

/// Everything that only looks at its own lane's registers.
fn compute(warp: &mut Warp, op: &Op, mask: u32) {
    let registers = &mut warp.registers;
    match *op {
        Op::Mov { file, dst, src } => registers.copy(file, mask, dst, src),
        Op::Pack16 { dst, low, high } => registers.pack(16, mask, dst, low, high),
        Op::Unpack16 { low, high, src } => registers.unpack(16, mask, low, high, src),
        Op::Pack32 { dst, low, high } => registers.pack(32, mask, dst, low, high),
        Op::Unpack32 { low, high, src } => registers.unpack(32, mask, low, high, src),
        Op::Int1 { op, ty, dst, a } => registers.int1(op, ty, mask, dst, a),
        Op::Int2 { op, ty, dst, a, b } => registers.int2(op, ty, mask, dst, a, b),
        Op::Int3 { op, ty, dst, a, b, c } => registers.int3(op, ty, mask, dst, (a, b, c)),
        Op::MulWide { ty, dst, a, b } => registers.mul_wide(ty, mask, dst, a, b, None),
        Op::MadWide { ty, dst, a, b, c } => registers.mul_wide(ty, mask, dst, a, b, Some(c)),
        Op::Carry { subtract, ty, dst, a, b, carry_in, carry_out } => {
            registers.carry(subtract, ty, mask, (dst, a, b), (carry_in, carry_out));
        }
        Op::MadCarry(ref mad) => registers.mad_carry(mask, mad),
        Op::Bfi { ty, dst, a, b, position, length } => {
            registers.bit_field_insert(ty, mask, dst, (a, b), (position, length));
        }
        Op::Lop3 { dst, a, b, c, table } => registers.lop3(mask, dst, (a, b, c), table),
        Op::Prmt { mode, dst, a, b, c } => registers.permute(mode, mask, dst, (a, b, c)),
        Op::Shf { left, clamp, dst, a, b, c } => registers.funnel(left, clamp, mask, dst, (a, b, c)),
        Op::Dot { bytes, high, a_signed, b_signed, dst, a, b, c } => {
            registers.dot(bytes, high, (a_signed, b_signed), mask, dst, (a, b, c));
        }
        Op::Float1 { op, ty, mode, dst, a } => registers.float1(op, ty, mode, mask, dst, a),
        Op::Float2 { op, ty, mode, dst, a, b } => registers.float2(op, ty, mode, mask, dst, (a, b)),
        Op::Fma { ty, mode, dst, a, b, c } => registers.fma(ty, mode, mask, dst, (a, b, c)),
        Op::Testp { test, ty, dst, a } => registers.test(test, ty, mask, dst, a),
        Op::Convert { how, dst, src } => registers.convert(how, mask, dst, src),
        Op::ConvertPair { how, dst, high, low } => registers.convert_pair(how, mask, dst, high, low),
        Op::Setp { compare, ty, ftz, dst, other, a, b, combine } => {
            registers.setp(Comparison { compare, ty, ftz }, mask, (dst, other), (a, b), combine);
        }
        Op::Set { compare, ty, to, ftz, dst, a, b, combine } => {
            registers.set_value(Comparison { compare, ty, ftz }, to, mask, dst, (a, b), combine);
        }
        Op::Selp { file, dst, a, b, p } => {
            let chosen = registers.predicate(p);
            registers.select(file, mask, dst, (a, b), chosen);
        }
        Op::Slct { file, by, ftz, dst, a, b, c } => {
            registers.select_by_sign(file, by, ftz, mask, dst, (a, b, c));
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
