//! The set of ops, as one table. From a row follow the op's type, its operands with access and length, its name, its
//! checks and its cost. Every device implements every row: [`Op`] is matched without a wildcard.

mod table;

use super::Program;
use super::operand::{
    Addend, Affine, Augment, Direction, FilterId, ImageSlot, Norm, Prologue, Span, mask_words,
};
use super::shape::{ConvShape, PoolShape};
pub use table::Access;
pub(super) use table::{Operand, Visitor, Work};
use table::{
    Operands, Plain, flop, image, in_place, masked, once, op_table, read, shared, unmasked, update, words,
    write,
};

op_table! { $ program:
    /// scale = gamma / sqrt(variance + epsilon), shift = beta − mean · scale.
    BatchNormAffine {
        gamma: Span = read(shared(gamma.len)),
        beta: Span = read(shared(gamma.len)),
        mean: Span = read(shared(gamma.len)),
        variance: Span = read(shared(gamma.len)),
        epsilon: f32,
        affine: Affine = write(shared(gamma.len)),
    }
    sizes: format!("{} channels", gamma.len),
    work: once(5 * gamma.len);

    /// Makes `weights` (KCRS) ready for `filter`, multiplied by `scale` per output channel (a folded batch norm).
    LoadFilter {
        filter: FilterId,
        weights: Span = read(shared(weights.len)),
        scale: Option<Span> = read(shared(scale.map_or(0, |scale| scale.len))),
    }
    sizes: program.filters.get(filter.0).map_or_else(String::new, |spec| conv_sizes(&spec.shape)),
    work: once(0).with_filter(weights.len),
    check: program.loads(filter, weights.len, scale.map(|scale| scale.len));

    /// u8 images of a set, by index, to f32 in [0, 1], augmented.
    LoadImages {
        images: ImageSlot,
        indices: Span = read(words(1)),
        height: usize,
        width: usize,
        channels: usize,
        augment: Augment,
        output: Span = write(image(height * width * channels)),
    }
    sizes: pixels_of(height * width, channels),
    work: Work { pixels: height * width * channels, ..flop(0, height * width * channels) };

    /// Paints random rectangles over images (`device/patch.rs`) where [`super::StepParams::erasing_probability`] is
    /// above 0; else nothing.
    RandomErasing {
        indices: Span = read(words(1)),
        height: usize,
        width: usize,
        channels: usize,
        images: Span = update(image(height * width * channels)),
    }
    sizes: pixels_of(height * width, channels),
    work: Work { idle: true, ..flop(0, 0) };

    /// output = conv(prologue(input)) + bias + residual.
    Conv {
        shape: ConvShape,
        filter: FilterId,
        input: Span = read(image(shape.input_len())),
        prologue: Prologue = masked(shape.in_channels, conv_mask_words(&shape)),
        bias: Option<Span> = read(shared(shape.out_channels)),
        residual: Option<Span> = in_place(image(shape.output_len())),
        output: Span = write(image(shape.output_len())),
    }
    sizes: conv_sizes(&shape),
    work: flop(
        2 * shape.multiply_adds(),
        prologue.flop() * shape.input_len() + (some(bias) + some(residual)) * shape.output_len(),
    ).with_filter(shape.filter_len()),
    check: program.uses(filter, &shape, Direction::Fprop);

    /// output = (dgrad(gradient) + add) ⊙ mask ⊙ `scale[c]` + residual.
    ConvDgrad {
        shape: ConvShape,
        filter: FilterId,
        gradient: Span = read(image(shape.output_len())),
        add: Option<Span> = in_place(image(shape.input_len())),
        mask: Option<Span> = read(words(conv_mask_words(&shape))),
        scale: Option<Span> = read(shared(shape.in_channels)),
        residual: Option<Span> = in_place(image(shape.input_len())),
        output: Span = write(image(shape.input_len())),
    }
    sizes: conv_sizes(&shape),
    work: flop(
        2 * shape.multiply_adds(),
        (some(add) + some(scale) + some(residual)) * shape.input_len(),
    ).with_filter(shape.filter_len()),
    check: program.uses(filter, &shape, Direction::Dgrad);

    /// weight_gradient (KCRS) = Σ over images and pixels of prologue(input) × gradient. The prologue's mask is
    /// ignored.
    ConvWgrad {
        shape: ConvShape,
        input: Span = read(image(shape.input_len())),
        prologue: Prologue = unmasked(shape.in_channels),
        gradient: Span = read(image(shape.output_len())),
        weight_gradient: Span = write(shared(shape.filter_len())),
    }
    sizes: conv_sizes(&shape),
    work: flop(2 * shape.multiply_adds(), prologue.flop() * shape.input_len());

    /// Batch statistics of `input` (pixels × channels per image, over the slice): `mean`, `inverse_std` (biased
    /// variance), the `affine` of gamma and beta, and the running statistics moved by `momentum` (unbiased variance,
    /// as PyTorch).
    BatchNormStats {
        pixels: usize,
        channels: usize,
        input: Span = read(image(pixels * channels)),
        gamma: Span = read(shared(channels)),
        beta: Span = read(shared(channels)),
        momentum: f32,
        epsilon: f32,
        running_mean: Span = update(shared(channels)),
        running_variance: Span = update(shared(channels)),
        mean: Span = write(shared(channels)),
        inverse_std: Span = write(shared(channels)),
        affine: Affine = write(shared(channels)),
    }
    sizes: pixels_of(pixels, channels),
    // The sum; the difference, its square and their sum.
    work: flop(0, 4 * pixels * channels);

    /// Backward of norm(input) with batch statistics, and of the ReLU after it where `relu` is the ReLU's input as an
    /// affine map: g = gradient ⊙ [relu(input) > 0], or the gradient; beta_gradient = Σg, gamma_gradient = Σ g·x̂,
    /// output = gamma·inverse_std·(g − Σg/N − x̂·Σ(g·x̂)/N) + residual. `output` may be `gradient`.
    BatchNormDgrad {
        pixels: usize,
        channels: usize,
        input: Span = read(image(pixels * channels)),
        gamma: Span = read(shared(channels)),
        mean: Span = read(shared(channels)),
        inverse_std: Span = read(shared(channels)),
        relu: Option<Affine> = read(shared(channels)),
        gradient: Span = in_place(image(pixels * channels)),
        residual: Option<Span> = in_place(image(pixels * channels)),
        output: Span = write(image(pixels * channels)),
        gamma_gradient: Span = write(shared(channels)),
        beta_gradient: Span = write(shared(channels)),
    }
    sizes: pixels_of(pixels, channels),
    // x̂, the two sums, the formula.
    work: flop(0, (2 + 3 + 5 + 2 * some(relu) + some(residual)) * pixels * channels);

    /// Twice the size of prologue(input) (height × width × channels), bilinearly, corners not aligned, as PyTorch's
    /// `Upsample(scale_factor=2, mode="bilinear")`. The prologue's mask is ignored.
    Upsample {
        height: usize,
        width: usize,
        channels: usize,
        input: Span = read(image(height * width * channels)),
        prologue: Prologue = unmasked(channels),
        output: Span = write(image(4 * height * width * channels)),
    }
    sizes: pixels_of(height * width, channels),
    // Four products and three sums an output; its transpose the same.
    work: flop(0, (4 * 7 + prologue.flop()) * height * width * channels);

    /// The gradient of what [`Upsample`] interpolates; sizes are those of the input.
    UpsampleDgrad {
        height: usize,
        width: usize,
        channels: usize,
        gradient: Span = read(image(4 * height * width * channels)),
        output: Span = write(image(height * width * channels)),
    }
    sizes: pixels_of(height * width, channels),
    work: flop(0, 4 * 7 * height * width * channels);

    /// output = tanh(affine(input)) / (2 + 1e-7) + 1/2: a number in (0, 1).
    ScaledTanh {
        pixels: usize,
        channels: usize,
        input: Span = read(image(pixels * channels)),
        affine: Option<Affine> = read(shared(channels)),
        output: Span = write(image(pixels * channels)),
    }
    sizes: pixels_of(pixels, channels),
    work: flop(0, (3 + 2 * some(affine)) * pixels * channels);

    /// output = gradient · (1 − tanh²(affine(input))) / (2 + 1e-7) · `scale[c]`.
    ScaledTanhDgrad {
        pixels: usize,
        channels: usize,
        input: Span = read(image(pixels * channels)),
        affine: Option<Affine> = read(shared(channels)),
        gradient: Span = in_place(image(pixels * channels)),
        scale: Option<Span> = read(shared(channels)),
        output: Span = write(image(pixels * channels)),
    }
    sizes: pixels_of(pixels, channels),
    work: flop(0, (5 + 2 * some(affine) + some(scale)) * pixels * channels);

    /// output = the sum of both addends, each after its prologue, whose mask is ignored.
    Add {
        pixels: usize,
        channels: usize,
        left: Addend = (in_place(image(pixels * channels)), channels),
        right: Addend = (in_place(image(pixels * channels)), channels),
        output: Span = write(image(pixels * channels)),
    }
    sizes: pixels_of(pixels, channels),
    work: flop(0, (1 + left.prologue.flop() + right.prologue.flop()) * pixels * channels);

    /// output = the largest of each window of prologue(input), without its border; NaN if there is one among them.
    /// `argmax` receives [`PoolShape::argmax_words`] per image, for the backward pass. The prologue's mask is
    /// ignored.
    MaxPool {
        shape: PoolShape,
        input: Span = read(image(shape.input_len())),
        prologue: Prologue = unmasked(shape.channels),
        output: Span = write(image(shape.output_len())),
        argmax: Option<Span> = write(words(shape.argmax_words())),
    }
    sizes: pool_sizes(&shape),
    work: flop(0, shape.kernel * shape.kernel * shape.output_len() + prologue.flop() * shape.input_len());

    /// output = Σ gradient over the windows whose maximum the pixel is.
    MaxPoolDgrad {
        shape: PoolShape,
        gradient: Span = read(image(shape.output_len())),
        argmax: Span = read(words(shape.argmax_words())),
        output: Span = write(image(shape.input_len())),
    }
    sizes: pool_sizes(&shape),
    work: flop(0, shape.output_len());

    /// Mean over pixels.
    GlobalAvgPool {
        pixels: usize,
        channels: usize,
        input: Span = read(image(pixels * channels)),
        output: Span = write(image(channels)),
    }
    sizes: pixels_of(pixels, channels),
    work: flop(0, pixels * channels);

    /// gradient / pixels to every pixel.
    GlobalAvgPoolDgrad {
        pixels: usize,
        channels: usize,
        gradient: Span = read(image(channels)),
        output: Span = write(image(pixels * channels)),
    }
    sizes: pixels_of(pixels, channels),
    work: flop(0, channels);

    /// Means over `side` × `side` windows that cut the image into parts, where it isn't a multiple overlapping ones, as
    /// PyTorch's `AdaptiveAvgPool2d(side)`; the output is (channels, side, side), as after its `flatten(1)`.
    AdaptiveAvgPool {
        height: usize,
        width: usize,
        channels: usize,
        side: usize,
        input: Span = read(image(height * width * channels)),
        output: Span = write(image(side * side * channels)),
    }
    sizes: pixels_of(height * width, channels),
    work: flop(0, (height * width).max(side * side) * channels);

    /// output = Σ over the windows with the pixel of gradient / the window's pixels.
    AdaptiveAvgPoolDgrad {
        height: usize,
        width: usize,
        channels: usize,
        side: usize,
        gradient: Span = read(image(side * side * channels)),
        output: Span = write(image(height * width * channels)),
    }
    sizes: pixels_of(height * width, channels),
    work: flop(0, 2 * (height * width).max(side * side) * channels);

    /// output = weight (out × in) · input + bias.
    Linear {
        inputs: usize,
        outputs: usize,
        weight: Span = read(shared(inputs * outputs)),
        bias: Span = read(shared(outputs)),
        input: Span = read(image(inputs)),
        output: Span = write(image(outputs)),
    }
    sizes: format!("{inputs} to {outputs}"),
    work: flop(2 * inputs * outputs, outputs);

    /// output = weightᵀ · gradient.
    LinearDgrad {
        inputs: usize,
        outputs: usize,
        weight: Span = read(shared(inputs * outputs)),
        gradient: Span = read(image(outputs)),
        output: Span = write(image(inputs)),
    }
    sizes: format!("{inputs} to {outputs}"),
    work: flop(2 * inputs * outputs, 0);

    /// weight_gradient = Σ gradient ⊗ input; bias_gradient = Σ gradient.
    LinearWgrad {
        inputs: usize,
        outputs: usize,
        input: Span = read(image(inputs)),
        gradient: Span = read(image(outputs)),
        weight_gradient: Span = write(shared(inputs * outputs)),
        bias_gradient: Span = write(shared(outputs)),
    }
    sizes: format!("{inputs} to {outputs}"),
    work: flop(2 * inputs * outputs, outputs);

    /// `loss[i]` = CE(logits, label) (+ w·T²·KL(softmax(teacher/T) ‖ softmax(logits/T)) where `teacher` is given, w
    /// and T from [`super::StepParams`]); gradient of the sum of the losses, divided by the slice's image count where
    /// `mean`.
    CrossEntropy {
        classes: usize,
        logits: Span = read(image(classes)),
        labels: Span = read(words(1)),
        teacher: Option<Span> = read(image(classes)),
        mean: bool,
        loss: Span = write(image(1)),
        gradient: Option<Span> = write(image(classes)),
    }
    sizes: format!("{classes} classes"),
    // Difference, exponential, sum; the row's logarithm and quotient aside. The gradient is a quotient and a
    // difference. The teacher takes the same again.
    work: flop(0, (3 + 2 * some(gradient)) * (1 + some(teacher)) * classes);

    /// score = cosine of the angle between the two rows; 0 where a norm is 0 (PBE Eq. 15).
    CosineSimilarity {
        classes: usize,
        logits: Span = read(image(classes)),
        reference: Span = read(image(classes)),
        score: Span = write(image(1)),
    }
    sizes: format!("{classes} classes"),
    work: flop(0, 6 * classes);

    /// adversarial = clean, moved uniformly inside the ε-ball where [`super::StepParams::random_start`], clamped.
    PgdStart {
        elements: usize,
        clean: Span = read(image(elements)),
        indices: Span = read(words(1)),
        epsilon: Span = read(image(1)),
        norm: Norm,
        adversarial: Span = write(image(elements)),
    }
    sizes: format!("{elements} elements"),
    // A number in the ball, added, and two comparisons.
    work: flop(0, 5 * elements);

    /// adversarial += α·direction(gradient), projected to the ε-ball around `clean`, clamped to [0, 1] where
    /// [`super::StepParams::clamp`]; ε and α per image (PBE Eq. 10-12).
    PgdStep {
        elements: usize,
        clean: Span = read(image(elements)),
        gradient: Span = read(image(elements)),
        epsilon: Span = read(image(1)),
        alpha: Span = read(image(1)),
        norm: Norm,
        adversarial: Span = update(image(elements)),
    }
    sizes: format!("{elements} elements"),
    // A step, the ball's two borders and the range's; L2 has its two norms.
    work: flop(0, elements * if norm == Norm::L2 { 10 } else { 7 });

    /// SGD over the flat buffer: g = gradient + decay·w; v = momentum·v + g; w −= lr·(nesterov ? g + momentum·v : v).
    Sgd {
        weights: Span = update(shared(weights.len)),
        gradients: Span = read(shared(weights.len)),
        momentum: Span = update(shared(weights.len)),
    }
    sizes: format!("{} weights", weights.len),
    work: once(8 * weights.len);

    /// Adam (Kingma & Ba, 2015) over the flat buffer, β and the number of the step from [`super::StepParams`]:
    /// first = β₁·first + (1 − β₁)·g, second = β₂·second + (1 − β₂)·g²,
    /// w −= lr · first / (1 − β₁ᵗ) / (√(second / (1 − β₂ᵗ)) + 1e-8).
    Adam {
        weights: Span = update(shared(weights.len)),
        gradients: Span = read(shared(weights.len)),
        first: Span = update(shared(weights.len)),
        second: Span = update(shared(weights.len)),
    }
    sizes: format!("{} weights", weights.len),
    work: once(14 * weights.len);

    /// average = d·average + (1 − d)·weights over all of `Weights`, d from [`super::StepParams`]; nothing where d
    /// is 0.
    MovingAverage {
        weights: Span = read(shared(weights.len)),
        average: Span = update(shared(weights.len)),
    }
    sizes: format!("{} weights", weights.len),
    work: once(3 * weights.len);

    /// A copy of `elements` per image between `Arena` and `Staging` (or within either).
    Copy {
        elements: usize,
        input: Span = read(image(elements)),
        output: Span = write(image(elements)),
    }
    sizes: format!("{elements} elements"),
    work: flop(0, 0);
}

