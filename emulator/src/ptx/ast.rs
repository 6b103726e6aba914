//! What the parser finds: names are still text, opcodes are not looked at.

use crate::ir::Space;

/// A module.
#[derive(Debug, Default)]
pub struct Module<'a> {
    /// `.version`.
    pub version: (u32, u32),
    /// `.target sm_N`.
    pub target: u32,
    /// `.file` entries by number.
    pub files: Vec<String>,
    /// Variables of module scope.
    pub variables: Vec<Variable<'a>>,
    /// Entries and functions with a body.
    pub functions: Vec<Function<'a>>,
}

/// The fundamental types as they are declared: a size, or a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    B8,
    /// 16 bits.
    B16,
    /// 32 bits.
    B32,
    /// 64 bits.
    B64,
    /// `.pred`.
    Predicate,
}

impl Width {
    /// Bytes; none for predicates.
    pub fn bytes(self) -> Option<u32> {
        match self {
            Width::B8 => Some(1),
            Width::B16 => Some(2),
            Width::B32 => Some(4),
            Width::B64 => Some(8),
            Width::Predicate => None,
        }
    }
}

/// A declared variable of memory, or a parameter.
#[derive(Debug, Clone)]
pub struct Variable<'a> {
    /// Its name.
    pub name: &'a str,
    /// Line of its declaration.
    pub line: u32,
    /// State space.
    pub space: Space,
    /// Alignment in bytes.
    pub align: u32,
    /// Type of an element.
    pub width: Width,
    /// Is the element type a float? Decides how initialisers are read.
    pub float: bool,
    /// Elements; None for `name[]`.
    pub count: Option<u64>,
    /// `.extern`.
    pub external: bool,
    /// Initialiser, flattened.
    pub initial: Vec<Operand<'a>>,
    /// `.reg` parameters of functions.
    pub in_register: bool,
}

/// `.entry` or `.func`.
#[derive(Debug)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// Line of its declaration.
    pub line: u32,
    /// `.entry`.
    pub entry: bool,
    /// Results of a `.func`.
    pub results: Vec<Variable<'a>>,
    /// Parameters.
    pub params: Vec<Variable<'a>>,
    /// `.maxntid`.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`.
    pub min_blocks: Option<u32>,
    /// Statements.
    pub body: Vec<Statement<'a>>,
}

/// A statement of a body.
#[derive(Debug)]
pub enum Statement<'a> {
    /// `.reg`: a name, or a name and how many `name0 …` it stands for.
    Registers(Width, Vec<(&'a str, Option<u64>)>, u32),
    /// `.shared`, `.local`, `.param` variables.
    Variable(Variable<'a>),
    /// `name:`.
    Label(&'a str, u32),
    /// `name: .branchtargets …;`.
    Targets(&'a str, Vec<&'a str>, u32),
    /// `{`.
    Open,
    /// `}`.
    Close,
    /// An instruction.
    Instruction(Instruction<'a>),
}

/// An instruction.
#[derive(Debug, Clone)]
pub struct Instruction<'a> {
    /// Line of the text.
    pub line: u32,
    /// File number and line of the source, by the last `.loc`.
    pub source: Option<(u16, u32)>,
    /// Predicate and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    /// Opcode with its modifiers.
    pub opcode: &'a str,
    /// Operands in order.
    pub operands: Vec<Operand<'a>>,
}

/// An operand.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand<'a> {
    /// Register, special register, variable, label; plus bytes for addresses.
    Name(&'a str, i64),
    /// `generic(name)+n`, in initialisers.
    Generic(&'a str, i64),
    /// `!p`.
    Not(&'a str),
    /// Integer, as 64 bits.
    Int(i64),
    /// `0f…`.
    Single(u32),
    /// `0d…`.
    Double(u64),
    /// Decimal float.
    Decimal(f64),
    /// `[name+n]`, `[n]`.
    Address(Option<&'a str>, i64),
    /// `{a, b}`.
    Vector(Vec<Operand<'a>>),
    /// `d|p`.
    Pair(&'a str, &'a str),
    /// `(a, b)`, in calls.
    Group(Vec<Operand<'a>>),
}
