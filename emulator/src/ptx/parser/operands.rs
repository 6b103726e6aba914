//! Operands of instructions.

use super::super::ast::Operand;
use super::super::lexer::Kind;
use super::{Parser, Result};

impl<'a> Parser<'a> {
    pub fn operand(&mut self) -> Result<Operand<'a>> {
        match self.peek() {
            Kind::Mark('[') => self.address(),
            Kind::Mark('{') => Ok(Operand::Vector(self.list('{', '}')?)),
            Kind::Mark('(') => Ok(Operand::Group(self.list('(', ')')?)),
            Kind::Mark('!') => {
                self.at += 1;
                Ok(Operand::Not(self.name()?))
            }
            Kind::Word("generic") if self.peek_second() == Kind::Mark('(') => {
                self.at += 2;
                let name = self.name()?;
                self.expect(')')?;
                Ok(Operand::Generic(name, self.addend()?))
            }
            Kind::Word(_) => {
                let name = self.name()?;
                if self.take('|') {
                    return Ok(Operand::Pair(name, self.name()?));
                }
                Ok(Operand::Name(name, self.addend()?))
            }
            _ => self.number(),
        }
    }

    fn list(&mut self, open: char, close: char) -> Result<Vec<Operand<'a>>> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.take(close) {
            if matches!(self.peek(), Kind::Mark('{' | '(' | '[')) {
                return self.unexpected("a register or a number");
            }
            items.push(self.operand()?);
            if !self.take(',') && self.peek() != Kind::Mark(close) {
                return self.unexpected(&format!("',' or '{close}'"));
            }
        }
        Ok(items)
    }

    fn number(&mut self) -> Result<Operand<'a>> {
        let negative = self.take('-');
        let operand = match self.peek() {
            Kind::Int(value) if negative => Operand::Int((value as i64).wrapping_neg()),
            Kind::Int(value) => Operand::Int(value as i64),
            Kind::Single(bits) => Operand::Single(bits ^ (u32::from(negative) << 31)),
            Kind::Double(bits) => Operand::Double(bits ^ (u64::from(negative) << 63)),
            Kind::Decimal(text) => {
                let value: f64 = text.parse().or_else(|_| self.error(format!("bad number {text}")))?;
                Operand::Decimal(if negative { -value } else { value })
            }
            _ => return self.unexpected("an operand"),
        };
        self.at += 1;
        Ok(operand)
    }

    /// `+n`, `-n`, `+-n` or nothing.
    fn addend(&mut self) -> Result<i64> {
        let minus = if self.take('+') {
            self.take('-')
        } else if self.take('-') {
            true
        } else {
            return Ok(0);
        };
        let value = self.int()? as i64;
        Ok(if minus { value.wrapping_neg() } else { value })
    }

    fn address(&mut self) -> Result<Operand<'a>> {
        self.expect('[')?;
        let address = match self.peek() {
            Kind::Word(_) => {
                let name = self.name()?;
                Operand::Address(Some(name), self.addend()?)
            }
            _ => {
                let negative = self.take('-');
                let value = self.int()? as i64;
                Operand::Address(None, if negative { value.wrapping_neg() } else { value })
            }
        };
        self.expect(']')?;
        Ok(address)
    }
}
