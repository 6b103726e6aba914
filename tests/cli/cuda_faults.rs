//! GPU failures: a driver that lacks a function, a launch that fails in the middle of a run, memory that another
//! program takes, NaN. Each ends the run with one line, and the checkpoint before it is kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::emulated::{emulated, emulator, on_driver, success};
use super::program::{
    ONE_EPOCH, assert_says, error_of, made, resumed, succeeds, text, without_seconds, word,
};

/// 24 training and 6 test images, 3 classes, 8x8: three batches of 8 an epoch.
const DATA: &str = "synthetic:classes=3,per_class=8,test_per_class=2,size=8";

/// Arguments of a run in a folder.
fn infection<'a>(output: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments =
        vec!["infect", "--data", DATA, "--attack", "badnets", "--rate", "0.2", "--width", "2"];
    arguments.extend(["--epochs", "3", "--lr", "0.05", "--device", "cuda", "--precision", "f32"]);
    arguments.extend(["--output", word(output)]);
    arguments.extend(more);
    arguments
}

/// Arguments of a purification in a folder: attack, both trainings, a ranking.
fn purification<'a>(model: &'a Path, output: &'a Path) -> Vec<&'a str> {
    let mut arguments = vec!["purify", "--data", DATA, "--model", word(model), "--set", "batch=8"];
    arguments.extend(["--set", "rounds.*.attack.steps=2", "--set", "initial_set.views=[]"]);
    arguments.extend(["--set", "initial_set.attacks=[]", "--device", "cuda", "--precision", "f32"]);
    arguments.extend(["--output", word(output)]);
    arguments.extend(ONE_EPOCH);
    arguments
}

/// On the emulator without its checks, which other tests have on.
fn run(arguments: &[&str], fault: (&str, &str)) -> Output {
    emulated(arguments, &[fault, ("CHECKS", "none")])
}

const NO_FAULT: (&str, &str) = ("SEED", "0");

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    assert!(made(one) == made(other), "the models differ");
    let metrics = |folder: &Path| without_seconds(&folder.join("metrics.csv"));
    assert_eq!(metrics(one), metrics(other));
}

fn checkpoint(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("checkpoint.safetensors")).unwrap()
}

/// A file of patches that make the last value that `kernel` stores NaN.
fn storing_nan(folder: &Path, module: &str, kernel: &str) -> String {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/ptx").join(module);
    let source = fs::read_to_string(module).unwrap();
    let (_, body) = source.split_once(&format!(".entry {kernel}(")).unwrap();
    let body = body.split(".entry ").next().unwrap();
    let value = |store: &str| store.rsplit([' ', ';']).nth(1).unwrap().to_string();
    let stores = || body.lines().map(str::trim).filter(|line| line.starts_with("st.global.f32"));
    // A loss is the last value that comes from f64.
    let loss = |store: &&str| body.contains(&format!("cvt.rn.f32.f64 \t{},", value(store)));
    let store = stores().rfind(loss).or_else(|| stores().next_back()).unwrap();
    let value = value(store);
    let broken = format!("mov.f32 {value}, 0f7FC00000; {store}");
    let patches = folder.join(format!("{kernel}.json"));
    fs::write(&patches, json!([{"kernel": kernel, "find": store, "replace": broken}]).to_string()).unwrap();
    word(&patches).to_string()
}

/// A folder whose driver is the emulator without these functions: they have other names.
fn driver_without(names: &[&str]) -> TempDir {
    let mut library = fs::read(emulator().join("libcuda.so")).unwrap();
    for name in names {
        let entry = [b"\0", name.as_bytes(), b"\0"].concat();
        let places: Vec<usize> = library
            .windows(entry.len())
            .enumerate()
            .filter_map(|(at, window)| (window == entry).then_some(at))
            .collect();
        assert!(!places.is_empty(), "the emulator has no {name}");
        places.into_iter().for_each(|at| library[at + name.len()] = b'X');
    }
    let folder = tempfile::tempdir().unwrap();
    ["libcuda.so", "libcuda.so.1"]
        .iter()
        .for_each(|file| fs::write(folder.path().join(file), &library).unwrap());
    folder
}

