//! Convolution on the CPU: fprop, dgrad, wgrad over NHWC images.
//!
//! In f32, 3×3 kernels with stride 1 and enough channels go to `winograd`, the rest to `direct`; both
//! end in the matrix product of `gemm`. In bf16 all go to `bf16`. An image's result never depends on the images it is
//! grouped with, on the thread, or on where a piece begins.
//!
//! Measured on one Zen 4 core (AVX-512, batch 16, by the direct method's operations): Winograd layers
//! 160-240 GFLOP/s, stride 2 about 105, which is near the core's peak; PyTorch's (oneDNN, f32, NCHW)
//! forward pass reaches 75-95. F(4×4, 3×3) wasn't tried: F(2×2) is fast enough and loses no digits.
//! Tiles per block between 56 and 84 make no difference beyond noise.

#[cfg_attr(not(target_arch = "x86_64"), path = "no_bf16.rs")]
mod bf16;
mod direct;
mod epilogue;
mod gemm;
mod memory;
mod ops;
mod pack;
mod partition;
mod rows;
#[cfg(test)]
mod tests;
mod wgrad;
mod winograd;

pub use bf16::MatrixUnit;
pub use pack::PackedFilter;

use super::simd::Level;
use crate::device::{ConvShape, Direction, FilterSpec};
use bf16::{TiledFilter, Wgrad};
use direct::Direct;
use epilogue::Epilogue;
use memory::{AlignedBuffer, SyncPointers, for_pieces, for_tasks, room};
use pack::Form;
use partition::Partition;
use rows::ProloguePointers;
use wgrad::{Operands, Task};
use winograd::{POSITIONS, Winograd};

/// Whether a kernel may use all threads (rayon) or runs on the calling thread only (data-parallel programs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Coarse rayon tasks over images.
    All,
    /// The calling thread.
    One,
}

/// What convolutions multiply with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// f32 by vector instructions.
    F32(Level),
    /// bf16 by a matrix unit.
    Bf16(MatrixUnit),
}

impl Default for Arithmetic {
    fn default() -> Self {
        Arithmetic::F32(Level::detect())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Winograd,
    Direct,
}

/// The algorithm of a convolution, the same for all three directions.
fn algorithm(shape: &ConvShape) -> Algorithm {
    // With few channels the transforms cost more than they save.
    let channels = shape.in_channels.min(shape.out_channels);
    if shape.kernel == 3 && shape.stride == 1 && shape.pad <= 2 && channels >= 8 {
        Algorithm::Winograd
    } else {
        Algorithm::Direct
    }
}

fn winograd_fprop(s: &ConvShape) -> Winograd {
    Winograd::new([s.height, s.width, s.in_channels], s.out_channels, s.pad)
}

fn winograd_dgrad(s: &ConvShape) -> Winograd {
    Winograd::new([s.out_height(), s.out_width(), s.out_channels], s.in_channels, 2 - s.pad)
}

fn winograd_wgrad(s: &ConvShape) -> Winograd {
    // A longer depth for the products: each block reads and writes the whole sum.
    winograd_fprop(s).with_tiles(128)
}

/// Elements of a [`ConvWorkspace`].
#[derive(Clone, Debug, Default)]
pub struct ConvWorkspaceSize {
    arithmetic: Arithmetic,
    /// Of a thread's part.
    part: usize,
    /// Of wgrad's partial sums.
    sums: usize,
    /// Convolutions whose wgrad is in bf16.
    wgrads: Vec<ConvShape>,
}

impl ConvWorkspaceSize {
    /// Of nothing yet.
    pub fn new(arithmetic: Arithmetic) -> Self {
        Self { arithmetic, ..Self::default() }
    }

