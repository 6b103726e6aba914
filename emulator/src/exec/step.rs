//! The loop over instructions, compiled three times: for AVX-512, for AVX2 and for any processor.

use super::block::Event;
use super::context::Outcome;
use super::fast::{Fast, Order, Two};
use super::general;
use super::matrix::{self, f16_to_f32};
use super::memory::Machine;
use super::rows::{Rows, bits, each};
use super::warp::{LANES, Warp};
use super::words;
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
    let rows = Rows::new(&mut warp.registers);
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
        let step = &plan.steps[pc];
        let mask = match step.guard {
            None => warp.active,
            Some(guard) => {
                let predicate = rows.predicate(guard.row);
                warp.active & if guard.negated { !predicate } else { predicate }
            }
        };
        machine.stats.hits[pc] += 1;
        machine.stats.lanes[pc] += u64::from(mask.count_ones());
        match step.fast {
            Fast::General => {
                match general::execute(warp, machine, &machine.context.kernel.code[pc].op, mask)? {
                    Flow::Next => {}
                    Flow::Jumped => continue,
                    Flow::Stop(event) => return Ok(event),
                }
            }
            Fast::Bra { target, reconverge } => {
                if warp.branch(mask, target, reconverge) {
                    machine.stats.counters.divergent_branches += 1;
                }
                continue;
            }
            Fast::Load { global, count, strong, rows: to, address } => {
                words::load(warp, machine, rows, mask, (global, count, strong), &to, &address)?;
            }
            Fast::Store { global, count, strong, rows: from, address } => {
                words::store(warp, machine, rows, mask, (global, count, strong), &from, &address)?;
            }
            Fast::ParamW { d, offset } => {
                let value = words::parameter::<4>(machine, offset)?;
                rows.put_word(d, mask, [u32::from_le_bytes(value); LANES]);
            }
            Fast::ParamL { d, offset } => {
                let value = words::parameter::<8>(machine, offset)?;
                rows.put_long(d, mask, [u64::from_le_bytes(value); LANES]);
            }
            Fast::Mma if mask == 0 => {}
            Fast::Mma => {
                matrix::require_whole(mask, "mma")?;
                if let Op::Mma(mma) = &machine.context.kernel.code[pc].op {
                    matrix::multiply_floats(&mut warp.registers, mma);
                }
                if let Some(races) = &mut machine.shared.races {
                    races.tick(warp.index);
                }
            }
            fast => compute(rows, mask, fast),
        }
        warp.pc += 1;
    }
}

