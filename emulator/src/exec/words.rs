//! Loads and stores of 4-byte elements in global and shared memory, vectorised.

use super::context::{Outcome, Raise};
use super::global::Use;
use super::memory::{Machine, Pattern, Request, plain};
use super::rows::{Rows, each};
use super::warp::{LANES, Warp, lanes};
use crate::fault::Kind;
use crate::ir::{Access, Address, Row, Space, Type};

/// Global or shared, number of elements, strong.
pub type What = (bool, u8, bool);

#[inline(always)]
fn addresses(rows: Rows, address: &Address) -> [u64; LANES] {
    if address.wide {
        let (base, offset) = (rows.long(address.row), i64::from(address.offset) as u64);
        each(|lane| base[lane].wrapping_add(offset))
    } else {
        let (base, offset) = (rows.word(address.row), address.offset as u32);
        each(|lane| u64::from(base[lane].wrapping_add(offset)))
    }
}

/// How the addresses lie, and whether every one is a multiple of `bytes`.
#[inline(always)]
fn look(mask: u32, addresses: &[u64; LANES], bytes: u32) -> (Pattern, bool) {
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
        Pattern::Row
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

/// Everything but moving the bytes; the host address that the lanes' addresses count from, or none where
/// the general way has to be taken.
#[inline(always)]
fn prepare(
    warp: &mut Warp,
    machine: &mut Machine,
    request: &Request,
    what: What,
    usage: Use,
) -> Outcome<Option<u64>> {
    let (global, _, strong) = what;
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
            if usage == Use::Read { &mut counters.global_loads } else { &mut counters.global_stores };
        traffic.requests += 1;
        traffic.bytes += u64::from(request.bytes) * u64::from(request.mask.count_ones());
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

/// `ld` of words.
#[inline(always)]
pub fn load(
    warp: &mut Warp,
    machine: &mut Machine,
    rows: Rows,
    mask: u32,
    what: What,
    dst: &[Row; 4],
    address: &Address,
) -> Outcome {
    if mask == 0 {
        return Ok(());
    }
    let bytes = 4 * u32::from(what.1);
    let at = addresses(rows, address);
    let (pattern, aligned) = look(mask, &at, bytes);
    let request = Request { mask, addresses: at, bytes, pattern };
    let base = if aligned { prepare(warp, machine, &request, what, Use::Read)? } else { None };
    let Some(base) = base else {
        return machine.load(warp, space(what), access(what), mask, dst, address);
    };
    for (element, &row) in dst.iter().enumerate().take(usize::from(what.1)) {
        let from =
            |lane: usize| (base.wrapping_add(request.addresses[lane]) as *const u32).wrapping_add(element);
        let first = from(request.first());
        // SAFETY: `prepare` found every active lane's bytes good; the first lane of a full row begins it.
        let values: [u32; LANES] = unsafe {
            match pattern {
                Pattern::Same => [first.read_unaligned(); LANES],
                Pattern::Row if mask == u32::MAX && bytes == 4 => {
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
        rows.put_word(row, mask, values);
    }
    Ok(())
}

/// `st` of words.
#[inline(always)]
pub fn store(
    warp: &mut Warp,
    machine: &mut Machine,
    rows: Rows,
    mask: u32,
    what: What,
    src: &[Row; 4],
    address: &Address,
) -> Outcome {
    if mask == 0 {
        return Ok(());
    }
    let bytes = 4 * u32::from(what.1);
    let at = addresses(rows, address);
    let (pattern, aligned) = look(mask, &at, bytes);
    let request = Request { mask, addresses: at, bytes, pattern };
    let base = if aligned { prepare(warp, machine, &request, what, Use::Write)? } else { None };
    let Some(base) = base else {
        return machine.store(warp, space(what), access(what), mask, src, address);
    };
    for (element, &row) in src.iter().enumerate().take(usize::from(what.1)) {
        let values = rows.word(row);
        let to = |lane: usize| (base.wrapping_add(request.addresses[lane]) as *mut u32).wrapping_add(element);
        // SAFETY: as for `load`.
        unsafe {
            if pattern == Pattern::Row && mask == u32::MAX && bytes == 4 {
                to(0).cast::<[u32; LANES]>().write_unaligned(*values);
            } else {
                lanes(mask).for_each(|lane| to(lane).write_unaligned(values[lane]));
            }
        }
    }
    Ok(())
}

fn space(what: What) -> Space {
    if what.0 { Space::Global } else { Space::Shared }
}

fn access(what: What) -> Access {
    Access { count: what.1, strong: what.2, ..plain(Type::U32) }
}

/// A parameter, the same for all lanes.
#[inline(always)]
pub fn parameter<const N: usize>(machine: &Machine, offset: u32) -> Outcome<[u8; N]> {
    let params = &machine.context.launch.params;
    let bytes = params.get(offset as usize..).and_then(|rest| rest.first_chunk::<N>());
    bytes
        .copied()
        .ok_or_else(|| Raise::at(Kind::OutOfBounds, 0, u64::from(offset), "beyond the kernel's parameters"))
}
