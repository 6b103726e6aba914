//! A network with its sizes, from which its tensors and its graph follow.

use super::layout::{Layout, TensorSpec};
use super::module::{self, Module};
use super::network::NetworkKind;
use crate::data::Normalisation;
use crate::engine::graph::Graph;
use crate::error::{Error, Result};

/// A network and its sizes; everything else follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Architecture {
    /// Which one.
    pub network: NetworkKind,
    /// Channels of the first stage (64 in the published networks).
    pub width: usize,
    /// Outputs.
    pub classes: usize,
    /// Input channels, 1 or 3.
    pub channels: usize,
}

impl Architecture {
    fn modules(&self) -> Vec<Module> {
        self.network.modules(self.channels, self.width, self.classes)
    }

    /// All tensors in the order of PyTorch's state dict.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        module::tensors(&self.modules())
    }

    /// Inputs of the last linear layer.
    pub(super) fn features(&self) -> usize {
        match self.modules().last() {
            Some(Module::Linear { inputs, .. }) => *inputs,
            _ => 0,
        }
    }

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
        let Normalisation { mean, std } = normalisation.clone();
        let mut modules = vec![Module::Normalise { mean, std }];
        modules.extend(self.modules());
        module::graph(&modules, &Layout::new(self), [height, width, self.channels])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::graph::Layer;
    use crate::model::TensorRole;
    use std::ops::Range;

    const PUBLISHED: Architecture =
        Architecture { network: NetworkKind::PreActResNet18, width: 64, classes: 10, channels: 3 };

    fn ranges(layer: &Layer) -> Vec<Range<usize>> {
        match layer {
            Layer::Conv { weight, bias, .. } => {
                [Some(weight.clone()), bias.clone()].into_iter().flatten().collect()
            }
            Layer::Linear { weight, bias } => vec![weight.clone(), bias.clone()],
            Layer::Norm { gamma, beta, mean, variance } => {
                vec![gamma.clone(), beta.clone(), mean.clone(), variance.clone()]
            }
            _ => vec![],
        }
    }

    /// 555.4 million multiply-adds at 32×32.
    #[test]
    fn the_published_network_has_its_published_size() {
        let graph = PUBLISHED.graph(&Normalisation::for_cifar10(), 32, 32).unwrap();
        assert_eq!(graph.multiply_adds() / 100_000, 5554);
        assert_eq!((graph.classes(), graph.features(), graph.image_len()), (10, 512, 3072));
        assert_eq!((graph.trainable, graph.weights), (11_171_146, 11_171_146 + 2 * 3392));
    }

    /// Billions of multiply-adds at 224×224, as published.
    #[test]
    fn networks_for_imagenet_have_their_published_sizes() {
        for (network, millions, features, trainable) in [
            (NetworkKind::ResNet18, 1814, 512, 11_689_512),
            (NetworkKind::ResNet34, 3663, 512, 21_797_672),
            (NetworkKind::ResNet50, 4089, 2048, 25_557_032),
            (NetworkKind::Vgg16Bn, 15470, 4096, 138_365_992),
        ] {
            let architecture = Architecture { network, classes: 1000, ..PUBLISHED };
            let graph = architecture.graph(&Normalisation::identity(3), 224, 224).unwrap();
            assert_eq!(graph.multiply_adds() / 1_000_000, millions);
            assert_eq!((graph.classes(), graph.features(), graph.trainable), (1000, features, trainable));
            assert_eq!(architecture.features(), features);
            let pooled = graph.nodes.iter().rfind(|node| node.height > 1).unwrap();
            assert_eq!((pooled.height, pooled.width), (7, 7));
        }
    }

    #[test]
    fn every_weight_is_used_once_and_has_the_size_of_its_layer() {
        for network in NetworkKind::ALL {
            check(Architecture { network, width: 5, classes: 7, channels: 1 });
        }
    }

    fn check(architecture: Architecture) {
        let graph = architecture.graph(&Normalisation::identity(1), 33, 40).unwrap();
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
                Layer::Conv { shape, weight, .. } => assert_eq!(shape.filter_len(), weight.len()),
                Layer::Norm { gamma, .. } => assert_eq!(node.channels, gamma.len()),
                Layer::Add => {
                    let [a, b] = [&graph.nodes[node.inputs[0]], &graph.nodes[node.inputs[1]]];
                    assert_eq!((a.height, a.width, a.channels), (b.height, b.width, b.channels));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(PUBLISHED.graph(&Normalisation::identity(1), 32, 32).is_err());
        assert!(PUBLISHED.graph(&Normalisation::identity(3), 0, 32).is_err());
        let vgg = Architecture { network: NetworkKind::Vgg11Bn, ..PUBLISHED };
        let message = vgg.graph(&Normalisation::identity(3), 64, 31).unwrap_err().to_string();
        assert!(message.contains("images of 64x31 are too small"), "{message}");
    }

    /// Entry and parameter counts of the published networks.
    #[test]
    fn counts_of_the_published_networks() {
        for (network, classes, expected, entries, parameters) in [
            (NetworkKind::PreActResNet18, 10, 11_171_146, 102, 54),
            (NetworkKind::PreActResNet18, 43, 11_188_075, 102, 54),
            (NetworkKind::PreActResNet18, 200, 11_268_616, 102, 54),
            (NetworkKind::ResNet18, 1000, 11_689_512, 122, 62),
            (NetworkKind::PreActResNet34, 10, 21_279_306, 198, 102),
            (NetworkKind::ResNet18SmallStem, 10, 11_173_962, 122, 62),
            (NetworkKind::ResNet34, 1000, 21_797_672, 218, 110),
            (NetworkKind::ResNet50, 1000, 25_557_032, 320, 161),
            (NetworkKind::Vgg11Bn, 1000, 132_868_840, 62, 38),
            (NetworkKind::Vgg13Bn, 1000, 133_053_736, 76, 46),
            (NetworkKind::Vgg16Bn, 1000, 138_365_992, 97, 58),
            (NetworkKind::Vgg19Bn, 1000, 143_678_248, 118, 70),
            (NetworkKind::Vgg11BnSmallHead, 10, 9_231_114, 58, 34),
            (NetworkKind::Vgg13BnSmallHead, 10, 9_416_010, 72, 42),
            (NetworkKind::Vgg16BnSmallHead, 10, 14_728_266, 93, 54),
            (NetworkKind::Vgg19BnSmallHead, 10, 20_040_522, 114, 66),
        ] {
            let architecture = Architecture { network, width: 64, classes, channels: 3 };
            let tensors = architecture.tensors();
            assert_eq!(tensors.len(), entries);
            let trainable: Vec<_> = tensors.iter().filter(|t| t.role == TensorRole::Parameter).collect();
            assert_eq!(trainable.len(), parameters);
            assert_eq!(trainable.iter().map(|t| t.shape.iter().product::<usize>()).sum::<usize>(), expected);
        }
    }
}
