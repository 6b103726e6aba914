<<<<<<< HEAD
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
=======
//! Files that are either whole or not there.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Replaces the file at `path` by `bytes`; see [`write_atomic_with`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// Replaces the file at `path` by what `write` writes.
///
/// It is written under a temporary name in the same folder, synced and renamed, so a reader, a
/// crash or a full disk sees the old file or the new one, never a part. A link is followed; a pipe
/// or a device is written directly. The error names the file.
pub fn write_atomic_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let replaced = match std::fs::metadata(path) {
        Ok(file) if file.is_file() => path.canonicalize().and_then(|target| replace(&target, write)),
        Ok(special) if !special.is_dir() => File::create(path).and_then(|file| fill(file, write).map(drop)),
        _ => replace(path, write),
    };
    replaced.map_err(|cause| Error::file(path, format!("can't be written: {cause}")))
}

/// The name a file has while it is being written. It is always the same, so that what a killed
/// run left is replaced by the next.
pub(crate) fn temporary_name(name: &std::ffi::OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    temporary
}

fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("not a file name"))?;
    let temporary = path.with_file_name(temporary_name(name));
    let written = File::create(&temporary)
        .and_then(|file| fill(file, write))
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path));
    match written {
        Ok(()) => sync_folder(path),
        Err(cause) => {
            // The cause matters more than a leftover that can't be removed.
            let _ = std::fs::remove_file(&temporary);
            Err(cause)
        }
    }
}

fn fill(file: File, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<File> {
    let mut writer = BufWriter::new(file);
    write(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Makes the rename itself last.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
>>>>>>> cf958e4 (Backdoors, poison.json, metrics, reports, run folders, build commit)
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

<<<<<<< HEAD
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
=======
    fn names(folder: &Path) -> Vec<OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        write_atomic(&path, b"first, and longer").unwrap();
        write_atomic(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["result.json"]);
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        write_atomic(&path, b"old").unwrap();
        let error = write_atomic_with(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let message = error.unwrap_err().to_string();
        assert!(message.contains("result.json") && message.contains("can't be written"), "{message}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["result.json"]);
    }

    #[test]
    fn a_missing_folder_and_a_folder_in_the_way_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("nowhere/result.json");
        assert!(write_atomic(&missing, b"").unwrap_err().to_string().contains("nowhere"));
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        assert!(write_atomic(&taken, b"").unwrap_err().to_string().contains("taken"));
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn links_are_followed_and_devices_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, b"old").unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        write_atomic(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert!(link.is_symlink());
        write_atomic(Path::new("/dev/null"), b"gone").unwrap();
        let full = write_atomic(Path::new("/dev/full"), b"more than fits").unwrap_err().to_string();
        assert!(full.starts_with("/dev/full: "), "{full}");
>>>>>>> cf958e4 (Backdoors, poison.json, metrics, reports, run folders, build commit)
    }
}
