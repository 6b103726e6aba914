//! `pbe inspect`: the verdict, its figures, and what it refuses.

use serde_json::Value;

use super::program::{DATA, assert_says, fails, model, poison, succeeds, word};

fn inspection<'a>(model: &'a std::path::Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["inspect", "--model", word(model), "--data", DATA, "--device", "cpu"], more].concat()
}

#[test]
fn the_result_has_the_documented_fields() {
    let model = model();
    let text = succeeds(&inspection(&model, &["--limit", "24", "--json"]));
    let result: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&result["schema"], &result["command"]), (&1.into(), &"inspect".into()));
    let verdict = result["verdict"].as_str().unwrap();
    assert!(["infected", "undecided"].contains(&verdict), "{verdict}");
    assert!(result["index"].is_number() && result["threshold"].is_number());
    assert_eq!(result["target"].is_number(), verdict == "infected");
    let histogram = result["histogram"].as_array().unwrap();
    assert_eq!(histogram.len(), 4);
    let all: f64 = histogram.iter().map(|share| share.as_f64().unwrap()).sum();
    assert!((all - 100.0).abs() < 1e-9, "{all}");
    for attack in result["attacks"].as_array().unwrap() {
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
    let again = succeeds(&inspection(&model, &["--limit", "24", "--json", "--threads", "1"]));
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["attacks"], result["attacks"]);
    let words = succeeds(&inspection(&model, &["--limit", "24"]));
    assert_says(&words, &[verdict, "index", "threshold"]);
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
