//! Every vectorised instruction gives the bits of the scalar interpreter, for any active lanes.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::block::Shared;
use super::context::{Context, Stats};
use super::memory::Machine;
use super::plan::Plan;
use super::random::Random;
use super::vector_op::VectorOp;
use super::warp::Warp;
use super::{Launch, Settings, interpreter};
use crate::ir::*;
use crate::memory::{GlobalMemory, Shadows};

const WORDS: [u32; 24] = [
    0,
    1,
    2,
    5,
    31,
    32,
    33,
    63,
    64,
    0xffff_ffff,
    0x8000_0000,
    0x7fff_ffff,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0001,
    0xffc0_0000,
    0x0000_0001,
    0x8000_0001,
    0x007f_ffff,
    0x7f7f_ffff,
    0x0001_fc00,
    0x4b00_0001,
];

fn operations() -> Vec<Op> {
    let (d, a, b, c) = (4, 1, 2, 3);
    let mut list = Vec::new();
    use Type::*;
    for ty in [U16, S16, U32, S32, U64, S64] {
        for op in [
            Int2::Add,
            Int2::Sub,
            Int2::MulLo,
            Int2::MulHi,
            Int2::And,
            Int2::Or,
            Int2::Xor,
            Int2::Shl,
            Int2::Shr,
            Int2::Min,
            Int2::Max,
        ] {
            list.push(Op::Int2 { op, ty, dst: d, a, b });
            list.push(Op::Int2 { op, ty, dst: a, a, b });
        }
        list.push(Op::Int3 { op: Int3::MadLo, ty, dst: d, a, b, c });
        for compare in [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge] {
            list.push(Op::Setp { compare, ty, ftz: false, dst: 1, other: None, a, b, combine: None });
        }
    }
    for ty in [U32, S32] {
        list.push(Op::MulWide { ty, dst: d, a, b });
        list.push(Op::MadWide { ty, dst: d, a, b, c });
    }
    for op in [Float1::Neg, Float1::Abs, Float1::Sqrt] {
        list.push(Op::Float1 { op, ty: F32, mode: Mode::PLAIN, dst: d, a });
    }
    for op in [Float2::Add, Float2::Sub, Float2::Mul, Float2::Div, Float2::Min, Float2::Max] {
        list.push(Op::Float2 { op, ty: F32, mode: Mode::PLAIN, dst: d, a, b });
    }
    list.push(Op::Fma { ty: F32, mode: Mode::PLAIN, dst: d, a, b, c });
    for compare in [
        Compare::Eq,
        Compare::Ne,
        Compare::Neu,
        Compare::Lt,
        Compare::Le,
        Compare::Gt,
        Compare::Ge,
        Compare::Ltu,
    ] {
        list.push(Op::Setp { compare, ty: F32, ftz: false, dst: 1, other: None, a, b, combine: None });
    }
    for (from, to) in [
        (S32, S64),
        (U32, U64),
        (S32, U64),
        (U64, U32),
        (S64, S32),
        (S32, F32),
        (U32, F32),
        (Bf16, F32),
        (F16, F32),
    ] {
        list.push(Op::Convert { how: Conversion::plain(from, to), dst: d, src: a });
    }
    let how = Conversion::plain(F32, Bf16x2);
    list.push(Op::ConvertPair { how, dst: d, high: a, low: b });
    for table in [0, 0x96, 0xe8, 0xca, 0x1e, 0xff] {
        list.push(Op::Lop3 { dst: d, a, b, c, table });
    }
    for file in [File::B32, File::B64] {
        list.push(Op::Mov { file, dst: d, src: a });
        list.push(Op::Selp { file, dst: d, a, b, p: 2 });
    }
    for op in [Logic::And, Logic::Or, Logic::Xor] {
        list.push(Op::PredLogic { op, dst: 1, a: 2, b: 3 });
    }
    list.push(Op::PredNot { dst: 1, a: 2 });
    list.push(Op::Unpack32 { low: d, high: 5, src: a });
    list.push(Op::Pack32 { dst: d, low: a, high: b });
    list
}

