//! The defences that need a clean set, through the program.

use std::fs;
use std::process::Stdio;

use super::program::{
    DATA, SMALL, assert_says, command, error_of, fails, infected, interrupt, json, made, model, poison,
    purification, read_json, run, stamp, succeeds, text, wait_for, word,
};

/// Each with settings of a run that takes some seconds.
const DEFENSES: [(&str, &[&str]); 8] = [
    ("ft", &["--set", "train.epochs=150"]),
    ("fine-pruning", &["--set", "train.epochs=150"]),
    ("nad", &["--set", "teacher.epochs=40", "--set", "rest.epochs=60"]),
    ("neural-cleanse", &["--set", "passes=60", "--set", "train.epochs=100"]),
    ("anp", &["--set", "iterations=300"]),
    ("ft-sam", &["--set", "train.epochs=100"]),
    ("fst", &["--set", "train.epochs=150"]),
    ("ban-ft", &["--set", "train.epochs=100"]),
];

#[test]
fn each_goes_on_to_the_same_bits_after_an_interruption() {
    let (parent, model, poison) = (tempfile::tempdir().unwrap(), model(), poison());
    let [whole, parts] = ["whole", "parts"].map(|name| parent.path().join(name));
    for (name, settings) in DEFENSES {
        let (whole, parts) = (whole.join(name), parts.join(name));
        let more = ["--clean", "0.5", "--trigger", word(&poison), "--defense", name];
        let begun = purification(&model, &[&more[..], settings, &["--output", word(&parts)]].concat());
        let mut child = command(&begun).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Two checkpoints: that of the start, and that of the round's first step.
        for _ in 0..2 {
            wait_for(
                &parts.join("checkpoint.safetensors"),
                stamp(&parts.join("checkpoint.safetensors")),
                &mut child,
            );
        }
        interrupt(&child);
        error_of(&child.wait_with_output().unwrap(), 130);
        assert!(!parts.join("result.json").exists(), "{name}");
        succeeds(&["purify", "--resume", word(&parts)]);
        let config = parts.join("config.toml");
        succeeds(&["purify", "--config", word(&config), "--output", word(&whole)]);
        assert_eq!(made(&whole), made(&parts), "{name}");
        assert_ne!(made(&whole), made(infected()), "{name} changed nothing");
        let result = read_json(whole.join("result.json"));
        let resumed = read_json(parts.join("result.json"));
        assert_eq!(resumed["rounds"][0]["notes"], result["rounds"][0]["notes"], "{name}");
        assert!(result["after"]["asr"].is_number() && result["der"].is_number(), "{name}: {result}");
    }
}

#[test]
fn what_they_cannot_work_with_is_refused() {
    let (parent, model) = (tempfile::tempdir().unwrap(), model());
    let output = parent.path().join("run");
    let refusal =
        |more: &[&str]| fails(&purification(&model, &[more, &["--output", word(&output)]].concat()));
    for (name, _) in DEFENSES {
        assert_says(&refusal(&["--defense", name]), &[name, "it needs a clean set"]);
        let paper = ["--defense", name, "--clean", "0.5", "--recipe", "paper"];
        assert_says(&refusal(&paper), &[name, "one recipe"]);
    }
    let unknown = run(&purification(&model, &["--defense", "finetuning", "--output", word(&output)]));
    assert_eq!(unknown.status.code(), Some(2));
    assert_says(&text(&unknown.stderr), &["ft, fine-pruning, nad, neural-cleanse, anp"]);
    for name in ["fine-pruning", "anp"] {
        let few = ["--defense", name, "--clean", "0.03"];
        assert_says(&refusal(&few), &[name, "a clean set of 2 images", "too small: it needs 5"]);
    }
    let idle = ["--defense", "anp", "--clean", "0.5", "--set", "threshold=0.2", "--set", "tolerance=0.2"];
    assert_says(&refusal(&idle), &["tolerance has no effect: the threshold is given"]);
    assert!(!output.exists());
}

