//! Decoded image folders kept on disk, so that the second load reads one file.
//!
//! An entry's name is a hash of the files' paths, sizes and times and of what they were decoded to;
//! its header repeats the hash and holds a checksum of the pixels. An entry that doesn't match is ignored, and
//! failing to write one is no error.

use super::decode::{Decoded, TargetSize};
use super::listing::ImageFile;
use bytemuck::{Pod, Zeroable};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const MAGIC: [u8; 8] = *b"pbecache";
/// Changes whenever decoding or this layout does.
const VERSION: u32 = 1;
/// Smaller image folders (in bytes) are decoded faster than looked up.
const SMALLEST_SOURCE: i128 = 1 << 20;
/// Limit of all entries together, in bytes; the oldest are removed first.
pub const LARGEST_CACHE: u64 = 4 << 30;

/// What comes before the pixels; native byte order, since a cache stays on its machine.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    key: [u64; 2],
    count: u64,
    version: u32,
    height: u32,
    width: u32,
    channels: u32,
    /// CRC-32 of the pixels.
    checksum: u32,
    reserved: u32,
}

/// `$XDG_CACHE_HOME/pbe`, else `~/.cache/pbe`; `None` where neither is known.
pub(super) fn default_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("pbe"))
}

/// The folder of the cache and how many bytes its entries have; none where there is no place for it.
pub fn cache() -> Option<(PathBuf, u64)> {
    let folder = default_folder()?;
    let bytes = entries(&folder).iter().map(|(_, length, _)| length).sum();
    Some((folder, bytes))
}

/// Whether decoding these files takes long enough to keep the result.
pub(super) fn is_worthwhile(files: &[ImageFile]) -> bool {
    files.iter().map(|file| file.stamp[0]).sum::<i128>() >= SMALLEST_SOURCE
}

/// The place of one decoded split.
pub(super) struct CacheEntry {
    path: PathBuf,
    key: [u64; 2],
}

impl CacheEntry {
    /// The place, in the cache `folder`, of `files` of the data folder `root` decoded this way.
    pub fn new(
        folder: &Path,
        root: &Path,
        files: &[ImageFile],
        size: &TargetSize,
        channels: Option<usize>,
    ) -> Self {
        let root = fs::canonicalize(root).ok();
        let key = [0u8, 1].map(|salt| {
            let mut hasher = DefaultHasher::new();
            (salt, VERSION, &root, channels, format!("{size:?}")).hash(&mut hasher);
            for file in files {
                (&file.name, file.stamp).hash(&mut hasher);
            }
            hasher.finish()
        });
        Self { path: folder.join(format!("{:016x}{:016x}.pixels", key[0], key[1])), key }
    }

    /// The pixels of `count` images, if a sound entry is there.
    pub fn read(&self, count: usize) -> Option<Decoded> {
        let mut file = File::open(&self.path).ok()?;
        let mut header = Header::zeroed();
        file.read_exact(bytemuck::bytes_of_mut(&mut header)).ok()?;
        let fits = header.magic == MAGIC && header.version == VERSION && header.key == self.key;
        if !fits || header.count != count as u64 {
            return None;
        }
        let [height, width, channels] = [header.height, header.width, header.channels].map(|n| n as usize);
        let length = count.checked_mul(height)?.checked_mul(width)?.checked_mul(channels)?;
        if file.metadata().ok()?.len() != (length + size_of::<Header>()) as u64 {
            return None;
        }
        let mut pixels = vec![0; length];
        file.read_exact(&mut pixels).ok()?;
        (checksum(&pixels) == header.checksum).then(|| Decoded {
            pixels,
            height,
            width,
            channels,
            kept: (0..count as u32).collect(),
            skipped: Vec::new(),
        })
    }

