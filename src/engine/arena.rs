//! The memory plan of a program's tensors.
//!
//! While a program is lowered, each tensor in the arena is a slot, and its span holds the slot's number as offset.
//! [`Slots::place`] finds each slot's live range (first to last use), gives the slots offsets so that no two whose
//! live ranges overlap share memory, and writes the offsets into the ops.

use crate::device::{Access, Op, Region, Span};

/// Slots start on a cache line, of so many elements.
const ALIGN: usize = 16;

/// The slots of a program, by number: elements per image.
#[derive(Debug, Default)]
pub struct Slots {
    len: Vec<usize>,
    pinned: Vec<usize>,
}

impl Slots {
    /// A new slot of `len` elements per image.
    pub fn add(&mut self, len: usize) -> Span {
        self.len.push(len);
        Span { region: Region::Arena, offset: self.len.len() - 1, len }
    }

    /// Keeps a slot alive through the whole program: the next pass of the loop body reads it again.
    pub fn pin(&mut self, slot: Span) {
        self.pinned.push(slot.offset);
    }

    /// Replaces slot numbers by offsets for `capacity` images; returns the arena's elements.
    pub fn place(&self, ops: &mut [Op], capacity: usize) -> usize {
        let mut live_ranges = self.live_ranges(ops);
        for &slot in &self.pinned {
            live_ranges[slot] = Some((0, ops.len()));
        }
        let in_place = self.in_place(ops, &live_ranges);
        let offsets = self.offsets(&live_ranges, &in_place, capacity);
        for op in ops.iter_mut() {
            op.visit_spans(&mut |span, _| {
                if span.region == Region::Arena {
                    span.offset = offsets[span.offset];
                }
            });
        }
        let end = |slot: usize| offsets[slot] + self.size(slot, capacity);
        (0..self.len.len()).filter(|&slot| live_ranges[slot].is_some()).map(end).max().unwrap_or(0)
    }

    fn size(&self, slot: usize, capacity: usize) -> usize {
        (self.len[slot] * capacity).next_multiple_of(ALIGN)
    }

    /// First and last op that touches each slot.
    fn live_ranges(&self, ops: &mut [Op]) -> Vec<Option<(usize, usize)>> {
        let mut live_ranges = vec![None; self.len.len()];
        for (at, op) in ops.iter_mut().enumerate() {
            op.visit_spans(&mut |span, _| {
                if span.region == Region::Arena {
                    let live_range = &mut live_ranges[span.offset];
                    *live_range = Some((live_range.map_or(at, |(first, _): (usize, usize)| first), at));
                }
            });
        }
        live_ranges
    }

    /// For each slot, the slot whose memory it takes over: one of the same size that ends at the op which first writes
    /// the new one, and that this op reads in place and in no other way.
    fn in_place(&self, ops: &mut [Op], live_ranges: &[Option<(usize, usize)>]) -> Vec<Option<usize>> {
        let mut in_place = vec![None; self.len.len()];
        let mut taken = vec![false; self.len.len()];
        for (at, op) in ops.iter_mut().enumerate() {
            let (mut dying, mut born, mut read) = (vec![], vec![], vec![]);
            op.visit_spans(&mut |span, access| {
                if span.region != Region::Arena {
                    return;
                }
                match (access, live_ranges[span.offset]) {
                    (Access::ReadInPlace, Some((_, last))) if last == at => dying.push(span.offset),
                    (Access::Write | Access::Update, Some((first, _))) if first == at => {
                        born.push(span.offset)
                    }
                    (Access::Read, _) => read.push(span.offset),
                    _ => {}
                }
            });
            // An op's output is the last of what it writes, and comes first here: a mask of one channel is as large,
            // but isn't written where the op has read.
            for new in born.into_iter().rev() {
                let fits =
                    |&&old: &&usize| self.len[old] == self.len[new] && !taken[old] && !read.contains(&old);
                if let Some(&old) = dying.iter().find(fits) {
                    taken[old] = true;
                    in_place[new] = Some(old);
                }
            }
        }
        in_place
    }

