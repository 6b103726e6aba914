//! pbe for C. pbe.h says what each function does; this file hands it to the facade.
#![allow(non_camel_case_types)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod boundary;

use std::ffi::{CString, c_char, c_int, c_void};

use boundary::{call, free, give, hand_out, message, read, slice, text, write};
use facade::defense::Phase;
use facade::{Error, ImageSet, Model, Observer, Options, Result, Verdict};

pub struct pbe_model(Model);
pub struct pbe_images(ImageSet);

#[repr(C)]
pub struct pbe_options {
    device: *const c_char,
    threads: usize,
    seed: u64,
    no_flip: c_int,
    clean: c_int,
    settings: *const *const c_char,
    settings_count: usize,
}

#[repr(C)]
pub struct pbe_inspection {
    verdict: c_int,
    p_value: f64,
    suspects: usize,
    targets: usize,
}

type pbe_progress = Option<extern "C" fn(*mut c_void, usize, *const c_char, usize, usize, f32) -> c_int>;

fn options(given: *const pbe_options) -> Result<Options> {
    if given.is_null() {
        return Ok(Options::default());
    }
    let given = read(given, "options")?;
    let mut options = Options { seed: given.seed, flip: given.no_flip == 0, ..Options::default() };
    options.clean = given.clean != 0;
    options.threads = Some(given.threads).filter(|&threads| threads != 0);
    if !given.device.is_null() {
        let device = text(given.device, "options.device")?;
        options.device =
            device.parse().map_err(|cause| Error::input(format!("device `{device}`: {cause}")))?;
    }
    if given.settings_count != 0 {
        let settings = slice(given.settings, given.settings_count, "options.settings")?;
        let setting = |&setting: &*const c_char| Ok(text(setting, "options.settings")?.to_string());
        options.settings = settings.iter().map(setting).collect::<Result<_>>()?;
    }
    Ok(options)
}

