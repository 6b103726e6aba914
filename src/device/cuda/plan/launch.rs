//! A launch as data: which kernel, on what, and how many blocks.

use std::fmt;

use crate::device::cuda::kernels::{Arguments, Dtype, Kernel, ParameterType, Use};
use crate::device::{FilterId, ImageSlot, KernelLaunch, LaunchBuffer, Span};

/// Threads of a block: `BLOCK` in kernels/common.cuh.
pub(in crate::device::cuda) const BLOCK: usize = 128;

/// Memory that a launch is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) enum Buffer {
    /// A span of a region, at the first image of the instance.
    Span(Span),
    /// A working buffer for a convolution's operand.
    Operand(usize),
    /// The working buffer for partial sums.
    Partials,
    /// A filter in the form of the kernels.
    Filter(FilterId),
    /// The pixels of an image set.
    Images(ImageSlot),
    /// The scalars of the run.
    Scalars,
    /// The table of a training step's update.
    UpdateTable,
}

/// A buffer and how much of it a kernel uses, in elements of the parameter's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) struct BufferUse {
    pub buffer: Buffer,
    pub elements: usize,
    /// Elements that a working buffer needs for this launch with any smaller number of images too.
    pub reserve: usize,
}

/// A tensor, or null where the op lacks it.
pub(in crate::device::cuda) type Pointer = Option<BufferUse>;

/// A size of an image set, known when the set is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) enum ImageSetSize {
    Images(ImageSlot),
    Channels(ImageSlot),
}

/// An argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::device::cuda) enum Argument {
    Pointer(Pointer),
    Word(u32),
    Float(f32),
    ImageSet(ImageSetSize),
}

impl From<Pointer> for Argument {
    fn from(pointer: Pointer) -> Self {
        Argument::Pointer(pointer)
    }
}

impl From<usize> for Argument {
    /// A size. Those of a prepared program are below 2^31 ([`super::Plan::check_sizes`]).
    fn from(value: usize) -> Self {
        Argument::Word(value as u32)
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Self {
        Argument::Word(value.into())
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Argument::Float(value)
    }
}

impl From<ImageSetSize> for Argument {
    fn from(value: ImageSetSize) -> Self {
        Argument::ImageSet(value)
    }
}

/// Blocks of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::cuda) enum Grid {
    /// As many as these items need, a thread each.
    Items(usize),
    /// So many.
    Blocks(usize, usize),
}

impl Grid {
    pub fn blocks(self) -> (u32, u32) {
        match self {
            Grid::Items(items) => ((items as u32).div_ceil(BLOCK as u32), 1),
            Grid::Blocks(x, y) => (x as u32, y as u32),
        }
    }
}

/// A kernel and all that starting it takes, addresses apart.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::device::cuda) struct Launch {
    /// The op it belongs to.
    pub op: usize,
    pub kernel: Kernel,
    pub grid: Grid,
    /// As [`Kernel::parameters`] has them.
    pub values: Vec<Argument>,
    /// FLOP of matrix products.
    pub products: u64,
    /// Other ops whose work it does.
    pub fused: Vec<String>,
}

impl Launch {
    pub fn new<A: Arguments>(op: usize, kernel: Kernel, grid: Grid, arguments: A) -> Result<Self, String> {
        if kernel.parameters() != A::PARAMETERS {
            return Err(format!("{} doesn't take {:?}", kernel.name(), A::PARAMETERS));
        }
        Ok(Self { op, kernel, grid, values: arguments.values(), products: 0, fused: Vec::new() })
    }

    /// Its tensors, the names of their parameters, what is done with them, and their elements' type.
    pub fn tensors(&self) -> impl Iterator<Item = (&'static str, Use, Dtype, &BufferUse)> {
        let all = self.kernel.parameters().iter().zip(&self.values);
        all.filter_map(|(parameter, value)| match (parameter.kind, value) {
            (ParameterType::Pointer(usage, dtype), Argument::Pointer(Some(tensor))) => {
                Some((parameter.name, usage, dtype, tensor))
            }
            (ParameterType::Operand(usage), Argument::Pointer(Some(tensor))) => {
                Some((parameter.name, usage, self.kernel.operand(), tensor))
            }
            _ => None,
        })
    }

    /// What is told of it outside of this device.
    pub fn describe(&self) -> KernelLaunch {
        let buffers: Vec<LaunchBuffer> = self
            .tensors()
            .map(|(name, usage, dtype, tensor)| LaunchBuffer {
                name,
                dtype: dtype.name(),
                place: tensor.buffer.to_string(),
                bytes: (tensor.elements * dtype.bytes() * if usage == Use::Update { 2 } else { 1 }) as u64,
            })
            .collect();
        let (x, y) = self.grid.blocks();
        KernelLaunch {
            kernel: self.kernel.name(),
            blocks: u64::from(x) * u64::from(y),
            bytes: buffers.iter().map(|buffer| buffer.bytes).sum(),
            products: self.products,
            grid: [x, y],
            fused: self.fused.clone(),
            buffers,
        }
    }
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Buffer::Span(Span { region, offset, .. }) => {
                write!(f, "{}+{offset}", format!("{region:?}").to_lowercase())
            }
            Buffer::Operand(number) => write!(f, "operand {number}"),
            Buffer::Partials => f.write_str("partial sums"),
            Buffer::Filter(filter) => write!(f, "filter {}", filter.0),
            Buffer::Images(slot) => write!(f, "images {}", slot.0),
            Buffer::Scalars => f.write_str("scalars"),
            Buffer::UpdateTable => f.write_str("update table"),
        }
    }
}
