//! Atomic writes: a file is either complete or absent.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// The bytes of a file. A pipe or a device, which may have no end, is refused, and so is a file of more than `most`
/// bytes.
pub fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = std::fs::metadata(path)?;
    let refused = |cause: String| Err(io::Error::other(cause));
    if !file.is_file() {
        return refused(format!(
            "is a {}, not a file",
            if file.is_dir() { "folder" } else { "pipe or device" }
        ));
    }
    if file.len() > most {
        return refused(format!("has {} bytes, more than the {most} that are read", file.len()));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Refuses a file to be written whose folder isn't there, before anything is computed for it.
pub fn check_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => {
            Err(Error::input(format!("{}: there is no folder {}", path.display(), folder.display())))
        }
        None => Ok(()),
    }
}

/// Replaces the file at `path` by `bytes`; see [`write_atomic_with`].
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// Replaces the file at `path` by what `write` writes.
///
/// It is written under a temporary name in the same folder, synced and renamed. So readers see the old file or the
/// new one, never a part, even after a crash or with a full disk. A link is followed; a pipe or a device is written
/// directly. The error names the file.
pub fn write_atomic_with(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let replaced = match std::fs::metadata(path) {
        Ok(file) if file.is_file() => path.canonicalize().and_then(|target| replace(&target, write)),
        Ok(special) if !special.is_dir() => File::create(path).and_then(|file| fill(file, write).map(drop)),
        _ => replace(path, write),
    };
    replaced.map_err(|cause| Error::write(path, cause))
}

/// The temporary name of a file that is being written; each process has its own.
fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    temporary
}

/// Whether a file of this name is what a killed process was writing: `.NAME.PROCESS.tmp`.
pub(crate) fn is_leftover(found: &OsStr) -> bool {
    let found = found.to_string_lossy();
    let parts = found.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp")?.rsplit_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    parts.is_some_and(|(name, process)| !name.is_empty() && is_number(process))
}

fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("not a file name"))?;
    let temporary = path.with_file_name(temporary_name(name));
    let written = File::create(&temporary)
        .and_then(|file| fill(file, write))
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path));
    match &written {
        Ok(()) => sync_folder(path),
        // The cause matters more than a leftover that can't be removed.
        Err(_) => drop(std::fs::remove_file(&temporary)),
    }
    written
}

fn fill(file: File, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<File> {
    let mut writer = BufWriter::new(file);
    write(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Makes the rename durable, if the file system can.
fn sync_folder(path: &Path) {
    if let Some(Ok(folder)) = path.parent().filter(|folder| *folder != Path::new("")).map(File::open) {
        drop(folder.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(write_atomic("/", b"").is_err());
    }

    #[test]
    fn a_leftover_is_recognised_by_its_name() {
        let own = temporary_name("config.toml".as_ref());
        assert!(is_leftover(&own));
        for other in [".config.toml.swp", ".config.toml.mine.tmp", "config.toml.17.tmp", ".17.tmp", "..tmp"] {
            assert!(!is_leftover(other.as_ref()), "{other}");
        }
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
    }
}
