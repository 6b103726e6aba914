//! Architectures as graphs: what the engine runs.

use super::architecture::{Architecture, Kind};
use super::layout::Layout;
use crate::data::Normalisation;
use crate::engine::graph::{Graph, Layer, NodeId};
use crate::error::{Error, Result};
use std::ops::Range;

impl Architecture {
    /// The network for images of `height` × `width`, pixels in [0, 1], normalised inside. Weights as
    /// [`Layout`] has them.
    ///
    /// # Errors
    /// The images are empty or the normalisation is for another number of channels.
    pub fn graph(&self, normalisation: &Normalisation, height: usize, width: usize) -> Result<Graph> {
        if height == 0 || width == 0 {
            return Err(Error::input(format!("a network for images of {height}x{width} can't be built")));
        }
        if normalisation.channels() != self.channels {
            let (given, needed) = (normalisation.channels(), self.channels);
            return Err(Error::input(format!(
                "normalisation has {given} channels, the network's input {needed}"
            )));
        }
        let layout = Layout::new(self);
        let graph = Graph::new(height, width, self.channels, layout.trainable(), layout.len());
        let mut builder = Builder { graph, layout };
        match self.kind {
            Kind::PreActResNet18 => builder.preact_resnet18(self, normalisation)?,
            Kind::ResNet18 | Kind::ResNet18SmallStem => builder.resnet18(self, normalisation)?,
        }
        Ok(builder.graph)
    }
}

struct Builder {
    graph: Graph,
    layout: Layout,
}

impl Builder {
    fn preact_resnet18(&mut self, architecture: &Architecture, normalisation: &Normalisation) -> Result<()> {
        let input = self.normalise(normalisation);
        let mut node = self.conv(input, "conv1", architecture.width, architecture.kind.stem(), 1)?;
        for stage in 0..Architecture::STAGES {
            for block in 0..Architecture::BLOCKS {
                let halves = stage > 0 && block == 0;
                let prefix = format!("layer{}.{block}", stage + 1);
                node = self.preact_block(node, &prefix, architecture.width << stage, halves)?;
            }
        }
        // No norm or ReLU before the pool, unlike the paper of the architecture.
        self.head(architecture.kind, node)
    }

    fn resnet18(&mut self, architecture: &Architecture, normalisation: &Normalisation) -> Result<()> {
        let (kind, width) = (architecture.kind, architecture.width);
        let input = self.normalise(normalisation);
        let stride = if kind == Kind::ResNet18 { 2 } else { 1 };
        let stem = self.conv(input, "conv1", width, kind.stem(), stride)?;
        let mut node = self.norm_relu(stem, "bn1")?;
        if kind == Kind::ResNet18 {
            node = self.graph.max_pool(node, 3, 2, 1);
        }
        for stage in 0..Architecture::STAGES {
            for block in 0..Architecture::BLOCKS {
                let shortcut = (stage > 0 && block == 0).then_some(kind.shortcut());
                node = self.block(node, &format!("layer{}.{block}", stage + 1), width << stage, shortcut)?;
            }
        }
        self.head(kind, node)
    }

    fn normalise(&mut self, normalisation: &Normalisation) -> NodeId {
        let Normalisation { mean, std } = normalisation.clone();
        self.graph.push(Layer::Normalise { mean, std }, &[0])
    }

    /// Mean over the pixels and the linear layer.
    fn head(&mut self, kind: Kind, from: NodeId) -> Result<()> {
        let features = self.graph.push(Layer::Pool, &[from]);
        let at = |part: &str| self.at(&format!("{}.{part}", kind.head()));
        let linear = Layer::Linear { weight: at("weight")?, bias: at("bias")? };
        self.graph.push(linear, &[features]);
        Ok(())
    }

    /// relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut); the shortcut is x, or a strided 1×1 convolution
    /// of it and a norm where the block halves the picture.
    fn block(&mut self, x: NodeId, prefix: &str, channels: usize, shortcut: Option<&str>) -> Result<NodeId> {
        let stride = if shortcut.is_some() { 2 } else { 1 };
        let side = match shortcut {
            Some(name) => {
                let side = self.conv(x, &format!("{prefix}.{name}.0"), channels, 1, stride)?;
                self.norm(side, &format!("{prefix}.{name}.1"))?
            }
            None => x,
        };
        let middle = self.conv(x, &format!("{prefix}.conv1"), channels, 3, stride)?;
        let middle = self.norm_relu(middle, &format!("{prefix}.bn1"))?;
        let output = self.conv(middle, &format!("{prefix}.conv2"), channels, 3, 1)?;
        let output = self.norm(output, &format!("{prefix}.bn2"))?;
        let sum = self.graph.push(Layer::Add, &[output, side]);
        Ok(self.graph.push(Layer::Relu, &[sum]))
    }

