//! The dicts of tensors among the values of a pickle, and their elements in the storages.

use super::pickle::{Id, Value, Values};
use safetensors::Dtype;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// How deep values are looked into.
const DEEPEST: usize = 32;

/// Dicts of tensors at most.
const MOST_DICTS: usize = 10_000;

/// Bytes of a tensor's name at most.
const LONGEST_NAME: usize = 1024;

/// Dimensions of a tensor at most.
const MOST_DIMENSIONS: usize = 8;

/// A tensor's place in a storage.
#[derive(Debug, PartialEq)]
pub struct Tensor {
    pub name: Rc<str>,
    /// The storage's key.
    pub storage: Rc<str>,
    kind: StorageType,
    /// In elements.
    offset: usize,
    pub shape: Vec<usize>,
    stride: Vec<usize>,
}

/// A storage's element type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StorageType {
    /// Of so many bytes.
    As(Dtype, usize),
    /// One that no weight has.
    Other(usize),
}

impl StorageType {
    /// From the name of the storage's class.
    fn of(global: &str) -> StorageType {
        let name =
            global.strip_prefix("torch.").and_then(|name| name.strip_suffix("Storage")).unwrap_or_default();
        match name {
            "Float" => StorageType::As(Dtype::F32, 4),
            "Half" => StorageType::As(Dtype::F16, 2),
            "BFloat16" => StorageType::As(Dtype::BF16, 2),
            "Double" => StorageType::As(Dtype::F64, 8),
            "Long" => StorageType::As(Dtype::I64, 8),
            "Int" => StorageType::As(Dtype::I32, 4),
            "Bool" => StorageType::As(Dtype::BOOL, 1),
            "Short" => StorageType::Other(2),
            "ComplexFloat" => StorageType::Other(8),
            "ComplexDouble" => StorageType::Other(16),
            _ => StorageType::Other(1),
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            StorageType::As(_, bytes) | StorageType::Other(bytes) => bytes,
        }
    }
}

/// The dicts of tensors that the values hold, each with the keys that lead to it: state dicts, modules, and whatever else
/// is there. What is neither a tensor nor leads to one is passed by.
pub fn dicts(values: &Values) -> Result<Vec<(String, Vec<Tensor>)>, String> {
    let mut search = Search { values, seen: HashSet::new(), found: vec![] };
    search.look(values.root, "", 0)?;
    Ok(search.found)
}

struct Search<'a> {
    values: &'a Values,
    /// A value that several lead to is looked at once.
    seen: HashSet<Id>,
    found: Vec<(String, Vec<Tensor>)>,
}

impl Search<'_> {
    fn look(&mut self, id: Id, place: &str, depth: usize) -> Result<(), String> {
        if depth > DEEPEST || self.found.len() > MOST_DICTS || !self.seen.insert(id) {
            return Ok(());
        }
        match self.values.get(id) {
            Value::Dict(_) => {
                let entries = named(self.values, id)?;
                let tensors = entries.iter().map(|(name, value)| tensor(self.values, name, *value));
                let tensors: Vec<Tensor> = tensors.filter_map(Result::transpose).collect::<Result<_, _>>()?;
                if !tensors.is_empty() {
                    self.found.push((place.to_string(), tensors));
                }
                self.enter(&entries, place, depth)
            }
            Value::Call { state: Some(state), .. } => {
                let tensors = self.module(id)?;
                if !tensors.is_empty() {
                    self.found.push((place.to_string(), tensors));
                    return Ok(());
                }
                self.look(*state, place, depth + 1)
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, entries: &[(Rc<str>, Id)], place: &str, depth: usize) -> Result<(), String> {
        entries.iter().try_for_each(|(name, value)| match self.values.get(*value) {
            Value::Dict(_) | Value::Call { .. } => {
                let inner = if place.is_empty() { name.to_string() } else { format!("{place}.{name}") };
                if inner.len() > LONGEST_NAME { Ok(()) } else { self.look(*value, &inner, depth + 1) }
            }
            _ => Ok(()),
        })
    }

    /// The state dict of a `torch.nn.Module` that was saved whole.
    fn module(&mut self, id: Id) -> Result<Vec<Tensor>, String> {
        let mut tensors = vec![];
        let mut open = vec![(id, String::new())];
        while let Some((id, prefix)) = open.pop() {
            let Value::Call { state: Some(state), .. } = self.values.get(id) else { continue };
            let parts = named(self.values, *state)?;
            let part = |name: &str| {
                let found = parts.iter().find(|(part, _)| part.as_ref() == name);
                found.map_or(Ok(vec![]), |(_, id)| named(self.values, *id))
            };
            for (name, value) in part("_parameters")?.into_iter().chain(part("_buffers")?) {
                tensors.extend(tensor(self.values, &format!("{prefix}{name}").into(), value)?);
            }
            let modules = part("_modules")?;
            for (name, module) in modules.into_iter().rev() {
                if prefix.len() + name.len() < LONGEST_NAME && self.seen.insert(module) {
                    open.push((module, format!("{prefix}{name}.")));
                }
            }
        }
        Ok(tensors)
    }
}

/// A storage's key and type, where the value is one.
pub fn storage_kind<'a>(values: &'a Values, value: &Value) -> Option<(&'a Rc<str>, StorageType)> {
    let Value::Persistent(id) = value else { return None };
    // ("storage", class, key, device, elements)
    let &[_, class, key, ..] = list(values, *id)? else { return None };
    let Value::Global(class) = values.get(class) else { return None };
    Some((text(values, key)?, StorageType::of(class)))
}

