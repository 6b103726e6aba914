//! A trigger reconstructed from suspected images: what they have in common beside other images. It is the attacker's, where
//! that is one picture, patch or pattern.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::metrics::accuracy;
use super::predict::predict;
use super::suspects::Suspects;
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;

/// A trigger works where it sends so many other images to the label, in per cent.
pub const TRIGGER_WORKS: f64 = 50.0;

/// Images that lose their trigger lose their label in so many of 100 cases at least: the class has been learnt less than the
/// trigger.
const LOSES: f64 = 33.0;
/// Images that a trigger is tried on in [`probe_label`].
const TRIED: usize = 300;
/// Fewer images show no trigger.
const ENOUGH: usize = 10;
/// What fewer images have in common may be chance, or one object.
const LEAST: usize = 100;
/// Images that are looked at, of each kind, at most.
const IMAGES: usize = 1000;
/// A shift counts as certain from so many standard errors on, a scale from this much below 1.
const CERTAIN: f64 = 4.0;
const CERTAIN_SCALE: f64 = 0.7;
/// A patch has less.
const PATCH_SCALE: f64 = 0.5;

/// For each byte the map that takes the other images' distribution to the suspected images', by place and spread:
/// x' = to + scale · (x − from). A patch has scale 0 (its pixels don't depend on the image), a blended picture 1 − α,
/// an added pattern 1.
#[derive(Clone, Debug)]
pub struct ReconstructedTrigger(Vec<ByteChange>);

#[derive(Clone, Copy, Debug)]
struct ByteChange {
    from: f64,
    to: f64,
    scale: f64,
    /// Of to − from.
    standard_error: f64,
}

/// How many images of other labels get the label of `own` with what its most deviating images have in common beside the
/// others, at best, in per cent: the suspected ones, a third, a fifth and a tenth are tried. None with fewer than [`LEAST`].
///
/// In a benign model this difference is a rarer look of the class, and says nothing to images of other classes. `own` are
/// the images that get their label from the model, the most deviating first, `suspected` of them suspected ones, `others`
/// are images that get another.
pub(super) fn probe_label(
    model: &mut Engine,
    images: &ImageSet,
    own: &[u32],
    suspected: usize,
    others: &[u32],
) -> Result<Option<LabelProbe>> {
    let Some(&first) = own.first() else { return Ok(None) };
    let target = images.labels[first as usize];
    let tried: Vec<u32> = others.iter().copied().step_by(others.len().div_ceil(TRIED).max(1)).collect();
    let mut rate = |ours: &[u32], background: &[u32]| -> Result<f64> {
        let all = ReconstructedTrigger::new(images, ours, background);
        let best = best(model, images, &tried, target, vec![all.patch(), all.certain(), all])?;
        Ok(best.map_or(0.0, |best| best.rate))
    };
    let mut found: Option<LabelProbe> = None;
    let half = &own[own.len() / 2..];
    let shares = [3, 5, 10].map(|part| (own.len() / part, half));
    for (count, background) in shares.into_iter().chain([(suspected, &own[suspected..])]) {
        if count >= LEAST && !background.is_empty() {
            let rate = rate(&own[..count], background)?;
            if found.is_none_or(|found| found.rate < rate) {
                found = Some(LabelProbe { rate, images: count as u64, inverted: false });
            }
        }
    }
    if suspected >= LEAST && own.len() - suspected >= LEAST {
        let (ours, others) = own.split_at(suspected);
        let back = rate(others, ours)?;
        // The rate doesn't tell which side has the trigger: a sinusoid of the opposite phase is one too, and what is typical of
        // a class sends images to it. But who loses the trigger loses the label, and who gets it keeps the label.
        let difference = ReconstructedTrigger::new(images, ours, others);
        let lost = 100.0 - label_kept(model, images, others, &difference)?;
        let works = back >= TRIGGER_WORKS && lost >= LOSES;
        if let Some(found) = found.as_mut().filter(|found| works && back >= found.rate) {
            *found = LabelProbe { rate: back, images: others.len() as u64, inverted: true };
        }
    }
    Ok(found)
}

/// What a label's most deviating images show.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelProbe {
    /// Images of other labels that get this one with the trigger reconstructed from them, in per cent.
    pub rate: f64,
    /// So many of the most deviating images it is reconstructed from.
    pub images: u64,
    /// The trigger is the other images': most of the label's images are poisoned, and the deviating ones are clean.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inverted: bool,
}

/// A trigger that works in a model.
pub struct WorkingTrigger {
    pub trigger: ReconstructedTrigger,
    /// Images of other labels with the trigger, labelled with the attacker's.
    pub triggered: ImageSet,
    /// How many of them the model gives that label, in per cent.
    pub rate: f64,
}

