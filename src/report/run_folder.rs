//! The output folder of a run: enough to see what was done and to repeat it.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fs::{is_leftover, write_atomic};

const CONFIG: &str = "config.toml";

/// What commands leave in a run folder beside `config.toml`.
const RESULTS: [&str; 11] = [
    "checkpoint.safetensors",
    "result.json",
    "metrics.csv",
    "model.safetensors",
    "suspects.csv",
    "report.html",
    "poison.json",
    "dynamic.safetensors",
    "badnets-mask.png",
    "badnets-pattern.png",
    "blend-pattern.png",
];

/// How a run takes its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// No run has left anything there.
    New,
    /// The same run is there, and goes on.
    Resume,
    /// A run of the same command that is there goes.
    Replace,
    /// Several processes work on the same run: each waits for the folder and doesn't keep it.
    Share,
}

/// The folder given as `--output`. It belongs to one run: one command with one configuration.
#[derive(Debug)]
pub struct RunFolder {
    folder: PathBuf,
    /// Of `config.toml`.
    digest: String,
    /// The open folder: while it is, no other run can lock it.
    lock: std::io::Result<File>,
}

impl RunFolder {
    /// Makes the folder, or takes an existing one, and writes `config.toml` into it.
    ///
    /// `config` holds every setting the result depends on, resolved, and digests of the inputs; it is compared with an
    /// existing one. The folder stays locked until the value is dropped or the process ends.
    ///
    /// Errors, one line each: another process has the folder; another run in it, with the first setting or input that
    /// differs; a run that would be lost; files that are no run of this program; nothing to resume; a folder that can't
    /// be written.
    pub fn create(folder: &Path, command: &str, config: &impl Serialize, begin: Begin) -> Result<Self> {
        let path = folder.join(CONFIG);
        let (text, wanted) = resolve(&path, command, config)?;
        if begin == Begin::Resume {
            Self::settings(folder)?;
        }
        fs::create_dir_all(folder).map_err(|e| Error::file(folder, format!("can't be made: {e}")))?;
        let digest = Digest::default().texts(&[&text]).finish();
        let run = Self { folder: folder.to_path_buf(), digest, lock: lock(folder, begin)? };
        match fs::read_to_string(&path) {
            Ok(present) => run.take_run(&present, &wanted, begin)?,
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::file(&path, e)),
            Err(_) => run.take_new(begin)?,
        }
        write_atomic(&path, text.as_bytes()).map_err(Error::input)?;
        Ok(run)
    }

    /// `config.toml` of the run in `folder`.
    ///
    /// # Errors
    /// There is none.
    pub fn settings(folder: &Path) -> Result<PathBuf> {
        let (config, fault) = (folder.join(CONFIG), |cause| Err(Error::file(folder, cause)));
        match (folder.exists(), config.exists()) {
            (false, _) => fault("no run to resume: there is no such folder"),
            (_, false) => fault("no run to resume: it has no config.toml"),
            _ => Ok(config),
        }
    }

    /// Takes a folder that holds a run.
    fn take_run(&self, present: &str, wanted: &Table, begin: Begin) -> Result<()> {
        let fault = |cause: String| Err(Error::file(&self.folder, cause));
        if begin != Begin::Replace {
            let present: Table = present.parse().map_err(|e: toml::de::Error| {
                Error::file(self.config(), format!("not TOML: {}", e.message()))
            })?;
            if let Some(difference) = first_difference(&present, wanted) {
                return fault(different(&difference, begin));
            }
        }
        let results = self.results()?;
        match (begin, results.first()) {
            (Begin::New, Some(file)) => {
                let name = file.file_name().unwrap_or_default().display();
                let resumes = if self.checkpoint().exists() { "--resume goes on with it, " } else { "" };
                fault(format!("holds this run already ({name} is there): {resumes}--force begins it anew"))
            }
            (Begin::Replace, _) => {
                self.check_replaced(present, wanted, &results)?;
                let remove = |file: &PathBuf| fs::remove_file(file).map_err(|e| Error::file(file, e));
                results.iter().try_for_each(remove)
            }
            _ => Ok(()),
        }
        .and_then(|()| self.remove_leftovers(begin))
    }

    /// Refuses to remove what another command made, and what this run reads.
    fn check_replaced(&self, present: &str, wanted: &Table, results: &[PathBuf]) -> Result<()> {
        let present: Table = present.parse().unwrap_or_default();
        if let (Some(there), Some(here)) = (present.get("command"), wanted.get("command"))
            && there != here
        {
            let text = format!(
                "holds a run of command {there}, which --force of {here} doesn't replace; choose another --output"
            );
            return Err(Error::file(&self.folder, text));
        }
        let real = |path: &Path| fs::canonicalize(path).ok();
        let inputs: Vec<PathBuf> = texts(wanted).into_iter().filter_map(|text| real(text.as_ref())).collect();
        let lost = results.iter().find(|file| real(file).is_some_and(|file| inputs.contains(&file)));
        lost.map_or(Ok(()), |file| {
            Err(Error::file(
                file,
                "is an input of this run, and --force would remove it; choose another --output",
            ))
        })
    }

    /// What a run has left.
    fn results(&self) -> Result<Vec<PathBuf>> {
        let files = RESULTS.iter().map(|name| self.folder.join(name));
        Ok(files.filter(|file| file.symlink_metadata().is_ok()).collect())
    }

    /// Removes half-written files of killed processes. This process holds the lock, so no other one writes here; where the
    /// file system has no locks, one that shares the run may.
    fn remove_leftovers(&self, begin: Begin) -> Result<()> {
        if begin == Begin::Share && self.lock.is_err() {
            return Ok(());
        }
        for name in self.names()? {
            if is_leftover(&name) {
                let file = self.folder.join(name);
                fs::remove_file(&file).map_err(|e| Error::file(&file, e))?;
            }
        }
        Ok(())
    }

    /// Takes a folder without a run, which has to be empty.
    fn take_new(&self, begin: Begin) -> Result<()> {
        if let Some(name) = self.names()?.iter().find(|name| !is_leftover(name)) {
            let cause = format!(
                "holds files but no run of this program ({} is there, config.toml is not); choose another --output",
                name.display()
            );
            return Err(Error::file(&self.folder, cause));
        }
        self.remove_leftovers(begin)
    }

    fn names(&self) -> Result<Vec<OsString>> {
        let fault = |e| Error::file(&self.folder, e);
        let entries = fs::read_dir(&self.folder).map_err(fault)?;
        entries.map(|entry| Ok(entry.map_err(fault)?.file_name())).collect()
    }

    /// A digest of the configuration, which tells this run from others.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Why the folder isn't locked, where its file system can't do that.
    pub fn unlocked(&self) -> Option<&std::io::Error> {
        self.lock.as_ref().err()
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
    /// The suspected training images.
    pub fn suspects(&self) -> PathBuf {
        self.folder.join("suspects.csv")
    }
    /// The result for people.
    pub fn report(&self) -> PathBuf {
        self.folder.join("report.html")
    }
    /// The state of an unfinished run.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }
}

