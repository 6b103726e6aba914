//! A run goes on only with what it began with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pbe::model::container::{Entry, read, write};

use crate::program::{
    assert_says, command, fails, infect, made, model, normalisation_from, purification, resumed, stamp,
    succeeds, wait_for, word,
};

/// Starts the run and kills it once it has written `file` twice.
fn kill(arguments: &[&str], file: &Path) {
    let mut before = stamp(file);
    let mut child = command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..2 {
        wait_for(file, before, &mut child);
        before = stamp(file);
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was done before it was killed");
    assert!(file.exists());
}

fn resume(arguments: &[&str]) -> String {
    fails(&resumed(arguments))
}

/// A data set as an image folder.
fn data(parent: &Path) -> PathBuf {
    let data = parent.join("data");
    let arguments =
        ["poison", "--data", crate::program::DATA, "--attack", "badnets", "--output", word(&data)];
    succeeds(&arguments);
    data
}

#[test]
fn another_model_under_the_same_path_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (path, folder) = (parent.path().join("suspect.safetensors"), parent.path().join("run"));
    fs::copy(model(), &path).unwrap();
    let arguments = purification(&path, &["--output", word(&folder)]);
    kill(&arguments, &folder.join("checkpoint.safetensors"));
    let other = parent.path().join("other");
    infect(&other, &["--attack", "blend", "--seed", "8"]);
    fs::copy(other.join("model.safetensors"), &path).unwrap();
    let before = fs::read(folder.join("checkpoint.safetensors")).unwrap();
    assert_says(&resume(&arguments), &[word(&folder), "the model weights of then and now differ"]);
    assert_eq!(fs::read(folder.join("checkpoint.safetensors")).unwrap(), before);
    // The right one again: the bits of a run that nothing interrupted.
    fs::copy(model(), &path).unwrap();
    succeeds(&["purify", "--resume", word(&folder)]);
    let whole = parent.path().join("whole");
    succeeds(&purification(&path, &["--output", word(&whole)]));
    assert!(made(&whole) == made(&folder));
    // What the run was given stands in its config.toml by now.
    assert_eq!([&whole, &folder].map(|run| normalisation_from(run)), ["file", "config"]);
}

#[test]
fn other_images_under_the_same_path_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (data, folder, model) = (data(parent.path()), parent.path().join("run"), model());
    let mut arguments = vec!["purify", "--model", word(&model), "--data", word(&data), "--set", "batch=16"];
    arguments.extend(["--output", word(&folder)]);
    kill(&arguments, &folder.join("checkpoint.safetensors"));
    let classes: Vec<PathBuf> =
        fs::read_dir(data.join("train")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let exchange = |one: &Path, other: &Path| {
        let aside = data.join("aside");
        fs::rename(one, &aside).unwrap();
        fs::rename(other, one).unwrap();
        fs::rename(&aside, other).unwrap();
    };
    // The folders of two classes changed places.
    exchange(&classes[0], &classes[1]);
    assert_says(&resume(&arguments), &["the training images of then and now differ"]);
    exchange(&classes[0], &classes[1]);
    // An image less.
    let image = fs::read_dir(&classes[0]).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&image).unwrap();
    fs::remove_file(&image).unwrap();
    assert_says(&resume(&arguments), &["the training images of then and now differ"]);
    // A pixel of a test image.
    fs::write(&image, bytes).unwrap();
    let class = fs::read_dir(data.join("test")).unwrap().next().unwrap().unwrap().path();
    let image = fs::read_dir(class).unwrap().next().unwrap().unwrap().path();
    let mut pixels = image::open(&image).unwrap().into_rgb8();
    pixels.get_pixel_mut(0, 0)[0] ^= 1;
    pixels.save(&image).unwrap();
    assert_says(&resume(&arguments), &["the test images of then and now differ"]);
}

#[test]
fn a_repeated_run_says_what_differs() {
    let parent = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| parent.path().join(name));
    let path = parent.path().join("suspect.safetensors");
    fs::copy(model(), &path).unwrap();
    succeeds(&purification(&path, &["--output", word(&one)]));
    let infected = parent.path().join("infected");
    infect(&infected, &["--attack", "blend", "--seed", "8"]);
    fs::copy(infected.join("model.safetensors"), &path).unwrap();
    let config = one.join("config.toml");
    let output = crate::program::run(&["purify", "--config", word(&config), "--output", word(&other)]);
    assert!(output.status.success());
    let stderr = crate::program::text(&output.stderr);
    assert_says(&stderr, &["the model weights differ from those of the run that is repeated"]);
    assert!(!stderr.contains("images differ"), "{stderr}");
}

/// A checkpoint with its metadata changed and its checksum made again would be another program's work; one with
/// anything changed and the checksum as it was is refused.
#[test]
fn a_damaged_checkpoint_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (model, folder) = (model(), parent.path().join("run"));
    let arguments = purification(&model, &["--output", word(&folder)]);
    let checkpoint = folder.join("checkpoint.safetensors");
    kill(&arguments, &checkpoint);
    let sound = fs::read(&checkpoint).unwrap();
    let mut changed: Vec<Vec<u8>> = vec![];
    // A bit of the weights.
    for at in [sound.len() - 1, sound.len() / 2, sound.len() - sound.len() / 4] {
        let mut bytes = sound.clone();
        bytes[at] ^= 4;
        changed.push(bytes);
    }
    for (from, to) in [
        (r#""round":0"#, r#""round":2"#),
        (r#""step":"#, r#""step":1"#),
        (r#""batch":0"#, r#""batch":1000000000"#),
        (r#""epoch":0"#, r#""epoch":9223372036854775808"#),
    ] {
        changed.push(edited(&sound, from, to));
    }
    changed.push(without(&sound, "selected"));
    for bytes in changed {
        assert!(bytes != sound);
        fs::write(&checkpoint, &bytes).unwrap();
        assert_says(&resume(&arguments), &["checkpoint.safetensors", "checksum"]);
        assert!(fs::read(&checkpoint).unwrap() == bytes, "it was written over");
    }
    fs::write(&checkpoint, &sound[..sound.len() - 9]).unwrap();
    assert_says(&resume(&arguments), &["checkpoint.safetensors", "truncated"]);
    fs::write(&checkpoint, sound).unwrap();
    succeeds(&["purify", "--resume", word(&folder)]);
}

/// The file with a text of its metadata changed.
fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (file, mut metadata) = read(bytes).unwrap();
    let text = metadata.get_mut("pbe.checkpoint").unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    *text = text.replacen(from, to, 1);
    written(&file, &metadata, "")
}

/// The file without an array.
fn without(bytes: &[u8], name: &str) -> Vec<u8> {
    let (file, metadata) = read(bytes).unwrap();
    written(&file, &metadata, name)
}

fn written(
    file: &safetensors::SafeTensors,
    metadata: &pbe::model::container::Metadata,
    left_out: &str,
) -> Vec<u8> {
    let tensors = file.tensors();
    let kept = tensors.iter().filter(|(name, _)| name != left_out);
    let entries: Vec<Entry> = kept
        .map(|(name, view)| Entry { name, dtype: view.dtype(), shape: view.shape(), bytes: view.data() })
        .collect();
    write(metadata, &entries)
}
