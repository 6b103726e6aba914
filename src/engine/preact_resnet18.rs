//! Pre-activation ResNet-18 (He et al., ECCV 2016, in the form of kuangliu/pytorch-cifar) as a graph.

use std::ops::Range;

use super::graph::{Graph, Layer, NodeId};
use crate::data::Normalisation;
use crate::error::{Error, Result};
use crate::model::{Architecture, Layout};

/// The network of `architecture` for images of `height` × `width` in [0, 1].
///
/// Block: a = relu(bn1(x)); y = conv2(relu(bn2(conv1(a)))) + (shortcut(a) or x). No norm or ReLU
/// before the pooling.
///
/// # Errors
/// Images too small for three strides, or a normalisation for another channel count.
pub fn preact_resnet18(
    architecture: &Architecture,
    normalisation: &Normalisation,
    height: usize,
    width: usize,
) -> Result<Graph> {
    if height < 2 || width < 2 {
        return Err(Error::input(format!("images of {height}x{width} are too small for this network")));
    }
    if normalisation.channels() != architecture.channels {
        return Err(Error::input(format!(
            "the normalisation has {} channels, the model's input {}",
            normalisation.channels(),
            architecture.channels
        )));
    }
    let layout = Layout::new(architecture);
    let graph = Graph::new(height, width, architecture.channels, layout.trainable(), layout.len());
    let mut network = Builder { graph, layout: &layout };
    let Normalisation { mean, std } = normalisation.clone();
    let input = network.graph.push(Layer::Normalise { mean, std }, &[0]);
    let mut x = network.graph.conv(input, architecture.width, 3, 1, network.range("conv1.weight")?);
    for stage in 0..Architecture::STAGES {
        for block in 0..Architecture::BLOCKS {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = network.block(
                x,
                &format!("layer{}.{block}", stage + 1),
                architecture.width << stage,
                stride,
            )?;
        }
    }
    let features = network.graph.push(Layer::Pool, &[x]);
    let linear =
        Layer::Linear { weight: network.range("linear.weight")?, bias: network.range("linear.bias")? };
    network.graph.push(linear, &[features]);
    Ok(network.graph)
}

struct Builder<'a> {
    graph: Graph,
    layout: &'a Layout,
}

impl Builder<'_> {
    fn range(&self, name: &str) -> Result<Range<usize>> {
        self.layout.offset_of(name).ok_or_else(|| Error::run(format!("the layout has no tensor {name}")))
    }

    fn norm_relu(&mut self, from: NodeId, name: &str) -> Result<NodeId> {
        let norm = Layer::Norm {
            gamma: self.range(&format!("{name}.weight"))?,
            beta: self.range(&format!("{name}.bias"))?,
            mean: self.range(&format!("{name}.running_mean"))?,
            variance: self.range(&format!("{name}.running_var"))?,
        };
        let norm = self.graph.push(norm, &[from]);
        Ok(self.graph.push(Layer::Relu, &[norm]))
    }

    fn block(&mut self, x: NodeId, name: &str, channels: usize, stride: usize) -> Result<NodeId> {
        let a = self.norm_relu(x, &format!("{name}.bn1"))?;
        // The shortcut comes first so that conv2 can add it in its epilogue.
        let shortcut = match self.layout.offset_of(&format!("{name}.shortcut.0.weight")) {
            Some(weight) => self.graph.conv(a, channels, 1, stride, weight),
            None => x,
        };
        let weight = self.range(&format!("{name}.conv1.weight"))?;
        let h = self.graph.conv(a, channels, 3, stride, weight);
        let h = self.norm_relu(h, &format!("{name}.bn2"))?;
        let weight = self.range(&format!("{name}.conv2.weight"))?;
        let h = self.graph.conv(h, channels, 3, 1, weight);
        Ok(self.graph.push(Layer::Add, &[h, shortcut]))
    }
}
