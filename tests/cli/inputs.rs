//! Models and data as people have them: what is guessed is checked against the data, and everything is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::{Rgb, RgbImage};
use pbe::model::container::{Entry, Metadata, read, write};
use safetensors::Dtype;
use serde_json::Value;
use tempfile::TempDir;

use super::program::{ONE_EPOCH, assert_says, fails, made, read_json, run, succeeds, text, word};

/// Classes that a small network learns in a few steps: each has its shade and its stripes.
pub const CLASSES: [&str; 12] = ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11"];

/// Image `index` of a class.
pub fn picture(class: usize, index: usize) -> RgbImage {
    RgbImage::from_fn(12, 12, |x, y| {
        let noise = (x * 7 + y * 13 + index as u32 * 31 + x * y * index as u32) % 23;
        let stripe = if class.is_multiple_of(2) { x } else { y } / (1 + class as u32 / 6) % 2 * 60;
        let shade = 20 + 15 * class as u32 + stripe + noise;
        Rgb([shade as u8, (shade / 2 + 10 * (class as u32 % 3)) as u8, 240u32.wrapping_sub(shade) as u8])
    })
}

/// A part of a data folder: a folder named by `name` for each class, with `count` images.
pub fn part(folder: &Path, count: usize, name: impl Fn(usize) -> String) {
    for class in 0..CLASSES.len() {
        let folder = folder.join(name(class));
        fs::create_dir_all(&folder).unwrap();
        for index in 0..count {
            picture(class, index).save(folder.join(format!("{index:02}.png"))).unwrap();
        }
    }
}

/// The set with training and test parts of these names.
pub fn set(parts: [&str; 2], name: impl Fn(usize) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    part(&folder.path().join(parts[0]), 16, &name);
    part(&folder.path().join(parts[1]), 4, &name);
    folder
}

/// By its name in [`CLASSES`].
pub fn usual(class: usize) -> String {
    CLASSES[class].into()
}

