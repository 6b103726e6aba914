//! A kernel made ready for one launch: which instructions have a vectorised form, how narrow its memory
//! accesses are, and at the end what the counts of its instructions add up to.

use super::Counters;
use super::context::Stats;
use super::vector_op::{VectorOp, vectorised};
use crate::ir::{File, Guard, Instr, Kernel, Op, Scope, Space, Type, register_uses};

/// A planned instruction.
#[derive(Clone, Copy, Debug)]
pub struct PlannedInstr {
    pub guard: Option<Guard>,
    pub op: VectorOp,
}

/// The kernel's plan.
pub struct Plan {
    pub code: Vec<PlannedInstr>,
    /// log2 of the narrowest access to shared and to global memory, in bytes.
    pub shared_shift: u32,
    pub global_shift: u32,
    /// There is a fence of device scope.
    pub fences: bool,
    /// Why the kernel can't run: it was built wrongly.
    pub invalid: Option<String>,
}

impl Plan {
    pub fn new(kernel: &Kernel) -> Plan {
        let planned = |Instr { guard, op }: &Instr| PlannedInstr {
            guard: *guard,
            op: vectorised(op).unwrap_or(VectorOp::Scalar),
        };
        let narrowest = |wanted| {
            kernel
                .code
                .iter()
                .filter_map(|instruction| width(&instruction.op, wanted))
                .min()
                .unwrap_or(4)
                .min(16)
        };
        Plan {
            code: kernel.code.iter().map(planned).collect(),
            shared_shift: narrowest(Space::Shared).trailing_zeros(),
            global_shift: narrowest(Space::Global).trailing_zeros(),
            fences: kernel
                .code
                .iter()
                .any(|instruction| matches!(instruction.op, Op::Fence { scope } if scope != Scope::Block)),
            invalid: validate(kernel),
        }
    }

    /// What the counts of instructions amount to.
    pub fn counters(&self, kernel: &Kernel, stats: Stats) -> Counters {
        let mut counters = stats.counters;
        counters.launches = 1;
        for (instruction, (&hits, &lanes)) in kernel.code.iter().zip(stats.hits.iter().zip(&stats.lanes)) {
            if hits == 0 {
                continue;
            }
            if matches!(instruction.op, Op::MarkWritten { .. } | Op::RequireWritten { .. }) {
                continue;
            }
            counters.warp_instructions += hits;
            counters.thread_instructions += lanes;
            *counters.by_kind.entry(kind(&instruction.op)).or_default() += hits;
            match &instruction.op {
                Op::Mma(mma) => {
                    let (m, n, k) = mma.shape;
                    let name = format!("m{m}n{n}k{k} {:?} {:?} {:?}", mma.a_type, mma.b_type, mma.d_type);
                    let products = hits * u64::from(m) * u64::from(n) * u64::from(k);
                    let entry = counters.matrix.entry(name.to_lowercase()).or_default();
                    entry.instructions += hits;
                    entry.products += products;
                }
                Op::Bra { .. } | Op::BraIndexed(_) => counters.branches += hits,
                _ => {}
            }
        }
        counters
    }
}

/// Bytes of an access to a space.
fn width(op: &Op, wanted: Space) -> Option<u32> {
    let here = |space: Space| match space {
        Space::Generic => true,
        Space::Const => wanted == Space::Global,
        space => space == wanted,
    };
    match op {
        Op::Load { space, access, .. } | Op::Store { space, access, .. } if here(*space) => {
            Some(access.ty.size())
        }
        Op::Atomic { space, ty, .. } if here(*space) => Some(ty.size()),
        // A source may end anywhere, in practice at an element.
        Op::AsyncCopy(copy) if wanted == Space::Global && copy.source_bytes.is_some() => Some(2),
        Op::AsyncCopy(copy) => Some(copy.bytes),
        Op::LdMatrix { .. } if wanted == Space::Shared => Some(16),
        _ => None,
    }
}

