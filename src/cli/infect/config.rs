//! `pbe infect --config`: every setting of a file is an option, so the file becomes a part of the command line. An
//! option that is there already wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use pbe::backdoor::dynamic::GeneratorConfig;
use pbe::device::is_processor;
use pbe::error::{Error, Result};
use pbe::report::RunFolder;
use toml::{Table, Value};

use super::InfectArgs;
use crate::cli::config_file::{check_origin, read};

/// The command's line alone.
#[derive(Parser)]
#[command(name = "infect")]
pub struct Infect {
    #[command(flatten)]
    pub args: InfectArgs,
}

/// Settings and the options that take their values.
const OPTIONS: [(&str, &str); 36] = [
    ("precision", "--precision"),
    ("seed", "--seed"),
    ("network", "--network"),
    ("width", "--width"),
    ("init", "--init"),
    ("weights", "--weights"),
    ("data.path", "--data"),
    ("data.format", "--format"),
    ("data.limit", "--limit"),
    ("data.size", "--size"),
    ("data.normalisation", "--normalisation"),
    ("data.classes", "--classes"),
    ("attack.kind", "--attack"),
    ("attack.label", "--label"),
    ("attack.target", "--target"),
    ("attack.rate", "--rate"),
    ("attack.count", "--count"),
    ("attack.pattern", "--pattern"),
    ("attack.mask", "--mask"),
    ("attack.alpha", "--alpha"),
    ("attack.delta", "--delta"),
    ("attack.frequency", "--frequency"),
    ("attack.grid", "--grid"),
    ("attack.strength", "--strength"),
    ("attack.noise-ratio", "--noise-ratio"),
    ("attack.generators", "--generators"),
    ("train.epochs", "--epochs"),
    ("train.learning_rate", "--lr"),
    ("train.schedule", "--schedule"),
    ("train.batch", "--batch"),
    ("train.momentum", "--momentum"),
    ("train.weight_decay", "--weight-decay"),
    ("train.crop", "--crop"),
    ("generators.generator-width", "--generator-width"),
    ("generators.pattern-lr", "--pattern-lr"),
    ("generators.mask-steps", "--mask-steps"),
];

/// Settings that are true or false, and the option for each.
const SWITCHES: [(&str, [&str; 2]); 4] = [
    ("data.skip_bad", ["", "--skip-bad"]),
    ("fresh", ["", "--fresh"]),
    ("attack.clean-label", ["--dirty-label", ""]),
    ("train.flip", ["--no-flip", "--flip"]),
];

/// Options of which the command line has one at most.
const EITHER: [[&str; 2]; 2] = [["--rate", "--count"], ["--flip", "--no-flip"]];

/// A command line of `pbe infect` with the options that its `--config` has, or the run that it resumes; every other one as it is.
///
/// # Errors
/// The file can't be read, isn't of such a run, or has a setting that there isn't.
pub fn expand(mut line: Vec<OsString>) -> Result<Vec<OsString>> {
    let words: Vec<String> = line.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let command = words.iter().skip(1).find(|word| !word.starts_with('-'));
    if command.is_none_or(|command| command != "infect") {
        return Ok(line);
    }
    let path = match (value_of(&words, "--config"), value_of(&words, "--resume")) {
        (Some(path), _) => PathBuf::from(path),
        (None, Some(folder)) => RunFolder::settings(Path::new(folder))?,
        (None, None) => return Ok(line),
    };
    let path = path.as_path();
    let file = read(path)?;
    let source = path.display().to_string();
    check_origin(&file, "infect", &source)?;
    let options = options(&file, &source)?;
    check(&options, path)?;
    let kind = options.iter().find_map(|(option, value)| (*option == "--attack").then_some(value));
    if let (Some(given), Some(kind)) = (value_of(&words, "--attack"), kind.filter(|kind| *kind != "none"))
        && given != kind
    {
        return Err(Error::input(format!("--attack {given}: {source} is of the attack {kind}")));
    }
    let is_given = |option: &str| {
        let pair = EITHER.iter().find(|pair| pair.contains(&option));
        let names = pair.copied().unwrap_or([option; 2]);
        words.iter().any(|word| names.contains(&word.split('=').next().unwrap_or_default()))
    };
    line.extend(options.iter().filter(|(option, _)| !is_given(option)).map(word));
    Ok(line)
}

/// The kind of device of the run that a file is of, and the digests of its inputs.
pub fn origin(path: &Path) -> Result<(Option<String>, BTreeMap<String, String>)> {
    let file = read(path)?;
    let digests = file.get("digests").and_then(Value::as_table).into_iter().flatten();
    let text = |value: &Value| value.as_str().map(String::from);
    let digests = digests.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
    Ok((file.get("device").and_then(text), digests))
}

