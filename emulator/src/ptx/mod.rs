//! PTX text to [`ir::Module`]: lexer, parser, lowering. Whatever is not known here is an error at load
//! that names it and its line; nothing is left to be found out at run time.

mod ast;
mod flow;
mod lexer;
mod lower;
mod parser;
mod register_allocation;

use crate::ir;

/// Why a text can't be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {message}")]
pub struct LoadError {
    /// Line of the text, from 1.
    pub line: u32,
    /// What is wrong there.
    pub message: String,
}

impl LoadError {
    fn new(line: u32, message: impl Into<String>) -> LoadError {
        LoadError { line, message: message.into() }
    }
}

/// Parses and lowers a module.
///
/// # Errors
/// A text that is no PTX, or PTX that the emulator does not know: opcodes, types, modifiers, operands.
pub fn load(text: &str) -> Result<ir::Module, LoadError> {
    let tokens = lexer::lex(text)?;
    let module = parser::parse(&tokens)?;
    lower::module(&module)
}
