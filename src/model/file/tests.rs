//! Round trips, and every way a file can be wrong.

use super::*;
use crate::model::{NetworkKind, TensorSpec};
use safetensors::SafeTensors;
use std::fs;

fn small(channels: usize) -> Weights {
    let architecture = Architecture { network: NetworkKind::PreActResNet18, width: 2, classes: 5, channels };
    let mut weights = Weights::initialise(architecture, 3);
    weights.normalisation = Some(Normalisation::for_mnist(channels));
    weights.input_size = Some((13, 11));
    weights
}

/// A tensor to be spoilt and written.
struct Raw {
    spec: TensorSpec,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl Raw {
    fn named<'a>(list: &'a mut [Raw], name: &str) -> &'a mut Raw {
        list.iter_mut().find(|raw| raw.spec.name == name).unwrap()
    }
}

/// All tensors of `weights`, in state-dict order, f32.
fn raws(weights: &Weights) -> Vec<Raw> {
    let raw = |spec: TensorSpec| match weights.tensor(&spec.name) {
        Some(values) => {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Raw { spec, dtype: Dtype::F32, bytes }
        }
        None => Raw { spec, dtype: Dtype::I64, bytes: vec![7, 0, 0, 0, 0, 0, 0, 0] },
    };
    weights.architecture.tensors().into_iter().map(raw).collect()
}

fn bytes_of(list: &[Raw], metadata: &[(&str, &str)]) -> Vec<u8> {
    let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let entries: Vec<Entry> = list
        .iter()
        .map(|raw| Entry {
            name: &raw.spec.name,
            dtype: raw.dtype,
            shape: &raw.spec.shape,
            bytes: &raw.bytes,
        })
        .collect();
    container::write(&metadata, &entries)
}

fn parse(bytes: &[u8]) -> std::result::Result<Weights, String> {
    read(bytes, None).map(|(weights, _)| weights)
}

fn refusal(list: &[Raw]) -> String {
    let message = parse(&bytes_of(list, &[])).unwrap_err();
    assert!(!message.contains('\n'));
    message
}

#[test]
fn saves_and_loads_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    for channels in [1, 3] {
        let path = folder.path().join("model.safetensors");
        let weights = small(channels);
        save(&weights, &path).unwrap();
        assert_eq!(load(&path).unwrap(), weights);
        let bytes = fs::read(&path).unwrap();
        save(&weights, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.len(), 102);
        assert_eq!(tensors.tensor("layer4.1.bn2.num_batches_tracked").unwrap().dtype(), Dtype::I64);
    }
}

#[test]
fn reads_halves() {
    let weights = small(3);
    for (dtype, tolerance) in [(Dtype::F16, 5e-4), (Dtype::BF16, 4e-3)] {
        let mut list = raws(&weights);
        for raw in list.iter_mut().filter(|raw| raw.dtype == Dtype::F32) {
            let values = raw.bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
            raw.bytes = match dtype {
                Dtype::F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
                _ => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
            };
            raw.dtype = dtype;
        }
        let read = parse(&bytes_of(&list, &[])).unwrap();
        assert_ne!(read.values, weights.values);
        for (a, b) in read.values.iter().zip(&weights.values) {
            assert!((a - b).abs() <= tolerance * b.abs() + 1e-6, "{a} {b}");
        }
        assert_eq!((read.normalisation, read.input_size), (None, None));
    }
}

#[test]
fn data_parallel_names_and_absent_counts_are_fine() {
    let weights = small(3);
    let mut list = raws(&weights);
    list.retain(|raw| raw.spec.role != TensorRole::BatchCount);
    list.iter_mut().for_each(|raw| raw.spec.name.insert_str(0, "module."));
    assert_eq!(parse(&bytes_of(&list, &[])).unwrap().values, weights.values);
}

