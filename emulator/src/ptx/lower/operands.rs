//! Operands to virtual registers: registers, immediates, special registers, addresses.

use super::super::ast::{Operand, Width};
use super::names::Symbol;
use super::pools::Pooled;
use super::variables::ModuleVariable;
use super::{Lowering, Reason};
use crate::ir::{Address, B32Value, B64Value, Conversion, File, Guard, Op, Reg, Space, Special, Type};

/// Number of operands as wanted?
pub fn arity<'o, 'a, const N: usize>(operands: &'o [Operand<'a>]) -> Result<&'o [Operand<'a>; N], Reason> {
    operands.try_into().map_err(|_| format!("{N} operands expected, {} found", operands.len()))
}

/// The items of `{a, b}`, or the operand itself.
pub fn items<'o, 'a>(operand: &'o Operand<'a>) -> &'o [Operand<'a>] {
    match operand {
        Operand::Vector(items) => items,
        _ => std::slice::from_ref(operand),
    }
}

fn fits(width: Width, ty: Type) -> bool {
    match width {
        Width::B8 => ty.size() == 1,
        Width::B16 => ty.size() <= 2,
        Width::B32 => ty.size() == 4,
        Width::B64 => ty.size() == 8,
        Width::Predicate => false,
    }
}

impl<'a> Lowering<'a, '_> {
    /// A preloaded b32 register with this value in all lanes.
    pub fn constant_b32(&mut self, value: u32) -> Result<Reg, Reason> {
        self.pools.b32.reg(Pooled::Value(B32Value::Constant(value)))
    }

    /// A preloaded b64 register with this value in all lanes.
    pub fn constant_b64(&mut self, value: u64) -> Result<Reg, Reason> {
        self.pools.b64.reg(Pooled::Value(B64Value::Constant(value)))
    }

    /// A new register for a helper's result.
    pub fn temporary(&mut self, file: File) -> Result<Reg, Reason> {
        self.pools.register(file)
    }

    /// The register of a name, if it is one.
    pub fn register(&mut self, operand: &Operand<'a>) -> Result<Option<(Width, Reg)>, Reason> {
        match operand {
            Operand::Name(name, 0) => match self.symbol(name)? {
                Some(Symbol::Register(width, reg)) => Ok(Some((width, reg))),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// A predicate register by its name.
    pub fn predicate_register(&mut self, name: &'a str) -> Result<Reg, Reason> {
        match self.symbol(name)? {
            Some(Symbol::Register(Width::Predicate, reg)) => Ok(reg),
            Some(_) => Err(format!("{name} is no predicate")),
            None => Err(format!("unknown predicate {name}")),
        }
    }

    /// A source of type `ty`.
    pub fn source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg, Reason> {
        if let Some((width, reg)) = self.register(operand)? {
            return match fits(width, ty) {
                true => Ok(reg),
                false => Err(format!("{} has another size than {ty:?}", shown(operand))),
            };
        }
        match operand {
            Operand::Name(name, addend) => self.named(name, *addend, ty),
            Operand::Generic(..) => Err("generic() is for initialisers".to_owned()),
            _ => {
                let bits = immediate(operand, ty)?;
                if ty.file() == File::B64 { self.constant_b64(bits) } else { self.constant_b32(bits as u32) }
            }
        }
    }

    /// A source whose register may be wider than `ty`: its low bits are meant.
    pub fn source_relaxed(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg, Reason> {
        let Some((width, reg)) = self.register(operand)? else { return self.source(operand, ty) };
        match width.bytes() {
            Some(8) if ty.size() < 8 => {
                let dst = self.temporary(File::B32)?;
                let how = Conversion::plain(Type::U64, Type::U32);
                self.emit_pure(Op::Convert { how, dst, src: reg });
                Ok(dst)
            }
            Some(bytes) if bytes >= ty.size() => Ok(reg),
            _ => Err(format!("{} is narrower than {ty:?}", shown(operand))),
        }
    }

    /// Special registers and addresses of variables.
    fn named(&mut self, name: &'a str, addend: i64, ty: Type) -> Result<Reg, Reason> {
        if let Some(special) = special(name).filter(|_| addend == 0) {
            return self.special(special, ty);
        }
        if name == "WARP_SZ" {
            return self.source(&Operand::Int(32), ty);
        }
        if !matches!(ty.size(), 4 | 8) {
            return Err(format!("unknown register {name}"));
        }
        let wide = ty.size() == 8;
        match self.place_of(name)? {
            Place::Fixed(_, address) if wide => {
                self.constant_b64(u64::from(address).wrapping_add(addend as u64))
            }
            Place::Fixed(_, address) => self.constant_b32(address.wrapping_add(addend as u32)),
            Place::Dynamic if wide => self.pools.b64.reg(Pooled::Dynamic(addend as u64)),
            Place::Dynamic => self.pools.b32.reg(Pooled::Dynamic(addend as u64)),
            Place::Memory(index, _) if wide => {
                self.pools.b64.reg(Pooled::Value(B64Value::Variable(index, addend as u64)))
            }
            Place::Memory(..) => Err(format!("the address of {name} needs 64 bits")),
        }
    }

    fn special(&mut self, special: Special, ty: Type) -> Result<Reg, Reason> {
        match ty.size() {
            8 => self.pools.b64.reg(Pooled::Value(B64Value::Special(special))),
            4 => self.pools.b32.reg(Pooled::Value(B32Value::Special(special))),
            _ => {
                let src = self.pools.b32.reg(Pooled::Value(B32Value::Special(special)))?;
                let dst = self.temporary(File::B32)?;
                self.emit_pure(Op::Convert { how: Conversion::plain(Type::U32, Type::U16), dst, src });
                Ok(dst)
            }
        }
    }

    /// A destination of type `ty`; `_` is a register that no instruction reads.
    pub fn destination(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg, Reason> {
        if *operand == Operand::Name("_", 0) {
            return self.temporary(ty.file());
        }
        match self.register(operand)? {
            Some((width, reg)) if fits(width, ty) => Ok(reg),
            Some(_) => Err(format!("{} has another size than {ty:?}", shown(operand))),
            None => Err(format!("{} is no register", shown(operand))),
        }
    }

    /// A predicate as a destination.
    pub fn predicate_destination(&mut self, operand: &Operand<'a>) -> Result<Reg, Reason> {
        match operand {
            Operand::Name("_", 0) => self.temporary(File::Predicates),
            Operand::Name(name, 0) => self.predicate_register(name),
            _ => Err(format!("{} is no predicate", shown(operand))),
        }
    }

    /// `d` or `d|p`.
    pub fn pair(operand: &Operand<'a>) -> (Operand<'a>, Option<Operand<'a>>) {
        match operand {
            Operand::Pair(first, second) => (Operand::Name(first, 0), Some(Operand::Name(second, 0))),
            _ => (operand.clone(), None),
        }
    }

    /// `p`, `!p`, or a constant, as a source.
    pub fn predicate(&mut self, operand: &Operand<'a>) -> Result<Guard, Reason> {
        match operand {
            Operand::Name(name, 0) => Ok(Guard { reg: self.predicate_register(name)?, negated: false }),
            Operand::Not(name) => Ok(Guard { reg: self.predicate_register(name)?, negated: true }),
            Operand::Int(value) => Ok(Guard { reg: self.pools.predicates.reg(*value != 0)?, negated: false }),
            _ => Err(format!("{} is no predicate", shown(operand))),
        }
    }

    /// `p` or a constant where no negation is allowed.
    pub fn plain_predicate(&mut self, operand: &Operand<'a>) -> Result<Reg, Reason> {
        match self.predicate(operand)? {
            Guard { reg, negated: false } => Ok(reg),
            _ => Err("a negated predicate is not allowed here".to_owned()),
        }
    }

    /// Where a variable lies.
    pub fn place_of(&mut self, name: &'a str) -> Result<Place, Reason> {
        let symbol = match self.symbol(name)? {
            Some(symbol) => symbol,
            None => match self.context.variables.get(name) {
                Some(&ModuleVariable::Memory(index, space)) => return Ok(Place::Memory(index, space)),
                Some(&ModuleVariable::Shared(variable)) => self.shared_variable(variable)?,
                None => return Err(format!("unknown name {name}")),
            },
        };
        Ok(match symbol {
            Symbol::Shared(address) => Place::Fixed(Space::Shared, address),
            Symbol::Local(address) | Symbol::Argument(address) => Place::Fixed(Space::Local, address),
            Symbol::Param(offset) => Place::Fixed(Space::Param, offset),
            Symbol::Dynamic => Place::Dynamic,
            Symbol::Register(..) => return Err(format!("{name} is a register")),
        })
    }

    /// `[a+n]` in `space`; also the space it really is in (parameters of calls lie in local memory).
    pub fn address(&mut self, operand: &Operand<'a>, space: Space) -> Result<(Address, Space), Reason> {
        let Operand::Address(base, offset) = operand else {
            return Err(format!("{} is no address", shown(operand)));
        };
        let Some(name) = base else {
            let reg = self.constant_b64(*offset as u64)?;
            return Ok((Address { reg, wide: true, offset: 0 }, space));
        };
        let offset = i32::try_from(*offset)
            .or_else(|_| u32::try_from(*offset).map(|offset| offset as i32))
            .map_err(|_| "an address offset beyond 32 bits".to_owned())?;
        if let Some((width, reg)) = self.register(&Operand::Name(name, 0))? {
            let wide = match width {
                Width::B64 => true,
                Width::B32 => false,
                _ => return Err(format!("{name} can't be an address")),
            };
            return Ok((Address { reg, wide, offset }, space));
        }
        let place = self.place_of(name)?;
        let found = place.space();
        let agrees = match space {
            Space::Generic => found == Space::Global,
            Space::Param => matches!(found, Space::Param | Space::Local),
            _ => found == space,
        };
        if !agrees {
            return Err(format!("{name} does not lie in {space:?} memory"));
        }
        let wide = matches!(place, Place::Memory(..));
        let reg = self.named(name, 0, if wide { Type::U64 } else { Type::U32 })?;
        Ok((Address { reg, wide, offset }, if space == Space::Generic { space } else { found }))
    }
}

/// Where a variable lies.
#[derive(Clone, Copy)]
pub enum Place {
    /// At an address of its space known at load.
    Fixed(Space, u32),
    /// At the start of dynamic shared memory.
    Dynamic,
    /// A variable of the module, in global or constant memory.
    Memory(u32, Space),
}

impl Place {
    /// Its space.
    pub fn space(self) -> Space {
        match self {
            Place::Fixed(space, _) | Place::Memory(_, space) => space,
            Place::Dynamic => Space::Shared,
        }
    }
}

/// An operand as it was written, nearly.
pub fn shown(operand: &Operand) -> String {
    match operand {
        Operand::Name(name, 0) => (*name).to_owned(),
        Operand::Name(name, offset) => format!("{name}+{offset}"),
        Operand::Not(name) => format!("!{name}"),
        Operand::Pair(first, second) => format!("{first}|{second}"),
        Operand::Int(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

fn immediate(operand: &Operand, ty: Type) -> Result<u64, Reason> {
    let wrong = || Err(format!("{} can't be a {ty:?}", shown(operand)));
    let float = |value: f64| match ty {
        Type::F64 => Ok(value.to_bits()),
        Type::F32 | Type::Tf32 => Ok(u64::from((value as f32).to_bits())),
        _ => wrong(),
    };
    let mask = u64::MAX >> (64 - 8 * ty.size());
    match *operand {
        Operand::Int(value) if !matches!(ty, Type::F32 | Type::F64) => Ok(value as u64 & mask),
        Operand::Single(bits) if ty == Type::F64 => float(f64::from(f32::from_bits(bits))),
        Operand::Single(bits) if ty.size() == 4 => Ok(u64::from(bits)),
        Operand::Double(bits) if ty.size() == 8 => Ok(bits),
        Operand::Double(bits) => float(f64::from_bits(bits)),
        Operand::Decimal(value) => float(value),
        _ => wrong(),
    }
}

fn special(name: &str) -> Option<Special> {
    let (base, axis) = match name.rsplit_once('.') {
        Some((base, axis)) => (base, ["x", "y", "z"].iter().position(|&letter| letter == axis)? as u8),
        None => return flat_special(name),
    };
    Some(match base {
        "%tid" => Special::Tid(axis),
        "%ntid" => Special::Ntid(axis),
        "%ctaid" => Special::Ctaid(axis),
        "%nctaid" => Special::Nctaid(axis),
        _ => return None,
    })
}

fn flat_special(name: &str) -> Option<Special> {
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::NwarpId,
        "%smid" => Special::SmId,
        "%nsmid" => Special::NsmId,
        "%gridid" => Special::GridId,
        "%lanemask_eq" => Special::LaneMaskEq,
        "%lanemask_le" => Special::LaneMaskLe,
        "%lanemask_lt" => Special::LaneMaskLt,
        "%lanemask_ge" => Special::LaneMaskGe,
        "%lanemask_gt" => Special::LaneMaskGt,
        "%dynamic_smem_size" => Special::DynamicSharedBytes,
        "%total_smem_size" => Special::TotalSharedBytes,
        _ => return None,
    })
}
