//! The CPU device: the best vector instructions and, for bf16, the matrix unit found at run time; rayon over coarse tasks.
//!
//! | file | |
//! |---|---|
//! | `session` | the regions, prepared programs, running them over workers or one slice at a time |
//! | `execute` | what every op has: its execution and the working memory it takes |
//! | `memory` | the regions' memory and what a worker sees of it |
//! | `adaptive_pool`, `add`, `classifier`, `conv/`, `generator`, `images`, `norm/`, `optimizer`, `pgd`, `pool` | the ops, one file per family |
//! | `simd/` | vector instructions |
//!
//! Kernels are safe functions over slices wherever they don't work in place. What a kernel gives
//! never depends on the number of threads: work is cut by size alone, and sums are joined in order.

#![allow(unsafe_code)]

mod adaptive_pool;
mod add;
mod classifier;
mod conv;
mod execute;
mod generator;
mod images;
mod memory;
mod norm;
mod optimizer;
mod pgd;
mod pool;
mod session;
pub mod simd;

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{Device, MemoryLayout, Precision, Program, Session};
use crate::error::{Error, Result};
use conv::{Arithmetic, MatrixUnit, Threads};
use session::CpuSession;

/// Arena elements a worker should have at most: 3 MiB, about what a core's caches hold.
const WORKER_ELEMENTS: usize = 3 << 18;

/// The processor, with a thread pool of its own.
pub struct CpuDevice {
    pool: Arc<ThreadPool>,
    arithmetic: Arithmetic,
}

impl CpuDevice {
    /// A device of `threads` threads, or of as many as the machine has, that computes in f32.
    ///
    /// # Errors
    /// The operating system refuses the threads.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        Self::with_arithmetic(threads, Arithmetic::default())
    }

    /// One whose convolutions multiply bf16.
    ///
    /// # Errors
    /// There is no matrix unit; the operating system refuses the threads.
    pub fn bf16(threads: Option<usize>) -> Result<Self> {
        let none = || Error::input("precision bf16: this processor has no matrix unit (AMX, AVX-512 BF16)");
        Self::with_arithmetic(threads, Arithmetic::Bf16(MatrixUnit::detect().ok_or_else(none)?))
    }

    fn with_arithmetic(threads: Option<usize>, arithmetic: Arithmetic) -> Result<Self> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(0))
            .thread_name(|index| format!("pbe-{index}"))
            .build()
            .map_err(|cause| Error::run(format!("can't start the threads: {cause}")))?;
        Ok(Self { pool: Arc::new(pool), arithmetic })
    }
}

/// The name of what multiplies bf16 on this processor.
pub fn matrix_unit() -> Option<&'static str> {
    MatrixUnit::detect().map(MatrixUnit::name)
}

impl Device for CpuDevice {
    fn describe(&self) -> String {
        let unit = match self.arithmetic {
            Arithmetic::F32(_) => simd::level_name(),
            Arithmetic::Bf16(unit) => unit.name(),
        };
        format!("cpu: {} threads, {unit}", self.workers())
    }

    fn kind(&self) -> String {
        match self.arithmetic {
            Arithmetic::F32(_) => "cpu".into(),
            Arithmetic::Bf16(unit) => format!("cpu {}", unit.name()),
        }
    }

    fn precision(&self) -> Precision {
        match self.arithmetic {
            Arithmetic::F32(_) => Precision::F32,
            Arithmetic::Bf16(_) => Precision::Bf16,
        }
    }

    fn workers(&self) -> usize {
        self.pool.current_num_threads()
    }

    fn preferred_batch(&self, elements_per_image: usize) -> usize {
        // Matrix units are done with an image sooner than its filters are read: more images share a reading.
        let elements = match self.arithmetic {
            Arithmetic::F32(_) => WORKER_ELEMENTS,
            Arithmetic::Bf16(_) => 2 * WORKER_ELEMENTS,
        };
        (elements / elements_per_image.max(1)).clamp(2, 32)
    }

    fn needs(&self, layout: &MemoryLayout, programs: &[Program]) -> usize {
        session::needs(self.arithmetic, layout, programs, self.workers())
    }

    fn open(&self, layout: MemoryLayout) -> Result<Box<dyn Session>> {
        Ok(Box::new(CpuSession::new(Arc::clone(&self.pool), self.arithmetic, layout)))
    }
}

/// The least items rayon may give a task: with [`Threads::One`] it never splits, and an iterator
/// runs on the calling thread.
fn grain(threads: Threads) -> usize {
    match threads {
        Threads::All => 1,
        Threads::One => usize::MAX,
    }
}
