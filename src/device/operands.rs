//! Which spans an op reads and writes, and how many elements of each: what the engine's slot
//! allocation and the devices' checks both need to know.

use super::op::{Affine, Op, Span, mask_words};
use super::shape::ConvShape;

/// How an op uses a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read element by element before the same element of the output is written: the output may
    /// lie on it.
    ReadInPlace,
    /// Written (and read, where the op updates in place).
    Write,
}

/// What an op expects of one of its spans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    /// The field of the op.
    pub name: &'static str,
    /// Elements the op touches (per image where `per_image`).
    pub len: usize,
    /// One part for each image (`Arena`, `Staging`), or one for all of them.
    pub per_image: bool,
    /// How it is used.
    pub access: Access,
}

type Visitor<'a> = &'a mut dyn FnMut(Operand, &mut Span);

/// Hands operands to a visitor.
struct Operands<'a> {
    visit: Visitor<'a>,
}

impl Operands<'_> {
    fn image(&mut self, access: Access, len: usize, name: &'static str, span: &mut Span) -> &mut Self {
        (self.visit)(Operand { name, len, per_image: true, access }, span);
        self
    }
    fn maybe(
        &mut self,
        access: Access,
        len: usize,
        name: &'static str,
        span: &mut Option<Span>,
    ) -> &mut Self {
        match span {
            Some(span) => self.image(access, len, name, span),
            None => self,
        }
    }
    fn whole(&mut self, access: Access, len: usize, name: &'static str, span: &mut Span) -> &mut Self {
        (self.visit)(Operand { name, len, per_image: false, access }, span);
        self
    }
    fn affine(&mut self, access: Access, channels: usize, affine: &mut Affine) -> &mut Self {
        self.whole(access, channels, "scale", &mut affine.scale).whole(
            access,
            channels,
            "shift",
            &mut affine.shift,
        )
    }
    fn maybe_affine(&mut self, access: Access, channels: usize, affine: &mut Option<Affine>) -> &mut Self {
        match affine {
            Some(affine) => self.affine(access, channels, affine),
            None => self,
        }
    }
}

/// Mask words of a convolution's input.
fn conv_mask_words(shape: &ConvShape) -> usize {
    mask_words(shape.height * shape.width, shape.in_channels)
}

impl Op {
    /// Its variant, for messages.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '{']).next().unwrap_or_default().to_string()
    }

    /// Calls `visit` with every span of the op.
    pub fn visit_spans(&mut self, visit: &mut dyn FnMut(&mut Span, Access)) {
        self.visit_operands(&mut |operand, span| visit(span, operand.access));
    }

    /// Calls `visit` with every span of the op and what the op expects of it.
    pub(super) fn visit_operands(&mut self, visit: Visitor) {
        operands(self, &mut Operands { visit });
    }
}

fn operands(op: &mut Op, list: &mut Operands) {
    match op {
        Op::Conv { .. } | Op::ConvDgrad { .. } | Op::ConvWgrad { .. } | Op::LoadFilter { .. } => {
            convolution(op, list)
        }
        Op::BatchNormAffine { .. } | Op::BatchNormStats { .. } | Op::BatchNormDgrad { .. } => norm(op, list),
        Op::LoadImages { .. }
        | Op::RandomErasing { .. }
        | Op::PgdStart { .. }
        | Op::PgdStep { .. }
        | Op::Sgd { .. }
        | Op::Adam { .. }
        | Op::MovingAverage { .. }
        | Op::Copy { .. } => elementwise(op, list),
        Op::Upsample { .. }
        | Op::UpsampleDgrad { .. }
        | Op::ScaledTanh { .. }
        | Op::ScaledTanhDgrad { .. } => generator(op, list),
        _ => head(op, list),
    }
}

fn convolution(op: &mut Op, list: &mut Operands) {
    use Access::{Read, ReadInPlace, Write};
    match op {
        Op::LoadFilter { weights, scale, .. } => {
            let len = weights.len;
            list.whole(Read, len, "weights", weights);
            if let Some(scale) = scale {
                let len = scale.len;
                list.whole(Read, len, "scale", scale);
            }
        }
        Op::Conv { shape, input, prologue, bias, residual, output, .. } => {
            list.image(Read, shape.input_len(), "input", input)
                .maybe_affine(Read, shape.in_channels, &mut prologue.affine)
                .maybe(Write, conv_mask_words(shape), "mask", &mut prologue.mask);
            if let Some(bias) = bias {
                list.whole(Read, shape.out_channels, "bias", bias);
            }
            list.maybe(ReadInPlace, shape.output_len(), "residual", residual).image(
                Write,
                shape.output_len(),
                "output",
                output,
            );
        }
        Op::ConvDgrad { shape, gradient, add, mask, scale, residual, output, .. } => {
            let len = shape.input_len();
            list.image(Read, shape.output_len(), "gradient", gradient)
                .maybe(ReadInPlace, len, "add", add)
                .maybe(Read, conv_mask_words(shape), "mask", mask)
                .maybe(ReadInPlace, len, "residual", residual)
                .image(Write, len, "output", output);
            if let Some(scale) = scale {
                list.whole(Read, shape.in_channels, "scale", scale);
            }
        }
        Op::ConvWgrad { shape, input, prologue, gradient, weight_gradient } => {
            list.image(Read, shape.input_len(), "input", input)
                .maybe_affine(Read, shape.in_channels, &mut prologue.affine)
                .image(Read, shape.output_len(), "gradient", gradient)
                .whole(Write, shape.filter_len(), "weight_gradient", weight_gradient);
        }
        _ => {}
    }
}

