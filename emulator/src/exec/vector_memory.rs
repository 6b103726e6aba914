//! Loads and stores of 4-byte elements in global and shared memory, vectorised.

use super::context::{Outcome, RawFault};
use super::global::AccessKind;
use super::memory::{Machine, Pattern, Request, plain};
use super::vector_op::VectorAccess;
use super::vector_registers::{VectorRegisters, each};
use super::warp::{LANES, Warp, lanes};
use crate::fault::Kind;
use crate::ir::{Access, Address, Space, Type};

#[inline(always)]
fn addresses(regs: VectorRegisters, address: &Address) -> [u64; LANES] {
    if address.wide {
        let (base, offset) = (regs.get::<u64>(address.reg), i64::from(address.offset) as u64);
        each(|lane| base[lane].wrapping_add(offset))
    } else {
        let (base, offset) = (regs.get::<u32>(address.reg), address.offset as u32);
        each(|lane| u64::from(base[lane].wrapping_add(offset)))
    }
}

/// The pattern of the addresses, and whether each is a multiple of `bytes`.
#[inline(always)]
fn classify(mask: u32, addresses: &[u64; LANES], bytes: u32) -> (Pattern, bool) {
    let first = mask.trailing_zeros() & 31;
    let base = addresses[first as usize];
    let origin = base.wrapping_sub(u64::from(first) * u64::from(bytes));
    let (mut differs, mut apart, mut low) = (0, 0, 0);
    for (lane, &address) in addresses.iter().enumerate() {
        let active = u64::from(mask >> lane & 1).wrapping_neg();
        differs |= (address ^ base) & active;
        apart |= (address ^ origin.wrapping_add(lane as u64 * u64::from(bytes))) & active;
        low |= address & active;
    }
    let run = mask >> first;
    let pattern = if differs == 0 {
        Pattern::Same
    } else if apart == 0 && run & run.wrapping_add(1) == 0 {
        Pattern::Contiguous
    } else {
        Pattern::Scattered
    };
    (pattern, low & u64::from(bytes - 1) == 0)
}

/// Whether all active lanes' bytes lie in a range.
#[inline(always)]
fn within(request: &Request, start: u64, end: u64) -> bool {
    let bytes = u64::from(request.bytes);
    if request.pattern != Pattern::Scattered {
        let (low, high) = request.span();
        return low >= start && high <= end;
    }
    let mut outside = false;
    let Some(most) = (end - start).checked_sub(bytes) else { return false };
    for (lane, &address) in request.addresses.iter().enumerate() {
        outside |= (address.wrapping_sub(start) > most) & (request.mask >> lane & 1 != 0);
    }
    !outside
}

/// The request of an access, checked and counted, and the host address that the lanes' addresses count from; none
/// where the scalar path has to do it.
#[inline(always)]
fn request(
    warp: &mut Warp,
    machine: &mut Machine,
    regs: VectorRegisters,
    mask: u32,
    access: &VectorAccess,
    usage: AccessKind,
) -> Outcome<Option<(Request, u64)>> {
    let bytes = 4 * u32::from(access.count);
    let addresses = addresses(regs, &access.address);
    let (pattern, aligned) = classify(mask, &addresses, bytes);
    let request = Request { mask, addresses, bytes, pattern };
    if !aligned {
        return Ok(None);
    }
    let base = prepare(warp, machine, &request, access, usage)?;
    Ok(base.map(|base| (request, base)))
}