/// What was pruned, which triggers were found; where there is none, the model stays as it is.
#[test]
fn decisions_are_told() {
    let (parent, model, poison) = (tempfile::tempdir().unwrap(), model(), poison());
    let notes = |name: &str, more: &[&str]| {
        let output = parent.path().join(name);
        let fixed = ["--clean", "0.5", "--trigger", word(&poison), "--defense", name];
        let result = json(&purification(&model, &[&fixed[..], more, &["--output", word(&output)]].concat()));
        let notes = result["rounds"][0]["notes"].as_array().unwrap().clone();
        notes.iter().map(|note| note.as_str().unwrap().to_string()).collect::<Vec<_>>().join("; ")
    };
    assert_says(
        &notes("fine-pruning", &["--set", "train.epochs=1"]),
        &["of 16 features pruned: accuracy on 8 held-out images"],
    );
    let fixed = ["--set", "iterations=2", "--set", "threshold=0.99"];
    assert_says(&notes("anp", &fixed), &["neurons pruned at the threshold 0.99"]);
    // After one pass no trigger is smaller than the others.
    let said = notes("neural-cleanse", &["--set", "passes=1", "--set", "train.epochs=1"]);
    assert_says(&said, &["sizes of the triggers", "no label's trigger", "the model is as it was"]);
    let unchanged =
        |folder: &std::path::Path| pbe::model::load(folder.join("model.safetensors")).unwrap().values;
    assert_eq!(unchanged(&parent.path().join("neural-cleanse")), unchanged(infected()));
    let result = read_json(parent.path().join("neural-cleanse/result.json"));
    assert_eq!(result["before"], result["after"]);
}

/// γ is zero where fine-pruning and ANP prune, and stays so.
#[test]
fn what_is_pruned_stays_zero() {
    let (parent, model) = (tempfile::tempdir().unwrap(), model());
    let output = parent.path().join("run");
    let more = ["--clean", "0.5", "--defense", "fine-pruning", "--set", "train.epochs=3"];
    let result = json(&purification(
        &model,
        &[&more[..], &["--set", "tolerance=1", "--output", word(&output)]].concat(),
    ));
    let note = result["rounds"][0]["notes"][0].as_str().unwrap().to_string();
    let count: usize = note.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(count, 15, "with every accuracy allowed, all features but one are pruned: {note}");
    let weights = pbe::model::load(output.join("model.safetensors")).unwrap();
    let layout = weights.layout();
    let slot = layout.slots().iter().find(|slot| slot.tensor.name == "linear.weight").unwrap();
    let zeros = weights.values[slot.range.clone()].iter().filter(|&&value| value == 0.0).count();
    assert_eq!(zeros, count * 4);
    assert!(fs::metadata(output.join("config.toml")).is_ok());
}

/// A phase's limit leaves images out, as it does for PBE.
#[test]
fn a_limit_of_a_phase_has_an_effect() {
    let (parent, model) = (tempfile::tempdir().unwrap(), model());
    let run = |name: &str, more: &[&str]| {
        let output = parent.path().join(name);
        let fixed = ["--clean", "0.5", "--set", "train.epochs=2", "--output", word(&output)];
        succeeds(&purification(&model, &[&fixed[..], more].concat()));
        made(&output)
    };
    for name in ["ft", "fst"] {
        let whole = run(&format!("{name}-whole"), &["--defense", name]);
        assert_ne!(whole, run(&format!("{name}-limited"), &["--defense", name, "--set", "train.limit=20"]));
    }
}

/// Eight by eight pixels leave three stages of a pre-activation ResNet with more than one pixel, torchvision's stem one.
#[test]
fn nad_takes_the_stages_that_the_network_has() {
    let parent = tempfile::tempdir().unwrap();
    let infected = parent.path().join("infected");
    let network = ["infect", "--data", DATA, "--attack", "none", "--network", "resnet18", "--epochs", "1"];
    succeeds(&[&network[..], &SMALL, &["--output", word(&infected)]].concat());
    let (model, output) = (infected.join("model.safetensors"), parent.path().join("purified"));
    let fixed = ["--clean", "0.5", "--defense", "nad", "--set", "rest.epochs=1"];
    let line = purification(&model, &[&fixed[..], &["--output", word(&output)]].concat());
    let refused = fails(&[&line[..], &["--set", "betas=[]"]].concat());
    assert_says(&refused, &["betas is empty"]);
    assert!(!output.exists());
    succeeds(&line);
}
