//! Poisoning a training set: which images get the trigger, and which labels.

use std::sync::Arc;

use super::{LabelMode, Trigger};
use crate::data::{ImageSet, SampleSize};
use crate::error::{Error, Result};
use crate::eval::Evaluator;
use crate::rng::{Purpose, Stream};

/// Which images are poisoned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    /// A fraction is above 0 and at most 1, and gives at least one image.
    pub amount: SampleSize,
    /// Whether images of the target class may be drawn; they get the trigger and keep their label. Yes by default,
    /// as in BackdoorBench.
    pub include_target: bool,
    /// Draw only images whose label the trigger doesn't change (clean-label attack).
    pub clean_label: bool,
    /// Number of noise-mode images for each poisoned one: they get a noisy trigger and keep their label (WaNet,
    /// Dynamic).
    pub noise_ratio: f64,
    pub seed: u64,
    /// Each epoch draws other images.
    pub epoch: u32,
}

impl Selection {
    /// The published default: drawn from all classes.
    pub fn new(amount: SampleSize, seed: u64) -> Self {
        Self { amount, include_target: true, clean_label: false, noise_ratio: 0.0, seed, epoch: 0 }
    }
}

/// A poisoned training set.
#[derive(Clone, Debug)]
pub struct Poisoned {
    pub images: ImageSet,
    /// The poisoned images, ascending.
    pub indices: Vec<u32>,
    /// The noise-mode images, ascending.
    pub noise: Vec<u32>,
}

impl Poisoned {
    /// The stream of the noise on triggers.
    fn noise_stream(seed: u64, epoch: u32) -> Stream {
        Stream::new(seed, Purpose::PoisonNoise, epoch)
    }
}

/// Stamps and relabels images drawn uniformly without replacement.
///
/// Takes the set by value: unshared pixels are changed in place.
/// Errors: a rate that is not above 0 and at most 1, more images than there are to draw from,
/// a target that is no class, a trigger of another size.
pub fn poison(
    images: ImageSet,
    trigger: &Trigger,
    label: LabelMode,
    selection: &Selection,
) -> Result<Poisoned> {
    label.check(images.classes.len())?;
    let (indices, noise) = select(&images, trigger.has_noise(), label, selection)?;
    let images = stamp_and_relabel(images, trigger, label, &indices)?;
    let images = stamp_noise(images, trigger, &noise, selection.seed, selection.epoch)?;
    Ok(Poisoned { images, indices, noise })
}

/// The images of a test set with the trigger on all of them; labels stay the true ones.
pub fn triggered_test(images: &ImageSet, trigger: &Trigger) -> Result<ImageSet> {
    let mut images = images.clone();
    let all: Vec<u32> = (0..images.len() as u32).collect();
    trigger.stamp_all(&mut images, &all)?;
    Ok(images)
}

/// Measures models on `images`, and on the same images with `trigger`, which `label` decides the goal of.
pub fn triggered_evaluator(images: &ImageSet, trigger: &Trigger, label: LabelMode) -> Result<Evaluator> {
    let classes = images.classes.len();
    let wanted = images.labels.iter().map(|&own| label.triggered_label(own, classes)).collect();
    Ok(Evaluator::with_triggered(images, triggered_test(images, trigger)?, wanted))
}

/// Stamps and relabels exactly the images at `indices`, each of which exists.
pub(super) fn stamp_and_relabel(
    mut images: ImageSet,
    trigger: &Trigger,
    label: LabelMode,
    indices: &[u32],
) -> Result<ImageSet> {
    trigger.stamp_all(&mut images, indices)?;
    let classes = images.classes.len();
    let labels = Arc::make_mut(&mut images.labels);
    for index in indices.iter().map(|&index| index as usize) {
        labels[index] = label.triggered_label(labels[index], classes);
    }
    Ok(images)
}

/// Puts a noisy trigger on the images at `indices`, each of which exists; labels stay.
pub(super) fn stamp_noise(
    mut images: ImageSet,
    trigger: &Trigger,
    indices: &[u32],
    seed: u64,
    epoch: u32,
) -> Result<ImageSet> {
    trigger.stamp_noise_all(&mut images, indices, Poisoned::noise_stream(seed, epoch))?;
    Ok(images)
}

