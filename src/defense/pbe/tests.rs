//! Algorithm 1 as a whole, on a network that has learnt nothing.

use super::{InitialSet, Pbe, SecondLook};
use crate::data::{ImageSet, Normalisation, synthetic};
use crate::defense::run::purify;
use crate::defense::{Cursor, Defense, Facts, NoopObserver, Observer, Phase, Run, RunInputs, RunState};
use crate::engine::{CpuDevice, Engine, EngineOptions, Source, StepParams};
use crate::error::{Error, Result};
use crate::eval::{FilterAttack, LabelSuspects, Suspects, View, predict};
use crate::model::{Architecture, NetworkKind, Weights};

/// Keeps the initial set.
#[derive(Default)]
struct KeepInitialSet(Vec<u32>);

impl Observer for KeepInitialSet {
    fn round_started(&mut self, round: usize, selected: &[u32]) -> Result<()> {
        if round == 0 {
            self.0 = selected.to_vec();
        }
        Ok(())
    }
}

fn untrained(pbe: &Pbe) -> Engine {
    let architecture =
        Architecture { network: NetworkKind::PreActResNet18, width: 2, classes: 3, channels: 3 };
    let graph = architecture.graph(&Normalisation::identity(3), 8, 8).unwrap();
    let weights = Weights::initialise(architecture, 5);
    let device = CpuDevice::new(Some(1)).unwrap();
    let options = EngineOptions { attack: true, activation_gradients: true, ..pbe.trainer.engine_options() };
    Engine::open(&device, &graph, &weights.values, &options).unwrap()
}

/// An attack that nearly all images survive dropped 5,299 of 6,000, and the backdoor of a model with ASR 99.96
/// stayed (Fashion-MNIST, BadNets): there the images hold still, not the trigger.
#[test]
fn a_filter_that_would_drop_most_images_is_skipped() {
    let still = |max_dropped| {
        let attacks = vec![FilterAttack { epsilon: 1e-3, steps: 1 }];
        filtering(|set| InitialSet { attacks: attacks.clone(), max_dropped, ..set })
    };
    let (none, most) = (kept(&still(0.6)), kept(&still(1.0)));
    assert!(none.len() == 30 && most.len() < 12, "{none:?}, {most:?}");
}

/// A warp's poison gives way to small changes, and passed the robustness filter: the backdoor of a model with
/// ASR 97.9 stayed (CIFAR-10, WaNet). So did that of Blend all-to-all, of which less light takes two thirds.
#[test]
fn what_loses_its_label_in_a_view_is_dropped() {
    let seen = |view: View| {
        let (images, mut engine) = labelled();
        let changed = view.of(&images, &(0..30).collect::<Vec<u32>>(), 0);
        let predictions = predict(&mut engine, &changed).unwrap();
        (0..30).filter(|&i| predictions[i as usize] == images.labels[i as usize]).collect::<Vec<u32>>()
    };
    let both = [View::Flip, View::Zoom];
    let mut pbe = filtering(|set| InitialSet { views: both.to_vec(), ..set });
    let [flip, zoom] = both.map(seen);
    let expected: Vec<u32> = flip.iter().copied().filter(|i| zoom.contains(i)).collect();
    assert!(expected.len() < flip.len() && flip.len() < 30 && !expected.is_empty(), "{flip:?} {zoom:?}");
    assert_eq!(kept(&pbe), expected);
    // Traffic signs aren't mirrored in training, and a mirrored one may mean another thing.
    pbe.trainer.flip = false;
    assert_eq!(kept(&pbe), zoom);
}

/// The default with these filters.
fn filtering(initial_set: impl Fn(InitialSet) -> InitialSet) -> Pbe {
    let mut pbe = Pbe::defaults(&Facts::new(false)).unwrap();
    let none =
        InitialSet { views: vec![], attacks: vec![], max_dropped: 1.0, suspicion: 1.0, ..pbe.initial_set };
    pbe.initial_set = initial_set(none);
    pbe
}

