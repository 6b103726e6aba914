//! `pbe observe`: the figures, their data and the page.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::program::{
    DATA, ONE_EPOCH, assert_says, fails, json, model, poison, purification, succeeds, word,
};

/// An observation with `more` into `output`.
fn observation<'a>(files: &'a [std::path::PathBuf; 2], output: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let [model, poison] = files;
    let mut arguments = vec!["observe", "--model", word(model), "--data", DATA, "--trigger", word(poison)];
    arguments.extend(["--device", "cpu", "--output", word(output)]);
    arguments.extend(more);
    arguments
}

/// Every element of a page, as it begins and ends.
fn check_elements(page: &str) {
    let mut open = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if rest.starts_with("<!DOCTYPE") {
            rest = &rest[1..];
            continue;
        }
        let end = rest.find('>').expect("an element ends");
        let (tag, after) = (&rest[1..end], &rest[end + 1..]);
        assert_eq!(tag.matches('"').count() % 2, 0, "an attribute of <{tag}> doesn't end");
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> ends another element");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        rest = after;
        if name == "script" || name == "style" {
            rest = &rest[rest.find(&format!("</{name}>")).unwrap_or(0)..];
        }
    }
    assert!(open.is_empty(), "{open:?} have no end");
}

#[test]
fn the_page_holds_every_figure_and_needs_nothing_else() {
    let parent = tempfile::tempdir().unwrap();
    let (output, purified) = (parent.path().join("seen"), parent.path().join("purified"));
    let files = [model(), poison()];
    let more = ["--poison", word(&files[1]), "--output", word(&purified)];
    succeeds(&purification(&files[0], &[&ONE_EPOCH[..], &more].concat()));
    let (curve, ranking) = (parent.path().join("round 1.csv"), parent.path().join("ranking.csv"));
    let after = purified.join("model.safetensors");
    let mut rank = vec!["rank", "--model", word(&files[0]), "--purified", word(&after), "--data", DATA];
    rank.extend(["--poison", word(&files[1]), "--output", word(&ranking), "--pr", word(&curve)]);
    succeeds(&rank);

    let more = ["--benign", word(&after), "--images", "12", "--run", word(&purified), "--pr", word(&curve)];
    let result = json(&observation(&files, &output, &more));
    let seen = &result["observation"];
    let page = fs::read_to_string(output.join("observe.html")).unwrap();
    for name in ["confusion", "confusion-benign", "tsne", "ranking", "rounds"] {
        let svg = fs::read_to_string(output.join(format!("{name}.svg"))).unwrap();
        check_elements(&svg);
        assert!(page.contains(svg.trim_end()), "{name} is not on the page");
        let rows = csv::Reader::from_path(output.join(format!("{name}.csv"))).unwrap().into_records().count();
        assert_eq!(seen[name]["rows"].as_array().unwrap().len(), rows, "{name}");
    }
    check_elements(&page);
    // Only names of namespaces may look like an address, only data may be a source.
    let without = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "=\"//", "url(", "<link", "@import", "href="] {
        assert_eq!(without.find(outside), None, "{outside}");
    }
    assert_eq!(page.matches("src=\"").count(), page.matches("src=\"data:image/png;base64,").count());
    assert_eq!(page.matches("<img").count(), 24);
    assert_says(&page, &["name=\"viewport\"", "lang=\"en\""]);

    let data = &page[page.find("id=\"data\">").unwrap() + 10..page.find("</script>").unwrap()];
    assert_eq!(serde_json::from_str::<Value>(&data.replace("<\\/", "</")).unwrap(), *seen);
    let counts: u64 = seen["confusion"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap().iter().skip(1))
        .map(|cell| cell.as_str().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(counts, 12);
    assert_eq!(seen["tsne"]["rows"].as_array().unwrap().len(), 36);
    assert_eq!(seen["distances"]["rows"].as_array().unwrap().len(), 2);

    // The same again to the same bytes, for another number of threads.
    let more = [&more[..], &["--threads", "1", "--force"]].concat();
    assert_says(&succeeds(&observation(&files, &output, &more)), &["observe.html", "the attacker's choice"]);
    assert_eq!(fs::read_to_string(output.join("observe.html")).unwrap(), page);
}

#[test]
fn what_cannot_be_read_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let (output, files) = (parent.path().join("seen"), [model(), poison()]);
    let refusal = |more: &[&str], words: &[&str]| {
        assert_says(&fails(&observation(&files, &output, more)), words);
        assert!(!output.exists(), "a folder is left");
    };
    let file = |name: &str, text: &str| {
        let path = parent.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (lacking, words) = (file("a.csv", "recall\n1\n"), file("b.csv", "recall,precision\n1,high\n"));
    let (empty, ragged) = (file("c.csv", "recall,precision\n"), file("d.csv", "recall,precision\n1,1\n1\n"));
    refusal(&["--epsilon", "-1"], &["--epsilon -1"]);
    refusal(&["--epsilon", "nan"], &["--epsilon NaN"]);
    refusal(&["--run", word(parent.path())], &["metrics.csv"]);
    refusal(&["--pr", word(&lacking)], &["a.csv", "no column `precision`"]);
    refusal(&["--pr", word(&words)], &["b.csv", "`high` is not a number"]);
    refusal(&["--pr", word(&empty)], &["c.csv", "no row"]);
    refusal(&["--pr", word(&ragged)], &["d.csv"]);
    refusal(&["--benign", word(&lacking)], &["a.csv"]);
    let [_, truth] = &files;
    let other = [
        "observe",
        "--model",
        word(truth),
        "--data",
        DATA,
        "--trigger",
        word(truth),
        "--output",
        word(&output),
    ];
    assert_says(&fails(&other), &["poison.json"]);
    fs::create_dir(&output).unwrap();
    fs::write(output.join("thesis.tex"), "").unwrap();
    assert_says(&fails(&observation(&files, &output, &[])), &["thesis.tex"]);
}
