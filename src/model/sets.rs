//! The sets of weights in a file: which of its tensors are a network, under which names.

use super::check::list;
use super::file::Origin;
use super::infer::{completeness, infer};
use super::network::NetworkKind;
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    pub shape: Vec<usize>,
    /// None for a type that no weight has.
    pub dtype: Option<Dtype>,
}

/// Tensors that lie together: a state dict, or what an optimizer keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDict {
    /// Keys that lead to it, with dots between.
    pub place: String,
    pub tensors: Vec<TensorInfo>,
}

/// A tensor's type and bytes.
pub type Elements<'a> = (Dtype, Cow<'a, [u8]>);

/// A file with tensors in it.
pub trait TensorFile {
    fn dicts(&self) -> &[TensorDict];

    /// Functions that loading the file in Python would call, beside those that make data.
    fn acting(&self) -> &[String] {
        &[]
    }

    /// The elements of some tensors of a dict, little-endian and in order, with their type.
    fn elements(&self, dict: usize, tensors: &[usize]) -> Result<Vec<Elements<'_>>, String>;
}

/// Where programs put weights, the first before the others: timm loads an average over training where there is one.
const PREFERRED: [&str; 10] = [
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "netC",
];

/// Buffers that tools leave in a state dict and that no network reads.
const TRACES: [&str; 2] = ["total_ops", "total_params"];

/// A network among the tensors of a dict.
#[derive(Clone, Debug)]
pub struct WeightSet {
    pub dict: usize,
    place: String,
    pub prefix: String,
    /// Whether none of its tensors is missing.
    whole: bool,
    /// Places of its tensors in the dict, by their names without the prefix.
    pub tensors: BTreeMap<String, usize>,
    /// Names of others in the dict.
    pub beside: Vec<String>,
}

impl WeightSet {
    /// What `--weights` calls it.
    fn key(&self) -> String {
        match self.prefix.trim_end_matches('.') {
            "" => self.place.clone(),
            prefix if self.place.is_empty() => prefix.to_string(),
            prefix => format!("{}.{prefix}", self.place),
        }
    }

    fn rank(&self) -> usize {
        let last = self.place.rsplit('.').next().unwrap_or_default();
        let rank = |name: &str| PREFERRED.iter().position(|preferred| *preferred == name);
        rank(last).unwrap_or(PREFERRED.len())
    }

    fn is_called(&self, key: &str) -> bool {
        self.key() == key || (self.place == key && !key.is_empty())
    }
}

/// The set that `key` names, else the first of the file, and what is said about it.
///
/// # Errors
/// There is none; none of that name.
pub fn choose(dicts: &[TensorDict], key: Option<&str>) -> Result<(WeightSet, Origin), String> {
    let mut sets: Vec<WeightSet> =
        dicts.iter().enumerate().flat_map(|(at, dict)| sets_of(at, dict)).collect();
    if sets.iter().any(|set| set.whole) {
        sets.retain(|set| set.whole);
    }
    sets.sort_by_key(WeightSet::rank);
    let at = match key {
        Some(key) => sets.iter().position(|set| set.is_called(key)),
        None => Some(0).filter(|_| !sets.is_empty()),
    };
    let Some(at) = at else {
        let keys: Vec<String> = sets.iter().map(|set| format!("`{}`", set.key())).collect();
        return Err(match key {
            Some(key) if !sets.is_empty() => format!("no weights `{key}` in it; it has {}", keys.join(", ")),
            _ => nothing_known(dicts),
        });
    };
    let set = sets.remove(at);
    let origin = Origin {
        weights: set.place.clone(),
        prefix: set.prefix.clone(),
        others: sets.iter().map(WeightSet::key).collect(),
        not_read: set.beside.clone(),
        acting: vec![],
        own: false,
    };
    Ok((set, origin))
}

/// The networks in a dict: one for each prefix behind which most names of a known network stand.
fn sets_of(at: usize, dict: &TensorDict) -> Vec<WeightSet> {
    let mut prefixes: Vec<&str> = vec![];
    for tensor in &dict.tensors {
        for first in NetworkKind::FIRST_TENSORS {
            if let Some(prefix) = tensor.name.strip_suffix(first)
                && (prefix.is_empty() || prefix.ends_with('.'))
                && !prefixes.contains(&prefix)
            {
                prefixes.push(prefix);
            }
        }
    }
    let mut sets = vec![];
    for prefix in prefixes {
        let mut set = WeightSet {
            dict: at,
            place: dict.place.clone(),
            prefix: prefix.into(),
            whole: false,
            tensors: BTreeMap::new(),
            beside: vec![],
        };
        for (index, tensor) in dict.tensors.iter().enumerate() {
            match tensor.name.strip_prefix(prefix) {
                Some(name) if !is_trace(name) => drop(set.tensors.insert(name.into(), index)),
                _ => set.beside.push(tensor.name.clone()),
            }
        }
        let (known, expected) = completeness(|name| set.tensors.contains_key(name));
        set.whole = known == expected;
        if 2 * known >= expected {
            sets.push(set);
        }
    }
    sets
}

/// Whether a name is one that a tool left, or that of a buffer at the top, as `n_averaged` of a weight average.
fn is_trace(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    TRACES.contains(&last) || (!name.contains('.') && !matches!(last, "weight" | "bias"))
}

/// What is said of a file without a network: of its largest dict.
fn nothing_known(dicts: &[TensorDict]) -> String {
    let Some(largest) = dicts.iter().max_by_key(|dict| dict.tensors.len()) else {
        return "no state dict in it: no tensor has a name".into();
    };
    let cause = infer(largest.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())));
    let cause = cause.map_or_else(|error| error.to_string(), |_| String::new());
    let places: Vec<String> =
        dicts.iter().map(|dict| dict.place.clone()).filter(|place| !place.is_empty()).collect();
    match places.len() {
        0 => cause,
        _ => format!("{cause} (tensors lie under {})", list(&places)),
    }
}
