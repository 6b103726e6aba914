//! Models as safetensors files, and PyTorch checkpoints read as such.
//!
//! Tensors have the names and shapes of the state dicts people have. Metadata, all
//! optional: `pbe.architecture` ([`super::NetworkKind::name`]), `pbe.mean` and `pbe.std` (one number per input
//! channel, commas between, units of [0, 1]), `pbe.input` (height and width, `32x32`).

use super::architecture::Architecture;
use super::check;
use super::checkpoint::{self, Archive, Legacy};
use super::container::{self, Entry, Metadata};
use super::disguise::disguise;
use super::infer::infer;
use super::layout::TensorRole;
use super::safetensors_file::{SafetensorsFile, is_index, shards};
use super::sets::{TensorFile, TensorInfo, choose};
use super::weights::Weights;
use crate::data::normalisation::{join, split};
use crate::data::{LARGEST_SIDE, Normalisation, parse_size};
use crate::error::{Error, Result};
use crate::fs::write_atomic;
use crate::map::map_file;
use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Which weights of a file were read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Where in the file they lie, as `--weights` names it; empty at the top.
    pub weights: String,
    /// What was taken off their names.
    pub prefix: String,
    /// Other sets of weights in the file, by the same names.
    #[serde(rename = "other_weights")]
    pub others: Vec<String>,
    /// Tensors beside them that are no part of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_read: Vec<String>,
    /// Functions that loading the file in Python would call; pbe calls nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acting: Vec<String>,
    /// Whether pbe wrote the file: all that its network does is then known.
    #[serde(skip)]
    pub own: bool,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weights, prefix, others, not_read, acting, .. } = self;
        if !weights.is_empty() {
            write!(out, ", weights `{weights}`")?;
        }
        if !prefix.is_empty() {
            write!(out, ", without `{prefix}` before their names")?;
        }
        if !others.is_empty() {
            write!(out, " (--weights takes others: {})", others.join(", "))?;
        }
        if !not_read.is_empty() {
            write!(out, ", not read: {}", check::list(not_read))?;
        }
        if !acting.is_empty() {
            write!(
                out,
                ", with calls in it that Python would make and pbe doesn't: {}",
                check::list(acting)
            )?;
        }
        Ok(())
    }
}

/// Reads a model, safetensors or a PyTorch checkpoint: f32, f16 or bf16 on disk, architecture from names
/// and shapes.
///
/// # Errors
/// One line that names the file and the cause: not there, neither of the two, truncated; every missing,
/// extra or wrong-shaped tensor; every tensor with a NaN, an infinity or a negative variance; metadata
/// that contradicts the tensors.
pub fn load(path: impl AsRef<Path>) -> Result<Weights> {
    Ok(load_set(path, None)?.0)
}

/// As [`load`], of the set of weights that `key` names, where the file has several; and which it was.
///
/// # Errors
/// As [`load`]; no such set.
pub fn load_set(path: impl AsRef<Path>, key: Option<&str>) -> Result<(Weights, Origin)> {
    let path = path.as_ref();
    let fault = |cause| Error::file(path, cause);
    if is_index(path) {
        let shards = shards(path)?;
        let bytes: Vec<&[u8]> = shards.iter().map(|shard| &**shard).collect();
        return SafetensorsFile::open(&bytes)
            .and_then(|file| take(&file, &file.metadata, key))
            .map_err(fault);
    }
    read(&map_file(path)?, key).map_err(fault)
}

/// As [`load`], of the bytes of such a file.
///
/// # Errors
/// As [`load`], without a file's name.
pub fn load_bytes(bytes: &[u8]) -> Result<(Weights, Origin)> {
    read(bytes, None).map_err(Error::input)
}

/// The bytes that [`save`] writes.
///
/// # Errors
/// A value is one that [`load`] would refuse.
pub fn to_bytes(weights: &Weights) -> Result<Vec<u8>> {
    check::values(weights.layout().slots(), &weights.values).map_err(Error::run)?;
    Ok(encode(weights))
}

/// Writes a model as f32, atomically; the same model gives the same bytes.
///
/// # Errors
/// The file can't be written, or a value is one that [`load`] would refuse.
pub fn save(weights: &Weights, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    check::values(weights.layout().slots(), &weights.values)
        .map_err(|cause| Error::run(format!("{} is not written: {cause}", path.display())))?;
    write_atomic(path, &encode(weights))
}

fn read(bytes: &[u8], key: Option<&str>) -> std::result::Result<(Weights, Origin), String> {
    if let Some(what) = disguise(bytes) {
        return Err(what.into());
    }
    if checkpoint::is_archive(bytes) {
        return take(&Archive::open(bytes)?, &Metadata::new(), key);
    }
    if checkpoint::is_legacy(bytes) {
        return take(&Legacy::open(bytes)?, &Metadata::new(), key);
    }
    let file = SafetensorsFile::open(&[bytes]).map_err(|cause| {
        cause.replace("not a safetensors file", "neither a safetensors file nor a PyTorch checkpoint")
    })?;
    take(&file, &file.metadata, key)
}

