//! A case: a few ops, memory laid out and filled for them, run on any device and compared with the
//! f64 reference, all of memory and not just what the ops should write.

use pbe::data::ImageSet;
use pbe::device::cpu::CpuDevice;
use pbe::device::reference::ReferenceDevice;
use pbe::device::{
    Affine, Controls, Device, FilterId, FilterSpec, ImageSlot, Instance, MemoryLayout, Op, Program, Region,
    Span,
};
use pbe::error::Result;
use pbe::rng::{Purpose, Stream, below};
use std::ops::Range;

const REGIONS: [Region; 7] = [
    Region::Weights,
    Region::Gradients,
    Region::Momentum,
    Region::Average,
    Region::Derived,
    Region::Arena,
    Region::Staging,
];

pub struct Case {
    /// Runs first, as a program of its own with all threads.
    pub setup: Vec<Op>,
    pub ops: Vec<Op>,
    pub repeated: Range<usize>,
    pub filters: Vec<FilterSpec>,
    pub controls: Controls,
    pub images: Option<ImageSet>,
    /// Images of a lane program's instances; 0 runs one instance with all threads.
    pub lane: usize,
    count: usize,
    lengths: [usize; 7],
    floats: Vec<(Span, Vec<f32>)>,
    words: Vec<(Span, Vec<u32>)>,
    stream: Stream,
    drawn: u64,
}

impl Case {
    /// `count` images; per-image operands lie in the arena, or in staging for a lane program.
    pub fn new(count: usize, lane: usize, seed: u64) -> Self {
        Case {
            setup: Vec::new(),
            ops: Vec::new(),
            repeated: 0..0,
            filters: Vec::new(),
            controls: Controls { seed, ..Controls::default() },
            images: None,
            lane,
            count,
            lengths: [0; 7],
            floats: Vec::new(),
            words: Vec::new(),
            stream: Stream::new(seed, Purpose::Synthetic, 0),
            drawn: 0,
        }
    }

    /// A number in 0..n.
    pub fn below(&mut self, n: u32) -> u32 {
        self.drawn += 1;
        below(self.stream.words(self.drawn)[0], n)
    }

    fn values(&mut self, len: usize, draw: impl Fn(u32) -> f32) -> Vec<f32> {
        (0..len).map(|_| draw(self.below(512))).collect()
    }

    fn take(&mut self, region: Region, len: usize, copies: usize) -> Span {
        let end = &mut self.lengths[region as usize];
        let span = Span { region, offset: *end, len };
        // A gap, so that writing past the end shows.
        *end += len * copies + 3;
        span
    }

    /// An operand of `len` elements per image, filled with multiples of 1/64 in [-4, 4).
    pub fn image(&mut self, len: usize) -> Span {
        self.image_of(len, |v| v as f32 / 64.0 - 4.0)
    }

    /// The same, with values from a word in 0..512.
    pub fn image_of(&mut self, len: usize, draw: impl Fn(u32) -> f32) -> Span {
        let region = if self.lane > 0 { Region::Staging } else { Region::Arena };
        let span = self.take(region, len, self.count);
        let values = self.values(len * self.count, draw);
        self.floats.push((span, values));
        span
    }

    /// A word per image, below `n`.
    pub fn word(&mut self, n: usize) -> Span {
        let span = self.take(Region::Staging, 1, self.count);
        let values = (0..self.count).map(|_| self.below(n as u32)).collect();
        self.words.push((span, values));
        span
    }

    /// Other words for a span of [`Case::word`].
    pub fn set_words(&mut self, span: Span, values: Vec<u32>) {
        self.words.push((span, values));
    }

    /// Room for `len` words per image.
    pub fn words(&mut self, len: usize) -> Span {
        let region = if self.lane > 0 { Region::Staging } else { Region::Arena };
        let span = self.take(region, len, self.count);
        self.words.push((span, vec![0; len * self.count]));
        span
    }

    /// An operand outside the images, in [-4, 4).
    pub fn whole(&mut self, region: Region, len: usize) -> Span {
        self.whole_of(region, len, |v| v as f32 / 64.0 - 4.0)
    }

    pub fn whole_of(&mut self, region: Region, len: usize, draw: impl Fn(u32) -> f32) -> Span {
        let span = self.take(region, len, 1);
        let values = self.values(len, draw);
        self.floats.push((span, values));
        span
    }

