//! The classifier's end: the linear layer, the loss, and the cosine score.

use rayon::prelude::*;

use super::execute::{Context, Execute};
use super::grain;
use super::simd::vectorised;
use crate::device::ops::{CosineSimilarity, CrossEntropy, Linear, LinearDgrad, LinearWgrad};
use crate::error::{Error, Result};

/// Images a task takes through the linear layer while a row of weights is in registers.
const GROUP: usize = 8;

impl Execute for Linear {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (weight, bias) = unsafe { (frame.input(self.weight), frame.input(self.bias)) };
        // SAFETY: as above.
        let (input, output) = unsafe { (frame.input(self.input), frame.output(self.output)) };
        output
            .par_chunks_mut(GROUP * self.outputs)
            .zip(input.par_chunks(GROUP * self.inputs))
            .with_min_len(grain(frame.threads))
            .for_each(|(output, input)| linear_group(weight, bias, input, output));
        Ok(())
    }
}

vectorised! {
    fn linear_group(weight: &[f32], bias: &[f32], input: &[f32], output: &mut [f32]) {
        let outputs = bias.len();
        let inputs = weight.len() / outputs;
        for (k, (row, b)) in weight.chunks_exact(inputs).zip(bias).enumerate() {
            for (image, values) in input.chunks_exact(inputs).zip(output.chunks_exact_mut(outputs)) {
                values[k] = dot(row, image) + b;
            }
        }
    }
}

/// Σ a·b over 32 interleaved sums.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 32];
    let (a, b) = (a.chunks_exact(32), b.chunks_exact(32));
    let rest = a.remainder().iter().zip(b.remainder());
    let mut tail = 0.0;
    for (x, y) in rest {
        tail += x * y;
    }
    for (x, y) in a.zip(b) {
        for l in 0..32 {
            sums[l] += x[l] * y[l];
        }
    }
    let mut width = 16;
    while width > 0 {
        for l in 0..width {
            sums[l] += sums[l + width];
        }
        width /= 2;
    }
    sums[0] + tail
}

/// output += factor · values.
#[inline(always)]
pub(super) fn add_scaled(output: &mut [f32], values: &[f32], factor: f32) {
    for (sum, value) in output.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

impl Execute for LinearDgrad {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (weight, gradient, output) =
            unsafe { (frame.input(self.weight), frame.input(self.gradient), frame.output(self.output)) };
        output
            .par_chunks_mut(self.inputs)
            .zip(gradient.par_chunks(self.outputs))
            .with_min_len(grain(frame.threads))
            .for_each(|(output, gradient)| linear_dgrad_image(weight, gradient, output));
        Ok(())
    }
}

vectorised! {
    fn linear_dgrad_image(weight: &[f32], gradient: &[f32], output: &mut [f32]) {
        output.fill(0.0);
        for (row, &g) in weight.chunks_exact(output.len()).zip(gradient) {
            add_scaled(output, row, g);
        }
    }
}

/// Images are summed in order.
impl Execute for LinearWgrad {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (input, gradient) = unsafe { (frame.input(self.input), frame.input(self.gradient)) };
        // SAFETY: as above.
        let (weight_gradient, bias_gradient) =
            unsafe { (frame.output(self.weight_gradient), frame.output(self.bias_gradient)) };
        weight_gradient
            .par_chunks_mut(self.inputs)
            .zip(bias_gradient.par_iter_mut())
            .enumerate()
            .with_min_len(grain(frame.threads))
            .for_each(|(k, (row, bias))| linear_wgrad_row(input, gradient, (k, self.outputs), row, bias));
        Ok(())
    }
}

vectorised! {
    /// Row k of as many as there are outputs.
    fn linear_wgrad_row(
        input: &[f32],
        gradient: &[f32],
        place: (usize, usize),
        row: &mut [f32],
        bias: &mut f32,
    ) {
        let (k, outputs) = place;
        row.fill(0.0);
        *bias = 0.0;
        for (image, gradient) in input.chunks_exact(row.len()).zip(gradient.chunks_exact(outputs)) {
            add_scaled(row, image, gradient[k]);
            *bias += gradient[k];
        }
    }
}

