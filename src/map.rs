//! Files as read-only memory. The only unsafe code of this crate outside the device floor.

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// Maps the whole of a file that is not empty.
///
/// # Errors
/// The file is absent, a folder, empty, or can't be opened or mapped.
#[allow(unsafe_code)]
pub fn map_file(path: &Path) -> Result<Mmap> {
    // Opening a pipe would wait until another process writes into it.
    let metadata = std::fs::metadata(path).map_err(|error| Error::file(path, error))?;
    if metadata.is_dir() {
        return Err(Error::file(path, "is a folder, not a file"));
    }
    if !metadata.is_file() {
        return Err(Error::file(path, "is a pipe or device, not a file"));
    }
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    if metadata.len() == 0 {
        return Err(Error::file(path, "is empty"));
    }
    // SAFETY: the mapping is private and read-only, and callers copy out of it before they return. Rust
    // cannot rule out that another process writes to or truncates the file meanwhile; no program that
    // maps files can, and pbe itself replaces files by rename, never in place.
    unsafe { Mmap::map(&file) }.map_err(|error| Error::file(path, error))
}
