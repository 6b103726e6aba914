//! A warp: its registers, its active lanes, where it stands.

use super::async_copy::Copies;
use super::context::Context;
use crate::ir::{B32Value, B64Value, File, NO_PC, Pc, Reg, Special};

/// Lanes of a warp.
pub const LANES: usize = 32;

/// A b32 register, aligned for vector instructions.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct B32Lanes(pub [u32; LANES]);

/// A b64 register.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct B64Lanes(pub [u64; LANES]);

/// The three register files. (The predicate file has a register too many: so it's empty only before the warp's
/// first block.)
#[derive(Default)]
pub struct Registers {
    pub b32: Vec<B32Lanes>,
    pub b64: Vec<B64Lanes>,
    pub predicates: Vec<u32>,
}

/// The lanes of a mask.
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

impl Registers {
    /// All lanes of a register, zero-extended.
    pub fn get(&self, file: File, reg: Reg) -> [u64; LANES] {
        let reg = usize::from(reg);
        match file {
            File::B32 => self.b32[reg].0.map(u64::from),
            File::B64 => self.b64[reg].0,
            File::Predicates => {
                let mask = self.predicates[reg];
                std::array::from_fn(|lane| u64::from(mask >> lane & 1))
            }
        }
    }

    /// Writes the lanes of the mask.
    pub fn set(&mut self, file: File, reg: Reg, mask: u32, values: &[u64; LANES]) {
        let reg = usize::from(reg);
        match file {
            File::B32 => {
                let target = &mut self.b32[reg].0;
                lanes(mask).for_each(|lane| target[lane] = values[lane] as u32);
            }
            File::B64 => {
                let target = &mut self.b64[reg].0;
                lanes(mask).for_each(|lane| target[lane] = values[lane]);
            }
            File::Predicates => {
                let bits = lanes(mask).fold(0, |bits, lane| bits | ((values[lane] & 1) as u32) << lane);
                self.set_predicate(reg as Reg, mask, bits);
            }
        }
    }

    /// Applies a function to the values of the sources in every lane of the mask.
    #[inline(never)]
    pub fn map<const N: usize>(
        &mut self,
        mask: u32,
        (file, dst): (File, Reg),
        sources: [(File, Reg); N],
        f: impl Fn([u64; N]) -> u64,
    ) {
        let sources = sources.map(|(file, reg)| self.get(file, reg));
        let mut values = [0; LANES];
        lanes(mask).for_each(|lane| values[lane] = f(sources.map(|source| source[lane])));
        self.set(file, dst, mask, &values);
    }

    /// A b32 register.
    pub fn b32(&self, reg: Reg) -> &[u32; LANES] {
        &self.b32[usize::from(reg)].0
    }

    /// Writes the lanes of the mask.
    pub fn set_b32(&mut self, reg: Reg, mask: u32, values: &[u32; LANES]) {
        let target = &mut self.b32[usize::from(reg)].0;
        lanes(mask).for_each(|lane| target[lane] = values[lane]);
    }

    /// A predicate's lanes.
    pub fn predicate(&self, reg: Reg) -> u32 {
        self.predicates[usize::from(reg)]
    }

    /// Writes the lanes of the mask.
    pub fn set_predicate(&mut self, reg: Reg, mask: u32, bits: u32) {
        let target = &mut self.predicates[usize::from(reg)];
        *target = *target & !mask | bits & mask;
    }
}

/// Lanes that wait: to run from `pc` until `reconverge`.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub pc: Pc,
    pub mask: u32,
    pub reconverge: Pc,
}

/// A warp of a block.
pub struct Warp {
    /// Index in its block.
    pub index: u32,
    pub registers: Registers,
    /// Next instruction.
    pub pc: Pc,
    /// Lanes that execute it.
    pub active: u32,
    /// Where the active lanes stop, for others to join them.
    pub reconverge: Pc,
    /// The others, those that run next on top.
    pub stack: Vec<Waiting>,
    /// Lanes that are threads of the block and haven't ended.
    pub live: u32,
    /// Instructions so far.
    pub instructions: u64,
    /// Local memory, a lane's bytes side by side, and which of them are written.
    pub local: Vec<u8>,
    pub local_written: Vec<bool>,
    /// `cp.async` on the way.
    pub copies: Copies,
}

