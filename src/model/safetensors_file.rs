//! Safetensors files as [`TensorFile`]s: one, or the shards that an index names.

use super::container::{self, Metadata};
use super::sets::{Elements, TensorDict, TensorFile, TensorInfo};
use crate::error::{Error, Result};
use crate::map::map_file;
use safetensors::SafeTensors;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An open one.
pub struct SafetensorsFile<'a> {
    shards: Vec<SafeTensors<'a>>,
    /// The shard of each tensor.
    places: Vec<usize>,
    dicts: [TensorDict; 1],
    pub metadata: Metadata,
}

impl<'a> SafetensorsFile<'a> {
    /// # Errors
    /// Why one of the files is none.
    pub fn open<'b: 'a>(files: &[&'b [u8]]) -> std::result::Result<Self, String> {
        let (mut shards, mut places, mut tensors) = (vec![], vec![], vec![]);
        let mut all = Metadata::new();
        for (shard, bytes) in files.iter().enumerate() {
            let (file, metadata) = container::read(bytes)?;
            all.extend(metadata);
            for (name, view) in file.tensors() {
                tensors.push(TensorInfo { name, shape: view.shape().to_vec(), dtype: Some(view.dtype()) });
                places.push(shard);
            }
            shards.push(file);
        }
        Ok(Self { shards, places, dicts: [TensorDict { place: String::new(), tensors }], metadata: all })
    }
}

impl TensorFile for SafetensorsFile<'_> {
    fn dicts(&self) -> &[TensorDict] {
        &self.dicts
    }

    fn elements(&self, _: usize, tensors: &[usize]) -> std::result::Result<Vec<Elements<'_>>, String> {
        let one = |&tensor: &usize| {
            let name = &self.dicts[0].tensors[tensor].name;
            let view = self.shards[self.places[tensor]].tensor(name).map_err(|error| error.to_string())?;
            Ok((view.dtype(), Cow::Borrowed(view.data())))
        };
        tensors.iter().map(one).collect()
    }
}

/// Which shard each tensor is in: `….safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, PathBuf>,
}

/// Whether `path` is the index of a model in several files.
pub fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".index.json"))
}

/// The files that an index names, mapped.
///
/// # Errors
/// It is no index; a file isn't there, or not beside it.
pub fn shards(path: &Path) -> Result<Vec<memmap2::Mmap>> {
    let text = map_file(path)?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|cause| Error::file(path, format!("no index of a model in several files: {cause}")))?;
    let files: BTreeSet<&PathBuf> = index.weight_map.values().collect();
    let folder = path.parent().unwrap_or(Path::new(""));
    let open = |file: &PathBuf| match file.file_name() {
        Some(name) if name == file.as_os_str() => map_file(&folder.join(file)),
        _ => Err(Error::file(path, format!("names {}, which isn't beside it", file.display()))),
    };
    files.into_iter().map(open).collect()
}
