//! The commands give the same on the emulated GPU, with all its checks on, as on the CPU.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::emulated::{emulated, succeeds_emulated, success};
use super::program::{ONE_EPOCH, read_json, succeeds, without_seconds, word};

/// 24 training and 6 test images, 3 classes, 8x8.
const DATA: &str = "synthetic:classes=3,per_class=8,test_per_class=2,size=8";
/// The difference allowed between logits, losses and scores of two devices, absolute plus relative: a hundred times
/// the observed one, and less than leaving out weight decay changes in six steps.
const AGREEMENT: f64 = 1e-5;

/// A folder in which the same command line leaves something on each device.
struct Both {
    parent: TempDir,
}

impl Both {
    fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap() }
    }

    fn path(&self, device: &str) -> PathBuf {
        self.parent.path().join(device)
    }

    /// Runs `arguments`, which end with the option that names the output, on both devices; what they
    /// print.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> [String; 2] {
        ["cpu", "cuda"].map(|device| {
            let output = self.path(device);
            let line = [arguments, &[word(&output), "--device", device, "--precision", "f32"]].concat();
            if device == "cpu" { succeeds(&line) } else { succeeds_emulated(&line) }
        })
    }
}

/// An infected model, made on the processor.
fn infected(parent: &Path) -> PathBuf {
    let output = parent.join("infected");
    succeeds(&[&INFECT[..], &["--device", "cpu", "--output", word(&output)]].concat());
    output
}

const INFECT: [&str; 16] = [
    "infect",
    "--data",
    DATA,
    "--attack",
    "badnets",
    "--rate",
    "0.2",
    "--width",
    "2",
    "--batch",
    "8",
    "--epochs",
    "2",
    "--lr",
    "0.05",
    "--no-flip",
];

#[track_caller]
fn assert_near(one: f64, other: f64, what: &str) {
    let gap = (one - other).abs();
    assert!(gap <= AGREEMENT * (1.0 + other.abs()), "{what}: {one} on the processor, {other} on the GPU");
}

/// Compares tables cell by cell: numbers to [`AGREEMENT`], all else literally.
#[track_caller]
fn assert_tables_near(cpu: &Path, cuda: &Path) {
    let (cpu, cuda) = (without_seconds(cpu), without_seconds(cuda));
    assert!(!cpu.is_empty() && cpu.len() == cuda.len());
    for (row, (one, other)) in cpu.iter().flatten().zip(cuda.iter().flatten()).enumerate() {
        match (one.parse(), other.parse()) {
            (Ok(one), Ok(other)) => assert_near(one, other, &format!("cell {row}")),
            _ => assert_eq!(one, other),
        }
    }
}

fn device_of(folder: &Path) -> (String, String) {
    let result = read_json(folder.join("result.json"));
    let config: toml::Table = fs::read_to_string(folder.join("config.toml")).unwrap().parse().unwrap();
    (result["device"].as_str().unwrap().into(), config["device"].as_str().unwrap().into())
}

