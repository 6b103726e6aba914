//! Taking registers apart, clocks.

use super::context::Context;
use super::warp::{LANES, Registers, Warp};
use crate::ir::{File, Reg};

impl Registers {
    /// The halves, `width` bits each, of a register of a file.
    pub fn unpack(&mut self, width: u32, file: File, mask: u32, (low, high): (Reg, Reg), src: Reg) {
        let values = self.get(file, src);
        let keep = (1u64 << width) - 1;
        self.set(File::B32, low, mask, &values.map(|value| value & keep));
        self.set(File::B32, high, mask, &values.map(|value| value >> width & keep));
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