/// The weights of a file that `key` names, or its own.
fn take(
    file: &dyn TensorFile,
    metadata: &Metadata,
    key: Option<&str>,
) -> std::result::Result<(Weights, Origin), String> {
    let (set, mut origin) = choose(file.dicts(), key)?;
    origin.acting = file.acting().to_vec();
    origin.own = metadata.contains_key("pbe.architecture");
    let dict = &file.dicts()[set.dict];
    let found: BTreeMap<&str, &TensorInfo> =
        set.tensors.iter().map(|(name, &place)| (name.as_str(), &dict.tensors[place])).collect();
    let shapes = found.iter().map(|(name, tensor)| (*name, tensor.shape.as_slice()));
    let architecture = infer(shapes).map_err(|error| error.to_string())?;
    check::tensors(&found, &architecture)?;
    let mut weights = Weights::zeros(architecture);
    let slots = weights.layout().slots().to_vec();
    let places = slots.iter().map(|slot| set.tensors.get(&slot.tensor.name).copied());
    let places: Option<Vec<usize>> = places.collect();
    let elements = file.elements(set.dict, &places.unwrap_or_default())?;
    for (slot, (dtype, bytes)) in slots.iter().zip(elements) {
        decode(dtype, &bytes, &mut weights.values[slot.range.clone()]);
    }
    check::values(&slots, &weights.values)?;
    read_metadata(metadata, &mut weights)?;
    Ok((weights, origin))
}

/// Little-endian elements of one of [`check::TYPES`] to f32.
fn decode(dtype: Dtype, bytes: &[u8], values: &mut [f32]) {
    match dtype {
        Dtype::F16 => each(bytes, values, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => each(bytes, values, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::F64 => each(bytes, values, |bytes| f64::from_le_bytes(bytes) as f32),
        _ => each(bytes, values, f32::from_le_bytes),
    }
}

fn each<const N: usize>(bytes: &[u8], values: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = convert(*bytes);
    }
}

fn read_metadata(metadata: &Metadata, weights: &mut Weights) -> std::result::Result<(), String> {
    let Architecture { network, channels, .. } = weights.architecture;
    if let Some(name) = metadata.get("pbe.architecture").filter(|name| *name != network.name()) {
        return Err(format!(
            "metadata pbe.architecture is {name}, the tensors are those of a {}",
            network.name()
        ));
    }
    weights.normalisation = match (metadata.get("pbe.mean"), metadata.get("pbe.std")) {
        (Some(mean), Some(std)) => {
            let numbers = |text| split(text).map_err(|error| error.to_string());
            let normalisation = Normalisation::new(numbers(mean)?, numbers(std)?)
                .map_err(|error| format!("metadata pbe.mean and pbe.std: {error}"))?;
            if normalisation.channels() != channels {
                let given = normalisation.channels();
                return Err(format!(
                    "metadata pbe.mean has {given} channels, the first convolution {channels}"
                ));
            }
            Some(normalisation)
        }
        (None, None) => None,
        _ => return Err("metadata has one of pbe.mean and pbe.std without the other".into()),
    };
    weights.input_size = match metadata.get("pbe.input") {
        Some(text) => Some(parse_size(text).ok_or_else(|| {
            format!("metadata pbe.input is {text}, expected as in 32x32, each side at most {LARGEST_SIDE}")
        })?),
        None => None,
    };
    Ok(())
}

fn encode(weights: &Weights) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.insert("pbe.architecture".into(), weights.architecture.network.name().into());
    if let Some(normalisation) = &weights.normalisation {
        metadata.insert("pbe.mean".into(), join(&normalisation.mean));
        metadata.insert("pbe.std".into(), join(&normalisation.std));
    }
    if let Some((height, width)) = weights.input_size {
        metadata.insert("pbe.input".into(), format!("{height}x{width}"));
    }
    let tensors = weights.architecture.tensors();
    // Eight-byte elements first keeps them aligned. PyTorch insists on the counts; nothing reads them.
    let counts = tensors.iter().filter(|tensor| tensor.role == TensorRole::BatchCount);
    let mut entries: Vec<Entry> = counts
        .map(|tensor| Entry { name: &tensor.name, dtype: Dtype::I64, shape: &tensor.shape, bytes: &[0; 8] })
        .collect();
    let bytes: Vec<u8> = weights.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    entries.extend(weights.layout().slots().iter().map(|slot| Entry {
        name: &slot.tensor.name,
        dtype: Dtype::F32,
        shape: &slot.tensor.shape,
        bytes: &bytes[4 * slot.range.start..4 * slot.range.end],
    }));
    container::write(&metadata, &entries)
}

#[cfg(test)]
mod tests;
