//! How many instructions of warps a core executes in a second, by kind, without and with checks:
//! `cargo run --release -p ptx-emulator --example rate [KIND]`. Processor time of one thread.

use ptx_emulator::exec::{self, Checks, Launch, Settings};
use ptx_emulator::ir::*;
use ptx_emulator::memory::{GlobalMemory, Shadows};

/// A loop of `repeat` rounds around a body. Longs: 0 one address, 1 side by side, 2 apart.
fn kernel(body: Vec<Op>, repeat: u32) -> Kernel {
    let preload = Preload {
        b32: vec![
            B32Value::Special(Special::Tid(0)),
            B32Value::Constant(4),
            B32Value::Constant(1),
            B32Value::Constant(repeat),
            B32Value::Constant(256),
            B32Value::Constant(0),
            B32Value::Constant(2),
        ],
        ..Preload::default()
    };
    let long = Access { ty: Type::U64, register: Type::U64, count: 1, strong: false };
    let plain = |op| Instr { guard: None, op };
    let mut code = vec![
        plain(Op::LoadParam { access: long, dst: [0, 0, 0, 0], offset: 0 }),
        plain(Op::MadWide { ty: Type::S32, dst: 1, a: 0, b: 1, c: 0 }), // side by side
        plain(Op::MadWide { ty: Type::S32, dst: 2, a: 0, b: 4, c: 0 }), // scattered, stride 256
        plain(Op::Int2 { op: Int2::Shl, ty: Type::U32, dst: 8, a: 0, b: 6 }),
        plain(Op::Int2 { op: Int2::Sub, ty: Type::U32, dst: 5, a: 0, b: 0 }),
    ];
    let head = code.len() as u32;
    let n = body.len() as u64;
    code.extend(body.into_iter().map(plain));
    code.push(plain(Op::Int2 { op: Int2::Add, ty: Type::S32, dst: 5, a: 5, b: 2 }));
    code.push(plain(Op::Setp {
        compare: Compare::Lt,
        ty: Type::S32,
        ftz: false,
        dst: 0,
        other: None,
        a: 5,
        b: 3,
        combine: None,
    }));
    code.push(Instr {
        guard: Some(Guard { reg: 0, negated: false }),
        op: Op::Bra { target: head, reconverge: head + n as u32 + 3 },
    });
    code.push(plain(Op::Exit));
    let lines = vec![Line::default(); code.len()];
    Kernel {
        name: "k".into(),
        param_bytes: 8,
        preload,
        b32: 40,
        b64: 8,
        predicates: 2,
        code,
        lines,
        shared_bytes: 4096,
        ..Kernel::default()
    }
}

/// Seconds of processor time of this thread.
fn cpu() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

fn main() {
    let word = Access { ty: Type::U32, register: Type::U32, count: 1, strong: false };
    let at = |reg| Address { reg, wide: true, offset: 0 };
    let fma = |d: u16| Op::Fma { ty: Type::F32, mode: Mode::PLAIN, dst: d, a: 10, b: 11, c: d };
    let load =
        |reg, d: u16| Op::Load { space: Space::Global, access: word, dst: [d, 0, 0, 0], address: at(reg) };
    let shared = |d: u16| Op::Load {
        space: Space::Shared,
        access: word,
        dst: [d, 0, 0, 0],
        address: Address { reg: 8, wide: false, offset: 0 },
    };
    let v4 = |reg, d: u16| Op::Load {
        space: Space::Global,
        access: Access { count: 4, ..word },
        dst: [d, d + 1, d + 2, d + 3],
        address: at(reg),
    };
    let cases: Vec<(&str, Vec<Op>)> = vec![
        ("16 fma", (20..36).map(fma).collect()),
        (
            "16 add.s32",
            (20..36).map(|d| Op::Int2 { op: Int2::Add, ty: Type::S32, dst: d, a: 10, b: 11 }).collect(),
        ),
        (
            "16 mad.wide",
            (0..16).map(|d| Op::MadWide { ty: Type::S32, dst: 3 + d % 4, a: 10, b: 11, c: 0 }).collect(),
        ),
        ("16 global row", (20..36).map(|d| load(1, d)).collect()),
        ("16 global same", (20..36).map(|d| load(0, d)).collect()),
        ("16 global scattered", (20..36).map(|d| load(2, d)).collect()),
        ("16 global v4 scattered", (0..16).map(|i| v4(2, 20 + i % 4 * 4)).collect()),
        ("16 global v4 same", (0..16).map(|i| v4(0, 20 + i % 4 * 4)).collect()),
        ("16 shared", (20..36).map(shared).collect()),
        (
            "mix: 1 scattered, 4 same, 4 fma, mad.wide",
            [
                vec![load(2, 10)],
                (0..4).map(|i| load(0, 11 + i)).collect(),
                (20..24).map(fma).collect(),
                vec![Op::MadWide { ty: Type::S32, dst: 3, a: 10, b: 11, c: 0 }],
            ]
            .concat(),
        ),
        (
            "setp+sel",
            (0..8)
                .flat_map(|i| {
                    [
                        Op::Setp {
                            compare: Compare::Lt,
                            ty: Type::F32,
                            ftz: false,
                            dst: 1,
                            other: None,
                            a: 10,
                            b: 11,
                            combine: None,
                        },
                        Op::Selp { file: File::B32, dst: 20 + i, a: 10, b: 11, p: 1 },
                    ]
                })
                .collect(),
        ),
    ];
    let mma = Op::Mma(Box::new(Mma {
        shape: (16, 8, 16),
        a_type: Type::Bf16,
        b_type: Type::Bf16,
        c_type: Type::F32,
        d_type: Type::F32,
        saturate: false,
        d: vec![20, 21, 22, 23],
        a: vec![10, 11, 12, 13],
        b: vec![14, 15],
        c: vec![20, 21, 22, 23],
    }));
    let mut cases = cases;
    cases.push(("16 mma", vec![mma; 16]));
    for all in [false, true] {
        let (shadows, checks) = if all { (Shadows::ALL, Checks::ALL) } else { (Shadows::NONE, Checks::NONE) };
        let memory = GlobalMemory::new(1 << 26, shadows).unwrap();
        let a = memory.allocate(1 << 20).unwrap();
        memory.fill(a, &[0, 0, 0, 63], 1 << 18).unwrap();
        for (name, body) in &cases {
            if std::env::args().nth(1).is_some_and(|only| !name.contains(&only)) {
                continue;
            }
            let k = kernel(body.clone(), 2000);
            let launch = Launch {
                grid: [4, 1, 1],
                block: [128, 1, 1],
                params: a.to_le_bytes().to_vec(),
                ..Launch::default()
            };
            let settings = Settings {
                checks: if all {
                    Checks { uninitialised: !name.contains("shared"), ..checks }
                } else {
                    checks
                },
                threads: 1,
                count_memory: all,
                ..Settings::default()
            };
            let mut best = f64::MAX;
            let mut n = 0;
            for _ in 0..3 {
                let t = cpu();
                let c = exec::launch(&k, &launch, &memory, &settings).unwrap();
                best = best.min(cpu() - t);
                n = c.warp_instructions;
            }
            println!("checks {all}: {name}: {:.0} M/s", n as f64 / best / 1e6);
        }
    }
}
