//! The networks pbe knows: one row of a table each, from which state dict and graph follow.

use super::module::Module::{AdaptivePool, GlobalPool, MaxPool, Relu};
use super::module::{Module, Residual};

/// A network by name; its widths and classes are an [`super::Architecture`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum NetworkKind {
    PreActResNet18,
    PreActResNet34,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet18SmallStem,
    Vgg11Bn,
    Vgg13Bn,
    Vgg16Bn,
    Vgg19Bn,
    Vgg11BnSmallHead,
    Vgg13BnSmallHead,
    Vgg16BnSmallHead,
    Vgg19BnSmallHead,
}

/// A row of the table.
struct Spec {
    /// In files and reports.
    name: &'static str,
    body: Body,
    keys: Keys,
}

/// What a network is made of.
enum Body {
    /// Stages of as many blocks; stage s (from 0) has `width << s` channels, and all but the first begin
    /// with stride 2.
    ResNet(Block, Stem, [usize; 4]),
    /// Stages of as many 3×3 convolutions with bias, norm and ReLU, each with max pooling at its end, with
    /// 1, 2, 4, 8 and 8 × width channels.
    Vgg(Head, [usize; 5]),
}

/// What comes before the first block of a ResNet.
#[derive(Clone, Copy)]
enum Stem {
    /// 3×3 convolution; a pre-activation network has no norm and ReLU after it.
    Small,
    /// 7×7 convolution of stride 2, norm, ReLU, 3×3 max pooling of stride 2.
    Large,
}

/// What a stage of a ResNet repeats.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    /// Two 3×3 convolutions, norm and ReLU before each.
    PreAct,
    /// Two 3×3 convolutions, a norm after each.
    Basic,
    /// 1×1, 3×3 (with the block's stride) and 1×1 convolutions, a norm after each; the last has four times
    /// the channels.
    Bottleneck,
}

/// What comes after the last stage of a VGG.
#[derive(Clone, Copy)]
enum Head {
    /// One linear layer.
    Small,
    /// Adaptive pooling to 7×7 and three linear layers. The dropout between them is not applied, in training
    /// neither.
    Large,
}

/// Names of a published implementation's layers.
struct Keys {
    /// What a block's input passes where it changes its shape.
    shortcut: &'static str,
    /// The last linear layer.
    classifier: &'static str,
}

/// kuangliu/pytorch-cifar and BackdoorBench's own networks.
const KUANGLIU: Keys = Keys { shortcut: "shortcut", classifier: "linear" };
/// torchvision and timm.
const TORCHVISION: Keys = Keys { shortcut: "downsample", classifier: "fc" };
/// kuangliu's VGG.
const KUANGLIU_VGG: Keys = Keys { shortcut: "", classifier: "classifier" };
/// torchvision's VGG, which BackdoorBench uses too.
const TORCHVISION_VGG: Keys = Keys { shortcut: "", classifier: "classifier.6" };

impl NetworkKind {
    /// All of them.
    pub const ALL: [NetworkKind; 14] = [
        Self::PreActResNet18,
        Self::PreActResNet34,
        Self::ResNet18,
        Self::ResNet34,
        Self::ResNet50,
        Self::ResNet18SmallStem,
        Self::Vgg11Bn,
        Self::Vgg13Bn,
        Self::Vgg16Bn,
        Self::Vgg19Bn,
        Self::Vgg11BnSmallHead,
        Self::Vgg13BnSmallHead,
        Self::Vgg16BnSmallHead,
        Self::Vgg19BnSmallHead,
    ];

    /// Names of the tensors that networks begin with.
    pub(super) const FIRST_TENSORS: [&str; 2] = ["conv1.weight", "features.0.weight"];

    /// The table.
    fn spec(self) -> Spec {
        use Block::{Basic, Bottleneck, PreAct};
        use Body::{ResNet, Vgg};
        let row = |name, body, keys| Spec { name, body, keys };
        match self {
            Self::PreActResNet18 => {
                row("preact-resnet18", ResNet(PreAct, Stem::Small, [2, 2, 2, 2]), KUANGLIU)
            }
            Self::PreActResNet34 => {
                row("preact-resnet34", ResNet(PreAct, Stem::Small, [3, 4, 6, 3]), KUANGLIU)
            }
            Self::ResNet18 => row("resnet18", ResNet(Basic, Stem::Large, [2, 2, 2, 2]), TORCHVISION),
            Self::ResNet34 => row("resnet34", ResNet(Basic, Stem::Large, [3, 4, 6, 3]), TORCHVISION),
            Self::ResNet50 => row("resnet50", ResNet(Bottleneck, Stem::Large, [3, 4, 6, 3]), TORCHVISION),
            Self::ResNet18SmallStem => {
                row("resnet18-small-stem", ResNet(Basic, Stem::Small, [2, 2, 2, 2]), KUANGLIU)
            }
            Self::Vgg11Bn => row("vgg11-bn", Vgg(Head::Large, [1, 1, 2, 2, 2]), TORCHVISION_VGG),
            Self::Vgg13Bn => row("vgg13-bn", Vgg(Head::Large, [2, 2, 2, 2, 2]), TORCHVISION_VGG),
            Self::Vgg16Bn => row("vgg16-bn", Vgg(Head::Large, [2, 2, 3, 3, 3]), TORCHVISION_VGG),
            Self::Vgg19Bn => row("vgg19-bn", Vgg(Head::Large, [2, 2, 4, 4, 4]), TORCHVISION_VGG),
            Self::Vgg11BnSmallHead => {
                row("vgg11-bn-small-head", Vgg(Head::Small, [1, 1, 2, 2, 2]), KUANGLIU_VGG)
            }
            Self::Vgg13BnSmallHead => {
                row("vgg13-bn-small-head", Vgg(Head::Small, [2, 2, 2, 2, 2]), KUANGLIU_VGG)
            }
            Self::Vgg16BnSmallHead => {
                row("vgg16-bn-small-head", Vgg(Head::Small, [2, 2, 3, 3, 3]), KUANGLIU_VGG)
            }
            Self::Vgg19BnSmallHead => {
                row("vgg19-bn-small-head", Vgg(Head::Small, [2, 2, 4, 4, 4]), KUANGLIU_VGG)
            }
        }
    }

