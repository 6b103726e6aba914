//! Programs in C with the built library: needs `cc`, `nm` and `valgrind`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use facade::data::Normalisation;
use facade::model::{Architecture, NetworkKind, Weights, load, save};

const DATA: &str = "synthetic:classes=2,per_class=12,test_per_class=4,size=12";

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// The folder of libpbe.so: Cargo builds no such library for its tests.
fn library() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let tests = std::env::current_exe().unwrap();
        let folder = tests.ancestors().nth(2).unwrap();
        let target = folder.parent().unwrap();
        let arguments = ["build", "--quiet", "--locked", "--package", "libpbe"];
        run(Command::new(env!("CARGO")).args(arguments).arg("--target-dir").arg(target));
        folder.into()
    })
}

/// Compiles a program of this folder, strictly, against the shared library.
fn compile(name: &str, folder: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (library, program) = (library().display(), folder.join(name));
    run(Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-I"])
        .arg(here)
        .arg(here.join("tests").join(name).with_extension("c"))
        .args([format!("-L{library}"), format!("-Wl,-rpath,{library}"), "-lpbe".into(), "-o".into()])
        .arg(&program));
    program
}

/// An empty folder below target/.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// A model that says its normalisation, and one that doesn't.
fn models(folder: &Path) -> [PathBuf; 2] {
    let network = NetworkKind::PreActResNet18;
    let mut weights = Weights::initialise(Architecture { network, width: 2, classes: 2, channels: 3 }, 3);
    let [named, nameless] = ["named", "nameless"].map(|name| folder.join(name).with_extension("safetensors"));
    save(&weights, &nameless).unwrap();
    weights.normalisation = Some(Normalisation::identity(3));
    weights.input_size = Some((12, 12));
    save(&weights, &named).unwrap();
    [named, nameless]
}

#[test]
fn the_example_purifies_a_model() {
    let folder = scratch("example");
    let [model, _] = models(&folder);
    let output = folder.join("purified.safetensors");
    let said = run(Command::new(compile("example", &folder))
        .arg(&model)
        .arg(DATA)
        .arg(&output)
        .arg("initial_set.no_sign=0"));
    assert!(String::from_utf8(said.stdout).unwrap().starts_with("infected: "));
    assert!(String::from_utf8(said.stderr).unwrap().contains("\rround 1, "));
    assert_ne!(load(&output).unwrap().values, load(&model).unwrap().values);
}

/// Every function, under valgrind: no access outside, and every handle is freed.
#[test]
fn every_call_does_as_the_header_says() {
    let folder = scratch("calls");
    let [named, nameless] = models(&folder);
    let (program, output) = (compile("calls", &folder), folder.join("purified.safetensors"));
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--quiet",
        "--leak-check=full",
        "--show-leak-kinds=definite",
        "--errors-for-leak-kinds=definite",
        "--error-exitcode=9",
    ]);
    run(valgrind.arg(program).arg(named).arg(nameless).arg(DATA).arg(&output));
    assert_eq!(load(&output).unwrap().architecture.classes, 2);
}

#[test]
fn the_header_has_what_the_library_exports() {
    let header = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pbe.h")).unwrap();
    let names = header.match_indices("pbe_").filter_map(|(at, _)| {
        let end = header[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        header[at + end..].starts_with('(').then(|| header[at..at + end].to_string())
    });
    let declared: BTreeSet<String> = names.collect();
    let nm = run(Command::new("nm").args(["-D", "--defined-only"]).arg(library().join("libpbe.so")));
    let nm = String::from_utf8(nm.stdout).unwrap();
    let exported: BTreeSet<String> =
        nm.lines().filter_map(|line| Some(line.split(' ').nth(2)?.into())).collect();
    assert_eq!(exported, declared);
    assert!(exported.len() >= 20);
}
