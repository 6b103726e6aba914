//! What a file is that is no model, where its first bytes say so.

/// First bytes, and what they are of.
const SIGNS: [(&[u8], &str); 10] = [
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file that it stands for: `git lfs pull` fetches that",
    ),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them, not a model that is read"),
    (b"\x1f\x8b", "packed by gzip: unpack it first"),
    (b"BZh", "packed by bzip2: unpack it first"),
    (b"\xfd7zXZ\0", "packed by xz: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"\x93NUMPY", "a NumPy array, not a model"),
    (b"GGUF", "a GGUF file, not a model that is read"),
    (b"\x89PNG", "a picture, not a model"),
    (b"\xff\xd8\xff", "a picture, not a model"),
];

/// Bytes that are looked at for text.
const START: usize = 1024;

/// What the file is, where it is something else than a model.
pub fn disguise(bytes: &[u8]) -> Option<&'static str> {
    if let Some((_, what)) = SIGNS.iter().find(|(sign, _)| bytes.starts_with(sign)) {
        return Some(what);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some("a tar archive, not a model: unpack it first");
    }
    let start = &bytes[..bytes.len().min(START)];
    let start = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character may be cut at the end.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if start.is_empty() || start.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let start = start.trim_start_matches('\u{feff}').trim_start().to_lowercase();
    Some(if start.starts_with("<!doctype html") || start.starts_with("<html") {
        "an HTML page, not a model: a download that ended on a page of the site?"
    } else if start.starts_with('<') {
        "an XML text, not a model: an error message of the site it is from?"
    } else if start.starts_with('{') {
        "a JSON text, not a model"
    } else {
        "a text file, not a model"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_named() {
        for (bytes, says) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"[..], Some("Git LFS")),
            (b"\n<!DOCTYPE html><html>", Some("HTML")),
            (b"<?xml version='1.0'?><Error>AccessDenied</Error>", Some("XML")),
            (b"\xef\xbb\xbf{\"schema\": 1}", Some("JSON")),
            ("Modèle".as_bytes(), Some("text file")),
            (b"\x1f\x8b\x08\0", Some("gzip")),
            (b"PK\x03\x04", None),
            (b"\x08\0\0\0\0\0\0\0{}      ", None),
            (b"", None),
        ] {
            let found = disguise(bytes);
            assert_eq!(found.is_some(), says.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(says.unwrap_or_default()), "{found:?}");
        }
    }
}
