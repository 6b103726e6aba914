//! Architectures as lists of named tensors, in the order of PyTorch's state dict.

/// The networks pbe knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pre-activation ResNet-18 with a 3×3 stem; key names of kuangliu/pytorch-cifar and BackdoorBench.
    PreActResNet18,
}

impl Kind {
    /// Name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PreActResNet18 => "preact-resnet18",
        }
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

    /// All tensors in state-dict order: 102, of which 54 are trainable.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        match self.kind {
            Kind::PreActResNet18 => self.preact_resnet18(),
        }
    }

    fn preact_resnet18(&self) -> Vec<TensorSpec> {
        let mut list = List(Vec::with_capacity(102));
        list.push("conv1.weight".into(), &[self.width, self.channels, 3, 3], Role::Parameter);
        let mut inputs = self.width;
        for stage in 0..Self::STAGES {
            let outputs = self.width << stage;
            for block in 0..Self::BLOCKS {
                let prefix = format!("layer{}.{block}", stage + 1);
                list.norm(&format!("{prefix}.bn1"), inputs);
                list.push(format!("{prefix}.conv1.weight"), &[outputs, inputs, 3, 3], Role::Parameter);
                list.norm(&format!("{prefix}.bn2"), outputs);
                list.push(format!("{prefix}.conv2.weight"), &[outputs, outputs, 3, 3], Role::Parameter);
                // Stages after the first halve the picture in their first block.
                if stage > 0 && block == 0 {
                    let name = format!("{prefix}.shortcut.0.weight");
                    list.push(name, &[outputs, inputs, 1, 1], Role::Parameter);
                }
                inputs = outputs;
            }
        }
        list.push("linear.weight".into(), &[self.classes, inputs], Role::Parameter);
        list.push("linear.bias".into(), &[self.classes], Role::Parameter);
        list.0
    }
}

struct List(Vec<TensorSpec>);

impl List {
    fn push(&mut self, name: String, shape: &[usize], role: Role) {
        self.0.push(TensorSpec { name, shape: shape.to_vec(), role });
    }

    fn norm(&mut self, prefix: &str, channels: usize) {
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
        for (classes, expected) in [(10, 11_171_146), (43, 11_188_075), (200, 11_268_616)] {
            let architecture = Architecture { kind: Kind::PreActResNet18, width: 64, classes, channels: 3 };
            let tensors = architecture.tensors();
            assert_eq!(tensors.len(), 102);
            let trainable: Vec<_> = tensors.iter().filter(|t| t.role == Role::Parameter).collect();
            assert_eq!(trainable.len(), 54);
            assert_eq!(trainable.iter().map(|t| t.shape.iter().product::<usize>()).sum::<usize>(), expected);
        }
    }
}
