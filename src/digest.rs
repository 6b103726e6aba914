//! SHA-256 digests of what a run depends on, so that a run that goes on can tell whether anything has changed.

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

/// Bytes that are digested at a time, each by one thread.
const CHUNK: usize = 1 << 22;

/// Takes values one after the other.
#[derive(Clone, Default)]
pub struct Digest(Sha256);

impl Digest {
    /// Adds bytes, with their number before them, so that no two lists of parts are alike.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        if bytes.len() <= CHUNK {
            self.0.update(bytes);
            return self;
        }
        let chunks: Vec<_> = bytes.par_chunks(CHUNK).map(Sha256::digest).collect();
        chunks.iter().for_each(|chunk| self.0.update(chunk));
        self
    }

    /// Adds numbers, little-endian as every machine that this runs on has them.
    #[must_use]
    pub fn numbers<T: bytemuck::Pod>(self, numbers: &[T]) -> Self {
        self.bytes(bytemuck::cast_slice(numbers))
    }

    /// Adds texts.
    #[must_use]
    pub fn texts<T: AsRef<str>>(self, texts: &[T]) -> Self {
        texts.iter().fold(self, |digest, text| digest.bytes(text.as_ref().as_bytes()))
    }

    /// The digest, in hexadecimal.
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_their_order_count() {
        let of = |parts: &[&str]| Digest::default().texts(parts).finish();
        let digests =
            [of(&["ab", "c"]), of(&["a", "bc"]), of(&["abc"]), of(&["c", "ab"]), of(&["ab", "c", ""])];
        for (at, digest) in digests.iter().enumerate() {
            assert_eq!(digest.len(), 64);
            assert!(!digests[..at].contains(digest), "{at}");
        }
    }

    #[test]
    fn one_bit_of_many_bytes_counts() {
        let mut bytes = vec![7u8; 3 * CHUNK + 5];
        let before = Digest::default().bytes(&bytes).finish();
        bytes[2 * CHUNK] ^= 1;
        assert_ne!(Digest::default().bytes(&bytes).finish(), before);
    }
}
