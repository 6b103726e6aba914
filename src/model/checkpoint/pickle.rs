//! Pickles (protocols 0 to 5) as plain values.
//!
//! A pickle is a program for a stack machine that may import and call anything. Here nothing is imported or called:
//! what a name would make is a value that records the name, the arguments and the state. Values lie in one list and refer to each other by index, so that a
//! pickle that refers to itself, or nests without end, is no danger.

use std::rc::Rc;

/// Index of a value.
pub type Id = usize;

/// What a pickle describes.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None, a float, bytes, a set: nothing that a state dict needs.
    Other,
    /// An integer, or a bool.
    Int(i64),
    /// Text.
    Text(Rc<str>),
    /// A tuple or list.
    List(Vec<Id>),
    /// A dict, in order.
    Dict(Vec<(Id, Id)>),
    /// A name, `module.attribute`.
    Global(Rc<str>),
    /// What calling a name would give, and the state that it would get then.
    Call { global: Rc<str>, arguments: Id, state: Option<Id> },
    /// A persistent id: where a storage is.
    Persistent(Id),
}

/// All values of a pickle.
#[derive(Debug)]
pub struct Values {
    pub list: Vec<Value>,
    /// The value that the pickle is of.
    pub root: Id,
}

/// Modules whose functions act on the machine.
const ACTING: [&str; 12] = [
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "shutil",
    "socket",
    "runpy",
    "importlib",
    "pty",
    "webbrowser",
    "ctypes",
];

/// Functions that act, or lead to others.
const ACTING_BUILTINS: [&str; 7] = ["eval", "exec", "compile", "open", "getattr", "__import__", "input"];

impl Values {
    /// Names in it that no data needs: loading the pickle in Python would call them.
    pub fn acting(&self) -> Vec<String> {
        let acts = |global: &str| {
            let (module, name) = global.rsplit_once('.').unwrap_or(("", global));
            let package = module.split('.').next().unwrap_or_default();
            ACTING.contains(&package) || (module == "builtins" && ACTING_BUILTINS.contains(&name))
        };
        let globals = self.list.iter().filter_map(|value| match value {
            Value::Global(global) if acts(global) => Some(global.to_string()),
            _ => None,
        });
        let names: std::collections::BTreeSet<String> = globals.collect();
        names.into_iter().collect()
    }

    pub fn get(&self, id: Id) -> &Value {
        &self.list[id]
    }
}

/// Values at most; a checkpoint has some hundreds.
const MOST: usize = 20_000_000;

/// Bytes of a global's name at most: a pickle can ask for one name again and again.
const LONGEST_GLOBAL: usize = 256;

/// Reads a pickle to its end; the rest of the bytes may be anything.
///
/// # Errors
/// It is cut off or makes no sense; an instruction or a global that is not known, by name.
pub fn read(bytes: &[u8]) -> Result<Values, String> {
    read_first(bytes).map(|(values, _)| values)
}

/// As [`read`], and how many bytes it has.
pub fn read_first(bytes: &[u8]) -> Result<(Values, usize), String> {
    let mut machine =
        Machine { bytes, at: 0, list: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: Vec::new() };
    let root = machine.run()?;
    Ok((Values { list: machine.list, root }, machine.at))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    list: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: Vec<Option<Id>>,
}

