//! A network as a list of modules, as PyTorch's `nn.Sequential`: each knows its tensors and its layers.

use super::layout::{Layout, TensorRole, TensorSpec};
use crate::engine::graph::{Graph, Layer, Node, NodeId};
use crate::error::{Error, Result};
use std::ops::Range;

/// A module, with the key of its tensors where it has any.
#[derive(Clone, Debug)]
pub enum Module {
    /// A convolution that keeps the size at stride 1.
    Conv {
        key: String,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        bias: bool,
    },
    /// Batch norm.
    Norm {
        key: String,
        channels: usize,
    },
    Relu,
    MaxPool {
        kernel: usize,
        stride: usize,
        pad: usize,
    },
    /// Twice the size, bilinearly.
    Upsample,
    /// (x − mean) / std per channel.
    Normalise {
        mean: Vec<f32>,
        std: Vec<f32>,
    },
    /// To (0, 1), the image networks' last layer.
    ScaledTanh,
    /// Mean over the pixels.
    GlobalPool,
    /// PyTorch's `AdaptiveAvgPool2d(side)` and `flatten(1)`.
    AdaptivePool {
        side: usize,
    },
    Linear {
        key: String,
        inputs: usize,
        outputs: usize,
    },
    Residual(Residual),
}

/// `branch(h) + shortcut(h)` with `h = before(x)`; an empty shortcut is x itself.
#[derive(Clone, Debug)]
pub struct Residual {
    pub before: Vec<Module>,
    pub branch: Vec<Module>,
    pub shortcut: Vec<Module>,
}

impl Module {
    pub fn conv(key: &str, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        Module::Conv { key: key.into(), inputs, outputs, kernel, stride, bias: false }
    }

    pub fn biased_conv(key: &str, inputs: usize, outputs: usize, kernel: usize) -> Self {
        Module::Conv { key: key.into(), inputs, outputs, kernel, stride: 1, bias: true }
    }

    pub fn linear(key: &str, inputs: usize, outputs: usize) -> Self {
        Module::Linear { key: key.into(), inputs, outputs }
    }

    pub fn norm(key: &str, channels: usize) -> Self {
        Module::Norm { key: key.into(), channels }
    }
}

/// The tensors of a list of modules, in state-dict order.
pub fn tensors(modules: &[Module]) -> Vec<TensorSpec> {
    let mut list = vec![];
    append(modules, &mut list);
    list
}

fn append(modules: &[Module], list: &mut Vec<TensorSpec>) {
    for module in modules {
        let mut push = |key: &str, name: &str, shape: &[usize], role| {
            list.push(TensorSpec { name: format!("{key}.{name}"), shape: shape.to_vec(), role });
        };
        match module {
            Module::Conv { key, inputs, outputs, kernel, bias, .. } => {
                push(key, "weight", &[*outputs, *inputs, *kernel, *kernel], TensorRole::Parameter);
                if *bias {
                    push(key, "bias", &[*outputs], TensorRole::Parameter);
                }
            }
            Module::Norm { key, channels } => {
                push(key, "weight", &[*channels], TensorRole::Parameter);
                push(key, "bias", &[*channels], TensorRole::Parameter);
                push(key, "running_mean", &[*channels], TensorRole::RunningMean);
                push(key, "running_var", &[*channels], TensorRole::RunningVariance);
                push(key, "num_batches_tracked", &[], TensorRole::BatchCount);
            }
            Module::Linear { key, inputs, outputs } => {
                push(key, "weight", &[*outputs, *inputs], TensorRole::Parameter);
                push(key, "bias", &[*outputs], TensorRole::Parameter);
            }
            Module::Residual(Residual { before, branch, shortcut }) => {
                [before, branch, shortcut].into_iter().for_each(|part| append(part, list));
            }
            Module::Relu
            | Module::MaxPool { .. }
            | Module::Upsample
            | Module::Normalise { .. }
            | Module::ScaledTanh
            | Module::GlobalPool
            | Module::AdaptivePool { .. } => {}
        }
    }
}

/// The graph of a list of modules for images of `height` × `width` × `channels`.
///
/// # Errors
/// A tensor that `layout` doesn't have.
pub fn graph(modules: &[Module], layout: &Layout, [height, width, channels]: [usize; 3]) -> Result<Graph> {
    let mut graph = Graph::new(height, width, channels, layout.trainable(), layout.len());
    sequential(&mut graph, layout, modules, 0)?;
    Ok(graph)
}

/// Appends `modules` one after the other; the last one's node.
fn sequential(graph: &mut Graph, layout: &Layout, modules: &[Module], from: NodeId) -> Result<NodeId> {
    modules.iter().try_fold(from, |from, module| push(graph, layout, module, from))
}

fn push(graph: &mut Graph, layout: &Layout, module: &Module, from: NodeId) -> Result<NodeId> {
    let layer = match module {
        Module::Conv { key, outputs, kernel, stride, bias, .. } => {
            let bias = bias.then(|| place(layout, key, "bias")).transpose()?;
            return Ok(graph.conv(from, *outputs, *kernel, *stride, place(layout, key, "weight")?, bias));
        }
        &Module::MaxPool { kernel, stride, pad } => {
            let node = &graph.nodes[from];
            if node.height.min(node.width) + 2 * pad < kernel {
                let Node { height, width, .. } = graph.nodes[0];
                return Err(Error::input(format!(
                    "images of {height}x{width} are too small for this network: {kernel}x{kernel} pooling of {}x{}",
                    node.height, node.width
                )));
            }
            return Ok(graph.max_pool(from, kernel, stride, pad));
        }
        Module::Residual(Residual { before, branch, shortcut }) => {
            let h = sequential(graph, layout, before, from)?;
            let side = if shortcut.is_empty() { from } else { sequential(graph, layout, shortcut, h)? };
            let sum = sequential(graph, layout, branch, h)?;
            return Ok(graph.push(Layer::Add, &[sum, side]));
        }
        Module::Norm { key, .. } => Layer::Norm {
            gamma: place(layout, key, "weight")?,
            beta: place(layout, key, "bias")?,
            mean: place(layout, key, "running_mean")?,
            variance: place(layout, key, "running_var")?,
        },
        Module::Linear { key, .. } => {
            Layer::Linear { weight: place(layout, key, "weight")?, bias: place(layout, key, "bias")? }
        }
        Module::Normalise { mean, std } => Layer::Normalise { mean: mean.clone(), std: std.clone() },
        Module::Relu => Layer::Relu,
        Module::Upsample => Layer::Upsample,
        Module::ScaledTanh => Layer::ScaledTanh,
        Module::GlobalPool => Layer::Pool,
        Module::AdaptivePool { side } => Layer::AdaptivePool { side: *side },
    };
    Ok(graph.push(layer, &[from]))
}

fn place(layout: &Layout, key: &str, tensor: &str) -> Result<Range<usize>> {
    let name = format!("{key}.{tensor}");
    layout.offset_of(&name).ok_or_else(|| Error::run(format!("the network has no tensor {name}")))
}
