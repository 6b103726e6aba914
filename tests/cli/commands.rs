//! What each command gives: files, figures, JSON.

use std::fs;
use std::path::Path;

use pbe::data::{LoadOptions, load};
use serde_json::Value;

use super::program::{
    DATA, NO_FILTERS, assert_says, command, fails, infected, json, model, poison, purification, read_json,
    run, succeeds, text, word,
};

/// stdout as JSON: anything beside the one object is an error.
fn rows(path: &Path) -> Vec<csv::StringRecord> {
    csv::Reader::from_path(path).unwrap().records().map(Result::unwrap).collect()
}

#[test]
fn infect_leaves_a_run_folder() {
    let folder = infected();
    let result = read_json(folder.join("result.json"));
    assert_eq!((&result["command"], &result["schema"]), (&"infect".into(), &1.into()));
    assert!(result["after"]["clean_accuracy"].is_number() && result["after"]["asr"].is_number());
    assert_eq!(rows(&folder.join("metrics.csv")).len(), 2);
    let truth = read_json(poison());
    assert_eq!(truth["train"]["images"], 80);
    assert_eq!(truth["train"]["indices"].as_array().unwrap().len(), 16);
    let config = fs::read_to_string(folder.join("config.toml")).unwrap();
    assert_says(&config, &["command = \"infect\"", "seed = 0", "commit = ", "one-cycle", "flip = true"]);
    assert!(!folder.join("checkpoint.safetensors").exists());
    let weights = pbe::model::load(folder.join("model.safetensors")).unwrap();
    assert!(weights.normalisation.is_some());
    assert_eq!(weights.input_size, Some((8, 8)));
}

#[test]
fn one_poisoned_image_or_none() {
    let parent = tempfile::tempdir().unwrap();
    for (name, attack) in
        [("one", &["--attack", "blend", "--count", "1"][..]), ("none", &["--attack", "none"])]
    {
        let output = parent.path().join(name);
        let mut arguments = vec!["infect", "--data", DATA, "--width", "2", "--batch", "16", "--epochs", "1"];
        arguments.extend(attack);
        arguments.extend(["--output", word(&output)]);
        let result = json(&arguments);
        assert_eq!(result["after"]["asr"].is_number(), name == "one");
        assert_eq!(output.join("poison.json").exists(), name == "one");
    }
    let truth = read_json(parent.path().join("one/poison.json"));
    assert_eq!(truth["train"]["indices"].as_array().unwrap().len(), 1);
}

/// Of a limited training set, `poison.json` still counts all images: purify gets the same ones.
#[test]
fn a_limited_set_is_the_same_for_infect_and_purify() {
    let parent = tempfile::tempdir().unwrap();
    let (output, purified) = (parent.path().join("run"), parent.path().join("purified"));
    let mut arguments =
        vec!["infect", "--data", DATA, "--limit", "40", "--attack", "badnets", "--rate", "0.5"];
    arguments.extend(["--width", "2", "--batch", "16", "--epochs", "1", "--output", word(&output)]);
    succeeds(&arguments);
    let (model, truth) = (output.join("model.safetensors"), output.join("poison.json"));
    let file = read_json(&truth);
    assert_eq!(
        (&file["train"]["images"], file["train"]["indices"].as_array().unwrap().len()),
        (&80.into(), 20)
    );
    let mut more = vec!["--set", "data.limit=40"];
    more.extend(NO_FILTERS);
    more.extend(["--poison", word(&truth), "--output", word(&purified)]);
    let result = json(&purification(&model, &more));
    assert_eq!(result["rounds"][0]["trained"], 40);
    assert_eq!(result["rounds"][0]["trained_precision"], 0.5);
}

#[test]
fn poison_writes_a_folder_that_says_what_is_poisoned() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("poisoned");
    succeeds(&[
        "poison",
        "--data",
        DATA,
        "--attack",
        "badnets",
        "--target",
        "2",
        "--count",
        "7",
        "--output",
        word(&output),
    ]);
    let written = load(&output, &LoadOptions::default(), &|_, _| ()).unwrap();
    let original = load(Path::new(DATA), &LoadOptions::default(), &|_, _| ()).unwrap();
    let truth = read_json(output.join("poison.json"));
    assert_eq!(truth["train"]["applied"], true);
    let indices: Vec<u64> =
        truth["train"]["indices"].as_array().unwrap().iter().map(|index| index.as_u64().unwrap()).collect();
    assert_eq!(indices.len(), 7);
    for index in 0..written.train.len() {
        // File names begin with the number in the original set.
        let name = written.train.names[index].rsplit('/').next().unwrap();
        let number: usize = name.split('_').next().unwrap().parse().unwrap();
        let poisoned = indices.contains(&(index as u64));
        assert_eq!(written.train.image(index) != original.train.image(number), poisoned, "{name}");
        let label = if poisoned { 2 } else { original.train.labels[number] };
        assert_eq!(written.train.labels[index], label, "{name}");
    }
    assert_eq!(*written.test.unwrap().pixels, *original.test.unwrap().pixels);
}

