//! PyTorch checkpoints through the program.

use std::fs;
use std::path::{Path, PathBuf};

use super::program::{assert_says, fails, succeeds, word};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[test]
fn a_checkpoint_becomes_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.safetensors");
    let source = golden("checkpoints/training.pth");
    let mut arguments = vec!["convert", "--model", word(&source), "--output", word(&output)];
    arguments.extend(["--normalisation", "0.5,0.5,0.5/0.25,0.25,0.25"]);
    assert_says(&succeeds(&arguments), &["preact-resnet18", "1 classes"]);
    let converted = pbe::model::load(&output).unwrap();
    assert_eq!(converted.values, pbe::model::load(golden("one-class/model.safetensors")).unwrap().values);
    assert!(converted.normalisation.is_some());
    assert_says(&fails(&arguments), &["model.safetensors", "exists already"]);
}

#[test]
fn a_network_is_recognised_by_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    for network in ["resnet50", "vgg11-bn-small-head"] {
        let source = golden("checkpoints").join(format!("{network}.pt"));
        let output = folder.path().join(format!("{network}.safetensors"));
        let said = succeeds(&["convert", "--model", word(&source), "--output", word(&output)]);
        assert_says(&said, &[&format!("{network} of width")]);
        let original = golden("networks").join(network).join("model.safetensors");
        assert_eq!(pbe::model::load(&output).unwrap().values, pbe::model::load(original).unwrap().values);
    }
}

#[test]
fn a_checkpoint_that_would_run_something_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (folder.path().join("evil.pt"), folder.path().join("out.safetensors"));
    let mut zip = zip::ZipWriter::new(fs::File::create(&model).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("evil/data.pkl", stored).unwrap();
    std::io::Write::write_all(&mut zip, b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.").unwrap();
    zip.finish().unwrap();
    let arguments = ["convert", "--model", word(&model), "--output", word(&output)];
    assert_says(&fails(&arguments), &["evil.pt", "refused", "`os.system`"]);
    assert!(!output.exists());
}
