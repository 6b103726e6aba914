//! The programs of a network and the memory they take, known before anything is allocated.

use super::graph::Graph;
use super::lower::Pass;
use super::programs::{ProgramBuilder, Source, Statistics};
use super::shared::Shared;
use super::staging::Staging;
use crate::device::{Augment, Device, MemoryLayout, Norm, Program};
use crate::error::Result;

/// What a network is opened for; its memory follows.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineOptions {
    /// Images of a training step; 0 for no training.
    pub batch: usize,
    /// Whether it is attacked.
    pub attack: bool,
    /// Augmentation of training images.
    pub augment: Augment,
    /// The ball of attacks.
    pub norm: Norm,
    /// Whether activation gradients are asked for.
    pub activation_gradients: bool,
    /// Whether the caller changes staged images, trains on them and reads the gradient at them.
    pub external_inputs: bool,
    /// Whether the caller changes gradients between the backward pass and the step.
    pub gradients: bool,
    /// Whether feature maps are asked for, and gradients added at them.
    pub feature_maps: bool,
}

/// Most elements of adversarial images in staging, unless a training batch has more.
const STAGED_ELEMENTS: usize = 1 << 22;

/// What a program is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProgramKind {
    Prepare,
    Stage,
    Score,
    Infer(Source),
    Attack(Source),
    Train(Source, bool),
    Backward(Statistics, bool),
    TrainedMaps,
    Maps,
    BackwardFromMaps,
    Step,
    InputGradient,
    ActivationGradients,
}

/// A graph lowered for what the options ask for.
pub struct EnginePlan {
    pub(super) shared: Shared,
    pub(super) staging: Staging,
    pub(super) kinds: Vec<ProgramKind>,
    /// In the order of `kinds`.
    pub(super) programs: Vec<Program>,
    /// Images of an inference or attack slice.
    pub(super) capacity: usize,
    /// Slices side by side.
    pub(super) workers: usize,
    /// Elements of every region.
    pub layout: MemoryLayout,
}

impl EnginePlan {
    /// Lowers `graph` for `device`; allocates nothing there.
    ///
    /// # Errors
    /// A graph that the lowering has no rule for.
    pub fn new(device: &dyn Device, graph: &Graph, options: &EngineOptions) -> Result<Self> {
        let backward = options.attack || options.batch > 0 || options.activation_gradients;
        let shared = Shared::new(graph, backward);
        let image = graph.image_len();
        let most = if options.feature_maps { 64 } else { 1024 };
        let rows = (STAGED_ELEMENTS / image).clamp(64, most).max(options.batch);
        let adversarial = if options.attack || options.external_inputs { image } else { 0 };
        let gradient = if options.external_inputs { image } else { 0 };
        let layers = if options.activation_gradients { graph.activation_layers() } else { vec![] };
        let channels: Vec<usize> = layers.iter().map(|&layer| graph.nodes[layer].channels).collect();
        let maps = if options.feature_maps { graph.feature_maps() } else { vec![] };
        let maps: Vec<usize> = maps.iter().map(|&node| graph.nodes[node].len()).collect();
        let staging =
            Staging::new(rows, graph.classes(), graph.features(), adversarial, gradient, &channels, &maps);
        let mut builder = ProgramBuilder {
            graph,
            shared: &shared,
            staging: &staging,
            augment: options.augment,
            norm: options.norm,
            worker_batch: 1,
            batch: options.batch,
        };
        let probe = if options.attack {
            builder.attack(Source::Images)?
        } else if options.activation_gradients {
            builder.activation_gradients()?
        } else {
            builder.infer(Source::Images, false)?
        };
        builder.worker_batch = device.preferred_batch(probe.arena).min(rows);
        let (capacity, workers) = (builder.worker_batch, device.workers());
        let list = list(&builder, options)?;
        let trained = if options.batch > 0 { graph.trainable } else { 0 };
        let arena =
            list.iter().map(|(_, p)| p.arena * if p.data_parallel { workers } else { 1 }).max().unwrap_or(0);
        let layout = MemoryLayout {
            weights: graph.weights,
            gradients: trained,
            momentum: trained,
            average: if options.batch > 0 { graph.weights } else { 0 },
            derived: shared.derived,
            arena,
            staging: staging.len,
        };
        let (kinds, programs) = list.into_iter().unzip();
        Ok(Self { shared, staging, kinds, programs, capacity, workers, layout })
    }

    /// Bytes that the network will take on `device`.
    pub fn bytes(&self, device: &dyn Device) -> usize {
        device.needs(&self.layout, &self.programs)
    }
}

/// All programs that `options` ask for.
fn list(builder: &ProgramBuilder, options: &EngineOptions) -> Result<Vec<(ProgramKind, Program)>> {
    let mut list = vec![
        (ProgramKind::Prepare, builder.prepare()),
        (ProgramKind::Score, builder.infer(Source::Images, true)?),
    ];
    for source in [Source::Images, Source::Augmented, Source::Adversarial] {
        if source != Source::Adversarial || options.attack || options.external_inputs {
            list.push((ProgramKind::Infer(source), builder.infer(source, false)?));
            if options.batch > 0 {
                list.push((ProgramKind::Train(source, false), builder.train(source, false)?));
                list.push((ProgramKind::Train(source, true), builder.train(source, true)?));
            }
        }
        if source != Source::Adversarial && options.attack {
            list.push((ProgramKind::Attack(source), builder.attack(source)?));
        }
    }
    if options.activation_gradients {
        list.push((ProgramKind::ActivationGradients, builder.activation_gradients()?));
    }
    if options.external_inputs {
        list.push((ProgramKind::Stage, builder.stage()));
        list.push((ProgramKind::InputGradient, builder.input_gradient()?));
    }
    if options.feature_maps {
        list.push((ProgramKind::Maps, builder.maps(Pass::Infer)?));
        if options.batch > 0 {
            list.push((ProgramKind::TrainedMaps, builder.maps(Pass::Train)?));
            list.push((ProgramKind::BackwardFromMaps, builder.backward_from_maps()?));
        }
    }
    if options.gradients {
        for statistics in [Statistics::Move, Statistics::Keep] {
            for distil in [false, true] {
                list.push((ProgramKind::Backward(statistics, distil), builder.backward(statistics, distil)?));
            }
        }
        list.push((ProgramKind::Step, builder.step()));
    }
    Ok(list)
}
