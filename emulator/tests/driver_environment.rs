//! Settings come from the environment of a process: each case here is a process of its own, this test
//! program once more.

mod driver;

use std::fs;
use std::process::{Command, Output};

use cudarc::driver::{CudaContext, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use driver::{BASICS, CHECKS, path};
use serde_json::Value;

/// The program that the other tests run: says what the device is, adds vectors twice, then makes a fault.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn program() {
    // SAFETY: the library does nothing when it is loaded.
    std::mem::forget(unsafe { libloading::Library::new(path()) }.unwrap());
    match run() {
        Ok(line) => println!("result: {line}"),
        Err(error) => println!("result: {:?}", error.0),
    }
}

fn run() -> Result<String, DriverError> {
    let context = CudaContext::new(0)?;
    let (capability, memory) = (context.compute_capability()?, context.total_mem()?);
    let stream = context.default_stream();
    let saxpy = context.load_module(Ptx::from_src(BASICS))?.load_function("saxpy")?;
    let x = stream.clone_htod(&vec![1f32; 4096])?;
    let mut y = stream.clone_htod(&vec![2f32; 4096])?;
    let (n, a) = (4096i32, 3f32);
    for _ in 0..2 {
        // SAFETY: the vectors are that long.
        unsafe {
            stream
                .launch_builder(&saxpy)
                .arg(&n)
                .arg(&a)
                .arg(&x)
                .arg(&mut y)
                .launch(LaunchConfig::for_num_elems(4096))
        }?;
    }
    let sum: f32 = stream.clone_dtoh(&y)?.iter().sum();
    let race = context.load_module(Ptx::from_src(CHECKS))?.load_function("missing_barrier")?;
    let sizes = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (128, 1, 1), shared_mem_bytes: 0 };
    let mut out = stream.alloc_zeros::<i32>(128)?;
    // SAFETY: as long as the block.
    let fault = unsafe { stream.launch_builder(&race).arg(&1i32).arg(&mut out).launch(sizes) };
    Ok(format!("{capability:?} {memory} {sum} {:?}", fault.err().map(|error| error.0)))
}

fn with(variables: &[(&str, &str)]) -> (String, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "program", "--ignored", "--nocapture"]);
    for (name, _) in std::env::vars() {
        if name.starts_with("PTX_EMULATOR_") {
            command.env_remove(name);
        }
    }
    let variables = variables.iter().map(|(name, value)| (format!("PTX_EMULATOR_{name}"), value));
    let Output { stdout, stderr, status } = command.envs(variables).output().unwrap();
    assert!(status.success());
    let stdout = String::from_utf8(stdout).unwrap();
    let line = stdout.lines().find_map(|line| line.split_once("result: ")).unwrap().1.to_string();
    (line, String::from_utf8(stderr).unwrap())
}

#[test]
fn without_settings_all_is_checked() {
    let (line, log) = with(&[]);
    assert_eq!(line, format!("(8, 0) {} 32768 Some(CUDA_ERROR_LAUNCH_FAILED)", 8u64 << 30));
    assert!(log.contains("ptx-emulator: ") && log.contains(" in missing_barrier at checks.cu:"), "{log}");
    assert!(log.contains("block (0,0,0) thread ("), "{log}");
}

#[test]
fn capability_memory_and_checks_are_set() {
    let (line, log) = with(&[("CAPABILITY", "8.9"), ("MEMORY", "64M"), ("CHECKS", "none"), ("THREADS", "1")]);
    assert_eq!(line, format!("(8, 9) {} 32768 None", 64 << 20));
    assert!(!log.contains("ptx-emulator"), "{log}");
}

#[test]
fn one_check_alone() {
    let (line, log) = with(&[("CHECKS", "shared-races"), ("SEED", "3")]);
    assert!(line.ends_with("Some(CUDA_ERROR_LAUNCH_FAILED)"), "{line}");
    assert!(log.contains("SharedRace"), "{log}");
    let (line, _) = with(&[("CHECKS", "global-races")]);
    assert!(line.ends_with("None"), "{line}");
}

#[test]
fn machines_that_cannot() {
    assert_eq!(with(&[("DEVICES", "0")]).0, "CUDA_ERROR_NO_DEVICE");
    // The module is for sm_80.
    let (line, log) = with(&[("CAPABILITY", "7.5")]);
    assert_eq!(line, "CUDA_ERROR_INVALID_PTX", "{log}");
}

