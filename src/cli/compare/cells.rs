//! One run of a comparison: a `pbe purify` in a folder of its own.

use std::path::{Path, PathBuf};

use pbe::error::{Error, Result};
use pbe::fs::write_atomic;
use pbe::report::comparison::{ComparedRun, Figures, Outcome};
use toml::{Table, Value};

use super::defences::ComparedDefence;
use super::models::InfectedModel;
use crate::cli::checkpoint::read_result;
use crate::cli::common::{RunArgs, remove};
use crate::cli::config_file::read;
use crate::cli::device::ComputeArgs;
use crate::cli::progress::Progress;
use crate::cli::purify::{CleanSet, PurifyArgs, purify};

/// What all runs have in common.
pub struct Shared<'a> {
    pub output: &'a Path,
    /// Share of the training images.
    pub clean: f64,
    pub compute: &'a ComputeArgs,
}

/// A model, a defence and a seed.
pub struct Cell {
    pub model: InfectedModel,
    pub defence: ComparedDefence,
    pub seed: u64,
}

impl Cell {
    /// For messages.
    pub fn words(&self) -> String {
        format!("{}, {}, seed {}", self.model.name, self.defence.name(), self.seed)
    }

    fn folder(&self, shared: &Shared) -> PathBuf {
        let folder = shared.output.join("runs").join(&self.model.name);
        folder.join(self.defence.name()).join(self.seed.to_string())
    }

    /// Where it stands why the run failed. It isn't in the run's folder, which a failed run needn't have.
    fn failure(&self, shared: &Shared) -> PathBuf {
        self.folder(shared).with_extension("failed")
    }

    pub fn is_done(&self, shared: &Shared) -> bool {
        self.folder(shared).join("result.json").exists()
    }

    /// Does the run, or goes on with it.
    pub fn run(&self, shared: &Shared, progress: &Progress) -> Result<()> {
        let folder = self.folder(shared);
        purify(&self.args(shared, &folder), progress)?;
        // A failure of before isn't one of this run.
        remove(&self.failure(shared))
    }

    /// Keeps why the run failed, for the tables of this process and of others.
    pub fn note(&self, shared: &Shared, cause: &Error) -> Result<()> {
        let path = self.failure(shared);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|cause| Error::write(folder, cause))?;
        }
        write_atomic(path, format!("{cause}\n").as_bytes())
    }

    /// What is there of it.
    pub fn result(&self, shared: &Shared) -> Result<ComparedRun> {
        let outcome = if self.is_done(shared) {
            let path = self.folder(shared).join("result.json");
            let result = read_result(&path)?;
            let model = result.inputs.as_ref().and_then(|inputs| inputs.models.first());
            if result.seed != self.seed || model.is_some_and(|model| model.digest != self.model.digest) {
                let cause = "is of another model or seed; remove its folder, and the run is done again";
                return Err(Error::file(path, cause));
            }
            Outcome::Done(Box::new(Figures::new(&result)))
        } else {
            match std::fs::read_to_string(self.failure(shared)) {
                Ok(cause) => Outcome::Failed { cause: cause.trim().replace('\n', " ") },
                Err(_) => Outcome::Missing,
            }
        };
        let (model, attack) = (self.model.name.clone(), self.model.attack.clone());
        Ok(ComparedRun { model, attack, defence: self.defence.name(), seed: self.seed, outcome })
    }

    fn args(&self, shared: &Shared, folder: &Path) -> PurifyArgs {
        let (clean, poison) = (self.defence.clean_set, self.model.poison.clone());
        let (trigger, poison) = if clean { (poison, None) } else { (None, poison) };
        let limit = self.model.limit.map(|limit| format!("data.limit={limit}"));
        PurifyArgs {
            model: Some(self.model.model.clone()),
            data: Some(self.model.data.clone()),
            normalisation: None,
            classes: None,
            weights: None,
            clean: clean.then_some(CleanSet::Share(shared.clean)),
            poison,
            trigger,
            defense: Some(self.defence.kind),
            recipe: None,
            config: None,
            set: self.model.set.iter().cloned().chain(limit).collect(),
            fail_on: None,
            run: RunArgs::at(folder),
            compute: ComputeArgs { seed: Some(self.seed), json: false, ..shared.compute.clone() },
        }
    }

    /// Refuses a folder with a run of something else under this name: it would be taken for this one.
    pub fn check_present(&self, shared: &Shared) -> Result<()> {
        let folder = self.folder(shared);
        let path = folder.join("config.toml");
        if !path.exists() {
            return Ok(());
        }
        let present = read(&path)?;
        let wanted = [
            ("digests.model_weights", Some(Value::from(self.model.digest.clone()))),
            ("seed", Some(Value::Integer(self.seed as i64))),
            ("defense", Some(self.defence.kind.name().into())),
            ("clean", self.defence.clean_set.then_some(shared.clean.into())),
            ("data.path", Some(self.model.data.to_string_lossy().into_owned().into())),
            ("data.limit", self.model.limit.map(|limit| Value::Integer(limit as i64))),
        ];
        for (key, wanted) in wanted {
            let present = at(&present, key);
            if present != wanted.as_ref() {
                let word = |value: Option<&Value>| value.map_or("not set".into(), Value::to_string);
                let (there, here) = (word(present), word(wanted.as_ref()));
                let cause = format!(
                    "holds another run: {key} is {there} there and {here} here; choose another --output"
                );
                return Err(Error::file(folder, cause));
            }
        }
        Ok(())
    }
}

/// The value at a path in dots.
fn at<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((name, rest)) => at(table.get(name)?.as_table()?, rest),
        None => table.get(path),
    }
}