    /// Writes a split that was decoded in full, if it can.
    pub fn write(&self, decoded: &Decoded) {
        let Some(folder) = self.path.parent() else { return };
        let header = Header {
            magic: MAGIC,
            key: self.key,
            count: decoded.kept.len() as u64,
            version: VERSION,
            height: decoded.height as u32,
            width: decoded.width as u32,
            channels: decoded.channels as u32,
            checksum: checksum(&decoded.pixels),
            reserved: 0,
        };
        let temporary = self.path.with_extension(format!("{}.pixels", std::process::id()));
        let written = fs::create_dir_all(folder)
            .and_then(|()| File::create(&temporary))
            .and_then(|mut file| {
                file.write_all(bytemuck::bytes_of(&header))?;
                file.write_all(&decoded.pixels)
            })
            .and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // Only time is lost, but the partial file must not fill the disk.
            let _ = fs::remove_file(&temporary);
        }
        trim(folder, LARGEST_CACHE);
    }
}

fn checksum(pixels: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(pixels);
    crc.sum()
}

/// Removes the oldest entries until all together are no larger than `largest` bytes.
fn trim(folder: &Path, largest: u64) {
    let entries = entries(folder);
    let mut total: u64 = entries.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in entries {
        if total <= largest {
            break;
        }
        if fs::remove_file(path).is_ok() {
            total -= length;
        }
    }
}

/// When each entry was written, its bytes and its file; the oldest first.
fn entries(folder: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "pixels"));
    let mut entries: Vec<_> = files
        .filter_map(|path| {
            let metadata = fs::metadata(&path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), path))
        })
        .collect();
    entries.sort();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stamp: [i128; 3]) -> Vec<ImageFile> {
        vec![ImageFile { path: "a/1.png".into(), name: "a/1.png".into(), label: 0, stamp }]
    }

    fn decoded() -> Decoded {
        let pixels = (0..24).collect();
        Decoded { pixels, height: 2, width: 4, channels: 3, kept: vec![0], skipped: Vec::new() }
    }

    #[test]
    fn an_entry_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new");
        let entry = |stamp, channels| {
            CacheEntry::new(&folder, dir.path(), &found(stamp), &TargetSize::First, channels)
        };
        entry([1, 2, 3], None).write(&decoded());
        let read = entry([1, 2, 3], None).read(1).unwrap();
        assert_eq!(read.pixels, decoded().pixels);
        assert_eq!((read.height, read.width, read.channels), (2, 4, 3));
        assert!(entry([1, 2, 3], None).read(2).is_none());
        assert!(entry([1, 2, 3], Some(3)).read(1).is_none());
        for touched in [[9, 2, 3], [1, 9, 3], [1, 2, 9]] {
            assert!(entry(touched, None).read(1).is_none());
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_damaged_entry_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let entry = CacheEntry::new(dir.path(), dir.path(), &found([1, 2, 3]), &TargetSize::First, None);
        entry.write(&decoded());
        let sound = fs::read(&entry.path).unwrap();
        // Every byte counts, but for the reserved ones.
        for at in (0..sound.len()).filter(|at| !(52..56).contains(at)) {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            fs::write(&entry.path, bytes).unwrap();
            assert!(entry.read(1).is_none(), "byte {at}");
        }
        fs::write(&entry.path, &sound[..sound.len() - 1]).unwrap();
        assert!(entry.read(1).is_none());
        fs::write(&entry.path, [&sound[..], &[0]].concat()).unwrap();
        assert!(entry.read(1).is_none());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "in the way").unwrap();
        let entry = CacheEntry::new(&file, dir.path(), &found([1, 2, 3]), &TargetSize::First, None);
        entry.write(&decoded());
        assert!(entry.read(1).is_none());
    }

    #[test]
    fn the_oldest_entries_go_first() {
        let dir = tempfile::tempdir().unwrap();
        for (age, name) in [(30, "a.pixels"), (10, "b.pixels"), (20, "c.pixels"), (40, "other")] {
            let path = dir.path().join(name);
            fs::write(&path, [0; 100]).unwrap();
            let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        trim(dir.path(), 150);
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["b.pixels", "other"]);
    }
}