    /// conv2(relu(bn2(conv1(h)))) + shortcut with h = relu(bn1(x)); the shortcut is x, or a strided
    /// 1×1 convolution of h where the block halves the picture.
    fn preact_block(&mut self, x: NodeId, prefix: &str, channels: usize, halves: bool) -> Result<NodeId> {
        let stride = if halves { 2 } else { 1 };
        let h = self.norm_relu(x, &format!("{prefix}.bn1"))?;
        let shortcut =
            if halves { self.conv(h, &format!("{prefix}.shortcut.0"), channels, 1, stride)? } else { x };
        let middle = self.conv(h, &format!("{prefix}.conv1"), channels, 3, stride)?;
        let middle = self.norm_relu(middle, &format!("{prefix}.bn2"))?;
        let output = self.conv(middle, &format!("{prefix}.conv2"), channels, 3, 1)?;
        Ok(self.graph.push(Layer::Add, &[output, shortcut]))
    }

    fn conv(
        &mut self,
        from: NodeId,
        name: &str,
        channels: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<NodeId> {
        let weight = self.at(&format!("{name}.weight"))?;
        Ok(self.graph.conv(from, channels, kernel, stride, weight))
    }

    fn norm_relu(&mut self, from: NodeId, name: &str) -> Result<NodeId> {
        let norm = self.norm(from, name)?;
        Ok(self.graph.push(Layer::Relu, &[norm]))
    }

    fn norm(&mut self, from: NodeId, name: &str) -> Result<NodeId> {
        let norm = Layer::Norm {
            gamma: self.at(&format!("{name}.weight"))?,
            beta: self.at(&format!("{name}.bias"))?,
            mean: self.at(&format!("{name}.running_mean"))?,
            variance: self.at(&format!("{name}.running_var"))?,
        };
        Ok(self.graph.push(norm, &[from]))
    }

    fn at(&self, name: &str) -> Result<Range<usize>> {
        self.layout
            .offset_of(name)
            .ok_or_else(|| Error::run(format!("the architecture has no tensor {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: Architecture =
        Architecture { kind: Kind::PreActResNet18, width: 64, classes: 10, channels: 3 };

    fn ranges(layer: &Layer) -> Vec<Range<usize>> {
        match layer {
            Layer::Conv { weight, .. } => vec![weight.clone()],
            Layer::Linear { weight, bias } => vec![weight.clone(), bias.clone()],
            Layer::Norm { gamma, beta, mean, variance } => {
                vec![gamma.clone(), beta.clone(), mean.clone(), variance.clone()]
            }
            _ => vec![],
        }
    }

    /// 555.4 million multiply-adds at 32×32 (method.md 1.6).
    #[test]
    fn the_published_network_has_its_published_size() {
        let graph = PUBLISHED.graph(&Normalisation::for_cifar10(), 32, 32).unwrap();
        assert_eq!(graph.multiply_adds() / 100_000, 5554);
        assert_eq!((graph.classes(), graph.features(), graph.image_len()), (10, 512, 3072));
        assert_eq!((graph.trainable, graph.weights), (11_171_146, 11_171_146 + 2 * 3392));
    }

    /// 1.8 billion multiply-adds at 224×224, as published.
    #[test]
    fn resnet_18_has_its_published_size() {
        let architecture = Architecture { kind: Kind::ResNet18, classes: 1000, ..PUBLISHED };
        let graph = architecture.graph(&Normalisation::identity(3), 224, 224).unwrap();
        assert_eq!(graph.multiply_adds() / 1_000_000, 1814);
        assert_eq!((graph.classes(), graph.features(), graph.trainable), (1000, 512, 11_689_512));
        let last = &graph.nodes[graph.nodes.len() - 3];
        assert_eq!((last.height, last.width), (7, 7));
    }

    #[test]
    fn every_weight_is_used_once_and_has_the_size_of_its_layer() {
        for kind in Kind::ALL {
            check(Architecture { kind, width: 5, classes: 7, channels: 1 });
        }
    }

    fn check(architecture: Architecture) {
        let graph = architecture.graph(&Normalisation::identity(1), 13, 11).unwrap();
        let mut used: Vec<_> = graph.nodes.iter().flat_map(|node| ranges(&node.layer)).collect();
        used.sort_by_key(|range| range.start);
        let mut end = 0;
        for range in used {
            assert_eq!(range.start, end);
            end = range.end;
        }
        assert_eq!(end, graph.weights);
        for node in &graph.nodes {
            match &node.layer {
                Layer::Conv { shape, weight } => assert_eq!(shape.filter_len(), weight.len()),
                Layer::Norm { gamma, .. } => assert_eq!(node.channels, gamma.len()),
                Layer::Add => {
                    let [a, b] = [&graph.nodes[node.inputs[0]], &graph.nodes[node.inputs[1]]];
                    assert_eq!((a.height, a.width, a.channels), (b.height, b.width, b.channels));
                }
                _ => {}
            }
        }
        let last = &graph.nodes[graph.nodes.len() - 3];
        let side = if architecture.kind == Kind::ResNet18 { 1 } else { 2 };
        assert_eq!((last.height, last.width, last.channels), (side, side, 40));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(PUBLISHED.graph(&Normalisation::identity(1), 32, 32).is_err());
        assert!(PUBLISHED.graph(&Normalisation::identity(3), 0, 32).is_err());
    }
}
