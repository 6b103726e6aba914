//! Settings files: the `config.toml` of a run, or one written by hand.

use std::collections::BTreeMap;
use std::path::Path;

use pbe::error::{Error, Result};
use pbe::report::COMMIT;
use toml::{Table, Value};

use super::common::Digests;
use super::progress::log;

/// Reads one.
pub fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(|cause| Error::file(path, cause))?;
    text.parse().map_err(|cause: toml::de::Error| Error::file(path, format!("not TOML: {}", cause.message())))
}

/// Refuses the configuration of another command than `command`, and says if another program wrote it.
pub fn check_origin(file: &Table, command: &str, source: &str) -> Result<()> {
    let text = |key| file.get(key).and_then(Value::as_str);
    if let Some(other) = text("command").filter(|other| *other != command) {
        return Err(Error::input(format!("{source}: it is the configuration of `pbe {other}`")));
    }
    if let (Some(version), Some(commit)) = (text("version"), text("commit"))
        && commit != COMMIT
    {
        log(&format!("{source} is of pbe {version} ({commit}), this is {COMMIT}: results may differ"));
    }
    Ok(())
}

/// Refuses another kind of device than that of the run which is repeated.
pub fn check_kind(wanted: Option<&str>, kind: &str) -> Result<()> {
    match wanted.filter(|wanted| *wanted != kind) {
        None => Ok(()),
        Some(wanted) => Err(Error::input(format!(
            "the configuration is of a run on {wanted}, this is {kind}: bits differ between them; --device runs it \
             here"
        ))),
    }
}

/// Says which inputs differ from those of the run that is repeated.
pub fn log_changes(then: &BTreeMap<String, String>, digests: &Digests) {
    for (name, digest) in digests {
        if then.get(*name).is_some_and(|then| then != digest) {
            log(&format!("the {} differ from those of the run that is repeated", name.replace('_', " ")));
        }
    }
}
