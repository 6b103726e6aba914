//! One source for all instruction sets: a loop is written once in plain Rust and compiled for
//! AVX-512, AVX2 and the baseline; the best the processor has is chosen when it runs. Products and
//! sums are never contracted, so all three give the same bits.

use std::sync::OnceLock;

use super::simd::Level;

/// The level of this machine.
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
            match $crate::device::cpu::vectorised::level() {
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
