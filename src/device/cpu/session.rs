//! A network's memory on the CPU, and the running of programs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rayon::ThreadPool;
use rayon::prelude::*;

use super::conv::{PackedFilter, Threads, Workspace};
use super::execute::{Machine, Scratch, execute};
use super::memory::{Frame, Memory};
use super::norm;
use crate::data::ImageSet;
use crate::device::check::{check, check_instances};
use crate::device::{
    Controls, ConvShape, FilterSpec, ImageSlot, Instance, MemoryLayout, Op, Program, ProgramId, Region,
    Session,
};
use crate::error::{Error, Result};

/// A program and the staging rows it has room for.
struct Prepared {
    program: Program,
    rows: usize,
}

/// The session of [`super::CpuDevice`].
pub(super) struct CpuSession {
    pool: Arc<ThreadPool>,
    layout: MemoryLayout,
    machine: Machine,
    specs: Vec<FilterSpec>,
    programs: Vec<Prepared>,
    /// Working memory when one instance has all threads.
    shared: Scratch,
    /// Working memory of each lane.
    lanes: Vec<Scratch>,
}

impl CpuSession {
    pub fn new(pool: Arc<ThreadPool>, layout: MemoryLayout) -> Self {
        let machine = Machine { memory: Memory::new(&layout), filters: Vec::new(), images: Vec::new() };
        let lanes = (0..pool.current_num_threads()).map(|_| Scratch::default()).collect();
        let shared = Scratch::default();
        Self { pool, layout, machine, specs: Vec::new(), programs: Vec::new(), shared, lanes }
    }

    /// Takes a program's filter table, which continues the session's.
    fn add_filters(&mut self, filters: &[FilterSpec]) -> Result<()> {
        let known = self.specs.len().min(filters.len());
        if self.specs[..known] != filters[..known] {
            return Err(Error::run("the program's filters are not those of the session"));
        }
        for spec in &filters[known..] {
            self.machine.filters.push(PackedFilter::new(spec));
            self.specs.push(*spec);
        }
        Ok(())
    }

    /// Makes room for what the ops of every program need beside their operands.
    fn make_room(&mut self) {
        let of = |lanes: bool| self.programs.iter().map(|p| &p.program).filter(move |p| p.lanes == lanes);
        let threads = self.pool.current_num_threads();
        let wgrad_count = of(false).filter(|p| p.ops.iter().any(is_wgrad)).map(|p| p.capacity).max();
        self.shared.workspace = Some(Workspace::new(&shapes(of(false)), wgrad_count.unwrap_or(0), threads));
        for program in of(false) {
            for (rows, channels) in program.ops.iter().filter_map(norm_size) {
                let partials = norm::partials_len(rows * program.capacity, channels);
                let coefficients = norm::coefficients_len(channels);
                self.shared.partials.resize(self.shared.partials.len().max(partials), 0.0);
                self.shared.coefficients.resize(self.shared.coefficients.len().max(coefficients), 0.0);
            }
        }
        let shapes = shapes(of(true));
        for lane in &mut self.lanes {
            lane.workspace = Some(Workspace::new(&shapes, 0, 1));
        }
    }

    /// One instance after the other, all threads in each op.
    fn run_in_turn(&mut self, index: usize, controls: &Controls, instances: &[Instance]) -> Result<()> {
        for &instance in instances {
            for op in self.programs[index].program.steps(controls.repeats) {
                if let Op::LoadFilter { filter, weights, scale } = op {
                    self.machine.load_filter(*filter, *weights, *scale, Threads::All);
                    continue;
                }
                // SAFETY: the program and the instance were checked; nothing else runs.
                let frame = unsafe { Frame::new(&self.machine.memory, 0, instance, controls, Threads::All) };
                execute(op, frame, &self.machine, &mut self.shared)?;
            }
        }
        Ok(())
    }

