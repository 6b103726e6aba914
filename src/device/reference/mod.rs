//! The reference: every op in f64, as its definition says, slow and obvious. Other devices are
//! checked against it; it runs any program any device runs.

mod add;
mod classifier;
pub mod conv;
mod generator;
mod images;
mod interpret;
mod norm;
mod optimizer;
mod pgd;
mod pool;
#[cfg(test)]
pub(crate) mod tests;

use super::{
    BatchSlice, Bf16Tensors, Device, DtypeRule, ImageSlot, MemoryLayout, Precision, Program, ProgramId,
    Region, Session, StepParams, all_f32, check,
};
use std::time::Instant;

use crate::data::ImageSet;
use crate::error::{Error, Result};
use interpret::ReferenceState;

/// The reference device. Like a device whose precision is bf16, it rounds the operands of convolutions, and the
/// tensors that this device says it keeps in bf16.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceDevice {
    precision: Precision,
    dtypes: DtypeRule,
}

impl Default for ReferenceDevice {
    fn default() -> Self {
        Self { precision: Precision::F32, dtypes: all_f32 }
    }
}

impl ReferenceDevice {
    /// One that rounds where `device` does.
    pub fn like(device: &dyn Device) -> Self {
        Self { precision: device.precision(), dtypes: device.dtypes() }
    }
}

impl Device for ReferenceDevice {
    fn describe(&self) -> String {
        "reference: 1 thread, f64".to_string()
    }
    fn kind(&self) -> String {
        "reference".to_string()
    }
    fn precision(&self) -> Precision {
        self.precision
    }
    fn dtypes(&self) -> DtypeRule {
        self.dtypes
    }
    fn workers(&self) -> usize {
        1
    }
    fn preferred_batch(&self, _elements_per_image: usize) -> usize {
        2
    }
    fn needs(&self, layout: &MemoryLayout, _programs: &[Program]) -> usize {
        layout.bytes() / size_of::<f32>() * size_of::<f64>()
    }
    fn open(&self, layout: MemoryLayout) -> Result<Box<dyn Session>> {
        Ok(Box::new(ReferenceSession {
            layout,
            state: ReferenceState::new(&layout, self.precision),
            dtypes: self.dtypes,
            programs: Vec::new(),
        }))
    }
}

/// Regions of f64; words (labels, indices, masks) are held as their numbers.
struct ReferenceSession {
    layout: MemoryLayout,
    state: ReferenceState,
    dtypes: DtypeRule,
    programs: Vec<ReferenceProgram>,
}

struct ReferenceProgram {
    program: Program,
    /// Of each op.
    bf16: Vec<Bf16Tensors>,
    /// Staging rows it has room for.
    rows: usize,
}

impl Session for ReferenceSession {
    fn attach(&mut self, slot: ImageSlot, images: &ImageSet) -> Result<()> {
        self.state.images.resize(self.state.images.len().max(slot.0 + 1), None);
        self.state.images[slot.0] = Some(images.clone());
        Ok(())
    }

    fn write(&mut self, region: Region, offset: usize, values: &[f32]) -> Result<()> {
        let target = &mut self.state.regions[region as usize][offset..offset + values.len()];
        target.iter_mut().zip(values).for_each(|(target, &value)| *target = f64::from(value));
        Ok(())
    }

    fn write_words(&mut self, region: Region, offset: usize, values: &[u32]) -> Result<()> {
        let target = &mut self.state.regions[region as usize][offset..offset + values.len()];
        target.iter_mut().zip(values).for_each(|(target, &value)| *target = f64::from(value));
        Ok(())
    }

    fn read(&self, region: Region, offset: usize, values: &mut [f32]) -> Result<()> {
        let source = &self.state.regions[region as usize][offset..offset + values.len()];
        values.iter_mut().zip(source).for_each(|(value, &source)| *value = source as f32);
        Ok(())
    }

    fn prepare(&mut self, program: Program) -> Result<ProgramId> {
        let rows = check::check(&program, &self.layout, 1)?;
        let bf16 = (self.dtypes)(&program);
        self.programs.push(ReferenceProgram { program, bf16, rows });
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, program: ProgramId, params: &StepParams, slices: &[BatchSlice]) -> Result<()> {
        let prepared = self.programs.get(program.0).ok_or_else(|| Error::run("no such program"))?;
        check::check_slices(&prepared.program, prepared.rows, slices)?;
        for &slice in slices {
            for op in prepared.program.order(params.repeats) {
                self.state.run(&prepared.program, (op, prepared.bf16[op]), params, slice)?;
            }
        }
        Ok(())
    }

    fn time(&mut self, program: ProgramId, params: &StepParams, slice: BatchSlice) -> Result<Vec<f64>> {
        let prepared = self.programs.get(program.0).ok_or_else(|| Error::run("no such program"))?;
        check::check_slices(&prepared.program, prepared.rows, &[slice])?;
        let time = |op| {
            let clock = Instant::now();
            self.state.run(&prepared.program, (op, prepared.bf16[op]), params, slice)?;
            Ok(clock.elapsed().as_secs_f64())
        };
        (0..prepared.program.ops.len()).map(time).collect()
    }

    fn bytes(&self) -> usize {
        self.state.regions.iter().map(|region| region.len() * size_of::<f64>()).sum()
    }
}
