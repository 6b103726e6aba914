//! The vocabulary between engine and device: regions, spans, and the ops a plan is made of.
//!
//! Layout everywhere: activations NHWC, filters KRSC (out, row, column, in) on the device — the
//! flat parameter buffer holds them as KCRS like the files people have; [`Op::LoadFilter`] turns
//! them — f32, masks one bit per element with every pixel's channels padded to whole 32-bit words.
//! Sizes in ops are per image; how many images a slice has is known only at run time
//! ([`super::BatchSlice`]), so no batch has to be a multiple of anything.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::shape::{ConvShape, PoolShape};

/// Where a span lives. Every region is one allocation, sized before the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Region {
    /// Trainable parameters, then batch-norm running statistics: the flat state of a network.
    Weights,
    /// Gradients of the trainable parameters, same offsets as `Weights`.
    Gradients,
    /// SGD momentum, same offsets as `Weights`; under Adam the first moments, and behind them the second.
    Momentum,
    /// Exponential moving average of all of `Weights`.
    Average,
    /// Scales and shifts that prepare-ops derive, and constants.
    Derived,
    /// Activations of one slice; each worker has its own.
    Arena,
    /// Rows in and out of a run (indices, labels, budgets, logits, losses), written and read by
    /// the host. A span here holds `len` elements for each row; a slice's rows start at `first`.
    Staging,
}

impl Region {
    /// Every region, in the order of the variants.
    pub const ALL: [Region; 7] = [
        Region::Weights,
        Region::Gradients,
        Region::Momentum,
        Region::Average,
        Region::Derived,
        Region::Arena,
        Region::Staging,
    ];
}

/// A run of 4-byte elements. For `Arena`, `offset` is the slot's start and `len` its size for one
/// image (image i of the slice at `offset + i * len`). For `Staging`, row r is at
/// `offset + r * len`. Elsewhere `len` is the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The allocation.
    pub region: Region,
    /// First element.
    pub offset: usize,
    /// Elements (per image or row in `Arena` and `Staging`).
    pub len: usize,
}

impl Span {
    /// Its elements for `capacity` images; staging has one row here.
    pub(super) fn extent(&self, capacity: usize) -> Range<usize> {
        let copies = if self.region == Region::Arena { capacity } else { 1 };
        self.offset..self.offset + self.len * copies
    }

    /// Whether they share memory, for as many images.
    pub(super) fn overlaps(&self, other: &Span, capacity: usize) -> bool {
        let (one, other_extent) = (self.extent(capacity), other.extent(capacity));
        self.region == other.region && one.start < other_extent.end && other_extent.start < one.end
    }
}

/// Words of the mask of an image of `pixels` × `channels`: every pixel starts a new word.
pub fn mask_words(pixels: usize, channels: usize) -> usize {
    pixels * channels.div_ceil(32)
}

/// Which side of a convolution a filter is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Input to output.
    Fprop,
    /// Output gradient to input gradient.
    Dgrad,
}

/// A filter made ready by [`Op::LoadFilter`]; index into [`super::Program::filters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterId(pub usize);

/// What a device needs to know to hold a filter in its own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterSpec {
    /// The convolution it belongs to.
    pub shape: ConvShape,
    /// The side it is used on.
    pub direction: Direction,
}

/// `scale[c] * x + shift[c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Affine {
    /// Per channel.
    pub scale: Span,
    /// Per channel.
    pub shift: Span,
}

/// What happens to an op's input while it is read: affine, then ReLU. Zero padding is
/// applied after it. `mask` receives the sign bits (1 where the ReLU lets pass).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Prologue {
    /// Batch norm as an affine map, or the input normalisation.
    pub affine: Option<Affine>,
    /// max(0, ·).
    pub relu: bool,
    /// Where the bits go ([`mask_words`] per image), if the backward pass wants them.
    pub mask: Option<Span>,
}

/// A tensor to be added to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addend {
    /// The tensor.
    pub input: Span,
    /// What happens to it before.
    pub prologue: Prologue,
}

/// Random crop and flip of a batch, drawn per image from (seed, epoch, index in its set).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Augment {
    /// Zero padding of the random crop; 0 = none.
    pub pad: usize,
    /// Mirror with probability one half.
    pub flip: bool,
}