    /// Name in files and reports.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Name of the last linear layer in a state dict.
    pub fn classifier(self) -> &'static str {
        self.spec().keys.classifier
    }

    /// Its layers from the normalised image to the logits.
    pub(super) fn modules(self, channels: usize, width: usize, classes: usize) -> Vec<Module> {
        let Spec { body, keys, .. } = self.spec();
        match body {
            Body::ResNet(block, stem, depths) => {
                let mut modules = stem_of(block, stem, channels, width);
                let mut inputs = width;
                for (stage, &depth) in depths.iter().enumerate() {
                    for number in 0..depth {
                        let stride = if stage > 0 && number == 0 { 2 } else { 1 };
                        let sizes = [inputs, width << stage, stride];
                        inputs =
                            block.push(&format!("layer{}.{number}", stage + 1), sizes, &keys, &mut modules);
                    }
                }
                // A pre-activation network has no norm and ReLU here, unlike the paper's.
                modules.extend([GlobalPool, Module::linear(keys.classifier, inputs, classes)]);
                modules
            }
            Body::Vgg(head, depths) => {
                let mut modules = vec![];
                let mut inputs = channels;
                // PyTorch numbers every layer.
                let mut number = 0;
                for (stage, &depth) in depths.iter().enumerate() {
                    let outputs = width << stage.min(3);
                    for _ in 0..depth {
                        modules.extend([
                            Module::biased_conv(&format!("features.{number}"), inputs, outputs, 3),
                            Module::norm(&format!("features.{}", number + 1), outputs),
                            Relu,
                        ]);
                        (inputs, number) = (outputs, number + 3);
                    }
                    modules.push(MaxPool { kernel: 2, stride: 2, pad: 0 });
                    number += 1;
                }
                if let Head::Large = head {
                    let (side, hidden) = (7, 64 * width);
                    let first = Module::linear("classifier.0", side * side * inputs, hidden);
                    let second = Module::linear("classifier.3", hidden, hidden);
                    modules.extend([AdaptivePool { side }, first, Relu, second, Relu]);
                    inputs = hidden;
                }
                // After the linear layers this is over one pixel: what the ReLU lets through.
                modules.extend([GlobalPool, Module::linear(keys.classifier, inputs, classes)]);
                modules
            }
        }
    }
}

fn stem_of(block: Block, stem: Stem, channels: usize, width: usize) -> Vec<Module> {
    let conv = |kernel, stride| Module::conv("conv1", channels, width, kernel, stride);
    match (stem, block) {
        (Stem::Small, Block::PreAct) => vec![conv(3, 1)],
        (Stem::Small, _) => vec![conv(3, 1), Module::norm("bn1", width), Relu],
        (Stem::Large, _) => {
            let pool = MaxPool { kernel: 3, stride: 2, pad: 1 };
            vec![conv(7, 2), Module::norm("bn1", width), Relu, pool]
        }
    }
}

impl Block {
    /// Appends one; the channels it gives.
    fn push(self, prefix: &str, sizes: [usize; 3], keys: &Keys, modules: &mut Vec<Module>) -> usize {
        let [inputs, channels, stride] = sizes;
        let outputs = if self == Block::Bottleneck { 4 * channels } else { channels };
        let conv = |name: &str, inputs, outputs, kernel, stride| {
            Module::conv(&format!("{prefix}.{name}"), inputs, outputs, kernel, stride)
        };
        let norm = |name: &str, channels| Module::norm(&format!("{prefix}.{name}"), channels);
        let (mut before, mut shortcut) = (vec![], vec![]);
        let branch = match self {
            Block::PreAct => {
                before.extend([norm("bn1", inputs), Relu]);
                vec![
                    conv("conv1", inputs, channels, 3, stride),
                    norm("bn2", channels),
                    Relu,
                    conv("conv2", channels, channels, 3, 1),
                ]
            }
            Block::Basic => vec![
                conv("conv1", inputs, channels, 3, stride),
                norm("bn1", channels),
                Relu,
                conv("conv2", channels, channels, 3, 1),
                norm("bn2", channels),
            ],
            Block::Bottleneck => vec![
                conv("conv1", inputs, channels, 1, 1),
                norm("bn1", channels),
                Relu,
                conv("conv2", channels, channels, 3, stride),
                norm("bn2", channels),
                Relu,
                conv("conv3", channels, outputs, 1, 1),
                norm("bn3", outputs),
            ],
        };
        if stride > 1 || inputs != outputs {
            shortcut.push(conv(&format!("{}.0", keys.shortcut), inputs, outputs, 1, stride));
            if self != Block::PreAct {
                shortcut.push(norm(&format!("{}.1", keys.shortcut), outputs));
            }
        }
        modules.push(Module::Residual(Residual { before, branch, shortcut }));
        if self != Block::PreAct {
            modules.push(Relu);
        }
        outputs
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