#[test]
fn malformed_settings_are_refused() {
    let (line, log) = with(&[("CHECKS", "all-of-them")]);
    assert_eq!(line, "CUDA_ERROR_INVALID_VALUE");
    assert!(log.contains("ptx-emulator: PTX_EMULATOR_CHECKS=all-of-them: expected"), "{log}");
    let (line, log) = with(&[("SEEED", "1")]);
    assert_eq!(line, "CUDA_ERROR_INVALID_VALUE");
    assert!(log.contains("PTX_EMULATOR_SEEED=1: unknown"), "{log}");
}

#[test]
fn launches_that_never_end_meet_the_limit() {
    let (line, log) = with(&[("LIMIT", "100")]);
    assert_eq!(line, "CUDA_ERROR_LAUNCH_TIMEOUT");
    assert!(log.contains("Endless in saxpy"), "{log}");
}

#[test]
fn the_report_has_counters_and_findings() {
    let file = std::env::temp_dir().join(format!("ptx-emulator-{}.json", std::process::id()));
    with(&[("REPORT", file.to_str().unwrap()), ("SEED", "5")]);
    let report: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(report["capability"], "8.0");
    assert_eq!(report["seed"], 5);
    assert_eq!(report["checks"].as_array().unwrap().len(), 7);
    let counters = &report["kernels"]["saxpy"]["counters"];
    assert_eq!(counters["launches"], 2);
    assert_eq!(counters["blocks"], 8);
    assert_eq!(counters["warps"], 256);
    // Two loads and a store of 4 bytes for every thread, side by side: 4 sectors a warp.
    assert_eq!(counters["global_loads"]["requests"], 512);
    assert_eq!(counters["global_loads"]["bytes"], 2 * 2 * 4096 * 4);
    assert_eq!(counters["global_loads"]["sectors"], 512 * 4);
    assert_eq!(counters["global_stores"]["sectors"], 256 * 4);
    assert_eq!(report["kernels"]["missing_barrier"]["failed"], 1);
    let finding = &report["findings"][0];
    assert_eq!(finding["kernel"], "missing_barrier");
    assert_eq!(finding["source_file"], "checks.cu");
    assert!(finding["source_line"].as_u64().unwrap() > 0 && finding["ptx_line"].as_u64().unwrap() > 0);
}

/// What the program says under these patches.
fn patched(name: &str, json: &str) -> (String, String) {
    let file = std::env::temp_dir().join(format!("ptx-emulator-{}-{name}.json", std::process::id()));
    fs::write(&file, json).unwrap();
    let said = with(&[("PATCHES", file.to_str().unwrap())]);
    fs::remove_file(&file).unwrap();
    said
}

#[test]
fn kernels_are_patched() {
    let json = r#"[{"kernel": "saxpy", "find": "fma.rn.f32", "replace": "fma.rz.f32"},
        {"kernel": "saxpy", "find": "fma.rz.f32 %f4, %f2, %f1, %f3;", "replace": "mov.f32 %f4, %f3;"}]"#;
    let (line, log) = patched("right", json);
    assert!(line.contains(" 8192 Some("), "{line} {log}");
    assert!(log.contains("ptx-emulator: patch of saxpy, PTX line "), "{log}");
    assert!(log.contains(": `fma.rn.f32` is now `fma.rz.f32`\n"), "{log}");
}

#[test]
fn patches_that_cannot_be_made_are_errors() {
    let (line, log) = patched("absent", r#"[{"kernel": "saxpy", "find": "bar.sync", "replace": ""}]"#);
    assert_eq!(line, "CUDA_ERROR_INVALID_PTX");
    assert!(log.contains("patch of saxpy: `bar.sync` is there 0 times, not once"), "{log}");
    let (line, log) = patched("malformed", r#"[{"kernel": "saxpy"}]"#);
    assert_eq!(line, "CUDA_ERROR_INVALID_VALUE");
    assert!(log.contains("malformed.json: missing field `find`"), "{log}");
    let (line, log) = with(&[("PATCHES", "no/such/file")]);
    assert_eq!(line, "CUDA_ERROR_INVALID_VALUE");
    assert!(log.contains("PTX_EMULATOR_PATCHES=no/such/file: No such file"), "{log}");
}
