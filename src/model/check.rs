//! What is wrong with a file's tensors, all of it in one line.

use super::architecture::Architecture;
use super::layout::{Slot, TensorRole};
use super::sets::TensorInfo;
use safetensors::Dtype;
use std::collections::BTreeMap;

/// Of a longer list this many are named.
const NAMED: usize = 8;

/// Element types a weight may have on disk.
pub const TYPES: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16];

/// Items with commas between; after [`NAMED`] only their number.
pub fn list(items: &[String]) -> String {
    let named = items[..items.len().min(NAMED)].join(", ");
    match items.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// `(10, 128)`.
fn tuple(shape: &[usize]) -> String {
    format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}

/// Compares names, shapes and types with the architecture's. Batch counts may be absent or of any kind.
pub fn tensors(found: &BTreeMap<&str, &TensorInfo>, architecture: &Architecture) -> Result<(), String> {
    let expected = architecture.tensors();
    let (mut missing, mut shapes, mut types) = (vec![], vec![], vec![]);
    for tensor in expected.iter().filter(|tensor| tensor.role != TensorRole::BatchCount) {
        let name = &tensor.name;
        let Some(view) = found.get(name.as_str()) else {
            missing.push(name.clone());
            continue;
        };
        if view.shape != tensor.shape {
            shapes.push(format!("{name} is {}, expected {}", tuple(&view.shape), tuple(&tensor.shape)));
        }
        if !view.dtype.is_some_and(|dtype| TYPES.contains(&dtype)) {
            let dtype = view.dtype.map_or("of another type".into(), |dtype| dtype.to_string());
            types.push(format!("{name} is {dtype}, expected F64, F32, F16 or BF16"));
        }
    }
    let is_expected = |name: &str| expected.iter().any(|tensor| tensor.name == name);
    let extra: Vec<String> =
        found.keys().filter(|name| !is_expected(name)).map(|&name| name.into()).collect();
    let problems: Vec<String> = [
        ("missing: ", missing),
        ("not part of it: ", extra),
        ("wrong shape: ", shapes),
        ("wrong type: ", types),
    ]
    .into_iter()
    .filter(|(_, items)| !items.is_empty())
    .map(|(title, items)| format!("{title}{}", list(&items)))
    .collect();
    if problems.is_empty() {
        return Ok(());
    }
    let Architecture { network, width, classes, channels } = architecture;
    Err(format!(
        "the tensors are not those of a {} of width {width} with {classes} classes and {channels} input \
         channels; {}",
        network.name(),
        problems.join("; ")
    ))
}

/// Refuses NaN, infinities and negative variances; names the first of each tensor.
pub fn values(slots: &[Slot], values: &[f32]) -> Result<(), String> {
    let problems: Vec<String> =
        slots.iter().filter_map(|slot| first_bad_value(slot, &values[slot.range.clone()])).collect();
    if problems.is_empty() { Ok(()) } else { Err(format!("unusable weights: {}", list(&problems))) }
}

fn first_bad_value(slot: &Slot, values: &[f32]) -> Option<String> {
    let variance = slot.tensor.role == TensorRole::RunningVariance;
    let bad = |value: &f32| !value.is_finite() || (variance && *value < 0.0);
    let first = values.iter().position(bad)?;
    let cause = if values[first].is_finite() { " (a variance can't be negative)" } else { "" };
    let others = match values[first + 1..].iter().filter(|value| bad(value)).count() {
        0 => String::new(),
        more => format!(" and {more} more in it"),
    };
    let index: Vec<String> =
        coordinates(first, &slot.tensor.shape).iter().map(|index| index.to_string()).collect();
    Some(format!("{}[{}] is {}{cause}{others}", slot.tensor.name, index.join(", "), values[first]))
}

/// Row-major element number to one index per dimension.
fn coordinates(mut element: usize, shape: &[usize]) -> Vec<usize> {
    let mut coordinates = vec![0; shape.len()];
    for (coordinate, size) in coordinates.iter_mut().zip(shape).rev() {
        *coordinate = element % size;
        element /= size;
    }
    coordinates
}
