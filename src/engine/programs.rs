//! The programs of a network: the ops of infer, score, attack and train.

use super::graph::{Graph, NodeId};
use super::lower::{Lowering, Pass};
use super::shared::Shared;
use super::staging::Staging;
use crate::device::ops;
use crate::device::{Augment, ImageSlot, Norm, Op, Program, Region, Span};
use crate::error::Result;

/// The set images come from.
pub const IMAGES: ImageSlot = ImageSlot(0);

/// Where a program's images come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The attached set, as it is.
    Images,
    /// The attached set, augmented.
    Augmented,
    /// The rows in staging: adversarial examples, or images that the caller put there.
    Adversarial,
}

/// What a training batch does to the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// They move towards the batch's.
    Move,
    /// They stay.
    Keep,
}

/// Images of the attached set as a graph takes them, augmented or as they are.
pub(super) fn gather(graph: &Graph, indices: Span, augment: Option<Augment>, output: Span) -> Vec<Op> {
    let node = &graph.nodes[0];
    let (height, width, channels) = (node.height, node.width, node.channels);
    let (images, plain) = (IMAGES, augment.is_none());
    let augment = augment.unwrap_or_default();
    let mut ops =
        vec![Op::LoadImages(ops::LoadImages { images, indices, height, width, channels, augment, output })];
    if !plain {
        ops.push(Op::RandomErasing(ops::RandomErasing { indices, height, width, channels, images: output }));
    }
    ops
}

/// Builds the programs of a graph.
pub struct ProgramBuilder<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Its tables.
    pub shared: &'a Shared,
    /// Its rows.
    pub staging: &'a Staging,
    /// What `Source::Augmented` does.
    pub augment: Augment,
    /// The ball of attacks.
    pub norm: Norm,
    /// Images of an inference or attack slice.
    pub worker_batch: usize,
    /// Images of a training step.
    pub batch: usize,
}