/// Checks and counts a request. Returns the host address that the lanes' addresses count from, or none where
/// the scalar path has to do it.
#[inline(always)]
fn prepare(
    warp: &mut Warp,
    machine: &mut Machine,
    request: &Request,
    access: &VectorAccess,
    usage: AccessKind,
) -> Outcome<Option<u64>> {
    let VectorAccess { global, strong, .. } = *access;
    let context = machine.context;
    if global {
        if context.checked || context.settings.count_memory {
            machine.count_global(request, usage);
            machine.global_access(warp, request, usage, strong)?;
            return Ok(Some(0));
        }
        if !within(request, context.reserved.start, context.reserved.end) {
            return Ok(None);
        }
        let counters = &mut machine.stats.counters;
        let traffic =
            if usage == AccessKind::Read { &mut counters.global_loads } else { &mut counters.global_stores };
        traffic.count(request);
        return Ok(Some(0));
    }
    if !within(request, 0, u64::from(machine.shared.bytes)) {
        return Ok(None);
    }
    machine.count_shared(request, usage);
    if machine.shared.watched() {
        machine.shared_state(warp, request, usage, strong)?;
    }
    Ok(Some(machine.shared.base()))
}

/// `ld` of 4-byte elements.
#[inline(always)]
pub fn load(
    warp: &mut Warp,
    machine: &mut Machine,
    regs: VectorRegisters,
    mask: u32,
    access: &VectorAccess,
) -> Outcome {
    if mask == 0 {
        return Ok(());
    }
    let Some((request, base)) = request(warp, machine, regs, mask, access, AccessKind::Read)? else {
        return machine.load(warp, space(access), elements(access), mask, &access.regs, &access.address);
    };
    for (element, &reg) in access.regs.iter().enumerate().take(usize::from(access.count)) {
        let from =
            |lane: usize| (base.wrapping_add(request.addresses[lane]) as *const u32).wrapping_add(element);
        let first = from(request.first());
        // SAFETY: `prepare` found every active lane's bytes good; where
        // all lanes are active and contiguous, the first lane's address begins them.
        let values: [u32; LANES] = unsafe {
            match request.pattern {
                Pattern::Same => [first.read_unaligned(); LANES],
                Pattern::Contiguous if mask == u32::MAX && request.bytes == 4 => {
                    first.cast::<[u32; LANES]>().read_unaligned()
                }
                _ if mask == u32::MAX => each(|lane| from(lane).read_unaligned()),
                _ => {
                    let mut values = [0; LANES];
                    lanes(mask).for_each(|lane| values[lane] = from(lane).read_unaligned());
                    values
                }
            }
        };
        regs.put(reg, mask, values);
    }
    Ok(())
}

/// `st` of 4-byte elements.
#[inline(always)]
pub fn store(
    warp: &mut Warp,
    machine: &mut Machine,
    regs: VectorRegisters,
    mask: u32,
    access: &VectorAccess,
) -> Outcome {
    if mask == 0 {
        return Ok(());
    }
    let Some((request, base)) = request(warp, machine, regs, mask, access, AccessKind::Write)? else {
        return machine.store(warp, space(access), elements(access), mask, &access.regs, &access.address);
    };
    for (element, &reg) in access.regs.iter().enumerate().take(usize::from(access.count)) {
        let values = regs.get::<u32>(reg);
        let to = |lane: usize| (base.wrapping_add(request.addresses[lane]) as *mut u32).wrapping_add(element);
        // SAFETY: as for `load`.
        unsafe {
            if request.pattern == Pattern::Contiguous && mask == u32::MAX && request.bytes == 4 {
                to(0).cast::<[u32; LANES]>().write_unaligned(*values);
            } else {
                lanes(mask).for_each(|lane| to(lane).write_unaligned(values[lane]));
            }
        }
    }
    Ok(())
}

fn space(access: &VectorAccess) -> Space {
    if access.global { Space::Global } else { Space::Shared }
}

fn elements(access: &VectorAccess) -> Access {
    Access { count: access.count, strong: access.strong, ..plain(Type::U32) }
}

/// A parameter, the same for all lanes.
#[inline(always)]
pub fn parameter<const N: usize>(machine: &Machine, offset: u32) -> Outcome<[u8; N]> {
    let params = &machine.context.launch.params;
    let bytes = params.get(offset as usize..).and_then(|rest| rest.first_chunk::<N>());
    bytes.copied().ok_or_else(|| {
        RawFault::at(Kind::OutOfBounds, 0, u64::from(offset), "beyond the kernel's parameters")
    })
}
