//! [`Engine`]: a network on a device, and the jobs the method floor gives it.

use super::graph::Graph;
use super::plan::{Job, Plan};
use super::programs::{IMAGES, Source};
use super::staging::Staging;
use crate::data::ImageSet;
use crate::device::{Augment, Controls, Device, Instance, Norm, Program, ProgramId, Region, Session, Span};
use crate::error::{Error, Result};

/// What a network is opened for; memory follows from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineOptions {
    /// Images of a training step; 0 where nothing is trained.
    pub batch: usize,
    /// Whether attacks are planned.
    pub attack: bool,
    /// What augmented reading does.
    pub augment: Augment,
    /// The ball of attacks.
    pub norm: Norm,
}

/// The budget of one image's attack, in units of [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Radius of the ball.
    pub epsilon: f32,
    /// Size of a step.
    pub alpha: f32,
}

/// What an attack is aimed at.
#[derive(Clone, Copy, Debug)]
pub struct Attacked<'a> {
    /// Attached images as they are, or augmented.
    pub source: Source,
    /// Which of them.
    pub indices: &'a [u32],
    /// The label each is driven away from.
    pub labels: &'a [u32],
    /// A budget for each.
    pub budgets: &'a [Budget],
    /// Whether the visitor wants the logits of the finished examples.
    pub predict: bool,
}

/// A chunk of rows that a job has finished, for its visitor.
pub struct Rows<'a> {
    session: &'a dyn Session,
    staging: &'a Staging,
    /// Position of the chunk's first image in the job's indices.
    pub first: usize,
    /// Images in the chunk.
    pub count: usize,
}

impl Rows<'_> {
    fn read(&self, column: Span, out: &mut [f32]) -> Result<()> {
        self.session.read(column.region, column.offset, &mut out[..self.count * column.len])
    }
    /// Logits, `count` × classes, to the front of `out`.
    pub fn logits(&self, out: &mut [f32]) -> Result<()> {
        self.read(self.staging.logits, out)
    }
    /// Features, `count` × features, to the front of `out`.
    pub fn features(&self, out: &mut [f32]) -> Result<()> {
        self.read(self.staging.features, out)
    }
    /// Cosine scores to the front of `out`.
    pub fn scores(&self, out: &mut [f32]) -> Result<()> {
        self.read(self.staging.score, out)
    }
    /// Adversarial images, `count` × image length, to the front of `out`.
    pub fn adversarial(&self, out: &mut [f32]) -> Result<()> {
        self.read(self.staging.adversarial, out)
    }
}

struct Prepared {
    prepare: ProgramId,
    infer: [Option<ProgramId>; 3],
    score: ProgramId,
    attack: [Option<ProgramId>; 2],
    /// By source and distillation.
    train: [[Option<ProgramId>; 2]; 3],
    average: Option<ProgramId>,
}

/// A network's memory on a device and its programs.
pub struct Engine {
    session: Box<dyn Session>,
    graph: Graph,
    staging: Staging,
    programs: Prepared,
    capacity: usize,
    lanes: usize,
    evaluation_ready: bool,
    instances: Vec<Instance>,
    losses: Vec<f32>,
}

impl Engine {
    /// Lowers `graph` for what `options` plan, allocates all memory, and loads `weights`
    /// (parameters, then statistics).
    pub fn open(
        device: &dyn Device,
        graph: &Graph,
        weights: &[f32],
        options: &EngineOptions,
    ) -> Result<Self> {
        let plan = Plan::new(device, graph, options)?;
        let rows = plan.staging.rows;
        let mut session = device.open(plan.layout)?;
        for (span, values) in &plan.shared.constants {
            session.write(span.region, span.offset, values)?;
        }
        let programs = Prepared::new(session.as_mut(), plan.jobs.into_iter().zip(plan.programs))?;
        let mut engine = Self {
            session,
            graph: graph.clone(),
            staging: plan.staging,
            programs,
            capacity: plan.capacity,
            lanes: plan.lanes,
            evaluation_ready: false,
            instances: Vec::with_capacity(rows),
            losses: vec![0.0; rows],
        };
        engine.set_weights(weights)?;
        Ok(engine)
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.session.bytes()
    }

    /// Images that one call to [`Engine::train_step`] with [`Source::Adversarial`] can follow.
    pub fn rows(&self) -> usize {
        self.staging.rows
    }

    /// Makes `images` the set that indices refer to.
    pub fn attach(&mut self, images: &ImageSet) -> Result<()> {
        self.session.attach(IMAGES, images)
    }

