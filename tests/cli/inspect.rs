//! `pbe inspect`: the verdict, its figures, and what it refuses.

use std::path::Path;

use serde_json::Value;

use super::inputs::{set, trained, usual};
use super::program::{
    DATA, NO_FILTERS, ONE_EPOCH, assert_says, fails, json, model, poison, purification, read_json,
    run as run_program, succeeds, text, word,
};

fn inspection<'a>(model: &'a std::path::Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["inspect", "--model", word(model), "--data", DATA, "--device", "cpu"], more].concat()
}

#[test]
fn the_result_has_the_documented_fields() {
    let model = model();
    let result = json(&inspection(&model, &["--limit", "24"]));
    assert_eq!((&result["schema"], &result["command"]), (&1.into(), &"inspect".into()));
    let verdict = result["verdict"].as_str().unwrap();
    assert!(["infected", "no_sign", "undecided"].contains(&verdict), "{verdict}");
    assert_eq!(result["targets"].as_array().unwrap().is_empty(), verdict != "infected");

    let training = &result["training_images"];
    assert_eq!(training["images"], 24);
    let p_value = training["p_value"].as_f64().unwrap();
    assert!(p_value > 0.0 && p_value <= 1.0, "{p_value}");
    let labels = training["labels"].as_array().unwrap();
    let suspected: u64 = labels.iter().map(|label| label["suspected"].as_u64().unwrap()).sum();
    assert_eq!((labels.len(), Some(suspected)), (4, training["suspected"].as_u64()));

    let test = &result["adversarial_examples"];
    assert!(test["index"].is_number() && test["threshold"].is_number());
    assert_eq!(test["target"].is_number(), test["verdict"] == "infected");
    let histogram = test["histogram"].as_array().unwrap();
    assert_eq!(histogram.len(), 4);
    let all: f64 = histogram.iter().map(|share| share.as_f64().unwrap()).sum();
    assert!((all - 100.0).abs() < 1e-9, "{all}");
    for attack in test["attacks"].as_array().unwrap() {
        let counts: u64 = attack["confusion"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap())
            .map(|count| count.as_u64().unwrap())
            .sum();
        assert_eq!(counts, 24);
    }

    // Another number of threads doesn't change it, and without --json it is read by people.
    let again = json(&inspection(&model, &["--limit", "24", "--threads", "1"]));
    assert_eq!(again["adversarial_examples"], result["adversarial_examples"]);
    assert_eq!(again["training_images"], result["training_images"]);
    let words = succeeds(&inspection(&model, &["--limit", "24"]));
    assert_says(&words, &["suspected", "benign models", "index"]);
}

/// A model that answers the target and little else, as its adversarial examples show: the suspected images are listed,
/// the most suspicious first, and `--fail-on` ends in an exit code of its own. (`.ci/run` checks what the training images
/// say of the demo's model.)
#[test]
fn an_infected_model_ends_in_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let data = "synthetic:classes=4,per_class=150,test_per_class=20,size=16";
    let run = folder.path().join("infected");
    let arguments = ["infect", "--data", data, "--attack", "badnets", "--rate", "0.15", "--target", "2"];
    let training =
        ["--width", "8", "--batch", "16", "--lr", "0.05", "--epochs", "16", "--output", word(&run)];
    succeeds(&[&arguments[..], &training].concat());
    let (model, truth, list) =
        (run.join("model.safetensors"), run.join("poison.json"), folder.path().join("suspects.csv"));
    let look = ["inspect", "--model", word(&model), "--data", data, "--device", "cpu"];
    let more = ["--poison", word(&truth), "--output", word(&list), "--json", "--fail-on", "infected"];
    let output = run_program(&[&look[..], &more].concat());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["verdict"], &result["targets"]), (&"infected".into(), &serde_json::json!([2])));
    let rows = std::fs::read_to_string(&list).unwrap();
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split(',').collect()).collect();
    assert_eq!(rows[0], ["index", "file", "label", "deviation"]);
    assert_eq!(result["training_images"]["suspected"], rows.len() - 1);
    let deviations: Vec<f32> = rows[1..].iter().map(|row| row[3].parse().unwrap()).collect();
    assert!(deviations.is_sorted_by(|one, next| one >= next));
}

