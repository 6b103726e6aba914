//! Everything the engine computes for one network on one device, and its difference from another device's.

use crate::device::Norm;

/// A difference of cosine scores that rounding explains.
const TIE: f32 = 1e-5;

/// Everything the engine computes on one device.
pub struct NetworkOutputs {
    pub gradients: Vec<f32>,
    pub losses: Vec<f32>,
    /// Weights and average after the steps that a second run has.
    pub early: Vec<f32>,
    pub weights: Vec<f32>,
    pub average: Vec<f32>,
    pub logits: Vec<f32>,
    pub features: Vec<f32>,
    pub scores: Vec<f32>,
    /// Of every image's label, layer by layer.
    pub activation_gradients: Vec<f32>,
    /// Of one PGD step, per pixel.
    pub signs: Vec<f32>,
    /// Random starts.
    pub starts: Vec<f32>,
    /// PGD-7 examples.
    pub examples: Vec<f32>,
}

impl NetworkOutputs {
    /// Number of elements whose bits differ from those of a second run, which trains for fewer steps.
    pub fn unequal_bits(&self, again: &Self) -> f64 {
        let losses = &self.losses[..again.losses.len()];
        let lists = self.lists().into_iter().zip(again.lists());
        lists.map(|(one, other)| unequal_bits(one, other)).sum::<f64>() + unequal_bits(losses, &again.losses)
    }

    /// The error of each row; those of signs only for L∞ attacks.
    pub fn errors(&self, expected: &Self, norm: Norm) -> Vec<(&'static str, f64)> {
        let mut errors = vec![
            ("network: first gradients", relative(&self.gradients, &expected.gradients)),
            ("network: ten SGD losses", relative(&self.losses, &expected.losses)),
            ("network: weights after them", relative(&self.weights, &expected.weights)),
            ("network: weight average", relative(&self.average, &expected.average)),
            ("network: logits", relative(&self.logits, &expected.logits)),
            ("network: features", relative(&self.features, &expected.features)),
            ("network: cosine scores", relative(&self.scores, &expected.scores)),
            ("network: ranking, order", inversion(&self.scores, &expected.scores)),
            (
                "network: activation gradients",
                relative(&self.activation_gradients, &expected.activation_gradients),
            ),
        ];
        if norm == Norm::Linf {
            errors.push(("network: PGD signs, share", differing(&self.signs, &expected.signs, 0.0)));
            errors.push(("network: PGD-7, share", differing(&self.examples, &expected.examples, 1e-6)));
        }
        errors
    }

    /// What doesn't depend on the number of steps.
    fn lists(&self) -> [&[f32]; 9] {
        [
            &self.gradients,
            &self.early,
            &self.logits,
            &self.features,
            &self.scores,
            &self.activation_gradients,
            &self.signs,
            &self.starts,
            &self.examples,
        ]
    }
}

/// |found − expected| / |expected|, Euclidean.
fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let pairs = found.iter().zip(expected);
    let error = square(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let norm = square(&mut expected.iter().map(|&b| f64::from(b)));
    if norm > 0.0 { (error / norm).sqrt() } else { error.sqrt() }
}

/// The share of elements that differ by more than `tie`.
fn differing(found: &[f32], expected: &[f32], tie: f32) -> f64 {
    let differ =
        found.iter().zip(expected).filter(|&(&a, &b)| (a - b).is_nan() || (a - b).abs() > tie).count();
    differ as f64 / found.len().max(1) as f64
}

/// Elements with other bits.
pub fn unequal_bits(found: &[f32], expected: &[f32]) -> f64 {
    let differ = found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    (differ + found.len().abs_diff(expected.len())) as f64
}

/// The largest difference, beyond rounding, of expected scores that `found` has in the other order.
fn inversion(found: &[f32], expected: &[f32]) -> f64 {
    let mut worst: f64 = 0.0;
    for i in 0..found.len() {
        for j in 0..found.len() {
            let gap = expected[i] - expected[j];
            if gap > TIE && found[i] < found[j] {
                worst = worst.max(f64::from(gap));
            }
        }
    }
    worst
}