/// The images to poison and, if the attack has a noise mode, the noise-mode images, each ascending.
///
/// # Errors
/// A rate that is not above 0 and at most 1; more images than there are to draw from.
pub fn select(
    images: &ImageSet,
    has_noise: bool,
    label: LabelMode,
    selection: &Selection,
) -> Result<(Vec<u32>, Vec<u32>)> {
    let count = match selection.amount {
        SampleSize::Fraction(rate) if rate > 0.0 && rate <= 1.0 => {
            ((rate * images.len() as f64).round() as usize).max(1)
        }
        SampleSize::Fraction(rate) => {
            return Err(Error::input(format!("poison rate {rate} is not above 0 and at most 1")));
        }
        SampleSize::Count(count) => count,
    };
    let eligible = |index: &u32| {
        let own = images.labels[*index as usize];
        let kept = label.triggered_label(own, images.classes.len()) == own;
        if selection.clean_label { kept } else { selection.include_target || !kept }
    };
    let order = Stream::new(selection.seed, Purpose::Poison, selection.epoch).permutation(images.len());
    let mut indices: Vec<u32> = order.iter().copied().filter(eligible).take(count).collect();
    if indices.len() < count {
        let available = indices.len();
        return Err(Error::input(format!("{count} images to poison, but only {available} to draw from")));
    }
    indices.sort_unstable();
    let share = if has_noise { selection.noise_ratio } else { 0.0 };
    let others = order.iter().copied().filter(|index| indices.binary_search(index).is_err());
    let mut noise: Vec<u32> = others.take((share * count as f64).round() as usize).collect();
    noise.sort_unstable();
    Ok((indices, noise))
}

#[cfg(test)]
mod tests {
    use super::super::Attack;
    use super::*;

    const TARGET: LabelMode = LabelMode::AllToOne { target: 2 };

    /// 4x4 grey images whose pixels are all their index modulo 200; label = index modulo 5.
    fn images(count: usize) -> ImageSet {
        ImageSet {
            pixels: Arc::new((0..count * 16).map(|byte| (byte / 16 % 200) as u8).collect()),
            labels: Arc::new((0..count as u32).map(|index| index % 5).collect()),
            names: Arc::new((0..count).map(|index| format!("{index}.png")).collect()),
            classes: Arc::new(["a", "b", "c", "d", "e"].map(String::from).to_vec()),
            height: 4,
            width: 4,
            channels: 1,
        }
    }

    fn trigger() -> Trigger {
        Trigger::new(&Attack::badnets(4, 4), 4, 4, 1).unwrap()
    }

    #[test]
    fn exactly_the_drawn_images_are_stamped_and_relabelled() {
        let clean = images(1000);
        let selection = Selection::new(SampleSize::Fraction(0.1), 5);
        let poisoned = poison(clean.clone(), &trigger(), TARGET, &selection).unwrap();
        assert_eq!(poisoned.indices.len(), 100);
        assert!(poisoned.indices.windows(2).all(|pair| pair[0] < pair[1]));
        for index in 0..1000 {
            let drawn = poisoned.indices.contains(&(index as u32));
            assert_eq!(poisoned.images.image(index) != clean.image(index), drawn);
            let expected = if drawn { 2 } else { clean.labels[index] };
            assert_eq!(poisoned.images.labels[index], expected);
        }
        assert_eq!(clean.image(0), images(1).image(0), "the shared pixels stay as they were");
    }

    #[test]
    fn unshared_pixels_are_changed_in_place() {
        let images = images(10);
        let place = images.pixels.as_ptr();
        let selection = Selection::new(SampleSize::Count(1), 0);
        let poisoned = poison(images, &trigger(), TARGET, &selection).unwrap();
        assert_eq!(poisoned.images.pixels.as_ptr(), place);
    }

    #[test]
    fn all_classes_are_drawn_from_unless_the_target_is_left_out() {
        let mut selection = Selection::new(SampleSize::Fraction(0.2), 5);
        let of_target = |indices: &[u32]| indices.iter().filter(|&&index| index % 5 == 2).count();
        let all = poison(images(1000), &trigger(), TARGET, &selection).unwrap().indices;
        assert!((20..=60).contains(&of_target(&all)), "{} of 200", of_target(&all));
        selection.include_target = false;
        let others = poison(images(1000), &trigger(), TARGET, &selection).unwrap().indices;
        assert_eq!((others.len(), of_target(&others)), (200, 0));
    }

