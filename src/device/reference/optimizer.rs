//! Updates of the flat parameter buffer.

use super::interpret::{Interpret, Step};
use crate::device::ADAM_EPSILON;
use crate::device::ops::{Adam, MovingAverage, Sgd};
use crate::error::Result;

impl Interpret for Sgd {
    fn interpret(&self, step: &mut Step) -> Result<()> {
        let params = step.params;
        let (mut w, g, mut v) =
            (step.read(self.weights), step.read(self.gradients), step.read(self.momentum));
        let friction = f64::from(params.momentum);
        for i in 0..w.len() {
            let g = g[i] + f64::from(params.weight_decay) * w[i];
            v[i] = friction * v[i] + g;
            let direction = if params.nesterov { g + friction * v[i] } else { v[i] };
            w[i] -= f64::from(params.learning_rate) * direction;
        }
        step.write(self.weights, &w);
        step.write(self.momentum, &v);
        Ok(())
    }
}

impl Interpret for Adam {
    fn interpret(&self, step: &mut Step) -> Result<()> {
        let (mut w, g) = (step.read(self.weights), step.read(self.gradients));
        let (mut m, mut v) = (step.read(self.first), step.read(self.second));
        let (b1, b2) = (f64::from(step.params.betas.0), f64::from(step.params.betas.1));
        let (rate, correction) = step.params.adam_scales();
        for i in 0..w.len() {
            m[i] = b1 * m[i] + (1.0 - b1) * g[i];
            v[i] = b2 * v[i] + (1.0 - b2) * g[i] * g[i];
            w[i] -= rate * m[i] / (v[i].sqrt() * correction + f64::from(ADAM_EPSILON));
        }
        for (span, values) in [(self.weights, &w), (self.first, &m), (self.second, &v)] {
            step.write(span, values);
        }
        Ok(())
    }
}

impl Interpret for MovingAverage {
    fn interpret(&self, step: &mut Step) -> Result<()> {
        if step.params.average_decay > 0.0 {
            let d = f64::from(step.params.average_decay);
            let (w, old) = (step.read(self.weights), step.read(self.average));
            let values: Vec<f64> = old.iter().zip(&w).map(|(a, w)| d * a + (1.0 - d) * w).collect();
            step.write(self.average, &values);
        }
        Ok(())
    }
}
