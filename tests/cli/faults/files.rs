//! A poison.json that means harm.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::refused;
use crate::program::{DATA, infected, model, poison, truth, word};

/// Refused by every command that reads it.
#[track_caller]
fn trigger_is_refused(file: &Path, says: &[&str]) {
    let (model, output) = (model(), file.with_file_name("run"));
    let common = ["--model", word(&model), "--data", DATA];
    for (command, option) in [("evaluate", "--trigger"), ("purify", "--trigger"), ("purify", "--poison")] {
        let mut arguments = vec![command, option, word(file)];
        arguments.extend(common);
        if command == "purify" {
            arguments.extend(["--output", word(&output)]);
        }
        refused(2_000_000, &arguments, says);
        assert!(!output.exists());
    }
}

fn with(change: impl Fn(&mut serde_json::Value)) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("poison.json");
    let mut truth = truth(infected());
    change(&mut truth);
    fs::write(&path, truth.to_string()).unwrap();
    (folder, path)
}

#[test]
fn a_warp_whose_grid_overflows() {
    for grid in [1u64 << 32, 1 << 63, u64::MAX] {
        let (_folder, path) = with(|truth| {
            truth["attack"] = "wanet".into();
            truth["params"] = json!({"grid": grid, "strength": 0.5, "field": []});
        });
        trigger_is_refused(&path, &["poison.json", "wanet field of 0 values"]);
    }
}

/// Its pictures lie beside it and are files.
#[test]
fn pictures_that_lie_elsewhere_or_are_no_files() {
    for place in ["/etc/passwd", "../badnets-mask.png"] {
        let (_folder, path) = with(|truth| truth["params"]["mask"] = place.into());
        trigger_is_refused(&path, &["poison.json", place, "doesn't lie beside it"]);
    }
    let (folder, path) = with(|truth| truth["params"]["mask"] = "mask.png".into());
    let mask = folder.path().join("mask.png");
    assert!(std::process::Command::new("mkfifo").arg(&mask).status().unwrap().success());
    trigger_is_refused(&path, &["mask.png", "is a pipe or device"]);
    fs::remove_file(&mask).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &mask).unwrap();
    trigger_is_refused(&path, &["mask.png", "is a pipe or device"]);
    fs::remove_file(&mask).unwrap();
    fs::copy(poison(), &mask).unwrap();
    trigger_is_refused(&path, &["mask.png", "not a"]);
}