impl Op {
    /// Calls `visit` with every span.
    pub fn visit_spans(&mut self, visit: &mut dyn FnMut(&mut Span, Access)) {
        self.visit_operands(&mut |operand, span| visit(span, operand.access));
    }

    /// Every span, and how it is used.
    pub fn spans(&self) -> impl Iterator<Item = (Span, Access)> {
        self.operands().into_iter().map(|(operand, span)| (span, operand.access))
    }

    /// Every operand, and where it lies.
    pub(super) fn operands(&self) -> Vec<(Operand, Span)> {
        let mut list = Vec::new();
        self.clone().visit_operands(&mut |operand, span| list.push((operand, *span)));
        list
    }
}

impl Conv {
    /// The convolution alone, of the input as it is.
    pub fn plain(shape: ConvShape, filter: FilterId, input: Span, output: Span) -> Self {
        Self { shape, filter, input, prologue: Prologue::default(), bias: None, residual: None, output }
    }
}

impl ConvDgrad {
    /// The gradient alone.
    pub fn plain(shape: ConvShape, filter: FilterId, gradient: Span, output: Span) -> Self {
        Self { shape, filter, gradient, add: None, mask: None, scale: None, residual: None, output }
    }
}

/// 1 where there is a value.
fn some<T>(value: Option<T>) -> usize {
    usize::from(value.is_some())
}

/// Mask words of a convolution's input.
fn conv_mask_words(shape: &ConvShape) -> usize {
    mask_words(shape.height * shape.width, shape.in_channels)
}

fn pixels_of(pixels: usize, channels: usize) -> String {
    format!("{pixels} pixels, {channels} channels")
}

fn conv_sizes(shape: &ConvShape) -> String {
    let ConvShape { height, width, in_channels, out_channels, kernel, stride, .. } = shape;
    let stride = if *stride > 1 { format!("/{stride}") } else { String::new() };
    format!("{height}x{width}, {in_channels} to {out_channels}, {kernel}x{kernel}{stride}")
}

fn pool_sizes(shape: &PoolShape) -> String {
    let PoolShape { height, width, channels, kernel, stride, .. } = shape;
    format!("{height}x{width}, {channels} channels, {kernel}x{kernel}/{stride}")
}
