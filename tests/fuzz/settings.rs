//! Text files: poison.json, config.toml, settings.

use std::fs;
use std::sync::Arc;

use pbe::backdoor::PoisonFile;
use pbe::data::ImageSet;
use pbe::defense::{DefenseKind, Facts, Overlay};
use pbe::report::{Begin, RunFolder};

use super::fuzz;
use super::mutate::{Random, mutated};

fn truths() -> Vec<String> {
    let truth = |attack: &str, params: &str| {
        format!(
            r#"{{"schema": 1, "attack": "{attack}", "label": {{"mode": "all-to-one", "target": 1}}, "rate": 0.5,
            "params": {params}, "seed": 3, "train": {{"images": 4, "order": "as listed", "indices": [1, 3], "noise": [2]}}}}"#
        )
    };
    let field: Vec<f64> = (0..32).map(|value| f64::from(value) / 16.0 - 1.0).collect();
    vec![
        truth("badnets", r#"{"mask": "mask.png", "pattern": "pattern.png"}"#),
        truth("blend", r#"{"alpha": 0.2, "pattern": "pattern.png"}"#),
        truth("sig", r#"{"delta": 40.0, "frequency": 6.0}"#),
        truth("wanet", &format!(r#"{{"grid": 4, "strength": 0.5, "field": {field:?}}}"#)),
        truth("wanet", r#"{"grid": 4294967296, "strength": 0.5, "field": []}"#),
        truth("sig", r#"{"delta": 40.0, "frequency": 6.0}"#)
            .replace(r#""mode": "all-to-one", "target": 1"#, r#""mode": "all-to-all""#),
    ]
}

fn images(random: &mut Random) -> ImageSet {
    let (side, channels) = (1 + random.below(6), *random.pick(&[1, 3]));
    ImageSet { classes: Arc::new(vec!["a".into(), "b".into()]), ..ImageSet::noise(4, side, channels, 2) }
}

#[test]
fn poison_files() {
    let truths = truths();
    let mask = image::GrayImage::from_fn(5, 5, |x, y| image::Luma([if x + y > 6 { 255 } else { 0 }]));
    fuzz("poison", |random, folder| {
        if !folder.join("mask.png").exists() {
            mask.save(folder.join("mask.png")).unwrap();
            mask.save(folder.join("pattern.png")).unwrap();
        }
        let path = folder.join("poison.json");
        let truth = random.pick(&truths).as_bytes().to_vec();
        fs::write(&path, mutated(random, &truth)).unwrap();
        if let Ok(truth) = PoisonFile::load(&path) {
            let images = images(random);
            let _ = truth.clean(images.len());
            let _ = truth.apply(images.clone());
            let _ = truth.evaluator(&images);
        }
    });
}

#[test]
fn settings_files() {
    let settings = b"batch = 16\nmomentum = 0.9\n[initial_set]\nshare = 0.5\nviews = [\"flip\", \"zoom\"]\n\
        attacks = [{epsilon = 2.0, steps = 3}]\n[[rounds]]\n[rounds.attack]\nsteps = 5\nepsilon_max = 8.0\n\
        [rounds.clean]\nepochs = 3\nlearning_rate = 0.01\n";
    fuzz("settings", |random, _| {
        let text = String::from_utf8_lossy(&mutated(random, settings)).into_owned();
        let Ok(file) = text.parse::<toml::Table>() else { return };
        let facts =
            Facts { rounds: random.one_in(2).then(|| random.below(4)), ..Facts::new(random.one_in(2)) };
        let defense = *random.pick(&DefenseKind::ALL);
        let _ = defense.configure(&facts, &Overlay { file, set: vec![] });
    });
}

#[test]
fn configurations_of_runs() {
    let config = b"command = \"purify\"\nversion = \"0.1.0\"\nseed = 3\n\n[data]\npath = \"x\"\n\n[[rounds]]\nsteps = 2\n\
        \n[digests]\nmodel_weights = \"ab\"\n";
    fuzz("config", |random, folder| {
        fs::write(folder.join("config.toml"), mutated(random, config)).unwrap();
        let wanted: toml::Table = std::str::from_utf8(config).unwrap().parse().unwrap();
        let begin = *random.pick(&[Begin::New, Begin::Resume]);
        let _ = RunFolder::create(folder, "purify", &wanted, begin);
    });
}
