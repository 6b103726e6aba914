//! Lowering, backward: each forward step emits the ops of its gradient, last step first.

use super::graph::{Layer, Node, NodeId, unsupported};
use super::lower::{LazyTensor, Lowering, Pass, TapeEntry};
use super::shared::{gradient_span, weights_span};
use crate::device::ops;
use crate::device::{Addend, ConvShape, Direction, Op, PoolShape, Prologue, Span};
use crate::error::Result;

/// Gradients known so far, by node.
struct Gradients {
    /// Of the tensor a node holds.
    tensor: Vec<Option<Span>>,
    /// Of what convolutions read of a node (after affine and ReLU), summed up so far.
    activated: Vec<Option<Span>>,
    /// Convolutions that have yet to add to `activated`.
    outstanding: Vec<usize>,
}

impl Lowering<'_> {
    /// The backward ops, from the gradient of what the last node gives; in the training pass parameter
    /// gradients are written. Returns the gradient of the image, where it is wanted.
    pub fn backward(&mut self, output_gradient: Span) -> Result<Option<Span>> {
        let count = self.graph.nodes.len();
        let mut gradients = Gradients {
            tensor: vec![None; count],
            activated: vec![None; count],
            outstanding: vec![0; count],
        };
        for step in &self.tape {
            if let TapeEntry::Conv { node, .. } = step {
                gradients.outstanding[self.graph.nodes[*node].inputs[0]] += 1;
            }
        }
        gradients.tensor[count - 1] = Some(output_gradient);
        let mut taps = self.taps.len();
        for step in std::mem::take(&mut self.tape).iter().rev() {
            if let TapeEntry::Conv { output: node, .. }
            | TapeEntry::Sum { node }
            | TapeEntry::MaxPool { output: node, .. } = *step
            {
                self.add_outer_gradient(node, &mut gradients)?;
            }
            match *step {
                TapeEntry::Linear { node } => self.linear_backward(node, &mut gradients)?,
                TapeEntry::Sum { node } => self.sum_backward(node, &mut gradients)?,
                TapeEntry::MaxPool { input, output, shape, argmax } => {
                    self.max_pool_backward(input, output, shape, argmax, &mut gradients)?;
                }
                TapeEntry::Upsample { node } => self.upsample_backward(node, &mut gradients)?,
                TapeEntry::ScaledTanh { node } => self.scaled_tanh_backward(node, &mut gradients)?,
                TapeEntry::Pool { node } => self.pool_backward(node, &mut gradients)?,
                TapeEntry::AdaptivePool { node, side } => {
                    self.adaptive_pool_backward(node, side, &mut gradients)?
                }
                TapeEntry::Conv { node, residual, output } => {
                    let gradient = known(&gradients, output)?;
                    if let Some(&(_, output)) = self.taps.iter().find(|(tapped, _)| *tapped == node) {
                        self.tap(node, gradient, output);
                        taps -= 1;
                        if taps == 0 {
                            return Ok(None);
                        }
                    }
                    if let Some(other) = residual {
                        self.pass_on(other, gradient, &mut gradients)?;
                    }
                    self.conv_backward(node, gradient, &mut gradients)?;
                }
            }
        }
        Ok(gradients.tensor[0])
    }

    /// Adds what comes from outside to the gradient of the tensor of `node`, which is complete.
    fn add_outer_gradient(&mut self, node: NodeId, gradients: &mut Gradients) -> Result<()> {
        let Some(&(_, outer)) = self.added.iter().find(|(added, _)| *added == node) else { return Ok(()) };
        let shape = &self.graph.nodes[node];
        let addend = |input| Addend { input, prologue: Prologue::default() };
        let output = self.slots.add(shape.len());
        self.ops.push(Op::Add(ops::Add {
            pixels: shape.pixels(),
            channels: shape.channels,
            left: addend(known(gradients, node)?),
            right: addend(outer),
            output,
        }));
        gradients.tensor[node] = Some(output);
        Ok(())
    }

    /// Stores the mean over pixels of the gradient of what a convolution writes.
    fn tap(&mut self, node: NodeId, gradient: Span, output: Span) {
        let shape = &self.graph.nodes[node];
        self.ops.push(Op::GlobalAvgPool(ops::GlobalAvgPool {
            pixels: shape.pixels(),
            channels: shape.channels,
            input: gradient,
            output,
        }));
    }

    fn linear_backward(&mut self, node: NodeId, gradients: &mut Gradients) -> Result<()> {
        let from = self.graph.nodes[node].inputs[0];
        let Layer::Linear { weight, bias } = &self.graph.nodes[node].layer else {
            return Err(unsupported(node, "not linear"));
        };
        let (inputs, outputs) = (self.graph.nodes[from].len(), bias.len());
        let gradient = known(gradients, node)?;
        if self.pass == Pass::Train {
            let input = self.value(from)?.span;
            self.ops.push(Op::LinearWgrad(ops::LinearWgrad {
                inputs,
                outputs,
                input,
                gradient,
                weight_gradient: gradient_span(weight),
                bias_gradient: gradient_span(bias),
            }));
        }
        let output = self.slots.add(inputs);
        self.ops.push(Op::LinearDgrad(ops::LinearDgrad {
            inputs,
            outputs,
            weight: weights_span(weight),
            gradient,
            output,
        }));
        gradients.tensor[from] = Some(output);
        Ok(())
    }

    /// A sum's gradient to the tensor that an addend without pending work is.
    fn pass_on(&self, addend: NodeId, gradient: Span, gradients: &mut Gradients) -> Result<()> {
        let tensor = &mut gradients.tensor[self.value(addend)?.base];
        match tensor.replace(gradient) {
            Some(_) => Err(unsupported(addend, "a second sum that reads the same tensor")),
            None => Ok(()),
        }
    }

    /// The sum's gradient to both: past a norm at once; to a ReLU together with the gradients of the
    /// convolutions that read it too, the last of which carries it further.
    fn sum_backward(&mut self, node: NodeId, gradients: &mut Gradients) -> Result<()> {
        let gradient = known(gradients, node)?;
        for &addend in &self.graph.nodes[node].inputs {
            let value = self.value(addend)?;
            if value.relu {
                if gradients.outstanding[addend] == 0 || gradients.activated[addend].is_some() {
                    return Err(unsupported(addend, "a ReLU read by no convolution but by sums"));
                }
                gradients.activated[addend] = Some(gradient);
                continue;
            }
            match value.norm.filter(|_| self.pass == Pass::Train) {
                Some(norm) => {
                    let residual = gradients.tensor[value.base];
                    gradients.tensor[value.base] = Some(self.norm_backward(norm, value, gradient, residual)?);
                }
                None if value.affine.is_some() => {
                    return Err(unsupported(addend, "a sum of a norm that isn't folded"));
                }
                None => self.pass_on(addend, gradient, gradients)?,
            }
        }
        Ok(())
    }

    fn max_pool_backward(
        &mut self,
        input: LazyTensor,
        output: NodeId,
        shape: PoolShape,
        argmax: Span,
        gradients: &mut Gradients,
    ) -> Result<()> {
        if self.pass == Pass::Train && input.base == 0 {
            return Ok(());
        }
        let gradient = known(gradients, output)?;
        let unpooled = self.slots.add(shape.input_len());
        self.ops.push(Op::MaxPoolDgrad(ops::MaxPoolDgrad { shape, gradient, argmax, output: unpooled }));
        if gradients.tensor[input.base].is_some() {
            return Err(unsupported(output, "a second reader of what is max-pooled"));
        }
        gradients.tensor[input.base] = Some(match input.norm.filter(|_| self.pass == Pass::Train) {
            Some(norm) => self.norm_backward(norm, input, unpooled, None)?,
            None if input.affine.is_some() => {
                return Err(unsupported(output, "max pooling of a norm that isn't folded"));
            }
            None => unpooled,
        });
        Ok(())
    }

    fn upsample_backward(&mut self, node: NodeId, gradients: &mut Gradients) -> Result<()> {
        let from = self.graph.nodes[node].inputs[0];
        let (value, shape) = (self.value(from)?, &self.graph.nodes[from]);
        if self.graph.consumers(from).len() > 1 {
            return Err(unsupported(node, "a second reader of what is upsampled"));
        }
        let output = self.slots.add(shape.len());
        self.ops.push(Op::UpsampleDgrad(ops::UpsampleDgrad {
            height: shape.height,
            width: shape.width,
            channels: shape.channels,
            gradient: known(gradients, node)?,
            output,
        }));
        gradients.tensor[value.base] = Some(match value.norm {
            Some(norm) => self.norm_backward(norm, value, output, None)?,
            None if value.affine.is_none() && !value.relu => output,
            None => return Err(unsupported(node, "upsampling after a ReLU without a norm")),
        });
        Ok(())
    }

    /// Through tanh and the affine map before it: a norm's backward pass, or its scale alone.
    fn scaled_tanh_backward(&mut self, node: NodeId, gradients: &mut Gradients) -> Result<()> {
        let from = self.graph.nodes[node].inputs[0];
        let (value, shape) = (self.value(from)?, &self.graph.nodes[from]);
        let output = self.slots.add(shape.len());
        self.ops.push(Op::ScaledTanhDgrad(ops::ScaledTanhDgrad {
            pixels: shape.pixels(),
            channels: shape.channels,
            input: value.span,
            affine: value.affine,
            gradient: known(gradients, node)?,
            scale: value.affine.filter(|_| value.norm.is_none()).map(|affine| affine.scale),
            output,
        }));
        gradients.tensor[value.base] = Some(match value.norm {
            Some(norm) => self.norm_backward(norm, value, output, None)?,
            None => output,
        });
        Ok(())
    }

    fn pool_backward(&mut self, node: NodeId, gradients: &mut Gradients) -> Result<()> {
        let from = self.graph.nodes[node].inputs[0];
        let shape = &self.graph.nodes[from];
        let output = self.slots.add(shape.len());
        self.ops.push(Op::GlobalAvgPoolDgrad(ops::GlobalAvgPoolDgrad {
            pixels: shape.pixels(),
            channels: shape.channels,
            gradient: known(gradients, node)?,
            output,
        }));
        gradients.tensor[self.value(from)?.base] = Some(output);
        Ok(())
    }

    fn adaptive_pool_backward(&mut self, node: NodeId, side: usize, gradients: &mut Gradients) -> Result<()> {
        let from = self.graph.nodes[node].inputs[0];
        let &Node { height, width, channels, .. } = &self.graph.nodes[from];
        let output = self.slots.add(height * width * channels);
        let gradient = known(gradients, node)?;
        self.ops.push(Op::AdaptiveAvgPoolDgrad(ops::AdaptiveAvgPoolDgrad {
            height,
            width,
            channels,
            side,
            gradient,
            output,
        }));
        gradients.tensor[self.value(from)?.base] = Some(output);
        Ok(())
    }

    fn conv_backward(&mut self, node: NodeId, gradient: Span, gradients: &mut Gradients) -> Result<()> {
        let Layer::Conv { shape, weight, .. } = &self.graph.nodes[node].layer else {
            return Err(unsupported(node, "not a convolution"));
        };
        let source = self.graph.nodes[node].inputs[0];
        let value = self.value(source)?;
        if self.pass == Pass::Train {
            self.ops.push(Op::ConvWgrad(ops::ConvWgrad {
                shape: *shape,
                input: value.span,
                prologue: Prologue { affine: value.affine, relu: value.relu, mask: None },
                gradient,
                weight_gradient: gradient_span(weight),
            }));
            if value.base == 0 && !self.input_gradient {
                return Ok(());
            }
        }
        gradients.outstanding[source] -= 1;
        let last = gradients.outstanding[source] == 0;
        self.dgrad(node, *shape, source, value, gradient, last, gradients)
    }

    /// The gradient of what `node` read: raw while other readers are outstanding; the last reader
    /// carries it through ReLU and affine map and adds what sums have passed on.
    #[allow(clippy::too_many_arguments)]
    fn dgrad(
        &mut self,
        node: NodeId,
        shape: ConvShape,
        source: NodeId,
        value: LazyTensor,
        gradient: Span,
        last: bool,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let batch_norm = value.norm.filter(|_| self.pass == Pass::Train);
        let through = last && batch_norm.is_none();
        if through && value.relu && value.mask.is_none() {
            return Err(unsupported(source, "a ReLU that no convolution reads first"));
        }
        let output = self.slots.add(shape.input_len());
        self.ops.push(Op::ConvDgrad(ops::ConvDgrad {
            shape,
            filter: self.shared.filter(node, Direction::Dgrad)?,
            gradient,
            add: gradients.activated[source],
            mask: value.mask.filter(|_| through),
            scale: value.affine.filter(|_| through).map(|affine| affine.scale),
            residual: gradients.tensor[value.base].filter(|_| through),
            output,
        }));
        if !last {
            gradients.activated[source] = Some(output);
            return Ok(());
        }
        gradients.tensor[value.base] = Some(match batch_norm {
            None => output,
            Some(norm) => self.norm_backward(norm, value, output, gradients.tensor[value.base])?,
        });
        Ok(())
    }

    fn norm_backward(
        &mut self,
        norm: NodeId,
        value: LazyTensor,
        gradient: Span,
        residual: Option<Span>,
    ) -> Result<Span> {
        let Layer::Norm { gamma, beta, .. } = &self.graph.nodes[norm].layer else {
            return Err(unsupported(norm, "not a norm"));
        };
        let shape = &self.graph.nodes[value.base];
        let batch = self.shared.norm(norm)?;
        let output = self.slots.add(gradient.len);
        self.ops.push(Op::BatchNormDgrad(ops::BatchNormDgrad {
            pixels: shape.pixels(),
            channels: shape.channels,
            input: value.span,
            gamma: weights_span(gamma),
            mean: batch.mean,
            inverse_std: batch.inverse_std,
            relu: value.relu.then_some(batch.affine),
            gradient,
            residual,
            output,
            gamma_gradient: gradient_span(gamma),
            beta_gradient: gradient_span(beta),
        }));
        Ok(output)
    }
}

fn known(gradients: &Gradients, node: NodeId) -> Result<Span> {
    gradients.tensor[node].ok_or_else(|| unsupported(node, "no gradient reaches it"))
}
