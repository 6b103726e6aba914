//! Data of some kilobytes that unpack to gigabytes, and sizes that no memory holds.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::{refused, with_header};
use crate::program::{DATA, model, word};

/// Kilobytes of memory that a refusal may take.
const MEMORY: u32 = 2_000_000;

#[track_caller]
fn evaluation_is_refused(data: &Path, says: &[&str]) {
    refused(MEMORY, &["evaluate", "--model", word(&model()), "--data", word(data)], says);
}

/// Packed: a head, then this many zeros.
fn packed(path: &Path, head: &[u32], zeros: usize) {
    let mut file = GzEncoder::new(fs::File::create(path).unwrap(), Compression::best());
    head.iter().for_each(|word| file.write_all(&word.to_be_bytes()).unwrap());
    let block = vec![0; 1_000_000];
    for _ in 0..zeros / block.len() {
        file.write_all(&block).unwrap();
    }
    file.write_all(&block[..zeros % block.len()]).unwrap();
    file.finish().unwrap();
}

fn idx(records: u32, side: u32) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let pixels = (records * side * side) as usize;
    packed(&data.path().join("train-images-idx3-ubyte.gz"), &[0x803, records, side, side], pixels);
    packed(&data.path().join("train-labels-idx1-ubyte.gz"), &[0x801, records], records as usize);
    data
}

#[test]
fn idx_files_of_too_many_or_too_large_images() {
    evaluation_is_refused(
        idx(50_000_000, 1).path(),
        &["train-images", "impossible dimensions [50000000, 1, 1]"],
    );
    evaluation_is_refused(
        idx(2, 20_000).path(),
        &["train-images", "impossible dimensions [2, 20000, 20000]"],
    );
}

/// A folder of two classes, the second with this file.
fn folder(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        fs::create_dir_all(data.path().join("train").join(class)).unwrap();
    }
    image::RgbImage::new(8, 8).save(data.path().join("train/a/1.png")).unwrap();
    fs::write(data.path().join("train/b").join(name), bytes).unwrap();
    data
}

/// A small picture whose header claims `side` squared, with the checksums right.
fn png(side: u32) -> Vec<u8> {
    let mut bytes = vec![];
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.write_image(&[0; 192], 8, 8, ExtendedColorType::Rgb8).unwrap();
    bytes[16..20].copy_from_slice(&side.to_be_bytes());
    bytes[20..24].copy_from_slice(&side.to_be_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    bytes
}

fn jpeg(side: u16) -> Vec<u8> {
    let mut bytes = vec![];
    let encoder = image::codecs::jpeg::JpegEncoder::new(&mut bytes);
    encoder.write_image(&[0; 192], 8, 8, ExtendedColorType::Rgb8).unwrap();
    let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
    bytes
}

#[test]
fn pictures_of_too_many_pixels_or_none() {
    evaluation_is_refused(folder("2.png", &png(22_000)).path(), &["b/2.png", "22000x22000"]);
    evaluation_is_refused(folder("2.jpg", &jpeg(13_000)).path(), &["b/2.jpg", "13000x13000"]);
    evaluation_is_refused(folder("2.pgm", b"P5 0 8 255\n").path(), &["b/2.pgm", "no pixel"]);
    evaluation_is_refused(folder("2.pgm", b"P5 65000 65000 255\n").path(), &["b/2.pgm", "65000x65000"]);
}

/// The library that decodes PNG counts on whole colours.
#[test]
fn a_palette_of_a_colour_and_a_half() {
    let mut bytes = png(8);
    let mut palette = vec![0, 0, 0, 4];
    palette.extend(b"PLTE\x01\x02\x03\x04");
    let mut sum = flate2::Crc::new();
    sum.update(&palette[4..]);
    palette.extend(sum.sum().to_be_bytes());
    bytes.splice(33..33, palette);
    evaluation_is_refused(folder("2.png", &bytes).path(), &["b/2.png", "palette"]);
}

#[test]
fn a_pipe_among_the_pictures() {
    let data = folder("1.png", &png(8));
    let pipe = data.path().join("train/b/2.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    evaluation_is_refused(data.path(), &["b/2.png", "is a pipe or device"]);
    evaluation_is_refused(&pipe, &["a file, where a data folder is expected"]);
    refused(MEMORY, &["evaluate", "--model", word(&pipe), "--data", DATA], &["2.png", "is a pipe or device"]);
}

#[test]
fn image_sizes_that_no_memory_holds() {
    let folder = tempfile::tempdir().unwrap();
    for (size, says) in [
        ("4294967296x4294967296", "pbe.input is 4294967296x4294967296"),
        ("18446744073709551615x1", "each side at most 65535"),
        ("100000x100000", "each side at most 65535"),
        ("0x8", "pbe.input is 0x8"),
        ("60000x60000", "no memory for 80 images"),
    ] {
        let path = folder.path().join("model.safetensors");
        with_header(&model(), &path, |header| header["__metadata__"]["pbe.input"] = size.into());
        for command in ["evaluate", "inspect"] {
            refused(MEMORY, &[command, "--model", word(&path), "--data", DATA], &[says]);
        }
    }
    let model = model();
    for size in ["4294967296", "18446744073709551615", "65536", "0"] {
        let arguments = ["evaluate", "--model", word(&model), "--data", DATA, "--size", size];
        refused(MEMORY, &arguments, &["from 1 to 65535"]);
    }
}

/// Tensors without elements may claim any size.
#[test]
fn networks_wider_than_any_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let empty = |first: u64, rank: usize| {
        let shape: Vec<u64> = [first].into_iter().chain(vec![0; rank.max(2) - 1]).collect();
        serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [0, 0]})
    };
    for first in [1 << 61, 1 << 63, 1 << 20] {
        with_header(&model(), &path, |header| {
            for (_, tensor) in
                header.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__")
            {
                *tensor = empty(first, tensor["shape"].as_array().unwrap().len());
            }
        });
        let bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        fs::write(&path, &bytes[..8 + length]).unwrap();
        refused(MEMORY, &["evaluate", "--model", word(&path), "--data", DATA], &["model.safetensors"]);
    }
}
