//! What else is in a checkpoint, as plain values.

use super::pickle::{Id, Value, Values};
use super::{archive, is_archive};
use crate::error::{Error, Result};
use crate::map::map_file;
use std::path::Path;

/// The object of a checkpoint.
pub struct Object(Values);

/// A value in it.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    values: &'a Values,
    id: Id,
}

impl Object {
    /// Reads the object of a file that `torch.save` wrote.
    ///
    /// # Errors
    /// The file can't be read, or isn't one.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = map_file(path)?;
        if !is_archive(&bytes) {
            return Err(Error::file(path, "not a checkpoint as torch.save writes it"));
        }
        archive::values(&bytes).map(Self).map_err(|cause| Error::file(path, cause))
    }

    /// The object itself.
    pub fn root(&self) -> Entry<'_> {
        Entry { values: &self.0, id: self.0.root }
    }
}

impl<'a> Entry<'a> {
    fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }

    /// The value of a dict's key.
    pub fn get(self, key: &str) -> Option<Self> {
        let Value::Dict(entries) = self.values.get(self.id) else { return None };
        let found = entries.iter().rev().find(|(name, _)| self.at(*name).text() == Some(key));
        found.map(|(_, value)| self.at(*value))
    }

    /// The values of a dict.
    pub fn dict_values(self) -> Option<impl Iterator<Item = Entry<'a>>> {
        let Value::Dict(entries) = self.values.get(self.id) else { return None };
        Some(entries.iter().map(move |(_, value)| self.at(*value)))
    }

    /// An item of a list or tuple.
    pub fn item(self, index: usize) -> Option<Self> {
        let Value::List(items) = self.values.get(self.id) else { return None };
        items.get(index).map(|&id| self.at(id))
    }

    /// An integer.
    pub fn int(self) -> Option<i64> {
        match self.values.get(self.id) {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A text.
    pub fn text(self) -> Option<&'a str> {
        match self.values.get(self.id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}
