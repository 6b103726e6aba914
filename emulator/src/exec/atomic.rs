//! `atom` and `red`. Blocks run on several threads, so these are atomic on the host as well. The lanes of
//! a warp take their turns in ascending order.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::context::Outcome;
use super::global::AccessKind;
use super::memory::{Machine, Request};
use super::value::{arithmetic, integer};
use super::warp::{LANES, Warp, lanes};
use crate::ir::{Address, AtomicOp, Float2, Int2, Mode, Reg, Space, Type};

/// Operands of an atomic instruction.
pub struct Atomic {
    pub op: AtomicOp,
    pub ty: Type,
    pub dst: Option<Reg>,
    pub address: Address,
    pub b: Reg,
    pub c: Reg,
}

impl Machine<'_, '_> {
    #[inline(never)]
    pub fn atomic(&mut self, warp: &mut Warp, space: Space, mask: u32, atomic: &Atomic) -> Outcome {
        let Atomic { op, ty, dst, address, b, c } = atomic;
        let file = ty.file();
        let addresses = warp.registers.addresses(address);
        let b = warp.registers.get(file, *b);
        let c = if *op == AtomicOp::Cas { warp.registers.get(file, *c) } else { [0; LANES] };
        self.by_space(space, mask, addresses, |machine, space, mask, addresses| {
            let request = Request::new(mask, addresses, ty.size());
            let host = machine.prepare(warp, space, &request, AccessKind::Atomic, false)?;
            let mut old = [0; LANES];
            // The manual: additions of f32 flush subnormals on global memory, not on shared.
            let ftz = *ty == Type::F32 && space == Space::Global;
            for lane in lanes(mask) {
                let change = |old| value(*op, *ty, ftz, old, b[lane], c[lane]);
                // SAFETY: `prepare` checked bounds and alignment of every lane.
                old[lane] = unsafe { update(host[lane], ty.size(), change) };
            }
            if let Some(dst) = dst {
                warp.registers.set(file, *dst, mask, &old);
            }
            Ok(())
        })
    }
}

/// Replaces the value at an address atomically; the old one.
///
/// # Safety
/// `size` bytes (2, 4 or 8) at a multiple of that can be read and written there.
unsafe fn update(at: u64, size: u32, change: impl Fn(u64) -> u64) -> u64 {
    const ORDER: Ordering = Ordering::SeqCst;
    // SAFETY: the caller's promise.
    let old = unsafe {
        match size {
            2 => AtomicU16::from_ptr(at as *mut u16)
                .fetch_update(ORDER, ORDER, |old| Some(change(old.into()) as u16))
                .map(u64::from)
                .map_err(u64::from),
            4 => AtomicU32::from_ptr(at as *mut u32)
                .fetch_update(ORDER, ORDER, |old| Some(change(old.into()) as u32))
                .map(u64::from)
                .map_err(u64::from),
            _ => AtomicU64::from_ptr(at as *mut u64).fetch_update(ORDER, ORDER, |old| Some(change(old))),
        }
    };
    old.unwrap_or_else(|old| old)
}

/// The new value.
fn value(op: AtomicOp, ty: Type, ftz: bool, old: u64, b: u64, c: u64) -> u64 {
    let float = |op| match ty {
        Type::F16x2 | Type::Bf16x2 => {
            let half = |shift: u32| {
                let part = |value: u64| value >> shift & 0xffff;
                arithmetic::float2(op, ty, Mode::PLAIN, part(old), part(b)) << shift
            };
            half(0) | half(16)
        }
        _ => arithmetic::float2(op, ty, Mode { ftz, ..Mode::PLAIN }, old, b),
    };
    let int = |op| integer::int2(op, ty, old, b);
    match op {
        AtomicOp::Add if ty.is_float() => float(Float2::Add),
        AtomicOp::Min if ty.is_float() => float(Float2::Min),
        AtomicOp::Max if ty.is_float() => float(Float2::Max),
        AtomicOp::Add => int(Int2::Add),
        AtomicOp::Min => int(Int2::Min),
        AtomicOp::Max => int(Int2::Max),
        AtomicOp::And => old & b,
        AtomicOp::Or => old | b,
        AtomicOp::Xor => old ^ b,
        AtomicOp::Exch => b,
        AtomicOp::Inc => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Dec => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        AtomicOp::Cas => {
            if old == integer::truncate(ty, b) {
                c
            } else {
                old
            }
        }
    }
}
