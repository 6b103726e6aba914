//! Compiles a module with a mistake, and runs the self-test with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use pbe::device::Precision;
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
    let modules = one.apply(&mut files).and_then(|()| compile(one, &files));
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

/// What fails where the kernels of a mutation are compiled without it, if something does.
pub fn unchanged_fails(one: &Mutation) -> Option<String> {
    let run = compile(one, &sources(&one.module)).and_then(|modules| selftest(one, modules.path(), "0"));
    let label = format!("{}.cu as it is, {} {}", one.module, one.precision, one.rows);
    match run {
        Ok(Outcome { findings, failed }) if findings.is_empty() && failed.is_empty() => None,
        Ok(Outcome { findings, failed }) => Some(format!("{label}: {findings:?}, failing rows {failed:?}")),
        Err(log) => Some(format!("{label}: {log}")),
    }
}

/// A folder of all modules, in which the kernels of a mutation are what these sources of its module compile to.
fn compile(one: &Mutation, files: &BTreeMap<String, String>) -> Result<TempDir, String> {
    let folder = tempfile::tempdir().unwrap();
    let kernels = folder.path().join("kernels");
    fs::create_dir(&kernels).unwrap();
    let committed = Ptx::parse(&fs::read_to_string(format!("kernels/ptx/{}.ptx", one.module)).unwrap());
    for (name, text) in files {
        fs::write(kernels.join(name), without_other_kernels(text, one, &committed)).unwrap();
    }
    for entry in fs::read_dir("kernels/ptx").unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let (source, ptx) =
        (kernels.join(&one.module).with_extension("cu"), folder.path().join(format!("{}.ptx", one.module)));
    let output = Command::new("scripts/build_ptx.sh").args([&source, &ptx]).output().unwrap();
    if !output.status.success() {
        return Err(text(&output.stderr));
    }
    let made = fs::read_to_string(&ptx).unwrap();
    fs::write(&ptx, committed.added_to(made)).unwrap();
    Ok(folder)
}

/// A source without the kernels that a mutation isn't about: nvcc takes 5 seconds for all of conv.cu. Only those that
/// are a line of their own, a macro with the kernel's name first, are left out.
fn without_other_kernels(source: &str, one: &Mutation, committed: &Ptx) -> String {
    let other_precision = match one.precision {
        Precision::F32 => "_bf16_",
        Precision::Bf16 => "_f32_",
    };
    let needed = |line: &&str| {
        let name = line.split_once("KERNEL(").and_then(|(_, rest)| rest.split(',').next());
        let kernel = name.filter(|name| committed.kernels.contains_key(*name));
        kernel.is_none_or(|kernel| names(&one.kernels, kernel) && !kernel.contains(other_precision))
    };
    source.lines().filter(needed).map(|line| format!("{line}\n")).collect()
}

/// A module's kernels, and the shared memory that several of them use, by name.
struct Ptx {
    shared: BTreeMap<String, String>,
    kernels: BTreeMap<String, String>,
}

impl Ptx {
    /// Leaves out line tables: the numbers of files are the module's own.
    fn parse(text: &str) -> Self {
        let (mut shared, mut kernels) = (BTreeMap::new(), BTreeMap::new());
        let mut kernel: Option<(String, String)> = None;
        for line in text.lines().filter(|line| !line.trim_start().starts_with(".loc")) {
            if let Some(rest) = line.strip_prefix(".visible .entry ") {
                kernel = Some((rest.trim_end_matches('(').to_string(), String::new()));
            } else if line.starts_with(".shared ") {
                let name = line.rsplit(' ').next().unwrap().split('[').next().unwrap();
                shared.insert(name.to_string(), format!("{line}\n"));
            }
            if let Some((_, body)) = &mut kernel {
                *body += line;
                body.push('\n');
            }
            if line == "}" {
                kernels.extend(kernel.take());
            }
        }
        Self { shared, kernels }
    }

    /// The text of a module with what it lacks of this one.
    fn added_to(&self, made: String) -> String {
        let own = Self::parse(&made);
        let lacks = |all: &BTreeMap<String, String>, own: &BTreeMap<String, String>| {
            all.iter().filter(|(name, _)| !own.contains_key(*name)).map(|(_, text)| text.as_str()).collect()
        };
        let more: [String; 2] = [lacks(&self.shared, &own.shared), lacks(&self.kernels, &own.kernels)];
        made + &more.concat()
    }
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
