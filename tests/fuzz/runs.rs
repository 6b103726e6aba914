//! What a run goes on from: its checkpoint.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pbe::defense::{RoundRecord, RunState};
use pbe::eval::{LabelSuspects, Suspects};
use pbe::model::container::{Entry, Metadata, read, write};
use pbe::report::checkpoint::{load, save};
use pbe::report::{Begin, CheckpointMeta, RunFolder, RunSizes};
use safetensors::Dtype;
use serde_json::Value;

use super::fuzz;
use super::mutate::{Random, mutated};

const SIZES: RunSizes = RunSizes { images: 6, classes: 2, weights: 5, trainable: 4 };

/// A purification in its first round.
fn state() -> RunState {
    let suspects = Suspects {
        images: vec![4, 1],
        deviation: vec![0.1; 6],
        predictions: vec![0, 1, 0, 1, 1, 0],
        labels: vec![LabelSuspects::default(); 2],
    };
    let mut state = RunState {
        selected: vec![0, 2, 5],
        suspects: Some(suspects),
        start: vec![0.5; 5],
        weights: vec![0.25; 5],
        momentum: vec![0.0; 4],
        average: vec![-1.0; 5],
        ..RunState::default()
    };
    state.cursor.step = 3;
    state.cursor.train.loss = Some(0.7);
    state.records = vec![RoundRecord { dropped: 2, notes: vec!["a note".into()], ..RoundRecord::default() }];
    state
}

fn folder(place: &Path) -> RunFolder {
    RunFolder::create(place, "purify", &BTreeMap::from([("seed", 1)]), Begin::New).unwrap()
}

/// Arrays of f32 and of u32 by name.
type Arrays = (Vec<(String, Vec<f32>)>, Vec<(String, Vec<u32>)>);

/// The JSON and the arrays of a checkpoint.
fn parts(bytes: &[u8]) -> (Metadata, Arrays) {
    let (file, metadata) = read(bytes).unwrap();
    let (mut floats, mut words) = (vec![], vec![]);
    for (name, tensor) in file.tensors() {
        let elements = tensor.data().as_chunks::<4>().0.iter();
        match tensor.dtype() {
            Dtype::F32 => floats.push((name, elements.map(|&bytes| f32::from_le_bytes(bytes)).collect())),
            _ => words.push((name, elements.map(|&bytes| u32::from_le_bytes(bytes)).collect())),
        }
    }
    (metadata, (floats, words))
}

/// Other lengths, numbers and names of an array.
fn changed<T: Clone>(random: &mut Random, array: &mut (String, Vec<T>), value: impl Fn(u64) -> T) {
    match random.below(5) {
        0 => array.1.truncate(random.below(6)),
        1 => array.1.push(value(random.odd_number())),
        2 => array.0.push('x'),
        3 => array.1.clear(),
        _ => {
            let at = random.below(array.1.len());
            if let Some(element) = array.1.get_mut(at) {
                *element = value(random.odd_number());
            }
        }
    }
}

/// A checkpoint with a right checksum, of other contents. False where the JSON isn't any more.
fn forged(random: &mut Random, folder: &RunFolder, sound: &(Metadata, Arrays)) -> bool {
    let (metadata, (mut floats, mut words)) = sound.clone();
    let mut json = metadata["pbe.checkpoint"].clone();
    if random.one_in(2) {
        json = String::from_utf8_lossy(&mutated(random, json.as_bytes())).into_owned();
    }
    let Ok(meta) = serde_json::from_str::<Value>(&json) else { return false };
    for _ in 0..random.below(3) {
        let (float, word) = (random.below(floats.len()), random.below(words.len()));
        match random.one_in(2) {
            true => changed(random, &mut floats[float], |value| value as f32),
            false => changed(random, &mut words[word], |value| value as u32),
        }
    }
    let floats: Vec<(&str, &[f32])> =
        floats.iter().map(|(name, array)| (name.as_str(), &array[..])).collect();
    let words: Vec<(&str, &[u32])> = words.iter().map(|(name, array)| (name.as_str(), &array[..])).collect();
    save(folder, &meta, &floats, &words).unwrap();
    true
}

#[test]
fn checkpoints_of_runs() {
    let sound = OnceCell::new();
    fuzz("run", |random, place| {
        let place = place.join("run");
        let _ = fs::remove_file(place.join("checkpoint.safetensors"));
        let folder = folder(&place);
        let path = folder.checkpoint();
        let bytes = sound.get_or_init(|| {
            CheckpointMeta::default().store(&folder, &state()).unwrap();
            let (state, _) = CheckpointMeta::restore(load(&folder).unwrap(), SIZES, &folder).unwrap();
            assert_eq!(state, self::state());
            fs::read(&path).unwrap()
        });
        let parts = parts(bytes);
        let forged = random.one_in(2) && forged(random, &folder, &parts);
        if !forged {
            let bytes = match random.below(3) {
                0 => mutated(random, bytes),
                1 => with_other_metadata(random, bytes),
                _ => super::models::safetensors(random, bytes),
            };
            fs::write(&path, bytes).unwrap();
        }
        if let Ok(checkpoint) = load::<CheckpointMeta>(&folder) {
            let _ = CheckpointMeta::restore(checkpoint, SIZES, &folder);
        }
    });
}

/// The same arrays beside other texts.
fn with_other_metadata(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let (file, mut metadata) = read(bytes).unwrap();
    let key = random.pick(&metadata.keys().cloned().collect::<Vec<_>>()).clone();
    if random.one_in(4) {
        metadata.remove(&key);
    } else {
        let text = String::from_utf8_lossy(&mutated(random, metadata[&key].as_bytes())).into_owned();
        metadata.insert(key, text);
    }
    let tensors = file.tensors();
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|(name, tensor)| Entry {
            name,
            dtype: tensor.dtype(),
            shape: tensor.shape(),
            bytes: tensor.data(),
        })
        .collect();
    write(&metadata, &entries)
}
