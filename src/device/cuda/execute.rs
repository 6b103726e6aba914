//! From ops to launches: an op's spans become addresses.

use super::addresses::Addresses;
use super::execute_update::Updated;
use super::fuse::Share;
use super::launch::{Argument, BLOCK, FOUR, Grid, Launch};
use super::relay::Links;
use crate::device::ops;
use crate::device::{
    Augment, BatchSlice, FilterSpec, ImageSlot, Norm, Op, Precision, Prologue, Span, StepParams,
};

/// Pixels that a block of `random_erasing` paints: `PATCH_BLOCK` in kernels/augment.cu.
const PATCH_BLOCK: usize = 512;

/// Arguments of one launch.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => { &[$(Argument::from($value)),*] };
}
pub(super) use arguments;

/// Why an op could not be started: the kernel and the driver's words.
pub(super) type Launched = Result<(), String>;

/// A checked program at one slice of a run.
pub(super) struct Step<'a> {
    pub launcher: &'a dyn Launch,
    pub memory: &'a Addresses,
    pub specs: &'a [FilterSpec],
    pub slice: BatchSlice,
    pub params: &'a StepParams,
    pub precision: Precision,
    /// What the op takes from others and hands on.
    pub links: &'a Links,
    /// What its program ends with, if that is one launch.
    pub update: Option<Updated<'a>>,
}

