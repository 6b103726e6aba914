//! Image files into one buffer, in parallel.

use super::kinds::KINDS;
use super::listing::ImageFile;
use super::{Counter, resize};
use crate::error::{Error, Result};
use crate::fs::read_file;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use rayon::prelude::*;
use std::error::Error as _;
use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Images a task decodes between two reports of progress.
const CHUNK: usize = 32;

/// Bytes of an image file at most.
const LARGEST_FILE: u64 = 1 << 30;

/// Pixels of an image at most: a file of some hundred bytes can claim any number.
const MOST_PIXELS: u64 = 64 << 20;

/// Bytes of a decoded image at most.
const MOST_BYTES: u64 = 512 << 20;

/// Images with more pixels are decoded one at a time.
const MANY_PIXELS: u64 = 8 << 20;

static LARGE: Mutex<()> = Mutex::new(());

/// A decoded image; while it is there, no other large one is decoded.
pub(crate) struct OpenImage {
    pub image: DynamicImage,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// The height and width images get.
#[derive(Clone, Debug)]
pub(super) enum TargetSize {
    /// Resized to this.
    Fixed(usize, usize),
    /// That of the first image; another size is an error.
    First,
    /// That of the named image, which is of another split of the set; another size is an error.
    Like(usize, usize, String),
}

/// Equally sized images.
pub(super) struct Decoded {
    pub pixels: Vec<u8>,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// The files that are in `pixels`, ascending.
    pub kept: Vec<u32>,
    /// The others, each with the cause.
    pub skipped: Vec<String>,
}

enum FileOutcome {
    Grey,
    Colour,
    Bad(String),
    OtherSize(usize, usize),
}

/// Decodes `files` to `channels` (`None`: 3, or 1 where all are grey). A file that can't be
/// decoded is an error, or is left out where `skip_bad`.
pub(super) fn decode_all(
    files: &[ImageFile],
    size: &TargetSize,
    channels: Option<usize>,
    skip_bad: bool,
    counter: &Counter,
) -> Result<Decoded> {
    let (height, width, model) = match size {
        TargetSize::Fixed(height, width) => (*height, *width, None),
        TargetSize::Like(height, width, name) => (*height, *width, Some(name.as_str())),
        TargetSize::First => first_size(files)?,
    };
    let wide = channels.unwrap_or(3);
    let image_len = height * width * wide;
    let mut pixels = resize::zeros(files.len(), image_len)?;
    let outcomes: Vec<Vec<FileOutcome>> = pixels
        .par_chunks_mut(image_len * CHUNK)
        .zip(files.par_chunks(CHUNK))
        .map(|(rows, files)| {
            let one = |(row, file): (&mut [u8], &ImageFile)| {
                decode_into(&file.path, (height, width), model.is_none(), wide, row)
            };
            let outcomes = rows.chunks_exact_mut(image_len).zip(files).map(one).collect();
            counter.add(files.len());
            outcomes
        })
        .collect();
    let outcomes: Vec<FileOutcome> = outcomes.into_iter().flatten().collect();
    if let Some(model) = model {
        check_sizes(files, &outcomes, (height, width), model)?;
    }
    let (kept, skipped) = sort_out(files, &outcomes, skip_bad)?;
    let all_grey = kept.iter().all(|&index| matches!(outcomes[index as usize], FileOutcome::Grey));
    let channels = channels.unwrap_or(if all_grey { 1 } else { 3 });
    close_up(&mut pixels, &kept, image_len, wide / channels);
    Ok(Decoded { pixels, height, width, channels, kept, skipped })
}

/// Height, width and name of the first file that decodes.
fn first_size(files: &[ImageFile]) -> Result<(usize, usize, Option<&str>)> {
    let mut cause = String::new();
    for file in files {
        match open(&file.path) {
            Ok(OpenImage { image, .. }) => {
                return Ok((image.height() as usize, image.width() as usize, Some(&file.name)));
            }
            Err(error) if cause.is_empty() => cause = error,
            Err(_) => {}
        }
    }
    let path = files.first().map(|file| file.path.as_path()).unwrap_or(Path::new(""));
    Err(Error::file(path, format!("{cause} (and no other image file of {} can be read)", files.len())))
}

fn decode_into(
    path: &Path,
    size: (usize, usize),
    resizes: bool,
    channels: usize,
    out: &mut [u8],
) -> FileOutcome {
    let OpenImage { image, _turn } = match open(path) {
        Ok(opened) => opened,
        Err(cause) => return FileOutcome::Bad(cause),
    };
    let own = (image.height() as usize, image.width() as usize);
    if own != size && !resizes {
        return FileOutcome::OtherSize(own.0, own.1);
    }
    let grey = !image.color().has_color();
    let (pixels, own_channels) =
        if grey { (image.into_luma8().into_raw(), 1) } else { (image.into_rgb8().into_raw(), 3) };
    let pixels =
        if own_channels == channels { pixels } else { resize::convert(&pixels, own_channels, channels) };
    out.copy_from_slice(&resize::resize(pixels, own, size, channels));
    if grey { FileOutcome::Grey } else { FileOutcome::Colour }
}

/// Reads and decodes one file; the error is the cause alone.
pub(crate) fn open(path: &Path) -> std::result::Result<OpenImage, String> {
    let bytes = read_file(path, LARGEST_FILE).map_err(|cause| cause.to_string())?;
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let Ok(format) = image::guess_format(&bytes) else { return Err(format!("not a {KINDS} image")) };
    if format == ImageFormat::Jpeg && !reaches_its_end(&bytes) {
        return Err("truncated JPEG: no end-of-image marker".into());
    }
    if format == ImageFormat::Png && !has_whole_palette(&bytes) {
        return Err("damaged PNG: its palette has no whole number of colours".into());
    }
    decode(&bytes, format)
}

/// Whether a PNG's palette, if there is one, has three bytes for each colour. The decoder takes that for granted.
fn has_whole_palette(bytes: &[u8]) -> bool {
    let mut at = 8usize;
    while let Some([a, b, c, d, kind @ ..]) = bytes.get(at..at.saturating_add(8)) {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if kind == b"PLTE" && (length == 0 || !length.is_multiple_of(3)) {
            return false;
        }
        at = at.saturating_add(length).saturating_add(12);
    }
    true
}

fn decode(bytes: &[u8], format: ImageFormat) -> std::result::Result<OpenImage, String> {
    let fault = |cause| describe(&cause, format);
    let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(fault)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(format!("{width}x{height}: there is no pixel in it"));
    }
    if pixels > MOST_PIXELS || decoder.total_bytes() > MOST_BYTES {
        return Err(format!("{width}x{height}: an image may have {MOST_PIXELS} pixels"));
    }
    // Poisoned or not, the lock is only there for its turn.
    let turn = (pixels > MANY_PIXELS).then(|| LARGE.lock().unwrap_or_else(PoisonError::into_inner));
    // A decoder that panics on a file has refused it: one bad file must not end a run over thousands.
    let decoded = catch_unwind(AssertUnwindSafe(|| DynamicImage::from_decoder(decoder)));
    let image = decoded.map_err(|_| "the decoder panics on it".to_string())?.map_err(fault)?;
    Ok(OpenImage { image, _turn: turn })
}

