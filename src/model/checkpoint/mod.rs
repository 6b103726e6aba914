//! PyTorch's `.pt` and `.pth` files, read as data: nothing in them is ever executed.
//!
//! A checkpoint is a zip of `NAME/data.pkl`, a pickle, and `NAME/data/KEY`, the elements of each
//! storage. [`pickle`] turns the pickle into values, [`tensors`] finds the state dict in them and cuts
//! its tensors out of the storages.

mod pickle;
mod tensors;

use super::container::{self, Entry, Metadata};
use safetensors::Dtype;
use std::io::{Cursor, Read};
use tensors::Tensor;

type Zip<'a> = zip::ZipArchive<Cursor<&'a [u8]>>;

/// How a file that is one begins.
const MAGIC: &[u8] = b"PK\x03\x04";

/// A pickle is a description; storages, which are large, are files of their own.
const LARGEST_PICKLE: u64 = 256 << 20;

/// Bytes of all tensors at most, for each byte of the file: tensors may share a storage, but a file of some bytes must
/// not take any amount of memory.
const SHARED: usize = 2;

/// Whether the file is a zip, which is what `torch.save` has written since PyTorch 1.6.
pub fn is_checkpoint(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Whether the file is what `torch.save` wrote before: pickles one after the other, of which the first
/// is a magic number.
pub fn is_old(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
}

/// The state dict of a checkpoint as safetensors bytes.
///
/// # Errors
/// Why there is none: a damaged zip or pickle; a global that is not known to be data, by its name; no
/// state dict at the top or under `model`, `state_dict`, `net` or `model_state_dict`; a tensor outside
/// its storage.
pub fn to_safetensors(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut archive = Zip::new(Cursor::new(bytes)).map_err(|error| format!("a damaged zip: {error}"))?;
    let pickle = archive
        .file_names()
        .find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
        .map(str::to_string)
        .ok_or("a zip, but no PyTorch checkpoint: it has no data.pkl")?;
    let folder = pickle.trim_end_matches("data.pkl").to_string();
    if archive.file_names().any(|name| name.starts_with(&format!("{folder}code/"))) {
        return Err("a TorchScript program, not a state dict: save `model.state_dict()`".into());
    }
    let values = pickle::read(&member(&mut archive, &pickle, LARGEST_PICKLE)?)?;
    let tensors = tensors::state_dict(&values)?;
    let claimed = tensors.iter().fold(0usize, |sum, tensor| sum.saturating_add(tensor.claims()));
    if claimed > SHARED.saturating_mul(bytes.len()) {
        return Err(format!("its tensors claim {claimed} bytes, the file has {}", bytes.len()));
    }
    let found = cut(&mut archive, &folder, &tensors)?;
    let mut entries: Vec<Entry> = found
        .iter()
        .map(|(tensor, dtype, bytes)| Entry {
            name: &tensor.name,
            dtype: *dtype,
            shape: &tensor.shape,
            bytes,
        })
        .collect();
    // Wide elements first keeps them aligned.
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.dtype.bitsize()));
    Ok(container::write(&Metadata::new(), &entries))
}

/// The tensors with their elements. Each storage is read once.
fn cut<'a>(
    archive: &mut Zip,
    folder: &str,
    tensors: &'a [Tensor],
) -> Result<Vec<(&'a Tensor, Dtype, Vec<u8>)>, String> {
    let mut by_storage: Vec<&Tensor> = tensors.iter().collect();
    by_storage.sort_by_key(|tensor| &tensor.storage);
    let mut found = Vec::with_capacity(tensors.len());
    for tensors in by_storage.chunk_by(|one, other| one.storage == other.storage) {
        let storage = member(archive, &format!("{folder}data/{}", tensors[0].storage), u64::MAX)?;
        for tensor in tensors {
            let (dtype, bytes) = tensor.cut(&storage).map_err(|cause| format!("{}: {cause}", tensor.name))?;
            found.push((*tensor, dtype, bytes));
        }
    }
    Ok(found)
}

/// A file of the zip, whole.
fn member(archive: &mut Zip, name: &str, most: u64) -> Result<Vec<u8>, String> {
    let mut file = archive.by_name(name).map_err(|error| format!("{name}: {error}"))?;
    if file.size() > most {
        return Err(format!("{name} has {} bytes, more than any checkpoint's", file.size()));
    }
    // The size is only claimed: memory is taken as bytes arrive.
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
