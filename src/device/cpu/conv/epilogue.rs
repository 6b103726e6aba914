//! What happens to a result on its way out: ((v + bias + add) ⊙ mask) · scale + residual.
//!
//! fprop uses `bias` and `residual`, dgrad `add`, `mask`, `scale` and `residual`. Each element is
//! read at its place just before it is written, so `add` and `residual` may be the output itself.

use super::super::simd::{Simd, SimdKernel};

/// Null = none. Pointers are to image 0; positions are pixels counted over all images.
#[derive(Clone, Copy)]
pub(super) struct Epilogue {
    pub bias: *const f32,
    pub add: *const f32,
    pub mask: *const u32,
    pub scale: *const f32,
    pub residual: *const f32,
    pub output: *mut f32,
    pub channels: usize,
}

impl Epilogue {
    /// Finishes channels `c..c + n` of a pixel; n = LANES where `WHOLE`, else fewer.
    ///
    /// # Safety
    /// The pixel and its channels exist at every pointer.
    #[inline(always)]
    pub unsafe fn finish<S: Simd, const WHOLE: bool>(&self, mut v: S::V, pixel: usize, c: usize, n: usize) {
        let at = pixel * self.channels + c;
        // SAFETY: the caller's promise; partial loads and stores stay inside the n channels.
        unsafe {
            macro_rules! read {
                ($p:expr) => {
                    if WHOLE { S::load($p) } else { S::load_partial($p, n) }
                };
            }
            if !self.bias.is_null() {
                v = S::add(v, read!(self.bias.add(c)));
            }
            if !self.add.is_null() {
                v = S::add(v, read!(self.add.add(at)));
            }
            if !self.mask.is_null() {
                let word = *self.mask.add(pixel * self.channels.div_ceil(32) + c / 32);
                v = S::select(v, word >> (c % 32));
            }
            if !self.scale.is_null() {
                v = S::mul(v, read!(self.scale.add(c)));
            }
            if !self.residual.is_null() {
                v = S::add(v, read!(self.residual.add(at)));
            }
            let p = self.output.add(at);
            if WHOLE { S::store(p, v) } else { S::store_partial(p, v, n) }
        }
    }
}

/// The epilogue over a run of pixels whose values lie at `values + pixel * stride`.
pub(super) struct FinishPixels {
    pub epilogue: Epilogue,
    pub values: *const f32,
    pub stride: usize,
    pub first: usize,
    pub pixels: usize,
}

impl SimdKernel for FinishPixels {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.epilogue.channels;
        for i in 0..self.pixels {
            let mut c = 0;
            while c < channels {
                let n = (channels - c).min(S::LANES);
                // SAFETY: the values of the pixel are there; see `Epilogue::finish`.
                unsafe {
                    let p = self.values.add(i * self.stride + c);
                    if n == S::LANES {
                        self.epilogue.finish::<S, true>(S::load(p), self.first + i, c, n);
                    } else {
                        self.epilogue.finish::<S, false>(S::load_partial(p, n), self.first + i, c, n);
                    }
                }
                c += S::LANES;
            }
        }
    }
}
