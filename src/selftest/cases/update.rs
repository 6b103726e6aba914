//! The end of a training step and the beginning of the next. A device may write the next step's filters when it
//! updates the weights.

use super::super::case::Case;
use super::{Depth, Visit, chain};
use crate::device::ops;
use crate::device::{ConvShape, Direction, FilterSpec, Op, Region, Span};
use crate::error::Result;

/// Two steps of a convolution, forwards and backwards, whose weights change in between.
#[derive(Clone, Copy, Debug)]
pub struct TrainStepsCase {
    pub count: usize,
    /// Sizes of the convolution.
    pub shape: ConvShape,
    /// Weights before and after the filter's; the last three after it aren't trained.
    pub others: usize,
    /// Whether there is a weight average.
    pub average: bool,
    /// Whether the gradient of the input is wanted.
    pub backward: bool,
    /// What comes between the steps.
    pub between: BetweenSteps,
    /// The form of the momentum.
    pub nesterov: bool,
}

/// What comes between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetweenSteps {
    /// Nothing.
    Nothing,
    /// Another program loads the filters, scaled.
    Filters,
    /// The host writes weights.
    Weights,
}

impl TrainStepsCase {
    pub fn case(&self, seed: u64) -> Case {
        let &Self { count, shape, others, .. } = self;
        let mut case = Case::new(count, 0, seed);
        case.twice = true;
        // Exact in f32, and so are roundings to bf16 then.
        (case.params.learning_rate, case.params.momentum) = (0.5, 0.5);
        case.params.nesterov = self.nesterov;
        case.params.weight_decay = 0.0;
        case.params.average_decay = if self.average { 0.5 } else { 0.0 };
        let all = shape.filter_len() + 2 * others + 3;
        // Nesterov's form halves once more.
        let steps = if self.nesterov { 8 } else { 64 };
        let small = |v: u32| (v % steps) as f32 / steps as f32 - 0.5;
        let weights = case.whole_of(Region::Weights, all, small);
        let average = case.whole_of(Region::Average, all, small);
        let trained = Span { len: all - 3, ..weights };
        let gradients = case.whole_of(Region::Gradients, trained.len, small);
        let momentum = case.whole_of(Region::Momentum, trained.len, small);
        let own = Span { offset: others, len: shape.filter_len(), ..weights };
        let load = |case: &mut Case, direction| {
            let filter = case.filter(FilterSpec { shape, direction });
            case.ops.push(Op::LoadFilter(ops::LoadFilter { filter, weights: own, scale: None }));
            filter
        };
        let fprop = load(&mut case, Direction::Fprop);
        let dgrad = self.backward.then(|| load(&mut case, Direction::Dgrad));
        let (input, output) = (case.image(shape.input_len()), case.image(shape.output_len()));
        case.ops.push(Op::Conv(ops::Conv::plain(shape, fprop, input, output)));
        if let Some(filter) = dgrad {
            let (gradient, output) = (case.image(shape.output_len()), case.image(shape.input_len()));
            case.ops.push(Op::ConvDgrad(ops::ConvDgrad::plain(shape, filter, gradient, output)));
        }
        match self.between {
            BetweenSteps::Nothing => {}
            BetweenSteps::Filters => {
                let scale = Some(case.whole(Region::Derived, shape.out_channels));
                let filters = [Some(fprop), dgrad].into_iter().flatten();
                case.between = filters
                    .map(|filter| Op::LoadFilter(ops::LoadFilter { filter, weights: own, scale }))
                    .collect();
            }
            BetweenSteps::Weights => {
                let values = (0..own.len).map(|_| small(case.below(512))).collect();
                case.rewritten.push((own, values));
            }
        }
        case.ops.push(Op::Sgd(ops::Sgd { weights: trained, gradients, momentum }));
        case.ops.push(Op::MovingAverage(ops::MovingAverage { weights, average }));
        case
    }
}

/// Rows, columns, channels in and out, kernel, stride, images: vectors and tiles that end early or don't, phases.
const SHAPES: [[usize; 7]; 5] = [
    [4, 5, 3, 20, 3, 1, 2],
    [5, 6, 21, 9, 3, 2, 1],
    [4, 4, 16, 40, 1, 2, 2],
    [7, 8, 3, 16, 7, 2, 1],
    [3, 3, 24, 32, 3, 1, 1],
];

pub(super) fn visit(_: Depth, visit: &mut Visit) -> Result<()> {
    for (number, [height, width, inputs, outputs, kernel, stride, count]) in SHAPES.into_iter().enumerate() {
        let shape = chain::shape([height, width, inputs, outputs, kernel, stride]);
        let turns = [
            (true, true, BetweenSteps::Nothing),
            (false, true, BetweenSteps::Filters),
            (true, true, BetweenSteps::Weights),
            (true, false, BetweenSteps::Nothing),
        ];
        for (turn, (average, backward, between)) in turns.into_iter().enumerate() {
            let others = if turn == 0 { 1100 } else { 7 * ((number + turn) % 2) };
            let nesterov = turn == 3;
            let made = TrainStepsCase { count, shape, others, average, backward, between, nesterov };
            visit(&format!("{made:?}"), made.case((4 * number + turn) as u64))?;
        }
    }
    Ok(())
}
