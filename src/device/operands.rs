//! Which spans an op reads and writes: what the engine's slot allocation and the devices' checks
//! both need to know.

use super::op::{Affine, Op, Prologue, Span};

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

type Visitor<'a> = &'a mut dyn FnMut(&mut Span, Access);

fn some(span: &mut Option<Span>, access: Access, visit: Visitor) {
    if let Some(span) = span {
        visit(span, access);
    }
}

fn affine(affine: &mut Affine, access: Access, visit: Visitor) {
    visit(&mut affine.scale, access);
    visit(&mut affine.shift, access);
}

fn prologue(prologue: &mut Prologue, visit: Visitor) {
    if let Some(map) = &mut prologue.affine {
        affine(map, Access::Read, visit);
    }
    some(&mut prologue.mask, Access::Write, visit);
}

impl Op {
    /// Calls `visit` with every span of the op.
    pub fn visit_spans(&mut self, visit: Visitor) {
        use Access::{Read, ReadInPlace, Write};
        match self {
            Op::NormAffine { gamma, beta, mean, variance, affine: map, .. } => {
                for span in [gamma, beta, mean, variance] {
                    visit(span, Read);
                }
                affine(map, Write, visit);
            }
            Op::LoadFilter { weights, scale, .. } => {
                visit(weights, Read);
                some(scale, Read, visit);
            }
            Op::Gather { indices, output, .. } => {
                visit(indices, Read);
                visit(output, Write);
            }
            Op::Conv { input, prologue: before, bias, residual, output, .. } => {
                visit(input, Read);
                prologue(before, visit);
                some(bias, Read, visit);
                some(residual, ReadInPlace, visit);
                visit(output, Write);
            }
            Op::ConvDgrad { gradient, add, mask, scale, residual, output, .. } => {
                visit(gradient, Read);
                some(add, ReadInPlace, visit);
                some(mask, Read, visit);
                some(scale, Read, visit);
                some(residual, ReadInPlace, visit);
                visit(output, Write);
            }
            Op::ConvWgrad { input, prologue: before, gradient, weight_gradient, .. } => {
                visit(input, Read);
                prologue(before, visit);
                visit(gradient, Read);
                visit(weight_gradient, Write);
            }
            Op::NormStatistics {
                input,
                gamma,
                beta,
                running_mean,
                running_variance,
                mean,
                inverse_std,
                affine: map,
                ..
            } => {
                for span in [input, gamma, beta] {
                    visit(span, Read);
                }
                for span in [running_mean, running_variance, mean, inverse_std] {
                    visit(span, Write);
                }
                affine(map, Write, visit);
            }
            Op::NormDgrad {
                input,
                gamma,
                mean,
                inverse_std,
                affine: map,
                gradient,
                residual,
                output,
                gamma_gradient,
                beta_gradient,
                ..
            } => {
                for span in [input, gamma, mean, inverse_std] {
                    visit(span, Read);
                }
                affine(map, Read, visit);
                visit(gradient, ReadInPlace);
                some(residual, ReadInPlace, visit);
                for span in [output, gamma_gradient, beta_gradient] {
                    visit(span, Write);
                }
            }
            Op::Pool { input, output, .. } | Op::Copy { input, output, .. } => {
                visit(input, Read);
                visit(output, Write);
            }
            Op::PoolDgrad { gradient, output, .. } => {
                visit(gradient, Read);
                visit(output, Write);
            }
            Op::Linear { weight, bias, input, output, .. } => {
                for span in [weight, bias, input] {
                    visit(span, Read);
                }
                visit(output, Write);
            }
            Op::LinearDgrad { weight, gradient, output, .. } => {
                visit(weight, Read);
                visit(gradient, Read);
                visit(output, Write);
            }
            Op::LinearWgrad { input, gradient, weight_gradient, bias_gradient, .. } => {
                visit(input, Read);
                visit(gradient, Read);
                visit(weight_gradient, Write);
                visit(bias_gradient, Write);
            }
            Op::SoftmaxCrossEntropy { logits, labels, teacher, loss, gradient, .. } => {
                visit(logits, Read);
                visit(labels, Read);
                some(teacher, Read, visit);
                visit(loss, Write);
                some(gradient, Write, visit);
            }
            Op::Cosine { logits, reference, score, .. } => {
                visit(logits, Read);
                visit(reference, Read);
                visit(score, Write);
            }
            Op::PgdStart { clean, indices, epsilon, adversarial, .. } => {
                for span in [clean, indices, epsilon] {
                    visit(span, Read);
                }
                visit(adversarial, Write);
            }
            Op::PgdStep { clean, gradient, epsilon, alpha, adversarial, .. } => {
                for span in [clean, gradient, epsilon, alpha] {
                    visit(span, Read);
                }
                visit(adversarial, Write);
            }
            Op::Sgd { weights, gradients, momentum } => {
                visit(gradients, Read);
                visit(weights, Write);
                visit(momentum, Write);
            }
            Op::MovingAverage { weights, average } => {
                visit(weights, Read);
                visit(average, Write);
            }
        }
    }
}