/// Locks the folder. Where its file system has no locks, the error is the value.
fn lock(folder: &Path, begin: Begin) -> Result<std::io::Result<File>> {
    let file = match File::open(folder) {
        Ok(file) => file,
        Err(cause) => return Ok(Err(cause)),
    };
    let locked = match begin {
        Begin::Share => file.lock().map_err(TryLockError::Error),
        _ => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(Ok(file)),
        Err(TryLockError::WouldBlock) => Err(Error::file(folder, "another process of pbe is working in it")),
        Err(TryLockError::Error(cause)) => Ok(Err(cause)),
    }
}

/// Why a folder that holds another run is refused.
fn different(difference: &str, begin: Begin) -> String {
    let digest = difference.strip_prefix("digests.").and_then(|digest| digest.split_once(" is "));
    if let Some((input, digests)) = digest {
        let input = input.replace('_', " ");
        return format!(
            "holds a run of other inputs: the {input} of then and now differ (SHA-256 {})",
            digests.replace('"', "")
        );
    }
    // Both kinds are a processor's: `cpu` in f32, `cpu UNIT` in bf16.
    let processors = difference.matches("\"cpu").count() == 2;
    let hint = match begin {
        Begin::Resume if difference.starts_with("device ") && !processors => {
            "; it goes on to the same bits only there: say so with --device"
        }
        Begin::Resume if processors || difference.starts_with("precision ") => {
            "; it goes on to the same bits only so: say so with --precision"
        }
        Begin::Resume => "",
        _ => "; choose another --output",
    };
    format!("holds a different run: {difference}{hint}")
}

