//! How a run in a folder begins: afresh, from a checkpoint, or not at all because it is finished.

use std::path::Path;

use pbe::error::{Error, Result};
use pbe::report::{RunFolder, RunResult};
use serde::de::DeserializeOwned;

use super::checkpoint::{self, Checkpoint};
use super::common::remove;
use super::progress::log;

/// Where a run stands before it begins.
pub enum Start<R> {
    Afresh,
    From(Checkpoint<R>),
    Finished(Box<RunResult>),
}

/// Looks at what the folder holds. Without `resume` the results of an earlier run of the same command
/// and configuration are removed.
pub fn start<R: DeserializeOwned>(folder: &RunFolder, resume: bool) -> Result<Start<R>> {
    if !resume {
        for file in [folder.checkpoint(), folder.result(), folder.metrics(), folder.model()] {
            remove(&file)?;
        }
        return Ok(Start::Afresh);
    }
    if folder.checkpoint().exists() {
        return Ok(Start::From(checkpoint::load(&folder.checkpoint())?));
    }
    if !folder.result().exists() {
        return Ok(Start::Afresh);
    }
    log(&format!("{}: the run is finished, nothing is left to do", folder.path().display()));
    Ok(Start::Finished(Box::new(read_result(&folder.result())?)))
}

fn read_result(path: &Path) -> Result<RunResult> {
    let bytes = std::fs::read(path).map_err(|cause| Error::file(path, cause))?;
    serde_json::from_slice(&bytes).map_err(|cause| Error::file(path, format!("no result of a run: {cause}")))
}
