//! Loads, stores, atomics, asynchronous copies.

use super::super::ast::{Operand, Width};
use super::operands::{arity, items, shown};
use super::parts::Parts;
use super::{Lowering, Reason};
use crate::ir::{Access, AsyncCopy, AtomicOp, Op, Reg, Space, Type};

const TYPES: &str = "b8 u8 s8 b16 u16 s16 b32 u32 s32 b64 u64 s64 f16 f16x2 bf16 bf16x2 f32 f64";

fn space(parts: &mut Parts) -> Space {
    let spaces = [
        ("global", Space::Global),
        ("shared", Space::Shared),
        ("shared::cta", Space::Shared),
        ("local", Space::Local),
        ("const", Space::Const),
        ("param", Space::Param),
        ("param::entry", Space::Param),
        ("param::func", Space::Param),
    ];
    parts.choose(&spaces).unwrap_or(Space::Generic)
}

/// Takes ordering and scope; is the access a strong one?
fn ordering(parts: &mut Parts) -> bool {
    let mut strong = false;
    for name in ["volatile", "relaxed", "acquire", "release", "acq_rel", "mmio"] {
        strong |= parts.take(name);
    }
    parts.take("weak");
    for scope in ["cta", "gpu", "sys"] {
        parts.take(scope);
    }
    strong
}

/// Takes cache hints, which change nothing here; is there an operand for one?
fn hints(parts: &mut Parts) -> bool {
    for operator in ["nc", "ca", "cg", "cs", "cv", "lu", "wb", "wt"] {
        parts.take(operator);
    }
    let policy = parts.take("L2::cache_hint");
    parts.take_prefixed("L1::");
    parts.take_prefixed("L2::");
    policy
}