    /// Every lane takes instances until none is left. The error is the first instance's that failed.
    fn run_in_lanes(&mut self, index: usize, controls: &Controls, instances: &[Instance]) -> Result<()> {
        let (program, machine) = (&self.programs[index].program, &self.machine);
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let fail = |index: usize, error: Error| {
            next.store(instances.len(), Ordering::Relaxed);
            if let Ok(mut failure) = failure.lock()
                && failure.as_ref().is_none_or(|(earlier, _)| index < *earlier)
            {
                *failure = Some((index, error));
            }
        };
        self.lanes.par_iter_mut().enumerate().with_max_len(1).for_each(|(lane, scratch)| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(&instance) = instances.get(index) else {
                    break;
                };
                let arena = lane * program.arena;
                // SAFETY: the program and its instances were checked: lanes differ in arena part,
                // instances in staging rows, and no other region is written.
                let frame = unsafe { Frame::new(&machine.memory, arena, instance, controls, Threads::One) };
                let result =
                    program.steps(controls.repeats).try_for_each(|op| execute(op, frame, machine, scratch));
                if let Err(error) = result {
                    fail(index, error);
                }
            }
        });
        match failure.into_inner() {
            Ok(Some((_, error))) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The distinct convolutions of programs.
fn shapes<'a>(programs: impl Iterator<Item = &'a Program>) -> Vec<ConvShape> {
    let mut shapes = Vec::new();
    for op in programs.flat_map(|program| &program.ops) {
        if let Op::Conv { shape, .. } | Op::ConvDgrad { shape, .. } | Op::ConvWgrad { shape, .. } = op
            && !shapes.contains(shape)
        {
            shapes.push(*shape);
        }
    }
    shapes
}

fn is_wgrad(op: &Op) -> bool {
    matches!(op, Op::ConvWgrad { .. })
}

/// Rows of an image and channels of a batch norm.
fn norm_size(op: &Op) -> Option<(usize, usize)> {
    match op {
        Op::NormStatistics { pixels, channels, .. } | Op::NormDgrad { pixels, channels, .. } => {
            Some((*pixels, *channels))
        }
        _ => None,
    }
}

impl Session for CpuSession {
    fn attach(&mut self, slot: ImageSlot, images: &ImageSet) -> Result<()> {
        let table = &mut self.machine.images;
        table.resize(table.len().max(slot.0 + 1), None);
        table[slot.0] = Some(images.clone());
        Ok(())
    }

    fn write(&mut self, region: Region, offset: usize, values: &[f32]) {
        self.machine.memory.region_mut(region)[offset..offset + values.len()].copy_from_slice(values);
    }

    fn write_words(&mut self, region: Region, offset: usize, values: &[u32]) {
        self.write(region, offset, bytemuck::cast_slice(values));
    }

    fn read(&self, region: Region, offset: usize, values: &mut [f32]) {
        values.copy_from_slice(&self.machine.memory.region(region)[offset..offset + values.len()]);
    }

    fn prepare(&mut self, program: Program) -> Result<ProgramId> {
        let rows = check(&program, &self.layout, self.lanes.len())?;
        self.add_filters(&program.filters)?;
        self.programs.push(Prepared { program, rows });
        self.make_room();
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, program: ProgramId, controls: &Controls, instances: &[Instance]) -> Result<()> {
        let prepared = self.programs.get(program.0).ok_or_else(|| Error::run("no such program"))?;
        check_instances(&prepared.program, prepared.rows, instances)?;
        let lanes = prepared.program.lanes;
        let pool = Arc::clone(&self.pool);
        pool.install(|| {
            if lanes {
                self.run_in_lanes(program.0, controls, instances)
            } else {
                self.run_in_turn(program.0, controls, instances)
            }
        })
    }

    fn bytes(&self) -> usize {
        let filters: usize = self.machine.filters.iter().map(PackedFilter::bytes).sum();
        let scratch: usize = self.lanes.iter().chain([&self.shared]).map(Scratch::bytes).sum();
        self.machine.memory.bytes() + filters + scratch
    }
}
