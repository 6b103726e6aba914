//! Operands of convolutions on their way into tiles: prologue, rounding to bf16, order.

use std::arch::x86_64::*;

use super::super::rows::ProloguePointers;
use super::layout::LINE;
use super::unit::{DEPTH, SIDE, TILE};

/// Pixels of f32, NHWC, of one group of images.
#[derive(Clone, Copy)]
pub struct Source {
    /// The group's first pixel.
    pub values: *const f32,
    pub channels: usize,
    /// Pixels that there are: a group may be short of images.
    pub pixels: usize,
    /// Its mask is that of the group's first pixel.
    pub prologue: ProloguePointers,
}

/// The 16 lanes from channel `c` on that exist.
pub fn lanes(channels: usize, c: usize) -> __mmask16 {
    match channels.saturating_sub(c) {
        n @ 0..SIDE => (1 << n) - 1,
        _ => __mmask16::MAX,
    }
}

/// The prologue of 16 channels: max(floor, scale · x + shift).
#[derive(Clone, Copy)]
struct Channels {
    /// Of the first pixel.
    values: *const f32,
    lanes: __mmask16,
    scale: __m512,
    shift: __m512,
    floor: __m512,
}

impl Source {
    /// Those from `c` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn channels(&self, c: usize) -> Channels {
        let lanes = lanes(self.channels, c);
        let p = &self.prologue;
        let floor = _mm512_set1_ps(if p.relu { 0.0 } else { f32::NEG_INFINITY });
        let (mut scale, mut shift) = (_mm512_set1_ps(1.0), _mm512_setzero_ps());
        if !p.scale.is_null() {
            // SAFETY: the prologue has a scale and a shift for each channel.
            unsafe {
                scale = _mm512_maskz_loadu_ps(lanes, p.scale.add(c));
                shift = _mm512_maskz_loadu_ps(lanes, p.shift.add(c));
            }
        }
        Channels { values: self.values.wrapping_add(c), lanes, scale, shift, floor }
    }

    /// These channels of a pixel after the affine map, zeros beyond the last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn mapped(&self, of: &Channels, pixel: u32) -> __m512 {
        // SAFETY: the caller's promise: the pixel exists; lanes beyond its channels aren't read.
        let x = unsafe { _mm512_maskz_loadu_ps(of.lanes, of.values.add(pixel as usize * self.channels)) };
        _mm512_fmadd_ps(of.scale, x, of.shift)
    }

    /// Writes a group's lines: [channel block][line], as `lines` orders the pixels.
    ///
    /// # Safety
    /// `values`, prologue and `target` have the length for it; the machine has AVX-512 BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn pack_lines(&self, lines: &[u32], target: *mut u8) {
        let words = self.channels.div_ceil(DEPTH);
        for block in 0..words {
            // SAFETY: the caller's promise.
            unsafe {
                let halves = [0, SIDE].map(|c| self.channels(block * DEPTH + c));
                let to = target.add(block * lines.len() * LINE);
                match self.prologue.mask.is_null() {
                    true => self.pack_block::<false>(&halves, lines, to, std::ptr::null_mut()),
                    false => self.pack_block::<true>(&halves, lines, to, self.prologue.mask.add(block)),
                }
            }
        }
    }

    /// A channel block's lines. Where `MASK`, `mask` gets the bits of the ReLU, a word for each pixel and block.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pack_block<const MASK: bool>(
        &self,
        halves: &[Channels; 2],
        lines: &[u32],
        target: *mut u8,
        mask: *mut u32,
    ) {
        let words = self.channels.div_ceil(DEPTH);
        let zero = _mm512_setzero_ps();
        for (line, &pixel) in lines.iter().enumerate() {
            // SAFETY: the pixel is one of those that exist; the target has a line for each.
            unsafe {
                let mut rounded = _mm512_setzero_si512();
                if (pixel as usize) < self.pixels {
                    let [low, high] = [0, 1].map(|half| self.mapped(&halves[half], pixel));
                    if MASK {
                        let bits = [low, high].map(|x| _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, zero));
                        *mask.add(pixel as usize * words) = u32::from(bits[0]) | u32::from(bits[1]) << SIDE;
                    }
                    rounded =
                        round(_mm512_max_ps(halves[0].floor, low), _mm512_max_ps(halves[1].floor, high));
                }
                _mm512_store_si512(target.add(line * LINE).cast(), rounded);
            }
        }
    }

    /// Two pixels, each channel's two values side by side. A pixel that there isn't is zeros.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pair(&self, of: &Channels, pixels: [u32; 2], order: __m512i) -> __m512i {
        let [first, second] = pixels.map(|pixel| match (pixel as usize) < self.pixels {
            // SAFETY: the pixel exists.
            true => _mm512_max_ps(of.floor, unsafe { self.mapped(of, pixel) }),
            false => _mm512_setzero_ps(),
        });
        _mm512_permutexvar_epi16(order, round(first, second))
    }

    /// Writes A for a sum over pixels, 16 channels from `c` on: tiles of [16 channels][32 pixels].
    ///
    /// # Safety
    /// As [`Source::pack_lines`].
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn pack_rows(&self, pixels: &[u32], c: usize, target: *mut u8) {
        let order = pair_order();
        // SAFETY: the target has a tile for 32 pixels.
        unsafe {
            let channels = self.channels(c);
            for (chunk, pixels) in pixels.chunks_exact(DEPTH).enumerate() {
                let pair = |i| self.pair(&channels, [pixels[2 * i], pixels[2 * i + 1]], order);
                for (row, values) in transpose(std::array::from_fn(pair)).into_iter().enumerate() {
                    _mm512_store_si512(target.add(chunk * TILE + row * 64).cast(), values);
                }
            }
        }
    }

    /// Writes B for a sum over pixels, 16 channels from `c` on: a row for each two pixels, [16 channels][2 pixels].
    /// `even` gets the pairs that begin at even places, `odd` the others: so every shift begins at a row of one.
    ///
    /// # Safety
    /// As [`Source::pack_lines`].
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn pack_pairs(&self, pixels: &[u32], c: usize, even: *mut u8, odd: *mut u8) {
        let order = pair_order();
        // SAFETY: the targets have a row for each two pixels.
        unsafe {
            let channels = self.channels(c);
            let read = |pixel: Option<&u32>| match pixel {
                Some(&pixel) if (pixel as usize) < self.pixels => {
                    _mm512_max_ps(channels.floor, self.mapped(&channels, pixel))
                }
                _ => _mm512_setzero_ps(),
            };
            let mut first = read(pixels.first());
            for row in 0..pixels.len() / 2 {
                let (second, third) = (read(pixels.get(2 * row + 1)), read(pixels.get(2 * row + 2)));
                let [at_even, at_odd] = [round(first, second), round(second, third)];
                _mm512_store_si512(even.add(row * 64).cast(), _mm512_permutexvar_epi16(order, at_even));
                _mm512_store_si512(odd.add(row * 64).cast(), _mm512_permutexvar_epi16(order, at_odd));
                first = third;
            }
        }
    }
}

