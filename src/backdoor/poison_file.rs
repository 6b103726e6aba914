//! `poison.json` (schema 1): an attack, its parameters and the images it poisoned.
//!
//! Pictures (PNG) and trained generators (safetensors) are separate files; their paths are relative to this one.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Attack, Dynamic, LabelMode, Picture, Trigger, Warp, poison};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::eval::Evaluator;
use crate::fs::write_atomic;

const SCHEMA: u64 = 1;

/// The ground truth of a poisoned training set.
#[derive(Clone, Debug, PartialEq)]
pub struct PoisonFile {
    /// Where it was read, for messages; none for a file not yet written.
    pub path: Option<PathBuf>,
    pub attack: Attack,
    pub label: LabelMode,
    /// Poisoned images per training image.
    pub rate: f64,
    /// The seed the images were drawn with, where it is known.
    pub seed: Option<u64>,
    pub train: PoisonedTrain,
}

/// The training set that a [`PoisonFile`] describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoisonedTrain {
    /// Images in the set.
    pub images: usize,
    /// How they are numbered, in words.
    pub order: String,
    /// Whether the images on disk carry the trigger and the label already, as `pbe poison` writes
    /// them; else they are the clean originals.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub applied: bool,
    /// The poisoned ones.
    pub indices: Vec<u32>,
    /// The noise-mode images: noisy trigger, own label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noise: Vec<u32>,
}

/// The JSON object; pictures are paths.
#[derive(Serialize, Deserialize)]
struct PoisonJson {
    schema: u64,
    attack: String,
    label: LabelMode,
    rate: f64,
    params: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    train: PoisonedTrain,
}

