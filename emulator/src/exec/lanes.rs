//! Instructions that look across lanes: shuffles, votes, matches, reductions.
//!
//! All lanes of the member mask that still live must execute the instruction together; a lane that is
//! not in its own member mask, or a member elsewhere, has no defined result on a GPU and is a finding.

use super::context::{Outcome, RawFault};
use super::value::integer;
use super::warp::{LANES, Warp, lanes};
use crate::fault::Kind;
use crate::ir::{AtomicOp, File, Guard, Int2, Reg, Shuffle, Type, Vote};

impl Warp {
    /// The members that take part: checks that they are the executing lanes.
    fn members(&self, mask: u32, reg: Reg) -> Outcome<u32> {
        let words = self.registers.b32(reg);
        let mut seen = 0;
        let first = mask.trailing_zeros() as usize;
        let member = words[first.min(31)];
        for lane in lanes(mask) {
            let own = words[lane];
            if own >> lane & 1 == 0 {
                let detail = format!("lane {lane} is not in its own member mask {own:#010x}");
                return Err(RawFault::new(Kind::DivergentBarrier, lane as u32, detail));
            }
            // Lanes with different masks run the instruction as separate groups.
            if own == member {
                seen |= 1 << lane;
            }
        }
        self.require_present(member, seen, first as u32)
    }

    fn require_present(&self, member: u32, seen: u32, lane: u32) -> Outcome<u32> {
        let missing = member & self.live & !seen;
        if missing != 0 {
            let detail = format!("lanes {missing:#010x} of the member mask {member:#010x} are elsewhere");
            return Err(RawFault::new(Kind::DivergentBarrier, lane, detail));
        }
        Ok(member)
    }

    /// The groups of lanes with one member mask each.
    fn groups(&self, mask: u32, reg: Reg) -> Outcome<Vec<u32>> {
        let words = self.registers.b32(reg);
        let mut groups = Vec::new();
        let mut left = mask;
        while left != 0 {
            self.members(left, reg)?;
            let member = words[left.trailing_zeros() as usize];
            groups.push(left & member);
            left &= !member;
        }
        Ok(groups)
    }

    /// `bar.warp.sync`.
    pub fn warp_sync(&self, mask: u32, reg: Reg) -> Outcome {
        self.groups(mask, reg).map(drop)
    }

    /// `shfl.sync`.
    #[inline(never)]
    pub fn shuffle(
        &mut self,
        mode: Shuffle,
        mask: u32,
        dst: (Reg, Option<Reg>),
        from: (Reg, Reg, Reg),
        members: Reg,
    ) -> Outcome {
        self.groups(mask, members)?;
        let registers = &self.registers;
        let (a, b, c) = (registers.b32(from.0), registers.b32(from.1), registers.b32(from.2));
        let mut values = *a;
        let mut found = 0;
        for lane in lanes(mask) {
            let (source, inside) = source_lane(mode, lane as i32, b[lane], c[lane]);
            let source = if inside { source } else { lane };
            if mask >> source & 1 == 0 {
                let detail = format!("shuffle from lane {source}, which doesn't take part");
                return Err(RawFault::new(Kind::Uninitialised, lane as u32, detail));
            }
            values[lane] = a[source];
            found |= u32::from(inside) << lane;
        }
        self.registers.set_b32(dst.0, mask, &values);
        if let Some(reg) = dst.1 {
            self.registers.set_predicate(reg, mask, found);
        }
        Ok(())
    }

    /// `vote.sync`.
    #[inline(never)]
    pub fn vote(&mut self, mode: Vote, mask: u32, dst: Reg, src: Guard, members: Reg) -> Outcome {
        let predicate = self.registers.predicate(src.reg);
        let predicate = if src.negated { !predicate } else { predicate };
        for group in self.groups(mask, members)? {
            let set = predicate & group;
            let result = match mode {
                Vote::All => set == group,
                Vote::Any => set != 0,
                Vote::Uniform => set == group || set == 0,
                Vote::Ballot => {
                    self.registers.set_b32(dst, group, &[set; LANES]);
                    continue;
                }
            };
            self.registers.set_predicate(dst, group, if result { u32::MAX } else { 0 });
        }
        Ok(())
    }

