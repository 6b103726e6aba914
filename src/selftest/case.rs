//! A case: a few ops with memory laid out and filled for them, run on any device. Afterwards all of memory is
//! compared, also what the ops should not write.

use crate::device::ops;
use std::ops::Range;

use crate::data::ImageSet;
use crate::device::{
    Affine, BatchSlice, ConvShape, Device, Direction, FilterId, FilterSpec, ImageSlot, MemoryLayout, Op,
    Program, Region, Session, Span, StepParams,
};
use crate::error::Result;
use crate::rng::{Purpose, Stream, below};

/// A few ops and the memory they work on.
pub struct Case {
    /// Runs first, as a program of its own with all threads.
    pub setup: Vec<Op>,
    /// What is tested.
    pub ops: Vec<Op>,
    /// The `ops` that run [`StepParams::repeats`] times.
    pub loop_body: Range<usize>,
    /// What the ops' [`FilterId`]s mean.
    pub filters: Vec<FilterSpec>,
    /// The scalars of the run.
    pub params: StepParams,
    /// Whether the ops run twice.
    pub twice: bool,
    /// Runs between the two runs, as a program of its own.
    pub between: Vec<Op>,
    /// What the host writes between the two runs.
    pub rewritten: Vec<(Span, Vec<f32>)>,
    /// The set that [`ImageSlot`] 0 is.
    pub images: Option<ImageSet>,
    /// Images of a data-parallel program's slices; 0 runs one slice with all threads.
    pub slice: usize,
    count: usize,
    /// Whether operands begin on whole 32 bytes.
    aligned: bool,
    lengths: [usize; 7],
    floats: Vec<(Span, Vec<f32>)>,
    words: Vec<(Span, Vec<u32>)>,
    discarded: Vec<Span>,
    stream: Stream,
    drawn: u64,
}

/// All memory of a case after it ran, region by region in the order of [`Region::ALL`].
pub type RegionValues = Vec<Vec<f32>>;

impl Case {
    /// `count` images; per-image operands lie in the arena, or in staging for a data-parallel program.
    pub fn new(count: usize, slice: usize, seed: u64) -> Self {
        Case {
            setup: Vec::new(),
            ops: Vec::new(),
            loop_body: 0..0,
            filters: Vec::new(),
            params: StepParams { seed, ..StepParams::default() },
            twice: false,
            between: Vec::new(),
            rewritten: Vec::new(),
            images: None,
            slice,
            count,
            aligned: false,
            lengths: [0; 7],
            floats: Vec::new(),
            words: Vec::new(),
            discarded: Vec::new(),
            stream: Stream::new(seed, Purpose::Synthetic, 0),
            drawn: 0,
        }
    }

    /// Operands that are added from here on begin on whole 32 bytes, as in a network's arena.
    pub fn align(&mut self) {
        self.aligned = true;
    }

