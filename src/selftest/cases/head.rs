//! Pooling, the linear layer, the loss, the cosine score.

use super::super::case::Case;
use super::{Depth, Visit};
use crate::device::ops;
use crate::device::{Op, Region};
use crate::error::Result;

/// Pooling and its gradient.
#[derive(Clone, Copy, Debug)]
pub struct PoolCase {
    pub count: usize,
    /// Of an image.
    pub pixels: usize,
    /// Of a pixel.
    pub channels: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
}

impl PoolCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, pixels, channels, slice } = self;
        let mut case = Case::new(count, slice, seed);
        let (input, output) = (case.image(pixels * channels), case.image(channels));
        let (gradient, spread) = (case.image(channels), case.image(pixels * channels));
        case.ops = vec![
            Op::GlobalAvgPool(ops::GlobalAvgPool { pixels, channels, input, output }),
            Op::GlobalAvgPoolDgrad(ops::GlobalAvgPoolDgrad { pixels, channels, gradient, output: spread }),
        ];
        case
    }
}

/// The linear layer and its gradients; that of the weights only outside data-parallel programs.
#[derive(Clone, Copy, Debug)]
pub struct LinearCase {
    pub count: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
}

impl LinearCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, inputs, outputs, slice } = self;
        let mut case = Case::new(count, slice, seed);
        let weight = case.whole_of(Region::Weights, inputs * outputs, |v| v as f32 / 512.0 - 0.5);
        let bias = case.whole(Region::Weights, outputs);
        let (input, gradient) = (case.image(inputs), case.image(outputs));
        case.ops = vec![
            Op::Linear(ops::Linear { inputs, outputs, weight, bias, input, output: case.image(outputs) }),
            Op::LinearDgrad(ops::LinearDgrad {
                inputs,
                outputs,
                weight,
                gradient,
                output: case.image(inputs),
            }),
        ];
        if slice == 0 {
            let weight_gradient = case.whole(Region::Gradients, inputs * outputs);
            let bias_gradient = case.whole(Region::Gradients, outputs);
            case.ops.push(Op::LinearWgrad(ops::LinearWgrad {
                inputs,
                outputs,
                input,
                gradient,
                weight_gradient,
                bias_gradient,
            }));
        }
        case
    }
}

/// Softmax cross-entropy, with distillation or without.
#[derive(Clone, Copy, Debug)]
pub struct LossCase {
    pub count: usize,
    /// Of a row.
    pub classes: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
    /// Whether the gradient is that of the mean.
    pub mean: bool,
    /// Whether there are rows to distil from.
    pub teacher: bool,
    /// Whether the gradient is wanted.
    pub gradient: bool,
    /// Of the distillation term.
    pub weight: f32,
    /// Its temperature.
    pub temperature: f32,
}

impl LossCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, classes, slice, mean, .. } = self;
        let mut case = Case::new(count, slice, seed);
        case.params.distill_weight = self.weight;
        case.params.temperature = self.temperature;
        // Up to 800, where the exponential overflows an f64.
        let logits = case.image_of(classes, |v| 2.0 * v as f32 - 222.0);
        let labels = case.word(classes);
        let teacher = self.teacher.then(|| case.image(classes));
        let loss = case.image(1);
        let gradient = self.gradient.then(|| case.image(classes));
        case.ops = vec![Op::CrossEntropy(ops::CrossEntropy {
            classes,
            logits,
            labels,
            teacher,
            mean,
            loss,
            gradient,
        })];
        case
    }
}

/// The score of step 3.
#[derive(Clone, Copy, Debug)]
pub struct CosineCase {
    pub count: usize,
    /// Of a row.
    pub classes: usize,
    /// Images of a slice of a data-parallel program; 0: one slice, all threads.
    pub slice: usize,
    /// Rows of zeros to compare with.
    pub zero: bool,
}

impl CosineCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, classes, slice, zero } = self;
        let mut case = Case::new(count, slice, seed);
        let logits = case.image(classes);
        let reference = case.image_of(classes, |v| if zero { 0.0 } else { v as f32 / 64.0 - 3.0 });
        let score = case.image(1);
        case.ops = vec![Op::CosineSimilarity(ops::CosineSimilarity { classes, logits, reference, score })];
        case
    }
}

const POOLS: [[usize; 4]; 6] =
    [[1, 1, 1, 0], [2, 16, 33, 0], [5, 49, 7, 2], [3, 64, 70, 1], [1, 9, 32, 1], [3, 4, 97, 0]];

const LINEAR: [[usize; 4]; 6] =
    [[1, 1, 1, 0], [3, 40, 10, 0], [19, 33, 7, 0], [5, 128, 200, 2], [2, 31, 1, 1], [4, 150, 43, 0]];

/// Images, classes, worker.
const ROWS: [[usize; 3]; 7] =
    [[1, 1, 0], [3, 2, 0], [8, 10, 3], [2, 33, 0], [5, 43, 1], [3, 200, 2], [7, 200, 0]];

pub(super) fn visit(depth: Depth, visit: &mut Visit) -> Result<()> {
    for (seed, [count, pixels, channels, slice]) in POOLS.into_iter().enumerate() {
        let made = PoolCase { count, pixels, channels, slice };
        visit(&format!("{made:?}"), made.case(seed as u64))?;
    }
    for (seed, [count, inputs, outputs, slice]) in LINEAR.into_iter().enumerate() {
        let made = LinearCase { count, inputs, outputs, slice };
        visit(&format!("{made:?}"), made.case(seed as u64))?;
    }
    for (number, [count, classes, slice]) in ROWS.into_iter().enumerate() {
        for zero in [false, true] {
            let made = CosineCase { count, classes, slice, zero };
            visit(&format!("{made:?}"), made.case(number as u64))?;
        }
        for bits in 0..8_usize {
            if depth == Depth::Quick && bits % 3 != number % 3 {
                continue;
            }
            let (mean, teacher, gradient) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            let (weight, temperature) = [(0.5, 2.0), (1.0, 3.0), (0.0, 1.0)][(number + bits) % 3];
            let made = LossCase { count, classes, slice, mean, teacher, gradient, weight, temperature };
            visit(&format!("{made:?}"), made.case((8 * number + bits) as u64))?;
        }
    }
    Ok(())
}