fn value_of<'a>(words: &'a [String], option: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| word.split('=').next() == Some(option))?;
    words[at].split_once('=').map(|(_, value)| value).or_else(|| words.get(at + 1).map(String::as_str))
}

fn word((option, value): &(&str, String)) -> OsString {
    if value.is_empty() { (*option).into() } else { format!("{option}={value}").into() }
}

/// The file's options, with their values.
fn options(file: &Table, source: &str) -> Result<Vec<(&'static str, String)>> {
    let mut found = vec![];
    let kind = file.get("attack").and_then(|attack| attack.get("kind")).and_then(Value::as_str);
    for (path, value) in leaves(file) {
        let fault = |wanted: &str| {
            let text = format!(
                "{source}: {path} is {value}, of type {}, but must be of type {wanted}",
                value.type_str()
            );
            Error::input(text)
        };
        if let Some((_, option)) = OPTIONS.iter().find(|(setting, _)| *setting == path) {
            match value {
                Value::String(text) => found.push((*option, text.clone())),
                Value::Integer(_) | Value::Float(_) | Value::Array(_) => {
                    found.push((*option, value.to_string()))
                }
                _ => return Err(fault("string, integer or float")),
            }
        } else if let Some((_, names)) = SWITCHES.iter().find(|(setting, _)| *setting == path) {
            let on = value.as_bool().ok_or_else(|| fault("boolean"))?;
            let name = names[usize::from(on)];
            if !name.is_empty() && (name != "--dirty-label" || kind == Some("sig")) {
                found.push((name, String::new()));
            }
        } else if let Some(own) = fixed(&path)? {
            // The file has the digits of an f32.
            let same = match (&own, value) {
                (Value::Float(own), Value::Float(value)) => *own as f32 == *value as f32,
                _ => own == *value,
            };
            if !same {
                return Err(Error::input(format!("{source}: {path} has no effect: it is always {own}")));
            }
        } else if !["command", "version", "commit", "device", "data.height", "data.width"].contains(&&*path)
            && !path.starts_with("digests.")
        {
            let known = OPTIONS.iter().map(|(setting, _)| *setting);
            let known: Vec<&str> = known.chain(SWITCHES.map(|(setting, _)| setting)).collect();
            let text = format!("{source}: {path} is no setting of this run; there are {}", known.join(", "));
            return Err(Error::input(text));
        }
    }
    // A set of square images was read in this size; another has its own.
    let side = |name| file.get("data").and_then(|data| data.get(name)).and_then(Value::as_integer);
    if let (Some(height), Some(width)) = (side("height"), side("width"))
        && height == width
    {
        found.push(("--size", height.to_string()));
    }
    if file.get("device").and_then(Value::as_str).is_some_and(is_processor) {
        found.push(("--device", "cpu".into()));
    }
    // A run without a backdoor has no attack.
    if file.contains_key("command") && kind.is_none() {
        found.push(("--attack", "none".into()));
    }
    Ok(found)
}

/// The value of a setting that has no option.
fn fixed(path: &str) -> Result<Option<Value>> {
    let fault = |cause| Error::run(format!("settings as TOML: {cause}"));
    let generators = Value::try_from(GeneratorConfig::default()).map_err(fault)?;
    let name = path.strip_prefix("generators.").unwrap_or_default();
    Ok(if path == "train.nesterov" { Some(Value::Boolean(true)) } else { generators.get(name).cloned() })
}

/// Refuses a file with values that the options don't take.
fn check(options: &[(&'static str, String)], path: &Path) -> Result<()> {
    let mut line: Vec<OsString> = vec!["infect".into(), "--output=.".into()];
    for (option, instead) in [("--data", "--data=."), ("--attack", "--attack=none")] {
        if !options.iter().any(|(name, _)| *name == option) {
            line.push(instead.into());
        }
    }
    line.extend(options.iter().map(word));
    let fault = |cause: clap::Error| {
        let text = cause.to_string();
        let lines = text.trim_start_matches("error: ").lines().take_while(|line| !line.is_empty());
        Error::file(path, lines.map(str::trim).collect::<Vec<_>>().join(" "))
    };
    Infect::try_parse_from(line).map(drop).map_err(fault)
}

/// Every value that is no table, and its path in dots.
fn leaves(table: &Table) -> Vec<(String, &Value)> {
    let mut found = vec![];
    for (key, value) in table {
        match value {
            Value::Table(table) => {
                found.extend(leaves(table).into_iter().map(|(path, value)| (format!("{key}.{path}"), value)));
            }
            value => found.push((key.clone(), value)),
        }
    }
    found
}
