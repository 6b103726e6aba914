//! Virtual registers and preloaded values, numbered while a kernel is lowered.

use std::collections::HashMap;
use std::hash::Hash;

use super::super::register_allocation::{self, Count};
use super::Reason;
use crate::ir::{B32Value, B64Value, File, Preload, Reg};

/// While a kernel is lowered, preloaded registers have numbers from here on, virtual registers those below.
const PRELOADED: Reg = 0xC000;

/// A value of a pool; the start of dynamic shared memory is known at the end only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooled<T> {
    Value(T),
    Dynamic(u64),
}

/// Values in order of their first use.
pub struct Pool<T> {
    values: Vec<T>,
    numbers: HashMap<T, Reg>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Pool<T> {
    /// The register of a value, a new one for a new value.
    pub fn reg(&mut self, value: T) -> Result<Reg, Reason> {
        if let Some(&reg) = self.numbers.get(&value) {
            return Ok(reg);
        }
        if self.values.len() >= usize::from(Reg::MAX - PRELOADED) {
            return Err("too many different constants".to_owned());
        }
        let reg = PRELOADED + self.values.len() as Reg;
        self.values.push(value);
        self.numbers.insert(value, reg);
        Ok(reg)
    }
}

/// The preloaded and virtual registers of a kernel.
#[derive(Default)]
pub struct Pools {
    /// Preloaded b32 registers.
    pub b32: Pool<Pooled<B32Value>>,
    /// Preloaded b64 registers.
    pub b64: Pool<Pooled<B64Value>>,
    /// Preloaded predicates.
    pub predicates: Pool<bool>,
    registers: [Reg; 3],
}

impl Pools {
    /// A new virtual register.
    pub fn register(&mut self, file: File) -> Result<Reg, Reason> {
        let next = &mut self.registers[register_allocation::index(file)];
        if *next + 1 >= PRELOADED {
            return Err("too many registers".to_owned());
        }
        *next += 1;
        Ok(*next - 1)
    }

    fn preloaded(&self) -> [usize; 3] {
        [self.b32.values.len(), self.b64.values.len(), self.predicates.values.len()]
    }

    /// The number of a register when the preloaded ones come first.
    pub fn number(&self, file: File, reg: Reg) -> Reg {
        match reg.checked_sub(PRELOADED) {
            Some(preloaded) => preloaded,
            None => reg + self.preloaded()[register_allocation::index(file)] as Reg,
        }
    }

    /// Sizes for [`register_allocation`].
    pub fn counts(&self) -> [Count; 3] {
        let preloaded = self.preloaded();
        std::array::from_fn(|file| Count {
            total: usize::from(self.registers[file]) + preloaded[file],
            preloaded: preloaded[file],
        })
    }

    /// What the registers hold, dynamic shared memory starting at `dynamic`.
    pub fn preload(&self, dynamic: u32) -> Preload {
        let b32 = |value: &Pooled<B32Value>| match *value {
            Pooled::Value(value) => value,
            Pooled::Dynamic(offset) => B32Value::Constant(dynamic.wrapping_add(offset as u32)),
        };
        let b64 = |value: &Pooled<B64Value>| match *value {
            Pooled::Value(value) => value,
            Pooled::Dynamic(offset) => B64Value::Constant(u64::from(dynamic).wrapping_add(offset)),
        };
        Preload {
            b32: self.b32.values.iter().map(b32).collect(),
            b64: self.b64.values.iter().map(b64).collect(),
            predicates: self.predicates.values.clone(),
        }
    }
}