/// 30 images, labelled as a network does that has begun to learn their classes.
fn labelled() -> (ImageSet, Engine) {
    let images = synthetic(1, 3, 10, 8);
    let mut pbe = filtering(|set| set);
    pbe.trainer.batch = 30;
    let mut engine = untrained(&pbe);
    engine.attach(&images).unwrap();
    let all: Vec<u32> = (0..30).collect();
    let params = StepParams { learning_rate: 0.05, momentum: 0.9, ..StepParams::default() };
    for _ in 0..40 {
        engine.train_step(Source::Images, &all, &images.labels, None, &params).unwrap();
    }
    let labels = predict(&mut engine, &images).unwrap();
    (images.with_labels(labels), engine)
}

/// Those of the 30 that pass the filters.
fn kept(pbe: &Pbe) -> Vec<u32> {
    let (images, mut engine) = labelled();
    let all: Vec<u32> = (0..30).collect();
    let (left, reports) = pbe.filters().apply(&mut engine, &images, &all, 0, &mut |_| Ok(())).unwrap();
    let mut input = all;
    for report in reports {
        assert_eq!(report.input, input, "each filter gets what is left");
        input = if report.skipped { report.input } else { report.kept };
    }
    assert_eq!(input, left);
    left
}

/// The initial set, and what the infected model predicts.
fn initial_set(label_agreement: bool, images: &ImageSet) -> (Vec<u32>, Vec<u32>) {
    let mut pbe = filtering(|set| InitialSet { label_agreement, ..set });
    pbe.trainer.batch = 2;
    for round in &mut pbe.rounds {
        (round.adversarial.epochs, round.clean.epochs) = (0, 0);
    }
    let (mut infected, mut model) = (untrained(&pbe), untrained(&pbe));
    let mut observer = KeepInitialSet::default();
    let inputs = RunInputs { infected: &mut infected, model: &mut model, images, clean_set: false, seed: 0 };
    purify(&pbe, inputs, &mut RunState::default(), &mut observer).unwrap();
    (observer.0, predict(&mut infected, images).unwrap())
}

/// Poisoned images whose label the infected model doesn't give passed the robustness filter, and
/// brought the backdoor of a model with ASR 95.9 back (CIFAR-10, BadNets).
#[test]
fn the_initial_set_holds_only_labels_that_the_infected_model_gives() {
    let images = synthetic(1, 3, 10, 8);
    let (everything, predictions) = initial_set(false, &images);
    assert_eq!(everything.len(), images.len());
    let (agreed, _) = initial_set(true, &images);
    let agrees = |&i: &u32| predictions[i as usize] == images.labels[i as usize];
    let expected: Vec<u32> = everything.iter().copied().filter(agrees).collect();
    assert!(expected.len() >= 2 && expected.len() < everything.len(), "{expected:?}");
    assert_eq!(agreed, expected);
}

/// A run that suspects the first ten of the 30 images and selects two others. The model of its last round has `forgotten`
/// their labels, or gives them still.
fn with_suspects(pbe: &Pbe, forgotten: bool, work: impl Fn(&mut Run, &ImageSet)) {
    let (mut images, mut infected) = labelled();
    if forgotten {
        let labels = images.labels.iter().enumerate();
        images = images.with_labels(labels.map(|(at, label)| (label + u32::from(at < 10)) % 3).collect());
    }
    let mut model = untrained(pbe);
    let label =
        LabelSuspects { labelled: 30, images: 30, suspected: 10, consistent: 15, ..LabelSuspects::default() };
    let suspects = Suspects {
        images: (0..10).collect(),
        deviation: vec![0.0; 30],
        predictions: images.labels.to_vec(),
        labels: vec![label; 3],
    };
    let start = infected.weights().unwrap();
    let mut state =
        RunState { suspects: Some(suspects), selected: vec![20, 21], start, ..RunState::default() };
    let mut observer = NoopObserver;
    let inputs =
        RunInputs { infected: &mut infected, model: &mut model, images: &images, clean_set: false, seed: 0 };
    work(&mut Run::new(pbe, inputs, &mut state, &mut observer).unwrap(), &images);
}

