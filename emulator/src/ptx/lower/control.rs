//! Branches, calls, barriers.

use super::super::ast::{Function, Operand, Variable};
use super::names::{Symbol, file};
use super::operands::{arity, shown};
use super::parts::Parts;
use super::{DEPTH_LIMIT, Lowering, Reason};
use crate::ir::{BarrierKind, BraIndexed, Logic, NO_PC, Op, Pc, Scope, Type};

impl<'a> Lowering<'a, '_> {
    /// Branches, calls, barriers, fences.
    pub fn control(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        match parts.name {
            "bra" => self.bra(parts),
            "brx" => self.brx(parts),
            "call" => self.call(parts),
            "bar" | "barrier" => self.barrier(parts),
            "membar" | "fence" => self.fence(parts),
            "nanosleep" => {
                let [time] = arity(parts.operands)?;
                parts.ty("u32")?;
                self.source(time, Type::U32)?;
                self.emit(Op::Yield);
                Ok(())
            }
            name => {
                arity::<0>(parts.operands)?;
                parts.take("uni");
                let op = match (name, self.calls.last()) {
                    ("trap", _) => Op::Trap,
                    ("ret", Some(&(_, after))) => Op::Bra { target: after, reconverge: NO_PC },
                    _ => Op::Exit,
                };
                self.emit(op);
                Ok(())
            }
        }
    }

    fn bra(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [Operand::Name(name, 0)] = parts.operands else { return Err("bra needs a label".to_owned()) };
        parts.take("uni");
        let target = self.label(name)?;
        self.emit(Op::Bra { target, reconverge: NO_PC });
        Ok(())
    }

    fn brx(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let [index, Operand::Name(table, 0)] = parts.operands else {
            return Err("brx.idx needs an index and a table".to_owned());
        };
        parts.expect("idx")?;
        parts.take("uni");
        let names = self.targets(table)?;
        let targets = names.iter().map(|name| self.label(name)).collect::<Result<Vec<Pc>, _>>()?;
        let index = self.source(index, Type::U32)?;
        self.emit(Op::BraIndexed(Box::new(BraIndexed { index, targets, reconverge: NO_PC })));
        Ok(())
    }

    fn barrier(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        if parts.name == "bar" && parts.take("warp") {
            let [mask] = arity(parts.operands)?;
            parts.expect("sync")?;
            let mask = self.source(mask, Type::U32)?;
            self.emit(Op::WarpSync { mask });
            return Ok(());
        }
        parts.take("cta");
        let aligned = parts.take("aligned") || parts.name == "bar";
        if parts.take("red") {
            return self.reducing_barrier(parts, aligned);
        }
        let kind = parts.require("kind", &[("sync", BarrierKind::Sync), ("arrive", BarrierKind::Arrive)])?;
        let (id, threads) = match parts.operands {
            [id] if kind == BarrierKind::Sync => (id, None),
            [id, threads] => (id, Some(threads)),
            _ => return Err("another number of operands expected".to_owned()),
        };
        let id = self.source(id, Type::U32)?;
        let threads = threads.map(|threads| self.source(threads, Type::U32)).transpose()?;
        self.emit(Op::Barrier { kind, aligned, id, threads });
        Ok(())
    }

    fn reducing_barrier(&mut self, parts: &mut Parts<'a>, aligned: bool) -> Result<(), Reason> {
        let (dst, id, threads, src) = match parts.operands {
            [dst, id, src] => (dst, id, None, src),
            [dst, id, threads, src] => (dst, id, Some(threads), src),
            _ => return Err("another number of operands expected".to_owned()),
        };
        let src = self.predicate(src)?;
        let id = self.source(id, Type::U32)?;
        let threads = threads.map(|threads| self.source(threads, Type::U32)).transpose()?;
        let logic = [("and", Some(Logic::And)), ("or", Some(Logic::Or)), ("popc", None)];
        let kind = match (parts.require("reduction", &logic)?, dst) {
            (None, dst) => {
                parts.ty("u32")?;
                BarrierKind::Count { dst: self.destination(dst, Type::U32)?, src }
            }
            (Some(op), dst) => {
                parts.expect("pred")?;
                BarrierKind::Reduce { dst: self.predicate_destination(dst)?, op, src }
            }
        };
        self.emit(Op::Barrier { kind, aligned, id, threads });
        Ok(())
    }

    fn fence(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        arity::<0>(parts.operands)?;
        let scopes =
            [("cta", Scope::Block), ("gl", Scope::Device), ("gpu", Scope::Device), ("sys", Scope::System)];
        if parts.name == "fence" {
            parts.choose(&[("sc", ()), ("acq_rel", ())]);
        }
        let scope = parts.require("scope", &scopes)?;
        self.emit(Op::Fence { scope });
        Ok(())
    }

    /// A call: the function's body stands here, `ret` jumps to its end.
    fn call(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        parts.take("uni");
        let (results, rest) = match parts.operands {
            [Operand::Group(results), rest @ ..] => (results.as_slice(), rest),
            _ => (&[][..], parts.operands),
        };
        let (name, arguments) = match rest {
            [Operand::Name(name, 0)] => (*name, &[][..]),
            [Operand::Name(name, 0), Operand::Group(arguments)] => (*name, arguments.as_slice()),
            _ => return Err("calls through a register are not supported".to_owned()),
        };
        let function = match self.context.functions.get(name) {
            Some(&function) if !function.entry => function,
            Some(_) => return Err(format!("{name} is a kernel, it can't be called")),
            None => return Err(format!("call of {name}, which has no body in this module")),
        };
        if self.calls.iter().any(|(other, _)| *other == name) || self.calls.len() >= DEPTH_LIMIT {
            return Err(format!("{name} calls itself: recursion is not supported"));
        }
        if function.results.len() != results.len() || function.params.len() != arguments.len() {
            return Err(format!("{name} has another number of parameters"));
        }
        self.inline(function, results, arguments)
    }

    fn inline(
        &mut self,
        function: &'a Function<'a>,
        results: &[Operand<'a>],
        arguments: &[Operand<'a>],
    ) -> Result<(), Reason> {
        let mut bound = Vec::new();
        for (variable, argument) in function.params.iter().zip(arguments) {
            bound.push((variable, self.bind(variable, argument, true)?));
        }
        let mut returned = Vec::new();
        for (variable, result) in function.results.iter().zip(results) {
            let symbol = self.bind(variable, result, false)?;
            bound.push((variable, symbol));
            returned.push((variable, symbol, result));
        }
        // A guarded call: lanes that do not call jump to its end.
        let after = self.new_label();
        if let Some(guard) = self.guard {
            self.guard = Some(crate::ir::Guard { negated: !guard.negated, ..guard });
            self.emit(Op::Bra { target: after, reconverge: NO_PC });
            self.guard = None;
        }
        let end = self.new_label();
        let (line, scopes) = (self.line, std::mem::take(&mut self.scopes));
        self.calls.push((function.name, end));
        self.open(&function.body, 0)?;
        for (variable, symbol) in bound {
            self.declare(variable.name, symbol)?;
        }
        self.body(&function.body).map_err(|error| format!("in {}: {error}", function.name))?;
        self.calls.pop();
        self.scopes = scopes;
        (self.line, self.guard) = (line, None);
        self.place(end);
        for (variable, symbol, result) in returned {
            self.give_back(variable, symbol, result)?;
        }
        self.place(after);
        Ok(())
    }

    /// What a parameter's name stands for inside: the caller's `.param` variable itself, or a register of
    /// its own that gets the argument's value (`given`).
    fn bind(
        &mut self,
        variable: &'a Variable<'a>,
        argument: &Operand<'a>,
        given: bool,
    ) -> Result<Symbol, Reason> {
        let memory = match argument {
            Operand::Name(name, 0) => {
                self.symbol(name)?.filter(|symbol| matches!(symbol, Symbol::Argument(_)))
            }
            _ => None,
        };
        if !variable.in_register {
            return match (memory, variable.width.bytes()) {
                (Some(symbol), _) => Ok(symbol),
                (None, Some(_)) => {
                    let at = self.local(variable)?;
                    if given {
                        let reg = self.value(variable, argument)?;
                        self.local_b32(at, variable.width, reg, true)?;
                    }
                    Ok(Symbol::Argument(at))
                }
                _ => Err(format!("{} can't be passed", variable.name)),
            };
        }
        let reg = self.temporary(file(variable.width))?;
        if given {
            let src = self.value(variable, argument)?;
            self.emit_pure(Op::Mov { file: file(variable.width), dst: reg, src });
        }
        Ok(Symbol::Register(variable.width, reg))
    }

    fn value(&mut self, variable: &Variable, argument: &Operand<'a>) -> Result<u16, Reason> {
        match variable.width.bytes() {
            Some(1 | 2) => self.source(argument, Type::U16),
            Some(4) => self.source(argument, if variable.float { Type::F32 } else { Type::U32 }),
            Some(_) => self.source(argument, if variable.float { Type::F64 } else { Type::U64 }),
            None => self.plain_predicate(argument),
        }
    }

    /// Moves a result that is not already where the caller wants it.
    fn give_back(&mut self, variable: &Variable, symbol: Symbol, result: &Operand<'a>) -> Result<(), Reason> {
        let Some((width, dst)) = self.register(result)? else { return Ok(()) };
        if width != variable.width {
            return Err(format!("{} has another size than {}", shown(result), variable.name));
        }
        match symbol {
            Symbol::Register(_, src) => self.emit(Op::Mov { file: file(width), dst, src }),
            Symbol::Argument(at) => self.local_b32(at, width, dst, false)?,
            _ => {}
        }
        Ok(())
    }
}
