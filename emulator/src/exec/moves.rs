//! Moves, packing, selection, clocks.

use super::context::Context;
use super::warp::{LANES, Registers, Warp, lanes};
use crate::ir::{File, Reg, Type};

use super::value::arithmetic;

impl Registers {
    /// `mov`.
    pub fn copy(&mut self, file: File, mask: u32, dst: Reg, src: Reg) {
        let values = self.get(file, src);
        self.set(file, dst, mask, &values);
    }

    /// A wider value from its halves, which are `width` bits wide.
    pub fn pack(&mut self, width: u32, mask: u32, dst: Reg, low: Reg, high: Reg) {
        let (low, high) = (self.get(File::B32, low), self.get(File::B32, high));
        let keep = (1u64 << width) - 1;
        let file = if width == 32 { File::B64 } else { File::B32 };
        let values = std::array::from_fn(|lane| high[lane] << width | low[lane] & keep);
        self.set(file, dst, mask, &values);
    }

    /// The halves of a wider value.
    pub fn unpack(&mut self, width: u32, mask: u32, low: Reg, high: Reg, src: Reg) {
        let file = if width == 32 { File::B64 } else { File::B32 };
        let values = self.get(file, src);
        let keep = (1u64 << width) - 1;
        self.set(File::B32, low, mask, &values.map(|value| value & keep));
        self.set(File::B32, high, mask, &values.map(|value| value >> width & keep));
    }

    /// `selp`.
    pub fn select(&mut self, file: File, mask: u32, dst: Reg, from: (Reg, Reg), predicate: u32) {
        let (a, b) = (self.get(file, from.0), self.get(file, from.1));
        self.set(file, dst, mask & predicate, &a);
        self.set(file, dst, mask & !predicate, &b);
    }

    /// `slct`: lanes whose c is at least 0 take a.
    pub fn select_by_sign(
        &mut self,
        file: File,
        by: Type,
        ftz: bool,
        mask: u32,
        dst: Reg,
        from: (Reg, Reg, Reg),
    ) {
        let c = self.get(File::B32, from.2);
        let chosen = lanes(mask).fold(0, |bits, lane| {
            let first = match by {
                Type::F32 => arithmetic::decode(Type::F32, c[lane], ftz) >= 0.0,
                _ => c[lane] as i32 >= 0,
            };
            bits | u32::from(first) << lane
        });
        self.select(file, mask, dst, (from.0, from.1), chosen);
    }
}

impl Warp {
    /// A counter as a long, or one half of it as a word.
    pub fn read_counter(&mut self, file: File, mask: u32, dst: Reg, high: bool, value: u64) {
        let value = match (file, high) {
            (File::B32, true) => value >> 32,
            (File::B32, false) => value & 0xffff_ffff,
            _ => value,
        };
        self.registers.set(file, dst, mask, &[value; LANES]);
    }

    /// `%globaltimer`: nanoseconds since the launch began.
    pub fn nanoseconds(context: &Context) -> u64 {
        context.started.elapsed().as_nanos() as u64
    }
}
