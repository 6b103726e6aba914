//! `--device`: what is chosen, what is refused, and whether a run fits.

use serde_json::Value;

use super::emulated::{emulated, success, without_driver};
use super::program::{DATA, assert_says, error_of, run, text, word};

type Settings = &'static [(&'static str, &'static str)];

/// Devices and settings of the emulator, and why `cuda` can't be had there.
const ABSENT: [(&str, Settings, &str); 3] = [
    ("cuda", &[("DEVICES", "0")], "device cuda:0: the CUDA driver finds no device"),
    ("cuda:7", &[], "device cuda:7: no such device: the CUDA driver finds 1"),
    ("cuda", &[("CAPABILITY", "7.5")], "has compute capability 7.5; 8.0 is needed"),
];

#[test]
fn cuda_that_cannot_be_had_is_refused_not_replaced() {
    for (device, settings, reason) in ABSENT {
        let message = error_of(&emulated(&["selftest", "--quick", "--device", device], settings), 2);
        assert_says(&message, &["device cuda", reason]);
    }
    let message = error_of(&without_driver(&["selftest", "--quick", "--device", "cuda"]), 2);
    assert_eq!(message, "device cuda:0: no CUDA driver (libcuda) is installed");
}

#[test]
fn auto_says_what_it_chose_and_why() {
    let chosen = |output: std::process::Output| {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let log = text(&output.stderr);
        let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("device: ")).collect();
        assert_eq!(lines.len(), 1, "{log}");
        lines[0].to_string()
    };
    let line = chosen(without_driver(&["doctor"]));
    assert_says(&line, &["device: cpu: ", "(chosen: no CUDA driver (libcuda) is installed; f32: "]);
    for (device, settings, reason) in ABSENT.iter().filter(|(device, ..)| *device == "cuda") {
        let line = chosen(emulated(&["doctor"], settings));
        let reason = reason.trim_start_matches(&format!("device {device}:0: "));
        assert_says(&line, &["device: cpu: ", "(chosen: ", reason]);
    }
    let line = chosen(emulated(&["doctor"], &[]));
    assert_says(&line, &["device: cuda:0: PTX emulator", "sm_80", "(chosen: the first CUDA device; bf16: "]);
}

/// Whatever this machine has: it is used or there is a reason, and both say the same.
#[test]
fn the_machine_as_it_is() {
    let (auto, cuda) = (run(&["doctor"]), run(&["doctor", "--device", "cuda"]));
    let line = text(&auto.stderr);
    assert!(auto.status.success());
    if cuda.status.success() {
        assert_says(&line, &["device: cuda:0"]);
    } else {
        let message = error_of(&cuda, 2);
        let reason = message.strip_prefix("device cuda:0: ").unwrap();
        assert_says(&line, &["device: cpu", reason]);
    }
}

#[test]
fn other_words_are_refused() {
    for word in ["gpu", "cuda:", "cuda:-1", "cuda:x"] {
        let output = run(&["doctor", "--device", word]);
        assert_eq!(output.status.code(), Some(2));
        assert_says(&text(&output.stderr), &[word, "it is one of auto, cpu, cuda, cuda:N"]);
    }
}

#[test]
fn bf16_needs_a_gpu_or_a_matrix_unit() {
    for word in ["fp16", "BF16", ""] {
        let output = run(&["doctor", "--precision", word]);
        assert_eq!(output.status.code(), Some(2));
        assert_says(&text(&output.stderr), &["--precision", "it is one of f32, bf16"]);
    }
    let report = |output| -> Value { serde_json::from_str(&success(&["doctor"], &output)).unwrap() };
    let unit = report(run(&["doctor", "--json", "--device", "cpu"]))["matrix_unit"].clone();
    let bf16 = |device: &'static str| {
        ["selftest", "--precision", "bf16", "--quick", "--only", "Conv", "--device", device]
    };
    if let Some(unit) = unit.as_str() {
        for output in [run(&bf16("cpu")), without_driver(&bf16("auto"))] {
            assert_says(&success(&["selftest"], &output), &[unit, "Conv", "rows pass"]);
        }
    } else {
        for output in [run(&bf16("cpu")), without_driver(&bf16("auto"))] {
            let message = error_of(&output, 2);
            assert_eq!(message, "precision bf16: this processor has no matrix unit (AMX, AVX-512 BF16)");
        }
    }
    let report = report(emulated(&["doctor", "--json", "--precision", "bf16", "--width", "4"], &[]));
    assert_eq!(report["device"], "cuda:0: PTX emulator sm_80, sm_80, bf16");
}