#[test]
fn what_cannot_be_inspected_is_named() {
    let (model, truth) = (model(), poison());
    assert_says(&fails(&inspection(&truth, &[])), &["poison.json"]);
    assert_says(&fails(&inspection(&model, &["--limit", "0"])), &["--limit 0"]);
    let other = ["inspect", "--model", word(&model), "--data", "synthetic:classes=5,per_class=4,size=8"];
    assert_says(&fails(&other), &["4 classes", "5"]);
    assert_says(&fails(&["inspect", "--model", word(&model), "--data", "absent"]), &["absent"]);
}

/// Without a clean set a purification says what the training images show, in `result.json`, in `suspects.csv` and on a
/// page that loads nothing.
#[test]
fn a_purification_reports_what_it_found() {
    let (model, truth, folder) = (model(), poison(), tempfile::tempdir().unwrap());
    let run = folder.path().join("purified");
    let more = ["--poison", word(&truth), "--output", word(&run), "--device", "cpu"];
    let words = succeeds(&purification(&model, &[&more[..], &ONE_EPOCH, &NO_FILTERS].concat()));
    assert_says(&words, &["training images"]);
    let result = read_json(run.join("result.json"));
    assert_eq!(result["detection"]["images"], 80);
    assert_eq!(result["recall"].as_array().unwrap().len(), 4);
    let rows = std::fs::read_to_string(run.join("suspects.csv")).unwrap();
    assert_eq!(result["detection"]["suspected"], rows.lines().count() - 1);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert_says(
        &page,
        &["Before and after", "Deviations", "Classes", "What was read", "pbe purify --config"],
    );
    assert!(!page.contains("src=\"http") && !page.contains("<link"), "it loads something");
    // What wasn't estimated isn't told, nor that the model is infected.
    let estimated = !result["asr_estimate"]["relearnt"].is_null();
    assert_says(&page, &["<td>as given</td>"]);
    for words in ["<td>trained on</td>", "Trained on: the purified model"] {
        assert_eq!(page.contains(words), estimated, "{words}");
    }
}

/// The model learnt these classes; adversarial examples alone take that away. Without test images its accuracy is
/// measured on the training images, and the result isn't called done.
#[test]
fn a_purification_that_wrecks_a_model_says_so() {
    let (data, folder) = (set(["train", "test"], usual), tempfile::tempdir().unwrap());
    std::fs::remove_dir_all(data.path().join("test")).unwrap();
    let (model, run) = (trained("half"), folder.path().join("purified"));
    let arguments = ["purify", "--model", word(&model), "--data", word(data.path()), "--output", word(&run)];
    let wrecking =
        ["--set", "batch=16", "--set", "rounds.*.adversarial.epochs=5", "--set", "rounds.*.clean.epochs=0"];
    let all = [&arguments[..], &wrecking, &NO_FILTERS, &["--fail-on", "not-done"]].concat();
    let ended = super::program::run(&all);
    let [words, log] = [&ended.stdout, &ended.stderr].map(|bytes| super::program::text(bytes));
    assert_eq!(ended.status.code(), Some(3), "{log}");
    assert_says(&log, &["pbe: error: not done: the purified model is worse"]);
    assert_says(
        &words,
        &["training images that aren't suspected: ", "Not done: the purified model is worse"],
    );
    let result: Value = serde_json::from_slice(&std::fs::read(run.join("result.json")).unwrap()).unwrap();
    let accuracy = &result["training_accuracy"];
    assert!(accuracy["before"].as_f64().unwrap() > accuracy["after"].as_f64().unwrap() + 5.0, "{accuracy}");
    assert!(result["not_done"][0].as_str().unwrap().starts_with("the purified model is worse"), "{result}");
    // Without the option the run that ended is a run that ended.
    succeeds(&["purify", "--resume", word(&run)]);
}

/// It lost 8 points of accuracy before, on CIFAR-10.
#[test]
fn a_model_in_which_nothing_is_found_is_returned_as_it_was_given() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let run = folder.path().join("run");
    let words = succeeds(&super::program::purification(&model, &["--output", word(&run)]));
    assert_says(&words, &["no sign of a backdoor", "the model is as it was given", "initial_set.no_sign=0"]);
    let values = |path: &Path| pbe::model::load(path).unwrap().values;
    assert!(values(&run.join("model.safetensors")) == values(&model));
    let result = super::program::read_json(run.join("result.json"));
    assert_eq!((&result["second_look"], &result["before"]), (&"no_sign".into(), &result["after"]));
    let all_the_same = ["--set", "initial_set.no_sign=0", "--force", "--output", word(&run)];
    succeeds(&super::program::purification(&model, &all_the_same));
    assert!(values(&run.join("model.safetensors")) != values(&model));
}
