//! Names: scopes with registers, variables and labels.

use std::collections::HashMap;

use super::super::ast::{Statement, Width};
use super::{DEPTH_LIMIT, Lowering, Reason};
use crate::ir::{File, Pc, Reg};

/// What a name inside a body stands for.
#[derive(Clone, Copy, Debug)]
pub enum Symbol {
    /// A virtual register.
    Register(Width, Reg),
    /// Shared address.
    Shared(u32),
    /// Local address.
    Local(u32),
    /// Offset in the parameter block.
    Param(u32),
    /// A `.param` variable of a call, kept in local memory.
    Argument(u32),
    /// The dynamic shared array.
    Dynamic,
}

/// A `{ }`.
#[derive(Default)]
pub struct Scope<'a> {
    symbols: HashMap<&'a str, Symbol>,
    ranges: Vec<(&'a str, u64, Width)>,
    labels: HashMap<&'a str, Pc>,
    targets: HashMap<&'a str, &'a [&'a str]>,
}

/// The file of a register.
pub fn file(width: Width) -> File {
    match width {
        Width::B8 | Width::B16 | Width::B32 => File::B32,
        Width::B64 => File::B64,
        Width::Predicate => File::Predicates,
    }
}

impl<'a> Lowering<'a, '_> {
    /// Opens a scope whose statements start at `from`; its labels are known at once, since branches go
    /// forward too.
    pub fn open(&mut self, body: &'a [Statement<'a>], from: usize) -> Result<(), Reason> {
        if self.scopes.len() >= DEPTH_LIMIT {
            return Err("braces nested too deeply".to_owned());
        }
        let mut scope = Scope::default();
        let mut depth = 0usize;
        for statement in &body[from..] {
            match statement {
                Statement::Open => depth += 1,
                Statement::Close if depth == 0 => break,
                Statement::Close => depth -= 1,
                Statement::Label(name, _) if depth == 0 => {
                    if scope.labels.insert(name, self.labels.len() as Pc).is_some() {
                        return Err(format!("label {name} stands twice"));
                    }
                    self.labels.push(None);
                }
                Statement::Targets(name, targets, _) if depth == 0 => {
                    scope.targets.insert(name, targets);
                }
                _ => {}
            }
        }
        self.scopes.push(scope);
        Ok(())
    }

    /// A label of no name.
    pub fn new_label(&mut self) -> Pc {
        self.labels.push(None);
        self.labels.len() as Pc - 1
    }

    /// Puts a label before the next instruction.
    pub fn place(&mut self, label: Pc) {
        self.labels[label as usize] = Some(self.code.len());
    }

    /// Puts a named label before the next instruction.
    pub fn place_label(&mut self, name: &str) -> Result<(), Reason> {
        let label = self.scopes.last().and_then(|scope| scope.labels.get(name)).copied();
        self.place(label.ok_or_else(|| format!("label {name} is out of place"))?);
        Ok(())
    }

    /// The number of a label.
    pub fn label(&self, name: &str) -> Result<Pc, Reason> {
        let found = self.scopes.iter().rev().find_map(|scope| scope.labels.get(name));
        found.copied().ok_or_else(|| format!("unknown label {name}"))
    }

    /// The labels of a `.branchtargets` table.
    pub fn targets(&self, name: &str) -> Result<&'a [&'a str], Reason> {
        let found = self.scopes.iter().rev().find_map(|scope| scope.targets.get(name));
        found.copied().ok_or_else(|| format!("unknown table of targets {name}"))
    }

    /// Declares `.reg` names.
    pub fn declare_registers(
        &mut self,
        width: Width,
        names: &[(&'a str, Option<u64>)],
    ) -> Result<(), Reason> {
        for &(name, count) in names {
            match count {
                Some(count) => {
                    let Some(scope) = self.scopes.last_mut() else { continue };
                    scope.ranges.push((name, count, width));
                }
                None => {
                    let reg = self.pools.register(file(width))?;
                    self.declare(name, Symbol::Register(width, reg))?;
                }
            }
        }
        Ok(())
    }

    /// Adds a name to the innermost scope.
    pub fn declare(&mut self, name: &'a str, symbol: Symbol) -> Result<(), Reason> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        match scope.symbols.insert(name, symbol) {
            Some(_) => Err(format!("{name} is declared twice")),
            None => Ok(()),
        }
    }

    /// Finds a name from the innermost scope outwards.
    pub fn symbol(&mut self, name: &'a str) -> Result<Option<Symbol>, Reason> {
        for scope in self.scopes.iter_mut().rev() {
            if let Some(&symbol) = scope.symbols.get(name) {
                return Ok(Some(symbol));
            }
            let range = scope.ranges.iter().find(|(prefix, count, _)| in_range(name, prefix, *count));
            if let Some(&(_, _, width)) = range {
                let symbol = Symbol::Register(width, self.pools.register(file(width))?);
                scope.symbols.insert(name, symbol);
                return Ok(Some(symbol));
            }
        }
        Ok(None)
    }
}

/// Is the name one of `prefix0 … prefix(count-1)`?
fn in_range(name: &str, prefix: &str, count: u64) -> bool {
    let Some(digits) = name.strip_prefix(prefix) else { return false };
    let plain =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    plain && digits.parse::<u64>().is_ok_and(|number| number < count)
}