    #[test]
    fn the_draw_follows_the_seed() {
        let drawn = |seed| {
            let selection = Selection::new(SampleSize::Fraction(0.1), seed);
            poison(images(300), &trigger(), TARGET, &selection).unwrap().indices
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn a_tiny_rate_still_poisons_one_image_and_a_count_is_exact() {
        let count = |amount| {
            poison(images(10), &trigger(), TARGET, &Selection::new(amount, 0)).unwrap().indices.len()
        };
        assert_eq!(count(SampleSize::Fraction(1e-6)), 1);
        assert_eq!(count(SampleSize::Fraction(0.25)), 3);
        assert_eq!(count(SampleSize::Fraction(1.0)), 10);
        assert_eq!(count(SampleSize::Count(1)), 1);
    }

    #[test]
    fn impossible_requests_say_why() {
        let message = |amount, target| {
            let label = LabelMode::AllToOne { target };
            poison(images(10), &trigger(), label, &Selection::new(amount, 0)).unwrap_err().to_string()
        };
        for rate in [0.0, -0.1, 1.01, f64::NAN, f64::INFINITY] {
            assert!(message(SampleSize::Fraction(rate), 0).contains("rate"), "{rate}");
        }
        assert!(message(SampleSize::Count(11), 0).contains("only 10"));
        assert!(message(SampleSize::Fraction(0.1), 5).contains("target class 5"));
        let other = Trigger::new(&Attack::badnets(4, 4), 8, 8, 1).unwrap();
        assert!(triggered_test(&images(2), &other).unwrap_err().to_string().contains("8x8"));
    }

    #[test]
    fn a_triggered_test_set_keeps_its_labels() {
        let clean = images(7);
        let stamped = triggered_test(&clean, &trigger()).unwrap();
        assert_eq!(stamped.labels, clean.labels);
        for index in 0..7 {
            let image = stamped.image(index);
            assert!((0..16).all(|i| (image[i] == 255) == (i / 4 >= 1 && i % 4 >= 1)));
        }
    }

    #[test]
    fn clean_label_draws_from_the_target_alone_and_relabels_nothing() {
        let clean = images(1000);
        let selection = Selection { clean_label: true, ..Selection::new(SampleSize::Fraction(0.1), 5) };
        let poisoned = poison(clean.clone(), &trigger(), TARGET, &selection).unwrap();
        assert_eq!(poisoned.indices.len(), 100);
        assert!(poisoned.indices.iter().all(|&index| clean.labels[index as usize] == 2));
        assert_eq!(poisoned.images.labels, clean.labels);
        let selection = Selection { amount: SampleSize::Fraction(0.3), ..selection };
        let message = poison(clean, &trigger(), TARGET, &selection).unwrap_err().to_string();
        assert!(message.contains("300") && message.contains("200"), "{message}");
    }

    #[test]
    fn all_to_all_moves_every_label_by_one() {
        let clean = images(50);
        let selection = Selection::new(SampleSize::Count(50), 0);
        let poisoned = poison(clean.clone(), &trigger(), LabelMode::AllToAll, &selection).unwrap();
        let expected: Vec<u32> = clean.labels.iter().map(|label| (label + 1) % 5).collect();
        assert_eq!(*poisoned.images.labels, expected);
    }

    #[test]
    fn noise_images_are_warped_by_themselves_and_keep_their_labels() {
        let mut clean = images(200);
        clean.pixels = Arc::new((0..200 * 16).map(|byte| (byte * 89 % 256) as u8).collect());
        let warp = Trigger::new(&Attack::wanet(1), 4, 4, 1).unwrap();
        let selection = Selection { noise_ratio: 2.0, ..Selection::new(SampleSize::Fraction(0.1), 3) };
        let poisoned = poison(clean.clone(), &warp, TARGET, &selection).unwrap();
        assert_eq!((poisoned.indices.len(), poisoned.noise.len()), (20, 40));
        assert!(poisoned.noise.iter().all(|index| poisoned.indices.binary_search(index).is_err()));
        for &index in &poisoned.noise {
            let mut warped = clean.image(index as usize).to_vec();
            warp.stamp(&mut warped);
            assert_ne!(poisoned.images.image(index as usize), warped);
            assert_ne!(poisoned.images.image(index as usize), clean.image(index as usize));
            assert_eq!(poisoned.images.labels[index as usize], clean.labels[index as usize]);
        }
        let epoch = |epoch: u32| {
            let selection = Selection { epoch, ..selection };
            poison(clean.clone(), &warp, TARGET, &selection).unwrap()
        };
        assert_eq!(epoch(0).images.pixels, poisoned.images.pixels);
        assert_ne!(epoch(1).indices, poisoned.indices);
        // A trigger without a noise mode has no such images.
        assert!(poison(clean, &trigger(), TARGET, &selection).unwrap().noise.is_empty());
    }
}
