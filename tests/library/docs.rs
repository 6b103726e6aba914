//! Documents and comments point at files that exist.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose files are named in prose.
const FOLDERS: [&str; 10] = [
    "src/",
    "tests/",
    "kernels/",
    "scripts/",
    "docs/",
    "emulator/",
    "examples/",
    "benches/",
    "bindings/",
    ".ci/",
];

#[test]
fn links_and_file_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = vec![];
    for file in files(root, "", &["md", "rs", "cu", "cuh"]) {
        let text = fs::read_to_string(root.join(&file)).unwrap();
        let folder = file.parent().unwrap();
        let is_markdown = file.extension().is_some_and(|extension| extension == "md");
        let links =
            text.split("](").skip(1).filter(|_| is_markdown).filter_map(|rest| rest.split([')', '#']).next());
        let links =
            links.filter(|link| !link.is_empty() && !link.contains(':')).map(|link| folder.join(link));
        let names = text.split(|c: char| c.is_whitespace() || "`()[],;:'\"".contains(c));
        let names = names.map(|name| name.trim_end_matches(['.', '/'])).filter(|name| is_path(name));
        for path in links.chain(names.map(PathBuf::from)) {
            // The files of the emulator and of the bindings name their own ones from there.
            let places = ["", "emulator", "emulator/tests", "bindings/c", "bindings/python"];
            if !places.iter().any(|place| root.join(place).join(&path).exists()) {
                missing.push(format!("{}: {}", file.display(), path.display()));
            }
        }
    }
    missing.sort();
    missing.dedup();
    assert!(
        missing.is_empty(),
        "{} names of files that aren't there:\n{}",
        missing.len(),
        missing.join("\n")
    );
}

/// Whether a word names a file or folder of the repository; `MODULE.txt` stands for any.
fn is_path(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    plain && !word.contains("MODULE") && FOLDERS.iter().any(|folder| word.starts_with(folder))
}

/// Files with one of these extensions at or under `folder`, without built and hidden ones.
fn files(root: &Path, folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = Path::new(folder).join(&name);
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if root.join(&path).is_dir() {
            found.extend(files(root, path.to_str().unwrap(), extensions));
        } else if path.extension().is_some_and(|e| extensions.contains(&e.to_str().unwrap_or(""))) {
            found.push(path);
        }
    }
    found
}

/// docs/bindings.md shows the programs that are tested.
#[test]
fn the_examples_of_the_bindings_are_the_tested_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/bindings.md")).unwrap();
    for file in ["bindings/c/tests/example.c", "bindings/python/tests/example.py"] {
        assert!(
            page.contains(&fs::read_to_string(root.join(file)).unwrap()),
            "docs/bindings.md isn't {file}"
        );
    }
}
