//! Batch norm, and the updates of parameters.

use super::super::case::Case;
use super::{Depth, Visit, chain};
use crate::device::ops;
use crate::device::{Affine, ConvShape, Direction, Op, Region, Span};
use crate::error::Result;

/// The affine map of running statistics.
#[derive(Clone, Copy, Debug)]
pub struct RunningAffineCase {
    pub channels: usize,
}

impl RunningAffineCase {
    pub fn case(&self, seed: u64) -> Case {
        let channels = self.channels;
        let mut case = Case::new(1, 0, seed);
        let op = Op::BatchNormAffine(ops::BatchNormAffine {
            gamma: case.whole(Region::Weights, channels),
            beta: case.whole(Region::Weights, channels),
            mean: case.whole(Region::Weights, channels),
            variance: case.whole_of(Region::Weights, channels, positive),
            epsilon: 1e-5,
            affine: affine_room(&mut case, channels),
        });
        case.ops.push(op);
        case
    }
}

/// Batch statistics.
#[derive(Clone, Copy, Debug)]
pub struct StatisticsCase {
    pub count: usize,
    /// Of an image.
    pub pixels: usize,
    /// Of a pixel.
    pub channels: usize,
    /// Mean of the input.
    pub mean: i32,
    /// Whether operands begin on whole 32 bytes, for kernels that then access several values at once.
    pub aligned: bool,
}

impl StatisticsCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, pixels, channels, mean, aligned } = self;
        let mut case = Case::new(count, 0, seed);
        case.set_alignment(aligned);
        let input = case.image_of(pixels * channels, |v| v as f32 / 64.0 + mean as f32);
        let op = statistics(&mut case, input, pixels, channels);
        case.ops.push(op);
        case
    }
}

/// Batch statistics of a convolution's output. A device may sum them up in the convolution's epilogue.
#[derive(Clone, Copy, Debug)]
pub struct ConvStatisticsCase {
    pub count: usize,
    /// Sizes of the convolution.
    pub shape: ConvShape,
    /// Constant that is added to its output.
    pub mean: i32,
    /// Whether a tensor is added too.
    pub residual: bool,
    /// Whether operands begin on whole 32 bytes, for kernels that then access several values at once.
    pub aligned: bool,
}

impl ConvStatisticsCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, shape, mean, residual, aligned } = self;
        let mut case = Case::new(count, 0, seed);
        case.set_alignment(aligned);
        let filter = case.loaded_filter(shape, Direction::Fprop);
        let bias = case.whole_of(Region::Weights, shape.out_channels, |v| v as f32 / 64.0 + mean as f32);
        let input = case.image(shape.input_len());
        let residual = residual.then(|| case.image(shape.output_len()));
        let output = case.image(shape.output_len());
        let conv = ops::Conv { bias: Some(bias), residual, ..ops::Conv::plain(shape, filter, input, output) };
        case.ops.push(Op::Conv(conv));
        let op = statistics(&mut case, output, shape.out_height() * shape.out_width(), shape.out_channels);
        case.ops.push(op);
        case
    }
}

fn statistics(case: &mut Case, input: Span, pixels: usize, channels: usize) -> Op {
    Op::BatchNormStats(ops::BatchNormStats {
        pixels,
        channels,
        input,
        gamma: case.whole(Region::Weights, channels),
        beta: case.whole(Region::Weights, channels),
        momentum: 0.1,
        epsilon: 1e-2,
        running_mean: case.whole(Region::Weights, channels),
        running_variance: case.whole_of(Region::Weights, channels, positive),
        mean: case.whole(Region::Derived, channels),
        inverse_std: case.whole(Region::Derived, channels),
        affine: affine_room(case, channels),
    })
}

/// The backward pass of batch norm, with or without a ReLU after it.
#[derive(Clone, Copy, Debug)]
pub struct NormDgradCase {
    pub count: usize,
    /// Of an image.
    pub pixels: usize,
    /// Of a pixel.
    pub channels: usize,
    /// Whether there is a ReLU.
    pub relu: bool,
    /// Whether something is added.
    pub residual: bool,
    /// Where the output goes: 0 over the gradient, 1 over the residual, 2 apart.
    pub place: usize,
    /// Whether operands begin on whole 32 bytes, for kernels that then access several values at once.
    pub aligned: bool,
}

impl NormDgradCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, pixels, channels, aligned, .. } = self;
        let mut case = Case::new(count, 0, seed);
        case.set_alignment(aligned);
        let gradient = case.image(pixels * channels);
        let residual = self.residual.then(|| case.image(pixels * channels));
        let op = Op::BatchNormDgrad(ops::BatchNormDgrad {
            pixels,
            channels,
            input: case.image(pixels * channels),
            gamma: case.whole(Region::Weights, channels),
            mean: case.whole(Region::Derived, channels),
            inverse_std: case.whole_of(Region::Derived, channels, positive),
            relu: self.relu.then(|| case.affine(channels)),
            gradient,
            residual,
            output: match (self.place, residual) {
                (0, _) => gradient,
                (1, Some(residual)) => residual,
                _ => case.image(pixels * channels),
            },
            gamma_gradient: case.whole(Region::Gradients, channels),
            beta_gradient: case.whole(Region::Gradients, channels),
        });
        case.ops.push(op);
        case
    }
}

/// A step of SGD and of the weight average.
#[derive(Clone, Copy, Debug)]
pub struct SgdCase {
    pub len: usize,
    /// The form of the momentum.
    pub nesterov: bool,
    /// L2 penalty.
    pub decay: f32,
}

