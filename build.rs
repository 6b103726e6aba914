//! Puts the commit the program is built from into `PBE_COMMIT`, `unknown` outside git or without git; and the kernels'
//! PTX without line tables, compressed, into `OUT_DIR`, with a list of the modules.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// What the program is made of: a change here makes it `-dirty`, and is watched.
const SOURCES: [&str; 5] = ["src", "kernels/ptx", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() -> io::Result<()> {
    for source in SOURCES {
        watch(source);
    }
    let commit = commit().unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=PBE_COMMIT={commit}");
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("no OUT_DIR"))?;
    embed_ptx(Path::new("kernels/ptx"), Path::new(&out))
}

/// Writes the PTX of every module of `folder` without line tables and compressed, and `ptx_modules.rs` with their list.
fn embed_ptx(folder: &Path, out: &Path) -> io::Result<()> {
    let paths: io::Result<Vec<PathBuf>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.sort();
    let mut list = String::new();
    for path in &paths {
        let text = fs::read_to_string(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut compressed = ZlibEncoder::new(vec![], Compression::best());
        compressed.write_all(without_lines(&text).as_bytes())?;
        fs::write(out.join(format!("{name}.ptx.z")), compressed.finish()?)?;
        list += &format!("    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.ptx.z\"))),\n");
    }
    let count = paths.len();
    fs::write(out.join("ptx_modules.rs"), format!("const MODULES: [(&str, &[u8]); {count}] = [\n{list}];\n"))
}

/// PTX without `.loc`, `.file`, labels of line tables, comments and empty lines.
fn without_lines(ptx: &str) -> String {
    let dropped = [".loc", ".file", "//", "$L__tmp", "$L__func_"];
    let kept = ptx
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !dropped.iter().any(|start| line.starts_with(start)));
    kept.flat_map(|line| [line, "\n"]).collect()
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
