//! The tensors of a state dict, and their elements in the storages.

use super::pickle::{Id, Value, Values};
use safetensors::Dtype;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

/// Where programs put a state dict, at the top or one within the other.
const PLACES: [&str; 5] = ["model", "state_dict", "net", "model_state_dict", "module"];

/// How deep dicts are looked into.
const DEEPEST: usize = 4;

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
    kind: Kind,
    /// In elements.
    offset: usize,
    pub shape: Vec<usize>,
    stride: Vec<usize>,
}

/// A storage's element type.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    F64,
    As(Dtype, usize),
}

impl Kind {
    /// From the name of the storage's class.
    fn of(global: &str) -> Option<Kind> {
        Some(match global.strip_prefix("torch.")?.strip_suffix("Storage")? {
            "Float" => Kind::As(Dtype::F32, 4),
            "Half" => Kind::As(Dtype::F16, 2),
            "BFloat16" => Kind::As(Dtype::BF16, 2),
            "Double" => Kind::F64,
            "Long" => Kind::As(Dtype::I64, 8),
            "Int" => Kind::As(Dtype::I32, 4),
            "Bool" => Kind::As(Dtype::BOOL, 1),
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Kind::F64 => 8,
            Kind::As(_, bytes) => bytes,
        }
    }
}

/// The tensors of the state dict that the values hold, in its order.
pub fn state_dict(values: &Values) -> Result<Vec<Tensor>, String> {
    let mut id = values.root;
    for _ in 0..DEEPEST {
        let Value::Dict(entries) = values.get(id) else { break };
        let entries = named(values, entries)?;
        let tensors: Result<Vec<Option<Tensor>>, String> =
            entries.iter().map(|(name, value)| tensor(values, name, *value)).collect();
        let tensors: Vec<Tensor> = tensors?.into_iter().flatten().collect();
        if !tensors.is_empty() {
            return Ok(tensors);
        }
        let place = PLACES.iter().find_map(|place| entries.iter().find(|(name, _)| name.as_ref() == *place));
        let Some((_, inner)) = place else { break };
        id = *inner;
    }
    Err(format!("no state dict in it: neither at the top nor under {}", PLACES.join(", ")))
}

/// The entries of a dict whose keys are text. Of those with the same key the last counts, as in Python.
fn named<'a>(values: &'a Values, entries: &[(Id, Id)]) -> Result<Vec<(&'a Rc<str>, Id)>, String> {
    let (mut named, mut places) = (Vec::<(&Rc<str>, Id)>::new(), HashMap::<_, usize>::new());
    for &(key, value) in entries {
        let Some(name) = text(values, key) else { continue };
        if name.len() > LONGEST_NAME {
            return Err(format!("a name in it has {} bytes, more than any tensor's", name.len()));
        }
        match places.entry(name) {
            Entry::Occupied(place) => named[*place.get()].1 = value,
            Entry::Vacant(place) => {
                place.insert(named.len());
                named.push((name, value));
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
/// `_rebuild_parameter(tensor, …)`; none where it is something else.
fn tensor(values: &Values, name: &Rc<str>, id: Id) -> Result<Option<Tensor>, String> {
    let Value::Call { global, arguments } = values.get(id) else {
        return Ok(None);
    };
    let arguments = list(values, *arguments).unwrap_or_default();
    if global.ends_with("._rebuild_parameter") {
        return match arguments.first() {
            // A tensor comes before what is made of it.
            Some(&inner) if inner < id => tensor(values, name, inner),
            _ => Err(format!("{name}: a parameter of nothing")),
        };
    }
    if !global.starts_with("torch._utils._rebuild_tensor") {
        return Ok(None);
    }
    let found = (|| {
        let &[storage, offset, shape, stride, ..] = arguments else { return None };
        let Value::Persistent(storage) = values.get(storage) else { return None };
        // ("storage", class, key, device, elements)
        let &[_, class, key, ..] = list(values, *storage)? else { return None };
        let Value::Global(class) = values.get(class) else { return None };
        let Value::Int(offset) = values.get(offset) else { return None };
        Some(Tensor {
            name: Rc::clone(name),
            storage: Rc::clone(text(values, key)?),
            kind: Kind::of(class)?,
            offset: usize::try_from(*offset).ok()?,
            shape: sizes(values, shape)?,
            stride: sizes(values, stride)?,
        })
    })();
    found.map(Some).ok_or_else(|| format!("{name}: a tensor of a kind that is not known"))
}

impl Tensor {
    /// Bytes that its elements take in the file, as its shape claims.
    pub fn claims(&self) -> usize {
        self.shape.iter().fold(self.kind.bytes(), |bytes, &size| bytes.saturating_mul(size))
    }

    /// Its elements in order, f64 as f32, and their type.
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
        Ok(match self.kind {
            Kind::As(dtype, _) => (dtype, bytes),
            Kind::F64 => {
                let narrow = |bytes: &[u8; 8]| (f64::from_le_bytes(*bytes) as f32).to_le_bytes();
                (Dtype::F32, bytes.as_chunks::<8>().0.iter().flat_map(narrow).collect())
            }
        })
    }
}
