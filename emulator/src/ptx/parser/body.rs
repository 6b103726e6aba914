//! Bodies of functions.

use super::super::ast::{Instruction, Statement, Width};
use super::super::lexer::Kind;
use super::declarations::width_of;
use super::{Parser, Result};
use crate::ir::Space;

impl<'a> Parser<'a> {
    /// From `{` to its `}`.
    pub fn body(&mut self, body: &mut Vec<Statement<'a>>) -> Result<()> {
        self.expect('{')?;
        let mut depth = 1;
        loop {
            match self.peek() {
                Kind::Mark('{') => {
                    self.at += 1;
                    depth += 1;
                    body.push(Statement::Open);
                }
                Kind::Mark('}') => {
                    self.at += 1;
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                    body.push(Statement::Close);
                }
                Kind::Mark(';') => self.at += 1,
                Kind::Word(word) if word.starts_with('.') => self.directive(word, body)?,
                Kind::Word(_) if self.peek_second() == Kind::Mark(':') => self.label(body)?,
                Kind::Word(_) | Kind::Mark('@') => {
                    body.push(Statement::Instruction(self.instruction()?));
                }
                _ => return self.unexpected("a statement or '}'"),
            }
        }
    }

    fn directive(&mut self, word: &'a str, body: &mut Vec<Statement<'a>>) -> Result<()> {
        match word {
            ".reg" => body.push(self.registers()?),
            ".shared" | ".local" | ".param" | ".global" | ".const" => self.body_variable(body, false)?,
            ".extern" => {
                self.at += 1;
                self.body_variable(body, true)?;
            }
            ".loc" => return self.location(),
            ".pragma" => return self.skip_statement(),
            _ => return self.error(format!("unknown directive {word}")),
        }
        self.expect(';')
    }

    fn body_variable(&mut self, body: &mut Vec<Statement<'a>>, external: bool) -> Result<()> {
        let variable = self.variable(external)?;
        if matches!(variable.space, Space::Global | Space::Const) {
            // Static variables of a function: one for all threads, like those of module scope.
            self.module.variables.push(variable);
        } else {
            body.push(Statement::Variable(variable));
        }
        Ok(())
    }

    fn registers(&mut self) -> Result<Statement<'a>> {
        let line = self.line();
        self.at += 1;
        let Kind::Word(word) = self.peek() else { return self.unexpected("a register type") };
        let width = match (word, width_of(word)) {
            (".pred", _) => Width::Predicate,
            (_, Some((width, _))) => width,
            _ => return self.error(format!("unknown register type {word}")),
        };
        self.at += 1;
        let mut names = Vec::new();
        loop {
            let name = self.name()?;
            let count = if self.take('<') {
                let count = self.int()?;
                self.expect('>')?;
                Some(count)
            } else {
                None
            };
            names.push((name, count));
            if !self.take(',') {
                return Ok(Statement::Registers(width, names, line));
            }
        }
    }

    /// `.loc file line column[, function_name label[+n], inlined_at file line column]`: the innermost place
    /// is kept.
    fn location(&mut self) -> Result<()> {
        self.at += 1;
        let mut file = self.small_int()?;
        let mut line = self.small_int()?;
        self.int()?;
        if self.take(',') {
            if !self.take_word("function_name") {
                return self.unexpected("function_name");
            }
            self.name()?;
            if self.take('+') {
                self.int()?;
            }
            self.expect(',')?;
            if !self.take_word("inlined_at") {
                return self.unexpected("inlined_at");
            }
            // Code of another file, such as a header of the toolkit: its place is where it was called.
            let (caller, at) = (self.small_int()?, self.small_int()?);
            if caller != file {
                (file, line) = (caller, at);
            }
            self.int()?;
        }
        let file = u16::try_from(file).or_else(|_| self.error("a .loc file beyond 65535"))?;
        self.source = (line != 0).then_some((file, line));
        Ok(())
    }

    fn label(&mut self, body: &mut Vec<Statement<'a>>) -> Result<()> {
        let line = self.line();
        let name = self.name()?;
        self.expect(':')?;
        match self.peek() {
            Kind::Word(".branchtargets") => {
                self.at += 1;
                let mut targets = vec![self.name()?];
                while self.take(',') {
                    targets.push(self.name()?);
                }
                body.push(Statement::Targets(name, targets, line));
                self.expect(';')
            }
            Kind::Word(word @ (".callprototype" | ".calltargets")) => {
                self.error(format!("{word}: indirect calls are not supported"))
            }
            _ => {
                body.push(Statement::Label(name, line));
                Ok(())
            }
        }
    }

    fn instruction(&mut self) -> Result<Instruction<'a>> {
        let line = self.line();
        let guard = if self.take('@') {
            let negated = self.take('!');
            Some((self.name()?, negated))
        } else {
            None
        };
        let opcode = self.name()?;
        let mut operands = Vec::new();
        while !self.take(';') {
            if !operands.is_empty() {
                self.expect(',')?;
            }
            operands.push(self.operand()?);
        }
        Ok(Instruction { line, source: self.source, guard, opcode, operands })
    }
}
