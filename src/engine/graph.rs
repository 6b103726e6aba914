//! A network as a graph: layers in topological order, parameters as ranges of one flat buffer.

use std::ops::Range;

use crate::device::{ConvShape, PoolShape};
use crate::error::{Error, Result};

/// Batch norm's constants, PyTorch's defaults.
pub const NORM_EPSILON: f32 = 1e-5;
/// [`Graph::norm_momentum`] of most networks.
pub const NORM_MOMENTUM: f32 = 0.1;

/// [`Graph::activation_layers`] are at most so many.
const ACTIVATION_LAYERS: usize = 8;

/// A node of a [`Graph`], by position.
pub type NodeId = usize;

/// What a node computes. Ranges index [`crate::device::Region::Weights`].
#[derive(Clone, Debug)]
pub enum Layer {
    /// The image, pixels in [0, 1].
    Input,
    /// (x − mean) / std per channel.
    Normalise {
        /// Per channel.
        mean: Vec<f32>,
        /// Per channel.
        std: Vec<f32>,
    },
    /// Convolution.
    Conv {
        /// Sizes.
        shape: ConvShape,
        /// Filter, KCRS.
        weight: Range<usize>,
        /// Per output channel. A batch norm has to be the only reader: it takes the bias out again, so that the
        /// bias's gradient is zero.
        bias: Option<Range<usize>>,
    },
    /// Batch norm.
    Norm {
        /// Scale.
        gamma: Range<usize>,
        /// Shift.
        beta: Range<usize>,
        /// Running mean.
        mean: Range<usize>,
        /// Running variance.
        variance: Range<usize>,
    },
    /// max(0, ·).
    Relu,
    /// Sum of two nodes.
    Add,
    /// The largest of each window.
    MaxPool {
        /// Sizes.
        shape: PoolShape,
    },
    /// Twice the size, bilinearly, corners not aligned.
    Upsample,
    /// tanh(·) / (2 + 1e-7) + 1/2: pixels in (0, 1).
    ScaledTanh,
    /// Mean over pixels: the features.
    Pool,
    /// Means over windows that cut the image into `side` × `side` parts, channels first: PyTorch's
    /// `AdaptiveAvgPool2d(side)` and `flatten(1)`.
    AdaptivePool {
        /// Rows and columns.
        side: usize,
    },
    /// Fully connected; the last one gives the logits.
    Linear {
        /// out × in.
        weight: Range<usize>,
        /// out.
        bias: Range<usize>,
    },
}

/// A layer with where its inputs come from and the shape of its output.
#[derive(Clone, Debug)]
pub struct Node {
    /// The computation.
    pub layer: Layer,
    /// Earlier nodes.
    pub inputs: Vec<NodeId>,
    /// Output rows.
    pub height: usize,
    /// Output columns.
    pub width: usize,
    /// Output channels.
    pub channels: usize,
}

impl Node {
    /// Rows × columns.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
    /// Elements of one image's output.
    pub fn len(&self) -> usize {
        self.pixels() * self.channels
    }
    /// Whether the output has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A network: input first; last the linear layer of a classifier, or the squashed image of an image
/// network.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Topological order.
    pub nodes: Vec<Node>,
    /// Elements of `Weights` that SGD trains.
    pub trainable: usize,
    /// Elements of `Weights`.
    pub weights: usize,
    /// Weight of the newest batch in the running statistics.
    pub norm_momentum: f32,
}

impl Graph {
    /// A graph of one input node.
    pub fn new(height: usize, width: usize, channels: usize, trainable: usize, weights: usize) -> Self {
        let input = Node { layer: Layer::Input, inputs: vec![], height, width, channels };
        Self { nodes: vec![input], trainable, weights, norm_momentum: NORM_MOMENTUM }
    }

    /// Appends a layer; the output shape follows from the layer and its first input.
    pub fn push(&mut self, layer: Layer, inputs: &[NodeId]) -> NodeId {
        let from = &self.nodes[inputs[0]];
        let (height, width, channels) = match &layer {
            Layer::Conv { shape, .. } => (shape.out_height(), shape.out_width(), shape.out_channels),
            Layer::MaxPool { shape } => (shape.out_height(), shape.out_width(), shape.channels),
            Layer::Upsample => (2 * from.height, 2 * from.width, from.channels),
            Layer::Pool => (1, 1, from.channels),
            Layer::AdaptivePool { side } => (1, 1, side * side * from.channels),
            Layer::Linear { bias, .. } => (1, 1, bias.len()),
            Layer::Input
            | Layer::Normalise { .. }
            | Layer::Norm { .. }
            | Layer::Relu
            | Layer::Add
            | Layer::ScaledTanh => (from.height, from.width, from.channels),
        };
        self.nodes.push(Node { layer, inputs: inputs.to_vec(), height, width, channels });
        self.nodes.len() - 1
    }