/// The entries of a dict whose keys are text. Of those with the same key the last counts, as in Python.
fn named(values: &Values, dict: Id) -> Result<Vec<(Rc<str>, Id)>, String> {
    let Value::Dict(entries) = values.get(dict) else { return Ok(vec![]) };
    let (mut named, mut places) = (Vec::<(Rc<str>, Id)>::new(), HashMap::<_, usize>::new());
    for &(key, value) in entries {
        let Some(name) = text(values, key) else { continue };
        if name.len() > LONGEST_NAME {
            return Err(format!("a name in it has {} bytes, more than any tensor's", name.len()));
        }
        match places.entry(name) {
            Entry::Occupied(place) => named[*place.get()].1 = value,
            Entry::Vacant(place) => {
                place.insert(named.len());
                named.push((Rc::clone(name), value));
            }
        }
    }
    Ok(named)
}

fn text(values: &Values, id: Id) -> Option<&Rc<str>> {
    match values.get(id) {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn list(values: &Values, id: Id) -> Option<&[Id]> {
    match values.get(id) {
        Value::List(items) => Some(items),
        _ => None,
    }
}

fn sizes(values: &Values, id: Id) -> Option<Vec<usize>> {
    let size = |&id: &Id| match values.get(id) {
        Value::Int(size) => usize::try_from(*size).ok(),
        _ => None,
    };
    list(values, id).filter(|items| items.len() <= MOST_DIMENSIONS)?.iter().map(size).collect()
}

/// A value as a tensor: `_rebuild_tensor_v2(storage, offset, shape, stride, …)`, perhaps within
/// `_rebuild_parameter(tensor, …)` or `_rebuild_from_type_v2(function, type, arguments, state)`; none where it is something
/// else, or a tensor of a kind that no weight has.
fn tensor(values: &Values, name: &Rc<str>, id: Id) -> Result<Option<Tensor>, String> {
    let Value::Call { global, arguments, .. } = values.get(id) else {
        return Ok(None);
    };
    let arguments = list(values, *arguments).unwrap_or_default();
    if global.starts_with("torch._utils._rebuild_parameter") {
        return match arguments.first() {
            // A tensor comes before what is made of it.
            Some(&inner) if inner < id => tensor(values, name, inner),
            _ => Err(format!("{name}: a parameter of nothing")),
        };
    }
    let rebuilt = "torch._utils._rebuild_tensor";
    let arguments = match (global.as_ref(), arguments) {
        ("torch._tensor._rebuild_from_type_v2", &[function, _, inner, ..]) => match values.get(function) {
            Value::Global(function) if function.starts_with(rebuilt) => {
                list(values, inner).unwrap_or_default()
            }
            _ => return Ok(None),
        },
        (global, arguments) if global.starts_with(rebuilt) => arguments,
        _ => return Ok(None),
    };
    Ok((|| {
        let &[storage, offset, shape, stride, ..] = arguments else { return None };
        let (key, kind) = storage_kind(values, values.get(storage))?;
        let Value::Int(offset) = values.get(offset) else { return None };
        Some(Tensor {
            name: Rc::clone(name),
            storage: Rc::clone(key),
            kind,
            offset: usize::try_from(*offset).ok()?,
            shape: sizes(values, shape)?,
            stride: sizes(values, stride)?,
        })
    })())
}

impl Tensor {
    /// Its type, where a weight may have it.
    pub fn dtype(&self) -> Option<Dtype> {
        match self.kind {
            StorageType::As(dtype, _) => Some(dtype),
            StorageType::Other(_) => None,
        }
    }

    /// Bytes that its elements take in the file, as its shape claims.
    pub fn claims(&self) -> usize {
        self.shape.iter().fold(self.kind.bytes(), |bytes, &size| bytes.saturating_mul(size))
    }

    /// Its type, and its elements in order.
    pub fn cut(&self, storage: &[u8]) -> Result<(Dtype, Vec<u8>), String> {
        let outside = || format!("it reaches outside its storage of {} bytes", storage.len());
        let width = self.kind.bytes();
        if self.stride.len() != self.shape.len() {
            return Err("a stride for each dimension is missing".into());
        }
        let count = self.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        // No more elements than the storage has: repeated ones (stride 0) are none of a state dict's.
        let count = count.filter(|&count| count <= storage.len() / width).ok_or_else(outside)?;
        let mut bytes = Vec::with_capacity(count * width);
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..count {
            let mut steps = index.iter().zip(&self.stride).map(|(&at, &stride)| at.checked_mul(stride));
            let at = steps.try_fold(self.offset, |sum, step| sum.checked_add(step?));
            let at = at.and_then(|at| at.checked_mul(width)).ok_or_else(outside)?;
            bytes.extend(storage.get(at..at.saturating_add(width)).ok_or_else(outside)?);
            for (at, &size) in index.iter_mut().zip(&self.shape).rev() {
                *at += 1;
                if *at < size {
                    break;
                }
                *at = 0;
            }
        }
        let dtype = self.dtype().ok_or("its type is none of a weight's")?;
        Ok((dtype, bytes))
    }
}
