//! What defences do between the backward pass and the step: read and change gradients and parameters.

use std::ops::Range;

use super::programs::Statistics;
use super::run::{Column, Engine, length, planned};
use crate::device::{Region, StepParams};
use crate::error::{Error, Result};

impl Engine {
    /// As [`Engine::train_step`] on augmented images, without the step: the gradients stay, for [`Engine::step`].
    pub fn backward(
        &mut self,
        statistics: Statistics,
        indices: &[u32],
        labels: &[u32],
        teacher: Option<&[f32]>,
        params: &StepParams,
    ) -> Result<f32> {
        let program = planned(self.programs.backward[statistics as usize][usize::from(teacher.is_some())])?;
        self.train_on(program, indices, labels, teacher, params)
    }

    /// As [`Engine::backward`] with moving statistics; `outer` are gradients of something else at the images'
    /// [`Graph::feature_maps`](super::graph::Graph::feature_maps), which are added.
    pub fn backward_from_maps(
        &mut self,
        outer: &[Vec<f32>],
        indices: &[u32],
        labels: &[u32],
        params: &StepParams,
    ) -> Result<f32> {
        let program = planned(self.programs.backward_from_maps)?;
        length("feature maps", outer.len(), self.staging.feature_maps[1].len())?;
        for (span, gradient) in self.staging.feature_maps[1].iter().zip(outer) {
            length("numbers of feature maps", gradient.len(), indices.len() * span.len)?;
            self.runner.session.write(span.region, span.offset, gradient)?;
        }
        self.train_on(program, indices, labels, None, params)
    }

    /// The augmented images' feature maps, each image's after the other's: as in training, with running statistics that
    /// stay, or as in evaluation. In training they are one batch.
    pub fn feature_maps(
        &mut self,
        training: bool,
        indices: &[u32],
        params: &StepParams,
    ) -> Result<Vec<Vec<f32>>> {
        let program = planned(self.programs.maps[usize::from(training)])?;
        self.check_batch(indices, &[])?;
        let rows = self.staging.rows;
        if training && indices.len() > rows {
            return Err(Error::input(format!("a batch of {} images, not 1 to {rows}", indices.len())));
        }
        let mut maps = vec![vec![]; self.staging.feature_maps[0].len()];
        for part in indices.chunks(rows) {
            self.runner.session.write_words(Region::Staging, self.staging.indices.offset, part)?;
            if training {
                self.runner.run_training(program, part.len(), params)?;
            } else {
                self.runner.evaluation()?;
                self.runner.run_slices(program, part.len(), params)?;
            }
            for (span, map) in self.staging.feature_maps[0].iter().zip(&mut maps) {
                let first = map.len();
                map.resize(first + part.len() * span.len, 0.0);
                self.runner.session.read(span.region, span.offset, &mut map[first..])?;
            }
        }
        Ok(maps)
    }

    /// One SGD step with the gradients that are there, and one of the weight average.
    pub fn step(&mut self, params: &StepParams) -> Result<()> {
        self.runner.run_training(planned(self.programs.step)?, 0, params)
    }

    /// Some of the parameters.
    pub fn parameters(&self, range: &Range<usize>) -> Result<Vec<f32>> {
        self.part(Region::Weights, range)
    }

    /// Replaces the parameters from `first` on.
    pub fn set_parameters(&mut self, first: usize, values: &[f32]) -> Result<()> {
        self.within(first, values.len())?;
        self.runner.set_parameters(first, values)
    }

    /// Some of the gradients of the last backward pass.
    pub fn gradient(&self, range: &Range<usize>) -> Result<Vec<f32>> {
        self.part(Region::Gradients, range)
    }

    /// Replaces gradients from `first` on, for [`Engine::step`].
    pub fn set_gradient(&mut self, first: usize, values: &[f32]) -> Result<()> {
        self.within(first, values.len())?;
        self.runner.session.write(Region::Gradients, first, values)
    }

    fn part(&self, region: Region, range: &Range<usize>) -> Result<Vec<f32>> {
        self.within(range.start, range.len())?;
        let mut values = vec![0.0; range.len()];
        self.runner.session.read(region, range.start, &mut values)?;
        Ok(values)
    }

    fn within(&self, first: usize, len: usize) -> Result<()> {
        let all = self.graph.trainable;
        match first.checked_add(len).is_some_and(|end| end <= all) {
            true => Ok(()),
            false => {
                Err(Error::input(format!("parameters {first} to {} of {all}", first.saturating_add(len))))
            }
        }
    }

    /// Forward and backward of the staged images of the first rows, with running statistics; returns the mean loss.
    /// [`Engine::input_gradient`] then is that of a row's own loss.
    pub fn staged_loss(&mut self, labels: &[u32]) -> Result<f32> {
        let (program, count) = (planned(self.programs.input_gradient)?, labels.len());
        if !(1..=self.staging.rows).contains(&count) {
            return Err(Error::input(format!("{count} staged images, not 1 to {}", self.staging.rows)));
        }
        self.runner.evaluation()?;
        self.write_labels(labels)?;
        self.runner.run_slices(program, count, &StepParams::default())?;
        self.mean_loss(count)
    }

    /// The logits that the last pass over staged images gave the first rows.
    pub fn staged_logits(&self, rows: usize, logits: &mut [f32]) -> Result<()> {
        self.rows_at(0, rows, &[Column::Logits]).logits(logits)
    }
}
