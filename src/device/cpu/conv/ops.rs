//! The ops of convolutions and their filters.

use super::{dgrad, fprop, wgrad};
use crate::device::cpu::execute::{Context, Execute, ScratchSize};
use crate::device::ops::{Conv, ConvDgrad, ConvWgrad, LoadFilter};
use crate::error::Result;

impl Execute for LoadFilter {
    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        let filter = context.filters.get_mut(self.filter)?;
        // SAFETY: the operands were checked.
        unsafe {
            filter.load(frame.input(self.weights), self.scale.map(|scale| frame.input(scale)), frame.threads);
        }
        Ok(())
    }
}

impl Execute for Conv {
    fn reserve(&self, _capacity: usize, size: &mut ScratchSize) {
        size.convolutions.add(&self.shape, 0);
    }

    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked; the residual, which may be the output, is passed as an address.
        unsafe {
            fprop(
                &self.shape,
                context.filters.get(self.filter),
                frame.count(),
                frame.input(self.input),
                frame.prologue(&self.prologue, true),
                self.bias.map(|bias| frame.input(bias)),
                self.residual.map(|residual| frame.pointer(residual).cast_const()),
                frame.pointer(self.output),
                &mut context.scratch.convolutions,
                frame.threads,
            );
        }
        Ok(())
    }
}

impl Execute for ConvDgrad {
    fn reserve(&self, _capacity: usize, size: &mut ScratchSize) {
        size.convolutions.add(&self.shape, 0);
    }

    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked; addends, which may be the output, are passed as addresses.
        unsafe {
            dgrad(
                &self.shape,
                context.filters.get(self.filter),
                frame.count(),
                frame.input(self.gradient),
                self.add.map(|add| frame.pointer(add).cast_const()),
                self.mask.map(|mask| frame.words(mask)),
                self.scale.map(|scale| frame.input(scale)),
                self.residual.map(|residual| frame.pointer(residual).cast_const()),
                frame.pointer(self.output),
                &mut context.scratch.convolutions,
                frame.threads,
            );
        }
        Ok(())
    }
}

impl Execute for ConvWgrad {
    fn reserve(&self, capacity: usize, size: &mut ScratchSize) {
        size.convolutions.add(&self.shape, capacity);
    }

    fn execute(&self, context: &mut Context) -> Result<()> {
        let frame = context.frame;
        // SAFETY: the operands were checked.
        unsafe {
            wgrad(
                &self.shape,
                frame.count(),
                frame.input(self.input),
                frame.prologue(&self.prologue, false),
                frame.input(self.gradient),
                frame.output(self.weight_gradient),
                &mut context.scratch.convolutions,
                frame.threads,
            );
        }
        Ok(())
    }
}
