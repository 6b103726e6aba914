//! A network's memory on the device, and the running of programs.

mod start;

use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, DriverError};

use super::graphs::Graphs;
use super::kernels::Kernels;
use super::launch::Launcher;
use super::memory::CudaMemory;
use super::ops::filter_words;
use super::plan::Plan;
use super::probe::describe;
use super::scalars::RunScalars;
use crate::data::ImageSet;
use crate::device::check::{check, check_slices};
use crate::device::{
    BatchSlice, FilterSpec, ImageSlot, MemoryLayout, Op, Precision, Program, ProgramId, Region, Session,
    StepParams,
};
use crate::error::{Error, Result};

/// A program, the staging rows it has room for, its plan, and its graphs.
struct CudaProgram {
    program: Program,
    rows: usize,
    plan: Plan,
    graphs: Graphs,
    /// Whether it loads filters or changes weights.
    changes: bool,
}

/// The session of [`super::CudaDevice`]. Everything happens in order on one stream.
pub(super) struct CudaSession {
    layout: MemoryLayout,
    precision: Precision,
    memory: CudaMemory,
    launcher: Launcher,
    specs: Vec<FilterSpec>,
    programs: Vec<CudaProgram>,
    /// The table of its training programs' update, the same for all.
    table: Vec<u32>,
    /// Whether the filters are those that the last update has left.
    fresh: bool,
    /// Whether programs run as graphs. A driver that is told to wait for every launch names the one that fails; a
    /// graph is one.
    graphs: bool,
    /// The host's copy of what it wrote to staging: indices and labels are checked here, before
    /// anything runs that would use them as addresses.
    staged: Vec<u32>,
}

impl CudaSession {
    pub fn new(
        stream: &Arc<CudaStream>,
        kernels: &Arc<Kernels>,
        layout: MemoryLayout,
        precision: Precision,
    ) -> Result<Self> {
        let memory = CudaMemory::new(stream, &layout)?;
        let launcher = Launcher { stream: Arc::clone(stream), kernels: Arc::clone(kernels) };
        let (specs, programs, staged) = (Vec::new(), Vec::new(), vec![0; layout.staging]);
        let graphs = std::env::var_os("CUDA_LAUNCH_BLOCKING").is_none();
        let (table, fresh) = (Vec::new(), false);
        Ok(Self { layout, precision, memory, launcher, specs, programs, table, fresh, graphs, staged })
    }

    /// Takes a program's filter table, which continues the session's.
    fn add_filters(&mut self, filters: &[FilterSpec]) -> Result<()> {
        let known = self.specs.len().min(filters.len());
        if self.specs[..known] != filters[..known] {
            return Err(Error::run("the program's filters are not those of the session"));
        }
        for spec in &filters[known..] {
            self.memory.add_filter(filter_words(spec, self.precision))?;
            self.specs.push(*spec);
        }
        Ok(())
    }

    /// Writes the table of a program's update, where it's the first or the same as the others'.
    fn tabulate(&mut self, plan: &mut Plan) -> Result<()> {
        let table = plan.update.as_ref().map(|update| update.table(&self.memory.addresses));
        match table {
            Some(table) if self.table.is_empty() => self.table = table,
            Some(table) if self.table != table => plan.without_update(),
            _ => {}
        }
        // Reserving the workspace may have moved it.
        self.memory.set_table(&self.table)
    }

    /// Notes what a run has left of the filters.
    fn ran(&mut self, program: ProgramId, well: bool) {
        let CudaProgram { plan, changes, .. } = &self.programs[program.0];
        if plan.update.is_some() {
            self.fresh = well;
        } else if *changes {
            self.fresh = false;
        }
    }

    /// Forgets what holds addresses, before memory moves.
    fn moved(&mut self) {
        self.programs.iter_mut().for_each(|prepared| prepared.graphs.clear());
    }
}

