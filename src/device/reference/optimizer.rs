//! Updates of the flat parameter buffer.

use super::interpret::{Interpret, SliceContext};
use crate::device::ADAM_EPSILON;
use crate::device::ops::{Adam, MovingAverage, Sgd};
use crate::error::Result;

impl Interpret for Sgd {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let params = context.params;
        let (mut w, g, mut v) =
            (context.read(self.weights), context.read(self.gradients), context.read(self.momentum));
        let friction = f64::from(params.momentum);
        for i in 0..w.len() {
            let g = g[i] + f64::from(params.weight_decay) * w[i];
            v[i] = friction * v[i] + g;
            let direction = if params.nesterov { g + friction * v[i] } else { v[i] };
            w[i] -= f64::from(params.learning_rate) * direction;
        }
        context.write(self.weights, &w);
        context.write(self.momentum, &v);
        Ok(())
    }
}

impl Interpret for Adam {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let (mut w, g) = (context.read(self.weights), context.read(self.gradients));
        let (mut m, mut v) = (context.read(self.first), context.read(self.second));
        let (b1, b2) = (f64::from(context.params.betas.0), f64::from(context.params.betas.1));
        let (rate, correction) = context.params.adam_scales();
        for i in 0..w.len() {
            m[i] = b1 * m[i] + (1.0 - b1) * g[i];
            v[i] = b2 * v[i] + (1.0 - b2) * g[i] * g[i];
            w[i] -= rate * m[i] / (v[i].sqrt() * correction + f64::from(ADAM_EPSILON));
        }
        for (span, values) in [(self.weights, &w), (self.first, &m), (self.second, &v)] {
            context.write(span, values);
        }
        Ok(())
    }
}

impl Interpret for MovingAverage {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        if context.params.average_decay > 0.0 {
            let d = f64::from(context.params.average_decay);
            let (w, old) = (context.read(self.weights), context.read(self.average));
            let values: Vec<f64> = old.iter().zip(&w).map(|(a, w)| d * a + (1.0 - d) * w).collect();
            context.write(self.average, &values);
        }
        Ok(())
    }
}
