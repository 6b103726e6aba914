//! The keys of `config.toml` that aren't settings of the defence: what the run is given. `--set` takes them too, where
//! no option says the same.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pbe::data::{Format, NormalisationChoice};
use pbe::defense::settings::in_words;
use pbe::defense::{DefenseKind, Recipe};
use pbe::device::{DeviceChoice, Precision};
use pbe::error::{Error, Result};
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::request::{CleanSet, PurifyArgs};

/// What the run is given.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct RunKeys {
    pub device: Option<String>,
    #[serde(deserialize_with = "parsed")]
    pub precision: Option<Precision>,
    pub seed: Option<u64>,
    pub model: Option<PathBuf>,
    pub weights: Option<String>,
    pub clean: Option<CleanSet>,
    pub poison: Option<PathBuf>,
    pub trigger: Option<PathBuf>,
    #[serde(deserialize_with = "parsed")]
    pub defense: Option<DefenseKind>,
    #[serde(deserialize_with = "parsed")]
    pub recipe: Option<Recipe>,
    pub data: DataKeys,
    pub digests: BTreeMap<String, String>,
}

/// How the data are read.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct DataKeys {
    pub path: Option<PathBuf>,
    #[serde(deserialize_with = "parsed")]
    pub format: Option<Format>,
    pub limit: Option<usize>,
    /// The seed that the limit draws with, where it isn't the run's.
    pub limit_seed: Option<u64>,
    pub skip_bad: bool,
    /// Side of square images.
    pub size: Option<usize>,
    pub height: Option<usize>,
    pub width: Option<usize>,
    #[serde(deserialize_with = "parsed")]
    pub normalisation: Option<NormalisationChoice>,
    pub classes: Option<ClassesKey>,
}

/// A file of class names, or the names.
#[derive(Deserialize)]
#[serde(untagged, expecting = "classes is neither a file of class names nor a list of them")]
pub enum ClassesKey {
    File(PathBuf),
    Names(Vec<String>),
}

/// Those that a run writes down.
const WRITTEN: [&str; 4] = ["command", "digests", "version", "commit"];
/// Those that can be given.
const GIVEN: [&str; 11] = [
    "device",
    "precision",
    "seed",
    "model",
    "weights",
    "clean",
    "poison",
    "trigger",
    "defense",
    "recipe",
    "data",
];

/// Whether the first name of a path is one of these keys.
pub fn is_run_key(path: &str) -> bool {
    let first = path.split('.').next().unwrap_or_default();
    WRITTEN.contains(&first) || GIVEN.contains(&first)
}

impl RunKeys {
    /// Reads them from `table`; `source` names it.
    ///
    /// # Errors
    /// Keys that exclude each other, or don't fit the options.
    pub fn read(table: Table, args: &PurifyArgs, source: &str) -> Result<Self> {
        let fault = |cause: toml::de::Error| Error::input(format!("{source}: {}", in_words(&cause)));
        let keys: Self = table.try_into().map_err(fault)?;
        keys.check(args).map_err(|cause| Error::input(format!("{source}: {cause}")))?;
        Ok(keys)
    }

    fn check(&self, args: &PurifyArgs) -> std::result::Result<(), String> {
        let DataKeys { limit, limit_seed, size, height, width, .. } = &self.data;
        if height.is_some() != width.is_some() {
            return Err("`data.height` and `data.width` belong together".into());
        }
        if size.is_some() && height.is_some() {
            return Err("`data.size` and `data.height` exclude each other".into());
        }
        if limit_seed.is_some() && limit.is_none() {
            return Err("data.limit_seed has no effect: there is no data.limit".into());
        }
        match (args.recipe, self.recipe) {
            (Some(given), Some(own)) if given != own => {
                Err(format!("--recipe {given:?}, but the settings are of the recipe {own:?}").to_lowercase())
            }
            _ => Ok(()),
        }
    }
}

/// Puts a value of `--set` into the settings of a file.
///
/// # Errors
/// A key that a run writes down, or that has keys of its own.
pub fn put(file: &mut Table, path: &str, value: Value) -> Result<()> {
    let refuse = |cause: &str| Err(Error::input(format!("--set {path}={value}: {cause}")));
    if WRITTEN.iter().any(|key| path.split('.').next() == Some(key)) {
        return refuse("a run writes it down, it is no setting");
    }
    if path == "data" {
        return refuse("it has keys, such as data.format; --data is the folder");
    }
    // A file that repeats a run has its size.
    if let Some(data) = file.get_mut("data").and_then(Value::as_table_mut) {
        match path {
            "data.size" => data.retain(|key, _| !["height", "width"].contains(&key)),
            "data.height" | "data.width" => drop(data.remove("size")),
            _ => (),
        }
    }
    insert(file, path, value)
}

/// Refuses a path of `--set` where an option says the same: one of the two would have no effect.
pub fn refuse_beside_option(path: &str, args: &PurifyArgs) -> Result<()> {
    match deciding_option(path, args) {
        Some(option) => Err(Error::input(format!("--set {path} has no effect beside {option}"))),
        None => Ok(()),
    }
}

/// The option on the command line that says what the key at `path` would.
fn deciding_option(path: &str, args: &PurifyArgs) -> Option<&'static str> {
    let truth = [("--poison", args.poison.is_some()), ("--trigger", args.trigger.is_some())];
    let one = |option, given| vec![(option, given)];
    let options = match path {
        "device" => one("--device", args.compute.device != DeviceChoice::Auto),
        "precision" => one("--precision", args.compute.precision.is_some()),
        "seed" => one("--seed", args.compute.seed.is_some()),
        "model" => one("--model", args.model.is_some()),
        "weights" => one("--weights", args.weights.is_some()),
        "clean" => one("--clean", args.clean.is_some()),
        "poison" | "trigger" => truth.to_vec(),
        "defense" => one("--defense", args.defense.is_some()),
        "recipe" => one("--recipe", args.recipe.is_some()),
        "data.path" => one("--data", args.data.is_some()),
        "data.normalisation" => one("--normalisation", args.normalisation.is_some()),
        "data.classes" => one("--classes", args.classes.is_some()),
        _ => vec![],
    };
    options.into_iter().find_map(|(option, given)| given.then_some(option))
}

/// Puts `value` at a path in dots.
fn insert(table: &mut Table, path: &str, value: Value) -> Result<()> {
    let Some((name, rest)) = path.split_once('.') else {
        table.insert(path.to_string(), value);
        return Ok(());
    };
    let below = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
    let below =
        below.as_table_mut().ok_or_else(|| Error::input(format!("--set {path}: {name} has no keys")))?;
    insert(below, rest, value)
}

/// A text that a type is read from.
fn parsed<'de, D: Deserializer<'de>, T: std::str::FromStr>(
    deserializer: D,
) -> std::result::Result<Option<T>, D::Error>
where
    T::Err: std::fmt::Display,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|cause| serde::de::Error::custom(format!("{text}: {cause}")))
}