    /// Appends a square convolution that keeps the size at stride 1.
    pub fn conv(
        &mut self,
        from: NodeId,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
    ) -> NodeId {
        let node = &self.nodes[from];
        let shape = ConvShape {
            height: node.height,
            width: node.width,
            in_channels: node.channels,
            out_channels,
            kernel,
            stride,
            pad: kernel / 2,
        };
        self.push(Layer::Conv { shape, weight, bias }, &[from])
    }

    /// Appends max pooling over square windows.
    pub fn max_pool(&mut self, from: NodeId, kernel: usize, stride: usize, pad: usize) -> NodeId {
        let &Node { height, width, channels, .. } = &self.nodes[from];
        let shape = PoolShape { height, width, channels, kernel, stride, pad };
        self.push(Layer::MaxPool { shape }, &[from])
    }

    /// Classes, the last node's channels.
    pub fn classes(&self) -> usize {
        self.nodes.last().map_or(0, |node| node.channels)
    }

    /// Features, the linear layer's inputs.
    pub fn features(&self) -> usize {
        self.nodes.last().map_or(0, |node| self.nodes[node.inputs[0]].channels)
    }

    /// Elements of what the last node gives for an image.
    pub fn output_len(&self) -> usize {
        self.nodes.last().map_or(0, Node::len)
    }

    /// Elements of an input image.
    pub fn image_len(&self) -> usize {
        self.nodes[0].len()
    }

    /// The nodes that read `node`.
    pub fn consumers(&self, node: NodeId) -> Vec<NodeId> {
        (node + 1..self.nodes.len()).filter(|&other| self.nodes[other].inputs.contains(&node)).collect()
    }

    /// The convolutions whose activation gradients are looked at: those of the second half, at most
    /// eight, evenly spaced. Left out are the last one, whose gradient hardly depends on the image, and
    /// those of shortcuts: their gradient is that of the convolution they are added to.
    pub fn activation_layers(&self) -> Vec<NodeId> {
        let conv = |node: NodeId| matches!(self.nodes[node].layer, Layer::Conv { .. });
        // A block's shortcut comes before the convolution that reads the same input.
        let shortcut = |node: NodeId| {
            (node + 1..self.nodes.len())
                .any(|other| conv(other) && self.nodes[other].inputs == self.nodes[node].inputs)
        };
        let main_path = |&node: &NodeId| conv(node) && !shortcut(node);
        let convs: Vec<NodeId> = (0..self.nodes.len()).filter(main_path).collect();
        let inner = &convs[convs.len() / 2..convs.len().saturating_sub(1).max(convs.len() / 2)];
        let count = inner.len().min(ACTIVATION_LAYERS);
        (0..count).map(|at| inner[at * inner.len() / count]).collect()
    }

    /// Weight and bias of the layer that gives the logits.
    pub fn head(&self) -> Result<(Range<usize>, Range<usize>)> {
        match self.nodes.last().map(|node| &node.layer) {
            Some(Layer::Linear { weight, bias }) => Ok((weight.clone(), bias.clone())),
            _ => Err(unsupported(self.nodes.len() - 1, "it ends without a linear layer")),
        }
    }

    /// Gamma and beta of every batch norm.
    pub fn norms(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let of = |node: &Node| match &node.layer {
            Layer::Norm { gamma, beta, .. } => Some((gamma.clone(), beta.clone())),
            _ => None,
        };
        self.nodes.iter().filter_map(of).collect()
    }

    /// Where feature maps are compared (NAD): the last sum or max pooling at each image size of more than one pixel, of
    /// the three last sizes. In ResNets these are the ends of their stages. The tensor of a sum is that before its ReLU.
    pub fn feature_maps(&self) -> Vec<NodeId> {
        let mut ends: Vec<NodeId> = vec![];
        for (id, node) in self.nodes.iter().enumerate() {
            if !matches!(node.layer, Layer::Add | Layer::MaxPool { .. }) || node.pixels() == 1 {
                continue;
            }
            let size = |id: &NodeId| (self.nodes[*id].height, self.nodes[*id].width);
            match ends.last_mut().filter(|last| size(last) == (node.height, node.width)) {
                Some(last) => *last = id,
                None => ends.push(id),
            }
        }
        ends.split_off(ends.len().saturating_sub(3))
    }

    /// Whether a ReLU reads the node, and nothing else.
    pub fn rectified(&self, node: NodeId) -> bool {
        let readers = self.consumers(node);
        !readers.is_empty() && readers.iter().all(|&reader| matches!(self.nodes[reader].layer, Layer::Relu))
    }

    /// Multiply-adds of one image's forward pass.
    pub fn multiply_adds(&self) -> usize {
        let cost = |node: &Node| match &node.layer {
            Layer::Conv { shape, .. } => shape.multiply_adds(),
            Layer::Linear { weight, .. } => weight.len(),
            _ => 0,
        };
        self.nodes.iter().map(cost).sum()
    }
}

/// A graph that the lowering has no rule for; `what` says which part.
pub(super) fn unsupported(node: NodeId, what: &str) -> Error {
    Error::run(format!("node {node} of the network can't be lowered: {what}"))
}
