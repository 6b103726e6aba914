//! Variables, parameters and their initialisers.

use super::super::ast::{Operand, Variable, Width};
use super::super::lexer::Kind;
use super::{Parser, Result};
use crate::ir::Space;

impl<'a> Parser<'a> {
    /// A variable, from its space to its initialiser.
    pub fn variable(&mut self, external: bool) -> Result<Variable<'a>> {
        let line = self.line();
        let mut space = Space::Param;
        let mut align = None;
        let mut in_register = false;
        let mut vector = 1;
        let (width, float) = loop {
            let Kind::Word(word) = self.peek() else { return self.unexpected("a type") };
            self.at += 1;
            match word {
                ".global" => space = Space::Global,
                ".const" => space = Space::Const,
                ".shared" => space = Space::Shared,
                ".local" => space = Space::Local,
                ".param" => space = Space::Param,
                ".reg" => in_register = true,
                ".align" => align = Some(self.alignment()?),
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".attribute" => return self.error("unsupported variable attribute"),
                _ => match width_of(word) {
                    Some(found) => break found,
                    None => return self.error(format!("unknown type or space {word}")),
                },
            }
        };
        if space == Space::Param {
            self.pointer_attributes()?;
        }
        let name = self.name()?;
        let mut count = Some(vector);
        while self.take('[') {
            if self.take(']') {
                count = None;
                continue;
            }
            let size = self.int()?;
            count = match count.and_then(|count: u64| count.checked_mul(size)) {
                Some(count) if count <= 1 << 31 => Some(count),
                _ => return self.error(format!("{name} is too large")),
            };
            self.expect(']')?;
        }
        let mut initial = Vec::new();
        if self.take('=') {
            self.initialiser(&mut initial, 0)?;
        }
        let natural = width.bytes().unwrap_or(1) * vector as u32;
        let align = align.unwrap_or(natural);
        Ok(Variable { name, line, space, align, width, float, count, external, initial, in_register })
    }

    fn alignment(&mut self) -> Result<u32> {
        let align = self.small_int()?;
        if !align.is_power_of_two() || align > 4096 {
            return self.error(format!("alignment {align} is no power of two up to 4096"));
        }
        Ok(align)
    }

    /// `.ptr .global .align 4` of a kernel's parameter: promises to the compiler only.
    fn pointer_attributes(&mut self) -> Result<()> {
        if !self.take_word(".ptr") {
            return Ok(());
        }
        for space in [".global", ".const", ".local", ".shared"] {
            if self.take_word(space) {
                break;
            }
        }
        if self.take_word(".align") {
            self.alignment()?;
        }
        Ok(())
    }

    fn initialiser(&mut self, values: &mut Vec<Operand<'a>>, depth: usize) -> Result<()> {
        if depth > 16 {
            return self.error("initialiser nested too deeply");
        }
        if !self.take('{') {
            values.push(self.operand()?);
            return Ok(());
        }
        while !self.take('}') {
            self.initialiser(values, depth + 1)?;
            if !self.take(',') && self.peek() != Kind::Mark('}') {
                return self.unexpected("',' or '}'");
            }
        }
        Ok(())
    }

    pub fn params(&mut self) -> Result<Vec<Variable<'a>>> {
        let mut params = Vec::new();
        if !self.take('(') {
            return Ok(params);
        }
        while !self.take(')') {
            params.push(self.variable(false)?);
            if !self.take(',') && self.peek() != Kind::Mark(')') {
                return self.unexpected("',' or ')'");
            }
        }
        Ok(params)
    }
}

/// Width of a type as written in a declaration, and whether it is a float.
pub fn width_of(word: &str) -> Option<(Width, bool)> {
    Some(match word {
        ".b8" | ".u8" | ".s8" => (Width::B8, false),
        ".b16" | ".u16" | ".s16" | ".bf16" => (Width::B16, false),
        ".f16" => (Width::B16, false),
        ".b32" | ".u32" | ".s32" | ".f16x2" | ".bf16x2" => (Width::B32, false),
        ".b64" | ".u64" | ".s64" => (Width::B64, false),
        ".f32" => (Width::B32, true),
        ".f64" => (Width::B64, true),
        _ => return None,
    })
}
