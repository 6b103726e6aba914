//! Settings that no run can mean, and folders it can't use: refused before anything is computed.

use std::fs;
use std::process::Command;

use super::program::{
    DATA, ONE_EPOCH, SMALL, assert_says, error_of, fails, fails_with, infected, made, model, purification,
    succeeds, word,
};

/// The error of a purification with these settings; no run folder may be left.
#[track_caller]
fn refusal(settings: &[&str]) -> String {
    let parent = tempfile::tempdir().unwrap();
    let (model, output) = (model(), parent.path().join("run"));
    let mut arguments = purification(&model, &["--output", word(&output)]);
    arguments.extend(settings);
    let message = fails(&arguments);
    assert!(!output.exists(), "a run folder is left");
    message
}

#[track_caller]
fn infect_refusal(settings: &[&str]) -> String {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    let mut arguments = vec!["infect", "--data", DATA, "--output", word(&output)];
    if !settings.contains(&"--attack") {
        arguments.extend(["--attack", "badnets"]);
    }
    arguments.extend(settings);
    let message = fails(&arguments);
    assert!(!output.exists(), "a run folder is left");
    message
}

#[test]
fn a_negative_epsilon() {
    let set = |setting: &str| refusal(&["--set", setting]);
    assert_says(&set("rounds.0.attack.epsilon_min=-1"), &["rounds.0.attack.epsilon_min is -1"]);
    assert_says(&set("rounds.*.attack.epsilon_max=-0.5"), &["epsilon_max is -0.5"]);
    assert_says(&set("initial_set.attacks=[{epsilon=-2, steps=3}]"), &["attacks.0.epsilon is -2"]);
}

#[test]
fn a_rate_above_one() {
    assert_says(&infect_refusal(&["--rate", "1.5"]), &["--rate 1.5"]);
    assert_says(&infect_refusal(&["--rate", "-0.1"]), &["--rate -0.1"]);
    assert_says(&infect_refusal(&["--rate", "NaN"]), &["--rate NaN"]);
    assert_says(&infect_refusal(&["--count", "0"]), &["--count 0"]);
    assert_says(&infect_refusal(&["--count", "81"]), &["81 images to poison", "80"]);
    assert_says(&infect_refusal(&["--target", "4"]), &["target class 4", "4 classes"]);
    assert_says(&infect_refusal(&["--attack", "blend", "--alpha", "2"]), &["--alpha 2"]);
}

#[test]
fn a_fraction_of_nothing() {
    assert_says(&refusal(&["--clean", "0"]), &["--clean 0"]);
    assert_says(&refusal(&["--clean", "1.01"]), &["--clean 1.01"]);
    assert_says(&refusal(&["--clean", "0.001"]), &["no image of 80"]);
    assert_says(&refusal(&["--set", "clean=2"]), &["--clean 2 is not above 0 and at most 1", "./2"]);
    assert_says(&refusal(&["--clean", "./0.5"]), &["./0.5"]);
}

#[test]
fn other_settings_out_of_range() {
    let set = |setting: &str| refusal(&["--set", setting]);
    assert_says(&set("rounds.1.select.share=1.2"), &["rounds.1.select.share is 1.2"]);
    assert_says(&set("rounds.0.attack.steps=0"), &["rounds.0.attack.steps is 0"]);
    assert_says(&set("rounds.*.clean.learning_rate=-1"), &["rounds.0.clean.learning_rate is -1"]);
    assert_says(&set("rounds.1.clean.average=1"), &["average is 1"]);
    assert_says(&set("rounds.0.clean.schedule=staircase"), &["staircase"]);
    assert_says(&set("rounds=0"), &["rounds is 0"]);
    assert_says(&set("data.limit=0"), &["limit 0"]);
    assert_says(&infect_refusal(&["--batch", "0"]), &["batch is 0"]);
    assert_says(&infect_refusal(&["--epochs", "0"]), &["epochs is 0"]);
    assert_says(&infect_refusal(&["--width", "0"]), &["--width 0"]);
    assert_says(&infect_refusal(&["--lr", "-0.1"]), &["lr is -0.1"]);
}

