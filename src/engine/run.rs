//! [`Engine`]: a network on a device, and what the method does with it: infer, score, attack, train.

use super::engine_plan::{EngineOptions, EnginePlan, ProgramKind};
use super::graph::Graph;
use super::programs::{IMAGES, Source};
use super::runner::Runner;
use super::staging::Staging;
use crate::data::ImageSet;
use crate::device::{Device, Program, ProgramId, Region, Session, Span, StepParams};
use crate::error::{Error, Result};

/// The budget of one image's attack, in units of [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Radius of the ball.
    pub epsilon: f32,
    /// Size of a step.
    pub alpha: f32,
}

/// The images of an attack.
#[derive(Clone, Copy, Debug)]
pub struct AttackBatch<'a> {
    /// Attached images as they are, or augmented.
    pub source: Source,
    /// Which of them.
    pub indices: &'a [u32],
    /// The labels that the examples should lose.
    pub labels: &'a [u32],
    /// A budget for each.
    pub budgets: &'a [Budget],
    /// Whether the visitor reads the logits of the finished examples.
    pub predict: bool,
}

/// A chunk of finished rows, for the visitor.
pub struct Rows<'a> {
    session: &'a dyn Session,
    staging: &'a Staging,
    /// Position of the chunk's first image among the indices.
    pub first: usize,
    /// Images in the chunk.
    pub count: usize,
    /// The columns that the pass has written; the others still hold what an earlier one has left.
    written: &'static [Column],
    /// What the engine is called.
    name: &'a str,
}

/// What a pass may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Logits,
    Features,
    Score,
    Adversarial,
    /// At all of [`Graph::activation_layers`].
    ActivationGradients,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Column::Logits => "logits",
            Column::Features => "features",
            Column::Score => "score",
            Column::Adversarial => "adversarial example",
            Column::ActivationGradients => "activation gradients",
        }
    }
}

impl Rows<'_> {
    /// # Errors
    /// The device fails, or a value is not finite.
    fn read(&self, column: Column, span: Span, out: &mut [f32]) -> Result<()> {
        let what = column.name();
        if !self.written.contains(&column) {
            return Err(Error::input(format!("this pass has made no {what}")));
        }
        let (len, room) = (self.count * span.len, out.len());
        let out = out.get_mut(..len).ok_or_else(|| {
            Error::input(format!(
                "{what} of {} images are {len} numbers, and there is room for {room}",
                self.count
            ))
        })?;
        self.session.read(span.region, span.offset, out)?;
        match out.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                let (image, value) = (self.first + at / span.len, out[at]);
                let name = if self.name.is_empty() { String::new() } else { format!("{}: ", self.name) };
                Err(Error::run(format!("{name}the {what} of image {image} of this pass became {value}")))
            }
            None => Ok(()),
        }
    }
    /// Logits, `count` × classes, to the front of `out`.
    ///
    /// # Errors
    /// The device fails, one is not finite, the pass makes none, or `out` is too short. The same holds for the four
    /// below.
    pub fn logits(&self, out: &mut [f32]) -> Result<()> {
        self.read(Column::Logits, self.staging.logits, out)
    }
    /// Features, `count` × features, to the front of `out`.
    pub fn features(&self, out: &mut [f32]) -> Result<()> {
        self.read(Column::Features, self.staging.features, out)
    }
    /// Cosine scores to the front of `out`.
    pub fn scores(&self, out: &mut [f32]) -> Result<()> {
        self.read(Column::Score, self.staging.score, out)
    }
    /// Activation gradients at one of [`Graph::activation_layers`], `count` × its channels, to the front of `out`.
    pub fn activation_gradients(&self, layer: usize, out: &mut [f32]) -> Result<()> {
        self.read(Column::ActivationGradients, self.staging.activation_gradients[layer], out)
    }
    /// Adversarial images, `count` × image length, to the front of `out`.
    pub fn adversarial(&self, out: &mut [f32]) -> Result<()> {
        self.read(Column::Adversarial, self.staging.adversarial, out)
    }
}

