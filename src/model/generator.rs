//! The image networks of the input-aware attack (Nguyen & Tran, 2020): one draws a pattern for an image,
//! the other says where it goes.
//!
//! Steps down of two convolutions and max pooling, a convolution in the middle, steps up of bilinear
//! upsampling and two convolutions; batch norm after each convolution, ReLU after each but the last.
//! The published convolutions have a bias, which the batch norm after them takes out again; these have
//! none.

use super::layout::{Layout, TensorSpec};
use super::module::{self, Module};
use crate::data::Normalisation;
use crate::engine::graph::Graph;
use crate::error::{Error, Result};

/// Weight of the newest batch in the running statistics.
const NORM_MOMENTUM: f32 = 0.05;
/// Channels of the first step at most.
const WIDEST: usize = 1 << 16;
/// Steps down and up at most.
const STEPS: usize = 3;
/// Where initial values' streams of these networks begin, after those of any classifier.
const FIRST_STREAM: u32 = 1 << 16;

/// What an image network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratorRole {
    /// The pattern: as many channels as the image.
    Pattern,
    /// The mask: one channel, squashed a second time, so that it is nearly 0 or 1.
    Mask,
}

/// An image network's sizes; everything else follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generator {
    /// Its use.
    pub role: GeneratorRole,
    /// Channels of the first step (32 in the published networks).
    pub width: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Steps down, and up.
    pub steps: usize,
}

impl Generator {
    /// The network for images of this size: as many steps, three at most, as both sides can be halved.
    ///
    /// # Errors
    /// Images with a side that can't be halved.
    pub fn new(
        role: GeneratorRole,
        width: usize,
        height: usize,
        columns: usize,
        channels: usize,
    ) -> Result<Self> {
        let steps = height.trailing_zeros().min(columns.trailing_zeros()).min(STEPS as u32) as usize;
        if width > WIDEST {
            return Err(Error::input(format!("generators of width {width}: {WIDEST} at most")));
        }
        if height == 0 || columns == 0 || steps == 0 {
            return Err(Error::input(format!(
                "the dynamic attack halves images: {height}x{columns} ones can't be; --size resizes them"
            )));
        }
        Ok(Self { role, width, channels, steps })
    }

    /// Channels of its output.
    fn outputs(&self) -> usize {
        match self.role {
            GeneratorRole::Pattern => self.channels,
            GeneratorRole::Mask => 1,
        }
    }

    /// Every convolution: its name, inputs and outputs.
    fn blocks(&self) -> Vec<(String, usize, usize)> {
        let mut blocks = Vec::new();
        let mut inputs = self.channels;
        for step in 0..self.steps {
            let outputs = self.width << step;
            blocks.push((format!("convblock_down_{}", 2 * step), inputs, outputs));
            blocks.push((format!("convblock_down_{}", 2 * step + 1), outputs, outputs));
            inputs = outputs;
        }
        blocks.push(("convblock_middle".into(), inputs, inputs));
        for step in 0..self.steps {
            let outputs = if step + 1 == self.steps { self.outputs() } else { inputs / 2 };
            blocks.push((format!("convblock_up_{}", 2 * step), inputs, inputs));
            blocks.push((format!("convblock_up_{}", 2 * step + 1), inputs, outputs));
            inputs = outputs;
        }
        blocks
    }

    /// Its layers from the image to one in (0, 1).
    fn modules(&self, normalisation: &Normalisation) -> Vec<Module> {
        let Normalisation { mean, std } = normalisation.clone();
        let mut modules = vec![Module::Normalise { mean, std }];
        let blocks = self.blocks();
        let (count, down) = (blocks.len(), 2 * self.steps);
        for (index, (name, inputs, outputs)) in blocks.into_iter().enumerate() {
            if index > down && (index - down) % 2 == 1 {
                modules.push(Module::Upsample);
            }
            modules.push(Module::conv(&format!("{name}.conv2d"), inputs, outputs, 3, 1));
            modules.push(Module::norm(&format!("{name}.batch_norm"), outputs));
            if index + 1 < count {
                modules.push(Module::Relu);
            }
            if index < down && index % 2 == 1 {
                modules.push(Module::MaxPool { kernel: 2, stride: 2, pad: 0 });
            }
        }
        modules.push(Module::ScaledTanh);
        if self.role == GeneratorRole::Mask {
            // 20·x − 10.
            modules.extend([Module::Normalise { mean: vec![0.5], std: vec![0.05] }, Module::ScaledTanh]);
        }
        modules
    }

    /// All tensors, named as in the published code.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        module::tensors(&self.modules(&Normalisation::identity(self.channels)))
    }

    /// Where each tensor lies in the flat weights.
    pub fn layout(&self) -> Layout {
        Layout::of(self.tensors())
    }

    /// PyTorch's defaults, as [`super::Weights::initialise`].
    pub fn initialise(&self, seed: u64) -> Vec<f32> {
        self.layout().initialise(seed, FIRST_STREAM * if self.role == GeneratorRole::Pattern { 1 } else { 2 })
    }

    /// The network for images of `height` × `width`, pixels in [0, 1], normalised inside; what it gives is
    /// in (0, 1).
    ///
    /// # Errors
    /// The normalisation is for another number of channels.
    pub fn graph(&self, normalisation: &Normalisation, height: usize, width: usize) -> Result<Graph> {
        if normalisation.channels() != self.channels {
            return Err(Error::input("the normalisation is for images with other channels"));
        }
        let modules = self.modules(normalisation);
        let mut graph = module::graph(&modules, &self.layout(), [height, width, self.channels])?;
        graph.norm_momentum = NORM_MOMENTUM;
        Ok(graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::graph::Layer;

    /// Counted by hand, without the biases of the convolutions: 3·32 + 32·32 + 32·64 + … times 9, and
    /// two for each output.
    #[test]
    fn the_published_networks_have_their_published_size() {
        for (role, expected) in [(GeneratorRole::Pattern, 722_374), (GeneratorRole::Mask, 721_794)] {
            let generator = Generator::new(role, 32, 32, 32, 3).unwrap();
            assert_eq!(generator.layout().trainable(), expected, "{role:?}");
            let graph = generator.graph(&Normalisation::for_cifar10(), 32, 32).unwrap();
            assert_eq!(graph.output_len(), 1024 * generator.outputs());
            assert_eq!(graph.image_len(), 3072);
        }
    }

    #[test]
    fn every_weight_is_used_once() {
        let generator = Generator::new(GeneratorRole::Mask, 3, 12, 20, 1).unwrap();
        assert_eq!(generator.steps, 2);
        let graph = generator.graph(&Normalisation::identity(1), 12, 20).unwrap();
        let mut ranges: Vec<_> = graph
            .nodes
            .iter()
            .flat_map(|node| match &node.layer {
                Layer::Conv { weight, .. } => vec![weight.clone()],
                Layer::Norm { gamma, beta, mean, variance } => {
                    vec![gamma.clone(), beta.clone(), mean.clone(), variance.clone()]
                }
                _ => vec![],
            })
            .collect();
        ranges.sort_by_key(|range| range.start);
        let end = ranges.iter().fold(0, |end, range| {
            assert_eq!(range.start, end);
            range.end
        });
        assert_eq!(end, graph.weights);
    }

    #[test]
    fn images_that_cannot_be_halved_are_refused() {
        assert!(Generator::new(GeneratorRole::Pattern, 4, 9, 8, 3).unwrap_err().to_string().contains("9x8"));
    }
}
