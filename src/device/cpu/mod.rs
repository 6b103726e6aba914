//! The CPU device: f32, the best vector instructions found at run time, rayon over coarse tasks.
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

use super::{Device, MemoryLayout, Program, Session};
use crate::error::{Error, Result};
use conv::Threads;
use session::CpuSession;

/// Arena elements a worker should have at most: 3 MiB, about what a core's caches hold.
const WORKER_ELEMENTS: usize = 3 << 18;

/// The processor, with a thread pool of its own.
pub struct CpuDevice {
    pool: Arc<ThreadPool>,
}

impl CpuDevice {
    /// A device of `threads` threads, or of as many as the machine has.
    ///
    /// # Errors
    /// The operating system refuses the threads.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(0))
            .thread_name(|index| format!("pbe-{index}"))
            .build()
            .map_err(|cause| Error::run(format!("can't start the threads: {cause}")))?;
        Ok(Self { pool: Arc::new(pool) })
    }
}

impl Device for CpuDevice {
    fn describe(&self) -> String {
        format!("cpu: {} threads, {}", self.workers(), simd::level_name())
    }

    fn kind(&self) -> String {
        "cpu".into()
    }

    fn workers(&self) -> usize {
        self.pool.current_num_threads()
    }

    fn preferred_batch(&self, elements_per_image: usize) -> usize {
        (WORKER_ELEMENTS / elements_per_image.max(1)).clamp(2, 32)
    }

    fn needs(&self, layout: &MemoryLayout, programs: &[Program]) -> usize {
        session::needs(layout, programs, self.workers())
    }

    fn open(&self, layout: MemoryLayout) -> Result<Box<dyn Session>> {
        Ok(Box::new(CpuSession::new(Arc::clone(&self.pool), layout)))
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
