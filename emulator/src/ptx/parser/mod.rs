//! Tokens to [`ast`](super::ast).

mod body;
mod declarations;
mod operands;

use super::LoadError;
use super::ast::{Function, Module};
use super::lexer::{Kind, Token};

type Result<T> = std::result::Result<T, LoadError>;

/// Parses a module; the last token must be [`Kind::End`].
pub fn parse<'a>(tokens: &'a [Token<'a>]) -> Result<Module<'a>> {
    let mut parser = Parser { tokens, at: 0, source: None, module: Module::default() };
    while parser.peek() != Kind::End {
        parser.item()?;
    }
    if parser.module.version == (0, 0) {
        return Err(LoadError::new(1, "no .version: this is not PTX"));
    }
    if parser.module.target == 0 {
        return Err(LoadError::new(1, "no .target"));
    }
    Ok(parser.module)
}

struct Parser<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    source: Option<(u16, u32)>,
    module: Module<'a>,
}

/// Prefixes of a declaration.
#[derive(Default)]
struct Linkage {
    external: bool,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Kind<'a> {
        self.tokens.get(self.at).map_or(Kind::End, |token| token.kind)
    }

    fn peek_second(&self) -> Kind<'a> {
        self.tokens.get(self.at + 1).map_or(Kind::End, |token| token.kind)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    fn next(&mut self) -> Kind<'a> {
        let kind = self.peek();
        self.at += 1;
        kind
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(LoadError::new(self.line(), message))
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T> {
        self.error(format!("expected {wanted}, found {}", describe(self.peek())))
    }

    fn take(&mut self, mark: char) -> bool {
        let found = self.peek() == Kind::Mark(mark);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: char) -> Result<()> {
        if self.take(mark) { Ok(()) } else { self.unexpected(&format!("'{mark}'")) }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Kind::Word(word);
        self.at += usize::from(found);
        found
    }

    fn name(&mut self) -> Result<&'a str> {
        match self.peek() {
            Kind::Word(word) if !word.starts_with('.') => {
                self.at += 1;
                Ok(word)
            }
            _ => self.unexpected("a name"),
        }
    }

    fn int(&mut self) -> Result<u64> {
        match self.peek() {
            Kind::Int(value) => {
                self.at += 1;
                Ok(value)
            }
            _ => self.unexpected("an integer"),
        }
    }

    fn small_int(&mut self) -> Result<u32> {
        let value = self.int()?;
        u32::try_from(value).or_else(|_| self.error(format!("{value} is too large")))
    }

    fn item(&mut self) -> Result<()> {
        let Kind::Word(word) = self.peek() else { return self.unexpected("a directive") };
        match word {
            ".version" => self.version(),
            ".target" => self.target(),
            ".address_size" => {
                self.at += 1;
                if self.int()? != 64 {
                    return self.error("only 64-bit addresses are supported");
                }
                Ok(())
            }
            ".file" => self.file(),
            ".pragma" => self.skip_statement(),
            ".section" => self.skip_section(),
            _ => self.declaration(),
        }
    }

    fn version(&mut self) -> Result<()> {
        self.at += 1;
        let Kind::Decimal(text) = self.peek() else { return self.unexpected("a version as 7.0") };
        let parts = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let Some(version) = parts else { return self.unexpected("a version as 7.0") };
        self.at += 1;
        self.module.version = version;
        Ok(())
    }

    fn target(&mut self) -> Result<()> {
        self.at += 1;
        loop {
            let name = self.name()?;
            if let Some(number) = name.strip_prefix("sm_") {
                let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
                self.module.target =
                    digits.parse().or_else(|_| self.error(format!("unknown target {name}")))?;
            } else if name != "debug" {
                return self.error(format!("unsupported target option {name}"));
            }
            if !self.take(',') {
                return Ok(());
            }
        }
    }

    fn file(&mut self) -> Result<()> {
        self.at += 1;
        let number = self.int()? as usize;
        let Kind::Text(path) = self.peek() else { return self.unexpected("a file name") };
        self.at += 1;
        while self.take(',') {
            self.int()?;
        }
        if number >= usize::from(u16::MAX) {
            return self.error("a .file number beyond 65534");
        }
        if self.module.files.len() <= number {
            self.module.files.resize(number + 1, String::new());
        }
        self.module.files[number] = path.to_owned();
        Ok(())
    }

    fn skip_statement(&mut self) -> Result<()> {
        while !self.take(';') {
            if self.next() == Kind::End {
                return self.unexpected("';'");
            }
        }
        Ok(())
    }

    /// Debug information: everything between its braces.
    fn skip_section(&mut self) -> Result<()> {
        while self.peek() != Kind::Mark('{') {
            if self.next() == Kind::End {
                return self.unexpected("'{'");
            }
        }
        loop {
            match self.next() {
                Kind::Mark('}') => return Ok(()),
                Kind::End => return self.unexpected("'}'"),
                _ => {}
            }
        }
    }

    fn declaration(&mut self) -> Result<()> {
        let mut linkage = Linkage::default();
        loop {
            let Kind::Word(word) = self.peek() else { return self.unexpected("a declaration") };
            match word {
                ".visible" | ".weak" | ".common" => self.at += 1,
                ".extern" => {
                    linkage.external = true;
                    self.at += 1;
                }
                ".entry" | ".func" => {
                    if let Some(function) = self.function()? {
                        self.module.functions.push(function);
                    }
                    return Ok(());
                }
                ".global" | ".const" | ".shared" => {
                    let variable = self.variable(linkage.external)?;
                    self.module.variables.push(variable);
                    if self.take(',') {
                        return self.error("several variables in one declaration of module scope");
                    }
                    return self.expect(';');
                }
                _ => return self.error(format!("unknown directive {word}")),
            }
        }
    }

    fn function(&mut self) -> Result<Option<Function<'a>>> {
        let line = self.line();
        let entry = self.next() == Kind::Word(".entry");
        let results = if entry { Vec::new() } else { self.params()? };
        let name = self.name()?;
        let params = self.params()?;
        let mut function = Function {
            name,
            line,
            entry,
            results,
            params,
            max_threads: None,
            required_threads: None,
            min_blocks: None,
            body: Vec::new(),
        };
        self.source = None;
        loop {
            match self.peek() {
                Kind::Mark(';') => {
                    self.at += 1;
                    return Ok(None);
                }
                Kind::Mark('{') => break,
                _ => self.performance_directive(&mut function)?,
            }
        }
        self.body(&mut function.body)?;
        Ok(Some(function))
    }

    fn performance_directive(&mut self, function: &mut Function<'a>) -> Result<()> {
        let Kind::Word(word) = self.peek() else { return self.unexpected("'{' or ';'") };
        if word == ".pragma" {
            return self.skip_statement();
        }
        self.at += 1;
        match word {
            ".maxntid" => function.max_threads = Some(self.extent()?),
            ".reqntid" => function.required_threads = Some(self.extent()?),
            ".minnctapersm" => function.min_blocks = Some(self.small_int()?),
            ".maxnreg" => drop(self.small_int()?),
            ".noreturn" => {}
            _ => return self.error(format!("unknown directive {word} of {}", function.name)),
        }
        Ok(())
    }

    fn extent(&mut self) -> Result<[u32; 3]> {
        let mut extent = [1; 3];
        for (index, size) in extent.iter_mut().enumerate() {
            if index > 0 && !self.take(',') {
                break;
            }
            *size = self.small_int()?;
        }
        Ok(extent)
    }
}

fn describe(kind: Kind) -> String {
    match kind {
        Kind::Word(word) => word.to_owned(),
        Kind::Int(value) => value.to_string(),
        Kind::Single(bits) => format!("0f{bits:08X}"),
        Kind::Double(bits) => format!("0d{bits:016X}"),
        Kind::Decimal(text) => text.to_owned(),
        Kind::Text(text) => format!("\"{text}\""),
        Kind::Mark(mark) => format!("'{mark}'"),
        Kind::End => "the end of the text".to_owned(),
    }
}
