//! PyTorch checkpoints through the program.

use std::fs;
use std::path::{Path, PathBuf};

use pbe::model::container::{Entry, Metadata, read, write};
use safetensors::Dtype;

use super::program::{assert_says, fails, succeeds, word};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[test]
fn a_checkpoint_becomes_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.safetensors");
    let source = golden("checkpoints/training.pth");
    let mut arguments = vec!["convert", "--model", word(&source), "--output", word(&output)];
    arguments.extend(["--normalisation", "0.5,0.5,0.5/0.25,0.25,0.25"]);
    assert_says(&succeeds(&arguments), &["preact-resnet18", "1 classes"]);
    let converted = pbe::model::load(&output).unwrap();
    assert_eq!(converted.values, pbe::model::load(golden("one-class/model.safetensors")).unwrap().values);
    assert!(converted.normalisation.is_some());
    assert_says(&fails(&arguments), &["model.safetensors", "exists already"]);
}

#[test]
fn a_network_is_recognised_by_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    for network in ["resnet50", "vgg11-bn-small-head"] {
        let source = golden("checkpoints").join(format!("{network}.pt"));
        let output = folder.path().join(format!("{network}.safetensors"));
        let said = succeeds(&["convert", "--model", word(&source), "--output", word(&output)]);
        assert_says(&said, &[&format!("{network} of width")]);
        let original = golden("networks").join(network).join("model.safetensors");
        assert_eq!(pbe::model::load(&output).unwrap().values, pbe::model::load(original).unwrap().values);
    }
}

#[test]
fn a_checkpoint_that_would_run_something_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (folder.path().join("evil.pt"), folder.path().join("out.safetensors"));
    let touched = folder.path().join("touched");
    let mut zip = zip::ZipWriter::new(fs::File::create(&model).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("evil/data.pkl", stored).unwrap();
    let command = format!("touch {}", touched.display());
    let pickle =
        [b"\x80\x02cos\nsystem\nX", &(command.len() as u32).to_le_bytes()[..], command.as_bytes(), b"\x85R."];
    std::io::Write::write_all(&mut zip, &pickle.concat()).unwrap();
    zip.finish().unwrap();
    let arguments = ["convert", "--model", word(&model), "--output", word(&output)];
    assert_says(&fails(&arguments), &["evil.pt", "no state dict"]);
    assert!(!output.exists() && !touched.exists());
}

/// `{"net": os.system("true"), ...}` is told, and the weights beside it are read.
#[test]
fn calls_in_a_checkpoint_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (folder.path().join("evil.pt"), folder.path().join("out.safetensors"));
    let mut source = zip::ZipArchive::new(fs::File::open(golden("checkpoints/beside.pth")).unwrap()).unwrap();
    let mut zip = zip::ZipWriter::new(fs::File::create(&model).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for index in 0..source.len() {
        let mut file = source.by_index(index).unwrap();
        let mut bytes = vec![];
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        if file.name().ends_with("data.pkl") {
            // After the version: a call whose result is dropped.
            bytes.splice(2..2, *b"cos\nsystem\nX\x04\0\0\0true\x85R0");
        }
        zip.start_file(file.name(), stored).unwrap();
        std::io::Write::write_all(&mut zip, &bytes).unwrap();
    }
    zip.finish().unwrap();
    let said = succeeds(&["convert", "--model", word(&model), "--output", word(&output)]);
    assert_says(&said, &["weights `netC`", "calls in it that Python would make and pbe doesn't: os.system"]);
}

/// What convert prints for a golden checkpoint, whose weights have to be those of `one-class`.
#[track_caller]
fn converts(name: &str, more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.safetensors");
    let source = golden("checkpoints").join(name);
    let said = succeeds(&[&["convert", "--model", word(&source), "--output", word(&output)], more].concat());
    let original = pbe::model::load(golden("one-class/model.safetensors")).unwrap();
    assert_eq!(pbe::model::load(&output).unwrap().values, original.values, "{name}");
    said
}

#[test]
fn the_weights_are_found_wherever_they_are() {
    for (name, says) in [
        ("beside.pth", "weights `netC`"),
        ("legacy.pth", "weights `net`"),
        ("packed.pth", "1 classes"),
        ("averaged.pth", "without `module._orig_mod.` before their names, not read: n_averaged"),
        ("module.pth", "without `module.` before their names"),
        ("trainer.pth", "weights `trainer.model`, without `module.` before their names"),
        ("training.pth", "weights `net`, without `module.` before their names"),
    ] {
        assert_says(&converts(name, &[]), &[says]);
    }
}

