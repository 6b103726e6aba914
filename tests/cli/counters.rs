//! What decides the speed of the tensor-core convolutions, counted on the emulator at the shapes of networks of width
//! 64 with few images: no bank conflicts, whole sectors, at most 5 % more matrix instructions than needed.
//! `cargo test --test cli counters -- --nocapture` prints the table of docs/performance.md.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use pbe::data::{Normalisation, synthetic};
use pbe::device::cuda::CudaDevice;
use pbe::device::{Augment, ConvShape, Norm, Precision, StepParams};
use pbe::engine::{AttackBatch, Budget, Engine, EngineOptions, Source};
use pbe::model::{Architecture, NetworkKind, Weights};
use pbe::selftest::cases::conv::{AddendPlace, ConvCase};
use serde_json::Value;

use super::emulated::emulator;

/// Height, width, input channels, output channels, kernel, stride, images. First the shapes of a PreAct-ResNet-18 at
/// 32x32 and one with few channels; then those of a ResNet-18 at 224x224, cut to some rows, since all blocks do the
/// same. So few images take tiles of 64 rows instead of 128; the last shape fills tiles of 128.
const SHAPES: [[usize; 7]; 16] = [
    [32, 32, 3, 64, 3, 1, 1],
    [32, 32, 64, 64, 3, 1, 1],
    [32, 32, 64, 128, 3, 2, 1],
    [32, 32, 64, 128, 1, 2, 1],
    [16, 16, 128, 128, 3, 1, 1],
    [8, 8, 256, 256, 3, 1, 2],
    [4, 4, 512, 512, 3, 1, 8],
    [16, 16, 16, 16, 3, 1, 2],
    [16, 224, 3, 64, 7, 2, 1],
    [16, 56, 64, 64, 3, 1, 1],
    [64, 56, 64, 128, 3, 2, 1],
    [64, 56, 64, 128, 1, 2, 1],
    [32, 28, 128, 128, 3, 1, 1],
    [14, 14, 256, 256, 3, 1, 1],
    [7, 7, 512, 512, 3, 1, 4],
    [32, 32, 64, 64, 3, 1, 32],
];

/// Products of a matrix instruction, m16n8k16.
const PRODUCTS: u64 = 16 * 8 * 16;

/// Rows of fprop's and dgrad's tiles.
const TILE: usize = 128;

/// The environment variable that tells this test program, started again as a child process, which shape to run or how
/// many steps.
const NUMBER: &str = "PBE_COUNTERS_NUMBER";

fn shape(number: usize) -> (ConvShape, usize) {
    let [height, width, in_channels, out_channels, kernel, stride, count] = SHAPES[number];
    (ConvShape { height, width, in_channels, out_channels, kernel, stride, pad: kernel / 2 }, count)
}

/// Runs a shape in all three directions on the driver in LD_LIBRARY_PATH.
fn convolve(number: usize) {
    let (shape, count) = shape(number);
    let device = CudaDevice::open(0, Precision::Bf16).unwrap();
    let (residual, add) = (AddendPlace::Apart, AddendPlace::None);
    let case = ConvCase {
        shape,
        count,
        slice: 0,
        affine: true,
        relu: true,
        mask: true,
        bias: true,
        scaled: true,
        residual,
        add,
        aligned: true,
    };
    case.case(1).run(&device).unwrap();
}

/// The report of the emulator after `test` ran `number`.
fn report(test: &str, number: usize, folder: &Path) -> Value {
    let file = folder.join(format!("{number}.json"));
    let status = Command::new(std::env::current_exe().unwrap())
        .args([&format!("counters::{test}"), "--exact"])
        .env(NUMBER, number.to_string())
        .env("LD_LIBRARY_PATH", emulator())
        .env("PTX_EMULATOR_CHECKS", "none")
        .env("PTX_EMULATOR_REPORT", &file)
        .output()
        .unwrap()
        .status;
    assert!(status.success(), "{test}, {number}");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The fewest matrix instructions that a direction's products take: rows, columns and k rounded up to whole
/// instructions.
fn least(direction: &str, shape: &ConvShape, count: usize) -> u64 {
    let taps = shape.kernel * shape.kernel;
    let (inputs, outputs) =
        (count * shape.height * shape.width, count * shape.out_height() * shape.out_width());
    let (c, k) = (shape.in_channels, shape.out_channels);
    let tiles = |rows: usize, columns: usize, depth: usize| {
        (rows.div_ceil(16) * columns.div_ceil(8) * depth.div_ceil(16)) as u64
    };
    match direction {
        "fprop" => tiles(outputs, k, taps * c),
        // Each gradient reaches `taps` inputs; the phases of a strided dgrad add up to this.
        "dgrad" => tiles(inputs, c, taps * k) / (shape.stride * shape.stride) as u64,
        _ => tiles(taps * c, k, outputs),
    }
}

fn number(counters: &Value, path: &str) -> u64 {
    counters.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path}"))
}

