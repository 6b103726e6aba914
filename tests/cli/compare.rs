//! Comparisons: whole, resumed, in shards, refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::program::{
    DATA, assert_says, command, error_of, fails, infect, infected, interrupt, json, read_json, run, succeeds,
    text, wait_for, without_seconds, word,
};

const TABLES: [&str; 4] = ["compare.csv", "compare.md", "compare.tex", "compare.html"];

/// A comparison of these models, seeds 0 and 1. Without a clean set pbe is faster.
fn comparison<'a>(models: &[&'a Path], output: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["compare", "--models"];
    arguments.extend(models.iter().map(|model| word(model)));
    arguments.extend(["--output", word(output), "--clean", "0.5", "--seeds", "2"]);
    if !more.contains(&"--defenses") {
        arguments.extend(["--defenses", "ft,pbe-no-clean"]);
    }
    arguments.extend(more);
    arguments
}

fn tables(folder: &Path) -> Vec<Vec<u8>> {
    TABLES.iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

fn rows(folder: &Path) -> Vec<Vec<String>> {
    without_seconds(&folder.join("compare.csv"))
}

fn run_folder(output: &Path, defence: &str, seed: &str) -> PathBuf {
    output.join("runs/infected").join(defence).join(seed)
}

#[test]
fn done_once_and_a_removed_run_is_done_again() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("table");
    let arguments = comparison(&[infected()], &output, &["--defenses", "ft,pbe"]);
    let printed = succeeds(&arguments);
    assert_eq!(printed, fs::read_to_string(output.join("compare.md")).unwrap());
    assert_says(&printed, &["## infected (badnets)", "| ft | 2 |", "| pbe | 2 |", " ± "]);
    let first = rows(&output);
    assert_eq!(first.len(), 4);
    assert_eq!(first[0][..5], ["infected", "badnets", "ft", "0", "done"].map(String::from));

    // The clean set depends on the seed alone.
    let clean = |defence, seed| images_of(&run_folder(&output, defence, seed));
    assert_eq!([clean("ft", "0"), clean("ft", "1")], [clean("pbe", "0"), clean("pbe", "1")]);
    assert_ne!(clean("ft", "0"), clean("ft", "1"));

    // Nothing is left to do: no device is opened, no data are read.
    let whole = tables(&output);
    let again = run(&arguments);
    assert!(again.status.success());
    assert!(tables(&output) == whole, "other tables");
    assert!(!text(&again.stderr).contains("device:"), "{}", text(&again.stderr));

    // Figures are those of the run by itself.
    let result = read_json(run_folder(&output, "ft", "1").join("result.json"));
    assert_eq!(first[1][11], result["der"].to_string());
    fs::remove_dir_all(run_folder(&output, "ft", "1")).unwrap();
    succeeds(&arguments);
    assert_eq!(rows(&output), first);
}

/// The digest of the images that a run trained on.
fn images_of(run: &Path) -> String {
    let config: toml::Table = fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
    config["digests"]["training_images"].to_string()
}

#[test]
fn a_benign_model_has_no_trigger() {
    let parent = tempfile::tempdir().unwrap();
    let (output, benign) = (parent.path().join("table"), parent.path().join("benign"));
    infect(&benign, &["--attack", "none"]);
    let object = json(&comparison(&[infected(), &benign], &output, &[]));
    let runs = object["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 8);
    for run in runs {
        assert_eq!((&run["state"], run["before"]["clean_accuracy"].is_number()), (&"done".into(), true));
        assert_eq!(run["der"].is_number(), run["model"] == "infected");
    }
    assert_eq!(object["defences"][0]["models"], 1);
    // Without a clean set it is what the model was trained on, whatever the seed.
    for (model, folder) in [("infected", infected()), ("benign", &benign)] {
        for seed in ["0", "1"] {
            let run = output.join("runs").join(model).join("pbe-no-clean").join(seed);
            assert_eq!(images_of(&run), images_of(folder));
        }
    }
}

/// With a limit, too: the images that the model was trained on, not those that the seed of the defence takes.
#[test]
fn a_limited_model_is_purified_on_its_own_images() {
    let parent = tempfile::tempdir().unwrap();
    let (model, output) = (parent.path().join("limited"), parent.path().join("table"));
    infect(&model, &["--attack", "badnets", "--limit", "40", "--seed", "9"]);
    let arguments = comparison(&[&model], &output, &["--defenses", "pbe-no-clean"]);
    succeeds(&arguments);
    let run = output.join("runs/limited/pbe-no-clean/1");
    assert_eq!(images_of(&model), images_of(&run));
    // config.toml of the run repeats it.
    let again = parent.path().join("again");
    succeeds(&["purify", "--config", word(&run.join("config.toml")), "--output", word(&again)]);
    assert!(super::program::made(&run) == super::program::made(&again));
}

#[test]
fn shards_make_the_table_together() {
    let parent = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| parent.path().join(name));
    succeeds(&comparison(&[infected()], &whole, &[]));
    let half = succeeds(&comparison(&[infected()], &parts, &["--shard", "1/2"]));
    assert_says(&half, &["- 2 of 4 runs are not done yet.", "| ft | 1 |", "| pbe-no-clean | 1 |"]);
    succeeds(&comparison(&[infected()], &parts, &["--shard", "2/2"]));
    assert_eq!(rows(&whole), rows(&parts));
}

/// Both at once: they share the folder.
#[test]
fn shards_side_by_side() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("table");
    let start = |shard| {
        let arguments = comparison(&[infected()], &output, &["--shard", shard]);
        command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    infected();
    let children = ["1/4", "2/4", "3/4", "4/4"].map(start);
    for child in children {
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", text(&ended.stderr));
    }
    assert!(rows(&output).iter().all(|row| row[4] == "done"), "the last one sees all: {:?}", rows(&output));
}