    /// Aligns operands from here on or, at the beginning of a case, makes sure that none is aligned by chance.
    pub fn set_alignment(&mut self, aligned: bool) {
        self.aligned = aligned;
        if !aligned {
            // Workers share an arena in equal parts, and have nothing there.
            let data_parallel = self.slice > 0;
            let regions = Region::ALL.into_iter().filter(|&region| !data_parallel || region != Region::Arena);
            regions.for_each(|region| self.gap(region, 1));
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

    fn allocate(&mut self, region: Region, len: usize, copies: usize) -> Span {
        if self.aligned {
            let end = self.lengths[region as usize];
            self.gap(region, end.next_multiple_of(ALIGN) - end);
        }
        let offset = self.lengths[region as usize];
        self.lengths[region as usize] += len * copies;
        self.gap(region, GAP);
        Span { region, offset, len }
    }

    /// Adds a gap of values that occur nowhere else, so that writing past the end shows.
    fn gap(&mut self, region: Region, len: usize) {
        let gap = Span { region, offset: self.lengths[region as usize], len };
        let values = (0..gap.len).map(|i| 1000.0 + (gap.offset + i) as f32).collect();
        self.floats.push((gap, values));
        self.lengths[region as usize] += len;
    }

    fn per_image(&self) -> Region {
        if self.slice > 0 { Region::Staging } else { Region::Arena }
    }

    /// An operand of `len` elements per image, filled with multiples of 1/64 in [-4, 4).
    pub fn image(&mut self, len: usize) -> Span {
        self.image_of(len, sixty_fourths)
    }

    /// The same, with values from a word in 0..512.
    pub fn image_of(&mut self, len: usize, draw: impl Fn(u32) -> f32) -> Span {
        let span = self.allocate(self.per_image(), len, self.count);
        let values = self.values(len * self.count, draw);
        self.floats.push((span, values));
        span
    }

    /// An operand of `len` elements per image in staging.
    pub fn staged(&mut self, len: usize) -> Span {
        let span = self.allocate(Region::Staging, len, self.count);
        let values = self.values(len * self.count, sixty_fourths);
        self.floats.push((span, values));
        span
    }

    /// A word per image, below `n`.
    pub fn word(&mut self, n: usize) -> Span {
        let span = self.allocate(Region::Staging, 1, self.count);
        let values = (0..self.count).map(|_| self.below(n as u32)).collect();
        self.words.push((span, values));
        span
    }

    /// Other words for a span of [`Case::word`].
    pub fn set_words(&mut self, span: Span, values: Vec<u32>) {
        self.words.push((span, values));
    }

    /// Space for `len` words per image.
    pub fn words(&mut self, len: usize) -> Span {
        let span = self.allocate(self.per_image(), len, self.count);
        self.words.push((span, vec![0; len * self.count]));
        span
    }

    /// Says that an operand isn't read after the ops have run, so a device needn't store it.
    pub fn discard(&mut self, span: Span) {
        self.discarded.push(span);
    }

    /// An operand outside the images, in [-4, 4).
    pub fn whole(&mut self, region: Region, len: usize) -> Span {
        self.whole_of(region, len, sixty_fourths)
    }

    /// The same, with values from a word in 0..512.
    pub fn whole_of(&mut self, region: Region, len: usize, draw: impl Fn(u32) -> f32) -> Span {
        let span = self.allocate(region, len, 1);
        let values = self.values(len, draw);
        self.floats.push((span, values));
        span
    }

    /// An affine map that takes [`Case::image`] values to zero or at least 1/1024 away from it, so that f32 and f64
    /// agree about the sign.
    pub fn affine(&mut self, channels: usize) -> Affine {
        // Without a shift, zero stays zero.
        let shift = |v: u32| match v % 4 {
            0 => 0.0,
            _ => (v as f32 - 256.0) / 512.0 + 1.0 / 1024.0,
        };
        Affine {
            scale: self.whole_of(Region::Derived, channels, |v| (v % 31) as f32 / 8.0 + 0.125 - 2.0),
            shift: self.whole_of(Region::Derived, channels, shift),
        }
    }

    /// A filter of the table.
    pub fn filter(&mut self, spec: FilterSpec) -> FilterId {
        self.filters.push(spec);
        FilterId(self.filters.len() - 1)
    }

    /// A filter that the setup loads, of weights that bf16 holds.
    pub fn loaded_filter(&mut self, shape: ConvShape, direction: Direction) -> FilterId {
        let filter = self.filter(FilterSpec { shape, direction });
        let weights = self.whole_of(Region::Weights, shape.filter_len(), |v| v as f32 / 512.0 - 0.5);
        self.setup.push(Op::LoadFilter(ops::LoadFilter { filter, weights, scale: None }));
        filter
    }

    /// An operand that another op reads after those that are tested (`kept`), so that a device has to store it; else it
    /// needn't.
    pub fn keep_or_discard(&mut self, kept: bool, span: Span) {
        if kept {
            let output = self.image(span.len);
            self.ops.push(Op::Copy(ops::Copy { elements: span.len, input: span, output }));
        } else {
            self.discard(span);
        }
    }

    /// Elements of every region.
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

    /// The ops as a program.
    pub fn program(&self) -> Program {
        Program {
            ops: self.ops.clone(),
            filters: self.filters.clone(),
            capacity: if self.slice > 0 { self.slice } else { self.count },
            arena: self.lengths[Region::Arena as usize],
            data_parallel: self.slice > 0,
            loop_body: self.loop_body.clone(),
        }
    }

    fn slices(&self) -> Vec<BatchSlice> {
        let size = if self.slice > 0 { self.slice } else { self.count };
        let starts = (0..self.count).step_by(size.max(1));
        starts.map(|first| BatchSlice { first, count: size.min(self.count - first) }).collect()
    }

    /// Runs ops as a program of its own with all threads, if there are any.
    fn run_whole(&self, session: &mut dyn Session, ops: &[Op]) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        let program = Program { ops: ops.to_vec(), filters: self.filters.clone(), ..Program::default() };
        let program = session.prepare(program)?;
        session.run(program, &self.params, &[BatchSlice { first: 0, count: 0 }])
    }

    /// All memory after the ops ran on `device`.
    ///
    /// # Errors
    /// The device refuses the ops or fails.
    pub fn run(&self, device: &dyn Device) -> Result<RegionValues> {
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
        self.run_whole(session.as_mut(), &self.setup)?;
        let program = session.prepare(self.program())?;
        session.run(program, &self.params, &self.slices())?;
        self.run_whole(session.as_mut(), &self.between)?;
        for (span, values) in &self.rewritten {
            session.write(span.region, span.offset, values)?;
        }
        if self.twice {
            session.run(program, &self.params, &self.slices())?;
        }
        let read = |region: Region| {
            let mut values = vec![0.0; self.lengths[region as usize]];
            session.read(region, 0, &mut values)?;
            Ok(values)
        };
        Region::ALL.into_iter().map(read).collect()
    }

    /// Whether bf16 represents every operand of the convolutions exactly. It does represent the values that images and
    /// filters are filled with, but not what an affine map, a scale or another op makes of them.
    pub fn operands_are_bf16(&self) -> bool {
        let made = |read: &Span| self.ops.iter().any(|op| writes(op, read));
        self.setup.iter().chain(&self.ops).all(|op| match op {
            Op::LoadFilter(ops::LoadFilter { scale, .. }) => scale.is_none(),
            Op::Conv(ops::Conv { prologue, input, .. }) => prologue.affine.is_none() && !made(input),
            Op::ConvDgrad(ops::ConvDgrad { gradient, .. }) => !made(gradient),
            Op::ConvWgrad(ops::ConvWgrad { prologue, input, gradient, .. }) => {
                prologue.affine.is_none() && !made(input) && !made(gradient)
            }
            _ => true,
        })
    }

    /// Whether an element is compared: not if its operand was discarded.
    pub fn counts(&self, region: Region, element: usize) -> bool {
        let discarded = |span: &Span| span.region == region && self.extent(*span).contains(&element);
        !self.discarded.iter().any(discarded)
    }

    /// Whether an element holds a word (a mask or an index), not a float.
    pub fn is_word(&self, region: Region, element: usize) -> bool {
        self.words.iter().any(|(span, values)| {
            span.region == region && (span.offset..span.offset + values.len()).contains(&element)
        })
    }

    /// Elements that a span has over all images.
    pub fn extent(&self, span: Span) -> Range<usize> {
        let copies = if matches!(span.region, Region::Arena | Region::Staging) { self.count } else { 1 };
        span.offset..span.offset + span.len * copies
    }
}

fn writes(op: &Op, wanted: &Span) -> bool {
    op.spans().any(|(span, access)| access.writes() && span == *wanted)
}

/// Elements after every operand that no op should touch.
const GAP: usize = 3;

/// Elements of 32 bytes.
const ALIGN: usize = 8;

/// A multiple of 1/64 in [-4, 4).
fn sixty_fourths(v: u32) -> f32 {
    v as f32 / 64.0 - 4.0
}