impl<'a> Lowering<'a, '_> {
    /// Loads, stores, atomics.
    pub fn memory(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        match parts.name {
            "ld" | "ldu" | "st" => self.load_store(parts),
            "atom" | "red" => self.atomic(parts),
            _ => {
                // A prefetch changes nothing; its address must still be one.
                let [address] = arity(parts.operands)?;
                let space = space(parts);
                let uniform = parts.name == "prefetchu";
                if !matches!(space, Space::Generic | Space::Global | Space::Local)
                    || (uniform && space != Space::Generic)
                {
                    return Err(format!("{}: no prefetch from {space:?} memory", parts.opcode));
                }
                let second = !uniform && (parts.take("L2") || parts.take_prefixed("L2::"));
                if !second && !parts.take("L1") {
                    return Err(format!("{}: .L1 or .L2 expected", parts.opcode));
                }
                self.address(address, space).map(|_| ())
            }
        }
    }

    fn load_store(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let store = parts.name == "st";
        let space = space(parts);
        let strong = ordering(parts);
        let operands = if hints(parts) { without_last(parts.operands)? } else { parts.operands };
        let count = parts.choose(&[("v2", 2), ("v4", 4)]).unwrap_or(1u8);
        let ty = parts.ty(TYPES)?;
        if u32::from(count) * ty.size() > 16 {
            return Err(format!("{}: more than 16 bytes", parts.opcode));
        }
        if parts.name == "ldu" && !matches!(space, Space::Generic | Space::Global) {
            return Err(format!("{}: only of global memory", parts.opcode));
        }
        let [first, second] = arity(operands)?;
        let (address, values) = if store { (first, second) } else { (second, first) };
        let (address, space) = self.address(address, space)?;
        if items(values).len() != usize::from(count) {
            return Err(format!("{count} registers expected"));
        }
        let register = self.register_type(values, ty)?;
        let access = Access { ty: in_memory(ty), register, count, strong };
        let mut regs = [0; 4];
        for (reg, item) in regs.iter_mut().zip(items(values)) {
            *reg = if store { self.source(item, register)? } else { self.destination(item, register)? };
        }
        let constant = self.constant_param(operands, space);
        self.emit(match (store, constant) {
            (true, _) if matches!(space, Space::Param | Space::Const) => {
                return Err(format!("{space:?} memory can't be written"));
            }
            (true, _) => Op::Store { space, access, src: regs, address },
            (false, Some(offset)) => Op::LoadParam { access, dst: regs, offset },
            (false, None) => Op::Load { space, access, dst: regs, address },
        });
        Ok(())
    }

    /// The offset of `[param+n]`, known at load.
    fn constant_param(&mut self, operands: &[Operand<'a>], space: Space) -> Option<u32> {
        let Some(Operand::Address(Some(name), offset)) = operands.get(1) else { return None };
        if space != Space::Param || self.register(&Operand::Name(name, 0)).ok()?.is_some() {
            return None;
        }
        match self.place_of(name).ok()? {
            super::operands::Place::Fixed(Space::Param, start) => {
                u32::try_from(i64::from(start).checked_add(*offset)?).ok()
            }
            _ => None,
        }
    }

    /// Width of the registers of a load or store, which may be wider than the type in memory.
    fn register_type(&mut self, values: &Operand<'a>, ty: Type) -> Result<Type, Reason> {
        let own = match ty.size() {
            1 | 2 => Type::U16,
            4 => Type::U32,
            _ => Type::U64,
        };
        let mut found = None;
        for item in items(values) {
            let width = match self.register(item)? {
                Some((Width::B8 | Width::B16, _)) => Type::U16,
                Some((Width::B32, _)) => Type::U32,
                Some((Width::B64, _)) => Type::U64,
                Some((Width::Predicate, _)) => return Err(format!("{} is a predicate", shown(item))),
                None => continue,
            };
            if width.size() < ty.size() {
                return Err(format!("{} is narrower than the access", shown(item)));
            }
            if ty.is_float() && width.size() != ty.size() {
                return Err(format!("{} has another size than {ty:?}", shown(item)));
            }
            if found.is_some_and(|other| other != width) {
                return Err("registers of different sizes".to_owned());
            }
            found = Some(width);
        }
        Ok(found.unwrap_or(own))
    }

    fn atomic(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let space = space(parts);
        ordering(parts);
        let operands = if hints(parts) { without_last(parts.operands)? } else { parts.operands };
        parts.take("noftz");
        let (op, types) = atomic_operation(parts)?;
        let ty = parts.ty(types)?;
        let (dst, operands) = match (parts.name, operands) {
            ("atom", [dst, rest @ ..]) => (Some(dst), rest),
            _ => (None, operands),
        };
        let (address, b, c) = match (op, operands) {
            (AtomicOp::Cas, [address, b, c]) if dst.is_some() => (address, b, Some(c)),
            (AtomicOp::Cas, _) => return Err("atom.cas needs four operands".to_owned()),
            (_, [address, b]) => (address, b, None),
            _ => return Err("another number of operands expected".to_owned()),
        };
        if parts.name == "red" && op == AtomicOp::Exch {
            return Err(format!("{}: unknown operation", parts.opcode));
        }
        let (address, space) = self.address(address, space)?;
        if !matches!(space, Space::Generic | Space::Global | Space::Shared) {
            return Err(format!("no atomics in {space:?} memory"));
        }
        let b = self.source(b, ty)?;
        let c = match c {
            Some(c) => self.source(c, ty)?,
            None => b,
        };
        let dst = dst.map(|dst| self.destination(dst, ty)).transpose()?;
        self.emit(Op::Atomic { space, op, ty, dst, address, b, c });
        Ok(())
    }

    /// `cp.async` and its groups.
    pub fn async_copy(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        parts.expect("async")?;
        if parts.take("commit_group") {
            arity::<0>(parts.operands)?;
            self.emit(Op::AsyncCommit);
            return Ok(());
        }
        if parts.take("wait_all") {
            arity::<0>(parts.operands)?;
            self.emit(Op::AsyncWaitAll);
            return Ok(());
        }
        if parts.take("wait_group") {
            let [Operand::Int(pending)] = parts.operands else {
                return Err("wait_group needs a constant".to_owned());
            };
            let pending = u32::try_from(*pending).map_err(|_| "a negative number of groups".to_owned())?;
            self.emit(Op::AsyncWait { pending });
            return Ok(());
        }
        self.copy(parts)
    }

    fn copy(&mut self, parts: &mut Parts<'a>) -> Result<(), Reason> {
        let bypass = parts.require("cache operator", &[("ca", false), ("cg", true)])?;
        if !parts.take("shared::cta") {
            parts.expect("shared")?;
        }
        parts.expect("global")?;
        let policy = parts.take("L2::cache_hint");
        parts.take_prefixed("L2::");
        let operands = if policy { without_last(parts.operands)? } else { parts.operands };
        let [shared, global, size, rest @ ..] = operands else {
            return Err("cp.async needs three operands".to_owned());
        };
        let bytes = match size {
            Operand::Int(16) => 16,
            Operand::Int(bytes @ (4 | 8)) if !bypass => *bytes as u32,
            _ => return Err(format!("cp.async can't copy {} bytes", shown(size))),
        };
        let (shared, _) = self.address(shared, Space::Shared)?;
        let (global, _) = self.address(global, Space::Global)?;
        let mut copy = AsyncCopy { bytes, bypass, shared, global, source_bytes: None, ignore: None };
        match rest {
            [] => {}
            [operand] => match (operand, self.register(operand)?) {
                (Operand::Not(_), _) | (_, Some((Width::Predicate, _))) => {
                    copy.ignore = Some(self.predicate(operand)?);
                }
                _ => copy.source_bytes = Some(self.source(operand, Type::U32)?),
            },
            _ => return Err("too many operands".to_owned()),
        }
        self.emit(Op::AsyncCopy(Box::new(copy)));
        Ok(())
    }

    /// Loads the value of a 64-bit or 32-bit register, or writes it, at a fixed local address: how
    /// arguments of calls travel between registers and memory.
    pub fn local_b32(&mut self, address: u32, width: Width, reg: Reg, store: bool) -> Result<(), Reason> {
        let register = match width {
            Width::B64 => Type::U64,
            Width::B32 => Type::U32,
            _ => Type::U16,
        };
        let access = Access { ty: register, register, count: 1, strong: false };
        let at = self.constant_b32(address)?;
        let address = crate::ir::Address { reg: at, wide: false, offset: 0 };
        let regs = [reg, 0, 0, 0];
        self.emit(match store {
            true => Op::Store { space: Space::Local, access, src: regs, address },
            false => Op::Load { space: Space::Local, access, dst: regs, address },
        });
        Ok(())
    }
}