fn norm(op: &mut Op, list: &mut Operands) {
    use Access::{Read, ReadInPlace, Write};
    match op {
        Op::BatchNormAffine { gamma, beta, mean, variance, affine, .. } => {
            let channels = gamma.len;
            list.whole(Read, channels, "gamma", gamma)
                .whole(Read, channels, "beta", beta)
                .whole(Read, channels, "mean", mean)
                .whole(Read, channels, "variance", variance)
                .affine(Write, channels, affine);
        }
        Op::BatchNormStats {
            pixels,
            channels,
            input,
            gamma,
            beta,
            running_mean,
            running_variance,
            mean,
            inverse_std,
            affine,
            ..
        } => {
            list.image(Read, *pixels * *channels, "input", input)
                .whole(Read, *channels, "gamma", gamma)
                .whole(Read, *channels, "beta", beta)
                .whole(Write, *channels, "running_mean", running_mean)
                .whole(Write, *channels, "running_variance", running_variance)
                .whole(Write, *channels, "mean", mean)
                .whole(Write, *channels, "inverse_std", inverse_std)
                .affine(Write, *channels, affine);
        }
        Op::BatchNormDgrad {
            pixels,
            channels,
            input,
            gamma,
            mean,
            inverse_std,
            relu,
            gradient,
            residual,
            output,
            gamma_gradient,
            beta_gradient,
        } => {
            list.image(Read, *pixels * *channels, "input", input)
                .whole(Read, *channels, "gamma", gamma)
                .whole(Read, *channels, "mean", mean)
                .whole(Read, *channels, "inverse_std", inverse_std)
                .maybe_affine(Read, *channels, relu)
                .image(ReadInPlace, *pixels * *channels, "gradient", gradient)
                .maybe(ReadInPlace, *pixels * *channels, "residual", residual)
                .image(Write, *pixels * *channels, "output", output)
                .whole(Write, *channels, "gamma_gradient", gamma_gradient)
                .whole(Write, *channels, "beta_gradient", beta_gradient);
        }
        _ => {}
    }
}

fn generator(op: &mut Op, list: &mut Operands) {
    use Access::{Read, ReadInPlace, Write};
    match op {
        Op::Upsample { height, width, channels, input, prologue, output } => {
            let len = *height * *width * *channels;
            list.image(Read, len, "input", input).maybe_affine(Read, *channels, &mut prologue.affine).image(
                Write,
                4 * len,
                "output",
                output,
            );
        }
        Op::UpsampleDgrad { height, width, channels, gradient, output } => {
            let len = *height * *width * *channels;
            list.image(Read, 4 * len, "gradient", gradient).image(Write, len, "output", output);
        }
        Op::ScaledTanh { pixels, channels, input, affine, output } => {
            list.image(Read, *pixels * *channels, "input", input)
                .maybe_affine(Read, *channels, affine)
                .image(Write, *pixels * *channels, "output", output);
        }
        Op::ScaledTanhDgrad { pixels, channels, input, affine, gradient, scale, output } => {
            let len = *pixels * *channels;
            list.image(Read, len, "input", input)
                .maybe_affine(Read, *channels, affine)
                .image(ReadInPlace, len, "gradient", gradient)
                .image(Write, len, "output", output);
            if let Some(scale) = scale {
                list.whole(Read, *channels, "scale", scale);
            }
        }
        _ => {}
    }
}

