//! A PGD attack, a training step and a scoring pass on random images, timed as a PyTorch baseline does:
//! `race [--network preact-resnet18] [--width 64] [--batch 128] [--size 32] [--classes 10] [--steps 1] [--reps 5]
//! [--threads N] [--device cpu|cuda] [--precision f32|bf16]`. Calls are timed from the host, copies of indices,
//! labels and results among them. `scripts/race.py` runs it beside PyTorch, on the CPU or a GPU.

use std::error::Error;
use std::str::FromStr;
use std::time::Instant;

use pbe::data::{ImageSet, Normalisation};
use pbe::device::cpu::CpuDevice;
use pbe::device::cuda::CudaDevice;
use pbe::device::{Device, Precision, StepParams};
use pbe::engine::{AttackBatch, Budget, Engine, EngineOptions, Source};
use pbe::model::{Architecture, NetworkKind, Weights};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn option<T: FromStr>(name: &str, default: T) -> Outcome<T> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == &format!("--{name}")) {
        Some(at) => {
            let value = arguments.get(at + 1).and_then(|value| value.parse().ok());
            Ok(value.ok_or(format!("--{name}: no such value"))?)
        }
        None => Ok(default),
    }
}

fn device() -> Outcome<Box<dyn Device>> {
    let threads = option("threads", 0)?;
    let threads = (threads > 0).then_some(threads);
    match (option("device", "cpu".to_string())?.as_str(), option("precision", Precision::F32)?) {
        ("cpu", Precision::F32) => Ok(Box::new(CpuDevice::new(threads)?)),
        ("cpu", Precision::Bf16) => Ok(Box::new(CpuDevice::bf16(threads)?)),
        ("cuda", precision) => Ok(Box::new(CudaDevice::open(0, precision)?)),
        (other, _) => Err(format!("--device: no {other}").into()),
    }
}

/// Median seconds of `reps` calls, after one to warm up.
fn time(reps: usize, mut call: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    call()?;
    let mut seconds = vec![];
    for _ in 0..reps {
        let clock = Instant::now();
        call()?;
        seconds.push(clock.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

fn main() -> Outcome<()> {
    let (width, batch) = (option("width", 64)?, option("batch", 128)?);
    let (size, reps, steps) = (option("size", 32)?, option("reps", 5)?, option("steps", 1)?);
    let (network, classes) = (option("network", NetworkKind::PreActResNet18)?, option("classes", 10)?);
    let device = device()?;
    let architecture = Architecture { network, width, classes, channels: 3 };
    let graph = architecture.graph(&Normalisation::identity(3), size, size)?;
    let weights = Weights::initialise(architecture, 0);
    let options = EngineOptions { batch, attack: true, ..EngineOptions::default() };
    let mut engine = Engine::open(device.as_ref(), &graph, &weights.values, &options)?;
    let images = ImageSet::noise(batch, size, 3, classes);
    engine.attach(&images)?;
    let indices: Vec<u32> = (0..batch as u32).collect();
    let flop = 2.0 * graph.multiply_adds() as f64 * batch as f64;
    println!("pbe {} width={width} batch={batch} size={size} bytes={}", device.describe(), engine.bytes());

    let budgets = vec![Budget { epsilon: 8.0 / 255.0, alpha: 2.0 / 255.0 }; batch];
    let pgd = time(reps, || {
        let target = AttackBatch {
            source: Source::Images,
            indices: &indices,
            labels: &images.labels,
            budgets: &budgets,
            predict: false,
        };
        let params = StepParams { random_start: false, repeats: steps, ..StepParams::default() };
        Ok(engine.attack(&target, &params, |_| Ok(()))?)
    })?;
    let params = StepParams { learning_rate: 0.01, nesterov: false, ..StepParams::default() };
    let train = time(reps, || {
        engine.train_step(Source::Images, &indices, &images.labels, None, &params)?;
        Ok(())
    })?;
    let reference = engine.logits(&indices)?;
    let score = time(reps, || {
        engine.scores(&indices, &reference)?;
        Ok(())
    })?;
    for (name, seconds, passes) in
        [("pgd_step", pgd / steps as f64, 2.0), ("train_step", train, 3.0), ("score", score, 1.0)]
    {
        println!(
            "{name:11} {:9.1} img/s  {:8.3} ms  {:7.1} GFLOP/s",
            batch as f64 / seconds,
            seconds * 1e3,
            passes * flop / seconds / 1e9
        );
    }
    Ok(())
}
