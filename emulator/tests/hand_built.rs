//! The executor alone, on a kernel built without the parser: y = a x + y.

use ptx_emulator::exec::{self, Launch, Settings};
use ptx_emulator::ir::*;
use ptx_emulator::memory::{GlobalMemory, Shadows};

fn saxpy() -> Kernel {
    let special = |name| B32Value::Special(name);
    let preload = Preload {
        b32: vec![
            special(Special::Tid(0)),
            special(Special::Ctaid(0)),
            special(Special::Ntid(0)),
            B32Value::Constant(4),
        ],
        ..Preload::default()
    };
    let word = Access { ty: Type::U32, register: Type::U32, count: 1, strong: false };
    let long = Access { ty: Type::U64, register: Type::U64, ..word };
    let at = |reg| Address { reg, wide: true, offset: 0 };
    let plain = |op| Instr { guard: None, op };
    let (n, a, i, x, y) = (4, 5, 6, 7, 8);
    let param = |access, reg, offset| plain(Op::LoadParam { access, dst: [reg, 0, 0, 0], offset });
    let code = vec![
        param(word, n, 0),
        param(word, a, 4),
        plain(Op::Int3 { op: Int3::MadLo, ty: Type::S32, dst: i, a: 1, b: 2, c: 0 }),
        plain(Op::Setp {
            compare: Compare::Ge,
            ty: Type::S32,
            ftz: false,
            dst: 0,
            other: None,
            a: i,
            b: n,
            combine: None,
        }),
        Instr { guard: Some(Guard { reg: 0, negated: false }), op: Op::Bra { target: 12, reconverge: 12 } },
        param(long, 0, 8),
        param(long, 1, 16),
        plain(Op::MadWide { ty: Type::S32, dst: 0, a: i, b: 3, c: 0 }),
        plain(Op::MadWide { ty: Type::S32, dst: 1, a: i, b: 3, c: 1 }),
        plain(Op::Load { space: Space::Global, access: word, dst: [x, 0, 0, 0], address: at(0) }),
        plain(Op::Load { space: Space::Global, access: word, dst: [y, 0, 0, 0], address: at(1) }),
        plain(Op::Fma { ty: Type::F32, mode: Mode::PLAIN, dst: y, a, b: x, c: y }),
        plain(Op::Exit),
    ];
    let mut code = code;
    let store = Op::Store { space: Space::Global, access: word, src: [y, 0, 0, 0], address: at(1) };
    code.insert(12, plain(store));
    code[4].op = Op::Bra { target: 13, reconverge: 13 };
    let lines = vec![Line::default(); code.len()];
    Kernel {
        name: "saxpy".to_owned(),
        param_bytes: 24,
        preload,
        b32: 9,
        b64: 2,
        predicates: 1,
        code,
        lines,
        ..Kernel::default()
    }
}

#[test]
fn saxpy_with_a_tail() {
    let memory = GlobalMemory::new(1 << 24, Shadows::ALL).unwrap();
    let count = 1000u32;
    let x: Vec<u8> = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let y: Vec<u8> = (0..count).flat_map(|i| (i as f32 * 0.5).to_le_bytes()).collect();
    let (xs, ys) = (memory.allocate(count as u64 * 4).unwrap(), memory.allocate(count as u64 * 4).unwrap());
    memory.write(xs, &x).unwrap();
    memory.write(ys, &y).unwrap();
    let mut params = Vec::new();
    params.extend(count.to_le_bytes());
    params.extend(2.0f32.to_le_bytes());
    params.extend(xs.to_le_bytes());
    params.extend(ys.to_le_bytes());
    let launch = Launch { grid: [8, 1, 1], block: [128, 1, 1], params, ..Launch::default() };
    let counters = exec::launch(&saxpy(), &launch, &memory, &Settings::default()).unwrap();
    let mut got = vec![0; count as usize * 4];
    memory.read(ys, &mut got).unwrap();
    for (i, bytes) in got.chunks(4).enumerate() {
        assert_eq!(f32::from_le_bytes(bytes.try_into().unwrap()), i as f32 * 2.5, "{i}");
    }
    assert_eq!(counters.warps, 32);
    assert_eq!(counters.global_stores.bytes, 4000);
    assert_eq!(counters.global_loads.sectors, 250);
    assert_eq!(counters.divergent_branches, 1);
}

/// Registers are read without a look at their number, so every one has to be there.
#[test]
fn a_register_that_is_not_there_is_refused() {
    let memory = GlobalMemory::new(1 << 20, Shadows::NONE).unwrap();
    let launch = Launch { grid: [1; 3], block: [32, 1, 1], params: vec![0; 24], ..Launch::default() };
    let mut guarded = saxpy();
    guarded.code[4].guard = Some(Guard { reg: 1, negated: false });
    for kernel in [Kernel { b32: 8, ..saxpy() }, Kernel { b64: 1, ..saxpy() }, guarded] {
        let fault = exec::launch(&kernel, &launch, &memory, &Settings::default()).unwrap_err();
        assert_eq!(fault.detail, "kernel that uses registers it hasn't");
    }
}
