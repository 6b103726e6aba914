//! Which files are images, and what is left out.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What is read, in words.
pub(super) const KINDS: &str = "JPEG, PNG, PPM, PGM, PBM, BMP, TIFF, WebP or GIF";

/// Endings of images.
const IMAGES: [&str; 15] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "ppm", "pgm", "pbm", "pnm", "bmp", "dib", "tif", "tiff", "webp",
    "gif",
];

/// Endings of what lies among images and is none.
const OTHERS: [&str; 33] = [
    "txt", "csv", "tsv", "json", "jsonl", "xml", "yaml", "yml", "toml", "ini", "md", "html", "htm", "log",
    "db", "sqlite", "npy", "npz", "mat", "pkl", "pickle", "pt", "pth", "h5", "py", "ipynb", "sh", "zip",
    "tar", "gz", "tgz", "pdf", "lnk",
];

/// What a file is, from its ending; from its first bytes where the ending says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Image,
    /// Text, tables, archives: no image by its ending or its content.
    Other,
    /// May be an image of a kind that isn't read.
    Unknown,
}

pub(super) fn kind(path: &Path) -> FileKind {
    let ending = ending(path);
    if IMAGES.contains(&ending.as_str()) {
        return FileKind::Image;
    }
    if OTHERS.contains(&ending.as_str()) {
        return FileKind::Other;
    }
    let mut start = [0; 512];
    let start = match File::open(path).and_then(|mut file| file.read(&mut start)) {
        Ok(length) => &start[..length],
        Err(_) => return FileKind::Unknown,
    };
    if image::guess_format(start).is_ok() {
        FileKind::Image
    } else if is_text(start) {
        FileKind::Other
    } else {
        FileKind::Unknown
    }
}

/// Whether the bytes are the start of a text (a character may be cut at the end).
fn is_text(start: &[u8]) -> bool {
    let whole = match std::str::from_utf8(start) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    whole && start.iter().all(|&byte| byte >= 0x20 || matches!(byte, b'\n' | b'\r' | b'\t'))
}

fn ending(path: &Path) -> String {
    path.extension().map_or_else(String::new, |ending| ending.to_string_lossy().to_ascii_lowercase())
}

/// Files among the images that are not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Files by ending: of no image, or of an image that lies outside the class folders.
    pub endings: BTreeMap<String, usize>,
    /// Files that may be images of a kind that isn't read.
    pub unknown: Vec<PathBuf>,
}

impl LeftOut {
    pub(super) fn add(&mut self, path: &Path, note: &str) {
        let ending = match ending(path).as_str() {
            "" => "no ending".to_string(),
            ending => format!(".{ending}"),
        };
        *self.endings.entry(ending + note).or_default() += 1;
    }

    pub(super) fn add_unknown(&mut self, path: PathBuf) {
        self.unknown.push(path);
    }

    pub(super) fn merge(&mut self, other: LeftOut) {
        other
            .endings
            .into_iter()
            .for_each(|(ending, files)| *self.endings.entry(ending).or_default() += files);
        self.unknown.extend(other.unknown);
    }

    /// Unless `skip_bad`, files that may be images are an error; else they are counted with the others.
    pub(super) fn check(&mut self, skip_bad: bool) -> Result<()> {
        let unknown = std::mem::take(&mut self.unknown);
        if let Some(first) = unknown.first()
            && !skip_bad
        {
            let more = match unknown.len() - 1 {
                0 => String::new(),
                more => format!("; {more} more files like it"),
            };
            return Err(Error::file(
                first,
                format!(
                    "no image that is read ({KINDS}){more} (--skip-bad, for purify --set data.skip_bad=true, leaves \
                     such files out)"
                ),
            ));
        }
        unknown.iter().for_each(|path| self.add(path, ""));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_ending_or_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes, expected) in [
            ("a.JPG", &b"anything"[..], FileKind::Image),
            ("a.csv", b"\x89PNG\r\n\x1a\n", FileKind::Other),
            ("a", b"\x89PNG\r\n\x1a\n", FileKind::Image),
            ("a.image", b"RIFF\x10\0\0\0WEBPVP8 ", FileKind::Image),
            ("README", "Grüße\n".as_bytes(), FileKind::Other),
            ("empty", b"", FileKind::Other),
            ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0", FileKind::Unknown),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(kind(&path), expected, "{name}");
        }
    }
}