type Step<T = ()> = Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Id> {
        loop {
            let start = self.at;
            let [opcode] = self.array()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.since_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.push(Value::Other)?,
                b'I' | b'L' | b'F' | b'S' | b'V' | b'P' => self.line_value(opcode)?,
                0x96 => self.bytes()?,
                0x97 => self.push(Value::Other)?,
                0x98 => {}
                0x88 | 0x89 => self.push(Value::Int(i64::from(opcode == 0x88)))?,
                b'K' | b'M' | b'J' | 0x8a | 0x8b | b'G' => self.number(opcode)?,
                b'X' | 0x8c | 0x8d | b'U' | b'T' | b'C' | b'B' | 0x8e => self.text(opcode)?,
                b'q' | b'r' | b'p' | 0x94 => self.remember(opcode)?,
                b'h' | b'j' | b'g' => self.recall(opcode)?,
                b')' | b']' | b'}' | 0x8f | 0x91 | b't' | b'l' | 0x85..=0x87 | b'd' => {
                    self.collection(opcode)?
                }
                b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode)?,
                b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'i' | b'o' | b'b' | b'Q' => self.object(opcode)?,
                _ => {
                    return Err(format!(
                        "the pickle has instruction {opcode:#04x} at byte {start}, which is not known"
                    ));
                }
            }
        }
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..count).ok_or("the pickle is cut off")?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| "the pickle is cut off".to_string())
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("the pickle is cut off")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a name in the pickle is no text".into())
    }

    fn push(&mut self, value: Value) -> Step {
        if self.list.len() >= MOST {
            return Err("the pickle has more values than any checkpoint".into());
        }
        self.stack.push(self.list.len());
        self.list.push(value);
        Ok(())
    }

    /// The stack above the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        if self.stack.len() <= self.floor() {
            return Err("the pickle takes more than it has put".into());
        }
        self.stack.pop().ok_or_else(|| "the pickle takes more than it has put".into())
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(|| "the pickle takes more than it has put".into())
    }

    fn since_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("the pickle closes what it hasn't opened")?;
        Ok(self.stack.split_off(mark))
    }

    fn number(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b'K' => i64::from(u8::from_le_bytes(self.array()?)),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            b'G' => {
                self.take(8)?;
                return self.push(Value::Other);
            }
            _ => {
                let length = match opcode {
                    0x8b => u32::from_le_bytes(self.array()?) as usize,
                    _ => usize::from(self.array::<1>()?[0]),
                };
                let digits = self.take(length)?;
                if digits.len() > 8 {
                    return self.push(Value::Other);
                }
                let fill = if digits.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
                let mut bytes = [fill; 8];
                bytes[..digits.len()].copy_from_slice(digits);
                i64::from_le_bytes(bytes)
            }
        };
        self.push(Value::Int(value))
    }

    /// A value of protocol 0: it ends with its line.
    fn line_value(&mut self, opcode: u8) -> Step {
        let line = self.line()?.trim_end_matches('L');
        let value = match opcode {
            b'I' | b'L' => line.parse().map_or(Value::Other, Value::Int),
            b'S' => Value::Text(line.trim_matches(['\'', '"']).into()),
            b'V' => Value::Text(line.into()),
            _ => Value::Other,
        };
        self.push(value)
    }

    /// A bytearray.
    fn bytes(&mut self) -> Step {
        let length = u64::from_le_bytes(self.array()?);
        self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        self.push(Value::Other)
    }

    /// A place of the memo, as a line.
    fn place(&mut self) -> Step<usize> {
        self.line()?.parse().map_err(|_| "the pickle remembers something at no place".into())
    }

    fn text(&mut self, opcode: u8) -> Step {
        let length = match opcode {
            0x8c | b'U' | b'C' => u64::from(u8::from_le_bytes(self.array()?)),
            b'X' | b'T' | b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let is_text = matches!(opcode, b'X' | 0x8c | 0x8d | b'U' | b'T');
        match std::str::from_utf8(bytes) {
            Ok(text) if is_text => self.push(Value::Text(text.into())),
            _ => self.push(Value::Other),
        }
    }

    fn remember(&mut self, opcode: u8) -> Step {
        let place = match opcode {
            b'q' => usize::from(u8::from_le_bytes(self.array()?)),
            b'r' => u32::from_le_bytes(self.array()?) as usize,
            b'p' => self.place()?,
            _ => self.memo.len(),
        };
        let top = self.top()?;
        // The memo has no more places than the pickle has bytes to fill them.
        if place > self.bytes.len() {
            return Err(format!("the pickle remembers something at place {place}"));
        }
        if self.memo.len() <= place {
            self.memo.resize(place + 1, None);
        }
        self.memo[place] = Some(top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Step {
        let place = match opcode {
            b'h' => usize::from(u8::from_le_bytes(self.array()?)),
            b'g' => self.place()?,
            _ => u32::from_le_bytes(self.array()?) as usize,
        };
        let id = self.memo.get(place).copied().flatten().ok_or("the pickle recalls what it hasn't seen")?;
        self.stack.push(id);
        Ok(())
    }

    fn collection(&mut self, opcode: u8) -> Step {
        let items = match opcode {
            b't' | b'l' | b'd' | 0x91 => self.since_mark()?,
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0x84..opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                items
            }
            _ => Vec::new(),
        };
        self.push(match opcode {
            b'}' | b'd' => Value::Dict(pairs(&items)),
            0x8f | 0x91 => Value::Other,
            _ => Value::List(items),
        })
    }

    fn fill(&mut self, opcode: u8) -> Step {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.since_mark()?,
        };
        let target = self.top()?;
        match &mut self.list[target] {
            Value::List(list) => list.extend(items),
            Value::Dict(dict) => dict.extend(pairs(&items)),
            // An object or a set: nothing that a state dict needs.
            _ => {}
        }
        Ok(())
    }

    fn object(&mut self, opcode: u8) -> Step {
        match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.list[module], &self.list[name]) else {
                    return Err("the pickle imports what has no name".into());
                };
                let (module, name) = (Rc::clone(module), Rc::clone(name));
                self.global(&module, &name)
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
            b'b' => {
                let given = self.pop()?;
                let target = self.top()?;
                // The state of a dict is nothing that a state dict needs.
                if let Value::Call { state, .. } = &mut self.list[target] {
                    *state = Some(given);
                }
                Ok(())
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let items = self.since_mark()?;
                self.push(Value::List(items))?;
                let arguments = self.pop()?;
                self.global(module, name)?;
                let callee = self.pop()?;
                self.call(callee, arguments)
            }
            b'o' => {
                let mut items = self.since_mark()?;
                if items.is_empty() {
                    return Err("the pickle calls what is no name".into());
                }
                let callee = items.remove(0);
                self.push(Value::List(items))?;
                let arguments = self.pop()?;
                self.call(callee, arguments)
            }
            0x92 => {
                let _names = self.pop()?;
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments)
            }
            _ => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments)
            }
        }
    }

    fn call(&mut self, callee: Id, arguments: Id) -> Step {
        let global = match &self.list[callee] {
            Value::Global(global) => Rc::clone(global),
            // Of a module of before version 1.6, or what another call would give.
            Value::Persistent(_) | Value::Call { .. } => "?".into(),
            _ => return Err("the pickle calls what is no name".into()),
        };
        // An OrderedDict is filled by items that follow, as a dict is.
        let made = match global.ends_with("OrderedDict") {
            true => Value::Dict(vec![]),
            false => Value::Call { global, arguments, state: None },
        };
        self.push(made)
    }

    fn global(&mut self, module: &str, name: &str) -> Step {
        if module.len() + name.len() > LONGEST_GLOBAL {
            return Err(format!("the pickle asks for a name of {} bytes", module.len() + name.len()));
        }
        self.push(Value::Global(format!("{}.{name}", module.replace("__builtin__", "builtins")).into()))
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value)).collect()
}
