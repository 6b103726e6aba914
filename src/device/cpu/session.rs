//! A network's memory on the CPU, and the running of programs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::conv::{Arithmetic, PackedFilter, Threads};
use super::execute::{Context, Filters, Scratch, ScratchSize, execute};
use super::memory::{CpuMemory, Frame};
use crate::data::ImageSet;
use crate::device::check::{check, check_slices};
use crate::device::{
    BatchSlice, FilterSpec, ImageSlot, MemoryLayout, Op, Program, ProgramId, Region, Session, StepParams,
};
use crate::error::{Error, Result};

/// What all ops share: the regions, the filters in the kernels' form, the images.
struct CpuState {
    memory: CpuMemory,
    filters: Vec<PackedFilter>,
    images: Vec<Option<ImageSet>>,
}

/// A program and the staging rows it has room for.
struct CpuProgram {
    program: Program,
    rows: usize,
}

/// The session of [`super::CpuDevice`].
pub(super) struct CpuSession {
    pool: Arc<ThreadPool>,
    arithmetic: Arithmetic,
    layout: MemoryLayout,
    state: CpuState,
    specs: Vec<FilterSpec>,
    programs: Vec<CpuProgram>,
    /// Working memory when one slice has all threads.
    shared: Scratch,
    /// Working memory of each worker.
    workers: Vec<Scratch>,
}

impl CpuSession {
    pub fn new(pool: Arc<ThreadPool>, arithmetic: Arithmetic, layout: MemoryLayout) -> Self {
        let state = CpuState { memory: CpuMemory::new(&layout), filters: Vec::new(), images: Vec::new() };
        let workers = (0..pool.current_num_threads()).map(|_| Scratch::default()).collect();
        let shared = Scratch::default();
        Self { pool, arithmetic, layout, state, specs: Vec::new(), programs: Vec::new(), shared, workers }
    }

    /// Takes a program's filter table, which continues the session's.
    fn add_filters(&mut self, filters: &[FilterSpec]) -> Result<()> {
        let known = self.specs.len().min(filters.len());
        if self.specs[..known] != filters[..known] {
            return Err(Error::run("the program's filters are not those of the session"));
        }
        for spec in &filters[known..] {
            self.state.filters.push(PackedFilter::new(spec, self.arithmetic));
            self.specs.push(*spec);
        }
        Ok(())
    }

    /// Makes room for what the ops of every program need beside their operands.
    fn make_room(&mut self) {
        let (shared, worker) =
            scratch_sizes(self.arithmetic, self.programs.iter().map(|prepared| &prepared.program));
        self.shared = Scratch::new(&shared, self.pool.current_num_threads());
        self.workers.iter_mut().for_each(|scratch| *scratch = Scratch::new(&worker, 1));
    }

    /// One slice after the other, all threads in each op.
    fn run_in_turn(&mut self, index: usize, params: &StepParams, slices: &[BatchSlice]) -> Result<()> {
        for &slice in slices {
            for op in self.programs[index].program.steps(params.repeats) {
                alone(op, &mut self.state, &mut self.shared, slice, params, Threads::All)?;
            }
        }
        Ok(())
    }

    /// Each op once, on the first worker or with all threads as in a run; seconds of each.
    fn time_in_turn(&mut self, index: usize, params: &StepParams, slice: BatchSlice) -> Result<Vec<f64>> {
        let program = &self.programs[index].program;
        let (scratch, threads) = match self.workers.first_mut() {
            Some(worker) if program.data_parallel => (worker, Threads::One),
            _ => (&mut self.shared, Threads::All),
        };
        let time = |op| {
            let clock = Instant::now();
            alone(op, &mut self.state, scratch, slice, params, threads)?;
            Ok(clock.elapsed().as_secs_f64())
        };
        program.ops.iter().map(time).collect()
    }

