//! What a caller of the library gets wrong is an error: never a panic, never numbers of something else.

use pbe::data::{ImageSet, synthetic};
use pbe::device::cpu::CpuDevice;
use pbe::device::{Augment, StepParams};
use pbe::engine::{AttackBatch, Budget, Engine, EngineOptions, Source};
use pbe::error::{Error, Result};
use pbe::model::{Architecture, NetworkKind, Weights};

const SMALL: Architecture =
    Architecture { network: NetworkKind::PreActResNet18, width: 2, classes: 4, channels: 3 };

fn graph() -> pbe::engine::graph::Graph {
    SMALL.graph(&pbe::data::Normalisation::identity(3), 8, 8).unwrap()
}

fn engine() -> (Engine, ImageSet) {
    let options =
        EngineOptions { batch: 4, attack: true, augment: Augment::default(), ..EngineOptions::default() };
    let device = CpuDevice::new(Some(1)).unwrap();
    let mut engine =
        Engine::open(&device, &graph(), &Weights::initialise(SMALL, 1).values, &options).unwrap();
    let images = synthetic(0, 4, 3, 8);
    engine.attach(&images).unwrap();
    (engine, images)
}

#[track_caller]
fn refused<T>(result: Result<T>, says: &str) {
    let error = result.err().expect("it was accepted");
    assert!(matches!(error, Error::Input(_)) && error.to_string().contains(says), "{error}");
}

#[test]
fn weights_of_another_number() {
    let device = CpuDevice::new(Some(1)).unwrap();
    let graph = graph();
    let all = graph.weights;
    for count in [0, 10, all - 1, all + 1] {
        let opened = Engine::open(&device, &graph, &vec![0.1; count], &EngineOptions::default());
        refused(opened, &format!("{count} weights, but there have to be {all}"));
    }
    let (mut engine, _) = engine();
    let before = engine.weights().unwrap();
    refused(engine.set_weights(&[0.5; 10]), "10 weights");
    refused(engine.set_momentum(&[0.5; 10]), "10 momentum");
    refused(engine.set_average(&vec![0.5; all + 1]), "average");
    assert_eq!(engine.weights().unwrap(), before);
}

/// A pass that makes no logits doesn't give those of the pass before.
#[test]
fn results_that_the_pass_has_not_made() {
    let (mut engine, _) = engine();
    let indices = [0, 1, 2];
    engine.logits(&indices).unwrap();
    let attack = |engine: &mut Engine, predict: bool| {
        let budgets = [Budget { epsilon: 0.03, alpha: 0.01 }; 3];
        let batch = AttackBatch {
            source: Source::Images,
            indices: &indices,
            labels: &[0, 1, 2],
            budgets: &budgets,
            predict,
        };
        let params = StepParams { repeats: 1, ..StepParams::default() };
        engine.attack(&batch, &params, |rows| rows.logits(&mut [0.0; 12]))
    };
    refused(attack(&mut engine, false), "this pass has made no logits");
    attack(&mut engine, true).unwrap();
    let params = StepParams::default();
    let scores = engine.infer(Source::Images, &indices, &params, |rows| rows.scores(&mut [0.0; 3]));
    refused(scores, "this pass has made no score");
    let examples = engine.infer(Source::Images, &indices, &params, |rows| rows.adversarial(&mut [0.0; 576]));
    refused(examples, "this pass has made no adversarial");
}

#[test]
fn lists_that_are_too_short_or_point_elsewhere() {
    let (mut engine, images) = engine();
    let params = StepParams::default();
    refused(engine.infer(Source::Images, &[0, 1], &params, |rows| rows.logits(&mut [0.0; 7])), "room for 7");
    refused(engine.logits(&[0, images.len() as u32]), "of 12 attached ones");
    refused(engine.scores(&[0, 1], &[1.0; 7]), "7 logits to compare with, but there have to be 8");
    let budgets = [Budget { epsilon: 0.03, alpha: 0.01 }; 2];
    for (labels, budgets, says) in [
        (&[0][..], &budgets[..], "1 labels"),
        (&[0, 1], &budgets[..1], "1 budgets"),
        (&[0, 4], &budgets, "label 4 of 4 classes"),
    ] {
        let batch = AttackBatch { source: Source::Images, indices: &[0, 1], labels, budgets, predict: false };
        refused(engine.attack(&batch, &StepParams { repeats: 1, ..params }, |_| Ok(())), says);
    }
    let mut train = |indices: &[u32], labels: &[u32], teacher: Option<&[f32]>| {
        engine.train_step(Source::Augmented, indices, labels, teacher, &params)
    };
    refused(train(&[0, 1], &[0], None), "1 labels");
    refused(train(&[], &[], None), "a batch of 0 images");
    refused(train(&[0, 99], &[0, 1], None), "image 99");
    refused(train(&[0, 1], &[0, 9], None), "label 9");
    let other = synthetic(0, 4, 3, 16);
    refused(engine.attach(&other), "images of 768 bytes");
}