/// A model of the set that was trained with `normalisation`, made once for each.
pub fn trained(normalisation: &'static str) -> PathBuf {
    static FOLDERS: OnceLock<std::sync::Mutex<Vec<(&'static str, TempDir)>>> = OnceLock::new();
    let mut folders = FOLDERS.get_or_init(Default::default).lock().unwrap();
    if let Some((_, folder)) = folders.iter().find(|(name, _)| *name == normalisation) {
        return folder.path().join("run/model.safetensors");
    }
    let (data, folder) = (set(["train", "test"], usual), tempfile::tempdir().unwrap());
    let output = folder.path().join("run");
    succeeds(
        &[
            &["infect", "--attack", "none", "--data", word(data.path()), "--output", word(&output)][..],
            &["--width", "4", "--batch", "16", "--lr", "0.05", "--epochs", "12", "--crop", "0", "--no-flip"],
            &["--normalisation", normalisation],
        ]
        .concat(),
    );
    let model = output.join("model.safetensors");
    folders.push((normalisation, folder));
    model
}

/// The model without what its file says beside the weights.
pub fn bare(model: &Path, folder: &Path) -> PathBuf {
    let bytes = fs::read(model).unwrap();
    let (file, _) = read(&bytes).unwrap();
    let tensors = file.tensors();
    let entries: Vec<Entry> = tensors
        .iter()
        .filter(|(_, tensor)| tensor.dtype() == Dtype::F32)
        .map(|(name, tensor)| Entry { name, dtype: Dtype::F32, shape: tensor.shape(), bytes: tensor.data() })
        .collect();
    let path = folder.join("bare.safetensors");
    fs::write(&path, write(&Metadata::new(), &entries)).unwrap();
    path
}

/// The result of `pbe evaluate`, and what it says meanwhile.
#[track_caller]
pub fn evaluated(model: &Path, data: &Path, more: &[&str]) -> (Value, String) {
    let arguments = [&["evaluate", "--model", word(model), "--data", word(data), "--json"], more].concat();
    let output = run(&arguments);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

fn accuracy(result: &Value) -> f64 {
    result["after"]["clean_accuracy"].as_f64().unwrap()
}

#[test]
fn the_normalisation_is_fitted_whatever_the_classes_are_called() {
    let (data, folder) =
        (set(["train", "test"], |class| format!("kind {class:02}")), tempfile::tempdir().unwrap());
    for normalisation in ["identity", "cifar10-kuangliu", "half"] {
        let model = bare(&trained(normalisation), folder.path());
        let (result, said) = evaluated(&model, data.path(), &[]);
        let inputs = &result["inputs"]["models"][0];
        assert_eq!(
            (&inputs["normalisation"], &inputs["normalisation_from"]),
            (&normalisation.into(), &"fitted".into())
        );
        assert_says(
            &said,
            &[&format!("normalisation {normalisation} (fitted): "), "% of the training images right, next "],
        );
        // As with the normalisation that the file had.
        let (known, said) = evaluated(&trained(normalisation), data.path(), &[]);
        assert_eq!(accuracy(&result), accuracy(&known));
        assert_says(&said, &[&format!("normalisation {normalisation} (file)")]);
        let (given, said) = evaluated(&model, data.path(), &["--normalisation", normalisation]);
        assert_eq!(accuracy(&given), accuracy(&known));
        assert_says(&said, &[&format!("normalisation {normalisation} (option)")]);
        assert!(!said.contains("warning"), "{said}");
    }
}

#[test]
fn another_normalisation_than_the_models_is_noticed() {
    let data = set(["train", "test"], usual);
    let (_, said) = evaluated(&trained("imagenet"), data.path(), &["--normalisation", "identity"]);
    assert_says(&said, &["warning: ", "normalised by identity", "far from what the model was trained on"]);
}

#[test]
fn classes_are_counted_as_text_or_as_numbers_whichever_fits() {
    let folder = tempfile::tempdir().unwrap();
    let model = bare(&trained("half"), folder.path());
    let expected = accuracy(&evaluated(&model, set(["train", "test"], usual).path(), &[]).0);
    assert!(expected > 60.0, "{expected}");
    for name in ["", "class_"] {
        let data = set(["train", "test"], |class| format!("{name}{class}"));
        let (result, said) = evaluated(&model, data.path(), &[]);
        assert_eq!(accuracy(&result), expected);
        assert_says(&said, &["12 classes in number order"]);
        assert_eq!(result["inputs"]["data"]["class_order"], "number order");
        assert_eq!(result["inputs"]["data"]["classes"][10], format!("{name}10"));
        // Settled by a file, which may be wrong.
        let names = folder.path().join("names.txt");
        let listed: Vec<String> = (0..12).map(|class| format!("{name}{}", (class + 5) % 12)).collect();
        fs::write(&names, listed.join("\n")).unwrap();
        let (result, said) = evaluated(&model, data.path(), &["--classes", word(&names)]);
        assert!(accuracy(&result) < 0.5 * expected);
        assert_says(&said, &["names.txt", "warning: ", "no better than a guess"]);
    }
}

#[test]
fn a_run_repeats_with_the_order_that_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let model = bare(&trained("half"), folder.path());
    let data = set(["train", "test"], |class| class.to_string());
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let arguments = ["purify", "--model", word(&model), "--data", word(data.path()), "--clean", "0.5"];
    succeeds(&[&arguments[..], &ONE_EPOCH, &["--set", "batch=16", "--output", word(&first)]].concat());
    let config = first.join("config.toml");
    assert_says(
        &fs::read_to_string(&config).unwrap(),
        &["normalisation = \"0.5,0.5,0.5/0.5,0.5,0.5\"", "classes = [\"0\", \"1\", \"2\""],
    );
    succeeds(&["purify", "--config", word(&config), "--output", word(&second)]);
    assert_eq!(made(&first), made(&second));
}

#[test]
fn a_model_that_nothing_fits_is_not_purified() {
    let folder = tempfile::tempdir().unwrap();
    let model = bare(&trained("half"), folder.path());
    let data = set(["train", "test"], |class| format!("{:02}", (class + 5) % 12));
    let output = folder.path().join("run");
    let message =
        fails(&["purify", "--model", word(&model), "--data", word(data.path()), "--output", word(&output)]);
    assert_says(&message, &["bare.safetensors", "no better than a guess", "--normalisation"]);
    let (_, said) = evaluated(&model, data.path(), &[]);
    assert_says(&said, &["warning: ", "no better than a guess"]);
}

#[test]
fn signs_named_by_numbers_are_not_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    for class in 0..43 {
        let class_folder = folder.path().join("data/train").join(class.to_string());
        fs::create_dir_all(&class_folder).unwrap();
        picture(class % 12, class).save(class_folder.join("0.png")).unwrap();
    }
    let (data, output) = (folder.path().join("data"), folder.path().join("run"));
    succeeds(
        &[
            &["infect", "--attack", "none", "--epochs", "1", "--width", "2"][..],
            &["--data", word(&data), "--output", word(&output)],
        ]
        .concat(),
    );
    assert_says(&fs::read_to_string(output.join("config.toml")).unwrap(), &["flip = false"]);
}

