//! The same run gives the same bits: twice, with other threads, interrupted, with another truth.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::program::{
    DATA, SMALL, command, error_of, infected, interrupt, json, made, model, normalisation_from, poison,
    purification, read_json, stamp, succeeds, wait_for, without_seconds, word,
};

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    assert!(made(one) == made(other), "the models differ");
    let metrics = |folder: &Path| without_seconds(&folder.join("metrics.csv"));
    assert_eq!(metrics(one), metrics(other));
}

fn infection(output: &Path, epochs: &'static str, threads: &'static str) -> Vec<String> {
    let mut arguments = vec!["infect", "--data", DATA, "--attack", "blend", "--epochs", epochs];
    arguments.extend(SMALL);
    arguments.extend(["--threads", threads, "--seed", "5", "--output", word(output)]);
    arguments.into_iter().map(String::from).collect()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn infect_with_one_and_two_threads() {
    let parent = tempfile::tempdir().unwrap();
    let folders = ["one", "two", "again"].map(|name| parent.path().join(name));
    for (folder, threads) in folders.iter().zip(["1", "2", "2"]) {
        succeeds(&words(&infection(folder, "2", threads)));
    }
    assert_same(&folders[0], &folders[1]);
    assert_same(&folders[1], &folders[2]);
}

#[test]
fn purify_with_one_and_two_threads_and_another_seed() {
    let parent = tempfile::tempdir().unwrap();
    let (model, poison) = (model(), poison());
    let folders = ["one", "two", "again", "other"].map(|name| parent.path().join(name));
    for (folder, (threads, seed)) in folders.iter().zip([("1", "3"), ("2", "3"), ("2", "3"), ("2", "4")]) {
        let more =
            ["--poison", word(&poison), "--threads", threads, "--seed", seed, "--output", word(folder)];
        succeeds(&purification(&model, &[&more[..], &["--set", "initial_set.no_sign=0"]].concat()));
    }
    assert_same(&folders[0], &folders[1]);
    assert_same(&folders[1], &folders[2]);
    assert!(made(&folders[2]) != made(&folders[3]), "the seed decides nothing");
}

/// The list of poisoned images may judge the run, never steer it.
#[test]
fn the_truth_changes_only_the_report() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    succeeds(&["poison", "--data", DATA, "--attack", "badnets", "--output", word(&data)]);
    let path = data.join("poison.json");
    let mut truth = read_json(&path);
    truth["train"]["indices"] = (0..80).collect::<Vec<u32>>().into();
    let lie = data.join("lie.json");
    fs::write(&lie, truth.to_string()).unwrap();
    let (model, folders) = (model(), ["with", "lie", "without"].map(|name| parent.path().join(name)));
    for (folder, truth) in folders.iter().zip([Some(&path), Some(&lie), None]) {
        let mut arguments =
            vec!["purify", "--model", word(&model), "--data", word(&data), "--set", "batch=16"];
        arguments.extend(truth.map(|truth| ["--poison", word(truth)]).into_iter().flatten());
        arguments.extend(["--output", word(folder)]);
        succeeds(&arguments);
    }
    assert!(made(&folders[0]) == made(&folders[1]) && made(&folders[1]) == made(&folders[2]));
    let precision = |folder: &Path| -> Value {
        let result = read_json(folder.join("result.json"));
        result["rounds"][0]["selected_precision"].clone()
    };
    assert_ne!(precision(&folders[0]), precision(&folders[1]));
    assert!(precision(&folders[2]).is_null());
}

/// Starts the run, presses Ctrl-C `pause` milliseconds after it has written `file`, and expects a
/// checkpoint.
fn stop(arguments: &[&str], folder: &Path, file: &str, pause: u64) {
    let before = stamp(&folder.join(file));
    let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&folder.join(file), before, &mut child);
    std::thread::sleep(std::time::Duration::from_millis(pause));
    interrupt(&child);
    let message = error_of(&child.wait_with_output().unwrap(), 130);
    assert!(message.contains("--resume"), "{message}");
    assert!(folder.join("checkpoint.safetensors").exists() && !folder.join("result.json").exists());
}

