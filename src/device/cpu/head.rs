//! The classifier's end: pooling, the linear layer, the loss, and the cosine score.

use rayon::prelude::*;

use super::conv::Threads;
use super::grain;
use super::vectorised::vectorised;
use crate::error::{Error, Result};

/// Images a task takes through the linear layer while a row of weights is in registers.
const GROUP: usize = 8;

/// output (images × channels) = mean over pixels of input (images × pixels × channels).
pub(super) fn pool(pixels: usize, channels: usize, input: &[f32], output: &mut [f32], threads: Threads) {
    output
        .par_chunks_mut(channels)
        .zip(input.par_chunks(pixels * channels))
        .with_min_len(grain(threads))
        .for_each(|(output, image)| pool_image(image, output));
}

vectorised! {
    fn pool_image(image: &[f32], output: &mut [f32]) {
        let pixels = image.len() / output.len();
        output.fill(0.0);
        for pixel in image.chunks_exact(output.len()) {
            add_scaled(output, pixel, 1.0);
        }
        for value in output {
            *value /= pixels as f32;
        }
    }
}

/// output (images × pixels × channels) = gradient (images × channels) / pixels, on every pixel.
pub(super) fn pool_dgrad(
    pixels: usize,
    channels: usize,
    gradient: &[f32],
    output: &mut [f32],
    threads: Threads,
) {
    output
        .par_chunks_mut(pixels * channels)
        .zip(gradient.par_chunks(channels))
        .with_min_len(grain(threads))
        .for_each(|(image, gradient)| {
            let (first, rest) = image.split_at_mut(channels);
            for (value, g) in first.iter_mut().zip(gradient) {
                *value = g / pixels as f32;
            }
            rest.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(first));
        });
}

/// output (images × outputs) = weight (outputs × inputs) · input (images × inputs) + bias.
pub(super) fn linear(
    inputs: usize,
    weight: &[f32],
    bias: &[f32],
    input: &[f32],
    output: &mut [f32],
    threads: Threads,
) {
    let outputs = bias.len();
    output
        .par_chunks_mut(GROUP * outputs)
        .zip(input.par_chunks(GROUP * inputs))
        .with_min_len(grain(threads))
        .for_each(|(output, input)| linear_group(weight, bias, input, output));
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
fn add_scaled(output: &mut [f32], values: &[f32], factor: f32) {
    for (sum, value) in output.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// output (images × inputs) = weightᵀ · gradient (images × outputs).
pub(super) fn linear_dgrad(
    inputs: usize,
    weight: &[f32],
    gradient: &[f32],
    output: &mut [f32],
    threads: Threads,
) {
    let outputs = weight.len() / inputs;
    output
        .par_chunks_mut(inputs)
        .zip(gradient.par_chunks(outputs))
        .with_min_len(grain(threads))
        .for_each(|(output, gradient)| linear_dgrad_image(weight, gradient, output));
}

vectorised! {
    fn linear_dgrad_image(weight: &[f32], gradient: &[f32], output: &mut [f32]) {
        output.fill(0.0);
        for (row, &g) in weight.chunks_exact(output.len()).zip(gradient) {
            add_scaled(output, row, g);
        }
    }
}

/// weight_gradient (outputs × inputs) = Σ gradient ⊗ input, bias_gradient = Σ gradient, over images
/// in order.
pub(super) fn linear_wgrad(
    input: &[f32],
    gradient: &[f32],
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
    threads: Threads,
) {
    let outputs = bias_gradient.len();
    let inputs = weight_gradient.len() / outputs;
    weight_gradient
        .par_chunks_mut(inputs)
        .zip(bias_gradient.par_iter_mut())
        .enumerate()
        .with_min_len(grain(threads))
        .for_each(|(k, (row, bias))| linear_wgrad_row(input, gradient, (k, outputs), row, bias));
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
pub(super) struct Loss {
    pub classes: usize,
    /// Divides the gradient.
    pub divisor: f64,
    pub distill_weight: f64,
    pub temperature: f64,
}

/// loss = CE(logits, label) + w·T²·KL(softmax(teacher/T) ‖ softmax(logits/T)) per image, and the
/// gradient of their sum, over `divisor`. In f64: the sums are short.
///
/// # Errors
/// A label that is no class.
pub(super) fn cross_entropy(
    spec: Loss,
    logits: &[f32],
    labels: &[u32],
    teacher: Option<&[f32]>,
    loss: &mut [f32],
    gradient: Option<&mut [f32]>,
    threads: Threads,
) -> Result<()> {
    let classes = spec.classes;
    if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
        return Err(Error::run(format!("label {label} of {classes} classes")));
    }
    let row = |i: usize| i * classes..(i + 1) * classes;
    let teacher = teacher.filter(|_| spec.distill_weight != 0.0);
    let one = |i: usize, gradient: &mut [f32]| -> f32 {
        let teacher = teacher.map(|teacher| &teacher[row(i)]);
        image_loss(spec, &logits[row(i)], labels[i] as usize, teacher, gradient) as f32
    };
    match gradient {
        Some(gradient) => loss
            .par_iter_mut()
            .zip(gradient.par_chunks_mut(classes))
            .enumerate()
            .with_min_len(grain(threads))
            .for_each(|(i, (loss, gradient))| *loss = one(i, gradient)),
        None => loss
            .par_iter_mut()
            .enumerate()
            .with_min_len(grain(threads))
            .for_each(|(i, loss)| *loss = one(i, &mut [])),
    }
    Ok(())
}

/// The loss of one image; `gradient` may be empty.
fn image_loss(
    spec: Loss,
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

/// score = cosine between the rows, 0 where a norm is 0.
pub(super) fn cosine(classes: usize, logits: &[f32], reference: &[f32], score: &mut [f32]) {
    for ((a, b), score) in logits.chunks_exact(classes).zip(reference.chunks_exact(classes)).zip(score) {
        let product = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
        };
        let norms = product(a, a).sqrt() * product(b, b).sqrt();
        *score = if norms > 0.0 { (product(a, b) / norms) as f32 } else { 0.0 };
    }
}
