//! Tokens to [`ast`](super::ast).

use super::LoadError;
use super::ast::{Function, Instruction, Module, Operand, Statement, Variable, Width};
use super::lexer::{Kind, Token};
use crate::ir::Space;

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

    /// A variable, from its space to its initialiser.
    fn variable(&mut self, external: bool) -> Result<Variable<'a>> {
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

    fn params(&mut self) -> Result<Vec<Variable<'a>>> {
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

    /// From `{` to its `}`.
    fn body(&mut self, body: &mut Vec<Statement<'a>>) -> Result<()> {
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

    fn operand(&mut self) -> Result<Operand<'a>> {
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

/// Width of a type as written in a declaration, and whether it is a float.
fn width_of(word: &str) -> Option<(Width, bool)> {
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