pub(super) struct ProgramIds {
    prepare: ProgramId,
    stage: Option<ProgramId>,
    infer: [Option<ProgramId>; 3],
    score: ProgramId,
    attack: [Option<ProgramId>; 2],
    activation_gradients: Option<ProgramId>,
    /// By source and distillation.
    train: [[Option<ProgramId>; 2]; 3],
    /// By what happens to the running statistics, and distillation.
    pub(super) backward: [[Option<ProgramId>; 2]; 2],
    /// As in evaluation, and as in training.
    pub(super) maps: [Option<ProgramId>; 2],
    pub(super) backward_from_maps: Option<ProgramId>,
    pub(super) step: Option<ProgramId>,
    pub(super) input_gradient: Option<ProgramId>,
}

/// A network's memory on a device and its programs.
pub struct Engine {
    pub(super) runner: Runner,
    pub(super) graph: Graph,
    pub(super) staging: Staging,
    pub(super) programs: ProgramIds,
    losses: Vec<f32>,
    /// Images of the attached set.
    images: usize,
    /// What messages about its results begin with: the model's file.
    name: String,
}

impl Engine {
    /// Lowers `graph` for what `options` ask for, allocates all memory, and loads `weights` (parameters, then
    /// statistics).
    pub fn open(
        device: &dyn Device,
        graph: &Graph,
        weights: &[f32],
        options: &EngineOptions,
    ) -> Result<Self> {
        let plan = EnginePlan::new(device, graph, options)?;
        let rows = plan.staging.rows;
        let mut session = device.open(plan.layout)?;
        for (span, values) in &plan.shared.constants {
            session.write(span.region, span.offset, values)?;
        }
        let programs = ProgramIds::new(session.as_mut(), plan.kinds.into_iter().zip(plan.programs))?;
        let mut engine = Self {
            runner: Runner::new(session, programs.prepare, plan.capacity, plan.workers, rows),
            graph: graph.clone(),
            staging: plan.staging,
            programs,
            losses: vec![0.0; rows],
            images: 0,
            name: String::new(),
        };
        engine.set_weights(weights)?;
        Ok(engine)
    }

