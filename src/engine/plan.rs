//! What a network becomes on a device: its programs and the memory they take, known before any of
//! it is allocated.

use super::graph::Graph;
use super::programs::{Programs, Source};
use super::run::EngineOptions;
use super::shared::Shared;
use super::staging::Staging;
use crate::device::{Device, MemoryLayout, Program};
use crate::error::Result;

/// Elements of adversarial images that staging holds at most, beyond one training batch.
const STAGED_ELEMENTS: usize = 1 << 22;

/// What a program is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    Prepare,
    Stage,
    Score,
    Infer(Source),
    Attack(Source),
    Train(Source, bool),
}

/// A graph lowered for what some options plan.
pub struct Plan {
    pub(super) shared: Shared,
    pub(super) staging: Staging,
    pub(super) jobs: Vec<Job>,
    /// In the order of `jobs`.
    pub(super) programs: Vec<Program>,
    /// Images of an inference or attack slice.
    pub(super) capacity: usize,
    /// Slices side by side.
    pub(super) workers: usize,
    /// Elements of every region.
    pub layout: MemoryLayout,
}

impl Plan {
    /// Lowers `graph` for `device`; allocates nothing there.
    ///
    /// # Errors
    /// A graph that the lowering has no rule for.
    pub fn new(device: &dyn Device, graph: &Graph, options: &EngineOptions) -> Result<Self> {
        let shared = Shared::new(graph, options.attack || options.batch > 0);
        let image = graph.image_len();
        let rows = (STAGED_ELEMENTS / image).clamp(64, 1024).max(options.batch);
        let adversarial = if options.attack || options.given { image } else { 0 };
        let gradient = if options.given { image } else { 0 };
        let staging = Staging::new(rows, graph.classes(), graph.features(), adversarial, gradient);
        let mut make = Programs {
            graph,
            shared: &shared,
            staging: &staging,
            augment: options.augment,
            norm: options.norm,
            worker_batch: 1,
            batch: options.batch,
        };
        let probe =
            if options.attack { make.attack(Source::Images)? } else { make.infer(Source::Images, false)? };
        make.worker_batch = device.preferred_batch(probe.arena).min(rows);
        let (capacity, workers) = (make.worker_batch, device.workers());
        let list = list(&make, options)?;
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
        let (jobs, programs) = list.into_iter().unzip();
        Ok(Self { shared, staging, jobs, programs, capacity, workers, layout })
    }

    /// Bytes that the network will hold on `device`, as [`super::Engine::bytes`] will say.
    pub fn bytes(&self, device: &dyn Device) -> usize {
        device.needs(&self.layout, &self.programs)
    }
}

/// Every program that `options` ask for.
fn list(make: &Programs, options: &EngineOptions) -> Result<Vec<(Job, Program)>> {
    let mut list = vec![(Job::Prepare, make.prepare()), (Job::Score, make.infer(Source::Images, true)?)];
    for source in [Source::Images, Source::Augmented, Source::Adversarial] {
        if source != Source::Adversarial || options.attack || options.given {
            list.push((Job::Infer(source), make.infer(source, false)?));
            if options.batch > 0 {
                list.push((Job::Train(source, false), make.train(source, false)?));
                list.push((Job::Train(source, true), make.train(source, true)?));
            }
        }
        if source != Source::Adversarial && options.attack {
            list.push((Job::Attack(source), make.attack(source)?));
        }
    }
    if options.given {
        list.push((Job::Stage, make.stage()));
    }
    Ok(list)
}
