//! Runs ops on f64 regions: operands are copied out, results copied in.

use super::attack::{self, Ball};
use super::generator::{self, Size};
use super::{conv, head, norm, pooling};
use crate::data::ImageSet;
use crate::device::ops;
use crate::device::{
    ADAM_EPSILON, Affine, BatchSlice, Bf16Tensors, MemoryLayout, Norm, Op, Precision, Program, Prologue,
    Region, Span, StepParams, check,
};
use crate::error::{Error, Result};

/// The regions, the images, and the filters as they were last loaded (KCRS, scaled).
pub struct Machine {
    pub regions: [Vec<f64>; 7],
    pub images: Vec<Option<ImageSet>>,
    filters: Vec<Vec<f64>>,
    pub precision: Precision,
}

/// A machine at one slice of a run.
struct Step<'a> {
    machine: &'a mut Machine,
    params: &'a StepParams,
    slice: BatchSlice,
    rounded: Bf16Tensors,
}

impl Machine {
    pub fn new(layout: &MemoryLayout, precision: Precision) -> Self {
        let regions = Region::ALL.map(|region| vec![0.0; layout.len(region)]);
        Self { regions, images: Vec::new(), filters: Vec::new(), precision }
    }

    /// Runs an op of a checked program: its number, and which of its tensors are in bf16.
    pub fn run(
        &mut self,
        program: &Program,
        (op, rounded): (usize, Bf16Tensors),
        params: &StepParams,
        slice: BatchSlice,
    ) -> Result<()> {
        let op = &program.ops[op];
        let missing = program.filters.len().saturating_sub(self.filters.len());
        self.filters.extend(vec![Vec::new(); missing]);
        let mut step = Step { machine: self, params, slice, rounded };
        match op {
            Op::LoadFilter(ops::LoadFilter { filter, weights, scale }) => {
                let per_filter = weights.len / program.filters[filter.0].shape.out_channels;
                let mut values = step.read(*weights);
                if let Some(scale) = scale.map(|scale| step.read(scale)) {
                    values.iter_mut().enumerate().for_each(|(i, value)| *value *= scale[i / per_filter]);
                }
                step.machine.filters[filter.0] = step.rounded(values);
            }
            Op::Conv(_) | Op::ConvDgrad(_) | Op::ConvWgrad(_) => step.convolution(op),
            Op::BatchNormAffine(_) | Op::BatchNormStats(_) | Op::BatchNormDgrad(_) => step.norm(op)?,
            Op::LoadImages(_) | Op::RandomErasing(_) | Op::PgdStart(_) | Op::PgdStep(_) => step.attack(op)?,
            Op::CrossEntropy(_) => step.loss(op)?,
            Op::Sgd(_) | Op::Adam(_) | Op::MovingAverage(_) | Op::Copy(_) => step.update(op),
            Op::Upsample(_) | Op::UpsampleDgrad(_) | Op::ScaledTanh(_) | Op::ScaledTanhDgrad(_) => {
                step.generator(op)
            }
            _ => step.head(op),
        }
        Ok(())
    }
}

