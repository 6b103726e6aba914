//! Puts the commit the program is built from into `PBE_COMMIT`. Never fails: outside git, or
//! without git, it is `unknown`.

use std::path::Path;
use std::process::Command;

/// What the program is made of: a change here makes it `-dirty`, and is watched.
const SOURCES: [&str; 4] = ["src", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    for source in SOURCES {
        watch(source);
    }
    let commit = commit().unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=PBE_COMMIT={commit}");
}

/// The short hash, with `-dirty` where sources differ from it.
fn commit() -> Option<String> {
    // A copy of the sources inside somebody else's repository has no commit of its own.
    let here = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR")?).canonicalize().ok()?;
    let root = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&root).canonicalize().ok()? != here {
        return None;
    }
    watch_commit();
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let mut status = vec!["status", "--porcelain", "--"];
    status.extend(SOURCES);
    let dirty = if git(&status)?.is_empty() { "" } else { "-dirty" };
    Some(hash + dirty)
}

/// Watches what changes when a commit is made or another is checked out. `--git-path` finds it in
/// a clone and in a worktree, whose `.git` is a file. The branch may be packed, so have no file
/// of its own: the log of HEAD changes all the same.
fn watch_commit() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "logs/HEAD", "packed-refs"].into_iter().map(String::from).chain(branch);
    for name in names {
        if let Some(path) = git(&["rev-parse", "--git-path", &name]) {
            watch(&path);
        }
    }
}

/// Runs the build script again when `path` changes. A path that doesn't exist would run it always.
fn watch(path: &str) {
    if Path::new(path).exists() {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// What git prints; none where it is absent or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}