/// 32 values of bf16, those of `low` first.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn round(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 64 bytes.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Lane 2i is i of the first half, lane 2i + 1 that of the second.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn pair_order() -> __m512i {
    let order: [u16; 32] = std::array::from_fn(|lane| (lane % 2 * SIDE + lane / 2) as u16);
    // SAFETY: the array is 64 bytes.
    unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }
}

/// 16 × 16 words.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    // Words of four rows become quarters, and those columns: i of `quads[4 * g + j]` is (rows 4g.., column 4i + j).
    let mut quads = [_mm512_setzero_si512(); 16];
    for g in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows[4 * g + i]);
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        quads[4 * g] = _mm512_unpacklo_epi64(ab, cd);
        quads[4 * g + 1] = _mm512_unpackhi_epi64(ab, cd);
        let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        quads[4 * g + 2] = _mm512_unpacklo_epi64(ab, cd);
        quads[4 * g + 3] = _mm512_unpackhi_epi64(ab, cd);
    }
    let mut columns = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|g| quads[4 * g + j]);
        let (low, high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d));
        columns[j] = _mm512_shuffle_i32x4::<0x88>(low, high);
        columns[4 + j] = _mm512_shuffle_i32x4::<0xdd>(low, high);
        let (low, high) = (_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d));
        columns[8 + j] = _mm512_shuffle_i32x4::<0x88>(low, high);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(low, high);
    }
    columns
}
