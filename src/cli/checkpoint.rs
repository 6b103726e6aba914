//! The state of an unfinished run, as one safetensors file: arrays as tensors, the rest as JSON in the
//! metadata. The file is replaced whole or not at all.

use std::collections::BTreeMap;
use std::path::Path;

use pbe::error::{Error, Result};
use pbe::fs::write_atomic;
use pbe::map::map_file;
use pbe::model::container::{Entry, Metadata, read, write};
use pbe::report::{RunFolder, RunResult};
use safetensors::Dtype;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::common::remove;
use super::progress::log;

const META: &str = "pbe.checkpoint";

/// Arrays by name, and everything else.
#[derive(Debug, PartialEq)]
pub struct Checkpoint<M> {
    pub meta: M,
    pub floats: BTreeMap<String, Vec<f32>>,
    pub words: BTreeMap<String, Vec<u32>>,
}

impl<M> Checkpoint<M> {
    /// Removes an array; one that isn't there is empty.
    pub fn take_floats(&mut self, name: &str) -> Vec<f32> {
        self.floats.remove(name).unwrap_or_default()
    }

    pub fn take_words(&mut self, name: &str) -> Vec<u32> {
        self.words.remove(name).unwrap_or_default()
    }
}

/// Writes a checkpoint.
///
/// # Errors
/// The file can't be written; a number that is none: then the checkpoint before stays.
pub fn save(
    path: &Path,
    meta: &impl Serialize,
    floats: &[(&str, &[f32])],
    words: &[(&str, &[u32])],
) -> Result<()> {
    for (name, values) in floats {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            let cause = format!("the {name} became {value}: the checkpoint before is kept");
            return Err(Error::run(cause));
        }
    }
    let meta = serde_json::to_string(meta).map_err(|cause| Error::file(path, cause))?;
    let shapes: Vec<[usize; 1]> =
        floats.iter().map(|(_, values)| [values.len()]).chain(words.iter().map(|(_, w)| [w.len()])).collect();
    let contents = floats
        .iter()
        .map(|&(name, values)| (name, Dtype::F32, bytemuck::cast_slice(values)))
        .chain(words.iter().map(|&(name, values)| (name, Dtype::U32, bytemuck::cast_slice(values))));
    let entries: Vec<Entry> = contents
        .zip(&shapes)
        .map(|((name, dtype, bytes), shape)| Entry { name, dtype, shape, bytes })
        .collect();
    write_atomic(path, &write(&Metadata::from([(META.into(), meta)]), &entries))
}

/// Reads a checkpoint.
///
/// # Errors
/// Names the file: not there, damaged, or no checkpoint of this command.
pub fn load<M: DeserializeOwned>(path: &Path) -> Result<Checkpoint<M>> {
    let map = map_file(path)?;
    let (file, metadata) = read(&map).map_err(|cause| Error::file(path, cause))?;
    let meta = metadata.get(META).ok_or_else(|| Error::file(path, "is no checkpoint of this program"))?;
    let meta = serde_json::from_str(meta)
        .map_err(|cause| Error::file(path, format!("is no checkpoint of this command: {cause}")))?;
    let mut checkpoint = Checkpoint { meta, floats: BTreeMap::new(), words: BTreeMap::new() };
    for (name, tensor) in file.tensors() {
        match tensor.dtype() {
            Dtype::F32 => drop(checkpoint.floats.insert(name, elements(tensor.data(), f32::from_le_bytes))),
            Dtype::U32 => drop(checkpoint.words.insert(name, elements(tensor.data(), u32::from_le_bytes))),
            other => return Err(Error::file(path, format!("tensor {name} is {other}"))),
        }
    }
    Ok(checkpoint)
}

fn elements<T>(bytes: &[u8], convert: fn([u8; 4]) -> T) -> Vec<T> {
    bytes.as_chunks::<4>().0.iter().map(|&bytes| convert(bytes)).collect()
}

/// How a run in a folder begins.
pub enum ResumeState<M> {
    Fresh,
    From(Checkpoint<M>),
    Finished(Box<RunResult>),
}

/// Looks at what the folder holds. Without `resume` the results of an earlier run of the same command
/// and configuration are removed.
pub fn resume_state<M: DeserializeOwned>(folder: &RunFolder, resume: bool) -> Result<ResumeState<M>> {
    if !resume {
        for file in [folder.checkpoint(), folder.result(), folder.metrics(), folder.model()] {
            remove(&file)?;
        }
        return Ok(ResumeState::Fresh);
    }
    if folder.checkpoint().exists() {
        return Ok(ResumeState::From(load(&folder.checkpoint())?));
    }
    if !folder.result().exists() {
        return Ok(ResumeState::Fresh);
    }
    log(&format!("{}: the run is finished, nothing is left to do", folder.path().display()));
    Ok(ResumeState::Finished(Box::new(read_result(&folder.result())?)))
}

fn read_result(path: &Path) -> Result<RunResult> {
    let bytes = std::fs::read(path).map_err(|cause| Error::file(path, cause))?;
    serde_json::from_slice(&bytes).map_err(|cause| Error::file(path, format!("no result of a run: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_survives_the_disk_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let weights = [0.1f32, -0.0, f32::MIN_POSITIVE, 1e30];
        save(&path, &(1.0f64 / 3.0, "x"), &[("weights", &weights), ("none", &[])], &[("selected", &[7, 9])])
            .unwrap();
        let mut read: Checkpoint<(f64, String)> = load(&path).unwrap();
        assert_eq!(read.meta, (1.0 / 3.0, "x".to_string()));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read.take_floats("weights")), bits(&weights));
        assert_eq!(read.take_words("selected"), [7, 9]);
        assert!(read.take_floats("none").is_empty() && read.take_floats("absent").is_empty());
    }

    #[test]
    fn what_is_no_number_leaves_the_checkpoint_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        save(&path, &1u32, &[("weights", &[1.0])], &[]).unwrap();
        for value in [f32::NAN, f32::INFINITY] {
            let error = save(&path, &2u32, &[("none", &[]), ("momentum", &[0.0, value])], &[]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("the momentum became {value}")), "{error}");
            assert_eq!(error.exit_code(), 1);
        }
        assert_eq!(load::<u32>(&path).unwrap().meta, 1);
    }

    #[test]
    fn what_is_no_checkpoint_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let refusal = || load::<u32>(&path).unwrap_err().to_string();
        assert!(refusal().contains("checkpoint.safetensors"));
        std::fs::write(&path, write(&Metadata::new(), &[])).unwrap();
        assert!(refusal().contains("no checkpoint of this program"));
        save(&path, &"text", &[], &[]).unwrap();
        assert!(refusal().contains("no checkpoint of this command"));
    }
}
