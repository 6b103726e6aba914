//! Planting a trigger: which images, with which labels.

use std::sync::Arc;

use super::{LabelMode, Trigger};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// How many images are poisoned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// round(rate · images), at least one; above 0 and at most 1.
    Rate(f64),
    /// This many.
    Count(usize),
}

/// Which images are poisoned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    pub amount: Amount,
    /// Whether images that belong to the target class already may be drawn. BackdoorBench, and
    /// the default here, draws from all classes; such images get the trigger and keep their label.
    pub include_target: bool,
    pub seed: u64,
}

impl Selection {
    /// The published default: drawn from all classes.
    pub fn new(amount: Amount, seed: u64) -> Self {
        Self { amount, include_target: true, seed }
    }
}

/// A poisoned training set.
#[derive(Clone, Debug)]
pub struct Poisoned {
    pub images: ImageSet,
    /// The poisoned images, ascending.
    pub indices: Vec<u32>,
}

/// Stamps and relabels images drawn uniformly without replacement.
///
/// Takes the set by value: pixels nobody else holds are changed in place.
/// Errors: a rate that is not above 0 and at most 1, more images than there are to draw from,
/// a target that is no class, a trigger of another size.
pub fn poison(
    images: ImageSet,
    trigger: &Trigger,
    label: LabelMode,
    selection: &Selection,
) -> Result<Poisoned> {
    label.check(images.classes.len())?;
    let indices = draw(&images, label, selection)?;
    let images = plant(images, trigger, label, &indices)?;
    Ok(Poisoned { images, indices })
}

/// The images of a test set with the trigger on all of them; labels stay the true ones.
pub fn triggered_test(images: &ImageSet, trigger: &Trigger) -> Result<ImageSet> {
    trigger.check_fits(images)?;
    let mut pixels = images.pixels.to_vec();
    pixels.chunks_exact_mut(images.image_len().max(1)).for_each(|image| trigger.stamp(image));
    Ok(ImageSet { pixels: Arc::new(pixels), ..images.clone() })
}

/// Stamps and relabels exactly the images at `indices`, each of which exists.
pub(super) fn plant(
    mut images: ImageSet,
    trigger: &Trigger,
    label: LabelMode,
    indices: &[u32],
) -> Result<ImageSet> {
    trigger.check_fits(&images)?;
    let length = images.image_len();
    let pixels = Arc::make_mut(&mut images.pixels);
    let labels = Arc::make_mut(&mut images.labels);
    for index in indices.iter().map(|&index| index as usize) {
        trigger.stamp(&mut pixels[index * length..(index + 1) * length]);
        labels[index] = label.triggered_label(labels[index]);
    }
    Ok(images)
}

/// The images to poison, ascending.
fn draw(images: &ImageSet, label: LabelMode, selection: &Selection) -> Result<Vec<u32>> {
    let count = match selection.amount {
        Amount::Rate(rate) if rate > 0.0 && rate <= 1.0 => {
            ((rate * images.len() as f64).round() as usize).max(1)
        }
        Amount::Rate(rate) => {
            return Err(Error::input(format!("poison rate {rate} is not above 0 and at most 1")));
        }
        Amount::Count(count) => count,
    };
    let eligible = |index: &u32| {
        let own = images.labels[*index as usize];
        selection.include_target || label.triggered_label(own) != own
    };
    let order = Stream::new(selection.seed, Purpose::Poison, 0).permutation(images.len());
    let mut indices: Vec<u32> = order.into_iter().filter(eligible).take(count).collect();
    if indices.len() < count {
        let available = indices.len();
        return Err(Error::input(format!("{count} images to poison, but only {available} to draw from")));
    }
    indices.sort_unstable();
    Ok(indices)
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
        let selection = Selection::new(Amount::Rate(0.1), 5);
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
    fn pixels_nobody_else_holds_are_changed_in_place() {
        let images = images(10);
        let place = images.pixels.as_ptr();
        let selection = Selection::new(Amount::Count(1), 0);
        let poisoned = poison(images, &trigger(), TARGET, &selection).unwrap();
        assert_eq!(poisoned.images.pixels.as_ptr(), place);
    }

    #[test]
    fn all_classes_are_drawn_from_unless_the_target_is_left_out() {
        let mut selection = Selection::new(Amount::Rate(0.2), 5);
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
            let selection = Selection::new(Amount::Rate(0.1), seed);
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
        assert_eq!(count(Amount::Rate(1e-6)), 1);
        assert_eq!(count(Amount::Rate(0.25)), 3);
        assert_eq!(count(Amount::Rate(1.0)), 10);
        assert_eq!(count(Amount::Count(1)), 1);
    }

    #[test]
    fn impossible_requests_say_why() {
        let message = |amount, target| {
            let label = LabelMode::AllToOne { target };
            poison(images(10), &trigger(), label, &Selection::new(amount, 0)).unwrap_err().to_string()
        };
        for rate in [0.0, -0.1, 1.01, f64::NAN, f64::INFINITY] {
            assert!(message(Amount::Rate(rate), 0).contains("rate"), "{rate}");
        }
        assert!(message(Amount::Count(11), 0).contains("only 10"));
        assert!(message(Amount::Rate(0.1), 5).contains("target class 5"));
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
}