    /// The same engine, called `name` in messages about its results.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.runner.session.bytes()
    }

    /// Most images of an attack that [`Engine::train_step`] with [`Source::Adversarial`] can follow.
    pub fn rows(&self) -> usize {
        self.staging.rows
    }

    /// Makes `images` the set that indices refer to.
    pub fn attach(&mut self, images: &ImageSet) -> Result<()> {
        if images.image_len() != self.graph.image_len() {
            let (own, theirs) = (self.graph.image_len(), images.image_len());
            return Err(Error::input(format!("images of {theirs} bytes, but the network's have {own}")));
        }
        self.images = images.len();
        self.runner.session.attach(IMAGES, images)
    }

    /// Refuses indices of images that aren't there, and lists beside them of another length.
    pub(super) fn check_batch(&self, indices: &[u32], lists: &[(&str, usize, usize)]) -> Result<()> {
        if let Some(index) = indices.iter().find(|index| **index as usize >= self.images) {
            return Err(Error::input(format!("image {index} of {} attached ones", self.images)));
        }
        lists.iter().try_for_each(|&(what, len, each)| length(what, len, indices.len() * each))
    }

    /// Replaces parameters and statistics.
    ///
    /// # Errors
    /// Another number than the network has; the device fails. The same holds for momentum and average.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<()> {
        length("weights", weights.len(), self.graph.weights)?;
        self.runner.set_weights(weights)
    }

    /// Parameters, then statistics.
    pub fn weights(&self) -> Result<Vec<f32>> {
        self.runner.region(Region::Weights, self.graph.weights)
    }

    /// SGD's momentum, for a checkpoint.
    pub fn momentum(&self) -> Result<Vec<f32>> {
        self.runner.region(Region::Momentum, self.graph.trainable)
    }

    /// Gradients of the last training step.
    pub fn gradients(&self) -> Result<Vec<f32>> {
        self.runner.region(Region::Gradients, self.graph.trainable)
    }

    /// The weight average.
    pub fn average(&self) -> Result<Vec<f32>> {
        self.runner.region(Region::Average, self.graph.weights)
    }

    /// Replaces SGD's momentum.
    pub fn set_momentum(&mut self, momentum: &[f32]) -> Result<()> {
        length("momentum", momentum.len(), self.graph.trainable)?;
        self.runner.session.write(Region::Momentum, 0, momentum)
    }

    /// Replaces the weight average.
    pub fn set_average(&mut self, average: &[f32]) -> Result<()> {
        length("average", average.len(), self.graph.weights)?;
        self.runner.session.write(Region::Average, 0, average)
    }

    /// Forward over the attached images at `indices` with running statistics. `visit` gets every finished chunk of
    /// rows.
    pub fn infer(
        &mut self,
        source: Source,
        indices: &[u32],
        params: &StepParams,
        mut visit: impl FnMut(Rows) -> Result<()>,
    ) -> Result<()> {
        let program = planned(self.programs.infer[source as usize])?;
        self.check_batch(indices, &[])?;
        self.runner.evaluation()?;
        for (chunk, part) in indices.chunks(self.staging.rows).enumerate() {
            self.runner.session.write_words(Region::Staging, self.staging.indices.offset, part)?;
            self.runner.run_slices(program, part.len(), params)?;
            visit(self.rows_at(chunk, part.len(), &[Column::Logits, Column::Features]))?;
        }
        Ok(())
    }

    /// Logits of the attached images at `indices`, one row of classes each.
    pub fn logits(&mut self, indices: &[u32]) -> Result<Vec<f32>> {
        let classes = self.graph.classes();
        let mut logits = vec![0.0; indices.len() * classes];
        self.infer(Source::Images, indices, &StepParams::default(), |rows| {
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

    /// As [`Engine::scores`]; `visit` gets scores and logits of every finished chunk of rows.
    pub fn score(
        &mut self,
        indices: &[u32],
        reference: &[f32],
        mut visit: impl FnMut(Rows) -> Result<()>,
    ) -> Result<()> {
        let (rows, classes) = (self.staging.rows, self.graph.classes());
        self.check_batch(indices, &[("logits to compare with", reference.len(), classes)])?;
        self.runner.evaluation()?;
        for (chunk, part) in indices.chunks(rows).enumerate() {
            let first = chunk * rows;
            self.runner.session.write_words(Region::Staging, self.staging.indices.offset, part)?;
            let reference = &reference[first * classes..(first + part.len()) * classes];
            self.runner.session.write(Region::Staging, self.staging.teacher.offset, reference)?;
            self.runner.run_slices(self.programs.score, part.len(), &StepParams::default())?;
            visit(self.rows_at(chunk, part.len(), &[Column::Logits, Column::Features, Column::Score]))?;
        }
        Ok(())
    }

    /// Untargeted PGD (PBE Eq. 10-12), `params.repeats` steps. `visit` gets every finished chunk.
    /// The last chunk stays in staging for [`Source::Adversarial`].
    pub fn attack(
        &mut self,
        target: &AttackBatch,
        params: &StepParams,
        mut visit: impl FnMut(Rows) -> Result<()>,
    ) -> Result<()> {
        let &AttackBatch { source, indices, labels, budgets, predict } = target;
        let program = self.programs.attack.get(source as usize).copied().flatten();
        let program = planned(program)?;
        self.check_batch(indices, &[("labels", labels.len(), 1), ("budgets", budgets.len(), 1)])?;
        self.runner.evaluation()?;
        let rows = self.staging.rows;
        let written: &[Column] = match predict {
            true => &[Column::Adversarial, Column::Logits, Column::Features],
            false => &[Column::Adversarial],
        };
        let mut column = vec![0.0; rows.min(indices.len())];
        for (chunk, part) in indices.chunks(rows).enumerate() {
            let (first, count) = (chunk * rows, part.len());
            self.runner.session.write_words(Region::Staging, self.staging.indices.offset, part)?;
            self.write_labels(&labels[first..first + count])?;
            let budgets = &budgets[first..first + count];
            for (offset, pick) in [
                (self.staging.epsilon.offset, (|b| b.epsilon) as fn(&Budget) -> f32),
                (self.staging.alpha.offset, |b| b.alpha),
            ] {
                column.iter_mut().zip(budgets).for_each(|(value, budget)| *value = pick(budget));
                self.runner.session.write(Region::Staging, offset, &column[..count])?;
            }
            self.runner.run_slices(program, count, params)?;
            if predict {
                let infer = planned(self.programs.infer[Source::Adversarial as usize])?;
                self.runner.run_slices(infer, count, params)?;
            }
            visit(self.rows_at(chunk, count, written))?;
        }
        Ok(())
    }

    /// The gradient of each image's logit of its label at [`Graph::activation_layers`], mean over pixels (AGPD, ICLR
    /// 2025). `visit` gets every finished chunk of rows, with logits too.
    pub fn activation_gradients(
        &mut self,
        indices: &[u32],
        labels: &[u32],
        mut visit: impl FnMut(Rows) -> Result<()>,
    ) -> Result<()> {
        let program = planned(self.programs.activation_gradients)?;
        self.check_batch(indices, &[("labels", labels.len(), 1)])?;
        self.check_labels(labels)?;
        self.runner.evaluation()?;
        let (rows, classes) = (self.staging.rows, self.graph.classes());
        for (chunk, part) in indices.chunks(rows).enumerate() {
            let first = chunk * rows;
            let mut seed = vec![0.0; part.len() * classes];
            for (row, &label) in labels[first..first + part.len()].iter().enumerate() {
                seed[row * classes + label as usize] = 1.0;
            }
            self.runner.session.write_words(Region::Staging, self.staging.indices.offset, part)?;
            self.runner.session.write(Region::Staging, self.staging.teacher.offset, &seed)?;
            self.runner.run_slices(program, part.len(), &StepParams::default())?;
            visit(self.rows_at(chunk, part.len(), &[Column::ActivationGradients, Column::Logits]))?;
        }
        Ok(())
    }

    /// Puts the augmented images at `indices`, at most [`Engine::rows`], into the rows of
    /// [`Source::Adversarial`].
    pub fn stage(&mut self, indices: &[u32], params: &StepParams) -> Result<()> {
        let program = planned(self.programs.stage)?;
        self.check_batch(indices, &[])?;
        if indices.len() > self.staging.rows {
            return Err(Error::input(format!(
                "{} images to stage, {} at most",
                indices.len(),
                self.staging.rows
            )));
        }
        self.runner.session.write_words(Region::Staging, self.staging.indices.offset, indices)?;
        self.runner.run_slices(program, indices.len(), params)
    }

    /// The staged image of a row.
    pub fn staged(&self, row: usize, image: &mut [f32]) -> Result<()> {
        self.read_row(self.staging.adversarial, row, image)
    }

    /// Replaces the staged image of a row.
    pub fn set_staged(&mut self, row: usize, image: &[f32]) -> Result<()> {
        let Span { region, offset, len } = self.staging.adversarial;
        self.check_row(row, len, image.len())?;
        self.runner.session.write(region, offset + row * len, image)
    }

    /// The gradient of the last step's mean loss at the staged image of a row.
    pub fn input_gradient(&self, row: usize, gradient: &mut [f32]) -> Result<()> {
        self.read_row(self.staging.input_gradient, row, gradient)
    }

    fn check_row(&self, row: usize, len: usize, given: usize) -> Result<()> {
        length("numbers of an image", given, len)?;
        match row < self.staging.rows {
            true => Ok(()),
            false => Err(Error::input(format!("row {row} of {}", self.staging.rows))),
        }
    }

    fn read_row(&self, Span { region, offset, len }: Span, row: usize, out: &mut [f32]) -> Result<()> {
        self.check_row(row, len, out.len())?;
        self.runner.session.read(region, offset + row * len, out)
    }

    /// One SGD step on the batch `indices` under `labels`, and one of the weight average where
    /// [`StepParams::average_decay`] asks for it (with [`Source::Adversarial`]: on the
    /// staged rows of the last attack); with `teacher` rows of logits the loss distils from them.
    /// Returns the mean loss of the batch before the step.
    pub fn train_step(
        &mut self,
        source: Source,
        indices: &[u32],
        labels: &[u32],
        teacher: Option<&[f32]>,
        params: &StepParams,
    ) -> Result<f32> {
        let program = planned(self.programs.train[source as usize][usize::from(teacher.is_some())])?;
        self.train_on(program, indices, labels, teacher, params)
    }

    /// Runs a training program on a batch; returns its mean loss.
    pub(super) fn train_on(
        &mut self,
        program: ProgramId,
        indices: &[u32],
        labels: &[u32],
        teacher: Option<&[f32]>,
        params: &StepParams,
    ) -> Result<f32> {
        let (count, classes) = (indices.len(), self.graph.classes());
        let taught = teacher.map_or(count * classes, <[f32]>::len);
        self.check_batch(
            indices,
            &[("labels", labels.len(), 1), ("logits to distil from", taught, classes)],
        )?;
        if !(1..=self.staging.rows).contains(&count) {
            return Err(Error::input(format!("a batch of {count} images, not 1 to {}", self.staging.rows)));
        }
        self.runner.session.write_words(Region::Staging, self.staging.indices.offset, indices)?;
        self.write_labels(labels)?;
        if let Some(teacher) = teacher {
            self.runner.session.write(Region::Staging, self.staging.teacher.offset, teacher)?;
        }
        self.runner.run_training(program, count, params)?;
        self.mean_loss(count)
    }

    /// Of the last pass's first rows.
    pub(super) fn mean_loss(&mut self, count: usize) -> Result<f32> {
        let losses = &mut self.losses[..count];
        self.runner.session.read(Region::Staging, self.staging.loss.offset, losses)?;
        Ok((losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / count as f64) as f32)
    }

    fn check_labels(&self, labels: &[u32]) -> Result<()> {
        let classes = self.graph.classes();
        match labels.iter().find(|label| **label as usize >= classes) {
            Some(label) => Err(Error::input(format!("label {label} of {classes} classes"))),
            None => Ok(()),
        }
    }

    pub(super) fn write_labels(&mut self, labels: &[u32]) -> Result<()> {
        self.check_labels(labels)?;
        self.runner.session.write_words(Region::Staging, self.staging.labels.offset, labels)
    }

    pub(super) fn rows_at(&self, chunk: usize, count: usize, written: &'static [Column]) -> Rows<'_> {
        let first = chunk * self.staging.rows;
        let (session, staging) = (self.runner.session.as_ref(), &self.staging);
        Rows { session, staging, first, count, written, name: &self.name }
    }
}

/// Refuses a list of another length than the network needs.
pub(super) fn length(what: &str, given: usize, needed: usize) -> Result<()> {
    match given == needed {
        true => Ok(()),
        false => Err(Error::input(format!("{given} {what}, but there have to be {needed}"))),
    }
}

impl ProgramIds {
    fn new(session: &mut dyn Session, list: impl Iterator<Item = (ProgramKind, Program)>) -> Result<Self> {
        let nothing = ProgramId(usize::MAX);
        let mut programs = ProgramIds {
            prepare: nothing,
            stage: None,
            infer: [None; 3],
            score: nothing,
            attack: [None; 2],
            activation_gradients: None,
            train: [[None; 2]; 3],
            backward: [[None; 2]; 2],
            maps: [None; 2],
            backward_from_maps: None,
            step: None,
            input_gradient: None,
        };
        for (job, program) in list {
            let id = session.prepare(program)?;
            match job {
                ProgramKind::Prepare => programs.prepare = id,
                ProgramKind::Stage => programs.stage = Some(id),
                ProgramKind::Score => programs.score = id,
                ProgramKind::Infer(source) => programs.infer[source as usize] = Some(id),
                ProgramKind::Attack(source) => programs.attack[source as usize] = Some(id),
                ProgramKind::ActivationGradients => programs.activation_gradients = Some(id),
                ProgramKind::Train(source, distil) => {
                    programs.train[source as usize][usize::from(distil)] = Some(id);
                }
                ProgramKind::Backward(statistics, distil) => {
                    programs.backward[statistics as usize][usize::from(distil)] = Some(id);
                }
                ProgramKind::Maps => programs.maps[0] = Some(id),
                ProgramKind::TrainedMaps => programs.maps[1] = Some(id),
                ProgramKind::BackwardFromMaps => programs.backward_from_maps = Some(id),
                ProgramKind::Step => programs.step = Some(id),
                ProgramKind::InputGradient => programs.input_gradient = Some(id),
            }
        }
        Ok(programs)
    }
}

pub(super) fn planned(program: Option<ProgramId>) -> Result<ProgramId> {
    program.ok_or_else(|| Error::run("the network was opened without memory for this job"))
}