/// A loaded image set ([`super::Session::attach`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageSlot(pub usize);

/// The ball of the attack; in files `linf` and `l2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// |r|∞ ≤ ε: step α·sign(g).
    #[default]
    Linf,
    /// |r|₂ ≤ ε: step α·g/|g|₂.
    L2,
}

/// One step of a plan. Spans named `…_gradient` of parameters lie in `Gradients`.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// scale = gamma / sqrt(variance + epsilon), shift = beta − mean · scale.
    BatchNormAffine { gamma: Span, beta: Span, mean: Span, variance: Span, epsilon: f32, affine: Affine },
    /// Makes `weights` (KCRS) ready for `filter`, multiplied by `scale` per output channel
    /// (a folded batch norm).
    LoadFilter { filter: FilterId, weights: Span, scale: Option<Span> },
    /// u8 images of a set, by index, to f32 in [0, 1], augmented.
    LoadImages {
        images: ImageSlot,
        indices: Span,
        height: usize,
        width: usize,
        channels: usize,
        augment: Augment,
        output: Span,
    },
    /// Paints random patches over images (`device/patch.rs`), where [`super::StepParams::erasing_probability`]
    /// is above 0; else nothing.
    RandomErasing { indices: Span, height: usize, width: usize, channels: usize, images: Span },
    /// output = conv(prologue(input)) + bias + residual.
    Conv {
        shape: ConvShape,
        filter: FilterId,
        input: Span,
        prologue: Prologue,
        bias: Option<Span>,
        residual: Option<Span>,
        output: Span,
    },
    /// output = (dgrad(gradient) + add) ⊙ mask ⊙ `scale[c]` + residual.
    ConvDgrad {
        shape: ConvShape,
        filter: FilterId,
        gradient: Span,
        add: Option<Span>,
        mask: Option<Span>,
        scale: Option<Span>,
        residual: Option<Span>,
        output: Span,
    },
    /// weight_gradient (KCRS) = Σ over images and pixels of prologue(input) × gradient. The
    /// prologue's mask is ignored.
    ConvWgrad { shape: ConvShape, input: Span, prologue: Prologue, gradient: Span, weight_gradient: Span },
    /// Batch statistics of `input` (pixels × channels per image, over the slice): `mean`,
    /// `inverse_std` (biased variance), the `affine` of gamma and beta, and the running statistics
    /// moved by `momentum` (unbiased variance, as PyTorch).
    BatchNormStats {
        pixels: usize,
        channels: usize,
        input: Span,
        gamma: Span,
        beta: Span,
        momentum: f32,
        epsilon: f32,
        running_mean: Span,
        running_variance: Span,
        mean: Span,
        inverse_std: Span,
        affine: Affine,
    },
    /// Backward of norm(input) with batch statistics, and of the ReLU behind it where `relu` is its
    /// input as an affine map: g = gradient ⊙ [relu(input) > 0], or the gradient;
    /// beta_gradient = Σg, gamma_gradient = Σ g·x̂,
    /// output = gamma·inverse_std·(g − Σg/N − x̂·Σ(g·x̂)/N) + residual. `output` may be `gradient`.
    BatchNormDgrad {
        pixels: usize,
        channels: usize,
        input: Span,
        gamma: Span,
        mean: Span,
        inverse_std: Span,
        relu: Option<Affine>,
        gradient: Span,
        residual: Option<Span>,
        output: Span,
        gamma_gradient: Span,
        beta_gradient: Span,
    },
    /// Twice the size of prologue(input) (height × width × channels), bilinearly, corners not aligned,
    /// as PyTorch's `Upsample(scale_factor=2, mode="bilinear")`. The prologue's mask is ignored.
    Upsample { height: usize, width: usize, channels: usize, input: Span, prologue: Prologue, output: Span },
    /// The gradient of what [`Op::Upsample`] reads behind its prologue; sizes are those of the input.
    UpsampleDgrad { height: usize, width: usize, channels: usize, gradient: Span, output: Span },
    /// output = tanh(affine(input)) / (2 + 1e-7) + 1/2: a number in (0, 1).
    ScaledTanh { pixels: usize, channels: usize, input: Span, affine: Option<Affine>, output: Span },
    /// output = gradient · (1 − tanh²(affine(input))) / (2 + 1e-7) · `scale[c]`.
    ScaledTanhDgrad {
        pixels: usize,
        channels: usize,
        input: Span,
        affine: Option<Affine>,
        gradient: Span,
        scale: Option<Span>,
        output: Span,
    },
    /// output = the sum of both addends, each behind its prologue, whose mask is ignored.
    Add { pixels: usize, channels: usize, left: Addend, right: Addend, output: Span },
    /// output = the largest of each window of prologue(input), without its border; NaN if there is one
    /// among them. `argmax` receives [`PoolShape::argmax_words`] per image, for the backward pass. The
    /// prologue's mask is ignored.
    MaxPool { shape: PoolShape, input: Span, prologue: Prologue, output: Span, argmax: Option<Span> },
    /// output = Σ gradient over the windows that the pixel won.
    MaxPoolDgrad { shape: PoolShape, gradient: Span, argmax: Span, output: Span },
    /// Mean over pixels.
    GlobalAvgPool { pixels: usize, channels: usize, input: Span, output: Span },
    /// gradient / pixels to every pixel.
    GlobalAvgPoolDgrad { pixels: usize, channels: usize, gradient: Span, output: Span },
    /// output = weight (out × in) · input + bias.
    Linear { inputs: usize, outputs: usize, weight: Span, bias: Span, input: Span, output: Span },
    /// output = weightᵀ · gradient.
    LinearDgrad { inputs: usize, outputs: usize, weight: Span, gradient: Span, output: Span },
    /// weight_gradient = Σ gradient ⊗ input; bias_gradient = Σ gradient.
    LinearWgrad {
        inputs: usize,
        outputs: usize,
        input: Span,
        gradient: Span,
        weight_gradient: Span,
        bias_gradient: Span,
    },
    /// `loss[i]` = CE(logits, label) (+ w·T²·KL(softmax(teacher/T) ‖ softmax(logits/T)) where `teacher`
    /// is given, w and T from [`super::StepParams`]); gradient of the sum of the losses, divided by
    /// the slice's image count where `mean`.
    CrossEntropy {
        classes: usize,
        logits: Span,
        labels: Span,
        teacher: Option<Span>,
        mean: bool,
        loss: Span,
        gradient: Option<Span>,
    },
    /// score = cosine of the angle between the two rows; 0 where a norm is 0 (PBE Eq. 15).
    CosineSimilarity { classes: usize, logits: Span, reference: Span, score: Span },
    /// adversarial = clean, moved uniformly inside the ε-ball where [`super::StepParams::random_start`], clamped.
    PgdStart { elements: usize, clean: Span, indices: Span, epsilon: Span, norm: Norm, adversarial: Span },
    /// adversarial += α·direction(gradient), projected to the ε-ball around `clean`, clamped to
    /// [0, 1] where [`super::StepParams::clamp`]; ε and α per image (PBE Eq. 10-12).
    PgdStep {
        elements: usize,
        clean: Span,
        gradient: Span,
        epsilon: Span,
        alpha: Span,
        norm: Norm,
        adversarial: Span,
    },
    /// SGD over the flat buffer: g = gradient + decay·w; v = momentum·v + g;
    /// w −= lr·(nesterov ? g + momentum·v : v).
    Sgd { weights: Span, gradients: Span, momentum: Span },
    /// Adam (Kingma & Ba, 2015) over the flat buffer, β and the number of the step from
    /// [`super::StepParams`]: first = β₁·first + (1 − β₁)·g, second = β₂·second + (1 − β₂)·g²,
    /// w −= lr · first / (1 − β₁ᵗ) / (√(second / (1 − β₂ᵗ)) + 1e-8).
    Adam { weights: Span, gradients: Span, first: Span, second: Span },
    /// average = d·average + (1 − d)·weights over all of `Weights`, d from [`super::StepParams`]; nothing where d is 0.
    MovingAverage { weights: Span, average: Span },
    /// A copy of `elements` per image between `Arena` and `Staging` (or within either).
    Copy { elements: usize, input: Span, output: Span },
}
