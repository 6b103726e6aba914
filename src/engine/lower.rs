//! Lowering: a graph becomes flat lists of ops, in four modes.
//!
//! - **Infer**: batch norm as an affine map, folded into the convolution before it where that is
//!   exact (the convolution feeds nothing else), else applied while the next convolution reads its
//!   input. Nothing is kept.
//! - **Attack**: the same forward, keeping one-bit ReLU masks, then backward to the input only.
//! - **Activation gradients**: attack from a label's logit, with taps at inner convolutions; backward ends at the last.
//! - **Train**: batch statistics and all gradients. Only the inputs of the norms are kept; what the
//!   ReLUs let through is computed again where a weight gradient needs it.
//!
//! A node's value is *lazy*: a slot that holds a tensor, plus the affine map and ReLU that its
//! readers apply while they read it. That is where norms and ReLUs go: none has an op of its own in the
//! forward pass. A convolution whose only reader is a sum adds the other addend itself, if nothing is
//! left to be done to either; else the sum is an op of its own that does it. A ReLU in front of the mean
//! over pixels, or of a linear layer, is applied by max pooling over single pixels, which knows the way back.

use super::arena::Slots;
use super::graph::{Graph, Layer, NORM_EPSILON, Node, NodeId, unsupported};
use super::programs::Statistics;
use super::shared::{Shared, weights_span};
use crate::device::ops;
use crate::device::{Addend, Affine, Direction, Op, PoolShape, Prologue, Span, mask_words};
use crate::error::Result;

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Forward with running statistics.
    Infer,
    /// Forward and gradient to the input, running statistics.
    Attack,
    /// Forward with batch statistics, gradients of all parameters.
    Train,
}

/// A tensor in memory and what its readers still have to do to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LazyTensor {
    /// The node whose output `span` holds.
    pub base: NodeId,
    pub span: Span,
    pub affine: Option<Affine>,
    pub relu: bool,
    /// The batch norm among the pending work, for its backward pass.
    pub norm: Option<NodeId>,
    pub mask: Option<Span>,
}

impl LazyTensor {
    /// A tensor with nothing left to be applied.
    pub fn plain(base: NodeId, span: Span) -> Self {
        LazyTensor { base, span, affine: None, relu: false, norm: None, mask: None }
    }
}

/// A forward op that the backward pass has to undo.
pub(super) enum TapeEntry {
    Conv {
        node: NodeId,
        residual: Option<NodeId>,
        output: NodeId,
    },
    Sum {
        node: NodeId,
    },
    /// Windows over `input`; `output` is the node whose tensor is written.
    MaxPool {
        input: LazyTensor,
        output: NodeId,
        shape: PoolShape,
        argmax: Span,
    },
    Pool {
        node: NodeId,
    },
    AdaptivePool {
        node: NodeId,
        side: usize,
    },
    Linear {
        node: NodeId,
    },
    Upsample {
        node: NodeId,
    },
    ScaledTanh {
        node: NodeId,
    },
}

/// One program being made.
pub struct Lowering<'a> {
    pub(super) graph: &'a Graph,
    pub(super) shared: &'a Shared,
    pub(super) pass: Pass,
    /// What training does to the running statistics.
    pub(super) statistics: Statistics,
    /// Whether the gradient of the image is wanted.
    pub(super) input_gradient: bool,
    pub(super) slots: Slots,
    pub(super) ops: Vec<Op>,
    pub(super) values: Vec<Option<LazyTensor>>,
    pub(super) tape: Vec<TapeEntry>,
    /// Convolutions whose output's gradient is wanted, mean over pixels, and where. If there are any, the backward pass
    /// ends with the last of them.
    pub(super) taps: Vec<(NodeId, Span)>,
    /// Tensors that are wanted, and where.
    pub(super) maps: Vec<(NodeId, Span)>,
    /// Gradients that are added to those of these tensors.
    pub(super) added: Vec<(NodeId, Span)>,
}

impl<'a> Lowering<'a> {
    /// Starts an empty program.
    pub fn new(graph: &'a Graph, shared: &'a Shared, pass: Pass) -> Self {
        let values = vec![None; graph.nodes.len()];
        Self {
            graph,
            shared,
            pass,
            statistics: Statistics::Move,
            input_gradient: pass == Pass::Attack,
            slots: Slots::default(),
            ops: vec![],
            values,
            tape: vec![],
            taps: vec![],
            maps: vec![],
            added: vec![],
        }
    }

