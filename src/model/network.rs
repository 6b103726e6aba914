//! The networks pbe knows: one row of a table each, from which state dict and graph follow.

use super::module::Module::{GlobalPool, Linear, MaxPool, Relu};
use super::module::{Module, Residual};

/// A network by name; its widths and classes are an [`super::Architecture`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetworkKind {
    /// Pre-activation ResNet-18 with a 3×3 stem; key names of kuangliu/pytorch-cifar and BackdoorBench.
    PreActResNet18,
    /// ResNet-18 as published, with a 7×7 stem and max pooling; key names of torchvision and timm.
    ResNet18,
    /// ResNet-18 with a 3×3 stem and no pooling after it; key names of kuangliu/pytorch-cifar.
    ResNet18SmallStem,
}

/// What comes before the first block.
#[derive(Clone, Copy)]
enum Stem {
    /// 3×3 convolution; a pre-activation network has no norm and ReLU after it.
    Small,
    /// 7×7 convolution of stride 2, norm, ReLU, 3×3 max pooling of stride 2.
    Large,
}

/// What a stage repeats.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    /// Two 3×3 convolutions, norm and ReLU before each.
    PreAct,
    /// Two 3×3 convolutions, a norm after each.
    Basic,
}

/// A row of the table.
struct Spec {
    name: &'static str,
    stem: Stem,
    block: Block,
    /// Blocks of each stage; stage s (from 0) has `width << s` channels, and all but the first begin
    /// with stride 2.
    depths: [usize; 4],
    /// Name of what a block's input passes where it changes its shape.
    shortcut: &'static str,
    /// Name of the last linear layer.
    classifier: &'static str,
}

impl NetworkKind {
    /// All of them.
    pub const ALL: [NetworkKind; 3] =
        [NetworkKind::PreActResNet18, NetworkKind::ResNet18, NetworkKind::ResNet18SmallStem];

    /// The table.
    fn spec(self) -> Spec {
        let row = |name, stem, block, depths, shortcut, classifier| Spec {
            name,
            stem,
            block,
            depths,
            shortcut,
            classifier,
        };
        use {Block::*, Stem::*};
        match self {
            Self::PreActResNet18 => row("preact-resnet18", Small, PreAct, [2, 2, 2, 2], "shortcut", "linear"),
            Self::ResNet18 => row("resnet18", Large, Basic, [2, 2, 2, 2], "downsample", "fc"),
            Self::ResNet18SmallStem => {
                row("resnet18-small-stem", Small, Basic, [2, 2, 2, 2], "shortcut", "linear")
            }
        }
    }

    /// Name in files and reports.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Name of the last linear layer in a state dict.
    pub fn classifier(self) -> &'static str {
        self.spec().classifier
    }

    /// Its layers from the normalised image to the logits.
    pub(super) fn modules(self, channels: usize, width: usize, classes: usize) -> Vec<Module> {
        let spec = self.spec();
        let mut modules = spec.stem(channels, width);
        let mut inputs = width;
        for (stage, &depth) in spec.depths.iter().enumerate() {
            for block in 0..depth {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let prefix = format!("layer{}.{block}", stage + 1);
                modules.push(spec.block(&prefix, inputs, width << stage, stride));
                inputs = width << stage;
                if spec.block != Block::PreAct {
                    modules.push(Relu);
                }
            }
        }
        // A pre-activation network has no norm and ReLU here, unlike the paper's.
        modules.extend([GlobalPool, Linear { key: spec.classifier.into(), inputs, outputs: classes }]);
        modules
    }
}

impl Spec {
    fn stem(&self, channels: usize, width: usize) -> Vec<Module> {
        let conv = |kernel, stride| Module::conv("conv1", channels, width, kernel, stride);
        match (self.stem, self.block) {
            (Stem::Small, Block::PreAct) => vec![conv(3, 1)],
            (Stem::Small, Block::Basic) => vec![conv(3, 1), Module::norm("bn1", width), Relu],
            (Stem::Large, _) => {
                let pool = MaxPool { kernel: 3, stride: 2, pad: 1 };
                vec![conv(7, 2), Module::norm("bn1", width), Relu, pool]
            }
        }
    }

    /// One block, whose ReLU after the sum the caller adds.
    fn block(&self, prefix: &str, inputs: usize, outputs: usize, stride: usize) -> Module {
        let conv = |name, inputs, outputs, kernel, stride| {
            Module::conv(&format!("{prefix}.{name}"), inputs, outputs, kernel, stride)
        };
        let norm = |name, channels| Module::norm(&format!("{prefix}.{name}"), channels);
        let mut residual = match self.block {
            Block::PreAct => Residual {
                before: vec![norm("bn1", inputs), Relu],
                branch: vec![
                    conv("conv1", inputs, outputs, 3, stride),
                    norm("bn2", outputs),
                    Relu,
                    conv("conv2", outputs, outputs, 3, 1),
                ],
                shortcut: vec![],
            },
            Block::Basic => Residual {
                before: vec![],
                branch: vec![
                    conv("conv1", inputs, outputs, 3, stride),
                    norm("bn1", outputs),
                    Relu,
                    conv("conv2", outputs, outputs, 3, 1),
                    norm("bn2", outputs),
                ],
                shortcut: vec![],
            },
        };
        if stride > 1 || inputs != outputs {
            residual.shortcut.push(conv(&format!("{}.0", self.shortcut), inputs, outputs, 1, stride));
            if self.block != Block::PreAct {
                residual.shortcut.push(norm(&format!("{}.1", self.shortcut), outputs));
            }
        }
        Module::Residual(residual)
    }
}

impl std::str::FromStr for NetworkKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = NetworkKind::ALL.map(NetworkKind::name).join(", ");
        NetworkKind::ALL
            .into_iter()
            .find(|network| network.name() == text)
            .ok_or(format!("it is one of {names}"))
    }
}
