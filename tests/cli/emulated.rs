//! The program on an emulated GPU (`emulator/`), and on a machine without a CUDA driver.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::program::{command, text};

/// The names under which a program looks for the driver.
const NAMES: [&str; 2] = ["libcuda.so", "libcuda.so.1"];

/// The program with these arguments, where the driver is what `place` puts under its names.
fn with_driver(arguments: &[&str], folder: &Path) -> Command {
    let mut command = command(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PTX_EMULATOR_")) {
        command.env_remove(name);
    }
    command.env_remove("PBE_PTX_DIR").env("LD_LIBRARY_PATH", folder);
    command
}

/// A folder in which a program finds the emulator under the driver's names.
pub fn emulator() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // Cargo builds it beside the tests, of which it is a dependency.
        let library = std::env::current_exe().unwrap().with_file_name("libptx_emulator.so");
        assert!(library.exists(), "{} is not built", library.display());
        let folder = tempfile::tempdir().unwrap();
        NAMES.iter().for_each(|name| symlink(&library, folder.path().join(name)).unwrap());
        folder
    });
    folder.path()
}

/// The program on the emulator that a folder holds, under these of its settings (`PTX_EMULATOR_…`).
pub fn on_driver(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let settings = settings.iter().map(|(name, value)| (format!("PTX_EMULATOR_{name}"), value));
    let mut command = with_driver(arguments, folder);
    // The PTX with line tables: findings then name lines of the CUDA source.
    command.env("PBE_PTX_DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/ptx")).envs(settings);
    command
}

/// Runs the program with the emulator as its driver, under these of its settings.
pub fn emulated(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    on_driver(emulator(), arguments, settings).output().unwrap()
}

/// Runs the program without a driver. One that the machine has is hidden behind empty files of its
/// name, which nothing can load.
pub fn without_driver(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    NAMES.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
    with_driver(arguments, folder.path()).output().unwrap()
}

/// What the program prints on stdout when it succeeds on the emulator with all checks on.
#[track_caller]
pub fn succeeds_emulated(arguments: &[&str]) -> String {
    success(arguments, &emulated(arguments, &[]))
}

#[track_caller]
pub fn success(arguments: &[&str], output: &Output) -> String {
    let log = text(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {log}");
    assert!(!log.contains("ptx-emulator: "), "{arguments:?}: {log}");
    text(&output.stdout)
}
