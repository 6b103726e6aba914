//! Input rows with zero borders, the prologue applied: what every kernel reads its input from.
//!
//! A ring of as many rows as a kernel window needs stays in the cache; each input row passes
//! through the prologue once, and leaves its mask bits then.

use super::super::simd::{Level, Simd, SimdKernel, launch};

/// Affine map, ReLU and mask of the input, as pointers (null = none).
#[derive(Clone, Copy)]
pub(super) struct ProloguePointers {
    pub scale: *const f32,
    pub shift: *const f32,
    pub relu: bool,
    /// Of image 0.
    pub mask: *mut u32,
}

impl ProloguePointers {
    pub const NONE: Self =
        Self { scale: std::ptr::null(), shift: std::ptr::null(), relu: false, mask: std::ptr::null_mut() };
}

/// The ring.
pub(super) struct RowRing {
    pub level: Level,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub pad: usize,
    /// Columns of a ring row, borders included.
    pub padded_width: usize,
    /// Rows in the ring.
    pub ring: usize,
    pub prologue: ProloguePointers,
    /// All images.
    pub input: *const f32,
    /// `ring * row_len()` elements.
    pub buffer: *mut f32,
    image: usize,
    /// The next padded row to fill.
    next: usize,
}

impl RowRing {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        level: Level,
        [height, width, channels]: [usize; 3],
        pad: usize,
        padded_width: usize,
        ring: usize,
        prologue: ProloguePointers,
        input: *const f32,
        buffer: *mut f32,
    ) -> Self {
        let (image, next) = (0, 0);
        Self { level, height, width, channels, pad, padded_width, ring, prologue, input, buffer, image, next }
    }

    fn row_len(&self) -> usize {
        self.padded_width * self.channels
    }

    /// Starts an image.
    pub fn start(&mut self, image: usize) {
        self.image = image;
        self.next = 0;
    }

    /// Where padded row `y` is while it is among the last `ring` rows.
    pub fn row(&self, y: usize) -> *const f32 {
        // SAFETY: inside the buffer.
        unsafe { self.buffer.add(y % self.ring * self.row_len()) }
    }

    /// Makes padded rows `first..=last` present. Rows before `first` that were not needed are
    /// skipped, unless their mask bits are wanted.
    ///
    /// # Safety
    /// `input`, `buffer` and the prologue's pointers are valid for the started image.
    pub unsafe fn fill(&mut self, first: usize, last: usize) {
        if self.prologue.mask.is_null() {
            self.next = self.next.max(first);
        }
        while self.next <= last {
            // SAFETY: the caller's promise.
            unsafe { self.fill_row(self.next) };
            self.next += 1;
        }
    }

    /// Passes the rows through that no window covered, for their mask bits.
    ///
    /// # Safety
    /// As `fill`.
    pub unsafe fn finish(&mut self) {
        if !self.prologue.mask.is_null() && self.next < self.pad + self.height {
            // SAFETY: the caller's promise.
            unsafe { self.fill(0, self.pad + self.height - 1) };
        }
    }

    unsafe fn fill_row(&self, y: usize) {
        let (c, inside) = (self.channels, self.width * self.channels);
        // SAFETY: borders and inside are the row's parts; source row y - pad exists where used.
        unsafe {
            let row = self.buffer.add(y % self.ring * self.row_len());
            if y < self.pad || y >= self.pad + self.height {
                row.write_bytes(0, self.row_len());
                return;
            }
            let source_row = self.image * self.height + y - self.pad;
            let source = self.input.add(source_row * inside);
            row.write_bytes(0, self.pad * c);
            let end = self.pad * c + inside;
            row.add(end).write_bytes(0, self.row_len() - end);
            let p = self.prologue;
            if p.scale.is_null() && !p.relu && p.mask.is_null() {
                row.add(self.pad * c).copy_from_nonoverlapping(source, inside);
                return;
            }
            let mask = match p.mask.is_null() {
                true => p.mask,
                false => p.mask.add(source_row * self.width * c.div_ceil(32)),
            };
            let apply = ApplyPrologue {
                prologue: ProloguePointers { mask, ..p },
                source,
                target: row.add(self.pad * c),
                pixels: self.width,
                channels: c,
            };
            launch(self.level, apply);
        }
    }
}

/// The prologue over a run of pixels.
struct ApplyPrologue {
    prologue: ProloguePointers,
    source: *const f32,
    target: *mut f32,
    pixels: usize,
    channels: usize,
}

impl SimdKernel for ApplyPrologue {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let p = self.prologue;
        // SAFETY: pixels × channels elements on both sides; channels scales and shifts; whole
        // mask words per pixel.
        unsafe {
            let zero = S::splat(0.0);
            let words = self.channels.div_ceil(32);
            for pixel in 0..self.pixels {
                let (source, target) =
                    (self.source.add(pixel * self.channels), self.target.add(pixel * self.channels));
                let mut word = 0;
                let mut c = 0;
                while c < self.channels {
                    let n = (self.channels - c).min(S::LANES);
                    let whole = n == S::LANES;
                    macro_rules! read {
                        ($q:expr) => {
                            if whole { S::load($q) } else { S::load_partial($q, n) }
                        };
                    }
                    let mut x = read!(source.add(c));
                    if !p.scale.is_null() {
                        x = S::mul_add(read!(p.scale.add(c)), x, read!(p.shift.add(c)));
                    }
                    if !p.mask.is_null() {
                        word |= S::positive(x) << (c % 32);
                        if c % 32 + S::LANES == 32 || c + S::LANES >= self.channels {
                            *p.mask.add(pixel * words + c / 32) = word;
                            word = 0;
                        }
                    }
                    if p.relu {
                        x = S::max(zero, x);
                    }
                    if whole {
                        S::store(target.add(c), x)
                    } else {
                        S::store_partial(target.add(c), x, n)
                    }
                    c += S::LANES;
                }
            }
        }
    }
}
