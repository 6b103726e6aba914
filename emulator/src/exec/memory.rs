//! Loads and stores: the addresses of a warp, and moving the bytes once they are known to be good.

use super::block::Shared;
use super::context::{Context, Outcome, RawFault, Stats};
use super::global::AccessKind;
use super::warp::{LANES, Registers, Warp, lanes};
use crate::fault::Kind;
use crate::ir::{
    Access, Address, File, LOCAL_WINDOW, PARAM_WINDOW, Reg, SHARED_WINDOW, Space, Type, WINDOWS_END,
};

/// How the lanes' addresses lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// All the same.
    Same,
    /// Side by side in order of the lanes, without a gap.
    Contiguous,
    /// Anything else.
    Scattered,
}

/// The addresses of one instruction.
pub struct Request {
    pub mask: u32,
    pub addresses: [u64; LANES],
    /// Bytes of one lane.
    pub bytes: u32,
    pub pattern: Pattern,
}

impl Request {
    /// `mask` isn't 0.
    pub fn new(mask: u32, addresses: [u64; LANES], bytes: u32) -> Request {
        let pattern = pattern(mask, &addresses, bytes);
        Request { mask, addresses, bytes, pattern }
    }

    /// The first active lane.
    pub fn first(&self) -> usize {
        self.mask.trailing_zeros() as usize & 31
    }

    /// First byte and one past the last, over all lanes.
    pub fn span(&self) -> (u64, u64) {
        let first = self.addresses[self.first()];
        let bytes = u64::from(self.bytes);
        match self.pattern {
            Pattern::Same => (first, first.saturating_add(bytes)),
            Pattern::Contiguous => (first, first.saturating_add(bytes * u64::from(self.mask.count_ones()))),
            Pattern::Scattered => {
                let (low, high) = lanes(self.mask)
                    .map(|lane| self.addresses[lane])
                    .fold((u64::MAX, 0), |(low, high), address| (low.min(address), high.max(address)));
                (low, high.saturating_add(bytes))
            }
        }
    }

    /// The distinct ranges: lane, first byte, length. One for [`Pattern::Same`] and [`Pattern::Contiguous`].
    pub fn ranges(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        let bytes = u64::from(self.bytes);
        let (mask, bytes) = match self.pattern {
            Pattern::Same => (1 << self.first(), bytes),
            Pattern::Contiguous => (1 << self.first(), bytes * u64::from(self.mask.count_ones())),
            Pattern::Scattered => (self.mask, bytes),
        };
        lanes(mask).map(move |lane| (lane, self.addresses[lane], bytes))
    }

    /// The lane whose range holds a byte.
    pub fn lane_of(&self, address: u64) -> u32 {
        let bytes = u64::from(self.bytes);
        let holds = |lane: &usize| address.wrapping_sub(self.addresses[*lane]) < bytes;
        lanes(self.mask).find(holds).unwrap_or(self.first()) as u32
    }

    /// Every lane's address is a multiple of its access's size.
    pub fn require_aligned(&self) -> Outcome {
        let low = u64::from(self.bytes.next_power_of_two() - 1);
        match lanes(self.mask).find(|&lane| self.addresses[lane] & low != 0) {
            None => Ok(()),
            Some(lane) => {
                let detail = format!("{} bytes at an address that isn't a multiple of that", self.bytes);
                Err(RawFault::at(Kind::Misaligned, lane as u32, self.addresses[lane], detail))
            }
        }
    }

    /// Every lane lies inside `0..size`.
    pub fn require_below(&self, size: u64, what: &str) -> Outcome {
        let bytes = u64::from(self.bytes);
        let outside = |&lane: &usize| self.addresses[lane].saturating_add(bytes) > size;
        match lanes(self.mask).find(outside) {
            None => Ok(()),
            Some(lane) => {
                let detail = format!("{bytes} bytes beyond the {size} bytes of {what}");
                Err(RawFault::at(Kind::OutOfBounds, lane as u32, self.addresses[lane], detail))
            }
        }
    }
}

fn pattern(mask: u32, addresses: &[u64; LANES], bytes: u32) -> Pattern {
    let first = mask.trailing_zeros() as usize & 31;
    let base = addresses[first];
    if lanes(mask).all(|lane| addresses[lane] == base) {
        return Pattern::Same;
    }
    let run = mask >> first;
    let side_by_side =
        |lane: usize| addresses[lane] == base.wrapping_add((lane - first) as u64 * u64::from(bytes));
    if run & run.wrapping_add(1) == 0 && lanes(mask).all(side_by_side) {
        return Pattern::Contiguous;
    }
    Pattern::Scattered
}

impl Registers {
    /// The addresses of an operand in all lanes.
    pub fn addresses(&self, address: &Address) -> [u64; LANES] {
        if address.wide {
            let offset = i64::from(address.offset) as u64;
            return self.b64[usize::from(address.reg)].0.map(|base| base.wrapping_add(offset));
        }
        let offset = address.offset as u32;
        self.b32(address.reg).map(|base| u64::from(base.wrapping_add(offset)))
    }

