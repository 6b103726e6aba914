//! Data sets: pictures in folders, IDX, CIFAR, GTSRB's tables.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::{GzEncoder, ZlibEncoder};
use image::{DynamicImage, ExtendedColorType, ImageFormat};
use pbe::data::{LoadOptions, load};

use super::fuzz;
use super::mutate::{Random, mutated};

fn load_all(folder: &Path, random: &mut Random) {
    let size = if random.one_in(2) { Some((1 + random.below(9), 1 + random.below(9))) } else { None };
    let channels = *random.pick(&[None, Some(1), Some(3)]);
    let options = LoadOptions { size, channels, skip_bad: random.one_in(2), ..LoadOptions::default() };
    let _ = load(folder, &options, &|_, _| ());
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(vec![]);
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Small pictures of every kind that is read, with their endings.
fn pictures() -> Vec<(&'static str, Vec<u8>)> {
    let rgb = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, (x * y) as u8]));
    let rgb = DynamicImage::ImageRgb8(rgb);
    let kinds = [
        rgb.clone(),
        rgb.to_luma8().into(),
        rgb.to_rgba8().into(),
        rgb.to_luma_alpha8().into(),
        rgb.to_rgb16().into(),
    ];
    let mut pictures: Vec<_> = kinds.iter().map(|kind| ("png", encoded(kind, ImageFormat::Png))).collect();
    for kind in &kinds[..2] {
        pictures.push(("jpg", encoded(kind, ImageFormat::Jpeg)));
        pictures.push(("ppm", encoded(kind, ImageFormat::Pnm)));
    }
    let palette = palette_png();
    pictures.push(("png", palette));
    pictures.push(("ppm", b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12\n".to_vec()));
    pictures.push(("pgm", b"P2 # a remark\n2 2\n65535 0 1 2 65535\n".to_vec()));
    pictures
}

/// A PNG with a palette, of four bits a pixel, interlaced.
fn palette_png() -> Vec<u8> {
    let header = [0, 0, 0, 9, 0, 0, 0, 7, 4, 3, 0, 0, 1];
    let palette: Vec<u8> = (0..48).collect();
    let mut pixels = ZlibEncoder::new(vec![], Compression::fast());
    pixels.write_all(&[0; 80]).unwrap();
    let chunks = [
        (*b"IHDR", header.to_vec()),
        (*b"PLTE", palette),
        (*b"IDAT", pixels.finish().unwrap()),
        (*b"IEND", vec![]),
    ];
    png(&chunks)
}

type Chunk = ([u8; 4], Vec<u8>);

/// The chunks with lengths and checksums that are right.
fn png(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in chunks {
        let mut sum = flate2::Crc::new();
        sum.update(kind);
        sum.update(data);
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(kind);
        bytes.extend(data);
        bytes.extend(sum.sum().to_be_bytes());
    }
    bytes
}

fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let (mut chunks, mut at) = (vec![], 8);
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        chunks.push((head[4..].try_into().unwrap(), bytes[at + 8..at + 8 + length].to_vec()));
        at += length + 12;
    }
    chunks
}

/// One chunk is changed, the pixels before they are packed.
fn mutated_png(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut chunks = chunks(bytes);
    let at = random.below(chunks.len());
    let (kind, data) = &mut chunks[at];
    let mut pixels = vec![];
    if kind == b"IDAT" && random.one_in(2) && ZlibDecoder::new(&data[..]).read_to_end(&mut pixels).is_ok() {
        let mut packed = ZlibEncoder::new(vec![], Compression::fast());
        packed.write_all(&mutated(random, &pixels)).unwrap();
        *data = packed.finish().unwrap();
    } else {
        *data = mutated(random, data);
    }
    if random.one_in(8) {
        let other = random.below(chunks.len());
        chunks.swap(at, other);
    }
    png(&chunks)
}

#[test]
fn image_folders() {
    let pictures = pictures();
    fuzz("image", |random, folder| {
        let place = folder.join("train");
        for class in ["a", "b"] {
            fs::create_dir_all(place.join(class)).unwrap();
        }
        let (ending, bytes) = random.pick(&pictures);
        let bytes = match *ending {
            "png" if !random.one_in(4) => mutated_png(random, bytes),
            _ => mutated(random, bytes),
        };
        let [one, two] = ["a", "b"].map(|class| place.join(class).join(format!("1.{ending}")));
        fs::write(&one, &bytes).unwrap();
        fs::write(&two, &bytes).unwrap();
        load_all(folder, random);
        fs::remove_file(&one).unwrap();
        fs::remove_file(&two).unwrap();
    });
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn idx_files() {
    let images = [words(&[0x803, 4, 3, 3]), (0..36).collect()].concat();
    let labels = [words(&[0x801, 4]), vec![0, 1, 0, 1]].concat();
    fuzz("idx", |random, folder| {
        for (name, bytes) in [("train-images-idx3-ubyte", &images), ("train-labels-idx1-ubyte", &labels)] {
            let bytes = if random.one_in(3) { bytes.clone() } else { mutated(random, bytes) };
            let bytes = match random.below(6) {
                0 => packed(&bytes),
                1 => mutated(random, &packed(&bytes)),
                _ => bytes,
            };
            fs::write(folder.join(name), bytes).unwrap();
        }
        load_all(folder, random);
    });
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(vec![], Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[test]
fn cifar_files() {
    let record = |label: u8, bytes: usize| [vec![label; bytes], vec![7; 3072]].concat();
    let fine: Vec<u8> = (0..100).map(|class| format!("class{class}\n")).collect::<String>().into_bytes();
    fuzz("cifar", |random, folder| {
        let (train, test, bytes) =
            *random.pick(&[("data_batch_1.bin", "test_batch.bin", 1), ("train.bin", "test.bin", 2)]);
        for name in [train, test] {
            let records: Vec<u8> = (0..3).flat_map(|_| record(random.below(11) as u8, bytes)).collect();
            let records = if random.one_in(2) { records } else { mutated(random, &records) };
            fs::write(folder.join(name), records).unwrap();
        }
        fs::write(folder.join("fine_label_names.txt"), mutated(random, &fine)).unwrap();
        load_all(folder, random);
        [train, test].iter().for_each(|name| fs::remove_file(folder.join(name)).unwrap());
    });
}

#[test]
fn gtsrb_tables() {
    let table =
        b"Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n9,7,1,1,8,6,0,a.png\n9,7,1,1,8,6,14,b.png\n";
    let mut picture = vec![];
    let encoder = image::codecs::png::PngEncoder::new(&mut picture);
    image::ImageEncoder::write_image(encoder, &[7; 12], 2, 2, ExtendedColorType::Rgb8).unwrap();
    fuzz("gtsrb", |random, folder| {
        for name in ["a.png", "b.png"] {
            fs::write(folder.join(name), &picture).unwrap();
        }
        for name in ["Train.csv", "Test.csv"] {
            fs::write(folder.join(name), mutated(random, table)).unwrap();
        }
        load_all(folder, random);
    });
}
