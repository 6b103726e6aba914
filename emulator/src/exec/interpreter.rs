//! The interpreter's loop, compiled three times: for AVX-512, for AVX2 and for any processor. Instructions with a
//! vectorised form run here, all others in [`scalar`].

use super::block::Event;
use super::context::Outcome;
use super::matrix::{self, f16_to_f32};
use super::memory::Machine;
use super::scalar;
use super::vector_memory;
use super::vector_op::{Order, Ternary, Unary, VectorOp};
use super::vector_registers::{VectorRegisters, bits};
use super::warp::{LANES, Warp};
use crate::ir::Op;

/// Where to go after an instruction.
#[derive(Debug)]
pub enum Flow {
    /// To the next one.
    Next,
    /// To the warp's `pc`.
    Jumped,
    /// The warp's turn ends; its `pc` is where it goes on.
    Stop(Event),
}

/// Runs a warp for at most `turn` instructions.
pub fn run(warp: &mut Warp, machine: &mut Machine, turn: u64) -> Outcome<Event> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
        {
            // SAFETY: the processor has these features.
            return unsafe { run_avx512(warp, machine, turn) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has these features.
            return unsafe { run_avx2(warp, machine, turn) };
        }
    }
    instructions(warp, machine, turn)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx512(warp: &mut Warp, machine: &mut Machine, turn: u64) -> Outcome<Event> {
    instructions(warp, machine, turn)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx2(warp: &mut Warp, machine: &mut Machine, turn: u64) -> Outcome<Event> {
    instructions(warp, machine, turn)
}

#[inline(always)]
fn instructions(warp: &mut Warp, machine: &mut Machine, turn: u64) -> Outcome<Event> {
    let mut left = turn;
    let result = turn_of(warp, machine, &mut left);
    warp.instructions += turn - left;
    result
}

#[inline(always)]
fn turn_of(warp: &mut Warp, machine: &mut Machine, left: &mut u64) -> Outcome<Event> {
    let plan = machine.context.plan;
    let regs = VectorRegisters::new(&mut warp.registers);
    loop {
        if warp.active == 0 {
            return Ok(Event::Ended);
        }
        if warp.pc == warp.reconverge {
            warp.resume();
            continue;
        }
        if *left == 0 {
            return Ok(Event::Turn);
        }
        *left -= 1;
        let pc = warp.pc as usize;
        let planned = &plan.code[pc];
        let mask = match planned.guard {
            None => warp.active,
            Some(guard) => {
                let predicate = regs.predicate(guard.reg);
                warp.active & if guard.negated { !predicate } else { predicate }
            }
        };
        machine.stats.hits[pc] += 1;
        machine.stats.lanes[pc] += u64::from(mask.count_ones());
        match planned.op {
            VectorOp::Scalar => {
                match scalar::execute(warp, machine, &machine.context.kernel.code[pc].op, mask)? {
                    Flow::Next => {}
                    Flow::Jumped => continue,
                    Flow::Stop(event) => return Ok(event),
                }
            }
            VectorOp::Bra { target, reconverge } => {
                if warp.branch(mask, target, reconverge) {
                    machine.stats.counters.divergent_branches += 1;
                }
                continue;
            }
            VectorOp::Load(access) => vector_memory::load(warp, machine, regs, mask, &access)?,
            VectorOp::Store(access) => vector_memory::store(warp, machine, regs, mask, &access)?,
            VectorOp::ParamB32 { d, offset } => {
                let value = vector_memory::parameter::<4>(machine, offset)?;
                regs.put(d, mask, [u32::from_le_bytes(value); LANES]);
            }
            VectorOp::ParamB64 { d, offset } => {
                let value = vector_memory::parameter::<8>(machine, offset)?;
                regs.put(d, mask, [u64::from_le_bytes(value); LANES]);
            }
            VectorOp::Mma if mask == 0 => {}
            VectorOp::Mma => {
                matrix::require_whole(mask, "mma")?;
                if let Op::Mma(mma) = &machine.context.kernel.code[pc].op {
                    matrix::multiply_floats(&mut warp.registers, mma);
                }
                if let Some(races) = &mut machine.shared.races {
                    races.tick(warp.index);
                }
            }
            op => compute(regs, mask, op),
        }
        warp.pc += 1;
    }
}

/// Instructions that only look at their own lane's registers.
#[inline(always)]
fn compute(regs: VectorRegisters, mask: u32, op: VectorOp) {
    let float = f32::from_bits;
    match op {
        VectorOp::MovB32(r) => regs.map(mask, r, |a: u32| a),
        VectorOp::MovB64(r) => regs.map(mask, r, |a: u64| a),
        VectorOp::AddB32(r) => regs.map2(mask, r, u32::wrapping_add),
        VectorOp::SubB32(r) => regs.map2(mask, r, u32::wrapping_sub),
        VectorOp::MulB32(r) => regs.map2(mask, r, u32::wrapping_mul),
        VectorOp::AndB32(r) => regs.map2(mask, r, |a: u32, b: u32| a & b),
        VectorOp::OrB32(r) => regs.map2(mask, r, |a: u32, b: u32| a | b),
        VectorOp::XorB32(r) => regs.map2(mask, r, |a: u32, b: u32| a ^ b),
        VectorOp::ShlB32(r) => regs.map2(mask, r, |a: u32, b: u32| if b < 32 { a << (b & 31) } else { 0 }),
        VectorOp::ShrU32(r) => regs.map2(mask, r, |a: u32, b: u32| if b < 32 { a >> (b & 31) } else { 0 }),
        VectorOp::ShrS32(r) => regs.map2(mask, r, |a: u32, b: u32| (a as i32 >> b.min(31)) as u32),
        VectorOp::MinS32(r) => regs.map2(mask, r, |a: u32, b: u32| (a as i32).min(b as i32) as u32),
        VectorOp::MaxS32(r) => regs.map2(mask, r, |a: u32, b: u32| (a as i32).max(b as i32) as u32),
        VectorOp::MinU32(r) => regs.map2(mask, r, u32::min),
        VectorOp::MaxU32(r) => regs.map2(mask, r, u32::max),
        VectorOp::MulHiU32(r) => regs.map2(mask, r, |a, b| (product(a, b) >> 32) as u32),
        VectorOp::MadB32(r) => regs.map3(mask, r, |a: u32, b, c| a.wrapping_mul(b).wrapping_add(c)),
        VectorOp::MulWideU32(r) => regs.map2(mask, r, product),
        VectorOp::MulWideS32(r) => regs.map2(mask, r, signed_product),
        VectorOp::MadWideU32(r) => regs.map3(mask, r, |a, b, c| product(a, b).wrapping_add(c)),
        VectorOp::MadWideS32(r) => regs.map3(mask, r, |a, b, c| signed_product(a, b).wrapping_add(c)),
        VectorOp::AddB64(r) => regs.map2(mask, r, u64::wrapping_add),
        VectorOp::SubB64(r) => regs.map2(mask, r, u64::wrapping_sub),
        VectorOp::MulB64(r) => regs.map2(mask, r, u64::wrapping_mul),
        VectorOp::AndB64(r) => regs.map2(mask, r, |a: u64, b: u64| a & b),
        VectorOp::MadB64(r) => regs.map3(mask, r, |a: u64, b, c| a.wrapping_mul(b).wrapping_add(c)),
        VectorOp::ShlB64(r) => regs.map2(mask, r, |a: u64, b: u32| if b < 64 { a << (b & 63) } else { 0 }),
        VectorOp::AddF32(r) => regs.float2(mask, r, |a, b| a + b),
        VectorOp::SubF32(r) => regs.float2(mask, r, |a, b| a - b),
        VectorOp::MulF32(r) => regs.float2(mask, r, |a, b| a * b),
        VectorOp::DivF32(r) => regs.float2(mask, r, |a, b| a / b),
        VectorOp::MinF32(r) => regs.float2(mask, r, |a, b| -larger(-a, -b)),
        VectorOp::MaxF32(r) => regs.float2(mask, r, larger),
        VectorOp::FmaF32(r) => regs.map3(mask, r, |a, b, c| bits(float(a).mul_add(float(b), float(c)))),
        VectorOp::NegF32(r) => regs.map(mask, r, |a| bits(-float(a))),
        VectorOp::AbsF32(r) => regs.map(mask, r, |a| bits(float(a).abs())),
        VectorOp::SqrtF32(r) => regs.map(mask, r, |a| bits(float(a).sqrt())),
        VectorOp::Lop3(r, table) => lop3(regs, mask, r, table),
        VectorOp::SelB32(r) => regs.select::<u32>(mask, r),
        VectorOp::SelB64(r) => regs.select::<u64>(mask, r),
        VectorOp::WidenS32(r) => regs.map(mask, r, |a: u32| i64::from(a as i32) as u64),
        VectorOp::WidenU32(r) => regs.map(mask, r, |a: u32| u64::from(a)),
        VectorOp::Narrow(r) => regs.map(mask, r, |a: u64| a as u32),
        VectorOp::FromS32(r) => regs.map(mask, r, |a: u32| (a as i32 as f32).to_bits()),
        VectorOp::FromU32(r) => regs.map(mask, r, |a: u32| (a as f32).to_bits()),
        VectorOp::FromBf16(r) => regs.map(mask, r, |a: u32| bits(float(a << 16))),
        VectorOp::FromF16(r) => regs.map(mask, r, |a: u32| bits(f16_to_f32(a & 0xffff))),
        VectorOp::PairBf16(r) => regs.map2(mask, r, |high, low| bf16(high) << 16 | bf16(low)),
        VectorOp::Unpack32 { low, high, a } => {
            regs.map(mask, Unary { d: low, a }, |a: u64| a as u32);
            regs.map(mask, Unary { d: high, a }, |a: u64| (a >> 32) as u32);
        }
        VectorOp::Pack32(r) => {
            regs.map2(mask, r, |low: u32, high: u32| u64::from(high) << 32 | u64::from(low));
        }
        op => predicates(regs, mask, op),
    }
}

/// The larger of two numbers: +0 above -0, and a number rather than NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    let picked = if a > b || (a == b && b.is_sign_negative()) || b.is_nan() { a } else { b };
    if a.is_nan() { b } else { picked }
}