#[test]
fn interrupted_and_gone_on_with() {
    let parent = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| parent.path().join(name));
    let arguments = comparison(&[infected()], &parts, &["--defenses", "pbe-no-clean"]);
    let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&run_folder(&parts, "pbe-no-clean", "0").join("checkpoint.safetensors"), None, &mut child);
    interrupt(&child);
    let message = error_of(&child.wait_with_output().unwrap(), 130);
    assert_says(&message, &["the same command again goes on"]);
    assert!(!run_folder(&parts, "pbe-no-clean", "1").join("result.json").exists());
    succeeds(&arguments);
    succeeds(&comparison(&[infected()], &whole, &["--defenses", "pbe-no-clean"]));
    assert_eq!(rows(&whole), rows(&parts));
}

#[test]
fn a_run_that_fails_is_noted_and_the_others_go_on() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("table");
    let mut arguments = comparison(&[infected()], &output, &[]);
    // A clean set of no image.
    for word in &mut arguments {
        if *word == "0.5" {
            *word = "0.001";
        }
    }
    let printed = succeeds(&arguments);
    assert_says(&printed, &["infected, ft, seed 0 failed: ", "no image of 80 is left", "| ft | 0 | — |"]);
    assert_says(&printed, &["| pbe-no-clean | 2 |"]);
    let states: Vec<String> = rows(&output).into_iter().map(|row| row[4].clone()).collect();
    assert_eq!(states, ["failed", "failed", "done", "done"]);
}

/// Where no run can be done the tables are written, and the exit code says it.
#[test]
fn a_comparison_of_which_every_run_fails_has_failed() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("table");
    let ended = run(&comparison(&[infected()], &output, &["--defenses", "ft", "--data", "nowhere"]));
    assert_eq!(ended.status.code(), Some(1));
    assert_says(&text(&ended.stderr), &["pbe: error: every run failed: ", "nowhere"]);
    assert_eq!(rows(&output).len(), 2);
}

/// A result is believed only as that of its own model and seed.
#[test]
fn a_result_of_another_run_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("table");
    let arguments = comparison(&[infected()], &output, &["--defenses", "ft"]);
    succeeds(&arguments);
    let [first, second] = ["0", "1"].map(|seed| run_folder(&output, "ft", seed).join("result.json"));
    fs::copy(second, &first).unwrap();
    assert_says(&fails(&arguments), &["ft/0/result.json", "is of another model or seed"]);
}

#[test]
fn bad_inputs_are_named() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("table");
    let refusal = |models: &[&Path], more: &[&str]| {
        let message = fails(&comparison(models, &output, more));
        assert!(!output.exists(), "{message}");
        message
    };
    let none = parent.path().join("none");
    assert_says(&refusal(&[&none], &[]), &["none: "]);
    assert_says(&refusal(&[parent.path()], &[]), &["no finished run of `pbe infect`", "config.toml"]);
    let copy = parent.path().join("infected");
    fs::create_dir(&copy).unwrap();
    for name in ["config.toml", "model.safetensors", "result.json", "poison.json"] {
        fs::copy(infected().join(name), copy.join(name)).unwrap();
    }
    assert_says(&refusal(&[infected(), &copy], &[]), &[word(&copy), word(infected()), "has the name of"]);
    fs::remove_file(copy.join("result.json")).unwrap();
    assert_says(&refusal(&[&copy], &[]), &[word(&copy), "it has no result.json"]);
    fs::write(copy.join("config.toml"), "command = \"purify\"\n").unwrap();
    assert_says(&refusal(&[&copy], &[]), &["config.toml is of `pbe purify`"]);
    for (more, parts) in [
        (&["--defenses", "ft,nothing"][..], &["\"nothing\"", "pbe-no-clean"][..]),
        (&["--seeds", "0"], &["--seeds 0"]),
        (&["--shard", "9/8"], &["--shard 9/8"]),
        (&["--clean", "-1"], &["--clean -1"]),
        (&["--limit", "0"], &["--limit 0"]),
        (&["--data", DATA, DATA], &["2 folders for 1 models"]),
    ] {
        let mut arguments = comparison(&[infected()], &output, more);
        // An option may be given once.
        for option in ["--seeds", "--clean"] {
            if more[0] == option {
                let at = arguments.iter().position(|word| *word == option).unwrap();
                arguments.drain(at..at + 2);
            }
        }
        assert_says(&fails(&arguments), parts);
        assert!(!output.exists());
    }
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("table");
    fs::create_dir(&output).unwrap();
    fs::write(output.join("thesis.tex"), "").unwrap();
    assert_says(&fails(&comparison(&[infected()], &output, &[])), &["thesis.tex", "--output"]);
    fs::remove_file(output.join("thesis.tex")).unwrap();
    succeeds(&comparison(&[infected()], &output, &["--defenses", "ft"]));
    // With other settings.
    let mut other = comparison(&[infected()], &output, &["--defenses", "ft"]);
    let share = other.iter().position(|word| *word == "0.5").unwrap();
    other[share] = "0.25";
    assert_says(&fails(&other), &["clean is 0.5 there and 0.25 here"]);
    // Of another model of that name.
    let model = parent.path().join("infected");
    infect(&model, &["--attack", "badnets", "--seed", "3"]);
    let refused = fails(&comparison(&[&model], &output, &["--defenses", "ft"]));
    assert_says(&refused, &["runs/infected/ft/0", "digests.model_weights is"]);
    // Of another command.
    let into = fails(&comparison(&[infected()], &model, &[]));
    assert_says(&into, &["command is \"infect\" there and \"compare\" here"]);
}