#[test]
fn of_several_sets_of_weights_one_is_taken_and_told() {
    assert_says(
        &converts("ema.pth", &[]),
        &["weights `state_dict_ema` (--weights takes others: state_dict)"],
    );
    converts("ema.pth", &["--weights", "state_dict_ema"]);
    let folder = tempfile::tempdir().unwrap();
    let (source, output) = (golden("checkpoints/ema.pth"), folder.path().join("other.safetensors"));
    let mut arguments =
        vec!["convert", "--model", word(&source), "--output", word(&output), "--weights", "state_dict"];
    assert_says(&succeeds(&arguments), &["weights `state_dict` (--weights takes others: state_dict_ema)"]);
    assert!(pbe::model::load(&output).unwrap().values.iter().all(|value| *value == 0.0));
    arguments[6] = "teacher";
    arguments[4] = "absent";
    assert_says(&fails(&arguments), &["no weights `teacher`", "`state_dict_ema`, `state_dict`"]);
}

/// The tensors of a model, changed, as safetensors bytes.
fn rewritten(change: impl Fn(&str, &[u8]) -> Option<(String, Dtype, Vec<u8>)>) -> Vec<u8> {
    let bytes = fs::read(golden("one-class/model.safetensors")).unwrap();
    let (file, _) = read(&bytes).unwrap();
    let tensors = file.tensors();
    let tensors: Vec<_> = tensors
        .iter()
        .filter(|(_, tensor)| tensor.dtype() == Dtype::F32)
        .filter_map(|(name, tensor)| Some((change(name, tensor.data())?, tensor.shape())))
        .collect();
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|((name, dtype, bytes), shape)| Entry { name, dtype: *dtype, shape, bytes })
        .collect();
    write(&Metadata::new(), &entries)
}

#[test]
fn safetensors_of_f64_with_a_prefix_and_in_shards() {
    let folder = tempfile::tempdir().unwrap();
    let original = pbe::model::load(golden("one-class/model.safetensors")).unwrap().values;
    let double = |bytes: &[u8]| -> Vec<u8> {
        let values = bytes.as_chunks::<4>().0.iter().map(|four| f64::from(f32::from_le_bytes(*four)));
        values.flat_map(f64::to_le_bytes).collect()
    };
    let wide = folder.path().join("wide.safetensors");
    fs::write(&wide, rewritten(|name, bytes| Some((format!("backbone.{name}"), Dtype::F64, double(bytes)))))
        .unwrap();
    let (loaded, origin) = pbe::model::load_set(&wide, None).unwrap();
    assert_eq!((loaded.values, origin.prefix.as_str()), (original.clone(), "backbone."));

    let mut map = serde_json::Map::new();
    for (shard, first) in [("a.safetensors", true), ("b.safetensors", false)] {
        let bytes = rewritten(|name, bytes| {
            (name.starts_with("layer1") == first).then(|| (name.to_string(), Dtype::F32, bytes.to_vec()))
        });
        read(&bytes)
            .unwrap()
            .0
            .names()
            .iter()
            .for_each(|name| drop(map.insert(name.to_string(), shard.into())));
        fs::write(folder.path().join(shard), bytes).unwrap();
    }
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, serde_json::json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    let output = folder.path().join("model.safetensors");
    succeeds(&["convert", "--model", word(&index), "--output", word(&output)]);
    assert_eq!(pbe::model::load(&output).unwrap().values, original);
    fs::remove_file(folder.path().join("b.safetensors")).unwrap();
    fs::remove_file(&output).unwrap();
    assert_says(
        &fails(&["convert", "--model", word(&index), "--output", word(&output)]),
        &["b.safetensors", "No such file"],
    );
    fs::write(&index, r#"{"weight_map": {"conv1.weight": "../a.safetensors"}}"#).unwrap();
    assert_says(
        &fails(&["convert", "--model", word(&index), "--output", word(&output)]),
        &["../a.safetensors", "beside"],
    );
}

#[test]
fn what_is_no_model_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (folder.path().join("model.pth"), folder.path().join("out.safetensors"));
    for (text, says) in [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 44000000\n", "a Git LFS pointer"),
        ("<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>", "an HTML page"),
        ("404: Not Found", "a text file"),
    ] {
        fs::write(&model, text).unwrap();
        assert_says(
            &fails(&["convert", "--model", word(&model), "--output", word(&output)]),
            &["model.pth", says],
        );
    }
}
