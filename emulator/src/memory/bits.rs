//! One bit per byte of device memory.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::region::Region;

/// Bits in words of 64. Blocks that run at the same time share words: every change is atomic, and
/// skipped where the bits are right already, as they nearly always are.
pub struct Bits {
    region: Region,
}

/// The words that a range of bits touches: index and mask.
fn words(first: u64, count: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = first + count;
    (first / 64..end.div_ceil(64)).map(move |word| {
        let low = first.saturating_sub(word * 64).min(63);
        let high = (end - word * 64).min(64);
        (word, (u64::MAX << low) & (u64::MAX >> (64 - high)))
    })
}

impl Bits {
    pub fn new(count: u64) -> io::Result<Bits> {
        Ok(Bits { region: Region::new(count / 8 + 8)? })
    }

    #[inline]
    fn word(&self, index: u64) -> &AtomicU64 {
        debug_assert!(index * 8 + 8 <= self.region.end() - self.region.start());
        // SAFETY: callers pass offsets of device memory, for all of which `new` reserved a bit; the
        // region is aligned to a page and only ever touched through atomics.
        unsafe { &*((self.region.start() + index * 8) as *const AtomicU64) }
    }

    #[inline]
    pub fn set(&self, first: u64, count: u64) {
        if count == 0 {
            return;
        }
        for (word, mask) in words(first, count) {
            let word = self.word(word);
            if word.load(Relaxed) & mask != mask {
                word.fetch_or(mask, Relaxed);
            }
        }
    }

    pub fn clear(&self, first: u64, count: u64) {
        if count == 0 {
            return;
        }
        for (word, mask) in words(first, count) {
            let word = self.word(word);
            if word.load(Relaxed) & mask != 0 {
                word.fetch_and(!mask, Relaxed);
            }
        }
    }

    #[inline]
    pub fn first_clear(&self, first: u64, count: u64) -> Option<u64> {
        if count == 0 {
            return None;
        }
        words(first, count).find_map(|(word, mask)| {
            let clear = !self.word(word).load(Relaxed) & mask;
            (clear != 0).then(|| word * 64 + u64::from(clear.trailing_zeros()))
        })
    }

    /// 64 bits from any position.
    fn get(&self, first: u64) -> u64 {
        let (word, shift) = (first / 64, first % 64);
        let low = self.word(word).load(Relaxed) >> shift;
        if shift == 0 { low } else { low | self.word(word + 1).load(Relaxed) << (64 - shift) }
    }

    fn put(&self, first: u64, count: u64, value: u64) {
        for (word, mask) in words(first, count) {
            let bits =
                if word * 64 >= first { value >> (word * 64 - first) } else { value << (first - word * 64) };
            self.word(word).fetch_and(!mask, Relaxed);
            self.word(word).fetch_or(bits & mask, Relaxed);
        }
    }

    /// Copies `count` bits; the ranges may overlap.
    pub fn copy(&self, to: u64, from: u64, count: u64) {
        let chunks = count.div_ceil(64);
        let mut chunk = |index: u64| {
            let at = index * 64;
            let value = self.get(from + at);
            self.put(to + at, (count - at).min(64), value);
        };
        if to <= from {
            (0..chunks).for_each(&mut chunk);
        } else {
            (0..chunks).rev().for_each(&mut chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn same_as_a_list_of_bools(
            operations in prop::collection::vec((0..3, 0u64..500, 0u64..500, 0u64..300), 1..20)
        ) {
            let bits = Bits::new(1000).unwrap();
            let mut list = vec![false; 1000];
            for (operation, a, b, count) in operations {
                let (from, to, n) = (a as usize, b as usize, count as usize);
                match operation {
                    0 => { bits.set(a, count); list[from..from + n].fill(true); }
                    1 => { bits.clear(a, count); list[from..from + n].fill(false); }
                    _ => { bits.copy(b, a, count); list.copy_within(from..from + n, to); }
                }
                let expected = list[from..from + n].iter().position(|set| !set).map(|at| (at + from) as u64);
                prop_assert_eq!(bits.first_clear(a, count), expected);
            }
            for (at, set) in list.iter().enumerate() {
                prop_assert_eq!(bits.first_clear(at as u64, 1).is_none(), *set);
            }
        }
    }
}
