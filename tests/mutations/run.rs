//! Compiles a module with a mistake, and runs the self-test with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::emulated::{emulator, on_driver};
use super::program::text;
use super::table::{Caught, Mutation, names, sources};

/// What a run of the self-test came to.
struct Outcome {
    /// The emulator's findings.
    findings: Vec<String>,
    /// Names of rows that fail.
    failed: Vec<String>,
}

/// Why the mutation isn't caught as it should be, if it isn't.
pub fn escapes(one: &Mutation) -> Option<String> {
    let mut files = sources(&one.module);
    let modules = one.apply(&mut files).and_then(|()| compile(&one.module, &files));
    let modules = match modules {
        Ok(modules) => modules,
        Err(error) => return Some(format!("{}: {error}", one.label())),
    };
    // Where the order of threads decides what goes wrong, it has to be caught in several.
    let seeds: &[&str] = match one.mistake.as_str() {
        "MissingBarrier" | "DivergentBarrier" | "Race" | "WrongLane" => &["0", "5", "6"],
        _ => &["0"],
    };
    seeds.iter().find_map(|seed| {
        let outcome = match selftest(one, modules.path(), seed) {
            Ok(outcome) => outcome,
            Err(log) => return Some(format!("{}: {log}", one.label())),
        };
        let first = outcome.findings.first().map_or("", String::as_str);
        let (kind, rest) = first.split_once(" in ").unwrap_or_default();
        let kernel = rest.split_once(" at ").unwrap_or_default().0;
        let caught = match &one.caught {
            Caught::Finding { kinds, kernels } => {
                kinds.iter().any(|one| one == kind) && names(kernels, kernel)
            }
            Caught::Row(row) => first.is_empty() && outcome.failed.contains(row),
        };
        let Outcome { failed, .. } = &outcome;
        let seen = format!(
            "{}: seed {seed}, not {:?} but `{first}`, failing rows {failed:?}",
            one.label(),
            one.caught
        );
        (!caught || failed.is_empty()).then_some(seen)
    })
}

/// What fails where a module is compiled as it is, if something does.
pub fn unchanged_fails(one: &Mutation) -> Option<String> {
    let run =
        compile(&one.module, &sources(&one.module)).and_then(|modules| selftest(one, modules.path(), "0"));
    let label = format!("{}.cu as it is, {} {}", one.module, one.precision, one.rows);
    match run {
        Ok(Outcome { findings, failed }) if findings.is_empty() && failed.is_empty() => None,
        Ok(Outcome { findings, failed }) => Some(format!("{label}: {findings:?}, failing rows {failed:?}")),
        Err(log) => Some(format!("{label}: {log}")),
    }
}

/// A folder of all modules, in which this one is what these sources compile to.
fn compile(module: &str, files: &BTreeMap<String, String>) -> Result<TempDir, String> {
    let folder = tempfile::tempdir().unwrap();
    let kernels = folder.path().join("kernels");
    fs::create_dir(&kernels).unwrap();
    files.iter().for_each(|(name, text)| fs::write(kernels.join(name), text).unwrap());
    for entry in fs::read_dir("kernels/ptx").unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let (source, ptx) =
        (kernels.join(module).with_extension("cu"), folder.path().join(format!("{module}.ptx")));
    let output = Command::new("scripts/build_ptx.sh").args([source, ptx]).output().unwrap();
    if output.status.success() { Ok(folder) } else { Err(text(&output.stderr)) }
}

fn selftest(one: &Mutation, modules: &Path, seed: &str) -> Result<Outcome, String> {
    let precision = one.precision.to_string();
    let line =
        ["selftest", "--device", "cuda", "--quick", "--fail-fast", "--json", "--precision", &precision];
    let settings = [("SEED", seed), ("THREADS", "1")];
    let mut command = on_driver(emulator(), &[&line[..], &["--only", &one.rows]].concat(), &settings);
    let output = command.env("PBE_PTX_DIR", modules).output().unwrap();
    let log = text(&output.stderr);
    let findings =
        log.lines().filter_map(|line| line.strip_prefix("ptx-emulator: ")).map(String::from).collect();
    let Ok(document) = serde_json::from_slice::<Value>(&output.stdout) else {
        return Err(log);
    };
    let rows = document["rows"].as_array().unwrap();
    let failed = rows.iter().filter(|row| row["passed"] == false);
    let failed: Vec<String> = failed.map(|row| row["name"].as_str().unwrap().to_string()).collect();
    if output.status.code() != Some(i32::from(!failed.is_empty())) {
        return Err(log);
    }
    Ok(Outcome { findings, failed })
}
