//! The sum of two tensors; and a copy.

use super::interpret::{Interpret, Step};
use crate::device::ops::{Add, Copy};
use crate::error::Result;

impl Interpret for Add {
    fn interpret(&self, step: &mut Step) -> Result<()> {
        let mut values = step.prologue(self.channels, &self.left.prologue, self.left.input);
        let right = step.prologue(self.channels, &self.right.prologue, self.right.input);
        values.iter_mut().zip(right).for_each(|(value, more)| *value += more);
        step.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for Copy {
    fn interpret(&self, step: &mut Step) -> Result<()> {
        let values = step.read(self.input);
        step.write(self.output, &values);
        Ok(())
    }
}