#[test]
fn infect_interrupted_and_resumed() {
    let parent = tempfile::tempdir().unwrap();
    let (whole, parts) = (parent.path().join("whole"), parent.path().join("parts"));
    let begun = infection(&parts, "60", "2");
    let resumed = ["infect", "--resume", word(&parts)];
    stop(&words(&begun), &parts, "metrics.csv", 3);
    stop(&resumed, &parts, "metrics.csv", 40);
    succeeds(&resumed);
    succeeds(&words(&infection(&whole, "60", "2")));
    assert_same(&whole, &parts);
    // Finished: the result again, nothing computed.
    let again = succeeds(&resumed);
    assert!(again.contains("ACC"), "{again}");
}

/// Once in the mask phase, once among the epochs.
#[test]
fn dynamic_interrupted_and_resumed() {
    let parent = tempfile::tempdir().unwrap();
    let (whole, parts) = (parent.path().join("whole"), parent.path().join("parts"));
    let arguments = |folder: &Path| {
        let mut arguments = vec!["infect", "--data", DATA, "--attack", "dynamic", "--epochs", "40"];
        arguments.extend(SMALL);
        arguments.extend(["--generator-width", "2", "--mask-steps", "150", "--output", word(folder)]);
        arguments.into_iter().map(String::from).collect::<Vec<_>>()
    };
    let begun = arguments(&parts);
    let resumed = ["infect", "--resume", word(&parts)];
    stop(&words(&begun), &parts, "checkpoint.safetensors", 1);
    stop(&resumed, &parts, "metrics.csv", 5);
    succeeds(&resumed);
    succeeds(&words(&arguments(&whole)));
    assert_same(&whole, &parts);
    let generators = |folder: &Path| fs::read(folder.join("dynamic.safetensors")).unwrap();
    assert!(generators(&whole) == generators(&parts), "the generators differ");
}

#[test]
fn purify_interrupted_and_resumed() {
    let parent = tempfile::tempdir().unwrap();
    let (whole, parts) = (parent.path().join("whole"), parent.path().join("parts"));
    let (model, poison) = (model(), poison());
    let arguments = |folder| {
        // Long enough that no pause below outlasts a round, whatever the initial set is.
        let mut longer = vec!["--set", "rounds.*.adversarial.epochs=200"];
        longer.extend(["--set", "rounds.*.clean.epochs=200", "--set", "initial_set.views=[]"]);
        longer.extend(["--set", "initial_set.label_agreement=false"]);
        longer.extend(["--set", "rounds.*.select.label_agreement=false"]);
        let mut arguments = purification(&model, &longer);
        arguments.extend(["--poison", word(&poison), "--output", folder]);
        arguments
    };
    let begun = arguments(word(&parts));
    let resumed = ["purify", "--resume", word(&parts)];
    stop(&begun, &parts, "checkpoint.safetensors", 60);
    stop(&resumed, &parts, "checkpoint.safetensors", 60);
    stop(&resumed, &parts, "metrics.csv", 20);
    succeeds(&resumed);
    succeeds(&arguments(word(&whole)));
    assert_same(&whole, &parts);
}

/// The suspected images are in the checkpoint: later rounds choose by them, and the report counts them.
#[test]
fn a_run_with_suspicion_interrupted_and_resumed() {
    let parent = tempfile::tempdir().unwrap();
    let [infected, whole, parts] = ["infected", "whole", "parts"].map(|name| parent.path().join(name));
    let mut arguments = vec!["infect", "--data", DATA, "--attack", "badnets", "--rate", "0.2"];
    arguments.extend(SMALL);
    succeeds(&[&arguments[..], &["--epochs", "20", "--output", word(&infected)]].concat());
    let model = infected.join("model.safetensors");
    let arguments = |folder| {
        let mut more = vec!["--set", "initial_set.suspicion=0.0001", "--set", "rounds.*.clean.epochs=200"];
        more.extend(["--set", "initial_set.no_sign=0"]);
        more.extend(["--output", folder]);
        purification(&model, &more)
    };
    let resumed = ["purify", "--resume", word(&parts)];
    stop(&arguments(word(&parts)), &parts, "metrics.csv", 20);
    succeeds(&resumed);
    succeeds(&arguments(word(&whole)));
    assert_same(&whole, &parts);
    let result = read_json(parts.join("result.json"));
    assert!(result["detection"]["suspected"].as_u64() > Some(0), "{result}");
}