    /// Replaces parameters and statistics.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<()> {
        self.evaluation_ready = false;
        self.session.write(Region::Weights, 0, weights)
    }

    /// Parameters, then statistics.
    pub fn weights(&self) -> Result<Vec<f32>> {
        self.region(Region::Weights, self.graph.weights)
    }

    /// SGD's momentum, for a checkpoint.
    pub fn momentum(&self) -> Result<Vec<f32>> {
        self.region(Region::Momentum, self.graph.trainable)
    }

    /// Gradients of the last training step.
    pub fn gradients(&self) -> Result<Vec<f32>> {
        self.region(Region::Gradients, self.graph.trainable)
    }

    /// The weight average.
    pub fn average(&self) -> Result<Vec<f32>> {
        self.region(Region::Average, self.graph.weights)
    }

    /// Replaces SGD's momentum.
    pub fn set_momentum(&mut self, momentum: &[f32]) -> Result<()> {
        self.session.write(Region::Momentum, 0, momentum)
    }

    /// Replaces the weight average.
    pub fn set_average(&mut self, average: &[f32]) -> Result<()> {
        self.session.write(Region::Average, 0, average)
    }

    fn region(&self, region: Region, len: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; len];
        self.session.read(region, 0, &mut values)?;
        Ok(values)
    }

    /// Forward over the attached images at `indices` with running statistics. `visit` sees every
    /// finished chunk of rows.
    pub fn infer(
        &mut self,
        source: Source,
        indices: &[u32],
        controls: &Controls,
        mut visit: impl FnMut(Rows) -> Result<()>,
    ) -> Result<()> {
        let program = planned(self.programs.infer[source as usize])?;
        self.evaluation()?;
        for (chunk, part) in indices.chunks(self.staging.rows).enumerate() {
            self.session.write_words(Region::Staging, self.staging.indices.offset, part)?;
            self.run_lanes(program, part.len(), controls)?;
            visit(self.rows_at(chunk, part.len()))?;
        }
        Ok(())
    }

    /// Logits of the attached images at `indices`, one row of classes each.
    pub fn logits(&mut self, indices: &[u32]) -> Result<Vec<f32>> {
        let classes = self.graph.classes();
        let mut logits = vec![0.0; indices.len() * classes];
        self.infer(Source::Images, indices, &Controls::default(), |rows| {
            rows.logits(&mut logits[rows.first * classes..])
        })?;
        Ok(logits)
    }

    /// Cosine of the logits of the images at `indices` to the rows of `reference` (PBE Eq. 15).
    pub fn scores(&mut self, indices: &[u32], reference: &[f32]) -> Result<Vec<f32>> {
        let mut scores = vec![0.0; indices.len()];
        self.score(indices, reference, |rows| rows.scores(&mut scores[rows.first..]))?;
        Ok(scores)
    }

    /// As [`Engine::scores`]; `visit` sees scores and logits of every finished chunk of rows.
    pub fn score(
        &mut self,
        indices: &[u32],
        reference: &[f32],
        mut visit: impl FnMut(Rows) -> Result<()>,
    ) -> Result<()> {
        self.evaluation()?;
        let (rows, classes) = (self.staging.rows, self.graph.classes());
        for (chunk, part) in indices.chunks(rows).enumerate() {
            let first = chunk * rows;
            self.session.write_words(Region::Staging, self.staging.indices.offset, part)?;
            let reference = &reference[first * classes..(first + part.len()) * classes];
            self.session.write(Region::Staging, self.staging.teacher.offset, reference)?;
            self.run_lanes(self.programs.score, part.len(), &Controls::default())?;
            visit(self.rows_at(chunk, part.len()))?;
        }
        Ok(())
    }

    /// Untargeted PGD (PBE Eq. 10-12), `controls.repeats` steps. `visit` sees every finished chunk.
    /// The last chunk stays in staging for [`Source::Adversarial`].
    pub fn attack(
        &mut self,
        target: &Attacked,
        controls: &Controls,
        mut visit: impl FnMut(Rows) -> Result<()>,
    ) -> Result<()> {
        let &Attacked { source, indices, labels, budgets, predict } = target;
        let program = self.programs.attack.get(source as usize).copied().flatten();
        let program = planned(program)?;
        self.evaluation()?;
        let rows = self.staging.rows;
        let mut column = vec![0.0; rows.min(indices.len())];
        for (chunk, part) in indices.chunks(rows).enumerate() {
            let (first, count) = (chunk * rows, part.len());
            self.session.write_words(Region::Staging, self.staging.indices.offset, part)?;
            self.write_labels(&labels[first..first + count])?;
            let budgets = &budgets[first..first + count];
            for (offset, pick) in [
                (self.staging.epsilon.offset, (|b| b.epsilon) as fn(&Budget) -> f32),
                (self.staging.alpha.offset, |b| b.alpha),
            ] {
                column.iter_mut().zip(budgets).for_each(|(value, budget)| *value = pick(budget));
                self.session.write(Region::Staging, offset, &column[..count])?;
            }
            self.run_lanes(program, count, controls)?;
            if predict {
                let infer = planned(self.programs.infer[Source::Adversarial as usize])?;
                self.run_lanes(infer, count, controls)?;
            }
            visit(self.rows_at(chunk, count))?;
        }
        Ok(())
    }

    /// One SGD step on the batch `indices` under `labels` (with [`Source::Adversarial`]: on the
    /// staged rows of the last attack); with `teacher` rows of logits the loss distils from them.
    /// Returns the mean loss of the batch before the step.
    pub fn train_step(
        &mut self,
        source: Source,
        indices: &[u32],
        labels: &[u32],
        teacher: Option<&[f32]>,
        controls: &Controls,
    ) -> Result<f32> {
        let program = planned(self.programs.train[source as usize][usize::from(teacher.is_some())])?;
        self.session.write_words(Region::Staging, self.staging.indices.offset, indices)?;
        self.write_labels(labels)?;
        if let Some(teacher) = teacher {
            self.session.write(Region::Staging, self.staging.teacher.offset, teacher)?;
        }
        self.evaluation_ready = false;
        let count = indices.len();
        self.session.run(program, controls, &[Instance { first: 0, count }])?;
        let losses = &mut self.losses[..count];
        self.session.read(Region::Staging, self.staging.loss.offset, losses)?;
        Ok((losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / count as f64) as f32)
    }

    /// Moves the weight average towards the weights (`controls.average_decay`).
    pub fn average_step(&mut self, controls: &Controls) -> Result<()> {
        let program = planned(self.programs.average)?;
        self.session.run(program, controls, &[Instance { first: 0, count: 0 }])
    }

    fn write_labels(&mut self, labels: &[u32]) -> Result<()> {
        self.session.write_words(Region::Staging, self.staging.labels.offset, labels)
    }

    fn evaluation(&mut self) -> Result<()> {
        if !self.evaluation_ready {
            let whole = [Instance { first: 0, count: 0 }];
            self.session.run(self.programs.prepare, &Controls::default(), &whole)?;
            self.evaluation_ready = true;
        }
        Ok(())
    }

    fn run_lanes(&mut self, program: ProgramId, count: usize, controls: &Controls) -> Result<()> {
        let size = self.capacity.min(count.div_ceil(self.lanes)).max(1);
        self.instances.clear();
        for first in (0..count).step_by(size) {
            self.instances.push(Instance { first, count: size.min(count - first) });
        }
        self.session.run(program, controls, &self.instances)
    }

    fn rows_at(&self, chunk: usize, count: usize) -> Rows<'_> {
        let first = chunk * self.staging.rows;
        Rows { session: self.session.as_ref(), staging: &self.staging, first, count }
    }
}

impl Prepared {
    fn new(session: &mut dyn Session, list: impl Iterator<Item = (Job, Program)>) -> Result<Self> {
        let nothing = ProgramId(usize::MAX);
        let mut programs = Prepared {
            prepare: nothing,
            infer: [None; 3],
            score: nothing,
            attack: [None; 2],
            train: [[None; 2]; 3],
            average: None,
        };
        for (job, program) in list {
            let id = session.prepare(program)?;
            match job {
                Job::Prepare => programs.prepare = id,
                Job::Score => programs.score = id,
                Job::Infer(source) => programs.infer[source as usize] = Some(id),
                Job::Attack(source) => programs.attack[source as usize] = Some(id),
                Job::Train(source, distil) => {
                    programs.train[source as usize][usize::from(distil)] = Some(id);
                }
                Job::Average => programs.average = Some(id),
            }
        }
        Ok(programs)
    }
}

fn planned(program: Option<ProgramId>) -> Result<ProgramId> {
    program.ok_or_else(|| Error::run("the network was opened without memory for this job"))
}
