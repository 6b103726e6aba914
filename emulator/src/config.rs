//! Settings, from the environment.

use std::path::PathBuf;
use std::thread::available_parallelism;
use std::{env, fs};

use crate::exec::{Checks, Settings};
use crate::memory::Shadows;
use crate::patches::{self, Patch};

/// What every variable's name begins with. One that begins so and isn't known is an error: a misspelt
/// name would otherwise switch a check off unnoticed.
const PREFIX: &str = "PTX_EMULATOR_";

/// A check's switch.
type Switch = fn(&mut Checks) -> &mut bool;

/// The checks by their names in `PTX_EMULATOR_CHECKS`.
const CHECKS: [(&str, Switch); 7] = [
    ("out-of-bounds", |checks| &mut checks.out_of_bounds),
    ("use-after-free", |checks| &mut checks.use_after_free),
    ("uninitialised", |checks| &mut checks.uninitialised),
    ("shared-races", |checks| &mut checks.shared_races),
    ("global-races", |checks| &mut checks.global_races),
    ("async-copies", |checks| &mut checks.async_copies),
    ("barriers", |checks| &mut checks.barriers),
];

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `PTX_EMULATOR_CAPABILITY`: compute capability of the device, major and minor.
    pub capability: (u32, u32),
    /// `PTX_EMULATOR_MEMORY`: bytes of device memory.
    pub memory: u64,
    /// `PTX_EMULATOR_DEVICES`: 1, or 0 to play a machine with a driver and no GPU.
    pub devices: u32,
    /// `PTX_EMULATOR_REPORT`: where the JSON report is written.
    pub report: Option<PathBuf>,
    /// `PTX_EMULATOR_LAUNCHES`: where a line of JSON is written for each launch.
    pub launches: Option<PathBuf>,
    /// `PTX_EMULATOR_FAIL`: a launch that is to fail.
    pub fail: Option<Fail>,
    /// `PTX_EMULATOR_OOM`: memory that another program takes.
    pub take: Option<Take>,
    /// `PTX_EMULATOR_PATCHES`: a file of patches of the kernels' text.
    pub patches: Vec<Patch>,
    /// `PTX_EMULATOR_CHECKS`, `_SEED`, `_THREADS`, `_LIMIT`. Memory traffic is
    /// counted if a report or a line for each launch is asked for.
    pub settings: Settings,
}

/// A launch that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// The kernel.
    pub kernel: String,
    /// Which of its launches, from 1.
    pub number: u64,
}

/// Memory that another program takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// How much.
    pub bytes: u64,
    /// Before which allocation, from 1.
    pub number: u64,
}

/// A variable that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PREFIX}{name}={value}: {expected}")]
pub struct ConfigError {
    name: String,
    value: String,
    expected: String,
}

impl Default for Config {
    /// Capability 8.0, 8 GiB, all checks, all processors.
    fn default() -> Config {
        let threads = available_parallelism().map_or(1, usize::from);
        Config {
            capability: (8, 0),
            memory: 8 << 30,
            devices: 1,
            report: None,
            launches: None,
            fail: None,
            take: None,
            patches: Vec::new(),
            settings: Settings { threads, count_memory: false, ..Settings::default() },
        }
    }
}

impl Config {
    /// Reads the environment of the process.
    pub fn from_environment() -> Result<Config, ConfigError> {
        let variables = env::vars_os().filter_map(|(name, value)| {
            let name = name.to_string_lossy().strip_prefix(PREFIX)?.to_string();
            Some((name, value.to_string_lossy().into_owned()))
        });
        Config::read(variables)
    }

    /// Reads pairs of name, without the prefix, and value. An empty value is the same as none.
    pub fn read(variables: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        for (name, value) in variables {
            if value.is_empty() {
                continue;
            }
            let problem = config.set(&name, value.trim());
            problem.map_err(|expected| ConfigError { name, value, expected })?;
        }
        config.settings.count_memory = config.report.is_some() || config.launches.is_some();
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "CAPABILITY" => self.capability = capability(value).ok_or("expected like 8.0")?,
            "MEMORY" => self.memory = bytes(value).ok_or("expected bytes, or a number with K, M, G or T")?,
            "DEVICES" => {
                let devices = value.parse().ok().filter(|&count| count <= 1);
                self.devices = devices.ok_or("expected 0 or 1")?;
            }
            "REPORT" => self.report = Some(PathBuf::from(value)),
            "LAUNCHES" => self.launches = Some(PathBuf::from(value)),
            "FAIL" => self.fail = Some(fail(value).ok_or("expected KERNEL@NUMBER, from 1")?),
            "OOM" => self.take = Some(take(value).ok_or("expected BYTES@NUMBER, from 1, as 1G@3")?),
            "PATCHES" => {
                let json = fs::read(value).map_err(|error| error.to_string())?;
                self.patches = patches::read(&json)?;
            }
            "CHECKS" => self.settings.checks = checks(value)?,
            "SEED" => self.settings.seed = value.parse().map_err(|_| "expected a number from 0")?,
            "THREADS" => self.settings.threads = at_least_one(value)? as usize,
            "LIMIT" => self.settings.limit = at_least_one(value)?,
            _ => return Err(format!("unknown; there are {}", KNOWN.join(", "))),
        }
        Ok(())
    }

    /// Which shadows device memory needs for the checks.
    pub fn shadows(&self) -> Shadows {
        let checks = self.settings.checks;
        Shadows {
            poison: checks.uninitialised,
            initialised: checks.uninitialised,
            races: checks.global_races,
        }
    }
}

