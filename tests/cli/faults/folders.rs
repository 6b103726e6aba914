//! One run in a folder at a time, and no run is lost.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::program::{
    assert_says, command, error_of, fails, made, model, purification, read_json, resumed, stamp, succeeds,
    text, wait_for, word,
};

fn seed_in_config(folder: &Path) -> i64 {
    let config: toml::Table = fs::read_to_string(folder.join("config.toml")).unwrap().parse().unwrap();
    config["seed"].as_integer().unwrap()
}

fn seed_in_result(folder: &Path) -> i64 {
    let result = read_json(folder.join("result.json"));
    result["seed"].as_i64().unwrap()
}

/// Whichever comes first has the folder; the other is told.
#[test]
fn two_runs_started_together_in_one_folder() {
    let parent = tempfile::tempdir().unwrap();
    let model = model();
    for round in 0..4 {
        let folder = parent.path().join(round.to_string());
        let start = |seed: &'static str| {
            let arguments = purification(&model, &["--seed", seed, "--output", word(&folder)]);
            command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let outputs = [start("1"), start("2")].map(|child| child.wait_with_output().unwrap());
        let winners = outputs.iter().filter(|output| output.status.success()).count();
        let errors = outputs.each_ref().map(|output| text(&output.stderr));
        assert_eq!(winners, 1, "{errors:?}");
        let loser = outputs.iter().find(|output| !output.status.success()).unwrap();
        let stderr = text(&loser.stderr);
        assert_eq!(loser.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("another process") || stderr.contains("seed is"), "{stderr}");
        assert_eq!(seed_in_config(&folder), seed_in_result(&folder));
    }
}

#[test]
fn a_run_is_neither_joined_nor_resumed_while_it_runs() {
    let parent = tempfile::tempdir().unwrap();
    let (model, folder) = (model(), parent.path().join("run"));
    let more = ["--set", "rounds.*.clean.epochs=2000", "--output", word(&folder)];
    let arguments = purification(&model, &more);
    let checkpoint = folder.join("checkpoint.safetensors");
    let before = stamp(&checkpoint);
    let mut child = command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&checkpoint, before, &mut child);
    let forced = [&arguments[..], &["--force"]].concat();
    for again in [arguments.clone(), resumed(&arguments), forced] {
        assert_says(&fails(&again), &[word(&folder), "another process"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(checkpoint.exists());
    // The lock went with the process.
    assert_says(&fails(&arguments), &["checkpoint.safetensors", "--resume", "--force"]);
}

#[test]
fn a_run_is_replaced_only_with_force() {
    let parent = tempfile::tempdir().unwrap();
    let (model, folder) = (model(), parent.path().join("run"));
    let arguments = purification(&model, &["--set", "initial_set.no_sign=0", "--output", word(&folder)]);
    succeeds(&arguments);
    let before = (made(&folder), fs::read(folder.join("result.json")).unwrap());
    assert_says(&fails(&arguments), &[word(&folder), "holds this run already", "--force"]);
    assert_eq!(before, (made(&folder), fs::read(folder.join("result.json")).unwrap()));
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    let other: Vec<&str> = arguments.iter().copied().chain(["--seed", "9", "--force"]).collect();
    succeeds(&other);
    assert!(made(&folder) != before.0 && folder.join("notes.txt").exists());
    assert_eq!((seed_in_config(&folder), seed_in_result(&folder)), (9, 9));
    let both = [&arguments[..], &["--resume", word(&folder)]].concat();
    assert_eq!(crate::program::run(&both).status.code(), Some(2));
}

/// What a killed process was writing goes with the next run.
#[test]
fn leftovers_of_killed_runs_are_removed() {
    let parent = tempfile::tempdir().unwrap();
    let (model, folder) = (model(), parent.path().join("run"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(".checkpoint.safetensors.4711.tmp"), "half").unwrap();
    let arguments = purification(&model, &["--output", word(&folder)]);
    succeeds(&arguments);
    fs::write(folder.join(".model.safetensors.4711.tmp"), "half").unwrap();
    succeeds(&["purify", "--resume", word(&folder)]);
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.to_string_lossy().ends_with(".tmp"), "{name:?}");
    }
}

/// The run failed, the arguments did not: exit code 1.
#[test]
fn a_folder_that_goes_away_in_a_run() {
    let parent = tempfile::tempdir().unwrap();
    let (model, folder) = (model(), parent.path().join("run"));
    let more = ["--set", "rounds.*.clean.epochs=100", "--output", word(&folder)];
    let arguments = purification(&model, &more);
    let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoint = folder.join("checkpoint.safetensors");
    wait_for(&checkpoint, None, &mut child);
    while fs::remove_dir_all(&folder).is_err() {}
    let message = error_of(&child.wait_with_output().unwrap(), 1);
    assert_says(&message, &["checkpoint.safetensors", "can't be written"]);
}