    /// Makes room for fprop and dgrad of a convolution, and for its wgrad of up to `wgrad_count` images.
    pub fn add(&mut self, shape: &ConvShape, wgrad_count: usize) {
        let (scratch, wgrad) = match self.arithmetic {
            Arithmetic::F32(_) => f32_scratch(shape),
            Arithmetic::Bf16(_) => {
                let of = |direction| TiledFilter::scratch_len(&FilterSpec { shape: *shape, direction });
                let wgrad = if wgrad_count > 0 { Wgrad::new(shape).scratch_len() } else { 0 };
                (of(Direction::Fprop).max(of(Direction::Dgrad)), wgrad)
            }
        };
        self.part = self.part.max(scratch);
        if wgrad_count > 0 {
            let sum_shape = match self.arithmetic {
                Arithmetic::F32(_) => sum_shape(shape),
                Arithmetic::Bf16(_) => bf16::sum_shape(shape),
            };
            let partition = Partition::new(shape, sum_shape, wgrad_count);
            self.part = self.part.max(wgrad);
            self.sums = self.sums.max(partition.parts * partition.sum_len());
            if matches!(self.arithmetic, Arithmetic::Bf16(_)) && !self.wgrads.contains(shape) {
                self.wgrads.push(*shape);
            }
        }
    }

    /// Bytes of a workspace for so many threads.
    pub fn bytes(&self, threads: usize) -> usize {
        (threads * room(&[self.part]) + room(&[self.sums])) * size_of::<f32>()
    }
}

/// Scratch of fprop and dgrad, and of wgrad, in f32.
fn f32_scratch(shape: &ConvShape) -> (usize, usize) {
    match algorithm(shape) {
        Algorithm::Winograd => {
            let scratch = winograd_fprop(shape).scratch_len().max(winograd_dgrad(shape).scratch_len());
            (scratch, wgrad::winograd_scratch_len(&winograd_wgrad(shape)))
        }
        Algorithm::Direct => {
            let direct = Direct::new(*shape);
            (direct.scratch_len(), wgrad::direct_scratch_len(&direct))
        }
    }
}

/// Matrices of wgrad's sums in f32, and rows of each: 16 positions of in channels, or one of (r, s, c).
fn sum_shape(shape: &ConvShape) -> [usize; 2] {
    match algorithm(shape) {
        Algorithm::Winograd => [POSITIONS, shape.in_channels],
        Algorithm::Direct => [1, direct::window_len(shape)],
    }
}

/// Working memory of the kernels, one part for each thread.
#[derive(Default)]
pub struct ConvWorkspace {
    arithmetic: Arithmetic,
    parts: Vec<AlignedBuffer>,
    /// Partial sums of wgrad.
    sums: AlignedBuffer,
    wgrads: Vec<Wgrad>,
}

impl ConvWorkspace {
    /// For `threads` threads (1 in a data-parallel program).
    pub fn new(size: &ConvWorkspaceSize, threads: usize) -> Self {
        let parts = (0..threads).map(|_| AlignedBuffer::new(size.part)).collect();
        let wgrads = size.wgrads.iter().map(Wgrad::new).collect();
        Self { arithmetic: size.arithmetic, parts, sums: AlignedBuffer::new(size.sums), wgrads }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        (self.parts.iter().map(AlignedBuffer::len).sum::<usize>() + self.sums.len()) * size_of::<f32>()
    }
}

/// What happens to the input while it is read ([`crate::device::Prologue`]).
#[derive(Default)]
pub struct PrologueArgs<'a> {
    /// Scale and shift per channel.
    pub affine: Option<(&'a [f32], &'a [f32])>,
    /// max(0, ·).
    pub relu: bool,
    /// Receives the bits, one where affine(x) > 0 (fprop only).
    pub mask: Option<&'a mut [u32]>,
}

impl PrologueArgs<'_> {
    fn pointers(self) -> ProloguePointers {
        let (scale, shift) = self
            .affine
            .map_or((std::ptr::null(), std::ptr::null()), |(scale, shift)| (scale.as_ptr(), shift.as_ptr()));
        let mask = self.mask.map_or(std::ptr::null_mut(), <[u32]>::as_mut_ptr);
        ProloguePointers { scale, shift, relu: self.relu, mask }
    }
}

fn or_null(values: Option<&[f32]>) -> *const f32 {
    values.map_or(std::ptr::null(), <[f32]>::as_ptr)
}

