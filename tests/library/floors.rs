//! Imports run downwards: a module names only modules of lower layers, and the method never names the device.

use std::fs;
use std::path::{Path, PathBuf};

/// From low to high; a module may import those of the lines above its own.
const LAYERS: [&[&str]; 9] = [
    &["error", "rng"],
    &["digest", "fs", "map", "memory"],
    &["data"],
    &["device"],
    &["engine", "model"],
    &["eval", "train"],
    &["backdoor", "inputs"],
    &["analysis", "defense"],
    &["report"],
];

/// What stands on everything else, and may open and test devices.
const TOP: [&str; 3] = ["api", "cli", "selftest"];

const DEVICE: usize = 3;
const ENGINE: usize = 4;

#[test]
fn no_import_runs_back_up_or_past_the_next_floor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = vec![];
    let mut seen = 0;
    for file in sources(&root) {
        let path = file.strip_prefix(&root).unwrap();
        let own = modules(path);
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            for target in imports(line, &own) {
                seen += 1;
                // A device's unit tests may take the cases of the self-test.
                if target == "selftest" && path.ends_with("tests.rs") {
                    continue;
                }
                if let Some(fault) = own.first().and_then(|own| fault(own, &target)) {
                    faults.push(format!("src/{}:{}: {fault}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} imports run the wrong way:\n{}", faults.len(), faults.join("\n"));
    assert!(seen > 500, "only {seen} imports found: the walk is broken");
}

/// The engine and what stands on it know a GPU by the trait `Device`; the program on top opens it. (The processor, which
/// is always there, the engine hands on.)
#[test]
fn no_gpu_is_named_above_its_floor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&root) {
        let path = file.strip_prefix(&root).unwrap();
        let own = modules(path);
        let free = own.first().is_none_or(|own| own == "device" || TOP.contains(&own.as_str()));
        if free || path.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // Unit tests at the end of a file may take a device.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for device in ["cuda", "reference"] {
            let named = code.contains(&format!("device::{device}"));
            assert!(!named, "src/{} names device::{device}", path.display());
        }
    }
}

/// Why module `own` may not name `target`; none where it may.
fn fault(own: &str, target: &str) -> Option<String> {
    if own == target || TOP.contains(&own) {
        return None;
    }
    if TOP.contains(&target) {
        return Some(format!("`{own}` imports `{target}`"));
    }
    let (from, to) = (layer(own), layer(target));
    if from == ENGINE && to == ENGINE {
        return None;
    }
    if to >= from {
        return Some(format!("`{own}` imports `{target}`, which isn't below it"));
    }
    (from > ENGINE && to == DEVICE).then(|| format!("`{own}` imports `{target}`, past the engine"))
}

#[track_caller]
fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("`{module}` has no layer: add it to LAYERS"))
}

/// The top-level modules that a line of module `own` names by `crate::`, `pbe::` or `super::`.
fn imports(line: &str, own: &[String]) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    assert!(!code.contains("crate::{"), "one `use` for each module: {line}");
    let mut found = vec![];
    for prefix in ["crate::", "pbe::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                found.extend(identifier(&code[at + prefix.len()..]));
            }
        }
    }
    // As many `super::` as the module has parents lead to the crate; indented lines are of an inner module.
    let up = format!("use {}", "super::".repeat(own.len()));
    found.extend(code.strip_prefix("pub ").unwrap_or(code).strip_prefix(&up).and_then(identifier));
    found
}

/// The module that a path begins with; none where it begins with an item of the crate itself.
fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    let rest = &text[name.len()..];
    (!name.is_empty() && rest.starts_with("::")).then_some(name)
}

/// `defense/pbe.rs` as [defense, pbe].
fn modules(path: &Path) -> Vec<String> {
    let names = path.with_extension("");
    let names = names.iter().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| !["mod", "lib", "main"].contains(&name.as_str())).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
