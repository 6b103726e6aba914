//! The output folder of a run: enough to see what was done and to repeat it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::fs::{is_leftover, write_atomic};

const CONFIG: &str = "config.toml";

/// The folder given as `--output`. It belongs to one run: one command with one configuration.
#[derive(Clone, Debug)]
pub struct RunFolder {
    folder: PathBuf,
}

impl RunFolder {
    /// Makes the folder, or takes an existing one, and writes `config.toml` into it.
    ///
    /// `config` holds every setting the result depends on, resolved; it is compared with an existing one. A new run
    /// may begin in a folder that doesn't exist, is empty, or holds the same run, which it then replaces. With
    /// `resume` the same run has to be there.
    ///
    /// Errors, one line each: another run in the folder, with the first setting that differs;
    /// files that are no run of this program; nothing to resume; a folder that can't be written.
    pub fn create(folder: &Path, command: &str, config: &impl Serialize, resume: bool) -> Result<Self> {
        let run = Self { folder: folder.to_path_buf() };
        let path = run.config();
        let (text, wanted) = resolve(&path, command, config)?;
        match fs::read_to_string(&path) {
            Ok(present) => {
                let present: Table = present
                    .parse()
                    .map_err(|e: toml::de::Error| Error::file(&path, format!("not TOML: {}", e.message())))?;
                if let Some(difference) = first_difference(&present, &wanted) {
                    let hint = match resume {
                        true if difference.starts_with("device ") => {
                            "; it goes on to the same bits only there: say so with --device"
                        }
                        true if difference.starts_with("precision ") => {
                            "; it goes on to the same bits only so: say so with --precision"
                        }
                        true => "",
                        false => "; choose another --output",
                    };
                    let cause = format!("holds a different run: {difference}{hint}");
                    return Err(Error::file(folder, cause));
                }
            }
            Err(e) if e.kind() != std::io::ErrorKind::NotFound && folder.is_dir() => {
                return Err(Error::file(&path, e));
            }
            Err(_) if resume => return Err(Error::file(folder, "no run to resume: it has no config.toml")),
            Err(_) => run.take_new()?,
        }
        write_atomic(&path, text.as_bytes())?;
        Ok(run)
    }

