//! Gathering of images, the attack's start and step, copies.

use crate::device::ops;
use std::sync::Arc;

use super::super::case::Case;
use super::{Depth, Visit};
use crate::data::ImageSet;
use crate::device::{Augment, ImageSlot, Norm, Op};
use crate::error::Result;

/// Images of a set, with augmentation.
#[derive(Clone, Copy, Debug)]
pub struct GatherCase {
    pub count: usize,
    pub height: usize,
    pub width: usize,
    /// Channels of the set, and of the network.
    pub channels: (usize, usize),
    /// Augmentation.
    pub augment: Augment,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
    /// Whether operands begin on whole 32 bytes, for kernels that then access several values at once.
    pub aligned: bool,
}

impl GatherCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, height, width, channels, augment, slice, aligned } = self;
        let mut case = Case::new(count, slice, seed);
        case.set_alignment(aligned);
        case.images = Some(noise(&mut case, 5, height, width, channels.0));
        case.params.epoch = 3;
        let (indices, output) = (case.word(5), case.image(height * width * channels.1));
        let channels = channels.1;
        case.ops = vec![Op::LoadImages(ops::LoadImages {
            images: ImageSlot(0),
            indices,
            height,
            width,
            channels,
            augment,
            output,
        })];
        case
    }
}

/// Random patches over images.
#[derive(Clone, Copy, Debug)]
pub struct PatchesCase {
    pub count: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Of each patch.
    pub probability: f32,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
}

impl PatchesCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, height, width, channels, probability, slice } = self;
        let mut case = Case::new(count, slice, seed);
        case.params.epoch = 3;
        case.params.erasing_probability = probability;
        let (indices, images) = (case.word(1 << 20), case.image(height * width * channels));
        case.ops = vec![Op::RandomErasing(ops::RandomErasing { indices, height, width, channels, images })];
        case
    }
}

/// A set of random images of one class.
pub(in crate::selftest) fn noise(
    case: &mut Case,
    count: usize,
    height: usize,
    width: usize,
    channels: usize,
) -> ImageSet {
    let pixels = (0..count * height * width * channels).map(|_| case.below(256) as u8).collect();
    ImageSet {
        pixels: Arc::new(pixels),
        labels: Arc::new(vec![0; count]),
        names: Arc::new(vec![String::new(); count]),
        classes: Arc::new(vec!["one".to_string()]),
        height,
        width,
        channels,
    }
}

/// The attack's start, its step, or both.
#[derive(Clone, Copy, Debug)]
pub struct PgdCase {
    pub count: usize,
    /// Of an image.
    pub elements: usize,
    /// The ball.
    pub norm: Norm,
    /// Whether it starts inside the ball.
    pub random_start: bool,
    /// Whether pixels stay in [0, 1].
    pub clamp: bool,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
    /// Whether there is a start.
    pub start: bool,
    pub steps: usize,
    /// Whether operands begin on whole 32 bytes, for kernels that then access several values at once.
    pub aligned: bool,
}

impl PgdCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, elements, norm, slice, aligned, .. } = self;
        let mut case = Case::new(count, slice, seed);
        case.set_alignment(aligned);
        (case.params.random_start, case.params.clamp) = (self.random_start, self.clamp);
        let clean = case.image_of(elements, |v| v as f32 / 511.0);
        let reach = if norm == Norm::L2 { 1.0 } else { 0.05 };
        let epsilon = case.image_of(1, |v| v as f32 / 511.0 * reach);
        let alpha = case.image_of(1, |v| v as f32 / 511.0 * reach);
        let adversarial = case.image(elements);
        let indices = case.word(1 << 20);
        // Some zeros: the sign of zero is zero.
        let gradient = case.image_of(elements, |v| (v % 9) as f32 - 4.0);
        if self.start {
            case.ops.push(Op::PgdStart(ops::PgdStart {
                elements,
                clean,
                indices,
                epsilon,
                norm,
                adversarial,
            }));
        }
        let first = case.ops.len();
        if self.steps > 0 {
            case.ops.push(Op::PgdStep(ops::PgdStep {
                elements,
                clean,
                gradient,
                epsilon,
                alpha,
                norm,
                adversarial,
            }));
        }
        case.loop_body = first..case.ops.len();
        case.params.repeats = self.steps;
        case
    }
}

/// An L2 step along gradients so small that their length is subnormal, or just isn't.
#[derive(Clone, Copy, Debug)]
pub struct FaintGradientCase {
    pub count: usize,
    /// Of an image.
    pub elements: usize,
    /// What gradients in -4..=4 are multiplied by.
    pub scale: f32,
}