    /// The forward ops from `image` (pixels in [0, 1]) to a classifier's features, and to what the last
    /// node gives: logits, or an image.
    pub fn forward(&mut self, image: Span, features: Option<Span>, output: Span) -> Result<()> {
        self.values[0] = Some(LazyTensor::plain(0, image));
        for node in 1..self.graph.nodes.len() {
            if self.values[node].is_some() {
                continue;
            }
            let from = self.graph.nodes[node].inputs[0];
            let value = match &self.graph.nodes[node].layer {
                Layer::Input => return Err(unsupported(node, "a second input")),
                Layer::Normalise { .. } => {
                    LazyTensor { affine: Some(self.shared.constants(node)?), ..self.plain(from)? }
                }
                Layer::Conv { .. } => self.conv(node)?,
                Layer::Norm { .. } => self.norm(node)?,
                Layer::Relu => self.relu(node)?,
                Layer::Add => self.sum(node)?,
                Layer::MaxPool { shape } => self.max_pool(from, node, *shape)?,
                Layer::Upsample => self.upsample(node)?,
                Layer::ScaledTanh => self.scaled_tanh(node, output)?,
                Layer::Pool => match features {
                    Some(features) => self.pool(node, features)?,
                    None => return Err(unsupported(node, "pooling where no features are wanted")),
                },
                Layer::AdaptivePool { side } => self.adaptive_pool(node, *side)?,
                Layer::Linear { .. } => self.linear(node, output)?,
            };
            self.values[node] = Some(value);
            self.copy_maps()?;
        }
        Ok(())
    }

    /// Stores the wanted tensors that are there by now.
    fn copy_maps(&mut self) -> Result<()> {
        let made = |map: &(NodeId, Span)| self.values[map.0].is_some();
        let (made, rest): (Vec<_>, _) = std::mem::take(&mut self.maps).into_iter().partition(made);
        self.maps = rest;
        for (node, output) in made {
            let input = self.plain(node)?.span;
            self.ops.push(Op::Copy(ops::Copy { elements: output.len, input, output }));
        }
        Ok(())
    }

    pub(super) fn value(&self, node: NodeId) -> Result<LazyTensor> {
        self.values[node].ok_or_else(|| unsupported(node, "a value used before it is made"))
    }

    /// A value with nothing left to be applied.
    fn plain(&self, node: NodeId) -> Result<LazyTensor> {
        let value = self.value(node)?;
        match value.affine.is_some() || value.relu {
            true => Err(unsupported(node, "work left to a reader that can't do it")),
            false => Ok(value),
        }
    }

    fn norm(&mut self, node: NodeId) -> Result<LazyTensor> {
        let from = self.graph.nodes[node].inputs[0];
        let value = self.plain(from)?;
        if self.pass != Pass::Train && self.shared.folded(from) == Some(node) {
            return Ok(value);
        }
        if self.pass == Pass::Train {
            let Layer::Norm { gamma, beta, mean, variance } = &self.graph.nodes[node].layer else {
                return Err(unsupported(node, "not a norm"));
            };
            let batch = self.shared.norm(node)?;
            self.ops.push(Op::BatchNormStats(ops::BatchNormStats {
                pixels: self.graph.nodes[from].pixels(),
                channels: self.graph.nodes[from].channels,
                input: value.span,
                gamma: weights_span(gamma),
                beta: weights_span(beta),
                momentum: match self.statistics {
                    Statistics::Move => self.graph.norm_momentum,
                    Statistics::Keep => 0.0,
                },
                epsilon: NORM_EPSILON,
                running_mean: weights_span(mean),
                running_variance: weights_span(variance),
                mean: batch.mean,
                inverse_std: batch.inverse_std,
                affine: batch.affine,
            }));
        }
        Ok(LazyTensor { affine: Some(self.shared.norm(node)?.affine), norm: Some(node), ..value })
    }

    fn relu(&mut self, node: NodeId) -> Result<LazyTensor> {
        let mut value = self.value(self.graph.nodes[node].inputs[0])?;
        // In training the backward pass of a norm looks at the norm's input again. The bits are written by
        // the ReLU's first reader, which has to be a convolution.
        let by_norm = self.pass == Pass::Train && value.norm.is_some();
        let readers = self.graph.consumers(node);
        let masked =
            readers.first().is_some_and(|&first| matches!(self.graph.nodes[first].layer, Layer::Conv { .. }));
        if self.pass != Pass::Infer && masked && !by_norm {
            let shape = &self.graph.nodes[value.base];
            value.mask = Some(self.slots.add(mask_words(shape.pixels(), shape.channels)));
        }
        value.relu = true;
        Ok(value)
    }

