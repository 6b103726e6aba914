//! PyTorch's `.pt` and `.pth` files, read as data: nothing in them is ever executed.
//!
//! | file | what it is |
//! |---|---|
//! | [`archive`] | since version 1.6: a zip of `NAME/data.pkl`, a pickle, and `NAME/data/KEY`, the elements of each storage |
//! | [`legacy`] | before: pickles one after the other, then the storages |
//!
//! [`object`] is for what isn't weights. [`pickle`] turns a pickle into values, [`tensors`] finds the dicts of tensors in them and cuts tensors out of the
//! storages.

mod archive;
mod legacy;
mod object;
mod pickle;
mod tensors;

pub use archive::Archive;
pub use legacy::Legacy;
pub use object::{Entry, Object};

use super::sets::{TensorDict, TensorInfo};
use pickle::Values;
use safetensors::Dtype;
use tensors::Tensor;

/// How a zip begins.
const ZIP: &[u8] = b"PK\x03\x04";

/// Bytes of all tensors at most, for each byte of the file: tensors may share a storage, but a file of some bytes must
/// not take any amount of memory.
const SHARED: usize = 2;

/// Whether the file is a zip, which is what `torch.save` has written since PyTorch 1.6.
pub fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(ZIP)
}

/// Whether the file is what `torch.save` wrote before: pickles, of which the first is a magic number.
pub fn is_legacy(bytes: &[u8]) -> bool {
    let magic = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    bytes.get(2..).is_some_and(|rest| rest.starts_with(magic)) && bytes.starts_with(b"\x80")
}

/// The dicts of tensors of a checkpoint.
struct Contents {
    dicts: Vec<TensorDict>,
    /// As in `dicts`.
    tensors: Vec<Vec<Tensor>>,
    /// What loading it in Python would call.
    acting: Vec<String>,
}

impl Contents {
    fn new(values: &Values) -> Result<Self, String> {
        let (mut dicts, mut all) = (vec![], vec![]);
        for (place, tensors) in tensors::dicts(values)? {
            let info = |tensor: &Tensor| TensorInfo {
                name: tensor.name.to_string(),
                shape: tensor.shape.clone(),
                dtype: tensor.dtype(),
            };
            dicts.push(TensorDict { place, tensors: tensors.iter().map(info).collect() });
            all.push(tensors);
        }
        Ok(Self { dicts, tensors: all, acting: values.acting() })
    }

    /// The elements of some tensors of a file of so many bytes; each storage is read once.
    fn elements<S: AsRef<[u8]>>(
        &self,
        dict: usize,
        tensors: &[usize],
        size: usize,
        mut storage: impl FnMut(&str) -> Result<S, String>,
    ) -> Result<Vec<(Dtype, Vec<u8>)>, String> {
        let wanted: Vec<&Tensor> = tensors.iter().map(|&tensor| &self.tensors[dict][tensor]).collect();
        let claimed = wanted.iter().fold(0usize, |sum, tensor| sum.saturating_add(tensor.claims()));
        if claimed > SHARED.saturating_mul(size) {
            return Err(format!("its tensors claim {claimed} bytes, the file has {size}"));
        }
        let mut by_storage: Vec<(usize, &Tensor)> = wanted.into_iter().enumerate().collect();
        by_storage.sort_by_key(|(_, tensor)| &tensor.storage);
        let mut found = vec![(Dtype::U8, vec![]); tensors.len()];
        for tensors in by_storage.chunk_by(|one, other| one.1.storage == other.1.storage) {
            let storage = storage(&tensors[0].1.storage)?;
            for (place, tensor) in tensors {
                found[*place] =
                    tensor.cut(storage.as_ref()).map_err(|cause| format!("{}: {cause}", tensor.name))?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