fn validate(kernel: &Kernel) -> Option<String> {
    let length = kernel.code.len() as u32;
    let ends = kernel.code.last().is_some_and(|last| {
        last.guard.is_none() && matches!(last.op, Op::Exit | Op::Trap | Op::Bra { .. } | Op::BraIndexed(_))
    });
    let inside = |instruction: &Instr| match &instruction.op {
        Op::Bra { target, .. } => *target < length,
        Op::BraIndexed(branch) => branch.targets.iter().all(|target| *target < length),
        _ => true,
    };
    if !ends || !kernel.code.iter().all(inside) {
        return Some("kernel whose control flow leaves its code".to_owned());
    }
    let missing = kernel.code.iter().any(|instruction| lacks_register(kernel, instruction));
    missing.then(|| "kernel that uses registers it hasn't".to_owned())
}

fn lacks_register(kernel: &Kernel, instruction: &Instr) -> bool {
    let mut missing = false;
    register_uses::visit(&mut instruction.clone(), &mut |file, reg, _| {
        let count = match file {
            File::B32 => kernel.b32,
            File::B64 => kernel.b64,
            File::Predicates => kernel.predicates,
        };
        missing |= u32::from(*reg) >= count;
    });
    missing
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Mov { .. }
        | Op::Pack16 { .. }
        | Op::Unpack16 { .. }
        | Op::Pack32 { .. }
        | Op::Unpack32 { .. } => "move",
        Op::Selp { .. } | Op::Slct { .. } => "select",
        Op::Clock { .. } | Op::GlobalTimer { .. } => "timer",
        Op::Int1 { .. } | Op::Int2 { .. } | Op::Int3 { .. } | Op::MulWide { .. } | Op::MadWide { .. } => {
            "integer"
        }
        Op::Carry { .. } | Op::MadCarry(_) | Op::Bfi { .. } | Op::Lop3 { .. } | Op::Prmt { .. } => "integer",
        Op::Shf { .. } | Op::Dot { .. } => "integer",
        Op::Float1 { ty, .. } | Op::Float2 { ty, .. } | Op::Fma { ty, .. } => match ty {
            Type::F64 => "f64",
            Type::F32 => "f32",
            _ => "half",
        },
        Op::Testp { .. } | Op::Setp { .. } | Op::Set { .. } => "compare",
        Op::Convert { .. } | Op::ConvertPair { .. } => "convert",
        Op::PredLogic { .. } | Op::PredNot { .. } => "predicate",
        Op::LoadParam { .. } => "parameter load",
        Op::Load { space, .. } => match space {
            Space::Global | Space::Const => "global load",
            Space::Shared => "shared load",
            Space::Local => "local load",
            Space::Param => "parameter load",
            Space::Generic => "generic load",
        },
        Op::Store { space, .. } => match space {
            Space::Shared => "shared store",
            Space::Local => "local store",
            Space::Generic => "generic store",
            _ => "global store",
        },
        Op::Atomic { .. } => "atomic",
        Op::IsSpace { .. } => "predicate",
        Op::AsyncCopy(_) | Op::AsyncCommit | Op::AsyncWait { .. } | Op::AsyncWaitAll => "asynchronous copy",
        Op::LdMatrix { .. } => "matrix load",
        Op::Mma(_) => "matrix",
        Op::Bra { .. } | Op::BraIndexed(_) | Op::Exit | Op::Trap | Op::Yield => "control",
        Op::Barrier { .. } | Op::WarpSync { .. } | Op::Fence { .. } => "synchronisation",
        Op::Shfl { .. } | Op::Vote { .. } | Op::Match { .. } => "warp",
        Op::Redux { .. } | Op::Elect { .. } | Op::ActiveMask { .. } => "warp",
        Op::MarkWritten { .. } | Op::RequireWritten { .. } => "check",
    }
}