/// Memory holds bits: only the size and the sign of integers count.
fn in_memory(ty: Type) -> Type {
    match (ty.is_float(), ty.size()) {
        (false, _) => ty,
        (true, 2) => Type::U16,
        (true, 4) => Type::U32,
        _ => Type::U64,
    }
}

fn without_last<'o, 'a>(operands: &'o [Operand<'a>]) -> Result<&'o [Operand<'a>], Reason> {
    operands.split_last().map(|(_, rest)| rest).ok_or_else(|| "a cache policy expected".to_owned())
}

fn atomic_operation(parts: &mut Parts) -> Result<(AtomicOp, &'static str), Reason> {
    let operations = [
        ("add", (AtomicOp::Add, "u32 s32 u64 f32 f64 f16 f16x2 bf16 bf16x2")),
        ("min", (AtomicOp::Min, "u32 s32 u64 s64")),
        ("max", (AtomicOp::Max, "u32 s32 u64 s64")),
        ("inc", (AtomicOp::Inc, "u32")),
        ("dec", (AtomicOp::Dec, "u32")),
        ("and", (AtomicOp::And, "b32 b64")),
        ("or", (AtomicOp::Or, "b32 b64")),
        ("xor", (AtomicOp::Xor, "b32 b64")),
        ("exch", (AtomicOp::Exch, "b32 b64")),
        ("cas", (AtomicOp::Cas, "b16 b32 b64")),
    ];
    parts.require("operation", &operations)
}