    /// Largest first, each at the lowest offset that is free during its live range. Slots that take over each
    /// other's memory are placed as one.
    fn offsets(
        &self,
        live_ranges: &[Option<(usize, usize)>],
        in_place: &[Option<usize>],
        capacity: usize,
    ) -> Vec<usize> {
        let root = |mut slot: usize| {
            while let Some(old) = in_place[slot] {
                slot = old;
            }
            slot
        };
        let mut spans: Vec<Option<(usize, usize)>> = vec![None; self.len.len()];
        for slot in 0..self.len.len() {
            if let Some((first, last)) = live_ranges[slot] {
                let whole = &mut spans[root(slot)];
                *whole = Some(whole.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
            }
        }
        let mut order: Vec<usize> = (0..self.len.len()).filter(|&slot| spans[slot].is_some()).collect();
        order.sort_by_key(|&slot| (std::cmp::Reverse(self.len[slot]), slot));
        let mut placed: Vec<(usize, usize, (usize, usize))> = vec![];
        let mut offsets = vec![0; self.len.len()];
        for slot in order {
            let (first, last) = spans[slot].unwrap_or((0, 0));
            let size = self.size(slot, capacity);
            let mut busy: Vec<(usize, usize)> = placed
                .iter()
                .filter(|(_, _, (a, b))| *a <= last && first <= *b)
                .map(|&(start, end, _)| (start, end))
                .collect();
            busy.sort_unstable();
            let mut at = 0;
            for (start, end) in busy {
                if at + size <= start {
                    break;
                }
                at = at.max(end);
            }
            offsets[slot] = at;
            placed.push((at, at + size, (first, last)));
        }
        (0..self.len.len()).map(|slot| offsets[root(slot)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{ConvShape, FilterId, Prologue, ops};

    fn copy(input: Span, output: Span) -> Op {
        Op::Copy(ops::Copy { elements: input.len, input, output })
    }

    #[test]
    fn slots_alive_together_never_overlap_and_dead_ones_are_reused() {
        let mut slots = Slots::default();
        let spans: Vec<Span> = (0..4).map(|_| slots.add(100)).collect();
        let mut ops: Vec<Op> = (0..3).map(|i| copy(spans[i], spans[i + 1])).collect();
        let size = slots.place(&mut ops, 3);
        assert_eq!(size, 2 * 304, "a chain needs two slots at a time");
        for op in &mut ops {
            let mut seen = vec![];
            op.visit_spans(&mut |span, _| seen.push(span.offset));
            assert_ne!(seen[0], seen[1]);
        }
    }

    #[test]
    fn a_mask_as_large_as_the_output_does_not_take_its_place() {
        let shape =
            ConvShape { height: 2, width: 2, in_channels: 1, out_channels: 1, kernel: 1, stride: 1, pad: 0 };
        let mut slots = Slots::default();
        let [input, mask, residual, output] = [(); 4].map(|()| slots.add(4));
        let prologue = Prologue { affine: None, relu: true, mask: Some(mask) };
        let (filter, bias, residual) = (FilterId(0), None, Some(residual));
        let mut ops = vec![Op::Conv(ops::Conv { shape, filter, input, prologue, bias, residual, output })];
        slots.place(&mut ops, 1);
        let Op::Conv(conv) = &ops[0] else { panic!() };
        assert_eq!(conv.residual.map(|span| span.offset), Some(conv.output.offset));
        assert_ne!(conv.prologue.mask, Some(conv.output));
    }

    #[test]
    fn a_pinned_slot_keeps_its_place() {
        let mut slots = Slots::default();
        let spans: Vec<Span> = (0..3).map(|_| slots.add(16)).collect();
        slots.pin(spans[0]);
        let mut ops = vec![copy(spans[0], spans[1]), copy(spans[1], spans[2])];
        assert_eq!(slots.place(&mut ops, 1), 48);
    }
}