/// An f32 rounded to bf16, ties to even.
#[inline(always)]
fn bf16(value: u32) -> u32 {
    let rounded = (value.wrapping_add(0x7fff + (value >> 16 & 1))) >> 16;
    if f32::from_bits(value).is_nan() { 0x7fff } else { rounded }
}

#[inline(always)]
fn product(a: u32, b: u32) -> u64 {
    u64::from(a) * u64::from(b)
}

#[inline(always)]
fn signed_product(a: u32, b: u32) -> u64 {
    (i64::from(a as i32) * i64::from(b as i32)) as u64
}

#[inline(always)]
fn lop3(regs: VectorRegisters, mask: u32, r: Ternary, table: u8) {
    let term = |reg: u32| if table >> reg & 1 == 1 { u32::MAX } else { 0 };
    let terms = [term(0), term(1), term(2), term(3), term(4), term(5), term(6), term(7)];
    regs.map3(mask, r, |a, b, c| {
        let pick = |bit: u32, yes: u32, no: u32| bit & yes | !bit & no;
        let low = pick(b, pick(c, terms[3], terms[2]), pick(c, terms[1], terms[0]));
        let high = pick(b, pick(c, terms[7], terms[6]), pick(c, terms[5], terms[4]));
        pick(a, high, low)
    });
}

