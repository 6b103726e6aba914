//! The attack's start and step.

use super::interpret::{Interpret, SliceContext};
use crate::device::ops::{PgdStart, PgdStep};
use crate::device::{Norm, Span, StepParams};
use crate::error::Result;
use crate::rng::{Purpose, Stream, unit};

fn length(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The ball around one image.
#[derive(Clone, Copy)]
struct Ball<'a> {
    clean: &'a [f64],
    epsilon: f64,
    norm: Norm,
}

impl Ball<'_> {
    /// clean + offset, with the offset projected to the ball, clamped to [0, 1] where asked.
    fn project(&self, offset: &[f64], params: &StepParams) -> Vec<f64> {
        let length = length(offset);
        let map = |(x, r): (&f64, &f64)| {
            let r = match self.norm {
                Norm::Linf => r.clamp(-self.epsilon, self.epsilon),
                Norm::L2 if length > self.epsilon => r * self.epsilon / length,
                Norm::L2 => *r,
            };
            if params.clamp { (x + r).clamp(0.0, 1.0) } else { x + r }
        };
        self.clean.iter().zip(offset).map(map).collect()
    }

    /// A uniform draw from the cube of radius ε, projected.
    fn start(&self, index: u32, params: &StepParams) -> Vec<f64> {
        if !params.random_start {
            return self.clean.to_vec();
        }
        let stream = Stream::new(params.seed, Purpose::AttackStart, params.epoch);
        let draw = |i: usize| {
            let words = stream.words((u64::from(index) << 24) | (i / 4) as u64);
            self.epsilon * (2.0 * f64::from(unit(words[i % 4])) - 1.0)
        };
        let offset: Vec<f64> = (0..self.clean.len()).map(draw).collect();
        self.project(&offset, params)
    }

    /// A step of α along the gradient's direction, projected. Gradients are f32: one shorter than a
    /// normal number gives no direction.
    fn context(&self, adversarial: &[f64], gradient: &[f64], alpha: f64, params: &StepParams) -> Vec<f64> {
        let length = length(gradient);
        let direction = |g: f64| match self.norm {
            Norm::Linf => f64::from(g > 0.0) - f64::from(g < 0.0),
            Norm::L2 if length >= f64::from(f32::MIN_POSITIVE) => g / length,
            Norm::L2 => 0.0,
        };
        let offset: Vec<f64> = (0..self.clean.len())
            .map(|i| adversarial[i] + alpha * direction(gradient[i]) - self.clean[i])
            .collect();
        self.project(&offset, params)
    }
}

/// `map` of every image's ball, one after the other.
fn in_balls(
    context: &SliceContext,
    (elements, clean, epsilon, norm): (usize, Span, Span, Norm),
    map: impl Fn(usize, Ball) -> Vec<f64>,
) -> Vec<f64> {
    let (clean, epsilon) = (context.read(clean), context.read(epsilon));
    let ball = |i: usize| Ball { clean: &clean[i * elements..(i + 1) * elements], epsilon: epsilon[i], norm };
    (0..epsilon.len()).flat_map(|i| map(i, ball(i))).collect()
}

impl Interpret for PgdStart {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let indices = context.words(self.indices);
        let balls = (self.elements, self.clean, self.epsilon, self.norm);
        let values = in_balls(context, balls, |i, ball| ball.start(indices[i], context.params));
        context.write(self.adversarial, &values);
        Ok(())
    }
}

impl Interpret for PgdStep {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let (old, gradient) = (context.read(self.adversarial), context.read(self.gradient));
        let alpha = context.read(self.alpha);
        let balls = (self.elements, self.clean, self.epsilon, self.norm);
        let values = in_balls(context, balls, |i, ball| {
            let row = i * self.elements..(i + 1) * self.elements;
            ball.context(&old[row.clone()], &gradient[row], alpha[i], context.params)
        });
        context.write(self.adversarial, &values);
        Ok(())
    }
}
