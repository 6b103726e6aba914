//! What all programs of a network share: filters, derived scales and shifts, constants, and the
//! ops that prepare them when the weights have changed.

use crate::device::ops;
use std::ops::Range;

use super::graph::{Graph, Layer, NORM_EPSILON, NodeId, unsupported};
use crate::device::{Affine, Direction, FilterId, FilterSpec, Op, Region, Span};
use crate::error::Result;

/// Where a norm's numbers are.
#[derive(Clone, Copy, Debug)]
pub struct NormSpans {
    /// Scale and shift (running or batch statistics, by mode).
    pub affine: Affine,
    /// Batch mean.
    pub mean: Span,
    /// 1 / sqrt(batch variance + epsilon).
    pub inverse_std: Span,
    /// Where the norm follows a convolution with bias: 1, and the running mean without that bias.
    unbiased: Option<Affine>,
}

/// Tables by node.
#[derive(Debug)]
pub struct Shared {
    /// All filters of all programs.
    pub filters: Vec<FilterSpec>,
    /// Elements of `Region::Derived`.
    pub derived: usize,
    /// What the host writes into `Derived` once.
    pub constants: Vec<(Span, Vec<f32>)>,
    filter_of: Vec<[Option<FilterId>; 2]>,
    norms: Vec<Option<NormSpans>>,
    normalise: Vec<Option<Affine>>,
    folds: Vec<Option<NodeId>>,
    /// As many ones as the widest bias has elements.
    ones: Option<Span>,
}

/// A range of the flat weights as a span.
pub fn weights_span(range: &Range<usize>) -> Span {
    Span { region: Region::Weights, offset: range.start, len: range.len() }
}

/// The same range in the gradients.
pub fn gradient_span(range: &Range<usize>) -> Span {
    Span { region: Region::Gradients, ..weights_span(range) }
}

impl Shared {
    /// Lays out everything the graph needs; dgrad filters only where `backward`.
    pub fn new(graph: &Graph, backward: bool) -> Self {
        let count = graph.nodes.len();
        let bias = |node: NodeId| match &graph.nodes[node].layer {
            Layer::Conv { bias, .. } => bias.clone(),
            _ => None,
        };
        let widest = (0..count).filter_map(bias).map(|bias| bias.len()).max();
        let mut shared = Shared {
            filters: vec![],
            derived: 0,
            constants: vec![],
            filter_of: vec![[None; 2]; count],
            norms: vec![None; count],
            normalise: vec![None; count],
            folds: vec![None; count],
            ones: None,
        };
        if let Some(len) = widest {
            let ones = shared.derive(len);
            shared.constants.push((ones, vec![1.0; len]));
            shared.ones = Some(ones);
        }
        for (id, node) in graph.nodes.iter().enumerate() {
            match &node.layer {
                Layer::Conv { shape, .. } => {
                    for direction in [Direction::Fprop, Direction::Dgrad] {
                        if direction == Direction::Fprop || backward {
                            let filter = FilterId(shared.filters.len());
                            shared.filter_of[id][direction as usize] = Some(filter);
                            shared.filters.push(FilterSpec { shape: *shape, direction });
                        }
                    }
                    shared.folds[id] = only_norm(graph, id);
                }
                Layer::Norm { gamma, .. } => {
                    let mut next = || shared.derive(gamma.len());
                    let affine = Affine { scale: next(), shift: next() };
                    let (mean, inverse_std) = (next(), next());
                    let unbiased = bias(node.inputs[0]).map(|_| Affine { scale: next(), shift: next() });
                    shared.norms[id] = Some(NormSpans { affine, mean, inverse_std, unbiased });
                }
                Layer::Normalise { mean, std } => {
                    let scale: Vec<f32> = std.iter().map(|s| 1.0 / s).collect();
                    let shift = mean.iter().zip(std).map(|(m, s)| -m / s).collect();
                    let affine =
                        Affine { scale: shared.derive(scale.len()), shift: shared.derive(scale.len()) };
                    shared.constants.push((affine.scale, scale));
                    shared.constants.push((affine.shift, shift));
                    shared.normalise[id] = Some(affine);
                }
                _ => {}
            }
        }
        shared
    }

