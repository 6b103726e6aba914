//! The linear layer, the loss and the score.

use super::interpret::{Interpret, SliceContext};
use crate::device::ops::{CosineSimilarity, CrossEntropy, Linear, LinearDgrad, LinearWgrad};
use crate::error::{Error, Result};

/// weight (outputs × inputs) · input + bias.
pub fn linear(weight: &[f64], bias: &[f64], input: &[f64]) -> Vec<f64> {
    let inputs = weight.len() / bias.len();
    let images = input.chunks_exact(inputs);
    images
        .flat_map(|image| weight.chunks_exact(inputs).zip(bias).map(move |(row, b)| product(row, image) + b))
        .collect()
}

/// weightᵀ · gradient.
pub fn linear_dgrad(inputs: usize, weight: &[f64], gradient: &[f64]) -> Vec<f64> {
    let outputs = weight.len() / inputs;
    let images = gradient.chunks_exact(outputs);
    images
        .flat_map(|g| (0..inputs).map(move |i| (0..outputs).map(|k| weight[k * inputs + i] * g[k]).sum()))
        .collect()
}

/// Gradients of weight and bias, summed over the images.
pub fn linear_wgrad(inputs: usize, outputs: usize, input: &[f64], gradient: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut weight, mut bias) = (vec![0.0; inputs * outputs], vec![0.0; outputs]);
    for (image, g) in input.chunks_exact(inputs).zip(gradient.chunks_exact(outputs)) {
        for k in 0..outputs {
            bias[k] += g[k];
            for i in 0..inputs {
                weight[k * inputs + i] += g[k] * image[i];
            }
        }
    }
    (weight, bias)
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// log softmax(logits / temperature).
pub fn log_softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|v| ((v - maximum) / temperature).exp()).sum();
    logits.iter().map(|v| (v - maximum) / temperature - sum.ln()).collect()
}

/// The distillation term: a teacher's logits, its weight w and temperature T.
#[derive(Clone, Copy)]
pub struct Distillation<'a> {
    pub teacher: &'a [f64],
    pub weight: f64,
    pub temperature: f64,
}

/// CE + w·T²·KL(softmax(teacher/T) ‖ softmax(logits/T)) of one image, and its gradient.
pub fn cross_entropy(logits: &[f64], label: usize, distillation: Option<Distillation>) -> (f64, Vec<f64>) {
    let own = log_softmax(logits, 1.0);
    let mut loss = -own[label];
    let mut gradient: Vec<f64> = own.iter().map(|l| l.exp()).collect();
    gradient[label] -= 1.0;
    if let Some(Distillation { teacher, weight, temperature }) = distillation {
        let (p, q) = (log_softmax(logits, temperature), log_softmax(teacher, temperature));
        for c in 0..logits.len() {
            loss += weight * temperature.powi(2) * q[c].exp() * (q[c] - p[c]);
            gradient[c] += weight * temperature * (p[c].exp() - q[c].exp());
        }
    }
    (loss, gradient)
}

/// Cosine of the angle between two rows; 0 where a norm is 0.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let norms = (product(a, a) * product(b, b)).sqrt();
    if norms > 0.0 { product(a, b) / norms } else { 0.0 }
}

impl Interpret for Linear {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let values = linear(&context.read(self.weight), &context.read(self.bias), &context.read(self.input));
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for LinearDgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let values = linear_dgrad(self.inputs, &context.read(self.weight), &context.read(self.gradient));
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for LinearWgrad {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let (input, gradient) = (context.read(self.input), context.read(self.gradient));
        let (weight, bias) = linear_wgrad(self.inputs, self.outputs, &input, &gradient);
        context.write(self.weight_gradient, &weight);
        context.write(self.bias_gradient, &bias);
        Ok(())
    }
}

impl Interpret for CrossEntropy {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let classes = self.classes;
        let (logits, labels) = (context.read(self.logits), context.words(self.labels));
        let weight = f64::from(context.params.distill_weight);
        let temperature = f64::from(context.params.temperature);
        let teacher = self.teacher.filter(|_| weight != 0.0).map(|teacher| context.read(teacher));
        let divisor = if self.mean { context.slice.count as f64 } else { 1.0 };
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for (i, row) in logits.chunks_exact(classes).enumerate() {
            let label = labels[i] as usize;
            if label >= classes {
                return Err(Error::run(format!("label {label} of {classes} classes")));
            }
            let distillation = teacher.as_ref().map(|teacher| {
                let teacher = &teacher[i * classes..(i + 1) * classes];
                Distillation { teacher, weight, temperature }
            });
            let (value, slope) = cross_entropy(row, label, distillation);
            losses.push(value);
            gradients.extend(slope.into_iter().map(|g| g / divisor));
        }
        context.write(self.loss, &losses);
        if let Some(gradient) = self.gradient {
            context.write(gradient, &gradients);
        }
        Ok(())
    }
}

impl Interpret for CosineSimilarity {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let (a, b) = (context.read(self.logits), context.read(self.reference));
        let rows = a.chunks_exact(self.classes).zip(b.chunks_exact(self.classes));
        let values: Vec<f64> = rows.map(|(a, b)| cosine(a, b)).collect();
        context.write(self.score, &values);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::reference::pool::{average_pool, average_pool_dgrad};
    use crate::device::reference::tests::{difference, draw};

    #[test]
    fn loss_gradients_are_derivatives() {
        for classes in [1, 2, 10, 200] {
            let (logits, teacher) = (draw(1, classes), draw(2, classes));
            let distillation = Distillation { teacher: &teacher, weight: 0.7, temperature: 2.5 };
            for distillation in [None, Some(distillation)] {
                let loss = |logits: &[f64]| cross_entropy(logits, classes / 2, distillation).0;
                difference(&logits, &cross_entropy(&logits, classes / 2, distillation).1, loss);
            }
        }
    }

    #[test]
    fn linear_and_pool_gradients_are_derivatives() {
        let (inputs, outputs, images, pixels) = (5, 3, 2, 4);
        let (weight, bias) = (draw(1, inputs * outputs), draw(2, outputs));
        let (input, seed) = (draw(3, images * pixels * inputs), draw(4, images * outputs));
        let loss = |weight: &[f64], bias: &[f64], input: &[f64]| {
            product(&linear(weight, bias, &average_pool(pixels, inputs, input)), &seed)
        };
        let pooled = average_pool(pixels, inputs, &input);
        let (weight_gradient, bias_gradient) = linear_wgrad(inputs, outputs, &pooled, &seed);
        let input_gradient = average_pool_dgrad(pixels, inputs, &linear_dgrad(inputs, &weight, &seed));
        difference(&weight, &weight_gradient, |weight| loss(weight, &bias, &input));
        difference(&bias, &bias_gradient, |bias| loss(&weight, bias, &input));
        difference(&input, &input_gradient, |input| loss(&weight, &bias, input));
    }
}