fn kernel(code: Vec<Op>) -> Kernel {
    let guarded = |op| Instr { guard: Some(Guard { reg: 0, negated: false }), op };
    let mut code: Vec<Instr> = code.into_iter().map(guarded).collect();
    code.push(Instr { guard: None, op: Op::Exit });
    let lines = vec![Line::default(); code.len()];
    Kernel { b32: 8, b64: 8, predicates: 4, code, lines, ..Kernel::default() }
}

/// The registers after one instruction, from registers drawn by the seed.
fn after(
    kernel: &Kernel,
    plan: &Plan,
    memory: &GlobalMemory,
    mask: u32,
    seed: u64,
) -> (Vec<u32>, Vec<u64>, Vec<u32>) {
    let launch = Launch { grid: [1; 3], block: [32, 1, 1], ..Launch::default() };
    let settings = Settings::default();
    let context = Context {
        kernel,
        plan,
        launch: &launch,
        settings: &settings,
        memory,
        allocations: memory.allocations(),
        reserved: memory.reserved(),
        checked: true,
        races: None,
        shared_shift: 2,
        shared_bytes: 0,
        started: Instant::now(),
        left: AtomicU64::new(100),
    };
    let mut warp = Warp::new(0);
    warp.start(&context, 0);
    let mut random = Random::new(seed, 3);
    let mut word = || match random.below(2) {
        0 => WORDS[random.below(24) as usize],
        _ => random.next() as u32,
    };
    let registers = &mut warp.registers;
    registers.b32.iter_mut().for_each(|reg| reg.0.iter_mut().for_each(|value| *value = word()));
    let mut long = || u64::from(word()) << 32 | u64::from(word());
    registers.b64.iter_mut().for_each(|reg| reg.0.iter_mut().for_each(|value| *value = long()));
    registers.predicates.iter_mut().for_each(|reg| *reg = word());
    registers.predicates[0] = mask;
    let mut stats = Stats::new(kernel.code.len());
    let mut shared = Shared::default();
    let mut machine = Machine { context: &context, shared: &mut shared, stats: &mut stats };
    interpreter::run(&mut warp, &mut machine, 10).unwrap();
    let registers = &warp.registers;
    (
        registers.b32.iter().flat_map(|reg| reg.0).collect(),
        registers.b64.iter().flat_map(|reg| reg.0).collect(),
        registers.predicates.clone(),
    )
}

#[test]
fn vectorised_and_scalar_agree() {
    let memory = GlobalMemory::new(1 << 20, Shadows::NONE).unwrap();
    let mut vectorised = 0;
    for op in operations() {
        let kernel = kernel(vec![op.clone()]);
        let plan = Plan::new(&kernel);
        let mut all_scalar = Plan::new(&kernel);
        all_scalar.code.iter_mut().for_each(|planned| planned.op = VectorOp::Scalar);
        if matches!(plan.code[0].op, VectorOp::Scalar) {
            continue;
        }
        if matches!(op, Op::Int2 { ty: Type::U16 | Type::S16, .. }) {
            // Registers of 16-bit values have zeros above; these registers don't.
            continue;
        }
        vectorised += 1;
        for seed in 0..20 {
            for mask in [u32::MAX, 0x5a5a_1234, 1, 0] {
                let vector = after(&kernel, &plan, &memory, mask, seed);
                let scalar = after(&kernel, &all_scalar, &memory, mask, seed);
                let differs = (0..vector.0.len()).find(|&i| vector.0[i] != scalar.0[i]);
                let context =
                    differs.map(|i| (vector.0[32 + i % 32], vector.0[64 + i % 32], vector.0[i], scalar.0[i]));
                assert!(vector == scalar, "{op:?} {mask:#x} {seed}: {context:x?}");
            }
        }
    }
    assert!(vectorised > 60, "{vectorised}");
}
