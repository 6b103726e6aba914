//! Parsed PTX to instructions over register files. Functions are put in place of their calls, so a kernel
//! is one piece of code.

mod compare;
mod control;
mod convert;
mod float;
mod integer;
mod matrix;
mod memory;
mod moves;
mod names;
mod operands;
mod parts;
mod pools;
mod variables;
mod warp;

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{self, Function, Instruction, Statement};
use super::register_allocation::{self, Count};
use super::{LoadError, flow};
use crate::ir::{
    File, Guard, Instr, Kernel, Line, Module, Op, Param, Pc, Reg, SharedVariable, register_uses,
};
use names::Scope;
use parts::Parts;
use pools::Pools;

/// Why an instruction can't be lowered; its line is added by [`Lowering::statement`].
type Reason = String;

/// An instruction whose registers are virtual registers and whose targets are labels.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The instruction.
    pub instr: Instr,
    /// Where it came from.
    pub line: Line,
}

/// Static shared memory that a kernel may have.
const SHARED_LIMIT: u32 = 48 * 1024;
/// Local memory of a thread.
const LOCAL_LIMIT: u32 = 512 * 1024;
/// Instructions, and labels, of a kernel with all its calls in place.
const CODE_LIMIT: usize = 500_000;
/// Depth of calls and of `{ }`.
const DEPTH_LIMIT: usize = 64;

/// What all kernels of a module share.
struct Context<'a> {
    functions: HashMap<&'a str, &'a Function<'a>>,
    /// Module-scope variables: global and constant ones by index of [`Module::variables`], shared ones.
    variables: HashMap<&'a str, variables::ModuleVariable<'a>>,
}

/// Lowers a parsed module.
pub fn module(parsed: &ast::Module) -> Result<Module, LoadError> {
    let (by_name, lowered) = variables::module_scope(&parsed.variables)?;
    let mut functions = HashMap::new();
    for function in &parsed.functions {
        if functions.insert(function.name, function).is_some() {
            return Err(LoadError::new(function.line, format!("{} is defined twice", function.name)));
        }
    }
    let context = Context { functions, variables: by_name };
    let files = Arc::new(parsed.files.clone());
    let mut kernels = Vec::new();
    for function in parsed.functions.iter().filter(|function| function.entry) {
        kernels.push(Arc::new(kernel(&context, function, &files)?));
    }
    Ok(Module { version: parsed.version, target: parsed.target, kernels, variables: lowered })
}

/// A kernel on its way.
struct Lowering<'a, 'm> {
    context: &'m Context<'a>,
    code: Vec<Draft>,
    /// Position of each label; labels are numbered in order of their scopes.
    labels: Vec<Option<usize>>,
    scopes: Vec<Scope<'a>>,
    pools: Pools,
    shared: Vec<SharedVariable>,
    shared_at: HashMap<(&'a str, u32), u32>,
    shared_bytes: u32,
    /// Alignment of the dynamic shared array, if one is named.
    dynamic: Option<u32>,
    local_bytes: u32,
    /// Functions that are being inlined, innermost last, and the label after each.
    calls: Vec<(&'a str, Pc)>,
    /// The condition code register, a predicate.
    carry: Option<Reg>,
    guard: Option<Guard>,
    line: Line,
}

fn kernel<'a>(
    context: &Context<'a>,
    function: &'a Function<'a>,
    files: &Arc<Vec<String>>,
) -> Result<Kernel, LoadError> {
    let mut lowering = Lowering {
        context,
        code: Vec::new(),
        labels: Vec::new(),
        scopes: Vec::new(),
        pools: Pools::default(),
        shared: Vec::new(),
        shared_at: HashMap::new(),
        shared_bytes: 0,
        dynamic: None,
        local_bytes: 0,
        calls: Vec::new(),
        carry: None,
        guard: None,
        line: Line { ptx: function.line, ..Line::default() },
    };
    let in_line = |message: Reason| LoadError::new(function.line, message);
    let (params, param_bytes) = variables::params(&function.params).map_err(in_line)?;
    lowering.open(&function.body, 0).map_err(in_line)?;
    lowering.declare_params(function, &params).map_err(in_line)?;
    lowering.body(&function.body)?;
    // Falling off the end is a return.
    lowering.guard = None;
    lowering.emit(Op::Exit);
    lowering.finish(function, params, param_bytes, files).map_err(in_line)
}

impl<'a, 'm> Lowering<'a, 'm> {
    /// Adds an instruction under the current guard.
    fn emit(&mut self, op: Op) {
        self.code.push(Draft { instr: Instr { guard: self.guard, op }, line: self.line });
    }

    /// Adds a helper that only computes a temporary: without the guard, so that its life stays short.
    fn emit_pure(&mut self, op: Op) {
        self.code.push(Draft { instr: Instr { guard: None, op }, line: self.line });
    }

    /// Lowers statements inside the scope opened last.
    fn body(&mut self, body: &'a [Statement<'a>]) -> Result<(), LoadError> {
        for (at, statement) in body.iter().enumerate() {
            let line = match statement {
                Statement::Registers(_, _, line)
                | Statement::Label(_, line)
                | Statement::Targets(_, _, line) => *line,
                Statement::Variable(variable) => variable.line,
                Statement::Instruction(instruction) => instruction.line,
                Statement::Open | Statement::Close => self.line.ptx,
            };
            self.statement(body, at, statement).map_err(|message| LoadError::new(line, message))?;
        }
        Ok(())
    }