#[test]
fn selftest_passes() {
    let text =
        succeeds_emulated(&["selftest", "--quick", "--device", "cuda", "--precision", "f32", "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["passed"], true);
    // The share of pixels whose first step has another sign.
    let signs = report["rows"].as_array().unwrap().iter();
    let signs: Vec<&Value> = signs.filter(|row| row["name"] == "network: PGD signs, share").collect();
    assert_eq!(signs.len(), 2);
    assert!(signs.iter().all(|row| row["worst"].as_f64().unwrap() <= 1e-3 && row["cases"] == 2));
}

const BF16: [&str; 6] = ["selftest", "--quick", "--device", "cuda", "--precision", "bf16"];

/// Convolutions on tensor cores and what is fused with them, with blocks and warps in the order of a seed.
fn tensor_cores(seed: &str) {
    for (rows, count) in [("Conv", 7), ("PgdStep", 2), ("Linear", 6), ("BatchNormStats", 2)] {
        let line = [&BF16[..], &["--only", rows]].concat();
        let text = success(&line, &emulated(&line, &[("SEED", seed)]));
        assert!(text.contains("sm_80, bf16") && text.matches("pass\n").count() == count, "{text}");
    }
}

#[test]
fn selftest_passes_in_bf16() {
    tensor_cores("1");
    succeeds_emulated(&[&BF16[..], &["--only", "network"]].concat());
}

#[test]
#[ignore = "exhaustive: .ci/run"]
fn selftest_passes_in_bf16_in_other_orders() {
    tensor_cores("2");
    tensor_cores("3");
}

/// The dynamic attack's three networks, trained together.
#[test]
fn dynamic_has_the_same_losses() {
    let both = Both::new();
    let mut line = INFECT.to_vec();
    // Batch norm over few pixels and Adam make much of rounding: large batches, one epoch.
    for (option, value) in [("--attack", "dynamic"), ("--epochs", "1"), ("--batch", "40")] {
        let place = line.iter().position(|word| *word == option).unwrap();
        line[place + 1] = value;
    }
    line.extend(["--generator-width", "2", "--schedule", "constant", "--mask-steps", "2", "--output"]);
    both.run(&line);
    assert_tables_near(&both.path("cpu").join("metrics.csv"), &both.path("cuda").join("metrics.csv"));
}

#[test]
fn infect_has_the_same_losses() {
    let both = Both::new();
    both.run(&[&INFECT[..], &["--output"]].concat());
    let [cpu, cuda] = ["cpu", "cuda"].map(|device| both.path(device));
    assert_tables_near(&cpu.join("metrics.csv"), &cuda.join("metrics.csv"));
    assert_eq!(device_of(&cpu).1, "cpu");
    let (result, config) = device_of(&cuda);
    assert!(result.starts_with("cuda:0: PTX emulator"), "{result}");
    assert_eq!(config, "cuda: PTX emulator sm_80, sm_80");
}

#[test]
fn evaluate_has_the_same_logits() {
    let both = Both::new();
    let folder = infected(both.parent.path());
    let (model, poison) = (folder.join("model.safetensors"), folder.join("poison.json"));
    let mut arguments = vec!["evaluate", "--json", "--split", "train", "--data", DATA];
    arguments.extend(["--model", word(&model), "--trigger", word(&poison), "--predictions"]);
    let [cpu, cuda] = both.run(&arguments).map(|text| serde_json::from_str::<Value>(&text).unwrap());
    assert_eq!(cpu["after"], cuda["after"]);
    assert_tables_near(&both.path("cpu"), &both.path("cuda"));
}

/// Both rounds, with every phase: the filter, the attack, step 1b, step 2 with distillation and
/// average, the ranking.
#[test]
fn purify_has_the_same_losses_and_selections() {
    let both = Both::new();
    let folder = infected(both.parent.path());
    let (model, poison) = (folder.join("model.safetensors"), folder.join("poison.json"));
    let mut arguments = vec!["purify", "--data", DATA, "--model", word(&model), "--poison", word(&poison)];
    arguments.extend(["--set", "batch=8", "--set", "rounds.*.attack.steps=3"]);
    arguments.extend(["--set", "initial_set.attacks=[{ epsilon = 16, steps = 2 }]"]);
    arguments.extend(ONE_EPOCH);
    arguments.push("--output");
    both.run(&arguments);
    let [cpu, cuda] = ["cpu", "cuda"].map(|device| both.path(device));
    assert_tables_near(&cpu.join("metrics.csv"), &cuda.join("metrics.csv"));
    assert!(device_of(&cuda).0.starts_with("cuda:0"));

    // The ranking, of the same two models, has the same order but for ties within rounding.
    let rankings = Both::new();
    let purified = cpu.join("model.safetensors");
    let mut arguments = vec!["rank", "--data", DATA, "--model", word(&model), "--purified", word(&purified)];
    arguments.extend(["--poison", word(&poison), "--output"]);
    rankings.run(&arguments);
    let scores = |device| -> Vec<(String, f64)> {
        let rows = without_seconds(&rankings.path(device));
        rows.into_iter().map(|row| (row[0].clone(), row[3].parse().unwrap())).collect()
    };
    let (cpu, cuda) = (scores("cpu"), scores("cuda"));
    assert!(cpu.len() == 24 && cuda.len() == 24);
    for (place, (one, other)) in cpu.iter().zip(&cuda).enumerate() {
        assert!(one.0 == other.0 || (one.1 - other.1).abs() < 1e-5, "place {place}: {one:?}, {other:?}");
    }
    let by_image = |mut scores: Vec<(String, f64)>| {
        scores.sort_by(|one, other| one.0.cmp(&other.0));
        scores
    };
    for (one, other) in by_image(cpu).iter().zip(&by_image(cuda)) {
        assert_eq!(one.0, other.0);
        assert_near(one.1, other.1, &format!("score of image {}", one.0));
    }
}

/// Backward passes whose gradients are changed before the step, frozen statistics, gradients at images: on both devices.
#[test]
fn defences_with_a_clean_set_make_the_same_models() {
    let both = Both::new();
    let folder = infected(both.parent.path());
    let model = folder.join("model.safetensors");
    let cases: [(&str, &[&str]); 6] = [
        ("ft-sam", &["train.epochs=2"]),
        ("fst", &["train.epochs=2"]),
        ("nad", &["teacher.epochs=1", "first.epochs=0", "rest.epochs=2", "betas=[5.0, 10.0, 10.0]"]),
        ("ban-ft", &["train.epochs=1"]),
        ("anp", &["iterations=2", "threshold=0.95"]),
        ("neural-cleanse", &["passes=2", "train.epochs=1"]),
    ];
    for (name, settings) in cases {
        let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let fixed = ["purify", "--data", DATA, "--model", word(&model), "--clean", "0.5", "--set", "batch=6"];
        let line = [&fixed[..], &set, &["--defense", name, "--force", "--output"]].concat();
        both.run(&line);
        let weights = |device| pbe::model::load(both.path(device).join("model.safetensors")).unwrap().values;
        let distance = |one: &[f32], other: &[f32]| {
            let squares = one.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let (cpu, cuda) = (weights("cpu"), weights("cuda"));
        let moved = distance(&cpu, &pbe::model::load(&model).unwrap().values);
        let apart = distance(&cpu, &cuda);
        assert!(apart <= 1e-3 * moved, "{name}: {apart:.3e} apart, of {moved:.3e} moved");
        // In bf16 they run too, and move about as far; whether a neuron is pruned is one of two.
        if name == "anp" {
            continue;
        }
        let bf16 = both.path("bf16");
        succeeds_emulated(&[&line[..], &[word(&bf16), "--device", "cuda", "--precision", "bf16"]].concat());
        let apart = distance(&cpu, &pbe::model::load(bf16.join("model.safetensors")).unwrap().values);
        assert!(apart <= 0.5 * moved + 1e-6, "{name} in bf16: {apart:.3e} apart, of {moved:.3e} moved");
    }
}