    /// An affine map that takes no [`Case::image`] value nearer than 1/1024 to zero, so that f32 and
    /// f64 agree about its sign.
    pub fn affine(&mut self, channels: usize) -> Affine {
        Affine {
            scale: self.whole_of(Region::Derived, channels, |v| (v % 31) as f32 / 8.0 + 0.125 - 2.0),
            shift: self.whole_of(Region::Derived, channels, |v| (v as f32 - 256.0) / 512.0 + 1.0 / 1024.0),
        }
    }

    pub fn filter(&mut self, spec: FilterSpec) -> FilterId {
        self.filters.push(spec);
        FilterId(self.filters.len() - 1)
    }

    pub fn layout(&self) -> MemoryLayout {
        let len = |region: Region| self.lengths[region as usize];
        MemoryLayout {
            weights: len(Region::Weights),
            gradients: len(Region::Gradients),
            momentum: len(Region::Momentum),
            average: len(Region::Average),
            derived: len(Region::Derived),
            arena: len(Region::Arena),
            staging: len(Region::Staging),
        }
    }

    pub fn program(&self) -> Program {
        Program {
            ops: self.ops.clone(),
            filters: self.filters.clone(),
            capacity: if self.lane > 0 { self.lane } else { self.count },
            arena: self.lengths[Region::Arena as usize],
            lanes: self.lane > 0,
            repeated: self.repeated.clone(),
        }
    }

    fn instances(&self) -> Vec<Instance> {
        let size = if self.lane > 0 { self.lane } else { self.count };
        let starts = (0..self.count).step_by(size);
        starts.map(|first| Instance { first, count: size.min(self.count - first) }).collect()
    }

    /// All memory after the ops ran, region by region.
    fn run(&self, device: &dyn Device) -> Result<Vec<Vec<f32>>> {
        let mut session = device.open(self.layout())?;
        for (span, values) in &self.floats {
            session.write(span.region, span.offset, values)?;
        }
        for (span, values) in &self.words {
            session.write_words(span.region, span.offset, values)?;
        }
        if let Some(images) = &self.images {
            session.attach(ImageSlot(0), images)?;
        }
        let setup = Program { ops: self.setup.clone(), filters: self.filters.clone(), ..Program::default() };
        let setup = session.prepare(setup)?;
        session.run(setup, &self.controls, &[Instance { first: 0, count: 0 }])?;
        let program = session.prepare(self.program())?;
        session.run(program, &self.controls, &self.instances())?;
        let read = |region: Region| {
            let mut values = vec![0.0; self.lengths[region as usize]];
            session.read(region, 0, &mut values).map(|()| values)
        };
        REGIONS.into_iter().map(read).collect()
    }

    /// Whether an element holds a word, whose bits are no number.
    fn is_word(&self, region: Region, element: usize) -> bool {
        self.words.iter().any(|(span, values)| {
            span.region == region && (span.offset..span.offset + values.len()).contains(&element)
        })
    }

    /// Asserts that the CPU agrees with the reference to `tolerance` (absolute and relative) and
    /// with itself, to the bit, for any number of threads. The regions are returned.
    pub fn check(&self, tolerance: f32) -> Vec<Vec<f32>> {
        let expected = self.run(&ReferenceDevice).unwrap();
        let results = [1, 2, 3].map(|threads| self.run(&CpuDevice::new(Some(threads)).unwrap()).unwrap());
        for (region, (values, expected)) in REGIONS.iter().zip(results[0].iter().zip(&expected)) {
            for (i, (value, expected)) in values.iter().zip(expected).enumerate() {
                let near = (value - expected).abs() <= tolerance * (1.0 + expected.abs());
                assert!(near || self.is_word(*region, i), "{region:?} {i}: {value} is not {expected}");
            }
        }
        let bits =
            |regions: &Vec<Vec<f32>>| -> Vec<u32> { regions.iter().flatten().map(|v| v.to_bits()).collect() };
        assert!(results.iter().all(|result| bits(result) == bits(&results[0])), "depends on the threads");
        results.into_iter().next().unwrap()
    }

    /// What a CPU device says to the ops.
    pub fn refusal(&self) -> String {
        match self.run(&CpuDevice::new(Some(2)).unwrap()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }
}
