//! Vectors of f32: 16, 8 or 4 lanes.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Operations on a vector of `LANES` floats.
///
/// # Safety
/// Every method needs the level's instructions (be called below `launch`) and valid pointers;
/// `n` of the partial forms is in 1..=LANES, and lanes from `n` on read as 0 and aren't written.
#[allow(clippy::missing_safety_doc)] // one promise for all methods, above
pub trait Simd: Copy {
    /// Floats in a vector; divides 16.
    const LANES: usize;
    /// Rows of the matrix product's register tile (two vectors wide).
    const ROWS: usize;
    /// The register.
    type V: Copy;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn load_partial(p: *const f32, n: usize) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn store_partial(p: *mut f32, v: Self::V, n: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a` where a > b, else `b` (so max(0, NaN) is NaN).
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// Bit i = lane i > 0.
    unsafe fn positive(a: Self::V) -> u32;
    /// Lanes whose bit is 1, else 0.
    unsafe fn select(a: Self::V, bits: u32) -> Self::V;
}

// Below, every body is a SAFETY case of the trait: instructions and pointers are the caller's.

/// Methods that are one instruction each.
#[cfg(target_arch = "x86_64")]
macro_rules! instructions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty = $instruction:ident;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($argument: $type),*) -> $result {
            $instruction($($argument),*)
        }
    )*};
}

/// AVX-512F.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx512;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_op_in_unsafe_fn)]
impl Simd for Avx512 {
    const LANES: usize = 16;
    const ROWS: usize = 14;
    type V = __m512;
    instructions! {
        splat(x: f32) -> __m512 = _mm512_set1_ps;
        load(p: *const f32) -> __m512 = _mm512_loadu_ps;
        store(p: *mut f32, v: __m512) -> () = _mm512_storeu_ps;
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps;
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps;
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps;
        mul_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps;
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps;
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> __m512 {
        _mm512_maskz_loadu_ps((0xffff_u32 >> (16 - n)) as u16, p)
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: __m512, n: usize) {
        _mm512_mask_storeu_ps(p, (0xffff_u32 >> (16 - n)) as u16, v)
    }
    #[inline(always)]
    unsafe fn positive(a: __m512) -> u32 {
        u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, _mm512_setzero_ps()))
    }
    #[inline(always)]
    unsafe fn select(a: __m512, bits: u32) -> __m512 {
        _mm512_maskz_mov_ps(bits as u16, a)
    }
}

/// AVX2 with FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx2;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn first_lanes(n: usize) -> __m256i {
    // SAFETY: reached only below `launch` with AVX2.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_op_in_unsafe_fn)]
impl Simd for Avx2 {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    type V = __m256;
    instructions! {
        splat(x: f32) -> __m256 = _mm256_set1_ps;
        load(p: *const f32) -> __m256 = _mm256_loadu_ps;
        store(p: *mut f32, v: __m256) -> () = _mm256_storeu_ps;
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps;
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps;
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps;
        mul_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps;
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps;
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> __m256 {
        _mm256_maskload_ps(p, first_lanes(n))
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: __m256, n: usize) {
        _mm256_maskstore_ps(p, first_lanes(n), v)
    }
    #[inline(always)]
    unsafe fn positive(a: __m256) -> u32 {
        _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, _mm256_setzero_ps())) as u32
    }
    #[inline(always)]
    unsafe fn select(a: __m256, bits: u32) -> __m256 {
        let bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        let chosen = _mm256_and_si256(_mm256_set1_epi32(bits as i32), bit);
        _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_cmpeq_epi32(chosen, bit)))
    }
}

/// Plain Rust; compilers turn it into whatever the target has by default.
#[derive(Clone, Copy)]
pub struct Portable;

type Four = [f32; 4];

#[allow(unsafe_op_in_unsafe_fn)]
impl Simd for Portable {
    const LANES: usize = 4;
    const ROWS: usize = 6;
    type V = Four;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Four {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Four {
        p.cast::<Four>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> Four {
        std::array::from_fn(|i| if i < n { *p.add(i) } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Four) {
        p.cast::<Four>().write_unaligned(v)
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: Four, n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            *p.add(i) = x;
        }
    }
    #[inline(always)]
    unsafe fn add(a: Four, b: Four) -> Four {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Four, b: Four) -> Four {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Four, b: Four) -> Four {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn mul_add(a: Four, b: Four, c: Four) -> Four {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: Four, b: Four) -> Four {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn positive(a: Four) -> u32 {
        a.iter().enumerate().map(|(i, &x)| u32::from(x > 0.0) << i).sum()
    }
    #[inline(always)]
    unsafe fn select(a: Four, bits: u32) -> Four {
        std::array::from_fn(|i| if bits >> i & 1 == 1 { a[i] } else { 0.0 })
    }
}
