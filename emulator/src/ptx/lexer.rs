//! Text to tokens.

use super::LoadError;

/// A token's kind and content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind<'a> {
    /// Identifier, directive, register or opcode with its modifiers: dots and `::` belong to it.
    Word(&'a str),
    /// Integer.
    Int(u64),
    /// `0f…`: bits of an f32.
    Single(u32),
    /// `0d…`: bits of an f64.
    Double(u64),
    /// Decimal number with a point or an exponent, as written.
    Decimal(&'a str),
    /// Text between quotes.
    Text(&'a str),
    /// One character of punctuation.
    Mark(char),
    /// After the last token.
    End,
}

/// A token and the line it is on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind<'a>,
    /// From 1.
    pub line: u32,
}

/// Splits a text; the last token is [`Kind::End`].
pub fn lex(text: &str) -> Result<Vec<Token<'_>>, LoadError> {
    let mut lexer = Lexer { text, at: 0, line: 1 };
    let mut tokens = Vec::with_capacity(text.len() / 4);
    loop {
        lexer.skip_blank()?;
        let line = lexer.line;
        let kind = lexer.token()?;
        tokens.push(Token { kind, line });
        if kind == Kind::End {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, LoadError> {
        Err(LoadError::new(self.line, message))
    }

    fn skip_blank(&mut self) -> Result<(), LoadError> {
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r' | 0, _) => self.at += 1,
                (b'/', b'/') => {
                    let rest = &self.text.as_bytes()[self.at..];
                    self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
                }
                (b'/', b'*') => {
                    let Some(end) = self.text.as_bytes()[self.at + 2..].windows(2).position(|w| w == b"*/")
                    else {
                        return self.error("comment without an end");
                    };
                    let comment = &self.text.as_bytes()[self.at..self.at + end];
                    self.line += comment.iter().filter(|&&byte| byte == b'\n').count() as u32;
                    self.at += end + 4;
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn token(&mut self) -> Result<Kind<'a>, LoadError> {
        if self.at >= self.text.len() {
            return Ok(Kind::End);
        }
        match self.peek(0) {
            b'0'..=b'9' => self.number(),
            b'"' => {
                let start = self.at + 1;
                let rest = &self.text.as_bytes()[start..];
                let Some(end) = rest.iter().position(|&byte| byte == b'"' || byte == b'\n') else {
                    return self.error("string without an end");
                };
                if rest[end] == b'\n' {
                    return self.error("string without an end");
                }
                self.at = start + end + 1;
                Ok(Kind::Text(&self.text[start..start + end]))
            }
            byte if starts_word(byte) => Ok(Kind::Word(self.word())),
            _ => {
                let Some(mark) = self.text[self.at..].chars().next() else { return Ok(Kind::End) };
                if !"{}[]()<>,;:=+-!@|*~".contains(mark) {
                    return self.error(format!("unexpected character {mark:?}"));
                }
                self.at += 1;
                Ok(Kind::Mark(mark))
            }
        }
    }

    fn word(&mut self) -> &'a str {
        let start = self.at;
        self.at += 1;
        loop {
            if continues_word(self.peek(0)) {
                self.at += 1;
            } else if self.peek(0) == b':' && self.peek(1) == b':' && continues_word(self.peek(2)) {
                self.at += 2;
            } else {
                return &self.text[start..self.at];
            }
        }
    }

    fn digits(&mut self, radix: u32) -> &'a str {
        let start = self.at;
        while (self.peek(0) as char).is_digit(radix) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn number(&mut self) -> Result<Kind<'a>, LoadError> {
        let prefix = (self.peek(0), self.peek(1).to_ascii_lowercase());
        let (radix, skip) = match prefix {
            (b'0', b'x' | b'f' | b'd') => (16, 2),
            (b'0', b'b') => (2, 2),
            (b'0', b'0'..=b'7') => (8, 1),
            _ => (10, 0),
        };
        self.at += skip;
        let digits = self.digits(radix);
        if radix == 10 && (self.peek(0) == b'.' || self.peek(0).eq_ignore_ascii_case(&b'e')) {
            return self.decimal(digits);
        }
        let Ok(value) = u64::from_str_radix(digits, radix) else {
            return self.error(format!("{digits:?} is no 64-bit number"));
        };
        match prefix {
            (b'0', b'f') if digits.len() == 8 => return Ok(Kind::Single(value as u32)),
            (b'0', b'd') if digits.len() == 16 => return Ok(Kind::Double(value)),
            (b'0', b'f' | b'd') => return self.error("float bits need 8 (0f) or 16 (0d) digits"),
            _ => {}
        }
        if self.peek(0).eq_ignore_ascii_case(&b'u') {
            self.at += 1;
        }
        if continues_word(self.peek(0)) {
            return self.error("a number runs into a word");
        }
        Ok(Kind::Int(value))
    }

    /// The rest of `1.5`, `7.0`, `1e-3`, whose first digits are already read.
    fn decimal(&mut self, whole: &'a str) -> Result<Kind<'a>, LoadError> {
        let start = self.at - whole.len();
        if self.peek(0) == b'.' {
            self.at += 1;
            self.digits(10);
        }
        if self.peek(0).eq_ignore_ascii_case(&b'e') {
            self.at += 1;
            if matches!(self.peek(0), b'+' | b'-') {
                self.at += 1;
            }
            if self.digits(10).is_empty() {
                return self.error("an exponent without digits");
            }
        }
        Ok(Kind::Decimal(&self.text[start..self.at]))
    }
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

fn continues_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit()
}
