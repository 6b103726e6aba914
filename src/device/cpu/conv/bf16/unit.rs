//! The instructions that multiply bf16: AMX tiles, or AVX-512 BF16 on the same tiles in memory.
//!
//! A product works on tiles of one KiB. A: 16 rows of 32 values, `a_row` bytes apart. B: 16 rows of 16 columns of 2
//! values, one row for each pair of A's 32 (the layout that both `tdpbf16ps` and `vdpbf16ps` read). C: f32. A block of C
//! is up to 2 × 2 tiles, which leaves four of AMX's eight registers for A and B: one product for each tile read.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Bytes of a tile.
pub const TILE: usize = 1024;
/// Rows and columns of a tile of C.
pub const SIDE: usize = 16;
/// Values of A that a row of a tile holds: the depth of one product.
pub const DEPTH: usize = 32;

/// What multiplies bf16. The two round sums at different places: a run stays with the one that it began on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixUnit {
    /// `vdpbf16ps` on AVX-512 registers.
    Avx512Bf16,
    /// `tdpbf16ps` on tile registers.
    Amx,
}

impl MatrixUnit {
    /// The best of this machine.
    pub fn detect() -> Option<Self> {
        Self::all().last().copied()
    }

    /// Every unit of this machine, the best one last.
    pub fn all() -> &'static [Self] {
        static UNITS: OnceLock<Vec<MatrixUnit>> = OnceLock::new();
        UNITS.get_or_init(|| {
            let vectors = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512bf16");
            match vectors {
                false => vec![],
                true if has_amx() => vec![MatrixUnit::Avx512Bf16, MatrixUnit::Amx],
                true => vec![MatrixUnit::Avx512Bf16],
            }
        })
    }

    /// As the device describes itself.
    pub fn name(self) -> &'static str {
        match self {
            MatrixUnit::Avx512Bf16 => "avx512-bf16",
            MatrixUnit::Amx => "amx-bf16",
        }
    }

    /// Gives this thread the shape of tiles. [`MatrixUnit::release`] ends that.
    ///
    /// # Safety
    /// The machine has the unit.
    pub unsafe fn configure(self) {
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        static TILES: Configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
            rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        if self == MatrixUnit::Amx {
            // SAFETY: the caller's promise; the configuration is 64 bytes as the manual lays them out.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const TILES, options(nostack, readonly)) };
        }
    }

    /// Frees the tile registers, which the kernel would save at every switch of threads.
    ///
    /// # Safety
    /// The machine has the unit.
    pub unsafe fn release(self) {
        if self == MatrixUnit::Amx {
            // SAFETY: the caller's promise.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}

/// Whether the processor has AMX tiles and bf16, and the kernel lets this process use them.
fn has_amx() -> bool {
    /// CPUID leaf 7, EDX: AMX-BF16 and AMX-TILE.
    const AMX: u32 = 1 << 22 | 1 << 24;
    /// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)` of Linux.
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    if !cfg!(target_os = "linux") || __cpuid_count(7, 0).edx & AMX != AMX {
        return false;
    }
    let refused: isize;
    // SAFETY: a system call with two numbers, which reads and writes no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => refused,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    refused == 0
}

/// One block of C: up to two tiles of rows by up to two of columns, summed over `blocks` × `offsets` steps.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// The two tiles of rows of A; equal where there is one.
    pub a: [*const u8; 2],
    /// Bytes between rows of A.
    pub a_row: usize,
    /// Where each step's tile of A lies, in bytes from `a`.
    pub offsets: &'a [usize],
    /// Times that the offsets are gone through.
    pub blocks: usize,
    /// Bytes from one block's tiles of A to the next.
    pub a_block: usize,
    /// The two tiles of columns of B; equal where there is one.
    pub b: [*const u8; 2],
    /// Bytes from one step's tiles of B to the next, and from one block's.
    pub b_step: usize,
    pub b_block: usize,
    /// The block of C.
    pub c: *mut f32,
    /// Floats between rows of C.
    pub c_row: usize,
    /// Add to C instead of overwriting it.
    pub accumulate: bool,
}

impl Product<'_> {
    /// Computes the block of `rows` × `columns` tiles, each 1 or 2.
    ///
    /// # Safety
    /// The machine has the unit, this thread is configured for it, and all tiles are readable (C writable).
    #[inline]
    pub unsafe fn run(&self, unit: MatrixUnit, rows: usize, columns: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match (unit, rows, columns) {
                (MatrixUnit::Amx, 1, 1) => self.amx::<1, 1>(),
                (MatrixUnit::Amx, 1, _) => self.amx::<1, 2>(),
                (MatrixUnit::Amx, _, 1) => self.amx::<2, 1>(),
                (MatrixUnit::Amx, ..) => self.amx::<2, 2>(),
                (MatrixUnit::Avx512Bf16, _, 1) => self.vectors::<1>(rows),
                (MatrixUnit::Avx512Bf16, ..) => self.vectors::<2>(rows),
            }
        }
    }

    /// tmm0 to tmm3 are C (rows 0: tmm0, tmm2; rows 1: tmm1, tmm3), tmm4 and tmm5 A, tmm6 and tmm7 B.
    #[inline(always)]
    unsafe fn amx<const M: usize, const N: usize>(&self) {
        let c_row = self.c_row * size_of::<f32>();
        // SAFETY: the caller's promise; the compiler never uses tile registers itself.
        unsafe {
            let c = self.c.cast::<u8>();
            let quarters = [c, c.add(16 * c_row), c.add(64), c.add(16 * c_row + 64)];
            if self.accumulate {
                asm!("tileloadd tmm0, [{c} + {row}]", c = in(reg) quarters[0], row = in(reg) c_row);
                if M == 2 {
                    asm!("tileloadd tmm1, [{c} + {row}]", c = in(reg) quarters[1], row = in(reg) c_row);
                }
                if N == 2 {
                    asm!("tileloadd tmm2, [{c} + {row}]", c = in(reg) quarters[2], row = in(reg) c_row);
                }
                if M == 2 && N == 2 {
                    asm!("tileloadd tmm3, [{c} + {row}]", c = in(reg) quarters[3], row = in(reg) c_row);
                }
            } else {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3");
            }
            for block in 0..self.blocks {
                let a = self.a.map(|tile| tile.add(block * self.a_block));
                let mut b = self.b.map(|tile| tile.add(block * self.b_block));
                for &offset in self.offsets {
                    amx_step::<M, N>(a.map(|tile| tile.add(offset)), self.a_row, b);
                    b = b.map(|tile| tile.add(self.b_step));
                }
            }
            asm!("tilestored [{c} + {row}], tmm0", c = in(reg) quarters[0], row = in(reg) c_row);
            if M == 2 {
                asm!("tilestored [{c} + {row}], tmm1", c = in(reg) quarters[1], row = in(reg) c_row);
            }
            if N == 2 {
                asm!("tilestored [{c} + {row}], tmm2", c = in(reg) quarters[2], row = in(reg) c_row);
            }
            if M == 2 && N == 2 {
                asm!("tilestored [{c} + {row}], tmm3", c = in(reg) quarters[3], row = in(reg) c_row);
            }
        }
    }

    /// The same sums by `vdpbf16ps`, eight rows at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn vectors<const N: usize>(&self, tiles: usize) {
        const ROWS: usize = 8;
        let bits = |x: __m512i| {
            // SAFETY: both are 64 bytes.
            unsafe { std::mem::transmute::<__m512i, __m512bh>(x) }
        };
        for first in (0..tiles * SIDE).step_by(ROWS) {
            // SAFETY: the caller's promise.
            unsafe {
                let c = self.c.add(first * self.c_row);
                let mut sums = [[_mm512_setzero_ps(); N]; ROWS];
                if self.accumulate {
                    for (i, sums) in sums.iter_mut().enumerate() {
                        for (j, sum) in sums.iter_mut().enumerate() {
                            *sum = _mm512_loadu_ps(c.add(i * self.c_row + j * SIDE));
                        }
                    }
                }
                let a = self.a[first / SIDE].add(first % SIDE * self.a_row);
                for block in 0..self.blocks {
                    let mut b = self.b.map(|tile| tile.add(block * self.b_block));
                    for &offset in self.offsets {
                        let a = a.add(block * self.a_block + offset);
                        for pair in 0..DEPTH / 2 {
                            let mut columns = [_mm512_setzero_si512(); N];
                            for (j, column) in columns.iter_mut().enumerate() {
                                *column = _mm512_loadu_si512(b[j].add(pair * 64).cast());
                            }
                            for (i, sums) in sums.iter_mut().enumerate() {
                                let x = a.add(i * self.a_row + 4 * pair).cast::<i32>().read_unaligned();
                                let x = bits(_mm512_set1_epi32(x));
                                for (sum, &column) in sums.iter_mut().zip(&columns) {
                                    *sum = _mm512_dpbf16_ps(*sum, x, bits(column));
                                }
                            }
                        }
                        b = b.map(|tile| tile.add(self.b_step));
                    }
                }
                for (i, sums) in sums.iter().enumerate() {
                    for (j, &sum) in sums.iter().enumerate() {
                        _mm512_storeu_ps(c.add(i * self.c_row + j * SIDE), sum);
                    }
                }
            }
        }
    }
}