impl SgdCase {
    pub fn case(&self, seed: u64) -> Case {
        let mut case = Case::new(1, 0, seed);
        case.params.learning_rate = 0.05;
        case.params.nesterov = self.nesterov;
        case.params.weight_decay = self.decay;
        case.params.average_decay = 0.9 + self.decay;
        let weights = case.whole(Region::Weights, self.len);
        let gradients = case.whole(Region::Gradients, self.len);
        let momentum = case.whole(Region::Momentum, self.len);
        let average = case.whole(Region::Average, self.len);
        case.ops = vec![
            Op::Sgd(ops::Sgd { weights, gradients, momentum }),
            Op::MovingAverage(ops::MovingAverage { weights, average }),
        ];
        case
    }
}

/// A step of Adam.
#[derive(Clone, Copy, Debug)]
pub struct AdamCase {
    pub len: usize,
    /// Which it is, from 1.
    pub step: u32,
    /// Of both moments.
    pub betas: (f32, f32),
}

impl AdamCase {
    pub fn case(&self, seed: u64) -> Case {
        let mut case = Case::new(1, 0, seed);
        case.params.learning_rate = 0.05;
        case.params.betas = self.betas;
        case.params.step = self.step;
        let weights = case.whole(Region::Weights, self.len);
        // Not near zero, where the moments' quotient is ill-conditioned, but for exact zeros.
        let gradients = case.whole_of(Region::Gradients, self.len, |v| (v % 9) as f32 - 4.0);
        let first = case.whole(Region::Momentum, self.len);
        let second = case.whole_of(Region::Momentum, self.len, positive);
        case.ops = vec![Op::Adam(ops::Adam { weights, gradients, first, second })];
        case
    }
}

fn affine_room(case: &mut Case, channels: usize) -> Affine {
    Affine { scale: case.whole(Region::Derived, channels), shift: case.whole(Region::Derived, channels) }
}

fn positive(v: u32) -> f32 {
    v as f32 / 128.0 + 0.01
}

/// Images, pixels, channels. The CUDA device splits the rows of the last but one into two parts, of 151 and 150, and
/// those of the last into more than it adds up at once. Three have whole fours of channels, one of them rows and
/// channels that end within a block.
const SIZES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 2, 33],
    [3, 49, 5],
    [4, 64, 32],
    [5, 36, 70],
    [2, 81, 150],
    [3, 1, 16],
    [2, 75, 36],
    [7, 43, 6],
    [5, 900, 2],
];

/// Rows, columns, in and out channels, kernel, stride, images of convolutions in front of statistics: one of all, less
/// than a tile, several tiles of pixels and a part of one, several of channels, channels in pairs and not; with so many
/// channels that the CUDA device has enough tiles for the largest, in bf16.
const CONVOLVED: [[usize; 7]; 7] = [
    [1, 1, 1, 1, 1, 1, 1],
    [5, 6, 3, 13, 3, 1, 2],
    [9, 9, 5, 16, 3, 1, 5],
    [8, 7, 4, 64, 3, 2, 4],
    [12, 11, 2, 130, 1, 1, 2],
    [6, 6, 3, 40, 3, 1, 4],
    [3, 3, 2, 4213, 3, 1, 15],
];

/// Visits the grid; [`Depth::Full`] has sums of many rows and large buffers besides.
pub(super) fn visit(depth: Depth, visit: &mut Visit) -> Result<()> {
    for channels in [1, 7, 32, 33, 200] {
        let made = RunningAffineCase { channels };
        visit(&format!("{made:?}"), made.case(channels as u64))?;
    }
    let large = if depth == Depth::Full { &[[9, 900, 40], [16, 1024, 3]][..] } else { &[] };
    for (number, &[count, pixels, channels]) in SIZES.iter().chain(large).enumerate() {
        let made = StatisticsCase {
            count,
            pixels,
            channels,
            mean: [0, -50, 50][number % 3],
            aligned: number % 2 == 1,
        };
        visit(&format!("{made:?}"), made.case(number as u64))?;
        let places = [
            (true, false, 0),
            (true, true, 1),
            (false, true, 2),
            (true, true, 0),
            (true, false, 2),
            (false, false, 0),
        ];
        for (turn, (relu, residual, place)) in places.into_iter().enumerate() {
            let aligned = (number + turn) % 2 == 0;
            let made = NormDgradCase { count, pixels, channels, relu, residual, place, aligned };
            visit(&format!("{made:?}"), made.case((10 * number + place) as u64))?;
        }
    }
    for (number, sizes) in CONVOLVED.into_iter().enumerate() {
        let [height, width, in_channels, out_channels, kernel, stride, count] = sizes;
        let shape = chain::shape([height, width, in_channels, out_channels, kernel, stride]);
        let (mean, residual) = ([0, -50, 50][number % 3], number % 2 == 1);
        let made = ConvStatisticsCase { count, shape, mean, residual, aligned: number % 2 == 0 };
        visit(&format!("{made:?}"), made.case(number as u64))?;
    }
    let large = if depth == Depth::Full { &[40_003, 262_144][..] } else { &[] };
    for &len in [1, 31, 256, 1025].iter().chain(large) {
        for (nesterov, decay) in [(false, 0.0), (true, 0.0), (false, 0.05), (true, 5e-4)] {
            let made = SgdCase { len, nesterov, decay };
            visit(&format!("{made:?}"), made.case(len as u64))?;
        }
        for (step, betas) in [(1, (0.5, 0.9)), (2, (0.9, 0.999)), (1000, (0.5, 0.9))] {
            let made = AdamCase { len, step, betas };
            visit(&format!("{made:?}"), made.case(len as u64))?;
        }
    }
    Ok(())
}
