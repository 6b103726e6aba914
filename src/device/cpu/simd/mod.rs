//! Vector instructions at three levels: AVX-512, AVX2 with FMA, portable. The level is found at run time; no build
//! flags.
//!
//! - `vectorised!` compiles a loop in plain Rust once for each level. Products and sums are never contracted, so
//!   all levels give the same bits. This is the rule.
//! - A [`SimdKernel`] is generic code over [`Simd`] vectors, for loops that the compiler can't vectorise well.
//!   [`launch`] runs it inside a function compiled for the level's instructions.

mod vector;

use std::sync::OnceLock;

use vector::Portable;
pub use vector::Simd;
#[cfg(target_arch = "x86_64")]
use vector::{Avx2, Avx512};

/// Instruction sets the kernels know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust, no fused multiply-add.
    Portable,
    /// 8 lanes, FMA.
    Avx2,
    /// 16 lanes, FMA, mask registers.
    Avx512,
}

impl Level {
    /// The best level of this machine.
    pub fn detect() -> Self {
        Self::all().last().copied().unwrap_or(Level::Portable)
    }

    /// Every level this machine has, the best one last.
    pub fn all() -> Vec<Self> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Level::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                levels.push(Level::Avx512);
            }
        }
        levels
    }

    /// Lanes of a vector.
    pub fn lanes(self) -> usize {
        match self {
            Level::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Avx512::LANES,
            #[cfg(not(target_arch = "x86_64"))]
            _ => Portable::LANES,
        }
    }
}

/// Generic code that [`launch`] compiles for a level. `run` must be `#[inline(always)]`.
pub trait SimdKernel {
    /// # Safety
    /// The level's instructions are there; the kernel's own pointers are valid.
    unsafe fn run<S: Simd>(self);
}

/// Runs `kernel` with the instructions of `level`.
///
/// # Safety
/// This machine has `level` (it came from [`Level::all`]); the kernel's pointers are valid.
#[inline]
pub unsafe fn launch<K: SimdKernel>(level: Level, kernel: K) {
    // SAFETY: the caller's promise.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => run_avx512(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => run_avx2(kernel),
            _ => kernel.run::<Portable>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn run_avx512<K: SimdKernel>(kernel: K) {
    // SAFETY: the features are enabled here; the rest is the caller's promise.
    unsafe { kernel.run::<Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: SimdKernel>(kernel: K) {
    // SAFETY: as above.
    unsafe { kernel.run::<Avx2>() }
}

/// The best level of this machine.
pub(super) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(Level::detect)
}

/// As the device describes itself.
pub(super) fn level_name() -> &'static str {
    match level() {
        Level::Portable => "portable",
        Level::Avx2 => "avx2",
        Level::Avx512 => "avx512",
    }
}

/// Defines a function whose body is compiled once for each [`Level`].
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn portable($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $type),*) $(-> $result)? { portable($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $type),*) $(-> $result)? { portable($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            match $crate::device::cpu::simd::level() {
                // SAFETY: the processor was found to have these features.
                $crate::device::cpu::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                $crate::device::cpu::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                $crate::device::cpu::simd::Level::Portable => {}
            }
            portable($($arg),*)
        }
    };
}
pub(super) use vectorised;