    fn statement(
        &mut self,
        body: &'a [Statement<'a>],
        at: usize,
        statement: &'a Statement<'a>,
    ) -> Result<(), Reason> {
        match statement {
            Statement::Registers(width, names, _) => self.declare_registers(*width, names),
            Statement::Variable(variable) => self.declare_variable(variable),
            Statement::Label(name, _) => self.place_label(name),
            Statement::Targets(..) => Ok(()),
            Statement::Open => self.open(body, at + 1),
            Statement::Close => {
                self.scopes.pop();
                Ok(())
            }
            Statement::Instruction(instruction) => self.instruction(instruction),
        }
    }

    fn instruction(&mut self, instruction: &'a Instruction<'a>) -> Result<(), Reason> {
        // Every call makes labels, also one of an empty function.
        if self.code.len().max(self.labels.len()) > CODE_LIMIT {
            return Err("the kernel is too long with its calls in place".to_owned());
        }
        let (file, line) = instruction.source.unwrap_or((0, 0));
        self.line = Line { ptx: instruction.line, line, file };
        self.guard = match instruction.guard {
            Some((name, negated)) => Some(Guard { reg: self.predicate_register(name)?, negated }),
            None => None,
        };
        let mut parts = Parts::new(instruction);
        self.dispatch(&mut parts)?;
        parts.finish()
    }

    fn dispatch(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        match parts.name {
            "mov" => self.mov(parts),
            "cvta" => self.cvta(parts),
            "isspacep" => self.isspacep(parts),
            "createpolicy" => self.createpolicy(parts),
            "cvt" => self.cvt(parts),
            "add" | "sub" | "mul" | "mad" | "div" | "min" | "max" | "neg" | "abs" if parts.is_float() => {
                self.float(parts)
            }
            "fma" | "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "ex2" | "lg2" | "tanh" | "copysign"
            | "testp" => self.float(parts),
            "add" | "sub" | "mul" | "mad" | "div" | "rem" | "min" | "max" | "neg" | "abs" | "sad"
            | "addc" | "subc" | "madc" | "mul24" | "mad24" => self.arithmetic(parts),
            "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "prmt" | "popc"
            | "clz" | "bfind" | "brev" | "bfe" | "bfi" | "dp4a" | "dp2a" => self.bits(parts),
            "setp" | "set" | "selp" | "slct" => self.compare(parts),
            "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" => self.memory(parts),
            "cp" => self.async_copy(parts),
            "ldmatrix" | "mma" => self.matrix(parts),
            "bra" | "brx" | "ret" | "exit" | "trap" | "call" | "bar" | "barrier" | "membar" | "fence"
            | "nanosleep" => self.control(parts),
            "shfl" | "vote" | "match" | "redux" | "elect" | "activemask" => self.warp(parts),
            name => Err(format!("unknown opcode {name}")),
        }
    }

    /// Labels to instructions, blocks, reconvergence, registers.
    fn finish(
        mut self,
        function: &Function,
        params: Vec<Param>,
        param_bytes: u32,
        files: &Arc<Vec<String>>,
    ) -> Result<Kernel, Reason> {
        let labels: Vec<usize> = self
            .labels
            .iter()
            .map(|label| label.ok_or("a label without a place"))
            .collect::<Result<_, _>>()?;
        retarget(&mut self.code, |label| labels[label as usize]);
        let dynamic_align = self.dynamic.unwrap_or(1);
        self.shared_bytes = self.shared_bytes.next_multiple_of(dynamic_align);
        let preload = self.pools.preload(self.shared_bytes);
        let mut counts = self.pools.counts();
        let mut code = std::mem::take(&mut self.code);
        for draft in &mut code {
            register_uses::visit(&mut draft.instr, &mut |file, reg, _| *reg = self.pools.number(file, *reg));
        }
        let blocks = flow::blocks(&code);
        let (mut code, moved, marks) = register_allocation::guard_unwritten(code, &blocks, &counts);
        retarget(&mut code, |pc| moved[pc as usize]);
        counts[2].total += marks;
        within_rows(&counts)?;
        let blocks = flow::blocks(&code);
        flow::reconverge(&mut code, &blocks);
        let needed = register_allocation::assign(&mut code, &blocks, &counts);
        let (code, lines) = code.into_iter().map(|draft| (draft.instr, draft.line)).unzip();
        Ok(Kernel {
            name: function.name.to_owned(),
            params,
            param_bytes,
            shared: self.shared,
            shared_bytes: self.shared_bytes,
            dynamic_shared: self.dynamic.is_some(),
            local_bytes: self.local_bytes,
            max_threads: function.max_threads.map(|[x, y, z]| x.saturating_mul(y).saturating_mul(z)),
            required_threads: function.required_threads,
            min_blocks: function.min_blocks,
            preload,
            b32: needed.regs[register_allocation::index(File::B32)],
            b64: needed.regs[register_allocation::index(File::B64)],
            predicates: needed.regs[register_allocation::index(File::Predicates)],
            registers: needed.alive,
            code,
            lines,
            files: Arc::clone(files),
        })
    }
}

fn within_rows(counts: &[Count; 3]) -> Result<(), Reason> {
    match counts.iter().any(|count| count.total >= usize::from(Reg::MAX)) {
        true => Err("too many registers".to_owned()),
        false => Ok(()),
    }
}

fn retarget(code: &mut [Draft], place: impl Fn(Pc) -> usize) {
    for draft in code {
        match &mut draft.instr.op {
            Op::Bra { target, .. } => *target = place(*target) as Pc,
            Op::BraIndexed(branch) => {
                branch.targets.iter_mut().for_each(|target| *target = place(*target) as Pc);
            }
            _ => {}
        }
    }
}
