//! `pbe profile`: estimates without a device, measurements on the processor and on the emulated GPU.

use std::fs;

use serde_json::{Value, json};

use super::emulated::{emulated, success, without_driver};
use super::program::{assert_says, error_of, fails, model, succeeds, text, word};

const ESTIMATE: [&str; 6] = ["profile", "--estimate", "--card", "a100", "--precision", "bf16"];

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn modes(report: &Value) -> Vec<&str> {
    let modes = report["modes"].as_array().unwrap();
    modes.iter().map(|mode| mode["mode"].as_str().unwrap()).collect()
}

/// Ops that have no launch of their own.
fn done_by_others(ops: &[Value]) -> Vec<&str> {
    let without = ops.iter().filter(|op| op["launches"].as_array().unwrap().is_empty());
    without.map(|op| op["op"].as_str().unwrap()).collect()
}

/// The estimate needs no driver, says that it is one, and has the arithmetic of the published network.
#[test]
fn an_estimate_needs_no_device() {
    let line = [&ESTIMATE[..], &["--json"]].concat();
    let output = without_driver(&line);
    let report = object(&success(&line, &output));
    assert_eq!((&report["estimate"], &report["device"]), (&true.into(), &"none: an estimate".into()));
    assert_eq!(report["roofline"]["name"], "A100 SXM 80 GB");
    assert_says(report["roofline"]["source"].as_str().unwrap(), &["data sheet"]);
    assert_eq!(modes(&report), ["prepare", "infer", "attack", "train"]);
    let attack = &report["modes"][2];
    // Forward and to the image, 0.555 GMAC each, for 128 images.
    assert_eq!(attack["step"]["cost"]["products"], 2_u64 * 2 * 128 * 555_422_720);
    let ops = attack["ops"].as_array().unwrap();
    let step: Vec<&Value> = ops.iter().filter(|op| op["in_loop"] == true).collect();
    assert_eq!((step.len(), &step[0]["op"]), (ops.len() - 3, &"Conv".into()));
    for op in ops {
        assert!(op["seconds"].is_null() && op["roofline_share"].is_null(), "{op}");
        let launched = op["launches"][0]["kernel"].is_string();
        assert_eq!(op["estimate_seconds"].as_f64().unwrap() > 0.0, launched, "{op}");
    }
    assert_eq!(
        done_by_others(ops),
        ["Linear", "CrossEntropy", "LinearDgrad", "GlobalAvgPoolDgrad", "PgdStep"]
    );
    // One may do part of another's work, but not all of them less than they must.
    let sum = |name: &str| ops.iter().map(|op| op[name].as_f64().unwrap()).sum::<f64>();
    assert!(sum("estimate_seconds") >= sum("roofline_seconds"));
    let text = succeeds(&ESTIMATE);
    assert_says(&text, &["device   none: an estimate", "Nothing was run", "attack, a step: 128 images"]);
    let faster = succeeds(&["profile", "--estimate", "--card", "h100", "--mode", "infer"]);
    assert_says(&faster, &["H100 SXM 80 GB", "infer: 128 images"]);
    assert!(!faster.contains("attack"), "{faster}");
}

/// The launches of a PGD step, without a driver: what is fused into which, and what is in bf16.
#[test]
fn the_plan_is_a_list_of_launches() {
    for precision in ["bf16", "f32"] {
        launches_of_a_pgd_step(precision);
    }
    let text = succeeds(&["profile", "--plan", "--precision", "f32", "--mode", "infer"]);
    assert_says(
        &text,
        &["batch 128, f32", "infer: ", "load_images <128, 6>: LoadImages 1024 pixels, 3 channels"],
    );
}

fn launches_of_a_pgd_step(precision: &str) {
    let mode = ["profile", "--plan", "--mode", "attack", "--batch", "128", "--json"];
    let line = [&mode[..], &["--precision", precision]].concat();
    let modes = object(&success(&line, &without_driver(&line)));
    let launches = modes[0]["launches"].as_array().unwrap();
    let step: Vec<&Value> = launches.iter().filter(|launch| launch["in_loop"] == true).collect();
    assert!(step.len() <= 48, "{} launches a PGD step", step.len());
    let named = |kernel: &str| step.iter().find(|launch| launch["kernel"] == kernel);
    let loss = named("classifier_loss").unwrap();
    assert_eq!(loss["fused"], json!(["Linear", "CrossEntropy", "LinearDgrad", "GlobalAvgPoolDgrad"]));
    let dgrad = named(&format!("conv_dgrad_pgd_{precision}_128x16")).unwrap();
    assert_eq!((&dgrad["op"], &dgrad["fused"]), (&"ConvDgrad".into(), &json!(["PgdStep"])));
    let buffer = |name: &str| dgrad["buffers"].as_array().unwrap().iter().find(|one| one["name"] == name);
    assert_eq!(buffer("gradient").unwrap()["dtype"], precision);
    // Read and written back; the gradient of the image is nowhere.
    assert_eq!(buffer("adversarial").unwrap()["bytes"], 2 * 4 * 128 * 3072);
    assert!(buffer("output").is_none() && buffer("next").is_none());
}