/// output = conv(prologue(input)) + bias + residual.
///
/// # Safety
/// `output` has room for `count` images, and nothing else uses them. `residual`, where given, has as
/// many elements as `output` and may be `output` itself. `filter` was loaded for this shape's fprop.
#[allow(clippy::too_many_arguments)]
pub unsafe fn fprop(
    shape: &ConvShape,
    filter: &PackedFilter,
    count: usize,
    input: &[f32],
    prologue: PrologueArgs,
    bias: Option<&[f32]>,
    residual: Option<*const f32>,
    output: *mut f32,
    workspace: &mut ConvWorkspace,
    threads: Threads,
) {
    debug_assert_eq!((filter.spec().shape, filter.spec().direction), (*shape, Direction::Fprop));
    assert!(input.len() >= count * shape.input_len());
    let epilogue = Epilogue {
        bias: or_null(bias),
        add: std::ptr::null(),
        mask: std::ptr::null(),
        scale: std::ptr::null(),
        residual: residual.unwrap_or(std::ptr::null()),
        output,
        channels: shape.out_channels,
    };
    let prologue = prologue.pointers();
    let (level, values) = match filter.form() {
        Form::F32(level, values) => (*level, values.as_ptr()),
        Form::Bf16(tiles) => {
            let (spec, parts) = (filter.spec(), &mut workspace.parts);
            // SAFETY: lengths were checked.
            return unsafe {
                tiles.convolve(spec, count, input.as_ptr(), prologue, epilogue, parts, threads)
            };
        }
    };
    let shared = SyncPointers::new((values, input.as_ptr(), prologue, epilogue));
    match algorithm(shape) {
        Algorithm::Winograd => {
            let w = winograd_fprop(shape);
            for_pieces(&mut workspace.parts, threads, count, w.piece(), |first, count, scratch| {
                let &(filter, input, prologue, epilogue) = shared.get();
                // SAFETY: lengths were checked; tasks write their own images.
                unsafe { w.convolve(level, filter, first, count, input, prologue, epilogue, scratch) }
            });
        }
        Algorithm::Direct => {
            let d = Direct::new(*shape);
            for_pieces(&mut workspace.parts, threads, count, d.piece(), |first, count, scratch| {
                let &(filter, input, prologue, epilogue) = shared.get();
                // SAFETY: as above.
                unsafe { d.fprop(level, filter, first, count, input, prologue, epilogue, scratch) }
            });
        }
    }
}

/// output = (dgrad(gradient) + add) ⊙ mask · scale + residual, `output` being the input's gradient.
///
/// # Safety
/// `output` has room for `count` images, and nothing else uses them. `add` and `residual`, where
/// given, have as many elements as `output`, and each may be `output` itself. `filter` was loaded for this shape's dgrad.
#[allow(clippy::too_many_arguments)]
pub unsafe fn dgrad(
    shape: &ConvShape,
    filter: &PackedFilter,
    count: usize,
    gradient: &[f32],
    add: Option<*const f32>,
    mask: Option<&[u32]>,
    scale: Option<&[f32]>,
    residual: Option<*const f32>,
    output: *mut f32,
    workspace: &mut ConvWorkspace,
    threads: Threads,
) {
    debug_assert_eq!((filter.spec().shape, filter.spec().direction), (*shape, Direction::Dgrad));
    assert!(gradient.len() >= count * shape.output_len());
    let epilogue = Epilogue {
        bias: std::ptr::null(),
        add: add.unwrap_or(std::ptr::null()),
        mask: mask.map_or(std::ptr::null(), <[u32]>::as_ptr),
        scale: or_null(scale),
        residual: residual.unwrap_or(std::ptr::null()),
        output,
        channels: shape.in_channels,
    };
    let (level, values) = match filter.form() {
        Form::F32(level, values) => (*level, values.as_ptr()),
        Form::Bf16(tiles) => {
            let (spec, parts, none) = (filter.spec(), &mut workspace.parts, ProloguePointers::NONE);
            // SAFETY: lengths were checked.
            return unsafe { tiles.convolve(spec, count, gradient.as_ptr(), none, epilogue, parts, threads) };
        }
    };
    let shared = SyncPointers::new((values, gradient.as_ptr(), epilogue));
    match algorithm(shape) {
        Algorithm::Winograd => {
            let w = winograd_dgrad(shape);
            for_pieces(&mut workspace.parts, threads, count, w.piece(), |first, count, scratch| {
                let &(filter, gradient, epilogue) = shared.get();
                let none = ProloguePointers::NONE;
                // SAFETY: lengths were checked; tasks write their own images.
                unsafe { w.convolve(level, filter, first, count, gradient, none, epilogue, scratch) }
            });
        }
        Algorithm::Direct => {
            let d = Direct::new(*shape);
            for_pieces(&mut workspace.parts, threads, count, 1, |first, count, scratch| {
                let &(filter, gradient, epilogue) = shared.get();
                // SAFETY: as above.
                unsafe { d.dgrad(level, filter, first, count, gradient, epilogue, scratch) }
            });
        }
    }
}