#[test]
fn convolutions() {
    if let Ok(number) = std::env::var(NUMBER) {
        return convolve(number.parse().unwrap());
    }
    let reports = tempfile::tempdir().unwrap();
    println!(
        "| images x size, channels, kernel / stride | | mma / least | bank conflicts | copied sectors used | stored sectors used |"
    );
    println!("|---|---|---|---|---|---|");
    let mut faults = BTreeMap::new();
    for at in 0..SHAPES.len() {
        let (shape, count) = shape(at);
        let report = report("convolutions", at, reports.path());
        for direction in ["fprop", "dgrad", "wgrad"] {
            let prefix = format!("conv_{direction}_bf16");
            let kernels = report["kernels"].as_object().unwrap();
            let (name, kernel) = kernels.iter().find(|(name, _)| name.starts_with(&prefix)).unwrap();
            let counters = &kernel["counters"];
            let shapes = counters["matrix"].as_object().unwrap().values();
            let products: u64 = shapes.map(|shape| number(shape, "/products")).sum();
            let ratio = (products / PRODUCTS) as f64 / least(direction, &shape, count) as f64;
            let conflicts = number(counters, "/bank_conflicts");
            let used = |path: &str| {
                let bytes = number(counters, &format!("{path}/bytes"));
                bytes as f64 / (32 * number(counters, &format!("{path}/sectors")).max(1)) as f64
            };
            // Where lanes read the same bytes, more bytes are counted than the sectors have.
            let (copied, stored) = (used("/async_copies").min(1.0), used("/global_stores"));
            let ConvShape { height, width, in_channels, out_channels, kernel, stride, .. } = shape;
            println!(
                "| {count} x {height}x{width}, {in_channels} to {out_channels}, {kernel}x{kernel} / {stride} | `{name}` | {ratio:.2} | {conflicts} | {:.0} % | {:.0} % |",
                100.0 * copied,
                100.0 * stored
            );
            // With so few images the last tile may be partly empty; with a batch of 128 it never is.
            let pixels = count * shape.out_height() * shape.out_width();
            let whole = in_channels.is_multiple_of(64) && pixels.is_multiple_of(TILE);
            if conflicts > 0 || copied < 0.9 || whole && (ratio > 1.05 || stored < 0.9) {
                faults.insert((at, direction), (ratio, conflicts, copied, stored));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:?}");
}

/// Attacks an image with this many steps on the driver in LD_LIBRARY_PATH.
fn attack(steps: usize) {
    let images = synthetic(0, 2, 1, 32);
    let architecture =
        Architecture { network: NetworkKind::PreActResNet18, width: 16, classes: 10, channels: 3 };
    let graph = architecture.graph(&Normalisation::identity(3), 32, 32).unwrap();
    let weights = Weights::initialise(architecture, 0);
    let options = EngineOptions {
        batch: 1,
        attack: true,
        augment: Augment::default(),
        norm: Norm::Linf,
        ..EngineOptions::default()
    };
    let device = CudaDevice::open(0, Precision::Bf16).unwrap();
    let mut engine = Engine::open(&device, &graph, &weights.values, &options).unwrap();
    engine.attach(&images).unwrap();
    let budgets = [Budget { epsilon: 0.03, alpha: 0.01 }];
    let (indices, labels) = (&[0], &images.labels[..1]);
    let target = AttackBatch { source: Source::Images, indices, labels, budgets: &budgets, predict: false };
    let params = StepParams { repeats: steps, ..StepParams::default() };
    engine.attack(&target, &params, |_| Ok(())).unwrap();
}

#[test]
fn launches() {
    if let Ok(number) = std::env::var(NUMBER) {
        return attack(number.parse().unwrap());
    }
    let reports = tempfile::tempdir().unwrap();
    let count = |steps| {
        let report = report("launches", steps, reports.path());
        let kernels = report["kernels"].as_object().unwrap().iter();
        let launches =
            |(name, kernel): (&String, &Value)| (name.clone(), number(&kernel["counters"], "/launches"));
        (kernels.map(launches).collect::<BTreeMap<_, _>>(), number(&report, "/graphs"))
    };
    let ((one, graphs), (two, of_two)) = (count(1), count(2));
    assert_eq!((graphs, of_two), (2, 2), "one that prepares filters, one of all steps");
    let step = two.into_iter().map(|(name, launches)| (launches - one.get(&name).unwrap_or(&0), name));
    let step: Vec<(u64, String)> = step.filter(|(launches, _)| *launches > 0).collect();
    let total: u64 = step.iter().map(|(launches, _)| launches).sum();
    println!("a step of an attack: {total} launches");
    step.iter().for_each(|(launches, name)| println!("{launches} {name}"));
    assert!(total <= 42, "{total}");
}