    fn conv(&mut self, node: NodeId) -> Result<LazyTensor> {
        let Layer::Conv { shape, bias, .. } = &self.graph.nodes[node].layer else {
            return Err(unsupported(node, "not a convolution"));
        };
        let shape = *shape;
        if bias.is_some() && self.shared.folded(node).is_none() {
            return Err(unsupported(node, "a bias that no norm takes out again"));
        }
        let source = self.graph.nodes[node].inputs[0];
        let input = self.value(source)?;
        let (output, residual) = self.fused_sum(node);
        let span = self.slots.add(shape.output_len());
        // Two convolutions may read one ReLU: the first writes the mask for both.
        let first_reader = self.graph.consumers(source)[0] == node;
        self.ops.push(Op::Conv(ops::Conv {
            shape,
            filter: self.shared.filter(node, Direction::Fprop)?,
            input: input.span,
            prologue: Prologue {
                affine: input.affine,
                relu: input.relu,
                mask: input.mask.filter(|_| first_reader),
            },
            bias: match self.pass {
                Pass::Train => bias.as_ref().map(weights_span),
                _ => self.shared.folded_bias(node),
            },
            residual: residual.map(|other| self.value(other).map(|value| value.span)).transpose()?,
            output: span,
        }));
        self.tape.push(TapeEntry::Conv { node, residual, output });
        let value = LazyTensor::plain(output, span);
        self.values[output] = Some(value);
        Ok(value)
    }

    /// Where this convolution's only reader is a sum whose other addend is there: that sum and
    /// that addend.
    fn fused_sum(&self, node: NodeId) -> (NodeId, Option<NodeId>) {
        // A norm in between is no obstacle where it is folded into the convolution.
        let addend = self.shared.folded(node).filter(|_| self.pass != Pass::Train).unwrap_or(node);
        let [sum] = self.graph.consumers(addend)[..] else {
            return (node, None);
        };
        let consumer = &self.graph.nodes[sum];
        if !matches!(consumer.layer, Layer::Add) {
            return (node, None);
        }
        let other = consumer.inputs.iter().copied().find(|&input| input != addend);
        match other.filter(|&other| self.plain(other).is_ok()) {
            Some(other) => (sum, Some(other)),
            None => (node, None),
        }
    }

    /// Two tensors with whatever is left to be done to either.
    fn sum(&mut self, node: NodeId) -> Result<LazyTensor> {
        let [left, right] = self.graph.nodes[node].inputs[..] else {
            return Err(unsupported(node, "a sum that isn't of two"));
        };
        let addend = |value: LazyTensor| Addend {
            input: value.span,
            prologue: Prologue { affine: value.affine, relu: value.relu, mask: None },
        };
        let (left, right) = (addend(self.value(left)?), addend(self.value(right)?));
        let shape = &self.graph.nodes[node];
        let output = self.slots.add(shape.len());
        self.ops.push(Op::Add(ops::Add {
            pixels: shape.pixels(),
            channels: shape.channels,
            left,
            right,
            output,
        }));
        self.tape.push(TapeEntry::Sum { node });
        Ok(LazyTensor::plain(node, output))
    }

    /// Windows over the value of `from` as the tensor of `node`. Keeps which pixel won each window, where
    /// there is a backward pass: with the ReLU's bit in it, that is all it needs. So no other reader may
    /// count on this one for the ReLU's mask.
    fn max_pool(&mut self, from: NodeId, node: NodeId, shape: PoolShape) -> Result<LazyTensor> {
        let input = self.value(from)?;
        let argmax = match self.pass {
            Pass::Infer => None,
            _ if self.graph.consumers(from).len() > 1 => {
                return Err(unsupported(node, "a second reader of what is max-pooled"));
            }
            _ => Some(self.slots.add(shape.argmax_words())),
        };
        let output = self.slots.add(shape.output_len());
        self.ops.push(Op::MaxPool(ops::MaxPool {
            shape,
            input: input.span,
            prologue: Prologue { affine: input.affine, relu: input.relu, mask: None },
            output,
            argmax,
        }));
        if let Some(argmax) = argmax {
            self.tape.push(TapeEntry::MaxPool { input, output: node, shape, argmax });
        }
        Ok(LazyTensor::plain(node, output))
    }