#[test]
fn doctor_lists_driver_and_devices() {
    let report = |output: std::process::Output| -> Value {
        serde_json::from_str(&success(&["doctor"], &output)).unwrap()
    };
    let width = ["doctor", "--json", "--width", "4"];
    let here = report(emulated(&width, &[("CAPABILITY", "9.0"), ("MEMORY", "2G")]));
    let device = &here["cuda"]["devices"][0];
    assert_eq!((&here["cuda"]["driver"], &here["cuda"]["unavailable"]), (&"12.8".into(), &Value::Null));
    assert_eq!((&device["capability"], &device["memory_total"]), (&"9.0".into(), &(2u64 << 30).into()));
    assert!(device["memory_free"].as_u64().unwrap() > 1 << 30 && device["fault"].is_null());
    assert!(here["run"]["networks"].as_u64().unwrap() > 100_000 && here["run"]["fault"].is_null());

    let old = report(emulated(&width, &[("CAPABILITY", "7.5")]));
    assert_says(old["cuda"]["devices"][0]["fault"].as_str().unwrap(), &["7.5", "8.0 is needed"]);
    assert_says(old["device"].as_str().unwrap(), &["cpu: "]);

    let small = report(emulated(&width, &[("MEMORY", "8M")]));
    assert_says(small["run"]["fault"].as_str().unwrap(), &["device memory", "8.4 MB are free"]);

    let none = report(without_driver(&width));
    assert_eq!((&none["cuda"]["driver"], &none["cuda"]["devices"]), (&Value::Null, &Value::Array(vec![])));
    assert_says(none["cuda"]["unavailable"].as_str().unwrap(), &["libcuda"]);
}

/// What is refused says which batch fits; with that batch the run goes through, with one more image
/// it is refused again. The images count: they are most of it here.
#[test]
fn memory_is_known_before_the_run() {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    let attempt = |batch: &str| {
        let mut arguments =
            vec!["infect", "--data", "synthetic:classes=2,per_class=700,test_per_class=1,size=16"];
        arguments.extend(["--attack", "none", "--width", "1", "--epochs", "1", "--device", "cuda"]);
        arguments.extend(["--batch", batch, "--output", word(&output)]);
        emulated(&arguments, &[("MEMORY", "10M"), ("CHECKS", "none")])
    };
    let refused = |batch: &str| {
        let message = error_of(&attempt(batch), 2);
        assert_says(&message, &["of device memory are needed", "1.1 MB images", "are free; a batch of "]);
        assert!(!output.exists(), "a run folder is left");
        let (_, advice) = message.split_once("; a batch of ").unwrap();
        advice.strip_suffix(" would fit").unwrap().parse::<usize>().unwrap()
    };
    let fits = refused("1400");
    assert!(fits > 1 && fits < 1400, "{fits}");
    assert_eq!(refused(&(fits + 1).to_string()), fits);
    let done = attempt(&fits.to_string());
    assert!(done.status.success(), "{}", text(&done.stderr));
}

#[test]
fn a_run_goes_on_only_on_its_own_device() {
    let parent = tempfile::tempdir().unwrap();
    let on = |device: &'static str, more: &[&'static str]| {
        let output = parent.path().join(device);
        let mut arguments =
            vec!["infect", "--data", DATA, "--attack", "none", "--width", "1", "--epochs", "1"];
        arguments.extend(["--batch", "40", "--output", word(&output), "--device", device]);
        emulated(&[&arguments[..], more].concat(), &[])
    };
    let resumed = |device: &'static str, more: &[&str]| {
        let output = parent.path().join(device);
        emulated(&[&["infect", "--resume", word(&output)][..], more].concat(), &[])
    };
    success(&["cpu"], &on("cpu", &[]));
    std::fs::rename(parent.path().join("cpu"), parent.path().join("moved")).unwrap();
    let message = error_of(&resumed("moved", &["--device", "cuda"]), 2);
    assert_says(&message, &["device is \"cpu\" there and \"cuda: PTX emulator", "say so with --device"]);
    std::fs::rename(parent.path().join("moved"), parent.path().join("cpu")).unwrap();
    success(&["cpu"], &resumed("cpu", &[]));
    if let Some(unit) = pbe::device::cpu::matrix_unit() {
        let message = error_of(&resumed("cpu", &["--precision", "bf16"]), 2);
        let kinds = format!("device is \"cpu\" there and \"cpu {unit}\" here");
        assert_says(&message, &[kinds.as_str(), "say so with --precision"]);
    }

    success(&["cuda"], &on("cuda", &["--precision", "f32"]));
    let message = error_of(&resumed("cuda", &["--precision", "bf16"]), 2);
    assert_says(&message, &["precision is \"f32\" there and \"bf16\" here", "say so with --precision"]);
}
