//! Variables of module scope, parameters, shared and local memory.

use std::collections::HashMap;

use super::super::LoadError;
use super::super::ast::{self, Operand};
use super::names::Symbol;
use super::{LOCAL_LIMIT, Lowering, Reason, SHARED_LIMIT};
use crate::ir::{self, Param, Pointer, SharedVariable, Space};

/// Bytes of one module-scope variable at most.
const VARIABLE_LIMIT: u64 = 256 << 20;

/// A name of module scope.
#[derive(Clone, Copy)]
pub enum ModuleVariable<'a> {
    /// Global or constant: its index in [`ir::Module::variables`].
    Memory(u32, Space),
    /// Shared: gets an address in each kernel that names it.
    Shared(&'a ast::Variable<'a>),
}

type Named<'a> = HashMap<&'a str, ModuleVariable<'a>>;

/// Lowers the variables of module scope.
pub fn module_scope<'a>(
    parsed: &'a [ast::Variable<'a>],
) -> Result<(Named<'a>, Vec<ir::Variable>), LoadError> {
    let mut names = Named::new();
    let mut in_memory = Vec::new();
    for variable in parsed {
        let found = match variable.space {
            Space::Shared => ModuleVariable::Shared(variable),
            _ => {
                in_memory.push(variable);
                ModuleVariable::Memory(in_memory.len() as u32 - 1, variable.space)
            }
        };
        if names.insert(variable.name, found).is_some() {
            return Err(LoadError::new(variable.line, format!("{} is declared twice", variable.name)));
        }
    }
    let lower = |variable: &&ast::Variable| {
        initialised(variable, &names).map_err(|message| LoadError::new(variable.line, message))
    };
    let lowered = in_memory.iter().map(lower).collect::<Result<_, _>>()?;
    Ok((names, lowered))
}

/// Size in bytes.
fn size(variable: &ast::Variable) -> Result<u64, Reason> {
    let Some(element) = variable.width.bytes() else {
        return Err(format!("{}: a predicate can't lie in memory", variable.name));
    };
    let count = variable.count.unwrap_or(variable.initial.len() as u64);
    Ok(count * u64::from(element))
}

fn initialised(variable: &ast::Variable, names: &Named) -> Result<ir::Variable, Reason> {
    let name = variable.name;
    if variable.external {
        return Err(format!("{name} is defined in another module"));
    }
    let size = size(variable)?;
    if size == 0 || size > VARIABLE_LIMIT {
        return Err(format!("{name} has {size} bytes"));
    }
    let mut bytes = vec![0; size as usize];
    let mut pointers = Vec::new();
    let step = variable.width.bytes().unwrap_or(1) as usize;
    for (index, value) in variable.initial.iter().enumerate() {
        let Some(place) = bytes.get_mut(index * step..(index + 1) * step) else {
            return Err(format!("{name}: more values than elements"));
        };
        if let Operand::Name(target, addend) | Operand::Generic(target, addend) = value {
            let Some(ModuleVariable::Memory(other, _)) = names.get(target) else {
                return Err(format!("{name}: {target} has no address here"));
            };
            if step != 8 {
                return Err(format!("{name}: an address needs 64 bits"));
            }
            pointers.push(Pointer {
                offset: index * step,
                variable: *other as usize,
                addend: *addend as u64,
            });
        } else {
            place.copy_from_slice(&element(variable, value)?[..step]);
        }
    }
    Ok(ir::Variable { name: name.to_owned(), space: variable.space, align: variable.align, bytes, pointers })
}

fn element(variable: &ast::Variable, value: &Operand) -> Result<[u8; 8], Reason> {
    let wide = variable.width == ast::Width::B64;
    let float = |value: f64| if wide { value.to_bits() } else { u64::from((value as f32).to_bits()) };
    let bits = match *value {
        Operand::Int(value) if variable.float => float(value as f64),
        Operand::Int(value) => value as u64,
        Operand::Single(bits) if wide => f64::from(f32::from_bits(bits)).to_bits(),
        Operand::Single(bits) => u64::from(bits),
        Operand::Double(bits) => float(f64::from_bits(bits)),
        Operand::Decimal(value) => float(value),
        _ => return Err(format!("{}: bad value in the initialiser", variable.name)),
    };
    Ok(bits.to_le_bytes())
}

/// Offsets of a kernel's parameters, and the size of the block.
pub fn params(parsed: &[ast::Variable]) -> Result<(Vec<Param>, u32), Reason> {
    let mut end = 0u64;
    let mut params = Vec::new();
    for variable in parsed {
        if variable.in_register || variable.space != Space::Param {
            return Err(format!("{}: a kernel's parameters are .param", variable.name));
        }
        let offset = end.next_multiple_of(u64::from(variable.align));
        let size = size(variable)?;
        end = offset + size;
        if end > 32764 {
            return Err("more than 32764 bytes of parameters".to_owned());
        }
        params.push(Param {
            name: variable.name.to_owned(),
            offset: offset as u32,
            size: size as u32,
            align: variable.align,
        });
    }
    Ok((params, end as u32))
}

impl<'a> Lowering<'a, '_> {
    /// Makes a kernel's parameters known.
    pub fn declare_params(
        &mut self,
        function: &'a ast::Function<'a>,
        params: &[Param],
    ) -> Result<(), Reason> {
        for (variable, param) in function.params.iter().zip(params) {
            self.declare(variable.name, Symbol::Param(param.offset))?;
        }
        Ok(())
    }

    /// A variable declared in a body.
    pub fn declare_variable(&mut self, variable: &'a ast::Variable<'a>) -> Result<(), Reason> {
        if !variable.initial.is_empty() {
            return Err(format!("{}: only .global and .const variables have values", variable.name));
        }
        let symbol = match variable.space {
            Space::Shared => self.shared_variable(variable)?,
            Space::Local => Symbol::Local(self.local(variable)?),
            _ => Symbol::Argument(self.local(variable)?),
        };
        self.declare(variable.name, symbol)
    }

    /// Address of a shared variable, which is given at its first mention: it is one for all copies of a
    /// function.
    pub fn shared_variable(&mut self, variable: &'a ast::Variable<'a>) -> Result<Symbol, Reason> {
        if variable.external {
            self.dynamic = Some(self.dynamic.unwrap_or(16).max(variable.align));
            return Ok(Symbol::Dynamic);
        }
        let key = (variable.name, variable.line);
        if let Some(&address) = self.shared_at.get(&key) {
            return Ok(Symbol::Shared(address));
        }
        let size = size(variable)?;
        let offset = self.shared_bytes.next_multiple_of(variable.align);
        let end = u64::from(offset) + size;
        if end > u64::from(SHARED_LIMIT) {
            return Err(format!("{end} bytes of static shared memory, {SHARED_LIMIT} is the limit"));
        }
        self.shared_bytes = end as u32;
        self.shared_at.insert(key, offset);
        self.shared.push(SharedVariable {
            name: variable.name.to_owned(),
            offset,
            size: size as u32,
            align: variable.align,
        });
        Ok(Symbol::Shared(offset))
    }

    /// Address of a new variable in local memory.
    pub fn local(&mut self, variable: &ast::Variable) -> Result<u32, Reason> {
        let offset = self.local_bytes.next_multiple_of(variable.align);
        let end = u64::from(offset) + size(variable)?;
        if end > u64::from(LOCAL_LIMIT) {
            return Err(format!("{end} bytes of local memory, {LOCAL_LIMIT} is the limit"));
        }
        self.local_bytes = end as u32;
        Ok(offset)
    }
}