/// Instructions that only look at their own lane's registers.
#[inline(always)]
fn compute(rows: Rows, mask: u32, fast: Fast) {
    let float = f32::from_bits;
    match fast {
        Fast::MovW { d, a } => rows.words1(mask, d, a, |a| a),
        Fast::MovL { d, a } => rows.put_long(d, mask, *rows.long(a)),
        Fast::AddW(r) => rows.words2(mask, r, u32::wrapping_add),
        Fast::SubW(r) => rows.words2(mask, r, u32::wrapping_sub),
        Fast::MulW(r) => rows.words2(mask, r, u32::wrapping_mul),
        Fast::AndW(r) => rows.words2(mask, r, |a, b| a & b),
        Fast::OrW(r) => rows.words2(mask, r, |a, b| a | b),
        Fast::XorW(r) => rows.words2(mask, r, |a, b| a ^ b),
        Fast::ShlW(r) => rows.words2(mask, r, |a, b| if b < 32 { a << (b & 31) } else { 0 }),
        Fast::ShrU(r) => rows.words2(mask, r, |a, b| if b < 32 { a >> (b & 31) } else { 0 }),
        Fast::ShrS(r) => rows.words2(mask, r, |a, b| (a as i32 >> b.min(31)) as u32),
        Fast::MinS(r) => rows.words2(mask, r, |a, b| (a as i32).min(b as i32) as u32),
        Fast::MaxS(r) => rows.words2(mask, r, |a, b| (a as i32).max(b as i32) as u32),
        Fast::MinU(r) => rows.words2(mask, r, u32::min),
        Fast::MaxU(r) => rows.words2(mask, r, u32::max),
        Fast::MulHiU(r) => rows.words2(mask, r, |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32),
        Fast::MadW(r) => rows.words3(mask, r, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        Fast::MulWideU(r) => rows.widen2(mask, r, |a, b| u64::from(a) * u64::from(b)),
        Fast::MulWideS(r) => rows.widen2(mask, r, product),
        Fast::MadWideU(r) => {
            rows.widen3(mask, r, |a, b, c| (u64::from(a) * u64::from(b)).wrapping_add(c));
        }
        Fast::MadWideS(r) => rows.widen3(mask, r, |a, b, c| product(a, b).wrapping_add(c)),
        Fast::AddL(r) => rows.longs2(mask, r, u64::wrapping_add),
        Fast::SubL(r) => rows.longs2(mask, r, u64::wrapping_sub),
        Fast::MulL(r) => rows.longs2(mask, r, u64::wrapping_mul),
        Fast::AndL(r) => rows.longs2(mask, r, |a, b| a & b),
        Fast::MadL(r) => rows.longs3(mask, r, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        Fast::ShlL(r) => shift_long(rows, mask, r),
        Fast::AddF(r) => rows.floats2(mask, r, |a, b| a + b),
        Fast::SubF(r) => rows.floats2(mask, r, |a, b| a - b),
        Fast::MulF(r) => rows.floats2(mask, r, |a, b| a * b),
        Fast::DivF(r) => rows.floats2(mask, r, |a, b| a / b),
        Fast::MinF(r) => rows.floats2(mask, r, |a, b| -larger(-a, -b)),
        Fast::MaxF(r) => rows.floats2(mask, r, larger),
        Fast::FmaF(r) => rows.words3(mask, r, |a, b, c| bits(float(a).mul_add(float(b), float(c)))),
        Fast::NegF { d, a } => rows.words1(mask, d, a, |a| bits(-float(a))),
        Fast::AbsF { d, a } => rows.words1(mask, d, a, |a| bits(float(a).abs())),
        Fast::SqrtF { d, a } => rows.words1(mask, d, a, |a| bits(float(a).sqrt())),
        Fast::Lop3 { rows: r, table } => lop3(rows, mask, r, table),
        Fast::SelW(r) => rows.select_words(mask, r),
        Fast::SelL(r) => rows.select_longs(mask, r),
        Fast::WidenS { d, a } => rows.widen(mask, d, a, |a| i64::from(a as i32) as u64),
        Fast::WidenU { d, a } => rows.widen(mask, d, a, u64::from),
        Fast::Narrow { d, a } => rows.narrow(mask, d, a, |a| a as u32),
        Fast::FromS { d, a } => rows.words1(mask, d, a, |a| (a as i32 as f32).to_bits()),
        Fast::FromU { d, a } => rows.words1(mask, d, a, |a| (a as f32).to_bits()),
        Fast::FromBf16 { d, a } => rows.words1(mask, d, a, |a| bits(float(a << 16))),
        Fast::FromF16 { d, a } => rows.words1(mask, d, a, |a| bits(f16_to_f32(a & 0xffff))),
        Fast::PairBf16(r) => rows.words2(mask, r, |high, low| bf16(high) << 16 | bf16(low)),
        Fast::Unpack32 { low, high, a } => {
            let values = *rows.long(a);
            rows.put_word(low, mask, each(|lane| values[lane] as u32));
            rows.put_word(high, mask, each(|lane| (values[lane] >> 32) as u32));
        }
        Fast::Pack32 { d, low, high } => {
            let r = Two { d, a: low, b: high };
            rows.widen2(mask, r, |low, high| u64::from(high) << 32 | u64::from(low));
        }
        fast => predicates(rows, mask, fast),
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
    (i64::from(a as i32) * i64::from(b as i32)) as u64
}

#[inline(always)]
fn shift_long(rows: Rows, mask: u32, r: Two) {
    let (a, b) = (rows.long(r.a), rows.word(r.b));
    let values = each(|lane| if b[lane] < 64 { a[lane] << (b[lane] & 63) } else { 0 });
    rows.put_long(r.d, mask, values);
}

#[inline(always)]
fn lop3(rows: Rows, mask: u32, r: super::fast::Three, table: u8) {
    let term = |row: u32| if table >> row & 1 == 1 { u32::MAX } else { 0 };
    let terms = [term(0), term(1), term(2), term(3), term(4), term(5), term(6), term(7)];
    rows.words3(mask, r, |a, b, c| {
        let pick = |bit: u32, yes: u32, no: u32| bit & yes | !bit & no;
        let low = pick(b, pick(c, terms[3], terms[2]), pick(c, terms[1], terms[0]));
        let high = pick(b, pick(c, terms[7], terms[6]), pick(c, terms[5], terms[4]));
        pick(a, high, low)
    });
}

#[inline(always)]
fn predicates(rows: Rows, mask: u32, fast: Fast) {
    match fast {
        Fast::CompareU(r, order) => match order {
            Order::Eq => rows.compare_words(mask, r, |a, b| a == b),
            Order::Ne => rows.compare_words(mask, r, |a, b| a != b),
            Order::Lt => rows.compare_words(mask, r, |a, b| a < b),
            Order::Le => rows.compare_words(mask, r, |a, b| a <= b),
            Order::Gt => rows.compare_words(mask, r, |a, b| a > b),
            Order::Ge => rows.compare_words(mask, r, |a, b| a >= b),
        },
        Fast::CompareS(r, order) => match order {
            Order::Eq => rows.compare_words(mask, r, |a, b| a == b),
            Order::Ne => rows.compare_words(mask, r, |a, b| a != b),
            Order::Lt => rows.compare_words(mask, r, |a, b| (a as i32) < b as i32),
            Order::Le => rows.compare_words(mask, r, |a, b| a as i32 <= b as i32),
            Order::Gt => rows.compare_words(mask, r, |a, b| a as i32 > b as i32),
            Order::Ge => rows.compare_words(mask, r, |a, b| a as i32 >= b as i32),
        },
        Fast::CompareUL(r, order) => match order {
            Order::Eq => rows.compare_longs(mask, r, |a, b| a == b),
            Order::Ne => rows.compare_longs(mask, r, |a, b| a != b),
            Order::Lt => rows.compare_longs(mask, r, |a, b| a < b),
            Order::Le => rows.compare_longs(mask, r, |a, b| a <= b),
            Order::Gt => rows.compare_longs(mask, r, |a, b| a > b),
            Order::Ge => rows.compare_longs(mask, r, |a, b| a >= b),
        },
        Fast::CompareSL(r, order) => match order {
            Order::Eq => rows.compare_longs(mask, r, |a, b| a == b),
            Order::Ne => rows.compare_longs(mask, r, |a, b| a != b),
            Order::Lt => rows.compare_longs(mask, r, |a, b| (a as i64) < b as i64),
            Order::Le => rows.compare_longs(mask, r, |a, b| a as i64 <= b as i64),
            Order::Gt => rows.compare_longs(mask, r, |a, b| a as i64 > b as i64),
            Order::Ge => rows.compare_longs(mask, r, |a, b| a as i64 >= b as i64),
        },
        Fast::CompareF(r, order) => {
            let float = f32::from_bits;
            match order {
                Order::Eq => rows.compare_words(mask, r, |a, b| float(a) == float(b)),
                Order::Ne => rows.compare_words(mask, r, |a, b| float(a) != float(b)),
                Order::Lt => rows.compare_words(mask, r, |a, b| float(a) < float(b)),
                Order::Le => rows.compare_words(mask, r, |a, b| float(a) <= float(b)),
                Order::Gt => rows.compare_words(mask, r, |a, b| float(a) > float(b)),
                Order::Ge => rows.compare_words(mask, r, |a, b| float(a) >= float(b)),
            }
        }
        Fast::AndP(r) => rows.put_predicate(r.d, mask, rows.predicate(r.a) & rows.predicate(r.b)),
        Fast::OrP(r) => rows.put_predicate(r.d, mask, rows.predicate(r.a) | rows.predicate(r.b)),
        Fast::XorP(r) => rows.put_predicate(r.d, mask, rows.predicate(r.a) ^ rows.predicate(r.b)),
        Fast::NotP { d, a } => rows.put_predicate(d, mask, !rows.predicate(a)),
        _ => {}
    }
}