/// Runs a call that gives a handle: NULL where it fails.
fn make<T>(place: *mut *mut T, name: &str, work: impl FnOnce() -> Result<T>) -> c_int {
    call(|| {
        let place = write(place, name)?;
        hand_out(None, place);
        hand_out(Some(work()?), place);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_message() -> *const c_char {
    message()
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_model_open(path: *const c_char, model: *mut *mut pbe_model) -> c_int {
    make(model, "model", || Ok(pbe_model(facade::load_model(text(path, "path")?)?)))
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_model_from_bytes(bytes: *const u8, len: usize, model: *mut *mut pbe_model) -> c_int {
    make(model, "model", || Ok(pbe_model(Model::from_bytes(slice(bytes, len, "bytes")?)?)))
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_model_save(model: *const pbe_model, path: *const c_char) -> c_int {
    call(|| read(model, "model")?.0.save(text(path, "path")?))
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_model_set_normalisation(model: *mut pbe_model, normalisation: *const c_char) -> c_int {
    call(|| write(model, "model")?.0.set_normalisation(text(normalisation, "normalisation")?))
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_model_fit(
    model: *mut pbe_model,
    images: *const pbe_images,
    given: *const pbe_options,
) -> c_int {
    call(|| write(model, "model")?.0.fit(&read(images, "images")?.0, &options(given)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_model_classes(model: *const pbe_model) -> usize {
    read(model, "model").map_or(0, |model| model.0.weights().architecture.classes)
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_model_free(model: *mut pbe_model) {
    free(model);
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_data_open(
    path: *const c_char,
    model: *mut pbe_model,
    given: *const pbe_options,
    train: *mut *mut pbe_images,
    test: *mut *mut pbe_images,
) -> c_int {
    let mut unwanted = std::ptr::null_mut();
    let wanted = !test.is_null();
    make(train, "train", || {
        let test = if wanted { write(test, "test")? } else { &mut unwanted };
        hand_out(None, test);
        let model = &mut write(model, "model")?.0;
        let set = facade::load_data(text(path, "path")?, model, &options(given)?)?;
        hand_out(set.test.filter(|_| wanted).map(pbe_images), test);
        Ok(pbe_images(set.train))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_images_new(
    pixels: *const u8,
    pixels_len: usize,
    labels: *const u32,
    count: usize,
    height: usize,
    width: usize,
    channels: usize,
    classes: usize,
    images: *mut *mut pbe_images,
) -> c_int {
    make(images, "images", || {
        let pixels = slice(pixels, pixels_len, "pixels")?.to_vec();
        let labels = slice(labels, count, "labels")?.to_vec();
        Ok(pbe_images(ImageSet::new(pixels, labels, (height, width, channels), classes)?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_images_count(images: *const pbe_images) -> usize {
    read(images, "images").map_or(0, |images| images.0.len())
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_images_pixels(images: *const pbe_images, len: *mut usize) -> *const u8 {
    let pixels = read(images, "images").map_or(&[][..], |images| &images.0.pixels);
    if let Ok(len) = write(len, "len") {
        *len = pixels.len();
    }
    if pixels.is_empty() { std::ptr::null() } else { pixels.as_ptr() }
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_images_labels(images: *const pbe_images) -> *const u32 {
    read(images, "images").map_or(std::ptr::null(), |images| images.0.labels.as_ptr())
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_images_free(images: *mut pbe_images) {
    free(images);
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_predict(
    model: *const pbe_model,
    images: *const pbe_images,
    given: *const pbe_options,
    classes: *mut u32,
    len: usize,
) -> c_int {
    call(|| {
        let (model, images) = (&read(model, "model")?.0, &read(images, "images")?.0);
        give(&facade::predict(model, images, &options(given)?)?, classes, len, "classes")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_logits(
    model: *const pbe_model,
    images: *const pbe_images,
    given: *const pbe_options,
    logits: *mut f32,
    len: usize,
) -> c_int {
    call(|| {
        let (model, images) = (&read(model, "model")?.0, &read(images, "images")?.0);
        give(&facade::logits(model, images, &options(given)?)?, logits, len, "logits")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_score(
    infected: *const pbe_model,
    purified: *const pbe_model,
    images: *const pbe_images,
    given: *const pbe_options,
    scores: *mut f32,
    len: usize,
) -> c_int {
    call(|| {
        let (infected, purified) = (&read(infected, "infected")?.0, &read(purified, "purified")?.0);
        let images = &read(images, "images")?.0;
        give(&facade::score(infected, purified, images, &options(given)?)?, scores, len, "scores")
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_attack(
    model: *const pbe_model,
    images: *const pbe_images,
    epsilon: f32,
    given: *const pbe_options,
    examples: *mut *mut pbe_images,
) -> c_int {
    make(examples, "examples", || {
        let (model, images) = (&read(model, "model")?.0, &read(images, "images")?.0);
        Ok(pbe_images(facade::attack(model, images, epsilon, &options(given)?)?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_inspect(
    model: *const pbe_model,
    images: *const pbe_images,
    given: *const pbe_options,
    inspection: *mut pbe_inspection,
    suspects: *mut u32,
    suspects_len: usize,
    targets: *mut u32,
    targets_len: usize,
) -> c_int {
    call(|| {
        let (model, images) = (&read(model, "model")?.0, &read(images, "images")?.0);
        let inspection = write(inspection, "inspection")?;
        let (detection, found) = facade::inspect(model, images, &options(given)?)?;
        let first = |values: &[u32], place: *mut u32, len, all, name| match (place.is_null(), len) {
            (true, 0) => Ok(()),
            (_, len) if len == all => give(values, place, values.len(), name),
            (_, len) => Err(Error::input(format!("{name}: room for {len} values, expected {all}"))),
        };
        first(&found.images, suspects, suspects_len, images.len(), "suspects")?;
        first(&detection.targets, targets, targets_len, images.classes.len(), "targets")?;
        *inspection = pbe_inspection {
            verdict: match detection.verdict {
                Verdict::NoSign => 0,
                Verdict::Undecided => 1,
                Verdict::Infected => 2,
            },
            p_value: detection.p_value,
            suspects: found.images.len(),
            targets: detection.targets.len(),
        };
        Ok(())
    })
}

/// Calls C.
struct Callback(pbe_progress, *mut c_void);

impl Observer for Callback {
    fn progress(
        &mut self,
        round: usize,
        phase: Phase,
        done: usize,
        total: usize,
        loss: Option<f32>,
    ) -> Result<()> {
        let Some(progress) = self.0 else { return Ok(()) };
        let phase = CString::new(phase.label).unwrap_or_default();
        match progress(self.1, round, phase.as_ptr(), done, total, loss.unwrap_or(f32::NAN)) {
            0 => Ok(()),
            _ => Err(Error::Interrupted("the callback ended the run".into())),
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn pbe_purify(
    model: *const pbe_model,
    images: *const pbe_images,
    given: *const pbe_options,
    progress: pbe_progress,
    context: *mut c_void,
    purified: *mut *mut pbe_model,
) -> c_int {
    make(purified, "purified", || {
        let (model, images) = (&read(model, "model")?.0, &read(images, "images")?.0);
        let mut observer = Callback(progress, context);
        Ok(pbe_model(facade::purify(model, images, &options(given)?, &mut observer)?))
    })
}