/// A slip of a digit must not begin a run of years.
#[test]
fn numbers_without_sense() {
    let set = |setting: &str| refusal(&["--set", setting]);
    let many = "1000000000000";
    let epochs = set(&format!("rounds.0.clean.epochs={many}"));
    assert_says(&epochs, &["rounds.0.clean.epochs is 1000000000000, but must be from 0 to 100000"]);
    assert_says(&set("crop=9"), &["crop is 9, but must be at most 8, the side of the images"]);
    assert_says(&set(&format!("crop={many}")), &["crop is 1000000000000"]);
    for (defense, setting) in [("anp", "iterations"), ("neural-cleanse", "passes"), ("ft", "train.epochs")] {
        let setting = format!("{setting}={many}");
        let message = refusal(&["--clean", "0.5", "--defense", defense, "--set", &setting]);
        assert_says(&message, &["is 1000000000000, but must be from "]);
    }
    assert_says(&infect_refusal(&["--epochs", many]), &["epochs is 1000000000000"]);
    assert_says(&infect_refusal(&["--batch", many]), &["batch is 1000000000000"]);
    assert_says(&infect_refusal(&["--crop", "9"]), &["crop is 9, but must be at most 8"]);
}

/// One of the two would have no effect.
#[test]
fn keys_of_the_run_beside_the_options_that_say_the_same() {
    for (setting, given, option) in [
        ("model=other.safetensors", &[][..], "--model"),
        ("data.path=\"elsewhere\"", &[], "--data"),
        ("seed=3", &["--seed", "4"], "--seed"),
        ("defense=ft", &["--defense", "pbe"], "--defense"),
        ("recipe=paper", &["--recipe", "default"], "--recipe"),
        ("device=cuda", &["--device", "cpu"], "--device"),
        ("precision=bf16", &["--precision", "f32"], "--precision"),
        ("clean=0.1", &["--clean", "0.5"], "--clean"),
        ("clean=elsewhere", &["--clean", "0.5"], "--clean"),
    ] {
        let message = refusal(&[&["--set", setting], given].concat());
        let (key, _) = setting.split_once('=').unwrap();
        assert_says(&message, &[&format!("--set {key} has no effect beside {option}")]);
    }
    let set = |setting: &str| refusal(&["--set", setting]);
    assert_says(&set("version=2"), &["version", "no setting"]);
    assert_says(&set("data=x"), &["--set data", "data.format", "--data"]);
    assert_says(&set("data.height=9"), &["`data.height` and `data.width` belong together"]);
    assert_says(&set("data.limit_seed=9"), &["data.limit_seed has no effect: there is no data.limit"]);
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("rounds.toml");
    fs::write(&file, "[[rounds]]\n[[rounds]]\n").unwrap();
    let three = refusal(&["--set", "rounds=3", "--config", word(&file)]);
    assert_says(&three, &["rounds is 3", "has 2 rounds"]);
}

