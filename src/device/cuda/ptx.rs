//! The PTX of the kernels: embedded, or of a folder.
//!
//! The program embeds the PTX of `kernels/ptx` without line tables (`build.rs`). `PBE_PTX_DIR` names a folder to read it
//! from instead: kernels that were edited after the program was built, or those with line tables.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

// `MODULES`: the name of each module and its PTX.
include!(concat!(env!("OUT_DIR"), "/ptx_modules.rs"));

/// The variable that names a folder of PTX.
const PTX_DIR: &str = "PBE_PTX_DIR";

/// The folder that kernels are read from, where it isn't the program itself.
pub fn ptx_dir() -> Option<PathBuf> {
    std::env::var_os(PTX_DIR).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// The name and PTX of every module.
///
/// # Errors
/// A file of `folder` can't be read.
pub(super) fn modules(folder: Option<&Path>) -> Result<Vec<(&'static str, Cow<'static, str>)>> {
    let source = |(name, embedded): (&'static str, &'static str)| {
        let Some(folder) = folder else { return Ok((name, Cow::Borrowed(embedded))) };
        let path = folder.join(format!("{name}.ptx"));
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|cause| Error::file(&path, format!("{cause} ({PTX_DIR} is set)")))?;
        Ok((name, Cow::Owned(text)))
    };
    MODULES.into_iter().map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_kernels_are_those_of_the_repository_without_line_tables() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/ptx");
        let (embedded, read) = (modules(None).unwrap(), modules(Some(&folder)).unwrap());
        let entries = |text: &str| text.lines().filter(|line| line.contains(".entry ")).count();
        for ((name, embedded), (_, text)) in embedded.iter().zip(&read) {
            assert!(
                text.contains(".loc") && !embedded.contains(".loc") && !embedded.contains(".file"),
                "{name}"
            );
            assert_eq!(entries(text), entries(embedded), "{name}");
        }
        assert_eq!(read.len(), std::fs::read_dir(folder).unwrap().count());
        let missing = modules(Some(Path::new("/nowhere"))).unwrap_err();
        assert_eq!(missing.exit_code(), 2);
        assert!(missing.to_string().starts_with("/nowhere/"), "{missing}");
    }
}