    /// Every worker takes slices until none is left. The error is the first slice's that failed.
    fn run_on_workers(&mut self, index: usize, params: &StepParams, slices: &[BatchSlice]) -> Result<()> {
        let (program, state) = (&self.programs[index].program, &self.state);
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let fail = |index: usize, error: Error| {
            next.store(slices.len(), Ordering::Relaxed);
            if let Ok(mut failure) = failure.lock()
                && failure.as_ref().is_none_or(|(earlier, _)| index < *earlier)
            {
                *failure = Some((index, error));
            }
        };
        self.workers.par_iter_mut().enumerate().with_max_len(1).for_each(|(worker, scratch)| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(&slice) = slices.get(index) else {
                    break;
                };
                let arena = worker * program.arena;
                // SAFETY: the program and its slices were checked: workers differ in arena part,
                // slices in staging rows, and no other region is written.
                let frame = unsafe { Frame::new(&state.memory, arena, slice, params, Threads::One) };
                let result = program.steps(params.repeats).try_for_each(|op| {
                    let filters = Filters::Shared(&state.filters);
                    execute(op, Context { frame, filters, images: &state.images, scratch })
                });
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

/// One op, with the state to itself.
fn alone(
    op: &Op,
    state: &mut CpuState,
    scratch: &mut Scratch,
    slice: BatchSlice,
    params: &StepParams,
    threads: Threads,
) -> Result<()> {
    // SAFETY: the program and the slice were checked; nothing else runs.
    let frame = unsafe { Frame::new(&state.memory, 0, slice, params, threads) };
    let filters = Filters::Own(&mut state.filters);
    execute(op, Context { frame, filters, images: &state.images, scratch })
}

/// Sizes of the working memory when one slice has all threads, and of a worker's.
fn scratch_sizes<'a>(
    arithmetic: Arithmetic,
    programs: impl Iterator<Item = &'a Program> + Clone,
) -> (ScratchSize, ScratchSize) {
    let (workers, shared) = (|p: &&Program| p.data_parallel, |p: &&Program| !p.data_parallel);
    let all = ScratchSize::of(arithmetic, programs.clone().filter(shared));
    (all, ScratchSize::of(arithmetic, programs.filter(workers)))
}

/// Bytes of a session with this layout and these programs prepared, on `threads` threads.
pub(super) fn needs(
    arithmetic: Arithmetic,
    layout: &MemoryLayout,
    programs: &[Program],
    threads: usize,
) -> usize {
    let (shared, worker) = scratch_sizes(arithmetic, programs.iter());
    // One filter table: every program's continues the one before.
    let filters = programs.iter().map(|program| &program.filters).max_by_key(|filters| filters.len());
    layout.bytes()
        + filters.into_iter().flatten().map(|spec| PackedFilter::bytes_for(spec, arithmetic)).sum::<usize>()
        + shared.bytes(threads)
        + threads * worker.bytes(1)
}

impl Session for CpuSession {
    fn attach(&mut self, slot: ImageSlot, images: &ImageSet) -> Result<()> {
        let table = &mut self.state.images;
        table.resize(table.len().max(slot.0 + 1), None);
        table[slot.0] = Some(images.clone());
        Ok(())
    }

    fn write(&mut self, region: Region, offset: usize, values: &[f32]) -> Result<()> {
        self.state.memory.region_mut(region)[offset..offset + values.len()].copy_from_slice(values);
        Ok(())
    }

    fn write_words(&mut self, region: Region, offset: usize, values: &[u32]) -> Result<()> {
        self.write(region, offset, bytemuck::cast_slice(values))
    }

    fn read(&self, region: Region, offset: usize, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&self.state.memory.region(region)[offset..offset + values.len()]);
        Ok(())
    }

    fn prepare(&mut self, program: Program) -> Result<ProgramId> {
        let rows = check(&program, &self.layout, self.workers.len())?;
        self.add_filters(&program.filters)?;
        self.programs.push(CpuProgram { program, rows });
        self.make_room();
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, program: ProgramId, params: &StepParams, slices: &[BatchSlice]) -> Result<()> {
        let prepared = self.programs.get(program.0).ok_or_else(|| Error::run("no such program"))?;
        check_slices(&prepared.program, prepared.rows, slices)?;
        let data_parallel = prepared.program.data_parallel;
        let pool = Arc::clone(&self.pool);
        pool.install(|| {
            if data_parallel {
                self.run_on_workers(program.0, params, slices)
            } else {
                self.run_in_turn(program.0, params, slices)
            }
        })
    }

    fn time(&mut self, program: ProgramId, params: &StepParams, slice: BatchSlice) -> Result<Vec<f64>> {
        let prepared = self.programs.get(program.0).ok_or_else(|| Error::run("no such program"))?;
        check_slices(&prepared.program, prepared.rows, &[slice])?;
        let pool = Arc::clone(&self.pool);
        pool.install(|| self.time_in_turn(program.0, params, slice))
    }

    fn bytes(&self) -> usize {
        let filters: usize = self.state.filters.iter().map(PackedFilter::bytes).sum();
        let scratch: usize = self.workers.iter().chain([&self.shared]).map(Scratch::bytes).sum();
        self.state.memory.bytes() + filters + scratch
    }
}
