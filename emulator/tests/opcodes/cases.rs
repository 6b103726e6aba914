//! The case files that `make.py` writes; `cases.py` says what their lines mean.

use std::collections::HashMap;

/// Kind of a register.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Half,
    Word,
    Long,
    Predicate,
}

impl Kind {
    fn parse(text: &str) -> Kind {
        match text {
            "h" => Kind::Half,
            "w" => Kind::Word,
            "l" => Kind::Long,
            "p" => Kind::Predicate,
            _ => panic!("kind {text}"),
        }
    }

    /// The bits that count.
    pub fn mask(self) -> u64 {
        match self {
            Kind::Half => 0xffff,
            Kind::Word => 0xffff_ffff,
            Kind::Long => u64::MAX,
            Kind::Predicate => 1,
        }
    }
}

/// A float format of the case files.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub exponent: u32,
    pub mantissa: u32,
}

impl Format {
    fn parse(name: &str) -> Format {
        let (exponent, mantissa) = match name {
            "f16" => (5, 10),
            "bf16" => (8, 7),
            "f32" | "tf32" => (8, 23),
            "f64" => (11, 52),
            _ => panic!("format {name}"),
        };
        Format { exponent, mantissa }
    }

    pub fn is_nan(self, bits: u64) -> bool {
        let infinity = ((1 << self.exponent) - 1) << self.mantissa;
        let sign = 1 << (self.exponent + self.mantissa);
        bits & (sign - 1) > infinity
    }

    /// The value, exact in f64.
    pub fn value(self, bits: u64) -> f64 {
        let fraction = (bits & ((1 << self.mantissa) - 1)) as f64;
        let field = (bits >> self.mantissa & ((1 << self.exponent) - 1)) as i32;
        let bias = (1 << (self.exponent - 1)) - 1;
        let unit = 1.0 / (1u64 << self.mantissa) as f64;
        let size = if field == (1 << self.exponent) - 1 {
            if fraction == 0.0 { f64::INFINITY } else { f64::NAN }
        } else if field == 0 {
            fraction * unit * 2f64.powi(1 - bias)
        } else {
            (1.0 + fraction * unit) * 2f64.powi(field - bias)
        };
        if bits >> (self.exponent + self.mantissa) & 1 == 1 { -size } else { size }
    }
}

/// What one result has to be, tuple by tuple.
pub enum Expected {
    Exactly(Vec<u64>),
    Number(Format, Vec<u64>),
    Near { format: Format, absolute: f64, relative: f64, values: Vec<f64> },
    Chosen { yes: u64, masks: Vec<u32> },
}

impl Expected {
    fn parse(line: &str) -> Expected {
        let mut parts = line.split(' ');
        let sign = parts.next().unwrap();
        match sign {
            "=" => Expected::Exactly(parts.map(number).collect()),
            "n" => Expected::Number(Format::parse(parts.next().unwrap()), parts.map(number).collect()),
            "?" => Expected::Chosen {
                yes: number(parts.next().unwrap()),
                masks: parts.map(|mask| number(mask) as u32).collect(),
            },
            "~" => {
                let format = Format::parse(parts.next().unwrap());
                let mut float = || parts.next().unwrap().parse().unwrap();
                let (absolute, relative) = (float(), float());
                Expected::Near {
                    format,
                    absolute,
                    relative,
                    values: parts.map(|bits| f64::from_bits(number(bits))).collect(),
                }
            }
            _ => panic!("result {line}"),
        }
    }

    /// Whether the bits are right for a tuple; else what was expected.
    pub fn judge(&self, tuple: usize, bits: u64) -> Result<(), String> {
        let (good, expected) = match self {
            Expected::Exactly(values) => (bits == values[tuple], format!("{:x}", values[tuple])),
            Expected::Number(format, values) => {
                let nan = format.is_nan(values[tuple]) && format.is_nan(bits);
                (nan || bits == values[tuple], format!("{:x}", values[tuple]))
            }
            Expected::Near { format, absolute, relative, values } => {
                let (got, exact) = (format.value(bits), values[tuple]);
                let close = if exact.is_nan() || got.is_nan() {
                    exact.is_nan() && got.is_nan()
                } else if exact == 0.0 || exact.is_infinite() {
                    got.to_bits() == exact.to_bits()
                } else {
                    (got - exact).abs() <= absolute.max(relative * exact.abs())
                };
                (close, format!("{exact:e}, not {got:e}"))
            }
            Expected::Chosen { yes, masks } => {
                let value = if masks[tuple / 32] >> (tuple % 32) & 1 == 1 { *yes } else { 0 };
                (bits == value, format!("{value:x}"))
            }
        };
        if good { Ok(()) } else { Err(expected) }
    }
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A list of operand tuples, by columns.
pub type Inputs = Vec<(Kind, Vec<u64>)>;

/// Instructions with the same operands and results.
pub struct Case {
    /// Needs all lanes of a warp.
    pub whole: bool,
    pub opcodes: Vec<String>,
    pub code: String,
    pub inputs: String,
    pub kinds: Vec<Kind>,
    pub results: Vec<Expected>,
}

/// A case file.
#[derive(Default)]
pub struct Cases {
    pub inputs: HashMap<String, Inputs>,
    pub cases: Vec<Case>,
}

impl Cases {
    pub fn parse(text: &str) -> Cases {
        let mut file = Cases::default();
        let mut columns: Option<&mut Inputs> = None;
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "inputs" => columns = Some(file.inputs.entry(rest.to_owned()).or_default()),
                "h" | "w" | "l" | "p" => {
                    let values = rest.split(' ').map(number).collect();
                    columns.as_mut().unwrap().push((Kind::parse(word), values));
                }
                "ops" => {
                    // What it doesn't say is as in the case before.
                    let before = file.cases.last();
                    let case = Case {
                        opcodes: rest.split(' ').map(str::to_owned).collect(),
                        whole: before.is_some_and(|case| case.whole),
                        code: before.map(|case| case.code.clone()).unwrap_or_default(),
                        inputs: before.map(|case| case.inputs.clone()).unwrap_or_default(),
                        kinds: before.map(|case| case.kinds.clone()).unwrap_or_default(),
                        results: Vec::new(),
                    };
                    file.cases.push(case);
                }
                _ => {
                    let case = file.cases.last_mut().unwrap();
                    match word {
                        "lanes" => case.whole = rest == "all",
                        "code" => case.code = rest.to_owned(),
                        "in" => case.inputs = rest.to_owned(),
                        "out" => case.kinds = rest.split(' ').map(Kind::parse).collect(),
                        _ => case.results.push(Expected::parse(line)),
                    }
                }
            }
        }
        assert!(file.cases.iter().all(|case| case.results.len() == case.kinds.len()));
        file
    }
}
