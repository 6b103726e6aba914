//! Whether a run fits into the device's own memory, known before it starts.

use std::fmt;

use pbe::data::ImageSet;
use pbe::device::Device;
use pbe::engine::graph::Graph;
use pbe::engine::{EngineOptions, EnginePlan};
use pbe::error::{Error, Result};
use pbe::memory;

use super::common::megabytes;

/// Bytes of the images of a run.
#[derive(Clone, Copy, Debug)]
pub struct ImageBytes {
    /// Of all sets, in the machine's memory.
    pub shared: usize,
    /// Of the largest set: a device with memory of its own has a copy of one set for each network.
    pub largest: usize,
}

impl ImageBytes {
    /// Of a single set.
    pub fn one(set: &ImageSet) -> Self {
        Self { shared: set.pixels.len(), largest: set.pixels.len() }
    }
}

/// Bytes of a run at its largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Networks that are open at the same time.
    pub networks: usize,
    /// Images beside them.
    pub images: usize,
    /// Whether that is memory of the device alone.
    pub own: bool,
}

impl MemoryNeed {
    fn total(&self) -> usize {
        self.networks + self.images
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.own { "device memory" } else { "memory" };
        write!(f, "{place}: {} networks, {} images", megabytes(self.networks), megabytes(self.images))
    }
}

/// What decides the memory of a run.
pub struct MemoryEstimate<'a> {
    pub device: &'a dyn Device,
    pub graph: &'a Graph,
    /// Images of a training step; 0 where nothing is trained.
    pub batch: usize,
    /// What the networks that are open at the same time are opened for, by the batch.
    pub networks: Box<dyn Fn(usize) -> Vec<EngineOptions> + 'a>,
    /// Bytes of each other network that is open beside them, by the batch.
    pub others: Box<dyn Fn(usize) -> Result<Vec<usize>> + 'a>,
    pub images: ImageBytes,
}

impl<'a> MemoryEstimate<'a> {
    /// Of one network that is only looked at.
    pub fn of(device: &'a dyn Device, graph: &'a Graph, images: ImageBytes) -> Self {
        let networks = Box::new(|_| vec![EngineOptions::default()]);
        Self { device, graph, batch: 0, networks, others: Box::new(|_| Ok(vec![])), images }
    }

    /// What the run needs.
    pub fn need(&self) -> Result<MemoryNeed> {
        self.need_of(self.batch)
    }

    fn need_of(&self, batch: usize) -> Result<MemoryNeed> {
        let (networks, others) = ((self.networks)(batch), (self.others)(batch)?);
        let own = self.device.memory().is_some();
        let count = networks.len() + others.len();
        let images = if own { count * self.images.largest } else { self.images.shared };
        let bytes = |options| Ok(EnginePlan::new(self.device, self.graph, options)?.bytes(self.device));
        let networks = networks.iter().map(bytes).sum::<Result<usize>>()? + others.iter().sum::<usize>();
        Ok(MemoryNeed { networks, images, own })
    }

    /// What the run needs, if the device has it.
    ///
    /// # Errors
    /// It hasn't: what is needed, what is free, and which batch would fit.
    pub fn check(&self) -> Result<MemoryNeed> {
        let need = self.need()?;
        if !need.own && memory::available().is_some_and(|free| need.networks as u64 > free) {
            let networks = megabytes(need.networks);
            return Err(Error::input(format!(
                "{networks} of memory are needed for the networks, more than is free"
            )));
        }
        let free = match self.device.memory() {
            Some(memory) if need.total() > memory.free => memory.free,
            _ => return Ok(need),
        };
        let advice = match largest_that_fits(self.batch, |batch| Ok(self.need_of(batch)?.total() <= free))? {
            Some(batch) => format!("a batch of {batch} would fit"),
            None if self.batch > 1 => "no batch would fit".into(),
            None => "--device cpu would do".into(),
        };
        Err(Error::input(format!(
            "{}: {} of device memory are needed ({} networks, {} images), {} are free; {advice}",
            self.device.describe(),
            megabytes(need.total()),
            megabytes(need.networks),
            megabytes(need.images),
            megabytes(free)
        )))
    }
}

/// The largest batch below `batch` that `fits`, if any: a larger one never needs less.
fn largest_that_fits(batch: usize, fits: impl Fn(usize) -> Result<bool>) -> Result<Option<usize>> {
    // `low` fits or is 0, `high` doesn't.
    let (mut low, mut high) = (0, batch);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if fits(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok((low > 0).then_some(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_batch_is_found() {
        for (batch, limit, found) in
            [(128, 100, Some(100)), (128, 1, Some(1)), (128, 0, None), (2, 1, Some(1)), (1, 0, None)]
        {
            assert_eq!(largest_that_fits(batch, |batch| Ok(batch <= limit)).unwrap(), found);
        }
    }
}