#[test]
fn a_driver_that_lacks_a_function_is_refused() {
    for name in ["cuLaunchKernel", "cuMemGetInfo_v2", "cuGetErrorName"] {
        let driver = driver_without(&[name]);
        let on = |arguments: &[&str]| on_driver(driver.path(), arguments, &[]).output().unwrap();
        let message = error_of(&on(&["selftest", "--quick", "--device", "cuda"]), 2);
        let cause = format!("the CUDA driver (libcuda) lacks {name}: it is too old, or not NVIDIA's");
        assert_eq!(message, format!("device cuda:0: {cause}"));
        let auto = on(&["doctor"]);
        assert!(auto.status.success(), "{}", text(&auto.stderr));
        assert_says(&text(&auto.stderr), &["device: cpu: ", &format!("(chosen: {cause}; f32: ")]);
        assert_says(&text(&auto.stdout), &[&cause]);
    }
}

/// Every driver function that a run calls was checked for before: cudarc panics where a function is missing. The
/// dynamic linker's log says which symbols are looked up.
#[test]
fn every_function_that_is_called_is_looked_for_first() {
    let parent = tempfile::tempdir().unwrap();
    let looked_for = |name: &str, arguments: &[&str], setting: (&str, &str)| -> BTreeSet<String> {
        let log = parent.path().join(name);
        let mut command = on_driver(emulator(), arguments, &[setting, ("CHECKS", "none")]);
        command.env("LD_DEBUG", "symbols").env("LD_DEBUG_OUTPUT", &log);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let file = log.with_extension(child.id().to_string());
        child.wait_with_output().unwrap();
        let log = fs::read_to_string(&file).unwrap();
        let symbols = log.lines().filter_map(|line| line.split("symbol=").nth(1)?.split(';').next());
        symbols
            .filter(|name| name.starts_with("cu") && !name.contains('_') || name.ends_with("_v2"))
            .map(String::from)
            .collect()
    };
    // Without a device the check of the library is all that happens.
    let before = looked_for("before", &["doctor"], ("DEVICES", "0"));
    assert!(before.contains("cuLaunchKernel") && before.contains("cuMemGetInfo_v2"), "{before:?}");
    let [infected, purified, failed] =
        ["infected", "purified", "failed"].map(|name| parent.path().join(name));
    let model = infected.join("model.safetensors");
    let profile = ["profile", "--width", "2", "--image-size", "8", "--batch", "2", "--card", "a100"];
    let profile = [&profile[..], &["--device", "cuda"]].concat();
    for (name, arguments, setting) in [
        ("trained", infection(&infected, &["--batch", "8"]), NO_FAULT),
        ("profiled", profile, NO_FAULT),
        ("attacked", purification(&model, &purified), NO_FAULT),
        ("failing", purification(&model, &failed), ("FAIL", "conv_dgrad_pgd_f32_128x16@2")),
    ] {
        let during = looked_for(name, &arguments, setting);
        assert!(during.contains("cuLaunchKernel"), "{name}: {during:?}");
        let missed: Vec<&String> = during.difference(&before).collect();
        assert!(missed.is_empty(), "{name}: probe.rs doesn't look for {missed:?}");
    }
}