impl Warp {
    pub fn new(index: u32) -> Warp {
        Warp {
            index,
            registers: Registers::default(),
            pc: 0,
            active: 0,
            reconverge: NO_PC,
            stack: Vec::new(),
            live: 0,
            instructions: 0,
            local: Vec::new(),
            local_written: Vec::new(),
            copies: Copies::default(),
        }
    }

    /// Makes the warp stand before the first instruction of a block.
    pub fn start(&mut self, context: &Context, block: u64) {
        let first = self.index * 32;
        let count = context.threads().saturating_sub(first).min(32);
        self.live = u32::MAX >> (32 - count.max(1));
        (self.pc, self.active, self.reconverge) = (0, self.live, NO_PC);
        self.stack.clear();
        self.instructions = 0;
        let bytes = context.kernel.local_bytes as usize * LANES;
        self.local.clear();
        self.local.resize(bytes, crate::memory::POISON);
        self.local_written.clear();
        self.local_written.resize(bytes, false);
        self.copies.clear();
        self.fill_registers(context, block);
    }

    fn fill_registers(&mut self, context: &Context, block: u64) {
        let kernel = context.kernel;
        let special = SpecialValues { context, warp: self.index, block: context.block_index(block) };
        let registers = &mut self.registers;
        // Preloaded registers are never written: in a later block only those differ that name the block.
        let first = registers.predicates.is_empty();
        registers.b32.resize(kernel.b32 as usize, B32Lanes([u32::MAX; LANES]));
        registers.b64.resize(kernel.b64 as usize, B64Lanes([u64::MAX; LANES]));
        registers.predicates.clear();
        registers.predicates.resize(kernel.predicates as usize + 1, 0);
        for (reg, value) in registers.b32.iter_mut().zip(&kernel.preload.b32) {
            reg.0 = match *value {
                B32Value::Special(name) if !first && !names_block(name) => continue,
                B32Value::Constant(_) if !first => continue,
                B32Value::Constant(value) => [value; LANES],
                B32Value::Special(name) => std::array::from_fn(|lane| special.get(name, lane as u32) as u32),
            };
        }
        for (reg, value) in registers.b64.iter_mut().zip(&kernel.preload.b64) {
            reg.0 = match *value {
                B64Value::Special(name) if !first && !names_block(name) => continue,
                B64Value::Constant(_) | B64Value::Variable(..) if !first => continue,
                B64Value::Constant(value) => [value; LANES],
                B64Value::Variable(index, addend) => {
                    let base = context.launch.variables.get(index as usize).copied().unwrap_or(0);
                    [base.wrapping_add(addend); LANES]
                }
                B64Value::Special(name) => std::array::from_fn(|lane| special.get(name, lane as u32)),
            };
        }
        for (reg, value) in registers.predicates.iter_mut().zip(&kernel.preload.predicates) {
            *reg = if *value { u32::MAX } else { 0 };
        }
    }
}

/// Whether a special register differs between blocks.
fn names_block(name: Special) -> bool {
    matches!(name, Special::Ctaid(_) | Special::SmId)
}

/// Multiprocessors of the emulated device.
const MULTIPROCESSORS: u64 = 108;

struct SpecialValues<'a> {
    context: &'a Context<'a>,
    warp: u32,
    block: [u32; 3],
}

impl SpecialValues<'_> {
    fn get(&self, name: Special, lane: u32) -> u64 {
        let launch = self.context.launch;
        let axis = |values: [u32; 3], axis: u8| u64::from(values[usize::from(axis.min(2))]);
        let equal = 1u64 << lane;
        match name {
            Special::Tid(i) => axis(self.context.thread_index(self.warp * 32 + lane), i),
            Special::Ntid(i) => axis(launch.block, i),
            Special::Ctaid(i) => axis(self.block, i),
            Special::Nctaid(i) => axis(launch.grid, i),
            Special::LaneId => u64::from(lane),
            Special::WarpId => u64::from(self.warp),
            Special::NwarpId => 64,
            Special::SmId => u64::from(self.block[0]) % MULTIPROCESSORS,
            Special::NsmId => MULTIPROCESSORS,
            Special::GridId => launch.id,
            Special::LaneMaskEq => equal,
            Special::LaneMaskLe => equal * 2 - 1,
            Special::LaneMaskLt => equal - 1,
            Special::LaneMaskGe => 0x1_0000_0000 - equal,
            Special::LaneMaskGt => 0x1_0000_0000 - equal * 2,
            Special::DynamicSharedBytes => u64::from(launch.dynamic_shared),
            Special::TotalSharedBytes => u64::from(self.context.shared_bytes),
        }
    }
}
