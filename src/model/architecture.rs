//! Architectures as lists of named tensors, in the order of PyTorch's state dict.

/// The networks pbe knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pre-activation ResNet-18 with a 3×3 stem; key names of kuangliu/pytorch-cifar and BackdoorBench.
    PreActResNet18,
    /// ResNet-18 as published, with a 7×7 stem and max pooling; key names of torchvision and timm.
    ResNet18,
    /// ResNet-18 with a 3×3 stem and no pooling after it; key names of kuangliu/pytorch-cifar.
    ResNet18SmallStem,
}

impl Kind {
    /// Name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PreActResNet18 => "preact-resnet18",
            Kind::ResNet18 => "resnet18",
            Kind::ResNet18SmallStem => "resnet18-small-stem",
        }
    }

    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::PreActResNet18, Kind::ResNet18, Kind::ResNet18SmallStem];

    /// Name of the linear layer in a state dict.
    pub fn head(self) -> &'static str {
        match self {
            Kind::ResNet18 => "fc",
            Kind::PreActResNet18 | Kind::ResNet18SmallStem => "linear",
        }
    }

    /// Name of what a block's input passes that halves the picture.
    pub(super) fn shortcut(self) -> &'static str {
        match self {
            Kind::ResNet18 => "downsample",
            Kind::PreActResNet18 | Kind::ResNet18SmallStem => "shortcut",
        }
    }

    /// Rows and columns of the first convolution's kernel.
    pub(super) fn stem(self) -> usize {
        if self == Kind::ResNet18 { 7 } else { 3 }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Kind::ALL.map(Kind::name).join(", ");
        Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or(format!("it is one of {names}"))
    }
}

/// What a tensor of a state dict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Trained by SGD.
    Parameter,
    /// Batch norm's running mean.
    RunningMean,
    /// Batch norm's running variance.
    RunningVariance,
    /// Batch norm's `num_batches_tracked`, an i64 nobody reads.
    BatchCount,
}

/// A tensor's name, shape and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Key in the state dict.
    pub name: String,
    /// Outermost dimension first; a convolution's is out × in × rows × columns (KCRS).
    pub shape: Vec<usize>,
    /// Use.
    pub role: Role,
}

/// A network's kind and sizes; everything else follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Architecture {
    /// The family.
    pub kind: Kind,
    /// Channels of the first stage (64 in the published networks).
    pub width: usize,
    /// Outputs.
    pub classes: usize,
    /// Input channels, 1 or 3.
    pub channels: usize,
}

impl Architecture {
    /// Stages of a ResNet-18, two blocks each; stage `s` (from 0) has `width << s` channels.
    pub const STAGES: usize = 4;
    /// Blocks of a stage.
    pub const BLOCKS: usize = 2;

    /// Features: inputs of the linear layer.
    pub fn features(&self) -> usize {
        self.width << (Self::STAGES - 1)
    }

    /// All tensors in state-dict order: 102 of the pre-activation network, of which 54 are trainable, and
    /// 122 of the others, 62 of them trainable.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let (mut list, stem) = (List(Vec::with_capacity(122)), self.kind.stem());
        list.conv("conv1", [self.width, self.channels, stem]);
        if self.kind != Kind::PreActResNet18 {
            list.norm("bn1", self.width);
        }
        let mut inputs = self.width;
        for stage in 0..Self::STAGES {
            let outputs = self.width << stage;
            for block in 0..Self::BLOCKS {
                // Stages after the first halve the picture in their first block.
                let halves = stage > 0 && block == 0;
                let prefix = format!("layer{}.{block}", stage + 1);
                match self.kind {
                    Kind::PreActResNet18 => list.preact_block(&prefix, [inputs, outputs], halves),
                    kind => list.block(&prefix, [inputs, outputs], halves.then_some(kind.shortcut())),
                }
                inputs = outputs;
            }
        }
        let head = self.kind.head();
        list.push(format!("{head}.weight"), &[self.classes, inputs], Role::Parameter);
        list.push(format!("{head}.bias"), &[self.classes], Role::Parameter);
        list.0
    }
}

/// A list of tensors being made.
pub(super) struct List(pub Vec<TensorSpec>);

impl List {
    pub fn push(&mut self, name: String, shape: &[usize], role: Role) {
        self.0.push(TensorSpec { name, shape: shape.to_vec(), role });
    }

    /// A convolution of out × in channels and a square kernel.
    fn conv(&mut self, prefix: &str, [outputs, inputs, kernel]: [usize; 3]) {
        self.push(format!("{prefix}.weight"), &[outputs, inputs, kernel, kernel], Role::Parameter);
    }

    /// A block whose norms and ReLUs come before its convolutions.
    fn preact_block(&mut self, prefix: &str, [inputs, outputs]: [usize; 2], halves: bool) {
        self.norm(&format!("{prefix}.bn1"), inputs);
        self.conv(&format!("{prefix}.conv1"), [outputs, inputs, 3]);
        self.norm(&format!("{prefix}.bn2"), outputs);
        self.conv(&format!("{prefix}.conv2"), [outputs, outputs, 3]);
        if halves {
            self.conv(&format!("{prefix}.shortcut.0"), [outputs, inputs, 1]);
        }
    }

    /// A block whose norms and ReLUs come behind its convolutions.
    fn block(&mut self, prefix: &str, [inputs, outputs]: [usize; 2], shortcut: Option<&str>) {
        self.conv(&format!("{prefix}.conv1"), [outputs, inputs, 3]);
        self.norm(&format!("{prefix}.bn1"), outputs);
        self.conv(&format!("{prefix}.conv2"), [outputs, outputs, 3]);
        self.norm(&format!("{prefix}.bn2"), outputs);
        if let Some(shortcut) = shortcut {
            self.conv(&format!("{prefix}.{shortcut}.0"), [outputs, inputs, 1]);
            self.norm(&format!("{prefix}.{shortcut}.1"), outputs);
        }
    }

    pub fn norm(&mut self, prefix: &str, channels: usize) {
        self.push(format!("{prefix}.weight"), &[channels], Role::Parameter);
        self.push(format!("{prefix}.bias"), &[channels], Role::Parameter);
        self.push(format!("{prefix}.running_mean"), &[channels], Role::RunningMean);
        self.push(format!("{prefix}.running_var"), &[channels], Role::RunningVariance);
        self.push(format!("{prefix}.num_batches_tracked"), &[], Role::BatchCount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entry and parameter counts of the published networks (method.md 4.1).
    #[test]
    fn counts_of_the_published_networks() {
        for (kind, classes, expected, entries, parameters) in [
            (Kind::PreActResNet18, 10, 11_171_146, 102, 54),
            (Kind::PreActResNet18, 43, 11_188_075, 102, 54),
            (Kind::PreActResNet18, 200, 11_268_616, 102, 54),
            (Kind::ResNet18, 1000, 11_689_512, 122, 62),
            (Kind::ResNet18SmallStem, 10, 11_173_962, 122, 62),
        ] {
            let architecture = Architecture { kind, width: 64, classes, channels: 3 };
            let tensors = architecture.tensors();
            assert_eq!(tensors.len(), entries);
            let trainable: Vec<_> = tensors.iter().filter(|t| t.role == Role::Parameter).collect();
            assert_eq!(trainable.len(), parameters);
            assert_eq!(trainable.iter().map(|t| t.shape.iter().product::<usize>()).sum::<usize>(), expected);
        }
    }
}
