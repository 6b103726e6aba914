//! Runs as CUDA graphs: a program's launches, captured once for a slice of a batch, then started with one call. The
//! scalars that change from run to run are in memory ([`super::scalars`]); what decides which kernels are launched is
//! part of a graph's key.

use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream, DriverError};

use super::plan::Switches;
use super::probe::describe;
use crate::device::{BatchSlice, StepParams};
use crate::error::{Error, Result};

/// Graphs that a program keeps: for the parts of a batch, those of the last, smaller batch among them.
const KEPT: usize = 8;

/// What the launches of a run depend on.
#[derive(Clone, Copy, PartialEq)]
struct Key {
    slice: BatchSlice,
    repeats: usize,
    switches: Switches,
}

struct Recorded {
    key: Key,
    graph: CudaGraph,
}

// SAFETY: the driver's graph objects aren't synchronised, but belong to no thread. A session has them, which one
// thread at a time uses: it is lent out as `&mut` for every run.
unsafe impl Send for Recorded {}

/// The graphs of a program. They hold addresses: when memory moves, they have to go.
#[derive(Default)]
pub(super) struct Graphs {
    recorded: Vec<Recorded>,
}

impl Graphs {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.recorded.clear();
    }

    /// Starts the graph of what `launch` starts on `stream`, recording it before if it isn't there.
    ///
    /// # Errors
    /// A launch fails while it's recorded, or the driver refuses the graph.
    pub fn run(
        &mut self,
        stream: &Arc<CudaStream>,
        slice: BatchSlice,
        params: &StepParams,
        launch: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let key = Key { slice, repeats: params.repeats, switches: Switches::new(params) };
        if !self.recorded.iter().any(|one| one.key == key) {
            if self.recorded.len() == KEPT {
                self.recorded.remove(0);
            }
            self.recorded.push(Recorded { key, graph: record(stream, launch)? });
        }
        match self.recorded.iter().find(|one| one.key == key) {
            Some(one) => one.graph.launch().map_err(refused),
            None => Ok(()),
        }
    }
}

fn refused(error: DriverError) -> Error {
    Error::run(format!("the driver refuses a graph: {}", describe(error)))
}

fn record(stream: &Arc<CudaStream>, launch: impl FnOnce() -> Result<()>) -> Result<CudaGraph> {
    // Other threads may go on using the driver.
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(refused)?;
    let launched = launch();
    // Ended in any case: until then the stream does nothing else.
    let graph = stream.end_capture(CUgraphInstantiate_flags(0));
    launched?;
    graph.map_err(refused)?.ok_or_else(|| Error::run("the driver gives no graph"))
}
