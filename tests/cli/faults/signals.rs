//! Signals: a run ends after its batch, with a checkpoint; other commands end at once.

use std::fs;
use std::process::{Command, Stdio};

use crate::program::{
    assert_says, command, error_of, made, model, purification, stamp, succeeds, wait_for, word,
};

use super::limited;

#[test]
fn every_signal_that_ends_leaves_a_checkpoint() {
    let parent = tempfile::tempdir().unwrap();
    let (model, folder) = (model(), parent.path().join("run"));
    let more = ["--set", "rounds.*.clean.epochs=600", "--output", word(&folder)];
    let arguments = purification(&model, &more);
    let resumed = ["purify", "--resume", word(&folder)];
    let checkpoint = folder.join("checkpoint.safetensors");
    // Under `nohup` these tests ignore SIGHUP, and so does the program that they start.
    let hangup = if ignores_hangup() { "-TERM" } else { "-HUP" };
    for (line, signal) in [(&arguments[..], "-TERM"), (&resumed, hangup), (&resumed, "-INT")] {
        let before = stamp(&checkpoint);
        let mut child = command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&checkpoint, before, &mut child);
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let message = error_of(&child.wait_with_output().unwrap(), 130);
        assert_says(&message, &["interrupted", "--resume"]);
    }
    succeeds(&resumed);
    let whole = parent.path().join("whole");
    succeeds(&purification(&model, &[more[0], more[1], "--output", word(&whole)]));
    assert!(made(&whole) == made(&folder));
}

/// Whether SIGHUP, the first signal, is ignored.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 == 1
}

/// `nohup` means that the run goes on.
#[test]
fn a_run_under_nohup_survives_its_terminal() {
    let parent = tempfile::tempdir().unwrap();
    let (model, folder) = (model(), parent.path().join("run"));
    let arguments = purification(&model, &["--output", word(&folder)]);
    let shell = format!("trap '' HUP; exec {} \"$@\"", env!("CARGO_BIN_EXE_pbe"));
    let mut child =
        Command::new("sh").args(["-c", &shell, "sh"]).args(&arguments).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&folder.join("checkpoint.safetensors"), None, &mut child);
    let _ = Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
}

/// A file that grows past the limit is an error like a full disk, with or without the signal ignored.
#[test]
fn a_limit_on_files_is_one_line() {
    let parent = tempfile::tempdir().unwrap();
    let (model, folder) = (model(), parent.path().join("run"));
    let arguments = purification(&model, &["--output", word(&folder)]);
    let output = limited("ulimit -f 8", &arguments);
    assert_says(&error_of(&output, 1), &["checkpoint.safetensors", "can't be written"]);
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["config.toml"], "half a file is left");
    // Nothing is lost, so the folder is free.
    succeeds(&arguments);
}
