//! The state of an unfinished run, as one safetensors file: arrays as tensors, the rest as JSON in the
//! metadata. The file is replaced whole or not at all.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fs::write_atomic;
use crate::map::map_file;
use crate::model::container::{Entry, Metadata, read, write};
use safetensors::Dtype;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RunFolder;

const META: &str = "pbe.checkpoint";
/// The run's digest: see [`RunFolder::digest`].
const RUN: &str = "pbe.run";
/// A digest of all that the file holds.
const CHECKSUM: &str = "pbe.checksum";

/// Arrays by name, and everything else.
#[derive(Debug, PartialEq)]
pub struct Checkpoint<M> {
    /// What the command keeps beside arrays.
    pub meta: M,
    /// Arrays of f32.
    pub floats: BTreeMap<String, Vec<f32>>,
    /// Arrays of u32.
    pub words: BTreeMap<String, Vec<u32>>,
}

impl<M> Checkpoint<M> {
    /// Removes an array; one that isn't there is empty.
    pub fn take_floats(&mut self, name: &str) -> Vec<f32> {
        self.floats.remove(name).unwrap_or_default()
    }

    /// As [`Checkpoint::take_floats`].
    pub fn take_words(&mut self, name: &str) -> Vec<u32> {
        self.words.remove(name).unwrap_or_default()
    }
}

/// Writes the checkpoint of the run in `folder`.
///
/// # Errors
/// The file can't be written; a value that isn't finite: then the checkpoint before stays.
pub fn save(
    folder: &RunFolder,
    meta: &impl Serialize,
    floats: &[(&str, &[f32])],
    words: &[(&str, &[u32])],
) -> Result<()> {
    let path = &folder.checkpoint();
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
    let mut metadata = Metadata::from([(META.into(), meta), (RUN.into(), folder.digest().into())]);
    let contents = entries.iter().map(|entry| (entry.name, entry.dtype, entry.bytes)).collect();
    metadata.insert(CHECKSUM.into(), checksum(&metadata, contents));
    write_atomic(path, &write(&metadata, &entries))
}

/// A digest of the metadata (without its own) and of all arrays.
fn checksum(metadata: &Metadata, mut arrays: Vec<(&str, Dtype, &[u8])>) -> String {
    arrays.sort_by_key(|(name, ..)| *name);
    let mut digest = Digest::default();
    for (key, text) in metadata.iter().filter(|(key, _)| *key != CHECKSUM) {
        digest = digest.texts(&[key, text]);
    }
    for (name, dtype, bytes) in arrays {
        digest = digest.texts(&[name, &dtype.to_string()]).bytes(bytes);
    }
    digest.finish()
}

/// Reads the checkpoint of the run in `folder`.
///
/// # Errors
/// Names the file: not there, damaged, of another run, or no checkpoint of this command.
pub fn load<M: DeserializeOwned>(folder: &RunFolder) -> Result<Checkpoint<M>> {
    let path = &folder.checkpoint();
    let map = map_file(path)?;
    let (file, metadata) =
        read(&map).map_err(|cause| Error::file(path, format!("{cause}; --force begins anew")))?;
    let meta = metadata.get(META).ok_or_else(|| Error::file(path, "is no checkpoint of this program"))?;
    let tensors = file.tensors();
    let arrays =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dtype(), tensor.data())).collect();
    if metadata.get(CHECKSUM) != Some(&checksum(&metadata, arrays)) {
        return Err(Error::file(
            path,
            "is damaged: its checksum is that of other contents; --force begins anew",
        ));
    }
    if metadata.get(RUN).is_none_or(|run| run != folder.digest()) {
        return Err(Error::file(
            path,
            "is of a run with other settings or inputs than the folder's config.toml",
        ));
    }
    let meta = serde_json::from_str(meta)
        .map_err(|cause| Error::file(path, format!("is no checkpoint of this command: {cause}")))?;
    let mut checkpoint = Checkpoint { meta, floats: BTreeMap::new(), words: BTreeMap::new() };
    for (name, tensor) in tensors {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Begin;

    fn folder(parent: &tempfile::TempDir, seed: u32) -> RunFolder {
        let config = BTreeMap::from([("seed", seed)]);
        RunFolder::create(&parent.path().join(seed.to_string()), "purify", &config, Begin::New).unwrap()
    }

    #[test]
    fn a_checkpoint_survives_the_disk_to_the_bit() {
        let parent = tempfile::tempdir().unwrap();
        let folder = folder(&parent, 1);
        let weights = [0.1f32, -0.0, f32::MIN_POSITIVE, 1e30];
        let meta = (1.0f64 / 3.0, "x");
        save(&folder, &meta, &[("weights", &weights), ("none", &[])], &[("selected", &[7, 9])]).unwrap();
        let mut read: Checkpoint<(f64, String)> = load(&folder).unwrap();
        assert_eq!(read.meta, (1.0 / 3.0, "x".to_string()));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read.take_floats("weights")), bits(&weights));
        assert_eq!(read.take_words("selected"), [7, 9]);
        assert!(read.take_floats("none").is_empty() && read.take_floats("absent").is_empty());
    }

    #[test]
    fn what_is_no_number_leaves_the_checkpoint_before() {
        let parent = tempfile::tempdir().unwrap();
        let folder = folder(&parent, 1);
        save(&folder, &1u32, &[("weights", &[1.0])], &[]).unwrap();
        for value in [f32::NAN, f32::INFINITY] {
            let error = save(&folder, &2u32, &[("none", &[]), ("momentum", &[0.0, value])], &[]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("the momentum became {value}")), "{error}");
            assert_eq!(error.exit_code(), 1);
        }
        assert_eq!(load::<u32>(&folder).unwrap().meta, 1);
    }

    #[test]
    fn what_is_no_checkpoint_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, other) = (folder(&parent, 1), folder(&parent, 2));
        let refusal = || load::<u32>(&folder).unwrap_err().to_string();
        assert!(refusal().contains("checkpoint.safetensors"));
        std::fs::write(folder.checkpoint(), write(&Metadata::new(), &[])).unwrap();
        assert!(refusal().contains("no checkpoint of this program"));
        save(&folder, &"text", &[], &[]).unwrap();
        assert!(refusal().contains("no checkpoint of this command"));
        save(&other, &1u32, &[], &[]).unwrap();
        std::fs::rename(other.checkpoint(), folder.checkpoint()).unwrap();
        assert!(refusal().contains("other settings or inputs"), "{}", refusal());
    }

    /// Wherever a bit flips, the checkpoint is refused or still the same.
    #[test]
    fn no_flipped_bit_is_taken_for_a_checkpoint() {
        let parent = tempfile::tempdir().unwrap();
        let folder = folder(&parent, 1);
        save(&folder, &7u32, &[("weights", &[1.0, 2.0]), ("average", &[3.0])], &[("selected", &[1])])
            .unwrap();
        let sound = std::fs::read(folder.checkpoint()).unwrap();
        let expected = load::<u32>(&folder).unwrap();
        for bit in 0..8 * sound.len() {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(folder.checkpoint(), bytes).unwrap();
            assert!(load::<u32>(&folder).map_or(true, |read| read == expected), "bit {bit}");
        }
    }
}