/// config.toml holds all that a run depends on.
#[test]
fn the_configuration_of_a_run_repeats_it() {
    let parent = tempfile::tempdir().unwrap();
    let (model, poison) = (model(), poison());
    let [first, again, third] = ["first", "again", "third"].map(|name| parent.path().join(name));
    let more = ["--poison", word(&poison), "--seed", "7", "--set", "rounds.1.clean.epochs=2"];
    let one = purification(&model, &[&more[..], &["--output", word(&first)]].concat());
    succeeds(&one);
    let config = first.join("config.toml");
    succeeds(&["purify", "--config", word(&config), "--output", word(&again)]);
    assert_same(&first, &again);
    assert_eq!(fs::read(&config).unwrap(), fs::read(again.join("config.toml")).unwrap());
    assert_eq!([normalisation_from(&first), normalisation_from(&again)], ["file", "config"]);

    let share = ["--clean", "0.5", "--trigger", word(&poison), "--output", word(&third)];
    succeeds(&purification(&model, &share));
    let fourth = parent.path().join("fourth");
    succeeds(&["purify", "--config", word(&third.join("config.toml")), "--output", word(&fourth)]);
    assert_same(&third, &fourth);
    let config = infected().join("config.toml");
    let other = ["purify", "--config", word(&config), "--output", word(&fourth)];
    assert!(super::program::fails(&other).contains("configuration of `pbe infect`"));
}

/// Every option of `pbe infect` is a setting that its config.toml has; an option on the command line wins.
#[test]
fn the_configuration_of_an_infection_repeats_it() {
    let parent = tempfile::tempdir().unwrap();
    let folder = |name: &str| parent.path().join(name);
    let runs: [&[&str]; 3] = [
        &[
            "--attack",
            "sig",
            "--dirty-label",
            "--count",
            "9",
            "--seed",
            "5",
            "--fresh",
            "--no-flip",
            "--crop",
            "1",
        ],
        &["--attack", "none", "--limit", "40", "--schedule", "cosine"],
        &["--attack", "dynamic", "--generator-width", "2", "--mask-steps", "3", "--noise-ratio", "0.5"],
    ];
    for (number, more) in runs.iter().enumerate() {
        let (first, again) = (folder(&format!("first{number}")), folder(&format!("again{number}")));
        let line = ["infect", "--data", DATA, "--epochs", "2", "--output", word(&first)];
        succeeds(&[&line[..], &SMALL, more].concat());
        let config = first.join("config.toml");
        succeeds(&["infect", "--config", word(&config), "--output", word(&again)]);
        assert_same(&first, &again);
        assert_eq!(fs::read(&config).unwrap(), fs::read(again.join("config.toml")).unwrap());
        assert_eq!([normalisation_from(&first), normalisation_from(&again)], ["data set", "config"]);
    }
    let (config, other) = (folder("first0").join("config.toml"), folder("other"));
    let line = ["infect", "--config", word(&config), "--output", word(&other)];
    succeeds(&[&line[..], &["--epochs", "1", "--rate", "0.2", "--flip"]].concat());
    let written = fs::read_to_string(other.join("config.toml")).unwrap();
    super::program::assert_says(&written, &["epochs = 1", "rate = 0.2", "flip = true", "seed = 5"]);
    assert!(!written.contains("count"), "{written}");
    let attack = [&line[..], &["--attack", "blend"]].concat();
    super::program::assert_says(&super::program::fails(&attack), &["--attack blend", "of the attack sig"]);
}

/// Another defence than PBE goes through the same program.
#[test]
fn fine_tuning_is_repeated_and_needs_a_clean_set() {
    let parent = tempfile::tempdir().unwrap();
    let (model, poison) = (model(), poison());
    let [first, again] = ["first", "again"].map(|name| parent.path().join(name));
    let more = ["--defense", "ft", "--set", "train.epochs=2", "--trigger", word(&poison)];
    let refused = purification(&model, &[&more[..], &["--output", word(&first)]].concat());
    assert!(super::program::fails(&refused).contains("needs a clean set"));
    let one = [&refused[..], &["--clean", "0.5"]].concat();
    let result = json(&one);
    assert!(result["rounds"][0]["clean_loss"].is_number() && result["after"]["asr"].is_number());
    succeeds(&["purify", "--config", word(&first.join("config.toml")), "--output", word(&again)]);
    assert_same(&first, &again);
}
