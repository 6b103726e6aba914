//! Checkpoints as `torch.save` has written them since PyTorch 1.6: zips.

use super::{Contents, pickle, pickle::Values};
use crate::model::sets::{Elements, TensorDict, TensorFile};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{Cursor, Read};

type Zip<'a> = zip::ZipArchive<Cursor<&'a [u8]>>;

/// A pickle is a description; storages, which are large, are files of their own.
const LARGEST_PICKLE: u64 = 256 << 20;

/// How much smaller packing may make weights; a few bytes must not unpack to any amount.
const MOST_PACKED: usize = 16;

/// An open one.
pub struct Archive<'a> {
    zip: RefCell<Zip<'a>>,
    /// What its files' names begin with.
    folder: String,
    contents: Contents,
    /// Bytes of all storages at most.
    size: usize,
}

impl<'a> Archive<'a> {
    /// # Errors
    /// A damaged zip or pickle, or what is no checkpoint.
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let (mut zip, name) = open(bytes)?;
        let folder = name.trim_end_matches("data.pkl").to_string();
        if zip.file_names().any(|name| name.starts_with(&format!("{folder}code/"))) {
            return Err("a TorchScript program, not a state dict: save `model.state_dict()`".into());
        }
        let contents = Contents::new(&pickle::read(&member(&mut zip, &name, LARGEST_PICKLE)?)?)?;
        let packed = (0..zip.len()).any(|at| {
            zip.by_index_raw(at).is_ok_and(|file| file.compression() != zip::CompressionMethod::Stored)
        });
        let size = bytes.len().saturating_mul(if packed { MOST_PACKED } else { 1 });
        Ok(Self { zip: RefCell::new(zip), folder, contents, size })
    }
}

impl TensorFile for Archive<'_> {
    fn dicts(&self) -> &[TensorDict] {
        &self.contents.dicts
    }

    fn acting(&self) -> &[String] {
        &self.contents.acting
    }

    fn elements(&self, dict: usize, tensors: &[usize]) -> Result<Vec<Elements<'_>>, String> {
        let mut zip = self.zip.borrow_mut();
        let storage = |key: &str| member(&mut zip, &format!("{}data/{key}", self.folder), self.size as u64);
        let found = self.contents.elements(dict, tensors, self.size, storage)?;
        Ok(found.into_iter().map(|(dtype, bytes)| (dtype, Cow::Owned(bytes))).collect())
    }
}

/// The values of the pickle in a zip.
pub fn values(bytes: &[u8]) -> Result<Values, String> {
    let (mut zip, name) = open(bytes)?;
    pickle::read(&member(&mut zip, &name, LARGEST_PICKLE)?)
}

/// The zip, and the name of its pickle.
fn open(bytes: &[u8]) -> Result<(Zip<'_>, String), String> {
    let zip = Zip::new(Cursor::new(bytes)).map_err(|error| format!("a damaged zip: {error}"))?;
    let name =
        zip.file_names().find(|name| *name == "data.pkl" || name.ends_with("/data.pkl")).map(str::to_string);
    let name = name.ok_or("a zip, but no PyTorch checkpoint: it has no data.pkl")?;
    Ok((zip, name))
}

/// A file of the zip, whole.
fn member(zip: &mut Zip, name: &str, most: u64) -> Result<Vec<u8>, String> {
    let mut file = zip.by_name(name).map_err(|error| format!("{name}: {error}"))?;
    if file.size() > most {
        return Err(format!("{name} has {} bytes, more than any checkpoint's", file.size()));
    }
    // The size is only claimed: no more is taken, as bytes arrive.
    let size = file.size();
    let mut bytes = Vec::new();
    file.by_ref().take(size).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok(bytes)
}
