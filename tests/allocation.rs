//! Nothing is allocated in a step: after the first one, an attack, a training step and a scoring pass allocate
//! only the engine's small vectors of indices and losses. A test program of its own, because it counts every
//! allocation of the process.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use pbe::data::synthetic;
use pbe::device::cpu::CpuDevice;
use pbe::device::{Augment, StepParams};
use pbe::engine::{AttackBatch, Budget, Engine, EngineOptions, Source};
use pbe::model::{Architecture, NetworkKind, Weights};

static BYTES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_allocates_next_to_nothing() {
    let images = synthetic(0, 10, 4, 32);
    let architecture =
        Architecture { network: NetworkKind::PreActResNet18, width: 8, classes: 10, channels: 3 };
    let graph = architecture.graph(&pbe::data::Normalisation::identity(3), 32, 32).unwrap();
    let weights = Weights::initialise(architecture, 0);
    let options = EngineOptions {
        batch: 32,
        attack: true,
        augment: Augment { pad: 4, flip: true },
        external_inputs: true,
        ..EngineOptions::default()
    };
    let device = CpuDevice::new(Some(2)).unwrap();
    let mut engine = Engine::open(&device, &graph, &weights.values, &options).unwrap();
    engine.attach(&images).unwrap();
    let indices: Vec<u32> = (0..32).collect();
    let labels = &images.labels[..32];
    let budgets = [Budget { epsilon: 0.03, alpha: 0.01 }; 32];
    let reference = engine.logits(&indices).unwrap();
    let params = StepParams { learning_rate: 0.01, average_decay: 0.9, repeats: 3, ..StepParams::default() };
    let mut step = || {
        let target = AttackBatch {
            source: Source::Augmented,
            indices: &indices,
            labels,
            budgets: &budgets,
            predict: true,
        };
        engine.attack(&target, &params, |_| Ok(())).unwrap();
        engine.train_step(Source::Adversarial, &indices, labels, None, &params).unwrap();
        engine.scores(&indices, &reference).unwrap();
    };
    step();
    let before = BYTES.load(Ordering::Relaxed);
    step();
    let taken = BYTES.load(Ordering::Relaxed) - before;
    // One activation of this network is 32 KiB an image.
    assert!(taken < 8 * 1024, "{taken} bytes");
}
