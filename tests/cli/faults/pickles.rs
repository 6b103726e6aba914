//! PyTorch checkpoints of some hundred kilobytes that would take gigabytes: one thing of the pickle used many times.

use std::io::Write;
use std::path::Path;

use super::refused;
use crate::program::word;

/// A checkpoint with this pickle and one storage.
fn checkpoint(path: &Path, pickle: &[u8], storage: usize) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in [("m/data.pkl", pickle), ("m/data/0", &vec![0; storage])] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn integer(value: usize) -> Vec<u8> {
    [b"J", &(value as i32).to_le_bytes()[..]].concat()
}

/// Puts the tensor function at place 0 of the memo, and its arguments at place 1: a storage of so many floats, the
/// whole of it, with this shape and stride.
fn one_tensor(floats: usize, shape: &[u8], stride: &[u8]) -> Vec<u8> {
    [
        &b"\x80\x02}q\x09(ctorch._utils\n_rebuild_tensor_v2\nq\x000("[..],
        b"(",
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        &integer(floats),
        b"tQK\x00",
        shape,
        stride,
        b"tq\x010",
    ]
    .concat()
}

/// A dict of `count` tensors, each the same.
fn many(begin: Vec<u8>, count: usize) -> Vec<u8> {
    let tensors = (0..count).flat_map(|index| [&text(&format!("{index:05}"))[..], b"h\x00h\x01R"].concat());
    begin.into_iter().chain(tensors).chain(*b"u.").collect()
}

#[track_caller]
fn converting_is_refused(pickle: &[u8], storage: usize, says: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (folder.path().join("bomb.pth"), folder.path().join("out.safetensors"));
    checkpoint(&model, pickle, storage);
    assert!(std::fs::metadata(&model).unwrap().len() < 2_000_000);
    refused(1_000_000, &["convert", "--model", word(&model), "--output", word(&output)], &["bomb.pth", says]);
}

#[test]
fn many_tensors_on_one_storage() {
    let floats = 125_000;
    let shape = [&integer(floats)[..], b"\x85"].concat();
    let pickle = many(one_tensor(floats, &shape, b"K\x01\x85"), 20_000);
    converting_is_refused(&pickle, 4 * floats, "0 are among the file's 20000");
}

#[test]
fn many_tensors_of_one_shape() {
    let ones = [&b"("[..], &b"K\x01".repeat(100_000), b"tq\x02"].concat();
    let pickle = many(one_tensor(2, &ones, b"h\x02"), 10_000);
    converting_is_refused(&pickle, 8, "no tensor has a name");
}

#[test]
fn many_calls_of_one_long_name() {
    let name = "A".repeat(400_000);
    let begin = format!("\u{80}\u{2}ctorch\n{name}Storage\nq");
    let begin: Vec<u8> = begin.chars().map(|byte| byte as u8).collect();
    let pickle = [&begin[..], b"\x00)q\x01", &b"h\x00h\x01R".repeat(100_000), b"."].concat();
    converting_is_refused(&pickle, 8, "a name of 400");
    let texts =
        [&b"\x80\x04"[..], &text("torch"), b"q\x00", &text(&format!("{name}Storage")), b"q\x01"].concat();
    let pickle = [&texts[..], &b"h\x00h\x01\x93".repeat(100_000), b"."].concat();
    converting_is_refused(&pickle, 8, "a name of 400");
}

#[test]
fn many_entries_under_one_long_key() {
    let key = [&text(&"k".repeat(400_000))[..], b"q\x020"].concat();
    let begin = [one_tensor(2, b"K\x02\x85", b"K\x01\x85"), key].concat();
    let pickle = [&begin[..], &b"h\x02h\x00h\x01R".repeat(60_000), b"u."].concat();
    converting_is_refused(&pickle, 8, "a name in it has 400000 bytes");
}

#[test]
fn many_entries_under_one_short_key_are_one() {
    let key = [&text("conv1.weight")[..], b"q\x020"].concat();
    let begin = [one_tensor(2, b"K\x02\x85", b"K\x01\x85"), key].concat();
    let pickle = [&begin[..], &b"h\x02h\x00h\x01R".repeat(60_000), b"u."].concat();
    converting_is_refused(&pickle, 8, "among the file's 1");
}
