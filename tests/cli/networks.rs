//! The networks beside the pre-activation one, and `infect --init`.

use std::fs;
use std::path::{Path, PathBuf};

use super::program::{DATA, ONE_EPOCH, assert_says, evaluate, fails, json, model, run, succeeds, text, word};

/// A small model of this network, with a backdoor.
fn infect(folder: &Path, data: &str, options: &[&str]) -> PathBuf {
    let output = folder.join("run");
    let mut arguments =
        vec!["infect", "--data", data, "--attack", "badnets", "--rate", "0.2", "--epochs", "1"];
    arguments.extend(["--batch", "16", "--lr", "0.05", "--output", word(&output)]);
    arguments.extend(options);
    succeeds(&arguments);
    output
}

/// A network through the commands that open models.
fn through_the_commands(network: &str, data: &str, width: &str) {
    let folder = tempfile::tempdir().unwrap();
    let infected = infect(folder.path(), data, &["--network", network, "--width", width]);
    let config = fs::read_to_string(infected.join("config.toml")).unwrap();
    assert_says(&config, &[&format!("network = \"{network}\""), &format!("width = {width}")]);
    let (model, poison) = (infected.join("model.safetensors"), infected.join("poison.json"));
    assert_eq!(pbe::model::load(&model).unwrap().architecture.network.name(), network);
    assert_says(&succeeds(&["doctor", "--model", word(&model)]), &[&format!("{network} of width {width}")]);
    let output = folder.path().join("purified");
    let mut arguments = vec!["purify", "--data", data, "--model", word(&model), "--poison", word(&poison)];
    arguments.extend(["--set", "batch=16"]);
    arguments.extend(ONE_EPOCH);
    arguments.extend(["--output", word(&output)]);
    let purified = json(&arguments);
    let (after, copy) = (output.join("model.safetensors"), folder.path().join("copy.safetensors"));
    succeeds(&["convert", "--model", word(&after), "--output", word(&copy)]);
    let evaluated = evaluate(data, &copy, &poison);
    assert_eq!(evaluated["after"]["clean_accuracy"], purified["after"]["clean_accuracy"], "{network}");
}

#[test]
fn resnet_18_is_infected_purified_converted_and_evaluated() {
    through_the_commands("resnet18", DATA, "2");
    through_the_commands("resnet18-small-stem", DATA, "2");
}

#[test]
fn bottlenecks_and_vggs_too() {
    let data = "synthetic:classes=3,per_class=8,test_per_class=3,size=32";
    through_the_commands("resnet50", data, "1");
    through_the_commands("vgg11-bn", data, "2");
    through_the_commands("vgg16-bn-small-head", data, "2");
}

#[test]
fn training_starts_from_a_given_model() {
    let folder = tempfile::tempdir().unwrap();
    let first =
        infect(folder.path(), DATA, &["--network", "resnet18", "--width", "2"]).join("model.safetensors");
    let before = pbe::model::load(&first).unwrap();
    // Steps too short to change a weight: what comes out is what went in, the running statistics apart.
    let still = ["--lr", "1e-30", "--attack", "none", "--epochs", "1", "--batch", "16"];
    let output = folder.path().join("same");
    let mut arguments = vec!["infect", "--data", DATA, "--init", word(&first), "--output", word(&output)];
    arguments.extend(still);
    succeeds(&arguments);
    let same = pbe::model::load(output.join("model.safetensors")).unwrap();
    assert_eq!(same.values[..same.trainable()], before.values[..before.trainable()]);
    // Other data, with two classes: all but the head.
    let output = folder.path().join("other");
    let data = "synthetic:classes=2,per_class=20,test_per_class=5,size=8";
    let mut arguments = vec!["infect", "--data", data, "--init", word(&first), "--output", word(&output)];
    arguments.extend(still);
    let done = run(&arguments);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_says(&text(&done.stderr), &["--init has 4 classes, the data 2: the linear layer is a new one"]);
    let other = pbe::model::load(output.join("model.safetensors")).unwrap();
    assert_eq!(other.architecture.classes, 2);
    for slot in other.layout().slots().iter().filter(|slot| slot.range.start < other.trainable()) {
        let (name, values) = (&slot.tensor.name, &other.values[slot.range.clone()]);
        if name.starts_with("fc.") {
            assert!(values.iter().any(|value| *value != 0.0), "{name}");
        } else {
            assert_eq!(Some(values), before.tensor(name), "{name}");
        }
    }
}

#[test]
fn another_network_than_the_given_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (output, init) = (folder.path().join("run"), model());
    let common =
        ["infect", "--data", DATA, "--attack", "none", "--init", word(&init), "--output", word(&output)];
    let with = |options: &[&'static str]| {
        let mut arguments = common.to_vec();
        arguments.extend(options);
        fails(&arguments)
    };
    let message = with(&["--network", "resnet18"]);
    assert_says(&message, &[word(&init), "is a preact-resnet18 of width 2, not a resnet18 of width 2"]);
    assert_says(&with(&["--width", "3"]), &["not a preact-resnet18 of width 3"]);
    assert!(!output.exists());
    let unknown = run(&["infect", "--data", DATA, "--attack", "none", "--network", "vgg16", "--output", "x"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_says(
        &text(&unknown.stderr),
        &["it is one of preact-resnet18, preact-resnet34, resnet18, resnet34, resnet50"],
    );
}