#[test]
fn what_cannot_be_profiled_is_refused() {
    assert_eq!(fails(&["profile", "--estimate"]), "--estimate is for --card a100 or h100");
    assert_eq!(fails(&["profile", "--batch", "0"]), "--batch is 0, but must be at least 1");
    assert_says(&fails(&["profile", "--model", "no/such"]), &["no/such"]);
    let small = ["profile", "--device", "cuda", "--width", "2", "--card", "a100", "--batch", "4096"];
    let message = error_of(&emulated(&small, &[("MEMORY", "200M")]), 2);
    assert_says(&message, &["of device memory are needed", "would fit"]);
}

/// The processor: every op has its time and its share of what was measured there; the trace has every op.
#[test]
fn the_processor_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let model = model();
    let line =
        ["profile", "--device", "cpu", "--model", word(&model), "--batch", "8", "--trace", word(&trace)];
    let report = object(&succeeds(&[&line[..], &["--json"]].concat()));
    assert_eq!((&report["estimate"], &report["roofline"]["name"]), (&false.into(), &"measured here".into()));
    assert_says(report["network"].as_str().unwrap(), &["preact-resnet18 of width 2, 8x8, batch 8"]);
    let (mut count, mut seconds) = (0, 0.0);
    for mode in report["modes"].as_array().unwrap() {
        for op in mode["ops"].as_array().unwrap() {
            count += 1;
            seconds += op["seconds"].as_f64().unwrap();
            assert!(op["roofline_share"].is_number() && op["bytes_moved"].is_null(), "{op}");
            assert_eq!(op["launches"], Value::Array(vec![]));
        }
        assert!(mode["sum"]["seconds"].as_f64().unwrap() > 0.0);
    }
    let trace = object(&fs::read_to_string(&trace).unwrap());
    let events = trace["traceEvents"].as_array().unwrap();
    let complete: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    assert_eq!((complete.len(), events.len()), (count, count + 4));
    let duration: f64 = complete.iter().map(|event| event["dur"].as_f64().unwrap()).sum();
    assert!((duration / 1e6 - seconds).abs() <= 1e-9 + 1e-6 * seconds, "{duration} us, {seconds} s");
    for pair in complete.windows(2).filter(|pair| pair[0]["tid"] == pair[1]["tid"]) {
        let end = pair[0]["ts"].as_f64().unwrap() + pair[0]["dur"].as_f64().unwrap();
        assert!((pair[1]["ts"].as_f64().unwrap() - end).abs() < 1e-6, "ops overlap or leave gaps");
    }
    let text = succeeds(&line);
    assert_says(&text, &["measured here", "train, a step: 8 images", "CrossEntropy 4 classes"]);
}

/// The emulated GPU counts what each launch moves: the launches that it was given are those that are
/// foretold, and no op moves less than it must.
#[test]
fn the_emulator_counts_what_ops_move() {
    let folder = tempfile::tempdir().unwrap();
    let counters = folder.path().join("launches.jsonl");
    let line = ["profile", "--device", "cuda", "--card", "a100", "--precision", "bf16", "--image-size", "8"];
    let line =
        [&line[..], &["--width", "8", "--batch", "2", "--counters", word(&counters), "--json"]].concat();
    let output = emulated(&line, &[("LAUNCHES", word(&counters))]);
    let report = object(&success(&line, &output));
    assert_says(report["device"].as_str().unwrap(), &["PTX emulator", "bf16"]);
    for mode in report["modes"].as_array().unwrap() {
        let ops = mode["ops"].as_array().unwrap();
        for op in ops {
            assert!(op["seconds"].as_f64().is_some() && op["bytes_moved"].as_u64().is_some(), "{op}");
        }
        let done: &[&str] = match mode["mode"].as_str().unwrap() {
            "prepare" => &[],
            "infer" => &["Linear"],
            "attack" => &["Linear", "CrossEntropy", "LinearDgrad", "GlobalAvgPoolDgrad", "PgdStep"],
            _ => &["Linear", "CrossEntropy", "LinearDgrad", "GlobalAvgPoolDgrad", "MovingAverage"],
        };
        // A training step leaves the next one's filters.
        let mut others = done_by_others(ops);
        others.retain(|op| *op != "LoadFilter" || mode["mode"] != "train");
        assert_eq!(others, done, "{}", mode["mode"]);
        let sum = &mode["sum"];
        assert!(sum["bytes_moved"].as_u64().unwrap() >= sum["cost"]["bytes"].as_u64().unwrap(), "{sum}");
    }
    // A file that the driver doesn't write.
    fs::write(&counters, "{\"kernel\": \"another\", \"bytes\": 1}\n").unwrap();
    let message = error_of(&emulated(&line, &[]), 2);
    assert_says(&message, &[word(&counters), "other launches than those of prepare: 0 lines"]);
    let table = emulated(&line[..line.len() - 1], &[("LAUNCHES", word(&counters))]);
    assert_says(&text(&table.stdout), &["moved/least", "launches", "attack, a step: 2 images"]);
}
