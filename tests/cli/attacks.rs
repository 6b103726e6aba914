//! Every attack and label setting through `infect`, `purify`, `poison` and `evaluate`.

use std::fs;
use std::path::Path;

use super::program::{
    DATA, ONE_EPOCH, assert_says, evaluate, fails, infect, made, purification, succeeds, truth, word,
};

/// Purifies the model of a run; its poison.json says how.
fn erase(infected: &Path, output: &Path, more: &[&str]) {
    let (model, poison) = (infected.join("model.safetensors"), infected.join("poison.json"));
    let files = ["--poison", word(&poison), "--output", word(output)];
    succeeds(&purification(&model, &[&files[..], &ONE_EPOCH, more].concat()));
}

#[test]
fn every_attack_is_planted_measured_and_erased() {
    let cases = [
        ("sig", vec!["--attack", "sig", "--target", "1"], "all-to-one"),
        (
            "sig",
            vec!["--attack", "sig", "--dirty-label", "--delta", "20", "--label", "all-to-all"],
            "all-to-all",
        ),
        ("wanet", vec!["--attack", "wanet", "--strength", "1", "--grid", "3"], "all-to-one"),
        ("wanet", vec!["--attack", "wanet", "--label", "all-to-all", "--fresh"], "all-to-all"),
        ("blend", vec!["--attack", "blend", "--label", "all-to-all"], "all-to-all"),
        ("badnets", vec!["--attack", "badnets", "--label", "all-to-all"], "all-to-all"),
    ];
    for (attack, options, mode) in cases {
        let parent = tempfile::tempdir().unwrap();
        let (infected, purified) = (parent.path().join("infected"), parent.path().join("purified"));
        let planted = infect(&infected, &options);
        let file = truth(&infected);
        assert_eq!((file["attack"].as_str(), file["label"]["mode"].as_str()), (Some(attack), Some(mode)));
        assert_eq!(file["train"]["indices"].as_array().unwrap().len(), 16);
        assert!(planted["after"]["asr"].is_f64(), "{planted}");
        let (model, poison) = (infected.join("model.safetensors"), infected.join("poison.json"));
        let evaluated = evaluate(DATA, &model, &poison);
        assert_eq!(evaluated["after"], planted["after"], "{attack} {mode}");
        erase(&infected, &purified, &[]);
    }
}

/// Clean-label SIG leaves every label as it is: all poisoned images are of the target class.
#[test]
fn sig_poisons_the_target_class_alone() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("set");
    let arguments = ["poison", "--data", DATA, "--attack", "sig", "--target", "2", "--rate", "0.2"];
    succeeds(&[&arguments[..], &["--output", word(&output)]].concat());
    let file = truth(&output);
    let mut classes: Vec<_> =
        fs::read_dir(output.join("train")).unwrap().map(|e| e.unwrap().path()).collect();
    classes.sort();
    let counts: Vec<usize> = classes.iter().map(|class| fs::read_dir(class).unwrap().count()).collect();
    assert_eq!(counts, [20; 4]);
    let indices: Vec<u64> =
        file["train"]["indices"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap()).collect();
    assert_eq!(indices.len(), 16);
    assert!(indices.iter().all(|index| (40..60).contains(index)), "{indices:?}");
}

/// The noise images of a cut are made again to the same pixels by whoever reads poison.json.
#[test]
fn wanets_noise_images_of_a_limited_set_are_the_same_for_all() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    infect(&output, &["--attack", "wanet", "--limit", "40"]);
    let file = truth(&output);
    let noise = file["train"]["noise"].as_array().unwrap();
    assert_eq!((noise.len(), file["train"]["images"].as_u64()), (16, Some(80)));
    let again = |name: &str| {
        let purified = parent.path().join(name);
        erase(&output, &purified, &["--set", "data.limit=40"]);
        made(&purified)
    };
    assert_eq!(again("one"), again("two"));
}

#[test]
fn fresh_poison_trains_another_model_to_the_same_bits_each_time() {
    let parent = tempfile::tempdir().unwrap();
    let train = |name: &str, options: &[&str]| {
        let output = parent.path().join(name);
        infect(&output, &[&["--attack", "wanet"], options].concat());
        made(&output)
    };
    let fresh = train("fresh", &["--fresh"]);
    assert_eq!(fresh, train("again", &["--fresh"]));
    assert_ne!(fresh, train("fixed", &[]));
}

#[test]
fn options_of_another_attack_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    for (attack, option, words) in [
        ("wanet", vec!["--alpha", "0.1"], vec!["--alpha", "blend"]),
        ("badnets", vec!["--delta", "4"], vec!["--delta", "sig"]),
        ("sig", vec!["--label", "all-to-all"], vec!["--dirty-label"]),
        ("sig", vec!["--delta", "-1"], vec!["--delta", "-1"]),
        ("wanet", vec!["--strength", "nan"], vec!["--strength", "NaN"]),
        ("wanet", vec!["--grid", "1"], vec!["--grid", "1"]),
        ("sig", vec!["--rate", "0.9"], vec!["72", "20"]),
    ] {
        let mut arguments = vec!["infect", "--data", DATA, "--attack", attack, "--output", word(&output)];
        arguments.extend(option);
        assert_says(&fails(&arguments), &words);
    }
}
