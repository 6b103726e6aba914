//! The PTX of the kernels: embedded, or of a folder.
//!
//! The program embeds the PTX of `kernels/ptx` without line tables, compressed (`build.rs`). `PBE_PTX_DIR` names a folder to read it
//! from instead: kernels that were edited after the program was built, or those with line tables.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

// `MODULES`: the name of each module and its PTX, compressed with zlib.
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
pub(super) fn modules(folder: Option<&Path>) -> Result<Vec<(&'static str, String)>> {
    let source = |(name, embedded): (&'static str, &'static [u8])| {
        let Some(folder) = folder else {
            let mut text = String::new();
            let read = flate2::read::ZlibDecoder::new(embedded).read_to_string(&mut text);
            read.map_err(|cause| Error::run(format!("the embedded kernels {name}: {cause}")))?;
            return Ok((name, text));
        };
        let path = folder.join(format!("{name}.ptx"));
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|cause| Error::file(&path, format!("{cause} ({PTX_DIR} is set)")))?;
        Ok((name, text))
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