    /// Makes the folder; one that exists has to be empty.
    fn take_new(&self) -> Result<()> {
        let folder = &self.folder;
        fs::create_dir_all(folder).map_err(|e| Error::file(folder, format!("can't be made: {e}")))?;
        for entry in fs::read_dir(folder).map_err(|e| Error::file(folder, e))? {
            let name = entry.map_err(|e| Error::file(folder, e))?.file_name();
            if !is_leftover(&name, CONFIG) {
                let cause = format!(
                    "holds files but no run of this program ({} is there, config.toml is not); choose another --output",
                    name.display()
                );
                return Err(Error::file(folder, cause));
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.folder
    }
    /// All settings of the run, resolved.
    pub fn config(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }
    /// The model that was made.
    pub fn model(&self) -> PathBuf {
        self.folder.join("model.safetensors")
    }
    /// The result.
    pub fn result(&self) -> PathBuf {
        self.folder.join("result.json")
    }
    /// A row per round or epoch.
    pub fn metrics(&self) -> PathBuf {
        self.folder.join("metrics.csv")
    }
    /// The ground truth of a poisoned training set.
    pub fn poison(&self) -> PathBuf {
        self.folder.join("poison.json")
    }
    /// The state of an unfinished run.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }
}

/// `config` with the command in front, as text and parsed.
fn resolve(path: &Path, command: &str, config: &impl Serialize) -> Result<(String, Table)> {
    #[derive(Serialize)]
    struct ConfigDocument<'a, C> {
        command: &'a str,
        #[serde(flatten)]
        config: &'a C,
    }
    let fault = |cause: String| Error::file(path, format!("the settings can't be written as TOML: {cause}"));
    let text = toml::to_string(&ConfigDocument { command, config }).map_err(|e| fault(e.to_string()))?;
    let table = text.parse().map_err(|e: toml::de::Error| fault(e.to_string()))?;
    Ok((text, table))
}

/// The first setting, by name, in which two configurations differ, in words.
fn first_difference(present: &Table, wanted: &Table) -> Option<String> {
    let mut names: Vec<&String> = present.keys().chain(wanted.keys()).collect();
    names.sort();
    names.dedup();
    // The command decides what the other settings mean.
    names.sort_by_key(|name| *name != "command");
    names.into_iter().find_map(|name| match (present.get(name), wanted.get(name)) {
        (Some(Value::Table(present)), Some(Value::Table(wanted))) => {
            first_difference(present, wanted).map(|difference| format!("{name}.{difference}"))
        }
        (present, wanted) if present == wanted => None,
        (Some(Value::Array(present)), Some(Value::Array(wanted)))
            if present.len() == wanted.len() && present.iter().chain(wanted).all(Value::is_table) =>
        {
            let mut pairs = present.iter().zip(wanted).enumerate();
            pairs.find_map(|(number, (present, wanted))| {
                let difference = first_difference(present.as_table()?, wanted.as_table()?)?;
                Some(format!("{name}.{number}.{difference}"))
            })
        }
        (present, wanted) => {
            let word = |value: Option<&Value>| value.map_or("not set".into(), Value::to_string);
            Some(format!("{name} is {} there and {} here", word(present), word(wanted)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct TestConfig {
        seed: u64,
        clean: Option<String>,
        attack: TestAttack,
    }

    #[derive(Serialize)]
    struct TestAttack {
        epsilon: f32,
        steps: u32,
    }

    fn config(epsilon: f32) -> TestConfig {
        TestConfig { seed: 1, clean: None, attack: TestAttack { epsilon, steps: 7 } }
    }

    fn refusal(folder: &Path, command: &str, config: &TestConfig, resume: bool) -> String {
        let message = RunFolder::create(folder, command, config, resume).unwrap_err().to_string();
        assert!(!message.contains('\n') && message.contains(&folder.display().to_string()), "{message}");
        message
    }

    #[test]
    fn a_run_is_begun_begun_again_and_resumed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("runs/1");
        for resume in [false, false, true] {
            let run = RunFolder::create(&folder, "purify", &config(0.5), resume).unwrap();
            let text = fs::read_to_string(run.config()).unwrap();
            assert_eq!(text, "command = \"purify\"\nseed = 1\n\n[attack]\nepsilon = 0.5\nsteps = 7\n");
        }
    }

    #[test]
    fn an_empty_folder_may_be_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".config.toml.17.tmp"), "of a killed run").unwrap();
        RunFolder::create(folder.path(), "purify", &config(0.1), false).unwrap();
    }

    #[test]
    fn another_run_is_refused_with_the_first_difference() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        RunFolder::create(folder, "purify", &config(0.5), false).unwrap();
        let before = fs::read(folder.join(CONFIG)).unwrap();
        for resume in [false, true] {
            let message = refusal(folder, "purify", &config(0.25), resume);
            assert!(message.contains("attack.epsilon is 0.5 there and 0.25 here"), "{message}");
            let message = refusal(folder, "infect", &config(0.25), resume);
            assert!(message.contains("command is \"purify\" there and \"infect\" here"), "{message}");
            let other = TestConfig { clean: Some("set".into()), ..config(0.25) };
            let message = refusal(folder, "purify", &other, resume);
            assert!(message.contains("attack.epsilon"), "{message}");
            let other = TestConfig { clean: Some("set".into()), ..config(0.5) };
            let message = refusal(folder, "purify", &other, resume);
            assert!(message.contains("clean is not set there and \"set\" here"), "{message}");
        }
        assert_eq!(fs::read(folder.join(CONFIG)).unwrap(), before);
    }

    #[test]
    fn folders_that_hold_no_run_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(refusal(&missing, "purify", &config(0.1), true).contains("no run to resume"));
        assert!(!missing.exists());
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        assert!(refusal(folder.path(), "purify", &config(0.1), false).contains("thesis.tex"));
        assert!(refusal(&folder.path().join("thesis.tex"), "purify", &config(0.1), false).contains("made"));
        fs::write(folder.path().join(CONFIG), "= nothing\n").unwrap();
        assert!(refusal(folder.path(), "purify", &config(0.1), false).contains("not TOML"));
    }
}