    /// Loads every lane's elements from host addresses.
    ///
    /// # Safety
    /// `access.ty.size() * access.count` bytes can be read at every active lane's address.
    pub unsafe fn load_lanes(&mut self, access: Access, dst: &[Reg; 4], mask: u32, from: &[u64; LANES]) {
        let size = access.ty.size();
        let file = access.register.file();
        for (element, &reg) in dst.iter().enumerate().take(usize::from(access.count)) {
            let mut values = [0; LANES];
            for lane in lanes(mask) {
                let at = from[lane] + element as u64 * u64::from(size);
                // SAFETY: promised by the caller.
                values[lane] = unsafe { read_bytes(at, size) };
            }
            if access.ty.is_signed() && size < access.register.size() {
                let keep = u64::MAX >> (64 - access.register.size() * 8);
                values = values.map(|value| super::value::integer::extend(access.ty, value) as u64 & keep);
            }
            self.set(file, reg, mask, &values);
        }
    }

    /// Stores every lane's elements to host addresses, lane by lane.
    ///
    /// # Safety
    /// As for [`Registers::load_lanes`], for writing.
    pub unsafe fn store_lanes(&self, access: Access, src: &[Reg; 4], mask: u32, to: &[u64; LANES]) {
        let size = access.ty.size();
        for (element, &reg) in src.iter().enumerate().take(usize::from(access.count)) {
            let values = self.get(access.register.file(), reg);
            for lane in lanes(mask) {
                let at = to[lane] + element as u64 * u64::from(size);
                // SAFETY: promised by the caller.
                unsafe { write_bytes(at, size, values[lane]) };
            }
        }
    }
}

/// # Safety
/// `size` (1, 2, 4 or 8) bytes can be read there.
unsafe fn read_bytes(at: u64, size: u32) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        match size {
            1 => u64::from((at as *const u8).read()),
            2 => u64::from((at as *const u16).read_unaligned()),
            4 => u64::from((at as *const u32).read_unaligned()),
            _ => (at as *const u64).read_unaligned(),
        }
    }
}

/// # Safety
/// `size` (1, 2, 4 or 8) bytes can be written there.
unsafe fn write_bytes(at: u64, size: u32, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        match size {
            1 => (at as *mut u8).write(value as u8),
            2 => (at as *mut u16).write_unaligned(value as u16),
            4 => (at as *mut u32).write_unaligned(value as u32),
            _ => (at as *mut u64).write_unaligned(value),
        }
    }
}

/// Where generic addresses lie: lanes of global memory, shared, local, parameters.
fn classify(mask: u32, addresses: &[u64; LANES]) -> [(Space, u64, u32); 4] {
    let mut parts = [
        (Space::Global, 0, 0),
        (Space::Shared, SHARED_WINDOW, 0),
        (Space::Local, LOCAL_WINDOW, 0),
        (Space::Param, PARAM_WINDOW, 0),
    ];
    for lane in lanes(mask) {
        parts[space_of(addresses[lane])].2 |= 1 << lane;
    }
    parts
}

fn space_of(address: u64) -> usize {
    match address {
        SHARED_WINDOW..LOCAL_WINDOW => 1,
        LOCAL_WINDOW..PARAM_WINDOW => 2,
        PARAM_WINDOW..WINDOWS_END => 3,
        _ => 0,
    }
}

/// What a memory instruction needs besides the warp.
pub struct Machine<'a, 'b> {
    pub context: &'a Context<'b>,
    pub shared: &'a mut Shared,
    pub stats: &'a mut Stats,
}

impl Machine<'_, '_> {
    /// Calls `part` for every space that the lanes' addresses lie in, with addresses of that space.
    pub fn by_space(
        &mut self,
        space: Space,
        mask: u32,
        addresses: [u64; LANES],
        mut part: impl FnMut(&mut Self, Space, u32, [u64; LANES]) -> Outcome,
    ) -> Outcome {
        if space != Space::Generic {
            let space = if space == Space::Const { Space::Global } else { space };
            return part(self, space, mask, addresses);
        }
        for (space, window, mask) in classify(mask, &addresses) {
            if mask != 0 {
                part(self, space, mask, addresses.map(|address| address.wrapping_sub(window)))?;
            }
        }
        Ok(())
    }

    /// `ld`.
    #[inline(never)]
    pub fn load(
        &mut self,
        warp: &mut Warp,
        space: Space,
        access: Access,
        mask: u32,
        dst: &[Reg; 4],
        address: &Address,
    ) -> Outcome {
        let addresses = warp.registers.addresses(address);
        self.by_space(space, mask, addresses, |machine, space, mask, addresses| {
            let request = Request::new(mask, addresses, access.ty.size() * u32::from(access.count));
            let base = machine.prepare(warp, space, &request, AccessKind::Read, access.strong)?;
            // SAFETY: `prepare` checked every lane's bytes.
            unsafe { warp.registers.load_lanes(access, dst, mask, &base) };
            Ok(())
        })
    }

