//! A network's memory on the device, and the running of programs.

use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, DriverError, sys};

use super::availability::describe;
use super::execute::Step;
use super::graphs::Graphs;
use super::kernels::Kernels;
use super::launch::Launcher;
use super::memory::Memory;
use super::relay::{Links, Relay};
use super::room::{Room, check_sizes, filter_words};
use super::scalars::RunScalars;
use crate::data::ImageSet;
use crate::device::check::{check, check_images, check_instances};
use crate::device::{
    Controls, FilterSpec, ImageSlot, Instance, MemoryLayout, Op, Precision, Program, ProgramId, Region,
    Session, Span,
};
use crate::error::{Error, Result};

/// A program, the staging rows it has room for, what its ops hand on to each other, and what has been recorded
/// of it.
struct Prepared {
    program: Program,
    rows: usize,
    relay: Relay,
    graphs: Graphs,
}

/// The session of [`super::CudaDevice`]. Everything happens in order on one stream.
pub(super) struct CudaSession {
    layout: MemoryLayout,
    precision: Precision,
    memory: Memory,
    launcher: Launcher,
    specs: Vec<FilterSpec>,
    programs: Vec<Prepared>,
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
        let memory = Memory::new(stream, &layout)?;
        let launcher = Launcher { stream: Arc::clone(stream), kernels: Arc::clone(kernels) };
        let (specs, programs, staged) = (Vec::new(), Vec::new(), vec![0; layout.staging]);
        let graphs = std::env::var_os("CUDA_LAUNCH_BLOCKING").is_none();
        Ok(Self { layout, precision, memory, launcher, specs, programs, graphs, staged })
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

    /// What an op of a program is executed with.
    fn step<'a>(&'a self, links: &'a Links, instance: Instance, controls: &'a Controls) -> Step<'a> {
        Step {
            launcher: &self.launcher,
            memory: &self.memory.addresses,
            specs: &self.specs,
            instance,
            controls,
            precision: self.precision,
            links,
        }
    }

    /// The moment at which all that was started so far is done.
    fn event(&self) -> Result<CudaEvent> {
        let event = self.launcher.stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
        event.map_err(|error| Error::run(format!("an event: {}", describe(error))))
    }

    /// Forgets what holds addresses, before memory moves.
    fn moved(&mut self) {
        self.programs.iter_mut().for_each(|prepared| prepared.graphs.clear());
    }

    /// Starts a program's ops for an instance, as a graph where there are several.
    fn start(
        &self,
        prepared: &Prepared,
        graphs: &mut Graphs,
        controls: &Controls,
        instance: Instance,
    ) -> Result<()> {
        let Prepared { program, relay, .. } = prepared;
        let launch = || {
            program.order(controls.repeats).try_for_each(|index| {
                start(&self.step(&relay.links[index], instance, controls), &program.ops[index])
            })
        };
        match self.graphs && program.ops.len() > 1 {
            true => graphs.run(&self.launcher.stream, instance, controls, launch),
            false => launch(),
        }
    }

    /// Checks what is to be run, and starts it for every instance.
    fn run_all(
        &self,
        program: ProgramId,
        graphs: &mut Graphs,
        controls: &Controls,
        instances: &[Instance],
    ) -> Result<()> {
        let prepared = &self.programs[program.0];
        check_instances(&prepared.program, prepared.rows, instances)?;
        for &instance in instances {
            prepared.program.ops.iter().try_for_each(|op| self.check_staged(op, instance))?;
        }
        instances.iter().try_for_each(|&instance| self.start(prepared, graphs, controls, instance))
    }

    /// What the host wrote to the rows of an instance.
    fn staged(&self, span: Span, instance: Instance) -> &[u32] {
        let first = span.offset + instance.first * span.len;
        match span.region {
            Region::Staging => self.staged.get(first..first + span.len * instance.count).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Checks what the host staged for an op to use: indices of images, labels.
    fn check_staged(&self, op: &Op, instance: Instance) -> Result<()> {
        match op {
            Op::NormStatistics { .. } if instance.count == 0 => {
                Err(Error::run("batch statistics of no images"))
            }
            Op::Gather { images, indices, height, width, channels, .. } if instance.count > 0 => {
                let attached = self.memory.addresses.images.get(images.0).and_then(Option::as_ref);
                let attached =
                    attached.ok_or_else(|| Error::run(format!("no images attached as {}", images.0)))?;
                check_images(&attached.set, (*height, *width, *channels), self.staged(*indices, instance))
            }
            Op::SoftmaxCrossEntropy { classes, labels, .. } => {
                match self.staged(*labels, instance).iter().find(|&&label| label as usize >= *classes) {
                    Some(label) => Err(Error::run(format!("label {label} of {classes} classes"))),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

fn start(step: &Step, op: &Op) -> Result<()> {
    step.run(op).map_err(|cause| Error::run(format!("{}: {cause}", op.name())))
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
        let relay = Relay::new(&program, self.precision);
        check_sizes(&program, &relay, self.precision)?;
        self.add_filters(&program.filters)?;
        self.moved();
        self.memory.make_room(Room::with_relay(&program, &relay, self.precision))?;
        self.programs.push(Prepared { program, rows, relay, graphs: Graphs::default() });
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, program: ProgramId, controls: &Controls, instances: &[Instance]) -> Result<()> {
        let prepared = self.programs.get_mut(program.0).ok_or_else(|| Error::run("no such program"))?;
        self.memory.set_scalars(&RunScalars::new(controls))?;
        // Lent out, for they change while the rest is read.
        let mut graphs = std::mem::take(&mut prepared.graphs);
        let started = self.run_all(program, &mut graphs, controls, instances);
        self.programs[program.0].graphs = graphs;
        started?;
        // A kernel that fails does so after its launch: its error belongs to this run.
        self.launcher.stream.synchronize().map_err(kernel_failed)
    }

    fn time(&mut self, program: ProgramId, controls: &Controls, instance: Instance) -> Result<Vec<f64>> {
        self.memory.set_scalars(&RunScalars::new(controls))?;
        let Prepared { program, rows, relay, .. } =
            self.programs.get(program.0).ok_or_else(|| Error::run("no such program"))?;
        check_instances(program, *rows, &[instance])?;
        program.ops.iter().try_for_each(|op| self.check_staged(op, instance))?;
        let mut events = vec![self.event()?];
        for (op, links) in program.ops.iter().zip(&relay.links) {
            start(&self.step(links, instance, controls), op)?;
            events.push(self.event()?);
        }
        self.launcher.stream.synchronize().map_err(kernel_failed)?;
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
