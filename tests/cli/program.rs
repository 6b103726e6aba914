//! Runs the program, and what most tests run it on: a small set, a small infected model.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// 80 training and 20 test images, 4 classes, 8x8.
pub const DATA: &str = "synthetic:classes=4,per_class=20,test_per_class=5,size=8";

/// The arguments of a small model's training.
pub const SMALL: [&str; 6] = ["--width", "2", "--batch", "16", "--lr", "0.05"];

/// An epoch of every training phase of a purification.
pub const ONE_EPOCH: [&str; 4] =
    ["--set", "rounds.*.adversarial.epochs=1", "--set", "rounds.*.clean.epochs=1"];

/// Every image in the initial set.
pub const NO_FILTERS: [&str; 8] = [
    "--set",
    "initial_set.views=[]",
    "--set",
    "initial_set.attacks=[]",
    "--set",
    "initial_set.label_agreement=false",
    "--set",
    "initial_set.suspicion=1",
];

/// The program with these arguments, not yet started.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pbe"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The arguments of the same run that goes on: `--resume` in place of `--output`.
pub fn resumed<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().map(|&word| if word == "--output" { "--resume" } else { word }).collect()
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// What it prints on stdout when it succeeds.
#[track_caller]
pub fn succeeds(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The object that it prints under --json.
#[track_caller]
pub fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeeds(&[arguments, &["--json"]].concat())).unwrap()
}

/// Its error, when it ends with `code`: one line, the last on stderr, and nothing on stdout.
#[track_caller]
pub fn fails_with(code: i32, arguments: &[&str]) -> String {
    error_of(&run(arguments), code)
}

/// As [`fails_with`] for wrong arguments and inputs.
#[track_caller]
pub fn fails(arguments: &[&str]) -> String {
    fails_with(2, arguments)
}

#[track_caller]
pub fn error_of(output: &Output, code: i32) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(text(&output.stdout), "");
    let last = stderr.lines().last().unwrap_or_default();
    let message = last.strip_prefix("pbe: error: ").unwrap_or_else(|| panic!("no error line last: {stderr}"));
    assert_eq!(stderr.matches("pbe: error: ").count(), 1, "{stderr}");
    message.to_string()
}

/// Checks that a message names all that it should.
#[track_caller]
pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A path as an argument.
pub fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The run folder of a small infected model, made once.
pub fn infected() -> &'static Path {
    static FOLDER: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("infected");
        let mut arguments = vec!["infect", "--data", DATA, "--attack", "badnets", "--rate", "0.2"];
        arguments.extend(SMALL);
        arguments.extend(["--epochs", "2", "--output", word(&path)]);
        succeeds(&arguments);
        (folder, path)
    });
    path
}

pub fn model() -> PathBuf {
    infected().join("model.safetensors")
}

pub fn poison() -> PathBuf {
    infected().join("poison.json")
}

/// The arguments of a small purification without `--output`, and `more`.
pub fn purification<'a>(model: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["purify", "--model", word(model), "--data", DATA, "--set", "batch=16"];
    arguments.extend(more);
    arguments
}

/// The lines of a CSV file without its columns of seconds.
pub fn without_seconds(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let kept: Vec<bool> = reader.headers().unwrap().iter().map(|name| !name.starts_with("seconds")).collect();
    let rows = reader.records().map(|row| {
        let row = row.unwrap();
        row.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(cell, _)| cell.to_string()).collect()
    });
    rows.collect()
}

/// What tells a file from the one that replaces it; none where there is none.
pub fn stamp(file: &Path) -> Option<(u64, i64, i64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Waits until `file` has another stamp than `before`, or the program has ended.
pub fn wait_for(file: &Path, before: Option<(u64, i64, i64)>, child: &mut Child) {
    while stamp(file) == before && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Ctrl-C.
pub fn interrupt(child: &Child) {
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
}

/// The model file in a run folder.
pub fn made(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model.safetensors")).unwrap()
}

/// Plants what the options say into a small model for two epochs; returns the result object.
#[track_caller]
pub fn infect(output: &Path, options: &[&str]) -> Value {
    let mut arguments = vec!["infect", "--data", DATA, "--rate", "0.2", "--epochs", "2"];
    arguments.extend(SMALL);
    arguments.extend(options);
    arguments.extend(["--output", word(output)]);
    json(&arguments)
}

/// What `evaluate` measures of a model, with the trigger of a poison.json.
#[track_caller]
pub fn evaluate(data: &str, model: &Path, poison: &Path) -> Value {
    json(&["evaluate", "--data", data, "--model", word(model), "--trigger", word(poison)])
}

/// A file of JSON.
pub fn read_json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The poison.json of a run.
pub fn truth(run: &Path) -> Value {
    read_json(run.join("poison.json"))
}

/// Where the normalisation of a run's model came from, as its result says.
pub fn normalisation_from(folder: &Path) -> String {
    let result = read_json(folder.join("result.json"));
    result["inputs"]["models"][0]["normalisation_from"].as_str().unwrap().into()
}