/// Whether a program loads filters or changes weights. Running statistics count, though no filter has them.
fn changes(program: &Program) -> bool {
    program.ops.iter().any(|op| {
        let in_weights = op.spans().any(|(span, access)| access.writes() && span.region == Region::Weights);
        in_weights || matches!(op, Op::LoadFilter(_))
    })
}

fn kernel_failed(error: DriverError) -> Error {
    Error::run(format!("a kernel failed: {} (CUDA_LAUNCH_BLOCKING=1 names it)", describe(error)))
}

impl Session for CudaSession {
    fn attach(&mut self, slot: ImageSlot, images: &ImageSet) -> Result<()> {
        self.moved();
        self.memory.attach(slot.0, images)
    }

    fn write(&mut self, region: Region, offset: usize, values: &[f32]) -> Result<()> {
        self.fresh &= region != Region::Weights;
        self.memory.write(region, offset, values)?;
        if region == Region::Staging {
            self.staged[offset..offset + values.len()].copy_from_slice(bytemuck::cast_slice(values));
        }
        Ok(())
    }

    fn write_words(&mut self, region: Region, offset: usize, values: &[u32]) -> Result<()> {
        self.write(region, offset, bytemuck::cast_slice(values))
    }

    fn read(&self, region: Region, offset: usize, values: &mut [f32]) -> Result<()> {
        self.memory.read(region, offset, values)
    }

    fn prepare(&mut self, program: Program) -> Result<ProgramId> {
        let rows = check(&program, &self.layout, 1)?;
        let mut plan = Plan::new(&program, self.precision);
        plan.check_sizes(&program)?;
        self.add_filters(&program.filters)?;
        self.moved();
        self.memory.reserve(plan.workspace(&program)?)?;
        self.tabulate(&mut plan)?;
        let changes = changes(&program);
        self.programs.push(CudaProgram { program, rows, plan, graphs: Graphs::default(), changes });
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, program: ProgramId, params: &StepParams, slices: &[BatchSlice]) -> Result<()> {
        let prepared = self.programs.get_mut(program.0).ok_or_else(|| Error::run("no such program"))?;
        self.memory.set_scalars(&RunScalars::new(params))?;
        // Lent out, for they change while the rest is read.
        let mut graphs = std::mem::take(&mut prepared.graphs);
        let started = self.run_all(program, &mut graphs, params, slices);
        self.programs[program.0].graphs = graphs;
        // A kernel that fails does so after its launch: its error belongs to this run.
        let done = started.and_then(|()| self.launcher.stream.synchronize().map_err(kernel_failed));
        self.ran(program, done.is_ok() && !slices.is_empty());
        done
    }

    fn time(&mut self, program: ProgramId, params: &StepParams, slice: BatchSlice) -> Result<Vec<f64>> {
        self.memory.set_scalars(&RunScalars::new(params))?;
        let prepared = self.programs.get(program.0).ok_or_else(|| Error::run("no such program"))?;
        let ops = &prepared.program.ops;
        check_slices(&prepared.program, prepared.rows, &[slice])?;
        ops.iter().try_for_each(|op| self.check_staged(op, slice))?;
        let launches = self.launches(prepared, slice, params)?;
        self.open(prepared, &launches, slice)?;
        let mut events = vec![self.event()?];
        for op in 0..ops.len() {
            if op >= prepared.plan.opening() {
                self.start_op(prepared, &launches, op, slice)?;
            }
            events.push(self.event()?);
        }
        let done = self.launcher.stream.synchronize().map_err(kernel_failed);
        self.ran(program, done.is_ok());
        done?;
        let between = |pair: &[CudaEvent]| {
            let milliseconds = pair[0].elapsed_ms(&pair[1]).map_err(|error| Error::run(describe(error)))?;
            Ok(f64::from(milliseconds) / 1e3)
        };
        events.windows(2).map(between).collect()
    }

    fn bytes(&self) -> usize {
        self.memory.bytes()
    }
}