    fn derive(&mut self, len: usize) -> Span {
        let span = Span { region: Region::Derived, offset: self.derived, len };
        self.derived += len.next_multiple_of(16);
        span
    }

    /// Ops for evaluation mode: norms as affine maps of the running statistics, filters with the
    /// norm after them folded in.
    pub fn prepare_evaluation(&self, graph: &Graph) -> Vec<Op> {
        let mut ops = vec![];
        for (id, node) in graph.nodes.iter().enumerate() {
            let (Layer::Norm { gamma, beta, mean, variance }, Some(norm)) = (&node.layer, self.norms[id])
            else {
                continue;
            };
            let mut mean = weights_span(mean);
            if let (Layer::Conv { bias: Some(bias), .. }, Some(unbiased), Some(ones)) =
                (&graph.nodes[node.inputs[0]].layer, norm.unbiased, self.ones)
            {
                // The folded convolution adds no bias of its own. mean − bias · 1/sqrt(1 + 0) is a batch norm's shift.
                let ones = Span { len: bias.len(), ..ones };
                ops.push(Op::BatchNormAffine(ops::BatchNormAffine {
                    gamma: ones,
                    beta: mean,
                    mean: weights_span(bias),
                    variance: ones,
                    epsilon: 0.0,
                    affine: unbiased,
                }));
                mean = unbiased.shift;
            }
            ops.push(Op::BatchNormAffine(ops::BatchNormAffine {
                gamma: weights_span(gamma),
                beta: weights_span(beta),
                mean,
                variance: weights_span(variance),
                epsilon: NORM_EPSILON,
                affine: norm.affine,
            }));
        }
        ops.extend(self.load_filters(graph, true));
        ops
    }

    /// Ops that load every filter, plain or with folded norms.
    pub fn load_filters(&self, graph: &Graph, folded: bool) -> Vec<Op> {
        let mut ops = vec![];
        for (id, node) in graph.nodes.iter().enumerate() {
            let Layer::Conv { weight, .. } = &node.layer else {
                continue;
            };
            let scale = self.folds[id].filter(|_| folded).and_then(|norm| self.norms[norm]);
            for &filter in self.filter_of[id].iter().flatten() {
                ops.push(Op::LoadFilter(ops::LoadFilter {
                    filter,
                    weights: weights_span(weight),
                    scale: scale.map(|norm| norm.affine.scale),
                }));
            }
        }
        ops
    }

    /// The norm folded into convolution `node` in evaluation mode.
    pub fn folded(&self, node: NodeId) -> Option<NodeId> {
        self.folds[node]
    }

    /// What convolution `node` adds in evaluation mode: the shift of the norm folded into it.
    pub fn folded_bias(&self, node: NodeId) -> Option<Span> {
        self.folds[node].and_then(|norm| self.norms[norm]).map(|norm| norm.affine.shift)
    }

    /// A norm's spans.
    pub fn norm(&self, node: NodeId) -> Result<NormSpans> {
        self.norms[node].ok_or_else(|| unsupported(node, "not a norm"))
    }

    /// The input normalisation as an affine map.
    pub fn constants(&self, node: NodeId) -> Result<Affine> {
        self.normalise[node].ok_or_else(|| unsupported(node, "not a normalisation"))
    }

    /// A convolution's filter.
    pub fn filter(&self, node: NodeId, direction: Direction) -> Result<FilterId> {
        self.filter_of[node][direction as usize].ok_or_else(|| unsupported(node, "no such filter"))
    }
}

/// The norm that is convolution `node`'s only reader: folding it is exact.
fn only_norm(graph: &Graph, node: NodeId) -> Option<NodeId> {
    match graph.consumers(node)[..] {
        [reader] if matches!(graph.nodes[reader].layer, Layer::Norm { .. }) => Some(reader),
        _ => None,
    }
}