#[test]
fn both_lines_are_there_in_every_command_that_loads() {
    let (data, folder) = (set(["train", "test"], usual), tempfile::tempdir().unwrap());
    let model = trained("half");
    let (model, data) = (word(&model), word(data.path()));
    let [purified, ranking, poisoned] =
        ["purified", "ranking.csv", "poisoned"].map(|name| folder.path().join(name));
    for arguments in [
        vec!["inspect", "--model", model, "--data", data, "--limit", "24"],
        vec!["rank", "--model", model, "--purified", model, "--data", data, "--output", word(&ranking)],
        vec!["poison", "--attack", "badnets", "--data", data, "--output", word(&poisoned)],
        vec![
            "purify",
            "--defense",
            "ft",
            "--clean",
            "0.1",
            "--set",
            "batch=16",
            "--model",
            model,
            "--data",
            data,
            "--output",
            word(&purified),
        ],
    ] {
        let output = run(&arguments);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_says(
            &said,
            &[
                "data: ",
                "192 training images in train/, 48 test images in test/, 12 classes in text order (00, 01, 02, … 11)",
            ],
        );
        if arguments[0] != "poison" {
            assert_says(
                &said,
                &["model: ", "preact-resnet18 of width 4, 12 classes; normalisation half (file)"],
            );
        }
    }
    let result = read_json(purified.join("result.json"));
    let (train, model) = (&result["inputs"]["data"]["train"], &result["inputs"]["models"][0]);
    assert_eq!(
        (&train["folder"], &train["images"], &train["classes"]),
        (&"train".into(), &192.into(), &12.into())
    );
    assert_eq!(train["digest"].as_str().map(str::len), Some(64));
    // What a resumed run compares.
    let config: toml::Table = fs::read_to_string(purified.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!(model["digest"].as_str(), config["digests"]["model_weights"].as_str());
}

/// Networks of the same key names end in the mean over the map or in `avg_pool2d(4)`: from 33 to 56 pixels that isn't the
/// same.
#[test]
fn a_size_that_two_networks_treat_differently_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (own, data) = (trained("half"), set(["train", "test"], usual));
    let model = bare(&own, folder.path());
    for size in ["40", "44", "56"] {
        let arguments = ["evaluate", "--model", word(&model), "--data", word(data.path()), "--size", size];
        assert_says(
            &fails(&arguments),
            &["bare.safetensors", "the first 4x4 pixels", "--size 32", "pbe convert"],
        );
    }
    for size in ["24", "32", "64"] {
        evaluated(&model, data.path(), &["--size", size]);
    }
    // What pbe writes says that it is the mean.
    evaluated(&own, data.path(), &["--size", "40"]);
}