/// The suspected images keep their pixels and lose their label; a fifth of them is held out.
#[test]
fn suspected_images_are_trained_on_under_another_label() {
    let mut pbe = Pbe::defaults(&Facts::new(false)).unwrap();
    with_suspects(&pbe, true, |run, images| {
        let set = pbe.clean_images(run, &pbe.rounds[1]).unwrap();
        assert_eq!(set.indices, [20, 21, 1, 2, 3, 4, 6, 7, 8, 9]);
        for i in 0..30 {
            let relabelled = i < 10 && i % 5 != 0;
            assert_eq!(set.images.labels[i] != images.labels[i], relabelled, "image {i}");
        }
        assert_eq!(pbe.clean_images(run, &pbe.rounds[0]).unwrap().indices, [20, 21]);
    });
    // The model of the round's beginning still gives them their label.
    with_suspects(&pbe, false, |run, _| {
        assert_eq!(pbe.clean_images(run, &pbe.rounds[1]).unwrap().indices, [20, 21]);
    });
    // A third is suspected: too few for this.
    pbe.initial_set.suspicion = 0.4;
    with_suspects(&pbe, true, |run, images| {
        let set = pbe.clean_images(run, &pbe.rounds[1]).unwrap();
        assert!(set.indices == [20, 21] && set.images.labels == images.labels);
    });
}

/// Suspected images are poisoned nearly always, and training on them under their own label brings the backdoor back.
#[test]
fn no_set_holds_a_suspected_image() {
    let mut pbe = filtering(|set| InitialSet { suspicion: 0.99, label_agreement: false, ..set });
    pbe.trainer.batch = 2;
    for round in &mut pbe.rounds {
        (round.adversarial.epochs, round.clean.epochs) = (0, 0);
    }
    let (images, mut infected) = labelled();
    let mut model = untrained(&pbe);
    model.set_weights(&infected.weights().unwrap()).unwrap();
    let (mut observer, mut state) = (KeepInitialSet::default(), RunState::default());
    let inputs =
        RunInputs { infected: &mut infected, model: &mut model, images: &images, clean_set: false, seed: 0 };
    purify(&pbe, inputs, &mut state, &mut observer).unwrap();
    let suspects = state.suspects.unwrap();
    assert!(!suspects.images.is_empty(), "this says something only where an image is suspected");
    assert_eq!(observer.0, suspects.unsuspected());
    assert!(state.selected.iter().all(|index| !suspects.images.contains(index)));
}

/// Of the attacker's labels much of what isn't suspected is poisoned: on Tiny-ImageNet 71 of 3,054 images of a first set by
/// label, and the backdoor stayed. Other labels keep images that look unusual: the demo's triangles lost 24 points.
#[test]
fn only_the_attackers_labels_lose_images_that_deviate() {
    let clean = LabelSuspects { labelled: 4, images: 4, consistent: 4, ..LabelSuspects::default() };
    let poisoned = LabelSuspects { labelled: 40, images: 40, suspected: 20, consistent: 20, ..clean };
    let suspects = Suspects {
        images: vec![8, 7],
        deviation: vec![0.0, 0.0, 0.1, 0.1, 0.30, 0.31, 0.32, 0.8, 0.9, 0.2, 0.4, 0.4],
        predictions: vec![0, 0, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2],
        labels: vec![clean, clean, poisoned],
    };
    let mut pbe = Pbe::defaults(&Facts::new(false)).unwrap();
    pbe.initial_set.best = 0.5;
    let labels = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];
    assert_eq!(pbe.least_deviating(&suspects, &labels), [0, 1, 2, 4, 5, 6, 9]);
}