    /// `match.any`, `match.all`.
    #[inline(never)]
    pub fn match_lanes(
        &mut self,
        all: bool,
        file: File,
        mask: u32,
        dst: (Reg, Option<Reg>),
        a: Reg,
        members: Reg,
    ) -> Outcome {
        let values = self.registers.get(file, a);
        for group in self.groups(mask, members)? {
            let equal = |lane: usize| {
                lanes(group)
                    .fold(0u32, |bits, other| bits | u32::from(values[other] == values[lane]) << other)
            };
            let mut result = [0; LANES];
            lanes(group).for_each(|lane| result[lane] = equal(lane));
            if all {
                let same = result[group.trailing_zeros() as usize] == group;
                result = [if same { group } else { 0 }; LANES];
                if let Some(reg) = dst.1 {
                    self.registers.set_predicate(reg, group, if same { u32::MAX } else { 0 });
                }
            }
            self.registers.set_b32(dst.0, group, &result);
        }
        Ok(())
    }

    /// `elect.sync`.
    #[inline(never)]
    pub fn elect(&mut self, mask: u32, dst: Reg, found: Reg, members: Reg) -> Outcome {
        for group in self.groups(mask, members)? {
            let leader = group.trailing_zeros();
            self.registers.set_b32(dst, group, &[leader; LANES]);
            self.registers.set_predicate(found, group, 1 << leader);
        }
        Ok(())
    }

    /// `redux.sync`.
    #[inline(never)]
    pub fn reduce(&mut self, op: AtomicOp, ty: Type, mask: u32, dst: Reg, a: Reg, members: Reg) -> Outcome {
        let op = match op {
            AtomicOp::Add => Int2::Add,
            AtomicOp::Min => Int2::Min,
            AtomicOp::Max => Int2::Max,
            AtomicOp::And => Int2::And,
            AtomicOp::Or => Int2::Or,
            AtomicOp::Xor => Int2::Xor,
            _ => return Err(RawFault::new(Kind::Trap, 0, "redux.sync of an operation without meaning")),
        };
        let values = self.registers.get(File::B32, a);
        for group in self.groups(mask, members)? {
            let result = lanes(group).map(|lane| values[lane]).reduce(|x, y| integer::int2(op, ty, x, y));
            self.registers.set_b32(dst, group, &[result.unwrap_or(0) as u32; LANES]);
        }
        Ok(())
    }
}

/// Source lane and "in range", by the manual's pseudo code.
fn source_lane(mode: Shuffle, lane: i32, b: u32, c: u32) -> (usize, bool) {
    let b = (b & 0x1f) as i32;
    let clamp = (c & 0x1f) as i32;
    let segment = (c >> 8 & 0x1f) as i32;
    let most = (lane & segment) | (clamp & !segment);
    let least = lane & segment;
    let (source, inside) = match mode {
        // For `up` the clamp is the lower bound.
        Shuffle::Up => (lane - b, lane - b >= most),
        Shuffle::Down => (lane + b, lane + b <= most),
        Shuffle::Butterfly => (lane ^ b, (lane ^ b) <= most),
        Shuffle::Index => {
            let source = least | (b & !segment);
            (source, source <= most)
        }
    };
    ((source & 31) as usize, inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffle_sources_of_the_manual() {
        // Whole warp: c = 31 for down, bfly and idx, 0 for up.
        assert_eq!(source_lane(Shuffle::Down, 3, 16, 31), (19, true));
        assert!(!source_lane(Shuffle::Down, 20, 16, 31).1);
        assert_eq!(source_lane(Shuffle::Up, 20, 4, 0), (16, true));
        assert!(!source_lane(Shuffle::Up, 3, 4, 0).1);
        assert_eq!(source_lane(Shuffle::Butterfly, 5, 16, 31), (21, true));
        assert_eq!(source_lane(Shuffle::Index, 30, 7, 31), (7, true));
        // Segments of 8 lanes: mask 0b11000 in bits 8 to 12.
        let segments = 0x18 << 8;
        assert_eq!(source_lane(Shuffle::Index, 13, 2, segments | 31), (10, true));
        assert!(!source_lane(Shuffle::Down, 14, 2, segments | 31).1);
        assert_eq!(source_lane(Shuffle::Down, 13, 2, segments | 31), (15, true));
        assert!(!source_lane(Shuffle::Up, 9, 2, segments).1);
        assert_eq!(source_lane(Shuffle::Up, 11, 2, segments), (9, true));
    }
}