/// The fifth of nine steps fails; resumed, the loss is NaN; resumed again, all is well. The checkpoint of the third
/// step survives both failures, and the run ends with the bits of an undisturbed one.
#[test]
fn a_run_resumes_after_a_failed_launch_and_after_nan() {
    let parent = tempfile::tempdir().unwrap();
    let (whole, parts) = (parent.path().join("whole"), parent.path().join("parts"));
    let line = infection(&parts, &["--batch", "8"]);
    let message = error_of(&run(&line, ("FAIL", "sgd@5")), 1);
    assert_says(&message, &["CUDA_ERROR_LAUNCH_FAILED"]);
    assert!(!parts.join("result.json").exists());
    let kept = checkpoint(&parts);

    let patches = storing_nan(parent.path(), "classifier.ptx", "classifier_loss");
    let message = error_of(&run(&resumed(&line), ("PATCHES", &patches)), 1);
    assert_says(&message, &["the loss became NaN in epoch 2 at batch 1"]);
    assert!(checkpoint(&parts) == kept, "the checkpoint isn't the one before");

    success(&line, &run(&resumed(&line), NO_FAULT));
    let line = infection(&whole, &["--batch", "8"]);
    success(&line, &run(&line, NO_FAULT));
    assert_same(&whole, &parts);
}

/// The last step of an epoch makes the weights NaN, which no loss shows. They reach neither the checkpoint nor the
/// model. With test images their logits show it first.
#[test]
fn weights_that_are_nan_are_not_kept() {
    let parent = tempfile::tempdir().unwrap();
    let patches = storing_nan(parent.path(), "optimizer.ptx", "sgd");
    let images = parent.path().join("images");
    succeeds(&["poison", "--data", DATA, "--attack", "badnets", "--output", word(&images)]);
    fs::remove_dir_all(images.join("test")).unwrap();
    for (name, data, cause) in [
        ("tested", DATA, "the logits of image 0 of this pass became NaN"),
        ("untested", word(&images), "the weights became NaN: the checkpoint before is kept"),
    ] {
        let output = parent.path().join(name);
        let mut line = infection(&output, &["--batch", "24"]);
        line[2] = data;
        let message = error_of(&run(&line, ("PATCHES", &patches)), 1);
        assert_says(&message, &[cause]);
        let kept = pbe::model::container::read(&checkpoint(&output)).map(|(file, _)| {
            let weights = file.tensor("weights").unwrap().data().to_vec();
            weights.chunks_exact(4).all(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()).is_finite())
        });
        assert_eq!(kept, Ok(true));
        assert!(!output.join("model.safetensors").exists());
    }
}

/// NaN in the ranking of step 3, where nothing is trained. The checkpoints of the steps before remain.
#[test]
fn a_ranking_that_is_nan_stops_the_run() {
    let parent = tempfile::tempdir().unwrap();
    let (infected, output) = (parent.path().join("infected"), parent.path().join("purified"));
    let line = infection(&infected, &["--batch", "8"]);
    success(&line, &run(&line, NO_FAULT));
    let model = infected.join("model.safetensors");
    let line = purification(&model, &output);
    let patches = storing_nan(parent.path(), "classifier.ptx", "classifier_forward");
    let message = error_of(&run(&line, ("PATCHES", &patches)), 1);
    assert_says(&message, &["the score of image 0 of this pass became NaN"]);
    checkpoint(&output);
    success(&line, &run(&resumed(&line), NO_FAULT));
    assert!(output.join("result.json").exists());
}

/// Another program takes all device memory after the run has begun: the run says so, ends, and can be resumed.
#[test]
fn memory_that_is_taken_after_the_run_was_planned() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    let line = infection(&output, &["--batch", "8", "--force"]);
    // At the first allocation; after the regions have been allocated.
    for (take, what) in [
        ("8G@1", "allocating device memory: CUDA_ERROR_OUT_OF_MEMORY"),
        ("8G@30", "allocating a filter: CUDA_ERROR_OUT_OF_MEMORY"),
    ] {
        let message = error_of(&run(&line, ("OOM", take)), 1);
        assert_says(&message, &[what, "another program has taken some since"]);
        assert!(!output.join("result.json").exists());
    }
    let line = infection(&output, &["--batch", "8"]);
    let resumed = resumed(&line);
    success(&resumed, &run(&resumed, NO_FAULT));
}
