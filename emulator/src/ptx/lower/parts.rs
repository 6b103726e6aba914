//! The parts of an instruction as it is written. Each modifier is taken by the code that understands it; one left over
//! is an error.

use super::super::ast::{Instruction, Operand};
use super::Reason;
use crate::ir::{Round, Type};

/// An instruction, its opcode split at its dots.
pub struct Parts<'a> {
    /// The opcode's first part.
    pub name: &'a str,
    /// The whole opcode.
    pub opcode: &'a str,
    pub operands: &'a [Operand<'a>],
    modifiers: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    /// Splits an instruction's opcode.
    pub fn new(instruction: &'a Instruction<'a>) -> Parts<'a> {
        let Instruction { opcode, operands, .. } = instruction;
        let mut modifiers = opcode.split('.');
        let name = modifiers.next().unwrap_or_default();
        Parts { name, opcode, operands, modifiers: modifiers.collect() }
    }

    /// Takes a modifier if it is there.
    pub fn take(&mut self, name: &str) -> bool {
        match self.modifiers.iter().position(|&part| part == name) {
            Some(at) => {
                self.modifiers.remove(at);
                true
            }
            None => false,
        }
    }

    /// Takes the first of some that is there.
    pub fn choose<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        choices.iter().find(|(name, _)| self.take(name)).map(|&(_, value)| value)
    }

    /// The same, one being necessary.
    pub fn require<T: Copy>(&mut self, what: &str, choices: &[(&str, T)]) -> Result<T, Reason> {
        self.choose(choices).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!(".{name}")).collect();
            format!("{}: no known {what} (one of {})", self.opcode, names.join(" "))
        })
    }

    /// Takes a modifier that must be there.
    pub fn expect(&mut self, name: &str) -> Result<(), Reason> {
        if self.take(name) { Ok(()) } else { Err(format!("{}: only .{name} is known", self.opcode)) }
    }

    /// Takes everything that starts so; was there any?
    pub fn take_prefixed(&mut self, prefix: &str) -> bool {
        let before = self.modifiers.len();
        self.modifiers.retain(|part| !part.starts_with(prefix));
        self.modifiers.len() != before
    }

    /// Takes the first type, which has to be one of `allowed` (names, separated by blanks).
    pub fn ty(&mut self, allowed: &str) -> Result<Type, Reason> {
        let found = self.modifiers.iter().position(|part| type_named(part).is_some());
        let Some(at) = found else {
            return Err(format!("{}: no known type (one of {allowed})", self.opcode));
        };
        let name = self.modifiers.remove(at);
        match type_named(name) {
            Some(ty) if allowed.split(' ').any(|other| other == name) => Ok(ty),
            _ => Err(format!("{}: type .{name} is not known here (one of {allowed})", self.opcode)),
        }
    }

    /// Is the first type a float?
    pub fn is_float(&self) -> bool {
        self.modifiers.iter().find_map(|part| type_named(part)).is_some_and(Type::is_float)
    }

    /// `.rn` and its like.
    pub fn round(&mut self) -> Option<Round> {
        let names = [("rn", Round::Near), ("rz", Round::Zero), ("rm", Round::Down), ("rp", Round::Up)];
        self.choose(&names)
    }

    /// `.rni` and its like.
    pub fn round_integral(&mut self) -> Option<Round> {
        let names = [("rni", Round::Near), ("rzi", Round::Zero), ("rmi", Round::Down), ("rpi", Round::Up)];
        self.choose(&names)
    }

    /// Is everything taken?
    pub fn finish(self) -> Result<(), Reason> {
        match self.modifiers.first() {
            Some(part) => Err(format!("{}: unknown modifier .{part}", self.opcode)),
            None => Ok(()),
        }
    }
}

fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "u8" | "b8" => Type::U8,
        "s8" => Type::S8,
        "u16" | "b16" => Type::U16,
        "s16" => Type::S16,
        "u32" | "b32" => Type::U32,
        "s32" => Type::S32,
        "u64" | "b64" => Type::U64,
        "s64" => Type::S64,
        "f16" => Type::F16,
        "f16x2" => Type::F16x2,
        "bf16" => Type::Bf16,
        "bf16x2" => Type::Bf16x2,
        "tf32" => Type::Tf32,
        "f32" => Type::F32,
        "f64" => Type::F64,
        _ => return None,
    })
}