#[derive(Serialize, Deserialize)]
struct BadnetsParams {
    mask: PathBuf,
    pattern: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct BlendParams {
    alpha: f64,
    pattern: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct SigParams {
    delta: f64,
    frequency: f64,
}

#[derive(Serialize, Deserialize)]
struct WanetParams {
    grid: usize,
    strength: f64,
    field: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct DynamicParams {
    generators: PathBuf,
}

/// The generators' file beside `poison.json`.
const GENERATORS: &str = "dynamic.safetensors";

impl PoisonFile {
    /// Reads the file and the pictures it names.
    ///
    /// Errors name the file and the cause: no JSON, another schema, an unknown attack or label mode, a picture that
    /// can't be read, an index that is out of range or listed twice.
    pub fn load(path: &Path) -> Result<Self> {
        let fault = |cause: String| Error::file(path, cause);
        let bytes = std::fs::read(path).map_err(|e| fault(e.to_string()))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| fault(format!("not JSON: {e}")))?;
        match value.get("schema").map(Value::as_u64) {
            Some(Some(SCHEMA)) => {}
            Some(_) => return Err(fault(format!("schema {}; this version reads {SCHEMA}", value["schema"]))),
            None => return Err(fault("no `schema`: not a poison.json".into())),
        }
        let document: PoisonJson = parse(value).map_err(fault)?;
        if !(0.0..=1.0).contains(&document.rate) {
            return Err(fault(format!("rate {} is outside 0 to 1", document.rate)));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = Self {
            path: Some(path.to_path_buf()),
            attack: load_attack(&document.attack, document.params, path, folder)?,
            label: document.label,
            rate: document.rate,
            seed: document.seed,
            train: document.train,
        };
        file.check_indices()?;
        Ok(file)
    }

    /// Writes the file and, beside it, the pictures that are not there yet.
    ///
    /// A picture of the same name with other pixels is an error: another file may rely on it.
    pub fn save(&self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let params = match &self.attack {
            Attack::Badnets { mask, pattern } => json!(BadnetsParams {
                mask: save_picture(mask, folder, "badnets-mask.png")?,
                pattern: save_picture(pattern, folder, "badnets-pattern.png")?,
            }),
            Attack::Blend { alpha, pattern } => json!(BlendParams {
                alpha: *alpha,
                pattern: save_picture(pattern, folder, "blend-pattern.png")?,
            }),
            Attack::Sig { delta, frequency } => json!(SigParams { delta: *delta, frequency: *frequency }),
            Attack::Wanet(Warp { grid, strength, field }) => {
                json!(WanetParams { grid: *grid, strength: *strength, field: field.clone() })
            }
            Attack::Dynamic(dynamic) => {
                dynamic.save(&folder.join(GENERATORS))?;
                json!(DynamicParams { generators: GENERATORS.into() })
            }
        };
        let document = PoisonJson {
            schema: SCHEMA,
            attack: self.attack.name().into(),
            label: self.label,
            rate: self.rate,
            params,
            seed: self.seed,
            train: self.train.clone(),
        };
        let mut text = serde_json::to_string(&document).map_err(|e| Error::file(path, e))?;
        text.push('\n');
        write_atomic(path, text.as_bytes())
    }

    /// The attack prepared for the images of `images`; refuses a target that is none of its classes.
    pub fn trigger(&self, images: &ImageSet) -> Result<Trigger> {
        self.label.check(images.classes.len()).map_err(|e| self.fault(e))?;
        Trigger::for_images(&self.attack, images).map_err(|e| self.fault(e))
    }

    /// Measures models on `images`, and on the same images with the trigger.
    pub fn evaluator(&self, images: &ImageSet) -> Result<Evaluator> {
        poison::triggered_evaluator(images, &self.trigger(images)?, self.label)
    }

    /// `images`, the training set as it lies on disk, with exactly the listed images poisoned: they
    /// are stamped and relabelled unless they are already.
    pub fn apply(&self, images: ImageSet) -> Result<ImageSet> {
        self.check_count(images.len())?;
        if self.train.applied {
            return Ok(images);
        }
        let trigger = self.trigger(&images)?;
        let images = poison::stamp_and_relabel(images, &trigger, self.label, &self.train.indices)?;
        match self.seed {
            Some(seed) => poison::stamp_noise(images, &trigger, &self.train.noise, seed, 0),
            None if self.train.noise.is_empty() => Ok(images),
            None => Err(self.fault("no `seed`: the images in `noise` can't be made again")),
        }
    }

    /// For each of `images` training images, whether it is clean.
    pub fn clean(&self, images: usize) -> Result<Vec<bool>> {
        self.check_count(images)?;
        let mut clean = vec![true; images];
        self.train.indices.iter().for_each(|&index| clean[index as usize] = false);
        Ok(clean)
    }

    /// Refuses a training set of another size, and indices beyond it.
    fn check_count(&self, images: usize) -> Result<()> {
        if images != self.train.images {
            let cause = format!("describes {} training images, but the data has {images}", self.train.images);
            return Err(self.fault(cause));
        }
        self.check_indices()
    }

    fn check_indices(&self) -> Result<()> {
        let mut indices = [self.train.indices.as_slice(), &self.train.noise].concat();
        indices.sort_unstable();
        if let Some(pair) = indices.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.fault(format!("poisoned image {} is listed twice", pair[0])));
        }
        match indices.last() {
            Some(&index) if index as usize >= self.train.images => Err(self.fault(format!(
                "poisoned image {index} is out of range: there are {} images, from 0",
                self.train.images
            ))),
            _ => Ok(()),
        }
    }

    fn fault(&self, cause: impl std::fmt::Display) -> Error {
        match &self.path {
            Some(path) => Error::file(path, cause),
            None => Error::input(cause),
        }
    }
}

fn parse<T: DeserializeOwned>(value: Value) -> std::result::Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn load_attack(name: &str, params: Value, path: &Path, folder: &Path) -> Result<Attack> {
    let fault = |cause: String| Error::file(path, format!("params of {name}: {cause}"));
    // A file from elsewhere has no business with other files of this machine.
    let beside = |file: PathBuf| match file
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        true => Ok(folder.join(file)),
        false => Err(fault(format!("{} doesn't lie beside it", file.display()))),
    };
    let picture = |file: PathBuf| Picture::load(&beside(file)?);
    let attack = match name {
        // `custom` is another program's name for a patch.
        "badnets" | "custom" => {
            let params: BadnetsParams = parse(params).map_err(fault)?;
            Attack::Badnets { mask: picture(params.mask)?, pattern: picture(params.pattern)? }
        }
        "blend" => {
            let params: BlendParams = parse(params).map_err(fault)?;
            Attack::Blend { alpha: params.alpha, pattern: picture(params.pattern)? }
        }
        "sig" => {
            let SigParams { delta, frequency } = parse(params).map_err(fault)?;
            Attack::Sig { delta, frequency }
        }
        "wanet" => {
            let WanetParams { grid, strength, field } = parse(params).map_err(fault)?;
            Attack::Wanet(Warp { grid, strength, field })
        }
        "dynamic" => {
            let DynamicParams { generators } = parse(params).map_err(fault)?;
            Attack::Dynamic(Arc::new(Dynamic::load(&beside(generators)?)?))
        }
        other => {
            let cause = format!("attack `{other}` is not known: badnets, blend, sig, wanet, dynamic, custom");
            return Err(Error::file(path, cause));
        }
    };
    attack.check().map_err(|error| fault(error.to_string()))?;
    Ok(attack)
}