    fn upsample(&mut self, node: NodeId) -> Result<LazyTensor> {
        let from = self.graph.nodes[node].inputs[0];
        let (input, shape) = (self.value(from)?, &self.graph.nodes[from]);
        if self.pass == Pass::Attack {
            return Err(unsupported(node, "an attack through upsampling"));
        }
        let span = self.slots.add(self.graph.nodes[node].len());
        self.ops.push(Op::Upsample(ops::Upsample {
            height: shape.height,
            width: shape.width,
            channels: shape.channels,
            input: input.span,
            prologue: Prologue { affine: input.affine, relu: input.relu, mask: None },
            output: span,
        }));
        self.tape.push(TapeEntry::Upsample { node });
        Ok(LazyTensor::plain(node, span))
    }

    fn scaled_tanh(&mut self, node: NodeId, output: Span) -> Result<LazyTensor> {
        let from = self.graph.nodes[node].inputs[0];
        let (input, shape) = (self.value(from)?, &self.graph.nodes[from]);
        if input.relu {
            return Err(unsupported(node, "tanh after a ReLU"));
        }
        let last = node + 1 == self.graph.nodes.len();
        let span = if last { output } else { self.slots.add(shape.len()) };
        self.ops.push(Op::ScaledTanh(ops::ScaledTanh {
            pixels: shape.pixels(),
            channels: shape.channels,
            input: input.span,
            affine: input.affine,
            output: span,
        }));
        self.tape.push(TapeEntry::ScaledTanh { node });
        Ok(LazyTensor::plain(node, span))
    }

    fn pool(&mut self, node: NodeId, features: Span) -> Result<LazyTensor> {
        let from = self.graph.nodes[node].inputs[0];
        let input = self.applied(from)?;
        let from = &self.graph.nodes[from];
        self.ops.push(Op::GlobalAvgPool(ops::GlobalAvgPool {
            pixels: from.pixels(),
            channels: from.channels,
            input: input.span,
            output: features,
        }));
        self.tape.push(TapeEntry::Pool { node });
        Ok(LazyTensor { base: node, span: features, ..input })
    }

    /// The value of a node with nothing left to be done: a pending norm and ReLU are applied by max pooling over
    /// single pixels.
    fn applied(&mut self, node: NodeId) -> Result<LazyTensor> {
        if self.plain(node).is_err() {
            let &Node { height, width, channels, .. } = &self.graph.nodes[node];
            let single = PoolShape { height, width, channels, kernel: 1, stride: 1, pad: 0 };
            self.values[node] = Some(self.max_pool(node, node, single)?);
        }
        self.plain(node)
    }

    fn adaptive_pool(&mut self, node: NodeId, side: usize) -> Result<LazyTensor> {
        let from = self.graph.nodes[node].inputs[0];
        let input = self.applied(from)?;
        let &Node { height, width, channels, .. } = &self.graph.nodes[from];
        let output = self.slots.add(self.graph.nodes[node].len());
        let input = input.span;
        self.ops.push(Op::AdaptiveAvgPool(ops::AdaptiveAvgPool {
            height,
            width,
            channels,
            side,
            input,
            output,
        }));
        self.tape.push(TapeEntry::AdaptivePool { node, side });
        Ok(LazyTensor::plain(node, output))
    }

    fn linear(&mut self, node: NodeId, logits: Span) -> Result<LazyTensor> {
        let from = self.graph.nodes[node].inputs[0];
        let input = self.applied(from)?;
        let last = node + 1 == self.graph.nodes.len();
        let output = if last { logits } else { self.slots.add(self.graph.nodes[node].len()) };
        let Layer::Linear { weight, bias } = &self.graph.nodes[node].layer else {
            return Err(unsupported(node, "not linear"));
        };
        self.ops.push(Op::Linear(ops::Linear {
            inputs: input.span.len,
            outputs: bias.len(),
            weight: weights_span(weight),
            bias: weights_span(bias),
            input: input.span,
            output,
        }));
        self.tape.push(TapeEntry::Linear { node });
        Ok(LazyTensor::plain(node, output))
    }
}