/// The decoder's message on one line, with the format.
fn describe(cause: &ImageError, format: ImageFormat) -> String {
    let format = match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::Pnm => "PPM or PGM",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        _ => "image",
    };
    match cause {
        ImageError::IoError(cause) if cause.kind() == ErrorKind::UnexpectedEof => {
            format!("truncated {format}")
        }
        ImageError::Unsupported(_) if cfg!(not(feature = "decoders")) => {
            format!("{format}: this program reads JPEG and PNG only (feature `decoders`)")
        }
        cause => {
            // The inner cause lacks the wrapper's "Format error decoding".
            let text = cause.source().map_or_else(|| cause.to_string(), ToString::to_string);
            format!("damaged {format}: {}", text.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

/// Whether a JPEG's end-of-image marker is there. The decoder silently fills the missing part of a truncated file
/// with grey, so this walks the markers: it skips segments by their length (a thumbnail inside one has its own end
/// marker) and coded data byte by byte.
fn reaches_its_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, second]) = bytes.get(at..at + 2) {
        at += match (first, second) {
            (0xFF, 0xD9) => return true,
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD8) => 2,
            (0xFF, 0xFF) => 1,
            (0xFF, _) => match bytes.get(at + 2..at + 4) {
                Some(length) => 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
            _ => 1,
        };
    }
    false
}

fn check_sizes(
    files: &[ImageFile],
    outcomes: &[FileOutcome],
    size: (usize, usize),
    model: &str,
) -> Result<()> {
    for (file, outcome) in files.iter().zip(outcomes) {
        if let FileOutcome::OtherSize(height, width) = outcome {
            let cause = format!(
                "{width}x{height}, but {model} is {}x{}: images differ in size, give --size (purify: --set data.size=N) to resize them",
                size.1, size.0
            );
            return Err(Error::file(&file.path, cause));
        }
    }
    Ok(())
}

/// The files that decoded, and a line for each that did not.
fn sort_out(
    files: &[ImageFile],
    outcomes: &[FileOutcome],
    skip_bad: bool,
) -> Result<(Vec<u32>, Vec<String>)> {
    let bad: Vec<(&ImageFile, &str)> = files
        .iter()
        .zip(outcomes)
        .filter_map(|(file, outcome)| match outcome {
            FileOutcome::Bad(cause) => Some((file, cause.as_str())),
            _ => None,
        })
        .collect();
    if let Some((file, cause)) = bad.first()
        && !skip_bad
    {
        let more = match bad.len() - 1 {
            0 => String::new(),
            more => format!("; {more} more can't be read either"),
        };
        return Err(Error::file(
            &file.path,
            format!("{cause}{more} (--skip-bad, for purify --set data.skip_bad=true, leaves bad files out)"),
        ));
    }
    let kept = (0..files.len() as u32)
        .filter(|&index| !matches!(outcomes[index as usize], FileOutcome::Bad(_)))
        .collect();
    Ok((kept, bad.iter().map(|(file, cause)| format!("{}: {cause}", file.name)).collect()))
}

/// Moves the kept images together and takes every `step`th byte of them.
fn close_up(pixels: &mut Vec<u8>, kept: &[u32], image_len: usize, step: usize) {
    if kept.len() * image_len == pixels.len() && step == 1 {
        return;
    }
    let mut end = 0;
    for &index in kept {
        let start = index as usize * image_len;
        for at in (start..start + image_len).step_by(step) {
            pixels[end] = pixels[at];
            end += 1;
        }
    }
    pixels.truncate(end);
    pixels.shrink_to_fit();
}