impl Step<'_> {
    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let start = match span.region {
            Region::Staging => span.offset + self.slice.first * span.len,
            _ => span.offset,
        };
        let images = match span.region {
            Region::Arena | Region::Staging => self.slice.count,
            _ => 1,
        };
        start..start + span.len * images
    }

    fn read(&self, span: Span) -> Vec<f64> {
        self.machine.regions[span.region as usize][self.range(span)].to_vec()
    }

    fn words(&self, span: Span) -> Vec<u32> {
        self.read(span).into_iter().map(|word| word as u32).collect()
    }

    fn write(&mut self, span: Span, values: &[f64]) {
        let range = self.range(span);
        self.machine.regions[span.region as usize][range].copy_from_slice(values);
    }

    fn affine(&self, affine: Affine) -> norm::Affine {
        (self.read(affine.scale), self.read(affine.shift))
    }

    fn prologue(&self, channels: usize, prologue: &Prologue, input: Span) -> Vec<f64> {
        let affine = prologue.affine.map(|affine| self.affine(affine));
        let affine = affine.as_ref().map(|(scale, shift)| (scale.as_slice(), shift.as_slice()));
        conv::prologue(&self.read(input), channels, affine, prologue.relu)
    }

    /// Values as a convolution multiplies them.
    fn rounded(&self, values: Vec<f64>) -> Vec<f64> {
        values.into_iter().map(|value| self.machine.precision.round(value)).collect()
    }

    /// values += the span, if there is one.
    fn add(&self, values: &mut [f64], span: Option<Span>, rounded: bool) {
        if let Some(span) = span {
            let read = self.read(span);
            let more = if rounded { self.rounded(read) } else { read };
            values.iter_mut().zip(more).for_each(|(value, more)| *value += more);
        }
    }

    fn convolution(&mut self, op: &Op) {
        match op {
            Op::Conv(ops::Conv { shape, filter, input, prologue, bias, residual, output }) => {
                let input = self.prologue(shape.in_channels, prologue, *input);
                let operand = self.rounded(input.clone());
                let mut values = conv::fprop(shape, &operand, &self.machine.filters[filter.0]);
                if let Some(bias) = bias.map(|bias| self.read(bias)) {
                    values.iter_mut().enumerate().for_each(|(i, value)| *value += bias[i % bias.len()]);
                }
                self.add(&mut values, *residual, self.rounded.residual);
                if let Some(mask) = prologue.mask {
                    let words: Vec<f64> =
                        conv::mask(&input, shape.in_channels).into_iter().map(f64::from).collect();
                    self.write(mask, &words);
                }
                self.write(*output, &values);
            }
            Op::ConvDgrad(ops::ConvDgrad { shape, filter, gradient, add, mask, scale, residual, output }) => {
                let channels = shape.in_channels;
                let gradient = self.rounded(self.read(*gradient));
                let mut values = conv::dgrad(shape, &gradient, &self.machine.filters[filter.0]);
                self.add(&mut values, *add, self.rounded.add);
                let mask = mask.map(|mask| self.words(mask));
                let scale = scale.map(|scale| self.read(scale));
                for (i, value) in values.iter_mut().enumerate() {
                    *value *= scale.as_ref().map_or(1.0, |scale| scale[i % channels]);
                    if mask.as_ref().is_some_and(|mask| !conv::passes(mask, channels, i)) {
                        *value = 0.0;
                    }
                }
                self.add(&mut values, *residual, self.rounded.residual);
                self.write(*output, &values);
            }
            Op::ConvWgrad(ops::ConvWgrad { shape, input, prologue, gradient, weight_gradient }) => {
                let input = self.rounded(self.prologue(shape.in_channels, prologue, *input));
                let values = conv::wgrad(shape, &input, &self.rounded(self.read(*gradient)));
                self.write(*weight_gradient, &values);
            }
            _ => {}
        }
    }

    fn norm(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::BatchNormAffine(ops::BatchNormAffine { gamma, beta, mean, variance, epsilon, affine }) => {
                let (gamma, beta) = (self.read(*gamma), self.read(*beta));
                let (mean, variance) = (self.read(*mean), self.read(*variance));
                let (scale, shift) = norm::affine(&gamma, &beta, &mean, &variance, f64::from(*epsilon));
                self.write(affine.scale, &scale);
                self.write(affine.shift, &shift);
            }
            Op::BatchNormStats(_) if self.slice.count == 0 => {
                return Err(Error::run("batch statistics of no images"));
            }
            Op::BatchNormStats(_) => self.statistics(op),
            Op::BatchNormDgrad(ops::BatchNormDgrad {
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
                ..
            }) => {
                let (input, gamma) = (self.read(*input), self.read(*gamma));
                let mut gradient = self.read(*gradient);
                if let Some((scale, shift)) = relu.map(|affine| self.affine(affine)) {
                    for (i, g) in gradient.iter_mut().enumerate() {
                        let c = i % gamma.len();
                        if scale[c] * input[i] + shift[c] <= 0.0 {
                            *g = 0.0;
                        }
                    }
                }
                let (mean, inverse_std) = (self.read(*mean), self.read(*inverse_std));
                let mut backward = norm::dgrad(&input, &gradient, &gamma, &mean, &inverse_std);
                self.add(&mut backward.output, *residual, false);
                self.write(*output, &backward.output);
                self.write(*gamma_gradient, &backward.gamma_gradient);
                self.write(*beta_gradient, &backward.beta_gradient);
            }
            _ => {}
        }
        Ok(())
    }

    fn statistics(&mut self, op: &Op) {
        let Op::BatchNormStats(ops::BatchNormStats {
            channels,
            input,
            gamma,
            beta,
            momentum,
            epsilon,
            running_mean,
            running_variance,
            mean,
            inverse_std,
            affine,
            ..
        }) = op
        else {
            return;
        };
        let found = norm::statistics(&self.read(*input), *channels);
        let (gamma, beta) = (self.read(*gamma), self.read(*beta));
        let epsilon = f64::from(*epsilon);
        let (scale, shift) = norm::affine(&gamma, &beta, &found.mean, &found.variance, epsilon);
        let inverse: Vec<f64> = found.variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
        let rows = found.rows as f64;
        let unbiased: Vec<f64> = found.variance.iter().map(|v| v * rows / (rows - 1.0).max(1.0)).collect();
        for (span, values) in [(*running_mean, &found.mean), (*running_variance, &unbiased)] {
            let keep = 1.0 - f64::from(*momentum);
            let old = self.read(span);
            let moved: Vec<f64> =
                old.iter().zip(values).map(|(old, new)| keep * old + f64::from(*momentum) * new).collect();
            self.write(span, &moved);
        }
        self.write(*mean, &found.mean);
        self.write(*inverse_std, &inverse);
        self.write(affine.scale, &scale);
        self.write(affine.shift, &shift);
    }

    fn generator(&mut self, op: &Op) {
        match op {
            Op::Upsample(ops::Upsample { height, width, channels, input, prologue, output }) => {
                let size = Size { height: *height, width: *width, channels: *channels };
                let values = generator::upsample(size, &self.prologue(*channels, prologue, *input));
                self.write(*output, &values);
            }
            Op::UpsampleDgrad(ops::UpsampleDgrad { height, width, channels, gradient, output }) => {
                let size = Size { height: *height, width: *width, channels: *channels };
                let values = generator::upsample_dgrad(size, &self.read(*gradient));
                self.write(*output, &values);
            }
            Op::ScaledTanh(ops::ScaledTanh { channels, input, affine, output, .. }) => {
                let before = Prologue { affine: *affine, ..Prologue::default() };
                let values = self.prologue(*channels, &before, *input);
                let values: Vec<f64> = values.into_iter().map(generator::scaled_tanh).collect();
                self.write(*output, &values);
            }
            Op::ScaledTanhDgrad(ops::ScaledTanhDgrad {
                channels,
                input,
                affine,
                gradient,
                scale,
                output,
                ..
            }) => {
                let before = Prologue { affine: *affine, ..Prologue::default() };
                let (values, gradient) = (self.prologue(*channels, &before, *input), self.read(*gradient));
                let scale = scale.map(|scale| self.read(scale));
                let value = |(i, (x, g)): (usize, (f64, f64))| {
                    g * generator::scaled_tanh_slope(x) * scale.as_ref().map_or(1.0, |s| s[i % channels])
                };
                let values: Vec<f64> = values.into_iter().zip(gradient).enumerate().map(value).collect();
                self.write(*output, &values);
            }
            _ => {}
        }
    }

    fn head(&mut self, op: &Op) {
        match op {
            Op::Add(ops::Add { channels, left, right, output, .. }) => {
                let mut values = self.prologue(*channels, &left.prologue, left.input);
                let right = self.prologue(*channels, &right.prologue, right.input);
                values.iter_mut().zip(right).for_each(|(value, more)| *value += more);
                self.write(*output, &values);
            }
            Op::MaxPool(ops::MaxPool { shape, input, prologue, output, argmax }) => {
                let input = self.prologue(shape.channels, prologue, *input);
                let (values, winning) = pooling::max_pool(shape, &input, prologue.relu);
                self.write(*output, &values);
                if let Some(argmax) = argmax {
                    let words = pooling::pack(&winning, shape.channels);
                    self.write(*argmax, &words.into_iter().map(f64::from).collect::<Vec<_>>());
                }
            }
            Op::MaxPoolDgrad(ops::MaxPoolDgrad { shape, gradient, argmax, output }) => {
                let argmax = pooling::unpack(&self.words(*argmax), shape.channels);
                let values = pooling::max_pool_dgrad(shape, &argmax, &self.read(*gradient));
                self.write(*output, &values);
            }
            Op::GlobalAvgPool(ops::GlobalAvgPool { pixels, channels, input, output }) => {
                let values = head::pool(*pixels, *channels, &self.read(*input));
                self.write(*output, &values);
            }
            Op::GlobalAvgPoolDgrad(ops::GlobalAvgPoolDgrad { pixels, channels, gradient, output }) => {
                let values = head::pool_dgrad(*pixels, *channels, &self.read(*gradient));
                self.write(*output, &values);
            }
            &Op::AdaptiveAvgPool(ops::AdaptiveAvgPool { height, width, channels, side, input, output }) => {
                let values = pooling::adaptive([height, width, channels], side, &self.read(input));
                self.write(output, &values);
            }
            &Op::AdaptiveAvgPoolDgrad(ops::AdaptiveAvgPoolDgrad {
                height,
                width,
                channels,
                side,
                gradient,
                output,
            }) => {
                let values = pooling::adaptive_dgrad([height, width, channels], side, &self.read(gradient));
                self.write(output, &values);
            }
            Op::Linear(ops::Linear { weight, bias, input, output, .. }) => {
                let values = head::linear(&self.read(*weight), &self.read(*bias), &self.read(*input));
                self.write(*output, &values);
            }
            Op::LinearDgrad(ops::LinearDgrad { inputs, weight, gradient, output, .. }) => {
                let values = head::linear_dgrad(*inputs, &self.read(*weight), &self.read(*gradient));
                self.write(*output, &values);
            }
            Op::LinearWgrad(ops::LinearWgrad {
                inputs,
                outputs,
                input,
                gradient,
                weight_gradient,
                bias_gradient,
            }) => {
                let (input, gradient) = (self.read(*input), self.read(*gradient));
                let (weight, bias) = head::linear_wgrad(*inputs, *outputs, &input, &gradient);
                self.write(*weight_gradient, &weight);
                self.write(*bias_gradient, &bias);
            }
            Op::CosineSimilarity(ops::CosineSimilarity { classes, logits, reference, score }) => {
                let (a, b) = (self.read(*logits), self.read(*reference));
                let rows = a.chunks_exact(*classes).zip(b.chunks_exact(*classes));
                let values: Vec<f64> = rows.map(|(a, b)| head::cosine(a, b)).collect();
                self.write(*score, &values);
            }
            _ => {}
        }
    }

    fn loss(&mut self, op: &Op) -> Result<()> {
        let Op::CrossEntropy(ops::CrossEntropy { classes, logits, labels, teacher, mean, loss, gradient }) =
            op
        else {
            return Ok(());
        };
        let (logits, labels) = (self.read(*logits), self.words(*labels));
        let teacher = teacher.map(|teacher| self.read(teacher));
        let weight = f64::from(self.params.distill_weight);
        let temperature = f64::from(self.params.temperature);
        let divisor = if *mean { self.slice.count as f64 } else { 1.0 };
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for (i, row) in logits.chunks_exact(*classes).enumerate() {
            let label = labels[i] as usize;
            if label >= *classes {
                return Err(Error::run(format!("label {label} of {classes} classes")));
            }
            let distillation = teacher.as_ref().filter(|_| weight != 0.0).map(|teacher| {
                let teacher = &teacher[i * classes..(i + 1) * classes];
                head::Distillation { teacher, weight, temperature }
            });
            let (value, slope) = head::cross_entropy(row, label, distillation);
            losses.push(value);
            gradients.extend(slope.into_iter().map(|g| g / divisor));
        }
        self.write(*loss, &losses);
        if let Some(gradient) = gradient {
            self.write(*gradient, &gradients);
        }
        Ok(())
    }

    fn attack(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::LoadImages(ops::LoadImages { images, indices, height, width, channels, augment, output }) => {
                let set = check::attached(&self.machine.images, *images)?;
                let indices = self.words(*indices);
                check::check_images(set, (*height, *width, *channels), &indices)?;
                let image = |index: &u32| attack::gather(set, *index, *channels, *augment, self.params);
                let values: Vec<f64> = indices.iter().flat_map(image).collect();
                self.write(*output, &values);
            }
            Op::RandomErasing(ops::RandomErasing { indices, height, width, images, .. }) => {
                let mut values = self.read(*images);
                let indices = self.words(*indices);
                let len = values.len() / indices.len().max(1);
                for (image, index) in values.chunks_exact_mut(len.max(1)).zip(indices) {
                    attack::patches(image, index, (*height, *width), self.params);
                }
                self.write(*images, &values);
            }
            Op::PgdStart(ops::PgdStart { elements, clean, indices, epsilon, norm, adversarial }) => {
                let indices = self.words(*indices);
                let values = self.in_balls(*elements, *clean, *epsilon, *norm, |i, ball, params| {
                    ball.start(indices[i], params)
                });
                self.write(*adversarial, &values);
            }
            Op::PgdStep(ops::PgdStep { elements, clean, gradient, epsilon, alpha, norm, adversarial }) => {
                let (old, gradient, alpha) =
                    (self.read(*adversarial), self.read(*gradient), self.read(*alpha));
                let values = self.in_balls(*elements, *clean, *epsilon, *norm, |i, ball, params| {
                    let row = i * elements..(i + 1) * elements;
                    ball.step(&old[row.clone()], &gradient[row], alpha[i], params)
                });
                self.write(*adversarial, &values);
            }
            _ => {}
        }
        Ok(())
    }

    /// `map` of every image's ball, one after the other.
    fn in_balls(
        &self,
        elements: usize,
        clean: Span,
        epsilon: Span,
        norm: Norm,
        map: impl Fn(usize, Ball, &StepParams) -> Vec<f64>,
    ) -> Vec<f64> {
        let (clean, epsilon) = (self.read(clean), self.read(epsilon));
        let ball =
            |i: usize| Ball { clean: &clean[i * elements..(i + 1) * elements], epsilon: epsilon[i], norm };
        (0..epsilon.len()).flat_map(|i| map(i, ball(i), self.params)).collect()
    }

    fn update(&mut self, op: &Op) {
        let params = self.params;
        match op {
            Op::Sgd(ops::Sgd { weights, gradients, momentum }) => {
                let (mut w, g, mut v) = (self.read(*weights), self.read(*gradients), self.read(*momentum));
                let friction = f64::from(params.momentum);
                for i in 0..w.len() {
                    let g = g[i] + f64::from(params.weight_decay) * w[i];
                    v[i] = friction * v[i] + g;
                    let step = if params.nesterov { g + friction * v[i] } else { v[i] };
                    w[i] -= f64::from(params.learning_rate) * step;
                }
                self.write(*weights, &w);
                self.write(*momentum, &v);
            }
            Op::Adam(ops::Adam { weights, gradients, first, second }) => {
                let (mut w, g) = (self.read(*weights), self.read(*gradients));
                let (mut m, mut v) = (self.read(*first), self.read(*second));
                let (b1, b2) = (f64::from(params.betas.0), f64::from(params.betas.1));
                let (rate, correction) = params.adam_scales();
                for i in 0..w.len() {
                    m[i] = b1 * m[i] + (1.0 - b1) * g[i];
                    v[i] = b2 * v[i] + (1.0 - b2) * g[i] * g[i];
                    w[i] -= rate * m[i] / (v[i].sqrt() * correction + f64::from(ADAM_EPSILON));
                }
                for (span, values) in [(*weights, &w), (*first, &m), (*second, &v)] {
                    self.write(span, values);
                }
            }
            Op::MovingAverage(ops::MovingAverage { weights, average }) if params.average_decay > 0.0 => {
                let d = f64::from(params.average_decay);
                let (w, old) = (self.read(*weights), self.read(*average));
                let values: Vec<f64> = old.iter().zip(&w).map(|(a, w)| d * a + (1.0 - d) * w).collect();
                self.write(*average, &values);
            }
            Op::Copy(ops::Copy { input, output, .. }) => {
                let values = self.read(*input);
                self.write(*output, &values);
            }
            _ => {}
        }
    }
}