/// Writes `picture` as `folder/name` unless it is there; gives the name back.
fn save_picture(picture: &Picture, folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if !path.exists() {
        write_atomic(&path, &picture.to_png()?)?;
    } else if Picture::load(&path)? != *picture {
        return Err(Error::file(path, "exists with other pixels; choose another folder"));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// The files of `../shared/models`, in small: same fields, no seed, pictures beside them.
    const BADNETS: &str = r#"{"schema": 1, "attack": "badnets", "label": {"mode": "all-to-one", "target": 0},
        "rate": 0.5, "params": {"mask": "badnets-mask.png", "pattern": "badnets-pattern.png"},
        "train": {"images": 4, "order": "by class folder name, then file name", "indices": [1, 3]}}"#;
    const BLEND: &str = r#"{"schema": 1, "attack": "blend", "label": {"mode": "all-to-one", "target": 0},
        "rate": 0.5, "params": {"alpha": 0.2, "pattern": "blend-pattern.png"},
        "train": {"images": 4, "order": "by class folder name, then file name", "indices": [1, 3]}}"#;

    /// A folder with the three pictures, 2x2.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let corner = Picture::grey(2, 2, |row, column| if row + column == 2 { 255 } else { 0 });
        let pattern = Picture::rgb(2, 2, |_, _| [100, 150, 200]);
        for (name, picture) in
            [("badnets-mask", &corner), ("badnets-pattern", &pattern), ("blend-pattern", &pattern)]
        {
            let path = folder.path().join(format!("{name}.png"));
            std::fs::write(path, picture.to_png().unwrap()).unwrap();
        }
        folder
    }

    fn load(folder: &Path, text: &str) -> Result<PoisonFile> {
        let path = folder.join("poison.json");
        std::fs::write(&path, text).unwrap();
        PoisonFile::load(&path)
    }

    /// Four black 2x2 images of classes 0 to 3.
    fn images() -> ImageSet {
        ImageSet {
            pixels: Arc::new(vec![0; 48]),
            labels: Arc::new(vec![0, 1, 2, 3]),
            names: Arc::new((0..4).map(|index| format!("{index}.png")).collect()),
            classes: Arc::new(["a", "b", "c", "d"].map(String::from).to_vec()),
            height: 2,
            width: 2,
            channels: 3,
        }
    }

    #[test]
    fn files_of_other_programs_are_read_and_applied() {
        let folder = folder();
        let poisoned = load(folder.path(), BADNETS).unwrap().apply(images()).unwrap();
        assert_eq!(*poisoned.labels, [0, 0, 2, 0]);
        for index in 0..4 {
            let corner = if index % 2 == 1 { [100, 150, 200] } else { [0; 3] };
            assert_eq!(poisoned.image(index)[9..], corner);
            assert_eq!(poisoned.image(index)[..9], [0; 9]);
        }
        let blended = load(folder.path(), BLEND).unwrap().apply(images()).unwrap();
        assert_eq!(blended.image(3), [20, 30, 40].repeat(4));
        assert_eq!(blended.image(2), [0; 12]);
    }

    #[test]
    fn a_file_survives_saving() {
        let original = folder();
        for text in [BADNETS, BLEND] {
            let mut file = load(original.path(), text).unwrap();
            let copy = tempfile::tempdir().unwrap();
            let path = copy.path().join("poison.json");
            file.seed = Some(u64::MAX);
            file.save(&path).unwrap();
            file.save(&path).unwrap();
            file.path = Some(path.clone());
            assert_eq!(PoisonFile::load(&path).unwrap(), file);
        }
    }

    #[test]
    fn the_default_attacks_survive_saving() {
        for attack in [Attack::badnets(32, 32), Attack::blend(32, 32, 9), Attack::sig(), Attack::wanet(4)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("poison.json");
            let train = PoisonedTrain {
                images: 3,
                order: "as listed".into(),
                applied: true,
                indices: vec![2],
                noise: vec![],
            };
            let label = LabelMode::AllToOne { target: 1 };
            let file =
                PoisonFile { path: Some(path.clone()), attack, label, rate: 1.0 / 3.0, seed: None, train };
            file.save(&path).unwrap();
            assert_eq!(PoisonFile::load(&path).unwrap(), file);
        }
    }

    #[test]
    fn another_picture_of_the_same_name_is_not_overwritten() {
        let folder = folder();
        let mut file = load(folder.path(), BLEND).unwrap();
        file.attack = Attack::blend(2, 2, 0);
        let before = std::fs::read(folder.path().join("blend-pattern.png")).unwrap();
        let message = file.save(&folder.path().join("poison.json")).unwrap_err().to_string();
        assert!(message.contains("blend-pattern.png"), "{message}");
        assert_eq!(std::fs::read(folder.path().join("blend-pattern.png")).unwrap(), before);
    }

    #[test]
    fn faults_name_the_file_and_the_cause() {
        let folder = folder();
        let cases = [
            ("{", "not JSON"),
            ("{}", "no `schema`"),
            (&BADNETS.replace("\"schema\": 1", "\"schema\": 2"), "schema 2"),
            (&BADNETS.replace("\"badnets\"", "\"lira\""), "attack `lira`"),
            (&BADNETS.replace("all-to-one", "one-to-one"), "one-to-one"),
            (&BADNETS.replace("\"rate\": 0.5,", ""), "rate"),
            (&BADNETS.replace("0.5", "1.5"), "rate 1.5"),
            (&BADNETS.replace("\"mask\"", "\"mesk\""), "mask"),
            (&BADNETS.replace("badnets-mask.png", "gone.png"), "gone.png"),
            (&BADNETS.replace("[1, 3]", "[1, 4]"), "image 4 is out of range"),
            (&BADNETS.replace("[1, 3]", "[3, 3]"), "image 3 is listed twice"),
            (&BADNETS.replace("[1, 3]", "[-1]"), "-1"),
            (&BADNETS.replace("\"images\": 4", "\"images\": 1"), "image 3 is out of range"),
            (&BLEND.replace("0.2", "1.2"), "alpha 1.2"),
        ];
        for (text, cause) in cases {
            let message = load(folder.path(), text).unwrap_err().to_string();
            assert!(message.contains(cause), "{cause}: {message}");
            assert!(message.contains("poison.json") || message.contains("gone.png"), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
        let missing = PoisonFile::load(&folder.path().join("none.json")).unwrap_err().to_string();
        assert!(missing.contains("none.json"), "{missing}");
    }

    #[test]
    fn data_that_does_not_belong_to_the_file_is_refused() {
        let folder = folder();
        let file = load(folder.path(), &BADNETS.replace("\"target\": 0", "\"target\": 7")).unwrap();
        let message = file.apply(images()).unwrap_err().to_string();
        assert!(message.contains("poison.json") && message.contains("target class 7"), "{message}");
        let huge = BADNETS.replace("\"images\": 4", "\"images\": 9000000000000000000");
        assert!(load(folder.path(), &huge).unwrap().clean(4).is_err());
        let file = load(folder.path(), BADNETS).unwrap();
        assert_eq!(file.clean(4).unwrap(), [true, false, true, false]);
        let message = file.clean(5).unwrap_err().to_string();
        assert!(message.contains("poison.json") && message.contains("has 5"), "{message}");
    }
}
