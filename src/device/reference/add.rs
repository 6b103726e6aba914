//! The sum of two tensors; and a copy.

use super::interpret::{Interpret, SliceContext};
use crate::device::ops::{Add, Copy};
use crate::error::Result;

impl Interpret for Add {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let mut values = context.prologue(self.channels, &self.left.prologue, self.left.input);
        let right = context.prologue(self.channels, &self.right.prologue, self.right.input);
        values.iter_mut().zip(right).for_each(|(value, more)| *value += more);
        context.write(self.output, &values);
        Ok(())
    }
}

impl Interpret for Copy {
    fn interpret(&self, context: &mut SliceContext) -> Result<()> {
        let values = context.read(self.input);
        context.write(self.output, &values);
        Ok(())
    }
}