impl Step<'_> {
    /// Starts an op's kernels.
    ///
    /// # Errors
    /// The driver refuses a launch.
    pub fn run(&self, op: &Op) -> Launched {
        let whole = matches!(
            op,
            Op::BatchNormAffine(_) | Op::Sgd(_) | Op::Adam(_) | Op::MovingAverage(_) | Op::LoadFilter(_)
        );
        if self.count() == 0 && !whole || matches!(self.links.share, Share::Done(_)) {
            return Ok(());
        }
        if let Share::WithHead(head) = &self.links.share {
            return self.head(head);
        }
        match op {
            Op::LoadFilter(_) | Op::Conv(_) | Op::ConvDgrad(_) | Op::ConvWgrad(_) => self.convolution(op),
            Op::BatchNormAffine(_) | Op::BatchNormStats(_) | Op::BatchNormDgrad(_) => self.norm(op),
            Op::LoadImages(_) | Op::RandomErasing(_) | Op::PgdStart(_) | Op::PgdStep(_) => self.attack(op),
            Op::Sgd(_) | Op::Adam(_) | Op::MovingAverage(_) | Op::Copy(_) => self.update(op),
            Op::Upsample(_) | Op::UpsampleDgrad(_) | Op::ScaledTanh(_) | Op::ScaledTanhDgrad(_) => {
                self.generator(op)
            }
            Op::CrossEntropy(_) | Op::CosineSimilarity(_) => self.loss(op),
            Op::Add(_) | Op::MaxPool(_) | Op::MaxPoolDgrad(_) => self.sum_or_max_pool(op),
            _ => self.classifier(op),
        }
    }

    /// Images of the slice.
    pub fn count(&self) -> usize {
        self.slice.count
    }

    /// Where a span's part for this slice starts.
    pub fn at(&self, span: Span) -> u64 {
        self.memory.address(span, self.slice)
    }

    /// The same; 0, the kernels' null, where there is none.
    pub fn maybe(&self, span: Option<Span>) -> u64 {
        span.map_or(0, |span| self.at(span))
    }

    /// Scale and shift of a prologue, nulls where it has none.
    pub fn affine(&self, prologue: &Prologue) -> (u64, u64) {
        prologue.affine.map_or((0, 0), |affine| (self.at(affine.scale), self.at(affine.shift)))
    }

    /// Where the scalars of the run are.
    pub fn scalars(&self) -> u64 {
        self.memory.scalars.address
    }

    /// What a loss's gradient is divided by.
    pub fn divisor(&self, mean: bool) -> f32 {
        if mean { self.count() as f32 } else { 1.0 }
    }

    /// Where the op's result goes; 0 where nobody wants it as it is.
    pub fn stored(&self, output: Span) -> u64 {
        if self.links.stored && !self.links.rounded.output { self.at(output) } else { 0 }
    }

    /// Where it goes rounded; 0 where nobody wants that.
    pub fn rounded(&self, output: Span) -> u64 {
        if self.links.stored && self.links.rounded.output { self.at(output) } else { 0 }
    }

    /// Where the result goes behind the prologue of the convolution that reads it, rounded; 0 if none does.
    pub fn next(&self) -> u64 {
        self.links.next.map_or(0, |next| self.memory.scratch.operands[next.buffer].address)
    }

    /// Where a result goes that is handed on as it is: to its own place, if that is rounded.
    pub fn next_or_rounded(&self, output: Span) -> u64 {
        if self.links.rounded.output { self.rounded(output) } else { self.next() }
    }

    /// An addend that is in f32, or else one in bf16.
    pub fn addend(&self, span: Option<Span>, rounded: bool) -> [Argument; 2] {
        let (address, none) = (Argument::from(self.maybe(span)), Argument::from(0u64));
        if rounded { [none, address] } else { [address, none] }
    }

    /// Starts a kernel on operands of a checked op.
    pub fn launch(&self, kernel: &'static str, grid: Grid, arguments: &[Argument]) -> Launched {
        // SAFETY: every address is a span's of a program that `check::check` accepted, at a slice
        // it allows, or a working buffer of the size that `Room` foretold for this op; the sizes
        // among the arguments are those of the op that both were checked against. All memory lives
        // as long as the session, whose every use of it is ordered on the launcher's stream.
        unsafe { self.launcher.launch(kernel, grid, arguments) }
    }

    fn classifier(&self, op: &Op) -> Launched {
        let count = self.count();
        match op {
            Op::GlobalAvgPool(ops::GlobalAvgPool { pixels, channels, input, output }) => {
                let total = count * channels;
                let list = arguments![self.at(*input), self.at(*output), total, *pixels, *channels];
                self.launch("global_avg_pool", Grid::Items(total), list)
            }
            Op::GlobalAvgPoolDgrad(ops::GlobalAvgPoolDgrad { pixels, channels, gradient, output }) => {
                let total = count * pixels * channels;
                let list = arguments![self.at(*gradient), self.at(*output), total, *pixels, *channels];
                self.launch("global_avg_pool_dgrad", Grid::Items(total), list)
            }
            Op::Linear(ops::Linear { inputs, outputs, weight, bias, input, output }) => {
                let total = count * outputs;
                let (weight, bias) = (self.at(*weight), self.at(*bias));
                let list =
                    arguments![weight, bias, self.at(*input), self.at(*output), total, *inputs, *outputs];
                self.launch("linear", Grid::Items(total), list)
            }
            Op::LinearDgrad(ops::LinearDgrad { inputs, outputs, weight, gradient, output }) => {
                let total = count * inputs;
                let (weight, gradient) = (self.at(*weight), self.at(*gradient));
                let list = arguments![weight, gradient, self.at(*output), total, *inputs, *outputs];
                self.launch("linear_dgrad", Grid::Items(total), list)
            }
            Op::LinearWgrad(ops::LinearWgrad {
                inputs,
                outputs,
                input,
                gradient,
                weight_gradient,
                bias_gradient,
            }) => {
                let total = outputs * (inputs + 1);
                let list = arguments![
                    self.at(*input),
                    self.at(*gradient),
                    self.at(*weight_gradient),
                    self.at(*bias_gradient),
                    total,
                    count,
                    *inputs,
                    *outputs
                ];
                self.launch("linear_wgrad", Grid::Items(total), list)
            }
            _ => Ok(()),
        }
    }

    fn loss(&self, op: &Op) -> Launched {
        let (count, params) = (self.count(), self.params);
        match op {
            Op::CrossEntropy(ops::CrossEntropy {
                classes,
                logits,
                labels,
                teacher,
                mean,
                loss,
                gradient,
            }) => {
                let teacher = teacher.filter(|_| params.distill_weight != 0.0);
                let list = arguments![
                    self.at(*logits),
                    self.at(*labels),
                    self.maybe(teacher),
                    self.at(*loss),
                    self.maybe(*gradient),
                    count,
                    *classes,
                    self.divisor(*mean),
                    self.scalars()
                ];
                self.launch("cross_entropy", Grid::Items(count), list)
            }
            Op::CosineSimilarity(ops::CosineSimilarity { classes, logits, reference, score }) => {
                let (logits, reference) = (self.at(*logits), self.at(*reference));
                let list = arguments![logits, reference, self.at(*score), count, *classes];
                self.launch("cosine_similarity", Grid::Items(count), list)
            }
            _ => Ok(()),
        }
    }

    fn attack(&self, op: &Op) -> Launched {
        let params = self.params;
        let image = Grid::Blocks(self.count(), 1);
        match op {
            Op::LoadImages(ops::LoadImages { images, indices, height, width, channels, augment, output }) => {
                self.gather(*images, *indices, [*height, *width, *channels], *augment, *output)
            }
            Op::RandomErasing(_) if params.erasing_probability <= 0.0 => Ok(()),
            Op::RandomErasing(ops::RandomErasing { indices, height, width, channels, images }) => {
                let list = arguments![
                    self.at(*indices),
                    self.at(*images),
                    *height,
                    *width,
                    *channels,
                    self.scalars()
                ];
                let blocks = (height * width).div_ceil(PATCH_BLOCK);
                self.launch("random_erasing", Grid::Blocks(self.count(), blocks), list)
            }
            Op::PgdStart(ops::PgdStart { elements, clean, indices, epsilon, norm, adversarial }) => {
                let list = arguments![
                    self.at(*clean),
                    self.at(*indices),
                    self.at(*epsilon),
                    self.at(*adversarial),
                    *elements,
                    *norm == Norm::L2,
                    self.scalars()
                ];
                // In L2 a block sums an image's squares.
                let grid = if *norm == Norm::L2 { image } else { self.fours(*elements) };
                self.launch("pgd_start", grid, list)
            }
            Op::PgdStep(ops::PgdStep { elements, clean, gradient, epsilon, alpha, norm, adversarial }) => {
                let (kernel, grid) = match norm {
                    Norm::Linf => ("pgd_step_linf", self.fours(*elements)),
                    Norm::L2 => ("pgd_step_l2", image),
                };
                let list = arguments![
                    self.at(*clean),
                    self.at(*gradient),
                    self.at(*epsilon),
                    self.at(*alpha),
                    self.at(*adversarial),
                    *elements,
                    self.scalars()
                ];
                self.launch(kernel, grid, list)
            }
            _ => Ok(()),
        }
    }

    fn gather(
        &self,
        slot: ImageSlot,
        indices: Span,
        [height, width, channels]: [usize; 3],
        augment: Augment,
        output: Span,
    ) -> Launched {
        let Some(Some(images)) = self.memory.images.get(slot.0) else {
            return Err(format!("no images attached as {}", slot.0));
        };
        let list = arguments![
            images.pixels.address,
            self.at(indices),
            self.at(output),
            images.set.len(),
            height,
            width,
            images.set.channels,
            channels,
            augment.pad,
            augment.flip,
            self.scalars()
        ];
        self.launch("load_images", self.fours(height * width * channels), list)
    }

    /// Blocks by images and by four elements of one, a thread each.
    fn fours(&self, elements: usize) -> Grid {
        Grid::Blocks(self.count(), elements.div_ceil(FOUR * BLOCK))
    }
}