/// A comparison of two registers: a loop of its own for each order, so that it is vectorised.
macro_rules! compare {
    ($regs:ident, $mask:ident, $operands:ident, $order:ident, $value:expr) => {
        match $order {
            Order::Eq => $regs.compare($mask, $operands, |a, b| $value(a) == $value(b)),
            Order::Ne => $regs.compare($mask, $operands, |a, b| $value(a) != $value(b)),
            Order::Lt => $regs.compare($mask, $operands, |a, b| $value(a) < $value(b)),
            Order::Le => $regs.compare($mask, $operands, |a, b| $value(a) <= $value(b)),
            Order::Gt => $regs.compare($mask, $operands, |a, b| $value(a) > $value(b)),
            Order::Ge => $regs.compare($mask, $operands, |a, b| $value(a) >= $value(b)),
        }
    };
}

#[inline(always)]
fn predicates(regs: VectorRegisters, mask: u32, op: VectorOp) {
    match op {
        VectorOp::CompareU32(r, order) => compare!(regs, mask, r, order, std::convert::identity::<u32>),
        VectorOp::CompareS32(r, order) => compare!(regs, mask, r, order, u32::cast_signed),
        VectorOp::CompareU64(r, order) => compare!(regs, mask, r, order, std::convert::identity::<u64>),
        VectorOp::CompareS64(r, order) => compare!(regs, mask, r, order, u64::cast_signed),
        VectorOp::CompareF32(r, order) => compare!(regs, mask, r, order, f32::from_bits),
        VectorOp::AndPredicate(r) => regs.put_predicate(r.d, mask, regs.predicate(r.a) & regs.predicate(r.b)),
        VectorOp::OrPredicate(r) => regs.put_predicate(r.d, mask, regs.predicate(r.a) | regs.predicate(r.b)),
        VectorOp::XorPredicate(r) => regs.put_predicate(r.d, mask, regs.predicate(r.a) ^ regs.predicate(r.b)),
        VectorOp::NotPredicate(r) => regs.put_predicate(r.d, mask, !regs.predicate(r.a)),
        _ => {}
    }
}