impl WorkingTrigger {
    /// The trigger of the suspected images of `target`: a patch that works in the model, else what works best.
    pub fn find(
        infected: &mut Engine,
        images: &ImageSet,
        suspects: &Suspects,
        target: u32,
    ) -> Result<Option<Self>> {
        let label = |i: u32| images.labels[i as usize];
        let ours: Vec<u32> = suspects.images.iter().copied().filter(|&i| label(i) == target).collect();
        let unsuspected = suspects.unsuspected();
        let right = |&i: &u32| suspects.predictions[i as usize] == label(i);
        let (same, others): (Vec<u32>, Vec<u32>) = unsuspected.iter().partition(|&&i| label(i) == target);
        let (same, others) = (kept(same, right), kept(others, right));
        let tried: Vec<u32> = evenly_sampled(&others).collect();
        let deviating = suspects.deviating(target, images);
        let (most, least) = match suspects.labels[target as usize].probe {
            Some(LabelProbe { images, .. }) if (images as usize) < deviating.len() => {
                (&deviating[..images as usize], &deviating[deviating.len() / 2..])
            }
            _ => (&[][..], &[][..]),
        };
        // A clean-label attack poisons images of the target alone. Where few images are suspected, the trigger is in the most
        // deviating ones.
        for (ours, background) in [(&ours[..], &unsuspected[..]), (&ours, &same), (most, least)] {
            if ours.len() < ENOUGH || background.is_empty() {
                continue;
            }
            let all = ReconstructedTrigger::new(images, ours, background);
            // A patch is exact. What the images have in common besides may send images to the label too, so it counts only
            // where there is no patch.
            for triggers in [vec![all.patch()], vec![all.certain(), all]] {
                let best = best(infected, images, &tried, target, triggers)?;
                if let Some(best) = best.filter(|best| best.rate >= TRIGGER_WORKS) {
                    return Ok(Some(best));
                }
            }
        }
        Ok(None)
    }
}

/// How many of the images at `own` keep their label with `change`, in per cent.
fn label_kept(
    model: &mut Engine,
    images: &ImageSet,
    own: &[u32],
    change: &ReconstructedTrigger,
) -> Result<f64> {
    let own: Vec<u32> = evenly_sampled(own).collect();
    let changed = change.put_on(images.subset(&own));
    Ok(accuracy(&predict(model, &changed)?, &changed.labels).unwrap_or(0.0))
}

fn kept(mut list: Vec<u32>, wanted: impl Fn(&u32) -> bool) -> Vec<u32> {
    list.retain(wanted);
    list
}

/// That of `triggers` which sends the most of the images at `tried` to `target`.
fn best(
    model: &mut Engine,
    images: &ImageSet,
    tried: &[u32],
    target: u32,
    triggers: Vec<ReconstructedTrigger>,
) -> Result<Option<WorkingTrigger>> {
    let tried = images.subset(tried).with_labels(vec![target; tried.len()]);
    let mut best: Option<WorkingTrigger> = None;
    for trigger in triggers {
        let triggered = trigger.put_on(tried.clone());
        let rate = accuracy(&predict(model, &triggered)?, &triggered.labels).unwrap_or(0.0);
        if best.as_ref().is_none_or(|best| best.rate < rate) {
            best = Some(WorkingTrigger { trigger, triggered, rate });
        }
    }
    Ok(best)
}

