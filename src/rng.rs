//! Counter-based randomness: Philox4x32-10 (Salmon et al., SC'11).
//!
//! A draw is a pure function of (seed, purpose, epoch, element), so every device and any thread
//! count sees the same bits, and a resumed run continues where it stopped without saved state.

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The Philox4x32-10 block function.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let a = u64::from(MULTIPLIER[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIER[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

/// What a draw is for; streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    Initialise = 1,
    Shuffle = 2,
    Augment = 3,
    AttackStart = 4,
    Budget = 5,
    Poison = 6,
    Split = 7,
    Synthetic = 8,
    Pattern = 9,
    PoisonNoise = 10,
    Patch = 11,
    View = 12,
    Noise = 13,
    Draw = 14,
}

/// The draws of one (seed, purpose, epoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    purpose: u32,
    epoch: u32,
}

impl Stream {
    pub fn new(seed: u64, purpose: Purpose, epoch: u32) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], purpose: purpose as u32, epoch }
    }

    /// Four words for `element`.
    pub fn words(&self, element: u64) -> [u32; 4] {
        let counter = [element as u32, (element >> 32) as u32, self.epoch, self.purpose];
        philox4x32_10(counter, self.key)
    }

    /// Uniform in [0, 1) with 24 bits, from lane `lane` of `element`'s block.
    pub fn uniform(&self, element: u64, lane: usize) -> f32 {
        unit(self.words(element)[lane])
    }

    /// A permutation of 0..n (Fisher–Yates; element i decides position i).
    pub fn permutation(&self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            let j = below(self.words(i as u64)[0], i as u32 + 1) as usize;
            order.swap(i, j);
        }
        order
    }
}

/// A word as a uniform number in [0, 1): its upper 24 bits.
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A word as an integer in 0..n, by multiply-shift.
pub fn below(word: u32, n: u32) -> u32 {
    ((u64::from(word) * u64::from(n)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known-answer vectors of the Random123 distribution.
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Stream::new(7, Purpose::Shuffle, 3).permutation(1000);
        assert_ne!(order[..10], (0..10).collect::<Vec<u32>>()[..]);
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<u32>>());
    }
}