impl FaintGradientCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, elements, scale } = self;
        let mut case = Case::new(count, 0, seed);
        let clean = case.image_of(elements, |v| v as f32 / 511.0);
        let (epsilon, alpha) = (case.image_of(1, |_| 1.0), case.image_of(1, |v| 0.1 + v as f32 / 511.0));
        let adversarial = case.image_of(elements, |v| v as f32 / 511.0);
        let gradient = case.image_of(elements, |v| ((v % 9) as f32 - 4.0) * scale);
        let norm = Norm::L2;
        case.ops =
            vec![Op::PgdStep(ops::PgdStep { elements, clean, gradient, epsilon, alpha, norm, adversarial })];
        case
    }
}

/// A copy of images into staging, and back.
#[derive(Clone, Copy, Debug)]
pub struct CopyCase {
    pub count: usize,
    /// Of an image.
    pub elements: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
}

impl CopyCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, elements, slice } = self;
        let mut case = Case::new(count, slice, seed);
        let input = case.image(elements);
        let staged = case.staged(elements);
        let output = case.image(elements);
        case.ops = vec![
            Op::Copy(ops::Copy { elements, input, output: staged }),
            Op::Copy(ops::Copy { elements, input: staged, output }),
        ];
        case
    }
}

/// Images, rows, columns, channels of set and network, pad, flip, worker.
type GatherSizes = (usize, usize, usize, (usize, usize), usize, bool, usize);

const GATHERS: [GatherSizes; 9] = [
    (1, 1, 1, (1, 1), 0, false, 0),
    (4, 8, 8, (3, 3), 0, false, 0),
    (8, 8, 8, (3, 3), 0, true, 3),
    (8, 7, 5, (3, 3), 2, false, 0),
    (8, 8, 8, (3, 3), 4, true, 0),
    (6, 9, 4, (1, 3), 1, true, 2),
    (5, 3, 11, (1, 1), 5, true, 1),
    (7, 2, 3, (1, 3), 6, true, 0),
    (3, 12, 12, (3, 3), 4, true, 1),
];

/// Images, rows, columns, channels, probability, worker.
const PATCHINGS: [(usize, usize, usize, usize, f32, usize); 6] = [
    (1, 1, 1, 1, 1.0, 0),
    (6, 16, 16, 3, 1.0, 0),
    (5, 33, 12, 3, 0.5, 2),
    (7, 7, 40, 1, 1.0, 3),
    (3, 20, 20, 3, 0.0, 0),
    (9, 24, 24, 3, 0.5, 1),
];

/// Images, elements of each, worker.
const BATCHES: [[usize; 3]; 5] = [[1, 1, 0], [3, 48, 0], [5, 75, 2], [2, 192, 1], [4, 1027, 0]];

pub(super) fn visit(depth: Depth, visit: &mut Visit) -> Result<()> {
    for scale in [1e-41, 1e-36] {
        let made = FaintGradientCase { count: 3, elements: 70, scale };
        visit(&format!("{made:?}"), made.case(1))?;
    }
    for (seed, (count, height, width, channels, pad, flip, slice)) in GATHERS.into_iter().enumerate() {
        let (augment, aligned) = (Augment { pad, flip }, seed % 2 == 1);
        let made = GatherCase { count, height, width, channels, augment, slice, aligned };
        visit(&format!("{made:?}"), made.case(seed as u64))?;
    }
    for (seed, (count, height, width, channels, probability, slice)) in PATCHINGS.into_iter().enumerate() {
        let made = PatchesCase { count, height, width, channels, probability, slice };
        visit(&format!("{made:?}"), made.case(seed as u64))?;
    }
    for (number, [count, elements, slice]) in BATCHES.into_iter().enumerate() {
        let made = CopyCase { count, elements, slice };
        visit(&format!("{made:?}"), made.case(number as u64))?;
        for bits in 0..8_usize {
            if depth == Depth::Quick && (bits.count_ones() as usize + number).is_multiple_of(2) {
                continue;
            }
            let norm = if bits & 1 == 0 { Norm::Linf } else { Norm::L2 };
            let (random_start, clamp) = (bits & 2 != 0, bits & 4 != 0);
            let aligned = (bits / 4 + number / 2) % 2 == 1;
            for (start, steps) in [(true, 0), (false, 1), (true, 3)] {
                let made =
                    PgdCase { count, elements, norm, random_start, clamp, slice, start, steps, aligned };
                visit(&format!("{made:?}"), made.case((8 * number + bits) as u64))?;
            }
        }
    }
    Ok(())
}
