//! Branches, exits and reconvergence.

use super::context::{Outcome, RawFault};
use super::warp::{Waiting, Warp, lanes};
use crate::fault::Kind;
use crate::ir::{BraIndexed, NO_PC, Pc};

impl Warp {
    /// The lanes of `taken` go to `target`, the other active ones on. True if that splits the warp.
    pub fn branch(&mut self, taken: u32, target: Pc, reconverge: Pc) -> bool {
        let next = self.pc + 1;
        if taken == self.active {
            self.pc = target;
        } else if taken == 0 {
            self.pc = next;
        } else {
            self.split(&[(next, self.active & !taken), (target, taken)], reconverge);
            return true;
        }
        false
    }

    /// Several parts of the active lanes, of which the last one runs first.
    ///
    /// Below them on the stack is the entry that runs on where they meet, unless there is one already: so in a
    /// loop that lanes leave one after the other the stack doesn't grow.
    fn split(&mut self, parts: &[(Pc, u32)], reconverge: Pc) {
        if reconverge != NO_PC && self.reconverge != reconverge {
            self.stack.push(Waiting { pc: reconverge, mask: self.active, reconverge: self.reconverge });
        }
        for &(pc, mask) in parts.iter().filter(|(pc, mask)| *mask != 0 && *pc != reconverge) {
            self.stack.push(Waiting { pc, mask, reconverge });
        }
        self.resume();
    }

    /// Goes on with the lanes on top of the stack; without any, the warp has ended.
    pub fn resume(&mut self) {
        while let Some(next) = self.stack.pop() {
            let mask = next.mask & self.live;
            if mask != 0 {
                (self.pc, self.active, self.reconverge) = (next.pc, mask, next.reconverge);
                return;
            }
        }
        self.active = 0;
    }

    /// These lanes end.
    pub fn exit(&mut self, mask: u32) {
        self.live &= !mask;
        self.active &= !mask;
        if self.active == 0 {
            self.resume();
        } else {
            self.pc += 1;
        }
    }

    /// `brx.idx`. True if that splits the warp.
    pub fn branch_indexed(&mut self, mask: u32, branch: &BraIndexed) -> Outcome<bool> {
        let index = *self.registers.b32(branch.index);
        let mut parts: Vec<(Pc, u32)> = Vec::new();
        let mut add = |pc, lane: usize| match parts.iter_mut().find(|part| part.0 == pc) {
            Some(part) => part.1 |= 1 << lane,
            None => parts.push((pc, 1 << lane)),
        };
        for lane in lanes(self.active) {
            if mask >> lane & 1 == 0 {
                add(self.pc + 1, lane);
                continue;
            }
            let target = branch.targets.get(index[lane] as usize).ok_or_else(|| {
                let detail = format!("brx.idx {} of a table of {}", index[lane], branch.targets.len());
                RawFault::new(Kind::Trap, lane as u32, detail)
            })?;
            add(*target, lane);
        }
        if let [(pc, _)] = parts[..] {
            self.pc = pc;
            return Ok(false);
        }
        self.split(&parts, branch.reconverge);
        Ok(true)
    }
}
