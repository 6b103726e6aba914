//! Models as safetensors files, and PyTorch checkpoints read as such.
//!
//! Tensors have the names and shapes of the state dicts people have. Metadata, all
//! optional: `pbe.architecture` ([`super::NetworkKind::name`]), `pbe.mean` and `pbe.std` (one number per input
//! channel, commas between, units of [0, 1]), `pbe.input` (height and width, `32x32`).

use super::architecture::Architecture;
use super::check;
use super::checkpoint;
use super::container::{self, Entry, Metadata};
use super::infer::infer;
use super::layout::TensorRole;
use super::weights::Weights;
use crate::data::normalisation::{join, split};
use crate::data::{LARGEST_SIDE, Normalisation, parse_size};
use crate::error::{Error, Result};
use crate::fs::write_atomic;
use crate::map::map_file;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads a model, safetensors or a PyTorch checkpoint: f32, f16 or bf16 on disk, architecture from names
/// and shapes.
///
/// # Errors
/// One line that names the file and the cause: not there, neither of the two, truncated; every missing,
/// extra or wrong-shaped tensor; every tensor with a NaN, an infinity or a negative variance; metadata
/// that contradicts the tensors.
pub fn load(path: impl AsRef<Path>) -> Result<Weights> {
    let path = path.as_ref();
    let map = map_file(path)?;
    let weights = if checkpoint::is_checkpoint(&map) {
        checkpoint::to_safetensors(&map).and_then(|bytes| parse(&bytes))
    } else if checkpoint::is_old(&map) {
        Err("a PyTorch file from before version 1.6: load it and `torch.save` it again".into())
    } else {
        parse(&map)
    };
    weights.map_err(|cause| Error::file(path, cause))
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

fn parse(bytes: &[u8]) -> std::result::Result<Weights, String> {
    let (file, metadata) = container::read(bytes)?;
    let names = file.names();
    let tensors = views(&file, &names);
    let architecture =
        infer(tensors.iter().map(|(name, view)| (*name, view.shape()))).map_err(|error| error.to_string())?;
    check::tensors(&tensors, &architecture)?;
    let mut weights = Weights::zeros(architecture);
    for slot in weights.layout().slots().to_vec() {
        if let Some(view) = tensors.get(slot.tensor.name.as_str()) {
            decode(view, &mut weights.values[slot.range]);
        }
    }
    check::values(weights.layout().slots(), &weights.values)?;
    read_metadata(&metadata, &mut weights)?;
    Ok(weights)
}

/// Tensors by name; a `module.` before every name is what torch.nn.DataParallel adds, and goes.
fn views<'a>(file: &SafeTensors<'a>, names: &[&'a str]) -> BTreeMap<&'a str, TensorView<'a>> {
    let parallel = names.iter().all(|name| name.starts_with("module."));
    let short = |name: &'a str| if parallel { &name["module.".len()..] } else { name };
    names.iter().filter_map(|name| Some((short(name), file.tensor(name).ok()?))).collect()
}

/// Little-endian elements of one of [`check::TYPES`] to f32.
fn decode(view: &TensorView, values: &mut [f32]) {
    match view.dtype() {
        Dtype::F16 => each(view, values, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => each(view, values, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => each(view, values, f32::from_le_bytes),
    }
}

fn each<const N: usize>(view: &TensorView, values: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in values.iter_mut().zip(view.data().as_chunks::<N>().0) {
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