/// What only the images decide is told at the end, and in the result.
#[test]
fn settings_that_suspicion_leaves_without_an_effect_are_told() {
    let parent = tempfile::tempdir().unwrap();
    let infected = parent.path().join("infected");
    let line = ["infect", "--data", DATA, "--attack", "badnets", "--rate", "0.2", "--epochs", "20"];
    succeeds(&[&line[..], &SMALL, &["--output", word(&infected)]].concat());
    let model = infected.join("model.safetensors");
    for (number, (suspicion, setting, why)) in [
        ("0.0001", "initial_set.views=[]", "the suspected images decide the initial set"),
        ("0.9999", "initial_set.best=0.5", "too few images are suspected to decide the initial set"),
    ]
    .into_iter()
    .enumerate()
    {
        let suspicion = format!("initial_set.suspicion={suspicion}");
        let output = parent.path().join(number.to_string());
        let more = ["--set", &suspicion, "--set", setting, "--output", word(&output), "--json"];
        let ended = super::program::run(&purification(&model, &[&more[..], &ONE_EPOCH].concat()));
        assert!(ended.status.success(), "{}", super::program::text(&ended.stderr));
        let warning = format!("{} had no effect: {why}", setting.split('=').next().unwrap());
        assert_says(&super::program::text(&ended.stderr), &[&format!("warning: {warning}")]);
        let result: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        let warnings: Vec<&str> =
            result["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap()).collect();
        assert!(warnings.contains(&warning.as_str()), "{warnings:?}");
        // 80 images are few.
        assert!(warnings.iter().any(|warning| warning.starts_with("80 training images are few")));
        let page = fs::read_to_string(output.join("report.html")).unwrap();
        assert_says(&page, &["80 training images are few", why]);
    }
}

/// A setting that does nothing would be taken for one that was tried.
#[test]
fn settings_that_are_unknown_or_have_no_effect() {
    let set = |setting: &str| refusal(&["--set", setting]);
    assert_says(&set("rounds.0.clean.epoch=3"), &["rounds.0.clean.epoch is no setting", "epochs"]);
    assert_says(&set("rounds.7.clean.epochs=3"), &["rounds.7", "0 to 1"]);
    assert_says(&set("data.sise=3"), &["sise"]);
    assert_says(&set("rounds.0.adversarial.temperature=3.0"), &["no effect", "nothing is distilled"]);
    let clean = |setting: &str| refusal(&["--clean", "0.5", "--set", setting]);
    assert_says(&clean("initial_set.share=0.5"), &["initial_set.share has no effect", "clean set"]);
    assert_says(&clean("rounds.0.select.share=0.5"), &["no effect", "no images are ranked"]);
    assert_says(&clean("rounds=2"), &["one round"]);

    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("settings.toml");
    for (text, parts) in [
        ("epochs = 3\n", ["epochs is no setting", "batch"]),
        ("[initial_set]\nshare = 0.5\n", ["initial_set.share has no effect", "clean set"]),
        ("[[rounds]]\n[[rounds]]\n", ["one round", "2"]),
        ("model = 3\n", ["settings.toml", "string"]),
        ("data = \"x\"\n", ["settings.toml: invalid type: string \"x\"", "expected a table"]),
        ("defense = 3\n", ["settings.toml", "integer"]),
        ("[data]\nclasses = 3\n", ["settings.toml", "neither a file of class names nor a list"]),
        ("digests = 3\n", ["settings.toml", "integer"]),
        ("= 3\n", ["settings.toml", "not TOML"]),
    ] {
        fs::write(&file, text).unwrap();
        let message = refusal(&["--clean", "0.5", "--config", word(&file)]);
        assert_says(&message, &parts);
        let words = ["struct ", "enum ", "Keys", "Kind", "usize", "PathBuf"];
        assert!(!words.iter().any(|word| message.contains(word)), "{message}");
    }
    assert_says(&refusal(&["--config", word(&parent.path().join("absent.toml"))]), &["absent.toml"]);
}

/// The same of a file of `pbe infect`.
#[test]
fn settings_of_an_infection_that_are_unknown_or_of_another_type() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("settings.toml");
    for (text, parts) in [
        ("epochs = 3\n", ["settings.toml: epochs is no setting", "train.epochs"]),
        ("[train]\nepochs = \"many\"\n", ["settings.toml", "'many' for '--epochs"]),
        ("[train]\nepochs = [3]\n", ["settings.toml", "'[3]' for '--epochs"]),
        ("[train]\nflip = 1\n", ["settings.toml: train.flip is 1", "boolean"]),
        ("[train]\nnesterov = false\n", ["settings.toml: train.nesterov has no effect", "always true"]),
        ("[attack]\nkind = \"bad\"\n", ["settings.toml", "'bad' for '--attack"]),
        ("command = \"purify\"\n", ["settings.toml", "configuration of `pbe purify`"]),
        ("= 3\n", ["settings.toml", "not TOML"]),
    ] {
        fs::write(&file, text).unwrap();
        assert_says(&infect_refusal(&["--config", word(&file)]), &parts);
    }
    assert_says(&infect_refusal(&["--config", word(&parent.path().join("absent.toml"))]), &["absent.toml"]);
}

#[test]
fn a_folder_with_a_different_run() {
    let folder = infected();
    let model = model();
    let before = made(folder);
    let message = fails(&purification(&model, &["--output", word(folder)]));
    assert_says(&message, &[word(folder), "different run", "command is \"infect\" there"]);
    let mut arguments = vec!["infect", "--data", DATA, "--attack", "badnets", "--rate", "0.2"];
    arguments.extend(SMALL);
    arguments.extend(["--epochs", "3", "--output", word(folder)]);
    assert_says(&fails(&arguments), &[word(folder), "train.epochs is 2 there and 3 here"]);
    assert_eq!(made(folder), before);
}

#[test]
fn a_folder_that_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    assert_says(&fails(&purification(&model(), &["--output", word(folder.path())])), &["thesis.tex"]);
    let absent = folder.path().join("absent");
    let message = fails(&purification(&model(), &["--resume", word(&absent)]));
    assert_says(&message, &[word(&absent), "no run to resume"]);
}