#[test]
fn evaluate_measures_predicts_and_compares() {
    let folder = tempfile::tempdir().unwrap();
    let (model, poison, predictions) = (model(), poison(), folder.path().join("predictions.csv"));
    let common = ["--data", DATA, "--trigger", word(&poison), "--predictions", word(&predictions)];
    let mut arguments = vec!["evaluate", "--model", word(&model), "--against", word(&model)];
    arguments.extend(common);
    let result = json(&arguments);
    assert_eq!(result["before"], result["after"]);
    assert_eq!(result["der"], 50.0);
    let rows = rows(&predictions);
    assert_eq!(rows.len(), 20);
    let right = rows.iter().filter(|row| row[2] == row[3]).count();
    assert_eq!(result["after"]["clean_accuracy"].as_f64().unwrap(), 5.0 * right as f64);
    let recorded = read_json(infected().join("result.json"));
    assert_eq!(result["after"], recorded["after"]);

    let train = json(&["evaluate", "--model", word(&model), "--data", DATA, "--split", "train"]);
    assert!(train["after"]["asr"].is_null() && train["before"]["clean_accuracy"].is_null());
    let table = succeeds(&["evaluate", "--model", word(&model), "--data", DATA]);
    assert_says(&table, &["ACC", "model"]);
}

#[test]
fn purify_reports_every_round_and_rank_repeats_the_last() {
    let parent = tempfile::tempdir().unwrap();
    let (model, poison, output) = (model(), poison(), parent.path().join("run"));
    let mut more = vec!["--set", "rounds=3", "--poison", word(&poison), "--output", word(&output)];
    more.extend(["--set", "initial_set.label_agreement=false", "--set", "initial_set.suspicion=1"]);
    more.extend(["--set", "rounds.*.select.label_agreement=false"]);
    let result = json(&purification(&model, &more));
    assert_eq!(result, read_json(output.join("result.json")));
    let truth = read_json(&poison);
    let poisoned = truth["train"]["indices"].as_array().unwrap().len();
    let rounds = result["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3);
    for round in rounds {
        for name in
            ["clean_accuracy", "asr", "clean_loss", "adversarial_loss", "attack_loss", "average_precision"]
        {
            assert!(round[name].is_number(), "{name} of {round}");
        }
        assert_eq!(round["selected"], 56);
        for phase in ["attack", "adversarial", "clean", "rank"] {
            assert!(round["seconds"][phase].is_number(), "{phase} of {round}");
        }
    }
    // Each filter gets what the ones before it kept: five views, four attacks.
    let filters = rounds[0]["filters"].as_array().unwrap();
    assert_eq!(filters.len(), 9);
    let mut input = filters[0]["input"].clone();
    assert_eq!((&input, &filters[0]["input_poisoned"]), (&80.into(), &poisoned.into()));
    for filter in filters {
        assert_eq!(filter["input"], input, "{filter}");
        assert!(filter["kept_poisoned"].as_u64() <= filter["input_poisoned"].as_u64(), "{filter}");
        input = filter[if filter["skipped"] == true { "input" } else { "kept" }].clone();
    }
    assert!(rounds[1].get("filters").is_none() && rounds[0]["seconds"]["initial_set"].is_number());
    assert_eq!(rows(&output.join("metrics.csv")).len(), 3);
    assert!(result["der"].is_number() && result["before"]["asr"].is_number());
    let config = fs::read_to_string(output.join("config.toml")).unwrap();
    assert_says(&config, &["recipe = \"default\"", "batch = 16", "[[rounds]]", word(&poison)]);

    let purified = output.join("model.safetensors");
    let (ranking, curve) = (parent.path().join("ranking.csv"), parent.path().join("pr.csv"));
    let mut arguments = vec!["rank", "--model", word(&model), "--purified", word(&purified), "--data", DATA];
    arguments.extend(["--poison", word(&poison), "--output", word(&ranking), "--pr", word(&curve)]);
    let ranked = json(&arguments);
    assert_eq!(ranked["rounds"][0]["average_precision"], rounds[2]["average_precision"]);
    let scores: Vec<f32> = rows(&ranking).iter().map(|row| row[3].parse().unwrap()).collect();
    assert!(scores.len() == 80 && scores.is_sorted_by(|a, b| a >= b));
    assert!(!rows(&curve).is_empty());
}

#[test]
fn purify_with_a_clean_set_takes_one_round() {
    let parent = tempfile::tempdir().unwrap();
    let clean = parent.path().join("clean");
    let set = load(Path::new(DATA), &LoadOptions::default(), &|_, _| ()).unwrap();
    pbe::data::write_folder(&clean, "train", &set.test.unwrap()).unwrap();
    let (model, poison, folder) = (model(), poison(), clean.join("train"));
    for (name, clean) in [("share", ["--clean", "0.5"]), ("folder", ["--clean", word(&folder)])] {
        let output = parent.path().join(name);
        let mut arguments = purification(&model, &["--trigger", word(&poison), "--output", word(&output)]);
        arguments.extend(clean);
        let result = json(&arguments);
        assert_eq!(result["rounds"].as_array().unwrap().len(), 1);
        assert_eq!(result["rounds"][0]["trained"], if name == "share" { 40 } else { 20 });
        assert!(result["rounds"][0]["selected"].is_null() && result["after"]["asr"].is_number());
    }
}

/// Rare settings go through --set.
#[test]
fn purify_has_at_most_twenty_five_options() {
    let help = succeeds(&["purify", "--help"]);
    let (own, every) = help.split_once("Every command:").unwrap();
    let options = |help: &str| help.lines().filter(|line| line.starts_with("      --")).count();
    assert!(options(own) + options(every) <= 25 + 2, "{help}");
    assert_says(&help, &["Model and data:", "Defence:", "Run:", "Computing:"]);
    let short = succeeds(&["purify", "-h"]);
    assert!(short.lines().count() <= 48, "more than a screen: {short}");
}

#[test]
fn the_quick_demo_erases_what_it_plants() {
    let result = json(&["demo", "--quick", "--device", "cpu"]);
    let [before, after] = ["before", "after"]
        .map(|part| ["clean_accuracy", "asr"].map(|figure| result[part][figure].as_f64().unwrap()));
    assert!(before[1] > 80.0 && after[1] < before[1] / 2.0, "ASR {before:?}, {after:?}");
    assert!(before[0] > 80.0 && after[0] > before[0] - 15.0, "ACC {before:?}, {after:?}");
}

#[test]
fn doctor_says_what_there_is_and_what_a_run_needs() {
    let model = model();
    let cpu = ["doctor", "--device", "cpu", "--threads", "2", "--model", word(&model), "--data", DATA];
    let report = json(&cpu);
    assert_eq!((&report["threads"], &report["run"]["fault"]), (&2.into(), &Value::Null));
    // Training and test images, and the 80 that step 2 trains on, with a fifth of them once more.
    assert_eq!(report["run"]["images"], (180 + 16) * 8 * 8 * 3);
    assert!(report["run"]["networks"].as_u64().unwrap() > 10_000);
    assert_says(&succeeds(&["doctor", "--width", "4"]), &["cuda     ", "two networks"]);
}

#[test]
fn quiet_prints_results_and_errors_alone() {
    let parent = tempfile::tempdir().unwrap();
    let model = model();
    let output = run(&["--quiet", "evaluate", "--model", word(&model), "--data", DATA]);
    assert_eq!(text(&output.stderr), "");
    assert!(text(&output.stdout).contains("ACC"));
    let absent = parent.path().join("absent");
    let message = fails(&["evaluate", "--quiet", "--model", word(&absent), "--data", DATA]);
    assert_says(&message, &[word(&absent)]);
}

#[test]
fn completions_and_man_pages_are_made() {
    let parent = tempfile::tempdir().unwrap();
    assert_says(&succeeds(&["completions", "bash"]), &["_pbe()", "--clean"]);
    succeeds(&["completions", "--man", word(parent.path())]);
    let page = fs::read_to_string(parent.path().join("pbe-purify.1")).unwrap();
    assert_says(&page, &[".TH pbe-purify", "Erase the backdoor"]);
}

/// An image folder of a megabyte is kept decoded; not so with --no-cache.
#[test]
fn images_are_cached_unless_told_otherwise() {
    let parent = tempfile::tempdir().unwrap();
    let (data, caches, model) = (parent.path().join("data"), parent.path().join("caches"), model());
    pbe::data::write_folder(&data, "train", &pbe::data::ImageSet::noise(120, 64, 3, 4)).unwrap();
    let entries = |options: &[&str]| {
        let line = ["evaluate", "--split", "train", "--model", word(&model), "--data", word(&data)];
        let output = command(&[&line[..], options].concat()).env("XDG_CACHE_HOME", &caches).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read_dir(caches.join("pbe")).map_or(0, Iterator::count)
    };
    assert_eq!(entries(&["--no-cache"]), 0);
    assert_eq!(entries(&[]), 1);
    let doctor = command(&["doctor", "--json"]).env("XDG_CACHE_HOME", &caches).output().unwrap();
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert!(report["image_cache"]["bytes"].as_u64().unwrap() > 1000, "{report}");
}
