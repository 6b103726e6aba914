//! Writing files so that a reader sees the old one or the whole new one.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Replaces the file at `path` by `bytes`: written to a temporary name beside it, flushed to the disk,
/// renamed.
///
/// # Errors
/// The folder is absent or can't be written, or the disk is full; the old file is then as it was.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let temporary = temporary_name(path)?;
    let written = write_and_rename(&temporary, path, bytes);
    if written.is_err() {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| Error::file(path, format!("can't be written: {error}")))
}

/// A name beside `path`, so that the rename stays on one file system; by process, so that two don't meet.
fn temporary_name(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::file(path, "can't be written: not the name of a file"));
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

fn write_and_rename(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // The rename itself is on the disk once the folder is; not every file system can do that.
    if let Some(Ok(folder)) = path.parent().filter(|p| !p.as_os_str().is_empty()).map(File::open) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn failures_name_the_file_and_clean_up() {
        let folder = tempfile::tempdir().unwrap();
        let message = write_atomic(folder.path().join("no/such/a.bin"), b"x").unwrap_err().to_string();
        assert!(message.contains("a.bin: can't be written: No such file"), "{message}");
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        assert!(write_atomic(&taken, b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_atomic("/", b"x").is_err());
    }
}