/// Root may write anywhere but where nobody can.
#[test]
fn a_folder_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("run");
    assert_says(&fails(&purification(&model(), &["--output", word(&below)])), &[word(&below)]);
    let nowhere = std::path::Path::new("/proc/pbe-run");
    if std::path::Path::new("/proc/self").exists() {
        assert_says(&fails(&purification(&model(), &["--output", word(nowhere)])), &[word(nowhere)]);
    }
}

/// A limit on file sizes stands for a full disk: either way a write fails half way through.
#[test]
fn no_space_left() {
    let parent = tempfile::tempdir().unwrap();
    let (model, output) = (model(), parent.path().join("run"));
    let arguments = purification(&model, &["--output", word(&output)]);
    // Ignored, the signal becomes the error EFBIG; blocks have 512 or 1024 bytes.
    let shell = format!("trap '' XFSZ; ulimit -f 8; exec {} \"$@\"", env!("CARGO_BIN_EXE_pbe"));
    let limited = Command::new("sh").args(["-c", &shell, "sh"]).args(&arguments).output().unwrap();
    let message = error_of(&limited, 1);
    assert_says(&message, &["checkpoint.safetensors", "can't be written"]);
    let rounds = String::from_utf8_lossy(&limited.stderr).contains("round 0");
    assert!(!rounds, "it computed before it found out");
    let names: Vec<_> = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["config.toml"], "half a file is left");
}

#[test]
fn a_loss_that_becomes_nan() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("infected");
    let mut arguments = vec!["infect", "--data", DATA, "--attack", "none", "--epochs", "4"];
    arguments.extend(["--output", word(&output), "--width", "2", "--batch", "16", "--lr", "1e30"]);
    let message = fails_with(1, &arguments);
    assert_says(&message, &["loss became", "epoch 1 at batch"]);
    assert!(output.join("checkpoint.safetensors").exists() && !output.join("model.safetensors").exists());

    let (model, output) = (model(), parent.path().join("purified"));
    let settings = ["--clean", "1", "--set", "rounds.0.clean.learning_rate=1e30", "--output", word(&output)];
    let message = fails_with(1, &purification(&model, &settings));
    assert_says(&message, &["round 0, step 2", "loss became", "epoch 1 at batch"]);
    let kept = fs::read(output.join("checkpoint.safetensors")).unwrap();
    let (file, metadata) = pbe::model::container::read(&kept).unwrap();
    assert!(metadata["pbe.checkpoint"].contains("\"step\":2"), "not the last good one");
    let weights = file.tensor("weights").unwrap();
    let values = weights.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    assert!(values.into_iter().all(f32::is_finite));
}

#[test]
fn usage_errors_have_exit_code_2() {
    for arguments in [&["purify"][..], &["nonsense"], &["infect", "--attack", "nothing"], &["--no-option"]] {
        assert_eq!(super::program::run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    succeeds(&["--version"]);
}

/// Before anything is computed, and without a name of Rust's types.
#[test]
fn files_that_cannot_be_written_and_values_of_another_kind_are_told_at_once() {
    let (parent, model) = (tempfile::tempdir().unwrap(), model());
    let nowhere = parent.path().join("nowhere/out.csv");
    let [model, output, data] = [word(&model), word(&nowhere), DATA];
    for arguments in [
        vec!["inspect", "--model", model, "--data", data, "--output", output],
        vec!["rank", "--model", model, "--purified", model, "--data", data, "--output", output],
        vec!["evaluate", "--model", model, "--data", data, "--predictions", output],
    ] {
        let ended = super::program::run(&arguments);
        assert_says(&error_of(&ended, 2), &["nowhere/out.csv: there is no folder"]);
        assert!(!super::program::text(&ended.stderr).contains("data: "), "it read the data first");
    }
    let model = super::program::model();
    for (setting, says) in
        [("data.limit=-1", "a whole number, 0 or more"), ("rounds.0.attack.steps=-1", "a whole number")]
    {
        let message = fails(&purification(&model, &["--set", setting, "--output", "unused"]));
        assert_says(&message, &[says]);
        assert!(!message.contains("usize"), "{message}");
    }
    let other = parent.path().join("noise.pt");
    fs::write(&other, [7; 300]).unwrap();
    let message = fails(&["evaluate", "--model", word(&other), "--data", DATA]);
    assert_says(&message, &["noise.pt", "neither a safetensors file nor a PyTorch checkpoint"]);
}