impl ProgramBuilder<'_> {
    /// Logits and features; with `score` the cosine to the teacher rows too (PBE Eq. 15).
    pub fn infer(&self, source: Source, score: bool) -> Result<Program> {
        let mut plan = Lowering::new(self.graph, self.shared, Pass::Infer);
        let image = self.input(&mut plan, source);
        plan.forward(image, Some(self.staging.features), self.staging.logits)?;
        if score {
            plan.ops.push(Op::CosineSimilarity(ops::CosineSimilarity {
                classes: self.graph.classes(),
                logits: self.staging.logits,
                reference: self.staging.teacher,
                score: self.staging.score,
            }));
        }
        Ok(self.finish(plan, 0..0))
    }

    /// PGD: the adversarial rows from the images, whose loop body is one step.
    pub fn attack(&self, source: Source) -> Result<Program> {
        let mut plan = Lowering::new(self.graph, self.shared, Pass::Attack);
        let elements = self.graph.image_len();
        let clean = self.input(&mut plan, source);
        let adversarial = plan.slots.add(elements);
        plan.slots.pin(clean);
        plan.slots.pin(adversarial);
        let staging = self.staging;
        plan.ops.push(Op::PgdStart(ops::PgdStart {
            elements,
            clean,
            indices: staging.indices,
            epsilon: staging.epsilon,
            norm: self.norm,
            adversarial,
        }));
        let start = plan.ops.len();
        plan.forward(adversarial, Some(staging.features), staging.logits)?;
        let logits_gradient = self.loss(&mut plan, false);
        let Some(gradient) = plan.backward(logits_gradient)? else {
            return Err(super::graph::unsupported(0, "no gradient reaches the image"));
        };
        plan.ops.push(Op::PgdStep(ops::PgdStep {
            elements,
            clean,
            gradient,
            epsilon: staging.epsilon,
            alpha: staging.alpha,
            norm: self.norm,
            adversarial,
        }));
        let end = plan.ops.len();
        plan.ops.push(Op::Copy(ops::Copy { elements, input: adversarial, output: staging.adversarial }));
        Ok(self.finish(plan, start..end))
    }

    /// The gradient of Σ teacher · logits at the tensors that [`Graph::activation_layers`] write, mean over pixels. A
    /// teacher row that is 1 at a label and else 0 makes it the gradient of the label's logit. Where a batch norm is
    /// folded into the convolution, the tensor is the norm's output.
    pub fn activation_gradients(&self) -> Result<Program> {
        let mut plan = Lowering::new(self.graph, self.shared, Pass::Attack);
        let (staging, classes) = (self.staging, self.graph.classes());
        let image = self.input(&mut plan, Source::Images);
        plan.forward(image, Some(staging.features), staging.logits)?;
        let gradient = plan.slots.add(classes);
        plan.slots.pin(gradient);
        plan.ops.push(Op::Copy(ops::Copy { elements: classes, input: staging.teacher, output: gradient }));
        plan.taps =
            self.graph.activation_layers().into_iter().zip(staging.activation_gradients.clone()).collect();
        plan.backward(gradient)?;
        Ok(self.finish(plan, 0..0))
    }

    /// The augmented images, to the rows of [`Source::Adversarial`].
    pub fn stage(&self) -> Program {
        let mut plan = Lowering::new(self.graph, self.shared, Pass::Infer);
        plan.ops.extend(self.gather(Some(self.augment), self.staging.adversarial));
        self.finish(plan, 0..0)
    }

    /// One SGD step, and one of the weight average; with `distil` the loss has the distillation term from the teacher rows.
    pub fn train(&self, source: Source, distil: bool) -> Result<Program> {
        let mut plan = self.gradients(source, Statistics::Move, distil)?;
        plan.ops.extend(self.update());
        Ok(self.finish(plan, 0..0))
    }

    /// The gradients of a batch of augmented images, for [`ProgramBuilder::step`].
    pub fn backward(&self, statistics: Statistics, distil: bool) -> Result<Program> {
        Ok(self.finish(self.gradients(Source::Augmented, statistics, distil)?, 0..0))
    }

    /// The feature maps of augmented images; as in training, with running statistics that stay, or as in evaluation.
    pub fn maps(&self, pass: Pass) -> Result<Program> {
        let mut plan = Lowering::new(self.graph, self.shared, pass);
        plan.statistics = Statistics::Keep;
        if pass == Pass::Train {
            plan.ops = self.shared.load_filters(self.graph, false);
        }
        let image = self.input(&mut plan, Source::Augmented);
        plan.maps = self.at_feature_maps(&self.staging.feature_maps[0]);
        plan.forward(image, Some(self.staging.features), self.staging.logits)?;
        Ok(self.finish(plan, 0..0))
    }

    /// As [`ProgramBuilder::backward`]; the gradients staged at the feature maps are added on the way.
    pub fn backward_from_maps(&self) -> Result<Program> {
        let mut plan = Lowering::new(self.graph, self.shared, Pass::Train);
        plan.added = self.at_feature_maps(&self.staging.feature_maps[1]);
        Ok(self.finish(self.gradients_of(plan, Source::Augmented, false)?, 0..0))
    }

    fn at_feature_maps(&self, columns: &[Span]) -> Vec<(NodeId, Span)> {
        self.graph.feature_maps().into_iter().zip(columns.iter().copied()).collect()
    }

    /// One SGD step with the gradients that are there, and one of the weight average.
    pub fn step(&self) -> Program {
        self.whole(self.update())
    }

    /// The gradient of each staged image's loss at the image, with running statistics.
    pub fn input_gradient(&self) -> Result<Program> {
        let mut plan = Lowering::new(self.graph, self.shared, Pass::Attack);
        let image = self.input(&mut plan, Source::Adversarial);
        plan.forward(image, Some(self.staging.features), self.staging.logits)?;
        let logits_gradient = self.loss(&mut plan, false);
        self.backward_to_staging(&mut plan, logits_gradient)?;
        Ok(self.finish(plan, 0..0))
    }

    /// Forward and backward of a training batch.
    fn gradients(&self, source: Source, statistics: Statistics, distil: bool) -> Result<Lowering<'_>> {
        let mut plan = Lowering::new(self.graph, self.shared, Pass::Train);
        plan.statistics = statistics;
        self.gradients_of(plan, source, distil)
    }

    fn gradients_of<'p>(&self, mut plan: Lowering<'p>, source: Source, distil: bool) -> Result<Lowering<'p>> {
        plan.ops = self.shared.load_filters(self.graph, false);
        let image = self.input(&mut plan, source);
        plan.forward(image, Some(self.staging.features), self.staging.logits)?;
        plan.input_gradient = source == Source::Adversarial && self.staging.input_gradient.len > 0;
        let logits_gradient = self.loss(&mut plan, distil);
        self.backward_to_staging(&mut plan, logits_gradient)?;
        Ok(plan)
    }

    /// The backward pass; the gradient at the image, where it ends there, goes to staging.
    fn backward_to_staging(&self, plan: &mut Lowering, logits_gradient: Span) -> Result<()> {
        if let Some(input) = plan.backward(logits_gradient)? {
            let output = self.staging.input_gradient;
            plan.ops.push(Op::Copy(ops::Copy { elements: output.len, input, output }));
        }
        Ok(())
    }

    /// The ops of the step.
    fn update(&self) -> Vec<Op> {
        let trainable = |region| Span { region, offset: 0, len: self.graph.trainable };
        let all = |region| Span { region, offset: 0, len: self.graph.weights };
        vec![
            Op::Sgd(ops::Sgd {
                weights: trainable(Region::Weights),
                gradients: trainable(Region::Gradients),
                momentum: trainable(Region::Momentum),
            }),
            Op::MovingAverage(ops::MovingAverage {
                weights: all(Region::Weights),
                average: all(Region::Average),
            }),
        ]
    }

    /// The ops that prepare changed weights for inference and attack.
    pub fn prepare(&self) -> Program {
        self.whole(self.shared.prepare_evaluation(self.graph))
    }

    fn input(&self, plan: &mut Lowering, source: Source) -> Span {
        let node = &self.graph.nodes[0];
        let output = plan.slots.add(node.len());
        match source {
            Source::Adversarial => {
                plan.ops.push(Op::Copy(ops::Copy {
                    elements: node.len(),
                    input: self.staging.adversarial,
                    output,
                }));
            }
            Source::Images => plan.ops.extend(self.gather(None, output)),
            Source::Augmented => plan.ops.extend(self.gather(Some(self.augment), output)),
        }
        output
    }

    fn gather(&self, augment: Option<Augment>, output: Span) -> Vec<Op> {
        gather(self.graph, self.staging.indices, augment, output)
    }

    fn loss(&self, plan: &mut Lowering, distil: bool) -> Span {
        let classes = self.graph.classes();
        let gradient = plan.slots.add(classes);
        // A device may compute all gradients of the classifier before the linear layer's weight gradient, which
        // reads this.
        plan.slots.pin(gradient);
        plan.ops.push(Op::CrossEntropy(ops::CrossEntropy {
            classes,
            logits: self.staging.logits,
            labels: self.staging.labels,
            teacher: distil.then_some(self.staging.teacher),
            mean: plan.pass == Pass::Train,
            loss: self.staging.loss,
            gradient: Some(gradient),
        }));
        gradient
    }

    fn finish(&self, mut plan: Lowering, loop_body: std::ops::Range<usize>) -> Program {
        let data_parallel = plan.pass != Pass::Train;
        let capacity = if data_parallel { self.worker_batch } else { self.batch };
        let arena = plan.slots.place(&mut plan.ops, capacity);
        Program {
            ops: plan.ops,
            filters: self.shared.filters.clone(),
            loop_body,
            capacity,
            arena,
            data_parallel,
        }
    }

    fn whole(&self, ops: Vec<Op>) -> Program {
        Program { ops, filters: self.shared.filters.clone(), capacity: 1, ..Program::default() }
    }
}
