//! What every op has on the CPU, in the file of its family: its execution, and the working memory that takes.

use super::conv::{Arithmetic, ConvWorkspace, ConvWorkspaceSize, PackedFilter};
use super::memory::Frame;
use crate::data::ImageSet;
use crate::device::ops::each_op;
use crate::device::{FilterId, Op};
use crate::error::{Error, Result};

/// An op on the CPU.
pub(super) trait Execute {
    /// Enlarges the working memory to what the op needs in a program for `capacity` images.
    fn reserve(&self, capacity: usize, size: &mut ScratchSize) {
        let _ = (capacity, size);
    }

    /// Runs the op of a checked program (`check::check`): the spans that it writes overlap no other of its spans,
    /// except where it may work in place. That is what makes the slices of a [`Frame`] sound.
    ///
    /// # Errors
    /// Labels or indices out of range, images of another size.
    fn execute(&self, context: &mut Context) -> Result<()>;
}

/// What an op works with beside its own fields.
pub(super) struct Context<'a> {
    pub frame: Frame<'a>,
    pub filters: Filters<'a>,
    pub images: &'a [Option<ImageSet>],
    pub scratch: &'a mut Scratch,
}

/// The filters in the form of the kernels. Workers share them, so that no worker can load one.
pub(super) enum Filters<'a> {
    Shared(&'a [PackedFilter]),
    Own(&'a mut [PackedFilter]),
}

impl Filters<'_> {
    pub fn get(&self, filter: FilterId) -> &PackedFilter {
        match self {
            Filters::Shared(filters) => &filters[filter.0],
            Filters::Own(filters) => &filters[filter.0],
        }
    }

    pub fn get_mut(&mut self, filter: FilterId) -> Result<&mut PackedFilter> {
        match self {
            Filters::Shared(_) => Err(Error::run("workers can't load a filter")),
            Filters::Own(filters) => Ok(&mut filters[filter.0]),
        }
    }
}

/// Sizes of a [`Scratch`].
#[derive(Default)]
pub(super) struct ScratchSize {
    pub convolutions: ConvWorkspaceSize,
    pub partials: usize,
    pub coefficients: usize,
}

impl ScratchSize {
    /// For all ops of some programs.
    pub fn of<'a>(
        arithmetic: Arithmetic,
        programs: impl Iterator<Item = &'a crate::device::Program>,
    ) -> Self {
        let mut size = Self { convolutions: ConvWorkspaceSize::new(arithmetic), ..Self::default() };
        for program in programs {
            program.ops.iter().for_each(|op| each_op!(op, op => op.reserve(program.capacity, &mut size)));
        }
        size
    }

    /// Bytes of a [`Scratch`] of this size for ops that use so many threads.
    pub fn bytes(&self, threads: usize) -> usize {
        self.convolutions.bytes(threads)
            + self.partials * size_of::<f64>()
            + self.coefficients * size_of::<f32>()
    }
}

/// Working memory.
#[derive(Default)]
pub(super) struct Scratch {
    pub convolutions: ConvWorkspace,
    /// Of batch norm's reductions.
    pub partials: Vec<f64>,
    /// Of batch norm's backward pass.
    pub coefficients: Vec<f32>,
}

impl Scratch {
    pub fn new(size: &ScratchSize, threads: usize) -> Self {
        Self {
            convolutions: ConvWorkspace::new(&size.convolutions, threads),
            partials: vec![0.0; size.partials],
            coefficients: vec![0.0; size.coefficients],
        }
    }

    pub fn bytes(&self) -> usize {
        self.convolutions.bytes()
            + self.partials.len() * size_of::<f64>()
            + self.coefficients.len() * size_of::<f32>()
    }
}

/// Runs one op. A slice without images leaves everything as it is, except what doesn't depend on images.
pub(super) fn execute(op: &Op, mut context: Context) -> Result<()> {
    if context.frame.count() == 0 && !op.work().once {
        return Ok(());
    }
    each_op!(op, op => op.execute(&mut context))
}
