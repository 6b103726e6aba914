//! The roofline of a processor: what arithmetic and memory allow at best.

use serde::Serialize;

use super::cost::Cost;
use super::ops::{self, Op};
use super::{
    BatchSlice, ConvShape, Device, Direction, FilterId, FilterSpec, MemoryLayout, Precision, Program,
    Prologue, Region, Span, StepParams,
};
use crate::error::Result;

/// Peaks of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Roofline {
    /// Its name.
    pub name: &'static str,
    /// Where the numbers are from.
    pub source: &'static str,
    /// FLOP a second of matrix products of bf16 with sums of f32, without sparsity.
    pub bf16: f64,
    /// FLOP a second of f32 outside matrix units, where all other arithmetic is too.
    pub f32: f64,
    /// Bytes a second of the memory.
    pub bytes: f64,
    /// Multiprocessors, among which blocks are dealt out; 1 where that is not known.
    pub processors: u64,
}

/// What an op can't be faster than.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The rate of matrix products.
    Products,
    /// The rate of other arithmetic.
    Arithmetic,
    /// The memory's bandwidth.
    Bytes,
}

impl Roofline {
    /// NVIDIA A100 SXM4, 80 GB.
    pub const A100: Roofline = Roofline {
        name: "A100 SXM 80 GB",
        source: "NVIDIA A100 Tensor Core GPU data sheet: 312 TFLOPS BF16 dense, 19.5 TFLOPS FP32, 2,039 GB/s; 108 multiprocessors",
        bf16: 312e12,
        f32: 19.5e12,
        bytes: 2039e9,
        processors: 108,
    };
    /// NVIDIA H100 SXM5, 80 GB.
    pub const H100: Roofline = Roofline {
        name: "H100 SXM 80 GB",
        source: "NVIDIA H100 Tensor Core GPU data sheet: 1,979 TFLOPS BF16 with sparsity, half of it dense, 67 TFLOPS FP32, 3.35 TB/s; 132 multiprocessors",
        bf16: 989.5e12,
        f32: 67e12,
        bytes: 3.35e12,
        processors: 132,
    };

    /// FLOP a second of matrix products whose operands have this precision.
    pub fn products(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.f32,
            Precision::Bf16 => self.bf16,
        }
    }

    /// The least seconds that a cost takes, and what binds.
    pub fn least(&self, cost: &Cost, precision: Precision) -> (f64, Bound) {
        let bounds = [
            (cost.products as f64 / self.products(precision), Bound::Products),
            (cost.elementwise as f64 / self.f32, Bound::Arithmetic),
            (cost.bytes as f64 / self.bytes, Bound::Bytes),
        ];
        bounds
            .into_iter()
            .fold((0.0, Bound::Bytes), |most, bound| if bound.0 > most.0 { bound } else { most })
    }

    /// Measures a device: products in a convolution that is nothing but a large matrix product, bytes in a
    /// copy larger than caches. Where `data_parallel`, on one of the device's workers, else on all of it.
    ///
    /// # Errors
    /// The device fails.
    pub fn measure(device: &dyn Device, data_parallel: bool) -> Result<Self> {
        let products = rate(device, &product(data_parallel), |cost| cost.products)?;
        let bytes = rate(device, &copy(data_parallel), |cost| cost.bytes)?;
        Ok(Self {
            name: "measured here",
            source: "the best of five runs of a 1x1 convolution of 512 channels, and of a copy of 64 MiB",
            bf16: products,
            f32: products,
            bytes,
            processors: 1,
        })
    }
}

/// Images of the programs below.
const COUNT: usize = 16;
/// Runs, the first of which only warms up.
const RUNS: usize = 6;

/// What a program's last op does of something, a second, in the best of a few runs.
fn rate(device: &dyn Device, program: &Program, of: fn(&Cost) -> u64) -> Result<f64> {
    let arena = program.arena * if program.data_parallel { device.workers() } else { 1 };
    let mut session = device.open(MemoryLayout { arena, ..MemoryLayout::default() })?;
    // Pages that were never written to are all the same page.
    session.write(Region::Arena, 0, &vec![1.0; program.arena])?;
    let all = program.costs(COUNT, device.precision());
    let cost = all.last().map_or(0, of);
    let id = session.prepare(program.clone())?;
    let mut least = f64::INFINITY;
    for run in 0..RUNS {
        let seconds = session.time(id, &StepParams::default(), BatchSlice { first: 0, count: COUNT })?;
        if run > 0 {
            least = least.min(seconds.last().copied().unwrap_or(f64::INFINITY));
        }
    }
    Ok(cost as f64 / least)
}

/// A program over two slots of the arena.
fn program(op: impl Fn(Span, Span) -> Op, len: usize, data_parallel: bool) -> Program {
    let slot = |offset| Span { region: Region::Arena, offset, len };
    let arena = 2 * COUNT * len;
    let ops = vec![op(slot(0), slot(COUNT * len))];
    Program { ops, capacity: COUNT, arena, data_parallel, ..Program::default() }
}

/// A matrix product of 4096 x 512 x 512.
fn product(data_parallel: bool) -> Program {
    let (side, channels) = (16, 512);
    let shape = ConvShape {
        height: side,
        width: side,
        in_channels: channels,
        out_channels: channels,
        kernel: 1,
        stride: 1,
        pad: 0,
    };
    let conv = |input, output| {
        Op::Conv(ops::Conv {
            shape,
            filter: FilterId(0),
            input,
            prologue: Prologue::default(),
            bias: None,
            residual: None,
            output,
        })
    };
    let filters = vec![FilterSpec { shape, direction: Direction::Fprop }];
    Program { filters, ..program(conv, shape.input_len(), data_parallel) }
}

/// A copy of 64 MiB.
fn copy(data_parallel: bool) -> Program {
    let elements = (64 << 20) / size_of::<f32>() / COUNT;
    program(|input, output| Op::Copy(ops::Copy { elements, input, output }), elements, data_parallel)
}
