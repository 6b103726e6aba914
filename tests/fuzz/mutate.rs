//! Random numbers, and bytes that are nearly those of a real file.

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// A number at which readers break.
    pub fn odd_number(&mut self) -> u64 {
        let near =
            [0, 1, 1 << 7, 1 << 8, 1 << 15, 1 << 16, 1 << 31, 1 << 32, 1 << 61, 1 << 62, 1 << 63, u64::MAX];
        match self.below(4) {
            0 => self.below(300) as u64,
            1 => self.next(),
            _ => near[self.below(near.len())].wrapping_add(self.below(3) as u64).wrapping_sub(1),
        }
    }
}

/// `bytes` with some changes, few more often than many.
pub fn mutated(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 << random.below(4) {
        change(random, &mut bytes);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(random.next() as u8);
        return;
    }
    let at = random.below(bytes.len());
    let length = (1 << random.below(9)).min(bytes.len() - at);
    match random.below(9) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => drop(bytes.drain(at..at + length)),
        3 => bytes.truncate(at),
        4 => {
            let copy = bytes[at..at + length].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, copy);
        }
        5 => {
            let noise: Vec<u8> = (0..length.min(16)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, noise);
        }
        6 | 7 => overwrite(random, bytes, at),
        _ => number(random, bytes, at),
    }
}

/// An integer of 1, 2, 4 or 8 bytes at `at`, either way round.
fn overwrite(random: &mut Random, bytes: &mut [u8], at: usize) {
    let value = random.odd_number();
    let width = (1 << random.below(4)).min(bytes.len() - at);
    let little = random.one_in(2);
    for index in 0..width {
        let place = if little { index } else { width - 1 - index };
        bytes[at + index] = (value >> (8 * place)) as u8;
    }
}

/// The decimal number at or after `at` becomes another.
fn number(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let Some(first) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
    let first = at + first;
    let length = bytes[first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let signs = ["", "-", "1e", "0."];
    let text = format!("{}{}", random.pick(&signs), random.odd_number());
    bytes.splice(first..first + length, text.into_bytes());
}