/// A benign model of CIFAR-10 lost 8 points of accuracy to a purification that had nothing to erase.
#[test]
fn a_model_without_a_sign_is_left_as_it_is() {
    let mut pbe = filtering(|set| InitialSet { suspicion: 0.99, no_sign: 0.98, ..set });
    pbe.trainer.batch = 10;
    for round in &mut pbe.rounds {
        (round.adversarial.epochs, round.clean.epochs, round.clean.learning_rate) = (0, 1, 1e-4);
    }
    let end = |pbe: &Pbe| {
        let (images, mut infected) = labelled();
        let mut model = untrained(pbe);
        model.set_weights(&infected.weights().unwrap()).unwrap();
        let mut state = RunState::default();
        let inputs = RunInputs {
            infected: &mut infected,
            model: &mut model,
            images: &images,
            clean_set: false,
            seed: 0,
        };
        purify(pbe, inputs, &mut state, &mut NoopObserver).unwrap();
        let kept = model.weights().unwrap() == infected.weights().unwrap();
        (state.second_look, state.records.len(), kept)
    };
    assert_eq!(end(&pbe), (Some(SecondLook::NoSign), 1, true));
    pbe.initial_set.no_sign = 0.0;
    assert_eq!(end(&pbe), (Some(SecondLook::Undecided), 2, false));
}

/// CIFAR-10, Blend, width 8: the first look found 936 images and didn't trust them, since few of their label keep it in all
/// views. What the filters left of the classes isn't to be built on.
#[test]
fn what_the_second_look_finds_begins_the_rounds_anew() {
    let mut pbe = filtering(|set| InitialSet { suspicion: 0.15, no_sign: 0.05, ..set });
    for round in &mut pbe.rounds {
        (round.adversarial.epochs, round.clean.epochs) = (0, 0);
    }
    with_suspects(&pbe, false, |run, _| {
        run.state.second_look = Some(SecondLook::Poisoned);
        run.state.cursor = Cursor { round: 1, ..Cursor::default() };
        pbe.run(run).unwrap();
        assert!(run.state.restarted && run.state.cursor.round == 2, "{:?}", run.state.cursor);
        assert!(run.model.weights().unwrap() == run.infected.weights().unwrap());
        assert!(run.state.selected.len() > 2 && run.state.selected.iter().all(|&index| index >= 10));
        // The same again, as a run that is resumed does, begins nothing anew.
        pbe.run(run).unwrap();
        assert_eq!(run.state.cursor.round, 2);
    });
}

/// Ctrl-C during the second look.
struct Interrupts;

impl Observer for Interrupts {
    fn progress(&mut self, _: usize, phase: Phase, _: usize, _: usize, _: Option<f32>) -> Result<()> {
        match phase.key {
            "second_look" => Err(Error::Interrupted("here".into())),
            _ => Ok(()),
        }
    }
}

/// The run that went on had no suspects any more, and never looked again.
#[test]
fn an_interrupted_second_look_is_taken_again() {
    let mut pbe = filtering(|set| InitialSet { suspicion: 0.99, no_sign: 0.98, ..set });
    pbe.trainer.batch = 10;
    for round in &mut pbe.rounds {
        (round.adversarial.epochs, round.clean.epochs) = (0, 0);
    }
    let (images, mut infected) = labelled();
    let mut model = untrained(&pbe);
    model.set_weights(&infected.weights().unwrap()).unwrap();
    let mut state = RunState::default();
    let mut purified = |state: &mut RunState, observer: &mut dyn Observer| {
        let (infected, model) = (&mut infected, &mut model);
        purify(
            &pbe,
            RunInputs { infected, model, images: &images, clean_set: false, seed: 0 },
            state,
            observer,
        )
    };
    assert!(matches!(purified(&mut state, &mut Interrupts), Err(Error::Interrupted(_))));
    assert!(state.suspects.is_some() && state.second_look.is_none());
    purified(&mut state, &mut NoopObserver).unwrap();
    assert_eq!(state.second_look, Some(SecondLook::NoSign));
}
