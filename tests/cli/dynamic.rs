//! The dynamic attack through `infect`, `evaluate`, `purify` and `poison`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::program::{self, DATA, ONE_EPOCH, assert_says, evaluate, fails, made, succeeds, truth, word};

/// Small generators.
const GENERATORS: [&str; 4] = ["--generator-width", "2", "--mask-steps", "3"];

fn infect(output: &Path, options: &[&str]) -> Value {
    program::infect(output, &[&["--attack", "dynamic"], options].concat())
}

fn files(run: &Path) -> [PathBuf; 3] {
    ["model.safetensors", "poison.json", "dynamic.safetensors"].map(|name| run.join(name))
}

#[test]
fn it_is_planted_measured_and_erased() {
    for mode in ["all-to-one", "all-to-all"] {
        let parent = tempfile::tempdir().unwrap();
        let (infected, purified) = (parent.path().join("infected"), parent.path().join("purified"));
        let planted = infect(&infected, &[&GENERATORS[..], &["--label", mode]].concat());
        let [model, poison, generators] = files(&infected);
        let file = truth(&infected);
        assert_eq!((file["attack"].as_str(), file["label"]["mode"].as_str()), (Some("dynamic"), Some(mode)));
        assert_eq!(file["params"]["generators"], "dynamic.safetensors");
        let count = |list: &str| file["train"][list].as_array().unwrap().len();
        assert_eq!((count("indices"), count("noise")), (16, 16));
        assert!(generators.exists() && planted["after"]["asr"].is_f64(), "{planted}");
        assert_eq!(evaluate(DATA, &model, &poison)["after"], planted["after"], "the trigger that was saved");
        let arguments = ["purify", "--data", DATA, "--model", word(&model), "--poison", word(&poison)];
        let rest = ["--set", "batch=16", "--output", word(&purified)];
        succeeds(&[&arguments[..], &ONE_EPOCH, &rest].concat());
    }
}

/// Which images are poisoned, and how the generators are drawn, decide the result; threads don't.
#[test]
fn the_same_run_gives_the_same_bits() {
    let parent = tempfile::tempdir().unwrap();
    let train = |name: &str, options: &[&str]| {
        let output = parent.path().join(name);
        infect(&output, &[&GENERATORS[..], options].concat());
        (made(&output), fs::read(output.join("dynamic.safetensors")).unwrap())
    };
    let one = train("one", &["--threads", "1"]);
    assert!(one == train("two", &["--threads", "2"]));
    let fresh = train("fresh", &["--fresh"]);
    assert!(one.0 != fresh.0 && one.1 != fresh.1);
    assert!(one.1 != train("seed", &["--seed", "1"]).1);
}

/// A limited run numbers images as the whole set does.
#[test]
fn a_cut_of_the_data_is_numbered_as_the_whole() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    infect(&output, &[&GENERATORS[..], &["--limit", "40"]].concat());
    let train = &truth(&output)["train"];
    assert_eq!(train["images"], 80);
    let largest = train["indices"].as_array().unwrap().iter().filter_map(Value::as_u64).max();
    assert!(largest.is_some_and(|index| (40..80).contains(&index)), "{train}");
}

#[test]
fn a_trained_trigger_poisons_other_sets_and_runs() {
    let parent = tempfile::tempdir().unwrap();
    let infected = parent.path().join("infected");
    infect(&infected, &GENERATORS);
    let [model, poison, generators] = files(&infected);
    let stamped = parent.path().join("set");
    let arguments = ["poison", "--data", DATA, "--attack", "dynamic", "--generators", word(&poison)];
    succeeds(&[&arguments[..], &["--rate", "0.2", "--output", word(&stamped)]].concat());
    let file = truth(&stamped);
    assert_eq!((&file["train"]["applied"], &file["attack"]), (&true.into(), &"dynamic".into()));
    assert!(fs::read(stamped.join("dynamic.safetensors")).unwrap() == fs::read(&generators).unwrap());
    let ours = evaluate(DATA, &model, &poison);
    assert_eq!(evaluate(DATA, &model, &stamped.join("poison.json"))["after"], ours["after"]);
    // Another classifier on the images of the trained trigger.
    let again = parent.path().join("again");
    infect(&again, &["--generators", word(&poison)]);
    assert!(fs::read(again.join("dynamic.safetensors")).unwrap() == fs::read(&generators).unwrap());
    assert!(made(&again) != made(&infected));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (output, infected) = (parent.path().join("run"), parent.path().join("infected"));
    infect(&infected, &GENERATORS);
    let [model, poison, _] = files(&infected);
    let odd = "synthetic:classes=4,per_class=20,test_per_class=5,size=9";
    let other = "synthetic:classes=4,per_class=20,test_per_class=5,size=16";
    let plain = super::program::poison();
    let out = ["--output", word(&output)];
    let cases: [(&[&str], &[&str]); 8] = [
        (&["poison", "--data", DATA, "--attack", "dynamic"], &["--generators", "infect"]),
        (
            &["poison", "--data", DATA, "--attack", "sig", "--generators", word(&poison)],
            &["--generators", "dynamic"],
        ),
        (
            &["poison", "--data", DATA, "--attack", "dynamic", "--generators", word(&plain)],
            &["poison.json", "badnets", "not dynamic"],
        ),
        (
            &["poison", "--data", other, "--attack", "dynamic", "--generators", word(&poison)],
            &["8x8x3", "16x16x3"],
        ),
        (&["infect", "--data", odd, "--attack", "dynamic"], &["9x9", "--size"]),
        (&["infect", "--data", DATA, "--attack", "dynamic", "--batch", "1"], &["--batch 1"]),
        (
            &["infect", "--data", DATA, "--attack", "dynamic", "--generator-width", "0"],
            &["generator-width is 0"],
        ),
        (&["infect", "--data", DATA, "--attack", "blend", "--mask-steps", "5"], &["--mask-steps", "dynamic"]),
    ];
    for (arguments, words) in cases {
        assert_says(&fails(&[arguments, &out].concat()), words);
    }
    fs::write(infected.join("dynamic.safetensors"), b"no generators").unwrap();
    let arguments = ["evaluate", "--data", DATA, "--model", word(&model), "--trigger", word(&poison)];
    assert_says(&fails(&arguments), &["dynamic.safetensors", "safetensors file"]);
}