/// weight_gradient (KCRS) = Σ over images and pixels of prologue(input) × gradient.
#[allow(clippy::too_many_arguments)]
pub fn wgrad(
    shape: &ConvShape,
    count: usize,
    input: &[f32],
    prologue: PrologueArgs,
    gradient: &[f32],
    weight_gradient_kcrs: &mut [f32],
    workspace: &mut ConvWorkspace,
    threads: Threads,
) {
    assert!(input.len() >= count * shape.input_len() && gradient.len() >= count * shape.output_len());
    assert_eq!(weight_gradient_kcrs.len(), shape.filter_len());
    let prologue = ProloguePointers { mask: std::ptr::null_mut(), ..prologue.pointers() };
    let level = match workspace.arithmetic {
        Arithmetic::F32(level) => level,
        Arithmetic::Bf16(unit) => {
            let tiles = workspace.wgrads.iter().find(|wgrad| wgrad.shape() == shape);
            assert!(tiles.is_some(), "the workspace was made without wgrad of this shape");
            let operands = Operands { input: input.as_ptr(), prologue, gradient: gradient.as_ptr() };
            let (parts, sums) = (&mut workspace.parts, &mut workspace.sums);
            if let Some(tiles) = tiles {
                // SAFETY: lengths were checked.
                unsafe { tiles.run(unit, count, operands, weight_gradient_kcrs, parts, sums, threads) };
            }
            return;
        }
    };
    let winograd = algorithm(shape) == Algorithm::Winograd;
    let partition = Partition::new(shape, sum_shape(shape), count);
    let needed = partition.parts * partition.sum_len();
    assert!(needed <= workspace.sums.len(), "the workspace was made without wgrad of this shape");
    let sums = workspace.sums.as_mut_ptr();
    let shared = SyncPointers::new((input.as_ptr(), prologue, gradient.as_ptr(), sums));
    let tasks = partition.parts * partition.cuts;
    for_pieces(&mut workspace.parts, threads, tasks, 1, |task, _, scratch| {
        let &(input, prologue, gradient, sums) = shared.get();
        let (part, cut) = (task / partition.cuts, task % partition.cuts);
        let channels = partition.channels(cut);
        let images = partition.images(part, count);
        // SAFETY: lengths were checked; every task has its own sum.
        unsafe {
            let sum = sums.add(part * partition.sum_len() + partition.cut_offset(channels.0));
            let task = Task { images, channels, operands: Operands { input, prologue, gradient }, sum };
            match winograd {
                true => winograd_wgrad(shape).accumulate(level, task, scratch),
                false => Direct::new(*shape).accumulate(level, task, scratch),
            }
        }
    });
    let target = SyncPointers::new((sums.cast_const(), weight_gradient_kcrs.as_mut_ptr()));
    let reduce = |block: usize| {
        let &(sums, target) = target.get();
        // SAFETY: the sums are complete; the block's out channels are this task's.
        unsafe { partition.reduce(level, block, sums, target) };
    };
    for_tasks(threads, shape.out_channels.div_ceil(16), reduce);
}