    /// `st`.
    #[inline(never)]
    pub fn store(
        &mut self,
        warp: &mut Warp,
        space: Space,
        access: Access,
        mask: u32,
        src: &[Reg; 4],
        address: &Address,
    ) -> Outcome {
        let addresses = warp.registers.addresses(address);
        self.by_space(space, mask, addresses, |machine, space, mask, addresses| {
            let request = Request::new(mask, addresses, access.ty.size() * u32::from(access.count));
            let base = machine.prepare(warp, space, &request, AccessKind::Write, access.strong)?;
            // SAFETY: `prepare` checked every lane's bytes.
            unsafe { warp.registers.store_lanes(access, src, mask, &base) };
            Ok(())
        })
    }

    /// Checks and counts an access of one space; the host addresses of the lanes.
    pub fn prepare(
        &mut self,
        warp: &mut Warp,
        space: Space,
        request: &Request,
        usage: AccessKind,
        strong: bool,
    ) -> Outcome<[u64; LANES]> {
        request.require_aligned()?;
        match space {
            Space::Shared => {
                self.shared_access(warp, request, usage, strong)?;
                Ok(self.shared.host(request))
            }
            Space::Local => self.local_access(warp, request, usage),
            Space::Param => self.param_access(request, usage),
            Space::Global | Space::Const | Space::Generic => {
                self.count_global(request, usage);
                self.global_access(warp, request, usage, strong)?;
                Ok(request.addresses)
            }
        }
    }

    fn local_access(
        &mut self,
        warp: &mut Warp,
        request: &Request,
        usage: AccessKind,
    ) -> Outcome<[u64; LANES]> {
        let size = u64::from(self.context.kernel.local_bytes);
        request.require_below(size, "local memory")?;
        self.stats.counters.local.count(request);
        for lane in lanes(request.mask) {
            let start = (lane as u64 * size + request.addresses[lane]) as usize;
            let written = &mut warp.local_written[start..start + request.bytes as usize];
            match usage {
                AccessKind::Write => written.fill(true),
                _ if self.context.settings.checks.uninitialised && written.contains(&false) => {
                    let detail = "local memory that nothing wrote";
                    return Err(RawFault::at(
                        Kind::Uninitialised,
                        lane as u32,
                        request.addresses[lane],
                        detail,
                    ));
                }
                _ => {}
            }
        }
        let base = warp.local.as_mut_ptr() as u64;
        Ok(std::array::from_fn(|lane| {
            base.wrapping_add(lane as u64 * size).wrapping_add(request.addresses[lane])
        }))
    }

    fn param_access(&mut self, request: &Request, usage: AccessKind) -> Outcome<[u64; LANES]> {
        let params = &self.context.launch.params;
        request.require_below(params.len() as u64, "parameters")?;
        if usage != AccessKind::Read {
            return Err(RawFault::new(Kind::Trap, request.first() as u32, "parameters can't be written"));
        }
        let base = params.as_ptr() as u64;
        Ok(request.addresses.map(|address| base.wrapping_add(address)))
    }

    /// `ld.param` at a constant offset.
    pub fn load_param(
        &mut self,
        warp: &mut Warp,
        access: Access,
        mask: u32,
        dst: &[Reg; 4],
        offset: u32,
    ) -> Outcome {
        let request = Request {
            mask,
            addresses: [u64::from(offset); LANES],
            bytes: access.ty.size() * u32::from(access.count),
            pattern: Pattern::Same,
        };
        let base = self.param_access(&request, AccessKind::Read)?;
        // SAFETY: `param_access` checked every lane's bytes.
        unsafe { warp.registers.load_lanes(access, dst, mask, &base) };
        Ok(())
    }

    /// `isspacep`.
    pub fn is_space(&mut self, warp: &mut Warp, space: Space, wide: bool, mask: u32, dst: Reg, a: Reg) {
        let file = if wide { File::B64 } else { File::B32 };
        let index = match space {
            Space::Shared => 1,
            Space::Local => 2,
            Space::Param => 3,
            Space::Global | Space::Const | Space::Generic => 0,
        };
        let addresses = warp.registers.get(file, a);
        let bits = lanes(mask).fold(0, |bits, lane| {
            let inside = match space {
                // Constant variables lie in global memory here, but their addresses aren't global ones.
                Space::Const => false,
                _ => space_of(addresses[lane]) == index,
            };
            bits | u32::from(inside) << lane
        });
        warp.registers.set_predicate(dst, mask, bits);
    }
}

/// The access of a single 32-bit or wider value, for code that builds one.
pub fn plain(ty: Type) -> Access {
    Access { ty, register: ty, count: 1, strong: false }
}
