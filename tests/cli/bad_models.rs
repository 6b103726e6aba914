//! Model files that are damaged, or don't belong to the data: named, exit code 2.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pbe::model::container::{Entry, Metadata, read, write};
use safetensors::Dtype;

use super::program::{DATA, assert_says, fails, fails_with, model, purification, word};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

/// The small model's tensors, changed, as a file.
fn changed(folder: &Path, change: impl Fn(&mut Tensors)) -> PathBuf {
    let bytes = fs::read(model()).unwrap();
    let (file, _) = read(&bytes).unwrap();
    let mut tensors: Tensors = file
        .tensors()
        .into_iter()
        .filter(|(_, tensor)| tensor.dtype() == Dtype::F32)
        .map(|(name, tensor)| (name, (tensor.shape().to_vec(), tensor.data().to_vec())))
        .collect();
    change(&mut tensors);
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|(name, (shape, bytes))| Entry { name, dtype: Dtype::F32, shape, bytes })
        .collect();
    let path = folder.join("changed.safetensors");
    fs::write(&path, write(&Metadata::new(), &entries)).unwrap();
    path
}

/// The error of measuring the file, which has to be named.
#[track_caller]
fn refusal(path: &Path) -> String {
    let message = fails(&["evaluate", "--model", word(path), "--data", DATA]);
    assert_says(&message, &[word(path)]);
    message
}

#[track_caller]
fn refusal_of(change: impl Fn(&mut Tensors)) -> String {
    let folder = tempfile::tempdir().unwrap();
    refusal(&changed(folder.path(), change))
}

fn set(tensors: &mut Tensors, name: &str, element: usize, value: f32) {
    tensors.get_mut(name).unwrap().1[element * 4..][..4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn an_unchanged_copy_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = changed(folder.path(), |_| ());
    super::program::succeeds(&["evaluate", "--model", word(&path), "--data", DATA]);
}

#[test]
fn a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    refusal(&folder.path().join("absent.safetensors"));
}

#[test]
fn a_truncated_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truncated.safetensors");
    let bytes = fs::read(model()).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    assert_says(&refusal(&path), &["truncated"]);
}

#[test]
fn an_oversized_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oversized.safetensors");
    let mut bytes = fs::read(model()).unwrap();
    bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert_says(&refusal(&path), &["header", "1099511627776"]);
}

#[test]
fn weights_that_are_not_finite() {
    assert_says(&refusal_of(|t| set(t, "conv1.weight", 5, f32::NAN)), &["conv1.weight", "NaN"]);
    assert_says(&refusal_of(|t| set(t, "linear.bias", 1, f32::INFINITY)), &["linear.bias[1]", "inf"]);
}

/// Each weight is finite, the logits aren't: whatever comes upon it names the file.
#[test]
fn logits_that_are_not_finite_name_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = changed(folder.path(), |t| {
        (0..16).for_each(|at| set(t, "linear.weight", at, f32::MAX));
        set(t, "linear.bias", 0, f32::MAX);
    });
    let output = folder.path().join("run");
    for arguments in [
        vec!["evaluate", "--model", word(&path), "--data", DATA],
        vec!["evaluate", "--model", word(&path), "--data", DATA, "--normalisation", "identity"],
        vec!["inspect", "--model", word(&path), "--data", DATA],
        purification(&path, &["--output", word(&output)]),
    ] {
        assert_says(&fails_with(1, &arguments), &[word(&path), "the logits of image", "became"]);
    }
}

#[test]
fn tensors_missing_and_too_many() {
    let message = refusal_of(|tensors| {
        tensors.remove("layer2.0.conv1.weight");
        tensors.remove("linear.bias");
        tensors.insert("fc.weight".into(), (vec![1], vec![0; 4]));
    });
    assert_says(&message, &["missing: layer2.0.conv1.weight, linear.bias", "not part of it: fc.weight"]);
}

#[test]
fn a_transposed_tensor() {
    let message = refusal_of(|tensors| tensors.get_mut("linear.weight").unwrap().0.reverse());
    assert_says(&message, &["linear.weight is (16, 4), expected (4, 16)"]);
}

#[test]
fn another_number_of_classes_than_the_data() {
    let data = "synthetic:classes=3,per_class=5,size=8";
    let path = model();
    let message = fails(&["evaluate", "--model", word(&path), "--data", data]);
    assert_says(&message, &[word(&path), "4 classes", data, "has 3"]);
}

#[test]
fn a_normalisation_for_other_channels() {
    let path = model();
    let arguments = ["evaluate", "--model", word(&path), "--data", DATA, "--normalisation", "0.5/0.5"];
    assert_says(&fails(&arguments), &["1 channels", "3"]);
}