const KNOWN: [&str; 12] = [
    "CAPABILITY",
    "MEMORY",
    "DEVICES",
    "REPORT",
    "LAUNCHES",
    "FAIL",
    "OOM",
    "PATCHES",
    "CHECKS",
    "SEED",
    "THREADS",
    "LIMIT",
];

/// The names of the checks that are on.
pub fn names(checks: &Checks) -> Vec<&'static str> {
    let mut copy = *checks;
    CHECKS.iter().filter(|(_, switch)| *switch(&mut copy)).map(|(name, _)| *name).collect()
}

fn checks(value: &str) -> Result<Checks, String> {
    match value {
        "all" => return Ok(Checks::ALL),
        "none" => return Ok(Checks::NONE),
        _ => {}
    }
    let mut checks = Checks::NONE;
    for name in value.split(',').map(str::trim) {
        let Some((_, switch)) = CHECKS.iter().find(|(known, _)| *known == name) else {
            return Err(format!("expected all, none, or some of {}", CHECKS.map(|(name, _)| name).join(",")));
        };
        *switch(&mut checks) = true;
    }
    Ok(checks)
}

fn capability(value: &str) -> Option<(u32, u32)> {
    let (major, minor) = value.split_once('.')?;
    let capability = (major.parse().ok()?, minor.parse().ok()?);
    crate::driver::model::Model::of(capability).map(|_| capability)
}

fn bytes(value: &str) -> Option<u64> {
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match value[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

fn fail(value: &str) -> Option<Fail> {
    let (kernel, number) = value.split_once('@')?;
    let number = at_least_one(number).ok()?;
    (!kernel.is_empty()).then(|| Fail { kernel: kernel.into(), number })
}

fn take(value: &str) -> Option<Take> {
    let (amount, number) = value.split_once('@')?;
    Some(Take { bytes: bytes(amount)?, number: at_least_one(number).ok()? })
}

fn at_least_one(value: &str) -> Result<u64, String> {
    value.parse().ok().filter(|&number| number > 0).ok_or("expected a number from 1".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::read(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())))
    }

    #[test]
    fn everything_can_be_set() {
        let config = read(&[
            ("CAPABILITY", "8.6"),
            ("MEMORY", "3G"),
            ("DEVICES", "0"),
            ("REPORT", "counts.json"),
            ("LAUNCHES", "launches.jsonl"),
            ("FAIL", "sgd@5"),
            ("OOM", "1K@2"),
            ("CHECKS", "barriers, uninitialised"),
            ("SEED", "7"),
            ("THREADS", "3"),
            ("LIMIT", "1000"),
        ]);
        let config = config.unwrap();
        assert_eq!((config.capability, config.memory, config.devices), ((8, 6), 3 << 30, 0));
        assert_eq!(config.report, Some(PathBuf::from("counts.json")));
        assert_eq!(config.launches, Some(PathBuf::from("launches.jsonl")));
        assert_eq!(config.fail, Some(Fail { kernel: "sgd".into(), number: 5 }));
        assert_eq!(config.take, Some(Take { bytes: 1024, number: 2 }));
        let checks = Checks { barriers: true, uninitialised: true, ..Checks::NONE };
        let settings = Settings { checks, seed: 7, threads: 3, limit: 1000, count_memory: true };
        assert_eq!(config.settings, settings);
        assert_eq!(config.shadows(), Shadows { poison: true, initialised: true, races: false });
        assert_eq!(names(&checks), ["uninitialised", "barriers"]);
    }

    #[test]
    fn without_variables_all_is_checked_and_nothing_counted() {
        let config = read(&[("MEMORY", "")]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.settings.checks, Checks::ALL);
        assert!(!config.settings.count_memory);
        assert_eq!(names(&Checks::ALL), CHECKS.map(|(name, _)| name));
    }

    #[test]
    fn traffic_is_counted_where_it_is_asked_for() {
        for (name, counted) in [("REPORT", true), ("LAUNCHES", true), ("PATCHES", false)] {
            let pairs = [(name, if counted { "file" } else { "" })];
            assert_eq!(read(&pairs).unwrap().settings.count_memory, counted, "{name}");
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        let wrong = [
            ("CAPABILITY", "8"),
            ("CAPABILITY", "8.1"),
            ("MEMORY", "lots"),
            ("MEMORY", "-1"),
            ("MEMORY", "0"),
            ("MEMORY", "99999999999G"),
            ("DEVICES", "2"),
            ("PATCHES", "no/such/file"),
            ("FAIL", "sgd"),
            ("FAIL", "@1"),
            ("FAIL", "sgd@0"),
            ("OOM", "1G"),
            ("OOM", "@1"),
            ("CHECKS", "everything"),
            ("CHECKS", "barriers,,"),
            ("SEED", "x"),
            ("THREADS", "0"),
            ("LIMIT", "1e9"),
            ("CHEKCS", "all"),
        ];
        for (name, value) in wrong {
            let message = read(&[(name, value)]).unwrap_err().to_string();
            assert!(message.starts_with(&format!("PTX_EMULATOR_{name}={value}: ")), "{message}");
        }
    }
}