#[test]
fn everything_that_does_not_fit_is_named_at_once() {
    let mut list = raws(&small(3));
    list.retain(|raw| !["layer1.0.bn1.bias", "layer2.0.shortcut.0.weight"].contains(&raw.spec.name.as_str()));
    Raw::named(&mut list, "linear.weight").spec.shape = vec![16, 5];
    Raw::named(&mut list, "conv1.weight").spec.shape = vec![3, 3, 3, 2];
    Raw::named(&mut list, "layer1.1.bn1.bias").dtype = Dtype::I32;
    Raw::named(&mut list, "layer3.0.bn1.num_batches_tracked").spec.name = "odd.one".into();
    assert_eq!(
        refusal(&list),
        "the tensors are not those of a preact-resnet18 of width 2 with 5 classes and 3 input channels; \
         missing: layer1.0.bn1.bias, layer2.0.shortcut.0.weight; not part of it: odd.one; wrong shape: \
         conv1.weight is (3, 3, 3, 2), expected (2, 3, 3, 3), linear.weight is (16, 5), expected (5, 16); \
         wrong type: layer1.1.bn1.bias is I32, expected F64, F32, F16 or BF16"
    );
    let mut list = raws(&small(3));
    list.retain(|raw| raw.spec.role != TensorRole::RunningMean);
    assert!(refusal(&list).ends_with("layer2.1.bn2.running_mean and 8 more"), "{}", refusal(&list));
}

#[test]
fn unusable_values_are_named_with_their_place() {
    let mut list = raws(&small(3));
    Raw::named(&mut list, "layer1.0.conv1.weight").bytes[4 * 30..4 * 31]
        .copy_from_slice(&f32::NAN.to_le_bytes());
    let mean = Raw::named(&mut list, "layer1.0.bn2.running_mean");
    mean.bytes = f32::NEG_INFINITY.to_le_bytes().repeat(2);
    Raw::named(&mut list, "layer1.0.bn2.running_var").bytes[4..].copy_from_slice(&(-0.5f32).to_le_bytes());
    assert_eq!(
        refusal(&list),
        "unusable weights: layer1.0.conv1.weight[1, 1, 1, 0] is NaN, layer1.0.bn2.running_mean[0] is -inf and \
         1 more in it, layer1.0.bn2.running_var[1] is -0.5 (a variance can't be negative)"
    );
}

#[test]
fn metadata_must_agree_with_the_tensors() {
    let list = raws(&small(1));
    for (metadata, cause) in [
        (&[("pbe.architecture", "vgg16")][..], "pbe.architecture is vgg16"),
        (&[("pbe.mean", "0.5")], "without the other"),
        (
            &[("pbe.mean", "0.5,0.5,0.5"), ("pbe.std", "1,1,1")],
            "pbe.mean has 3 channels, the first convolution 1",
        ),
        (&[("pbe.mean", "0.5"), ("pbe.std", "0")], "std 0 is not a positive number"),
        (&[("pbe.input", "32")], "pbe.input is 32"),
        (&[("pbe.input", "0x32")], "pbe.input is 0x32"),
    ] {
        let message = parse(&bytes_of(&list, metadata)).unwrap_err();
        assert!(message.contains(cause), "{message}");
    }
    let read = parse(&bytes_of(&list, &[("pbe.input", "28x30"), ("other", "ignored")])).unwrap();
    assert_eq!(read.input_size, Some((28, 30)));
}

#[test]
fn paths_that_are_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, b"").unwrap();
    for (path, cause) in [
        (folder.path().join("absent"), "absent: No such file"),
        (folder.path().to_path_buf(), "is a folder"),
        (empty, "empty: is empty"),
    ] {
        let message = load(&path).unwrap_err().to_string();
        assert!(message.contains(cause), "{message}");
    }
}

#[test]
fn what_could_not_be_loaded_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut weights = small(3);
    weights.values[0] = f32::NAN;
    let message = save(&weights, &path).unwrap_err().to_string();
    assert!(message.contains("conv1.weight[0, 0, 0, 0] is NaN"), "{message}");
    assert!(!path.exists());
}
