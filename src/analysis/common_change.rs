//! What a set of images has in common beside others: the trigger, where it is one picture, patch or pattern.

use std::sync::Arc;

use crate::data::ImageSet;

/// Images that an estimate looks at, of each kind, at most.
const IMAGES: usize = 1000;
/// A shift counts as certain from so many standard errors on, a scale from this much below 1.
const CERTAIN: f64 = 4.0;
const CERTAIN_SCALE: f64 = 0.7;
/// A patch has less.
const PATCH_SCALE: f64 = 0.5;

/// For each byte the map that takes the others' distribution to the set's, by place and spread:
/// x' = to + scale · (x − from). A patch has scale 0 (its pixels don't depend on the image), a blended picture 1 − α,
/// an added pattern 1.
#[derive(Clone, Debug)]
pub(super) struct CommonChange(Vec<ByteChange>);

#[derive(Clone, Copy, Debug)]
struct ByteChange {
    from: f64,
    to: f64,
    scale: f64,
    /// Of to − from.
    standard_error: f64,
}

impl CommonChange {
    /// The change from the images at `others` to those at `ours`.
    pub fn new(images: &ImageSet, ours: &[u32], others: &[u32]) -> Self {
        let [ours, others] = [ours, others]
            .map(|list| sample(list).map(|index| images.image(index as usize)).collect::<Vec<_>>());
        let change = |byte: usize| {
            let of = |list: &[&[u8]]| Spread::of(list.iter().map(|image| image[byte]).collect());
            let [ours, others] = [of(&ours), of(&others)];
            ByteChange {
                from: others.middle,
                to: ours.middle,
                scale: if others.width > 0.0 { (ours.width / others.width).min(1.0) } else { 1.0 },
                standard_error: ours.standard_error().hypot(others.standard_error()),
            }
        };
        Self((0..images.image_len()).map(change).collect())
    }

    /// Only the bytes that hardly depend on the image: a patch. The others stay as they are.
    pub fn patch(&self) -> Self {
        self.only(|byte| byte.scale < PATCH_SCALE)
    }

    /// Only the bytes whose change is certain. A small pattern is lost in the noise of all other bytes without it, a weak
    /// one is lost with it.
    pub fn certain(&self) -> Self {
        let shifted = |byte: &ByteChange| (byte.to - byte.from).abs() > CERTAIN * byte.standard_error;
        self.only(|byte| shifted(byte) || byte.scale < CERTAIN_SCALE)
    }

    fn only(&self, wanted: impl Fn(&ByteChange) -> bool) -> Self {
        let change = |byte: &ByteChange| match wanted(byte) {
            true => *byte,
            false => ByteChange { to: byte.from, scale: 1.0, ..*byte },
        };
        Self(self.0.iter().map(change).collect())
    }

    /// The shift of the middle of each byte, in grey levels.
    pub fn shift(&self) -> Vec<f64> {
        self.0.iter().map(|byte| byte.to - byte.from).collect()
    }

    /// `images` with the change in each.
    pub fn put_on(&self, mut images: ImageSet) -> ImageSet {
        for image in Arc::make_mut(&mut images.pixels).chunks_exact_mut(self.0.len()) {
            for (byte, ByteChange { from, to, scale, .. }) in image.iter_mut().zip(&self.0) {
                *byte = (to + scale * (f64::from(*byte) - from)).round().clamp(0.0, 255.0) as u8;
            }
        }
        images
    }
}

/// At most [`IMAGES`] of `list`, evenly spaced.
pub(super) fn sample(list: &[u32]) -> impl Iterator<Item = u32> + '_ {
    list.iter().copied().step_by(list.len().div_ceil(IMAGES).max(1))
}

/// Where values lie, whatever a quarter of them at either end are.
struct Spread {
    /// Mean of the middle half.
    middle: f64,
    /// Between the quartiles.
    width: f64,
    count: usize,
}

impl Spread {
    fn of(mut values: Vec<u8>) -> Self {
        values.sort_unstable();
        let (count, quarter) = (values.len(), values.len() / 4);
        let middle = &values[quarter..count - quarter];
        let sum: f64 = middle.iter().map(|&value| f64::from(value)).sum();
        let width = middle.last().zip(middle.first()).map_or(0.0, |(last, first)| f64::from(last - first));
        Self { middle: sum / middle.len().max(1) as f64, width, count }
    }

    /// Of `middle`: the quartiles of a normal distribution are 1.35 deviations apart.
    fn standard_error(&self) -> f64 {
        self.width.max(1.0) / 1.35 / (self.count.max(1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forty images of noise, of which the first twenty have a patch in byte 0, are half blended with 200 in byte 1
    /// and have 30 added to byte 2.
    fn images() -> (ImageSet, Vec<u8>) {
        let plain = ImageSet::noise(40, 1, 4, 2);
        let original = plain.pixels.to_vec();
        let mut images = plain.clone();
        for (number, image) in Arc::make_mut(&mut images.pixels).chunks_exact_mut(4).enumerate() {
            image[2] = 50 + image[2] / 2;
            if number < 20 {
                image[0] = 77;
                image[1] = (u16::from(image[1]).midpoint(200)) as u8;
                image[2] += 30;
            }
        }
        (images, original)
    }

    #[test]
    fn patch_blend_and_added_pattern_are_found() {
        let (images, original) = images();
        let (ours, others): (Vec<u32>, Vec<u32>) = ((0..20).collect(), (20..40).collect());
        let change = CommonChange::new(&images, &ours, &others);
        let ByteChange { to, scale, .. } = change.0[0];
        assert_eq!((to, scale), (77.0, 0.0));
        assert!((0.3..0.8).contains(&change.0[1].scale), "{:?}", change.0[1]);
        let changed = change.put_on(images.subset(&others));
        assert!(changed.pixels.chunks_exact(4).all(|image| image[0] == 77));
        assert_ne!(*changed.pixels, original[80..]);
    }

    #[test]
    fn a_certain_change_leaves_what_may_be_chance() {
        let (images, _) = images();
        let (ours, others): (Vec<u32>, Vec<u32>) = ((0..20).collect(), (20..40).collect());
        let certain = CommonChange::new(&images, &ours, &others).certain();
        let changed = certain.put_on(images.subset(&others));
        let pairs = || changed.pixels.chunks_exact(4).zip(images.pixels[80..].chunks_exact(4));
        assert!(pairs().all(|(changed, _)| changed[0] == 77));
        assert!(pairs().all(|(changed, image)| changed[3] == image[3]), "byte 3 has no trigger");
        let patch = CommonChange::new(&images, &ours, &others).patch().put_on(images.subset(&others));
        let mut pairs = patch.pixels.chunks_exact(4).zip(images.pixels[80..].chunks_exact(4));
        assert!(pairs.all(|(patch, image)| patch[0] == 77 && patch[2..] == image[2..]));
    }

    #[test]
    fn a_large_set_is_sampled_evenly() {
        let list: Vec<u32> = (0..2500).collect();
        let list: Vec<u32> = sample(&list).collect();
        assert_eq!((list.len(), list[1]), (834, 3));
    }

    #[test]
    fn no_images_change_nothing() {
        let (images, _) = images();
        let none = CommonChange::new(&images, &[], &[]);
        assert!(none.shift().iter().all(|&shift| shift == 0.0));
    }
}
