//! Rows of registers and of preloaded values, handed out while a kernel is lowered.

use std::collections::HashMap;
use std::hash::Hash;

use super::super::registers::{self, Count};
use super::Reason;
use crate::ir::{File, LongValue, Preload, Row, WordValue};

/// While a kernel is lowered, preloaded rows have numbers from here on, registers the ones below.
const PRELOADED: Row = 0xC000;

/// A value of a pool; the start of dynamic shared memory is known at the end only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooled<T> {
    Value(T),
    Dynamic(u64),
}

/// Values in order of their first mention.
pub struct Pool<T> {
    values: Vec<T>,
    numbers: HashMap<T, Row>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Pool<T> {
    /// The row of a value, a new one for a new value.
    pub fn row(&mut self, value: T) -> Result<Row, Reason> {
        if let Some(&row) = self.numbers.get(&value) {
            return Ok(row);
        }
        if self.values.len() >= usize::from(Row::MAX - PRELOADED) {
            return Err("too many different constants".to_owned());
        }
        let row = PRELOADED + self.values.len() as Row;
        self.values.push(value);
        self.numbers.insert(value, row);
        Ok(row)
    }
}

/// The preloaded rows and registers of a kernel.
#[derive(Default)]
pub struct Pools {
    /// Rows of words.
    pub words: Pool<Pooled<WordValue>>,
    /// Rows of longs.
    pub longs: Pool<Pooled<LongValue>>,
    /// Rows of predicates.
    pub predicates: Pool<bool>,
    registers: [Row; 3],
}

impl Pools {
    /// A new virtual register.
    pub fn register(&mut self, file: File) -> Result<Row, Reason> {
        let next = &mut self.registers[registers::index(file)];
        if *next + 1 >= PRELOADED {
            return Err("too many registers".to_owned());
        }
        *next += 1;
        Ok(*next - 1)
    }

    fn preloaded(&self) -> [usize; 3] {
        [self.words.values.len(), self.longs.values.len(), self.predicates.values.len()]
    }

    /// The number of a row once preloaded rows come first.
    pub fn number(&self, file: File, row: Row) -> Row {
        match row.checked_sub(PRELOADED) {
            Some(preloaded) => preloaded,
            None => row + self.preloaded()[registers::index(file)] as Row,
        }
    }

    /// Sizes for [`registers`].
    pub fn counts(&self) -> [Count; 3] {
        let preloaded = self.preloaded();
        std::array::from_fn(|file| Count {
            total: usize::from(self.registers[file]) + preloaded[file],
            preloaded: preloaded[file],
        })
    }

    /// What the rows hold, dynamic shared memory starting at `dynamic`.
    pub fn preload(&self, dynamic: u32) -> Preload {
        let word = |value: &Pooled<WordValue>| match *value {
            Pooled::Value(value) => value,
            Pooled::Dynamic(offset) => WordValue::Constant(dynamic.wrapping_add(offset as u32)),
        };
        let long = |value: &Pooled<LongValue>| match *value {
            Pooled::Value(value) => value,
            Pooled::Dynamic(offset) => LongValue::Constant(u64::from(dynamic).wrapping_add(offset)),
        };
        Preload {
            words: self.words.values.iter().map(word).collect(),
            longs: self.longs.values.iter().map(long).collect(),
            predicates: self.predicates.values.clone(),
        }
    }
}
