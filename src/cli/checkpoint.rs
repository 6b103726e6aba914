//! How a run begins in a folder where one may have been before.

use std::path::Path;

use pbe::error::{Error, Result};
use pbe::report::checkpoint::{Checkpoint, load};
use pbe::report::{Begin, RunFolder, RunResult};
use serde::de::DeserializeOwned;

use super::progress::log;

/// How a run in a folder begins.
pub enum ResumeState<M> {
    Fresh,
    From(Checkpoint<M>),
    Finished(Box<RunResult>),
}

/// Looks at what the folder holds.
pub fn resume_state<M: DeserializeOwned>(folder: &RunFolder, begin: Begin) -> Result<ResumeState<M>> {
    if let Some(cause) = folder.unlocked() {
        let folder = folder.path().display();
        log(&format!("{folder} can't be locked ({cause}): start no second run in it"));
    }
    if begin != Begin::Resume {
        return Ok(ResumeState::Fresh);
    }
    if folder.checkpoint().exists() {
        return Ok(ResumeState::From(load(folder)?));
    }
    if !folder.result().exists() {
        log(&format!(
            "{}: no checkpoint and no result is there, the run begins anew",
            folder.path().display()
        ));
        return Ok(ResumeState::Fresh);
    }
    log(&format!("{}: the run is finished, nothing is left to do", folder.path().display()));
    Ok(ResumeState::Finished(Box::new(read_result(&folder.result())?)))
}

/// Reads a result.json.
pub fn read_result(path: &Path) -> Result<RunResult> {
    let bytes = std::fs::read(path).map_err(|cause| Error::file(path, cause))?;
    serde_json::from_slice(&bytes).map_err(|cause| Error::file(path, format!("no result of a run: {cause}")))
}