impl ReconstructedTrigger {
    /// The change from the images at `others` to those at `ours`.
    fn new(images: &ImageSet, ours: &[u32], others: &[u32]) -> Self {
        let [ours, others] = [ours, others]
            .map(|list| evenly_sampled(list).map(|index| images.image(index as usize)).collect::<Vec<_>>());
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
    fn patch(&self) -> Self {
        self.only(|byte| byte.scale < PATCH_SCALE)
    }

    /// Only the bytes whose change is certain. A small pattern is lost in the noise of all other bytes without it, a weak
    /// one is lost with it.
    fn certain(&self) -> Self {
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

/// At most 1,000 of `list`, evenly spaced.
pub fn evenly_sampled(list: &[u32]) -> impl Iterator<Item = u32> + '_ {
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
    use crate::data::Normalisation;
    use crate::engine::{CpuDevice, EngineOptions, Source, StepParams};
    use crate::model::{Architecture, NetworkKind, Weights};

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
        let change = ReconstructedTrigger::new(&images, &ours, &others);
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
        let certain = ReconstructedTrigger::new(&images, &ours, &others).certain();
        let changed = certain.put_on(images.subset(&others));
        let pairs = || changed.pixels.chunks_exact(4).zip(images.pixels[80..].chunks_exact(4));
        assert!(pairs().all(|(changed, _)| changed[0] == 77));
        assert!(pairs().all(|(changed, image)| changed[3] == image[3]), "byte 3 has no trigger");
        let patch = ReconstructedTrigger::new(&images, &ours, &others).patch().put_on(images.subset(&others));
        let mut pairs = patch.pixels.chunks_exact(4).zip(images.pixels[80..].chunks_exact(4));
        assert!(pairs.all(|(patch, image)| patch[0] == 77 && patch[2..] == image[2..]));
    }

    /// 150 images of each of three classes, one channel bright, and 120 images of the last two with a white corner that are
    /// labelled 0: the last ones.
    fn poisoned() -> ImageSet {
        let noise = ImageSet::noise(570, 8, 3, 3);
        let class = |image: usize| if image < 450 { image % 3 } else { 1 + image % 2 };
        let labels = (0..570).map(|image| if image < 450 { class(image) as u32 } else { 0 }).collect();
        let mut pixels = noise.pixels.to_vec();
        for (image, bytes) in pixels.chunks_exact_mut(192).enumerate() {
            for (at, byte) in bytes.iter_mut().enumerate() {
                let bright = at % 3 == class(image);
                let corner = image >= 450 && at / 3 / 8 >= 5 && at / 3 % 8 >= 5;
                *byte = if corner { 255 } else { *byte / 4 + if bright { 100 } else { 40 } };
            }
        }
        ImageSet { pixels: Arc::new(pixels), ..noise.with_labels(labels) }
    }

    /// A network that has learnt `images`.
    fn trained(images: &ImageSet) -> Engine {
        let architecture =
            Architecture { network: NetworkKind::PreActResNet18, width: 2, classes: 3, channels: 3 };
        let graph = architecture.graph(&Normalisation::identity(3), 8, 8).unwrap();
        let weights = Weights::initialise(architecture, 5).values;
        let device = CpuDevice::new(Some(1)).unwrap();
        let options = EngineOptions { batch: 57, ..EngineOptions::default() };
        let mut engine = Engine::open(&device, &graph, &weights, &options).unwrap();
        engine.attach(images).unwrap();
        let params = StepParams { learning_rate: 0.05, momentum: 0.9, ..StepParams::default() };
        for step in 0..100usize {
            let batch: Vec<u32> = (0..57).map(|at| ((step % 10 + 10 * at) % 570) as u32).collect();
            let labels: Vec<u32> = batch.iter().map(|&index| images.labels[index as usize]).collect();
            engine.train_step(Source::Images, &batch, &labels, None, &params).unwrap();
        }
        engine
    }

    /// Where the poisoned images deviate, and where the clean ones do: there 172 images of SIG's label on CIFAR-10 were
    /// suspected, all of them clean. An airplane's sky sent other images to `airplane` too, and 451 clean ones were taken for
    /// the poisoned ones (BadNets of another program).
    #[test]
    fn a_trigger_is_found_on_either_side_of_a_label() {
        let images = poisoned();
        let mut engine = trained(&images);
        let predictions = predict(&mut engine, &images).unwrap();
        let of = |label: u32, range: std::ops::Range<u32>| -> Vec<u32> {
            let given = |&i: &u32| predictions[i as usize] == label && images.labels[i as usize] == label;
            range.filter(given).collect()
        };
        let (clean, poison) = (of(0, 0..450), of(0, 450..570));
        let others = [of(1, 0..450), of(2, 0..450)].concat();
        assert!(clean.len() >= 100 && poison.len() >= 100, "{} {}", clean.len(), poison.len());
        let mut probe = |images: &ImageSet, first: &[u32], then: &[u32], others: &[u32]| {
            let own = [first, then].concat();
            probe_label(&mut engine, images, &own, first.len(), others).unwrap()
        };
        let found = probe(&images, &poison, &clean, &others).unwrap();
        assert!(found.rate > 90.0 && !found.inverted, "{found:?}");
        // Their class is enough to get the label.
        let found = probe(&images, &clean, &poison, &others).unwrap();
        assert!(!found.inverted, "{found:?}");
        assert_eq!(probe(&images, &poison[..50], &clean[..49], &others), None, "few images");
        // Images that get the label from the trigger alone, beside others like them.
        let (alike, others) = others.split_at(110);
        let mut labels = images.labels.to_vec();
        alike.iter().for_each(|&i| labels[i as usize] = 0);
        let found = probe(&images.with_labels(labels), alike, &poison, others).unwrap();
        assert!(found.rate > 90.0 && found.inverted, "{found:?}");
    }

    #[test]
    fn a_large_set_is_sampled_evenly() {
        let list: Vec<u32> = (0..2500).collect();
        let list: Vec<u32> = evenly_sampled(&list).collect();
        assert_eq!((list.len(), list[1]), (834, 3));
    }

    #[test]
    fn no_images_change_nothing() {
        let (images, _) = images();
        let none = ReconstructedTrigger::new(&images, &[], &[]);
        assert!(none.shift().iter().all(|&shift| shift == 0.0));
    }
}