/// One step of M × N products.
///
/// # Safety
/// As [`Product::run`].
#[inline(always)]
unsafe fn amx_step<const M: usize, const N: usize>(a: [*const u8; 2], a_row: usize, b: [*const u8; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        match (M, N) {
            (2, 2) => asm!(
                "tileloadd tmm6, [{b0} + {b_row}]",
                "tileloadd tmm4, [{a0} + {a_row}]",
                "tileloadd tmm5, [{a1} + {a_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {b_row}]",
                "tdpbf16ps tmm1, tmm5, tmm6",
                "tdpbf16ps tmm2, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                a0 = in(reg) a[0], a1 = in(reg) a[1], a_row = in(reg) a_row, b0 = in(reg) b[0], b1 = in(reg) b[1], b_row = in(reg) 64_usize,
                options(nostack),
            ),
            (2, _) => asm!(
                "tileloadd tmm6, [{b0} + {b_row}]",
                "tileloadd tmm4, [{a0} + {a_row}]",
                "tileloadd tmm5, [{a1} + {a_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm5, tmm6",
                a0 = in(reg) a[0], a1 = in(reg) a[1], a_row = in(reg) a_row, b0 = in(reg) b[0], b_row = in(reg) 64_usize,
                options(nostack),
            ),
            (_, 2) => asm!(
                "tileloadd tmm6, [{b0} + {b_row}]",
                "tileloadd tmm4, [{a0} + {a_row}]",
                "tileloadd tmm7, [{b1} + {b_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm4, tmm7",
                a0 = in(reg) a[0], a_row = in(reg) a_row, b0 = in(reg) b[0], b1 = in(reg) b[1], b_row = in(reg) 64_usize,
                options(nostack),
            ),
            _ => asm!(
                "tileloadd tmm6, [{b0} + {b_row}]",
                "tileloadd tmm4, [{a0} + {a_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                a0 = in(reg) a[0], a_row = in(reg) a_row, b0 = in(reg) b[0], b_row = in(reg) 64_usize,
                options(nostack),
            ),
        }
    }
}
