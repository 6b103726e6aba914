//! What the program survives: files that mean harm, runs that are stopped, raced and damaged.

mod bombs;
mod files;
mod folders;
mod pickles;
mod resumed;
mod signals;

use std::path::Path;
use std::process::{Command, Output};

use super::program::{assert_says, error_of};

/// Runs the program with at most so many kilobytes of memory, and expects exit code 2 and these words.
#[track_caller]
fn refused(kilobytes: u32, arguments: &[&str], says: &[&str]) {
    let output = limited(&format!("ulimit -v {kilobytes}"), arguments);
    assert_says(&error_of(&output, 2), says);
}

/// Runs the program under a limit of the shell.
fn limited(limit: &str, arguments: &[&str]) -> Output {
    let shell = format!("{limit}; exec {} \"$@\"", env!("CARGO_BIN_EXE_pbe"));
    Command::new("sh").args(["-c", &shell, "sh"]).args(arguments).output().unwrap()
}

/// Writes a model file whose header is that of `model`, changed.
fn with_header(model: &Path, path: &Path, change: impl Fn(&mut serde_json::Value)) {
    let bytes = std::fs::read(model).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(&mut header);
    let header = header.to_string().into_bytes();
    let parts = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + length..]];
    std::fs::write(path, parts.concat()).unwrap();
}
