//! The models of a comparison: run folders of `pbe infect`.

use std::path::{Path, PathBuf};

use pbe::error::{Error, Result};
use pbe::report::RunFolder;
use toml::{Table, Value};

use crate::cli::config_file::read;

/// A model as `pbe infect` left it.
#[derive(Clone, Debug)]
pub struct InfectedModel {
    /// The name of its folder.
    pub name: String,
    /// What was planted, in words.
    pub attack: String,
    pub model: PathBuf,
    /// The truth about its training data; none for a benign model.
    pub poison: Option<PathBuf>,
    /// A digest of the weights.
    pub digest: String,
    pub data: PathBuf,
    pub limit: Option<usize>,
    /// How the data are read, as `purify --set` takes it.
    pub set: Vec<String>,
}

impl InfectedModel {
    /// The models in `folders`, on their own data or on `data`: one for all of them, or one for each.
    pub fn read_all(folders: &[PathBuf], data: &[PathBuf], limit: Option<usize>) -> Result<Vec<Self>> {
        if data.len() > 1 && data.len() != folders.len() {
            let (data, models) = (data.len(), folders.len());
            return Err(Error::input(format!(
                "--data: {data} folders for {models} models; give one for all, or one for each"
            )));
        }
        let mut models: Vec<(PathBuf, Self)> = vec![];
        for (number, given) in folders.iter().enumerate() {
            let folder = std::fs::canonicalize(given).map_err(|cause| Error::file(given, cause))?;
            let own = data.get(number).or(data.first()).map(PathBuf::as_path);
            let model = Self::read(&folder, own, limit)?;
            if let Some((other, _)) = models.iter().find(|(_, other)| other.name == model.name) {
                let cause = format!(
                    "has the name of {}, and the runs of a model are kept under its name; rename one",
                    other.display()
                );
                return Err(Error::file(given, cause));
            }
            models.push((given.clone(), model));
        }
        Ok(models.into_iter().map(|(_, model)| model).collect())
    }

    fn read(folder: &Path, data: Option<&Path>, limit: Option<usize>) -> Result<Self> {
        let lacks = |what: &str| Error::file(folder, format!("is no finished run of `pbe infect`: {what}"));
        let path = RunFolder::settings(folder).map_err(|_| lacks("it has no config.toml"))?;
        let config = read(&path)?;
        match config.get("command").and_then(Value::as_str) {
            Some("infect") => {}
            Some(other) => return Err(lacks(&format!("config.toml is of `pbe {other}`"))),
            None => return Err(lacks("config.toml says no command")),
        }
        for name in ["result.json", "model.safetensors"] {
            if !folder.join(name).is_file() {
                return Err(lacks(&format!("it has no {name}")));
            }
        }
        let attack = config.get("attack").and_then(Value::as_table);
        let poison = folder.join("poison.json");
        if attack.is_some() && !poison.is_file() {
            return Err(lacks("it has no poison.json, though config.toml names an attack"));
        }
        let model = folder.join("model.safetensors");
        let keys = config.get("data").and_then(Value::as_table);
        let own = keys.and_then(|keys| keys.get("path")).and_then(Value::as_str).map(PathBuf::from);
        let own_limit = keys.and_then(|keys| keys.get("limit")).and_then(Value::as_integer);
        let own_limit = own_limit.and_then(|limit| usize::try_from(limit).ok());
        let found = data.map(Path::to_path_buf).or(own);
        let found = found.ok_or_else(|| Error::file(&path, "has no data.path; say it with --data"))?;
        let synthetic = found.to_string_lossy().starts_with("synthetic:");
        if data.is_none() && !synthetic && !found.exists() {
            let cause = format!("data.path is {}, which isn't there; say it with --data", found.display());
            return Err(Error::file(&path, cause));
        }
        let limit = limit.or(own_limit);
        Ok(Self {
            name: folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned(),
            attack: words(attack),
            digest: pbe::model::load(&model)?.digest(),
            model,
            poison: attack.map(|_| poison),
            data: if synthetic { found } else { std::path::absolute(&found).unwrap_or(found) },
            limit,
            set: settings(&config, keys, data.is_some(), limit.is_some()),
        })
    }
}

/// The attack's kind, and its label mode where it isn't the usual one.
fn words(attack: Option<&Table>) -> String {
    let text = |key: &str| attack.and_then(|attack| attack.get(key)).and_then(Value::as_str);
    let label = text("label").filter(|label| *label != "all-to-one");
    let kind = text("kind").unwrap_or("none");
    label.map_or_else(|| kind.to_string(), |label| format!("{kind}, {label}"))
}

/// What reads the data as they were read for the training. Of data that were given again, the format is found again.
fn settings(config: &Table, keys: Option<&Table>, given: bool, limited: bool) -> Vec<String> {
    let names = ["format", "skip_bad", "classes"].into_iter().filter(|name| !given || *name != "format");
    let of_data = names.filter_map(|name| Some((name, keys?.get(name)?)));
    let mut set: Vec<String> = of_data.map(|(name, value)| format!("data.{name}={value}")).collect();
    // The images that the model was trained on, whatever the seed of the defence is.
    let seed = config.get("seed").and_then(Value::as_integer).filter(|_| limited);
    set.extend(seed.map(|seed| format!("data.limit_seed={seed}")));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_are_read_as_for_the_training() {
        let text = "seed = 31\n[data]\npath = \"x\"\nformat = \"folder\"\nlimit = 9\nskip_bad = true\nclasses = [\"b\", \"a\"]\n";
        let config: Table = text.parse().unwrap();
        let keys = config["data"].as_table();
        let all = [
            "data.format=\"folder\"",
            "data.skip_bad=true",
            "data.classes=[\"b\", \"a\"]",
            "data.limit_seed=31",
        ];
        assert_eq!(settings(&config, keys, false, true), all);
        assert_eq!(settings(&config, keys, true, false), all[1..3]);
    }

    #[test]
    fn an_attack_has_its_label_mode_where_that_is_unusual() {
        let of = |text: &str| words(Some(&text.parse().unwrap()));
        assert_eq!(of("kind = \"sig\"\nlabel = \"all-to-one\""), "sig");
        assert_eq!(of("kind = \"badnets\"\nlabel = \"all-to-all\""), "badnets, all-to-all");
        assert_eq!(words(None), "none");
    }
}