fn head(op: &mut Op, list: &mut Operands) {
    use Access::{Read, ReadInPlace, Write};
    match op {
        Op::Add { pixels, channels, left, right, output } => {
            let len = *pixels * *channels;
            list.image(ReadInPlace, len, "left", &mut left.input)
                .maybe_affine(Read, *channels, &mut left.prologue.affine)
                .image(ReadInPlace, len, "right", &mut right.input)
                .maybe_affine(Read, *channels, &mut right.prologue.affine)
                .image(Write, len, "output", output);
        }
        Op::MaxPool { shape, input, prologue, output, argmax } => {
            list.image(Read, shape.input_len(), "input", input)
                .maybe_affine(Read, shape.channels, &mut prologue.affine)
                .image(Write, shape.output_len(), "output", output)
                .maybe(Write, shape.argmax_words(), "argmax", argmax);
        }
        Op::MaxPoolDgrad { shape, gradient, argmax, output } => {
            list.image(Read, shape.output_len(), "gradient", gradient)
                .image(Read, shape.argmax_words(), "argmax", argmax)
                .image(Write, shape.input_len(), "output", output);
        }
        Op::GlobalAvgPool { pixels, channels, input, output } => {
            list.image(Read, *pixels * *channels, "input", input).image(Write, *channels, "output", output);
        }
        Op::GlobalAvgPoolDgrad { pixels, channels, gradient, output } => {
            list.image(Read, *channels, "gradient", gradient).image(
                Write,
                *pixels * *channels,
                "output",
                output,
            );
        }
        Op::Linear { inputs, outputs, weight, bias, input, output } => {
            list.whole(Read, *inputs * *outputs, "weight", weight)
                .whole(Read, *outputs, "bias", bias)
                .image(Read, *inputs, "input", input)
                .image(Write, *outputs, "output", output);
        }
        Op::LinearDgrad { inputs, outputs, weight, gradient, output } => {
            list.whole(Read, *inputs * *outputs, "weight", weight)
                .image(Read, *outputs, "gradient", gradient)
                .image(Write, *inputs, "output", output);
        }
        Op::LinearWgrad { inputs, outputs, input, gradient, weight_gradient, bias_gradient } => {
            list.image(Read, *inputs, "input", input)
                .image(Read, *outputs, "gradient", gradient)
                .whole(Write, *inputs * *outputs, "weight_gradient", weight_gradient)
                .whole(Write, *outputs, "bias_gradient", bias_gradient);
        }
        Op::CrossEntropy { classes, logits, labels, teacher, loss, gradient, .. } => {
            list.image(Read, *classes, "logits", logits)
                .image(Read, 1, "labels", labels)
                .maybe(Read, *classes, "teacher", teacher)
                .image(Write, 1, "loss", loss)
                .maybe(Write, *classes, "gradient", gradient);
        }
        Op::CosineSimilarity { classes, logits, reference, score } => {
            list.image(Read, *classes, "logits", logits)
                .image(Read, *classes, "reference", reference)
                .image(Write, 1, "score", score);
        }
        _ => {}
    }
}

fn elementwise(op: &mut Op, list: &mut Operands) {
    use Access::{Read, Write};
    match op {
        Op::LoadImages { indices, height, width, channels, output, .. } => {
            list.image(Read, 1, "indices", indices).image(
                Write,
                *height * *width * *channels,
                "output",
                output,
            );
        }
        Op::RandomErasing { indices, height, width, channels, images } => {
            list.image(Read, 1, "indices", indices).image(
                Write,
                *height * *width * *channels,
                "images",
                images,
            );
        }
        Op::PgdStart { elements, clean, indices, epsilon, adversarial, .. } => {
            list.image(Read, *elements, "clean", clean)
                .image(Read, 1, "indices", indices)
                .image(Read, 1, "epsilon", epsilon)
                .image(Write, *elements, "adversarial", adversarial);
        }
        Op::PgdStep { elements, clean, gradient, epsilon, alpha, adversarial, .. } => {
            list.image(Read, *elements, "clean", clean)
                .image(Read, *elements, "gradient", gradient)
                .image(Read, 1, "epsilon", epsilon)
                .image(Read, 1, "alpha", alpha)
                .image(Write, *elements, "adversarial", adversarial);
        }
        Op::Sgd { weights, gradients, momentum } => {
            let len = weights.len;
            list.whole(Write, len, "weights", weights)
                .whole(Read, len, "gradients", gradients)
                .whole(Write, len, "momentum", momentum);
        }
        Op::Adam { weights, gradients, first, second } => {
            let len = weights.len;
            list.whole(Write, len, "weights", weights)
                .whole(Read, len, "gradients", gradients)
                .whole(Write, len, "first", first)
                .whole(Write, len, "second", second);
        }
        Op::MovingAverage { weights, average } => {
            let len = weights.len;
            list.whole(Read, len, "weights", weights).whole(Write, len, "average", average);
        }
        Op::Copy { elements, input, output } => {
            list.image(Read, *elements, "input", input).image(Write, *elements, "output", output);
        }
        _ => {}
    }
}