/// All texts of a configuration, some of which are paths.
fn texts(table: &Table) -> Vec<&str> {
    let values = table.values().flat_map(|value| match value {
        Value::String(text) => vec![text.as_str()],
        Value::Table(table) => texts(table),
        _ => vec![],
    });
    values.collect()
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

    fn refusal(folder: &Path, command: &str, config: &TestConfig, begin: Begin) -> String {
        let message = RunFolder::create(folder, command, config, begin).unwrap_err().to_string();
        assert!(!message.contains('\n') && message.contains(&folder.display().to_string()), "{message}");
        message
    }

    #[test]
    fn a_run_is_begun_begun_again_and_resumed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("runs/1");
        for begin in [Begin::New, Begin::New, Begin::Resume, Begin::Replace] {
            let run = RunFolder::create(&folder, "purify", &config(0.5), begin).unwrap();
            assert!(run.unlocked().is_none());
            let text = fs::read_to_string(run.config()).unwrap();
            assert_eq!(text, "command = \"purify\"\nseed = 1\n\n[attack]\nepsilon = 0.5\nsteps = 7\n");
        }
    }

    #[test]
    fn an_empty_folder_may_be_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".config.toml.17.tmp"), "of a killed run").unwrap();
        let run = RunFolder::create(folder.path(), "purify", &config(0.1), Begin::New).unwrap();
        assert_eq!(run.names().unwrap(), [CONFIG]);
    }

    #[test]
    fn a_run_is_replaced_only_where_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let run = RunFolder::create(folder, "purify", &config(0.5), Begin::New).unwrap();
        fs::write(run.checkpoint(), "hours of work").unwrap();
        fs::write(folder.join(".model.safetensors.17.tmp"), "of a killed run").unwrap();
        fs::write(folder.join("notes.txt"), "of the user").unwrap();
        assert!(refusal(folder, "purify", &config(0.5), Begin::New).contains("another process"));
        drop(run);
        let message = refusal(folder, "purify", &config(0.5), Begin::New);
        assert!(message.contains("checkpoint.safetensors") && message.contains("--force"), "{message}");
        let run = RunFolder::create(folder, "purify", &config(0.5), Begin::Resume).unwrap();
        assert!(run.checkpoint().exists() && !folder.join(".model.safetensors.17.tmp").exists());
        drop(run);
        let run = RunFolder::create(folder, "purify", &config(0.25), Begin::Replace).unwrap();
        assert!(!run.checkpoint().exists() && folder.join("notes.txt").exists());
    }

    /// `purify --model g2/model.safetensors --output g2 --force` replaced the model that it read, and `poison --output g2
    /// --force` removed it.
    #[test]
    fn what_another_command_made_or_the_run_reads_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let run = RunFolder::create(folder, "purify", &config(0.5), Begin::New).unwrap();
        fs::write(run.model(), "weights").unwrap();
        let model = run.model();
        drop(run);
        let message = refusal(folder, "poison", &config(0.5), Begin::Replace);
        assert!(message.contains("holds a run of command \"purify\""), "{message}");
        let reads = TestConfig { clean: Some(model.display().to_string()), ..config(0.5) };
        let message = refusal(folder, "purify", &reads, Begin::Replace);
        assert!(message.contains("model.safetensors: is an input of this run"), "{message}");
        assert!(model.exists());
        RunFolder::create(folder, "purify", &config(0.5), Begin::Replace).unwrap();
        assert!(!model.exists());
    }

    #[test]
    fn an_input_that_changed_is_named() {
        let difference = r#"digests.training_images is "ab" there and "cd" here"#;
        let message = different(difference, Begin::Resume);
        assert!(message.contains("the training images of then and now differ"), "{message}");
        assert!(message.ends_with("(SHA-256 ab there and cd here)"), "{message}");
    }

    #[test]
    fn another_run_is_refused_with_the_first_difference() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        RunFolder::create(folder, "purify", &config(0.5), Begin::New).unwrap();
        let before = fs::read(folder.join(CONFIG)).unwrap();
        for begin in [Begin::New, Begin::Resume] {
            let message = refusal(folder, "purify", &config(0.25), begin);
            assert!(message.contains("attack.epsilon is 0.5 there and 0.25 here"), "{message}");
            let message = refusal(folder, "infect", &config(0.25), begin);
            assert!(message.contains("command is \"purify\" there and \"infect\" here"), "{message}");
            let other = TestConfig { clean: Some("set".into()), ..config(0.25) };
            let message = refusal(folder, "purify", &other, begin);
            assert!(message.contains("attack.epsilon"), "{message}");
            let other = TestConfig { clean: Some("set".into()), ..config(0.5) };
            let message = refusal(folder, "purify", &other, begin);
            assert!(message.contains("clean is not set there and \"set\" here"), "{message}");
        }
        assert_eq!(fs::read(folder.join(CONFIG)).unwrap(), before);
    }

    #[test]
    fn folders_that_hold_no_run_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(refusal(&missing, "purify", &config(0.1), Begin::Resume).contains("no run to resume"));
        assert!(!missing.exists());
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        assert!(refusal(folder.path(), "purify", &config(0.1), Begin::New).contains("thesis.tex"));
        assert!(
            refusal(&folder.path().join("thesis.tex"), "purify", &config(0.1), Begin::New).contains("made")
        );
        fs::write(folder.path().join(CONFIG), "= nothing\n").unwrap();
        assert!(refusal(folder.path(), "purify", &config(0.1), Begin::New).contains("not TOML"));
    }
}