/// The loss's scalars.
#[derive(Clone, Copy)]
struct LossParams {
    /// Divides the gradient.
    divisor: f64,
    distill_weight: f64,
    temperature: f64,
}

/// In f64: the sums are short.
impl Execute for CrossEntropy {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let (frame, classes) = (context.frame, self.classes);
        let spec = LossParams {
            divisor: if self.mean { frame.count() as f64 } else { 1.0 },
            distill_weight: f64::from(frame.params.distill_weight),
            temperature: f64::from(frame.params.temperature),
        };
        // SAFETY: the operands were checked.
        let (logits, labels, loss) =
            unsafe { (frame.input(self.logits), frame.words(self.labels), frame.output(self.loss)) };
        // SAFETY: as above.
        let (teacher, gradient) = unsafe {
            let teacher = self.teacher.filter(|_| spec.distill_weight != 0.0);
            (teacher.map(|teacher| frame.input(teacher)), self.gradient.map(|span| frame.output(span)))
        };
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
            return Err(Error::run(format!("label {label} of {classes} classes")));
        }
        let row = |i: usize| i * classes..(i + 1) * classes;
        let one = |i: usize, gradient: &mut [f32]| -> f32 {
            let teacher = teacher.map(|teacher| &teacher[row(i)]);
            image_loss(spec, &logits[row(i)], labels[i] as usize, teacher, gradient) as f32
        };
        let losses = loss.par_iter_mut();
        match gradient {
            Some(gradient) => losses
                .zip(gradient.par_chunks_mut(classes))
                .enumerate()
                .with_min_len(grain(frame.threads))
                .for_each(|(i, (loss, gradient))| *loss = one(i, gradient)),
            None => losses
                .enumerate()
                .with_min_len(grain(frame.threads))
                .for_each(|(i, loss)| *loss = one(i, &mut [])),
        }
        Ok(())
    }
}

/// The loss of one image; `gradient` may be empty.
fn image_loss(
    spec: LossParams,
    logits: &[f32],
    label: usize,
    teacher: Option<&[f32]>,
    gradient: &mut [f32],
) -> f64 {
    let own = LogSoftmax::new(logits, 1.0);
    for (c, g) in gradient.iter_mut().enumerate() {
        let target = f64::from(u8::from(c == label));
        *g = ((own.at(logits[c]).exp() - target) / spec.divisor) as f32;
    }
    let mut loss = -own.at(logits[label]);
    if let Some(teacher) = teacher {
        let (temperature, weight) = (spec.temperature, spec.distill_weight);
        let soft = LogSoftmax::new(logits, temperature);
        let target = LogSoftmax::new(teacher, temperature);
        let mut divergence = 0.0;
        for c in 0..logits.len() {
            let (p, q) = (soft.at(logits[c]), target.at(teacher[c]));
            divergence += q.exp() * (q - p);
            if let Some(g) = gradient.get_mut(c) {
                *g += (weight * temperature * (p.exp() - q.exp()) / spec.divisor) as f32;
            }
        }
        loss += weight * temperature * temperature * divergence;
    }
    loss
}

/// log softmax(logits / T), by its maximum and the logarithm of the sum.
struct LogSoftmax {
    maximum: f64,
    log_sum: f64,
    temperature: f64,
}

impl LogSoftmax {
    fn new(logits: &[f32], temperature: f64) -> Self {
        let maximum = logits.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(f64::from(v))) / temperature;
        let sum: f64 = logits.iter().map(|&v| (f64::from(v) / temperature - maximum).exp()).sum();
        Self { maximum, log_sum: sum.ln(), temperature }
    }

    fn at(&self, logit: f32) -> f64 {
        f64::from(logit) / self.temperature - self.maximum - self.log_sum
    }
}

impl Execute for CosineSimilarity {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        let (logits, reference, scores) =
            unsafe { (frame.input(self.logits), frame.input(self.reference), frame.output(self.score)) };
        let rows = logits.chunks_exact(self.classes).zip(reference.chunks_exact(self.classes));
        for ((a, b), score) in rows.zip(scores) {
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
            };
            let norms = product(a, a).sqrt() * product(b, b).sqrt();
            *score = if norms > 0.0 { (product(a, b) / norms) as f32 } else { 0.0 };
        }
        Ok(())
    }
}
