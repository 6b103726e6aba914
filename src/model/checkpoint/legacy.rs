//! Checkpoints as `torch.save` wrote them before PyTorch 1.6, and writes with `_use_new_zipfile_serialization=False`:
//! a magic number, a version, a description of the machine, the object and the list of storages, each as a pickle, then
//! the storages in that order: a count (8 bytes) and the elements.

use super::Contents;
use super::pickle::{self, Value};
use super::tensors::{StorageType, storage_kind};
use crate::model::sets::{Elements, TensorDict, TensorFile};
use std::borrow::Cow;
use std::collections::HashMap;

/// An open one.
pub struct Legacy<'a> {
    storages: HashMap<String, &'a [u8]>,
    contents: Contents,
    size: usize,
}

impl<'a> Legacy<'a> {
    /// # Errors
    /// It is cut off or makes no sense.
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let mut rest = bytes;
        let mut next = || -> Result<pickle::Values, String> {
            let (values, length) = pickle::read_first(rest)?;
            rest = &rest[length..];
            Ok(values)
        };
        let [_magic, _version, _machine, object, keys] = [next()?, next()?, next()?, next()?, next()?];
        let kinds: HashMap<&std::rc::Rc<str>, StorageType> =
            object.list.iter().filter_map(|value| storage_kind(&object, value)).collect();
        let mut storages = HashMap::new();
        let Value::List(list) = keys.get(keys.root) else {
            return Err("no list of storages after the object".into());
        };
        for &key in list {
            let Value::Text(key) = keys.get(key) else { return Err("a storage without a name".into()) };
            let cut = || format!("cut off in storage {key}");
            let (count, after) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
            let width = kinds.get(key).ok_or_else(|| format!("storage {key} is of no type that is known"))?;
            let length = usize::try_from(u64::from_le_bytes(*count)).ok();
            let length = length.and_then(|count| count.checked_mul(width.bytes())).ok_or_else(cut)?;
            let (storage, after) = after.split_at_checked(length).ok_or_else(cut)?;
            storages.insert(key.to_string(), storage);
            rest = after;
        }
        Ok(Self { storages, contents: Contents::new(&object)?, size: bytes.len() })
    }
}

impl TensorFile for Legacy<'_> {
    fn dicts(&self) -> &[TensorDict] {
        &self.contents.dicts
    }

    fn acting(&self) -> &[String] {
        &self.contents.acting
    }

    fn elements(&self, dict: usize, tensors: &[usize]) -> Result<Vec<Elements<'_>>, String> {
        let storage = |key: &str| self.storages.get(key).copied().ok_or(format!("storage {key} is missing"));
        let found = self.contents.elements(dict, tensors, self.size, storage)?;
        Ok(found.into_iter().map(|(dtype, bytes)| (dtype, Cow::Owned(bytes))).collect())
    }
}
