//! Algorithm 1 as a whole, on a network that has learnt nothing.

use super::config::{PurifyConfig, Recipe, TuneConfig};
use super::examples::argmax;
use super::pbe::{Models, Pbe, Phase, Watcher};
use super::state::{RoundRecord, State};
use crate::data::{ImageSet, Normalisation, synthetic};
use crate::device::cpu::CpuDevice;
use crate::engine::Engine;
use crate::error::Result;
use crate::model::{Architecture, Kind, Weights};

/// Keeps the first set.
#[derive(Default)]
struct FirstSet(Vec<u32>);

impl Watcher for FirstSet {
    fn progress(&mut self, _: usize, _: Phase, _: usize, _: usize, _: Option<f32>) {}
    fn interrupted(&mut self) -> bool {
        false
    }
    fn checkpoint(&mut self, _: &State) -> Result<()> {
        Ok(())
    }
    fn begun(&mut self, round: usize, selected: &[u32]) -> Result<()> {
        if round == 0 {
            self.0 = selected.to_vec();
        }
        Ok(())
    }
    fn ranked(&mut self, _: usize, _: &[f32], _: &[u32]) -> Result<()> {
        Ok(())
    }
    fn round_done(&mut self, _: &RoundRecord, _: &mut Engine) -> Result<()> {
        Ok(())
    }
}

fn first_set(agree: bool, images: &ImageSet) -> (Vec<u32>, Vec<u32>) {
    let architecture = Architecture { kind: Kind::PreActResNet18, width: 2, classes: 3, channels: 3 };
    let graph = architecture.graph(&Normalisation::identity(3), 8, 8).unwrap();
    let weights = Weights::initialise(architecture, 5);
    let device = CpuDevice::new(Some(1)).unwrap();
    let measured = PurifyConfig::new(Recipe::Default, false);
    let none = TuneConfig { epochs: 0, ..measured.last.clone() };
    let config = PurifyConfig {
        batch: 2,
        filter: vec![],
        agree,
        shares: vec![1.0],
        first_adversarial: none.clone(),
        first_clean: none.clone(),
        adversarial: none.clone(),
        clean: none.clone(),
        last: none,
        ..measured
    };
    let open =
        |trained| Engine::open(&device, &graph, &weights.values, &config.engine_options(trained)).unwrap();
    let mut models = Models { infected: open(false), purified: open(true) };
    let mut watcher = FirstSet::default();
    Pbe { models: &mut models, images, clean_set: false, config: &config, seed: 0 }
        .run(&mut State::default(), &mut watcher)
        .unwrap();
    let all: Vec<u32> = (0..images.len() as u32).collect();
    models.infected.attach(images).unwrap();
    let answers = models.infected.logits(&all).unwrap().chunks_exact(3).map(argmax).collect();
    (watcher.0, answers)
}

/// Poisoned images whose label the infected model doesn't give passed the survivors filter, and
/// brought the backdoor of a model with ASR 95.9 back (CIFAR-10, BadNets).
#[test]
fn the_first_set_holds_only_labels_that_the_infected_model_gives() {
    let images = synthetic(1, 3, 10, 8);
    let (everything, answers) = first_set(false, &images);
    assert_eq!(everything.len(), images.len());
    let (agreed, _) = first_set(true, &images);
    let expected: Vec<u32> =
        everything.iter().copied().filter(|&i| answers[i as usize] == images.labels[i as usize]).collect();
    assert!(expected.len() >= 2 && expected.len() < everything.len(), "{expected:?}");
    assert_eq!(agreed, expected);
}
