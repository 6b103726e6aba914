//! Shuffles, atomics, tiles in shared memory.

use ptx_emulator::exec::Launch;
use ptx_emulator::fault::Kind;

use super::Caught::{self, Finding, Value};
use super::Subject;
use super::support::{line, numbers};

const BASICS: &str = include_str!("../kernels/basics.ptx");

#[test]
fn sums_over_lanes_and_warps() {
    let reduce = Subject {
        text: BASICS,
        kernel: "reduce",
        launch: line(6, 256),
        prepare: |program| {
            let (x, sums) = (program.upload(&numbers(5000, 2)), program.empty::<f32>(6));
            (vec![5000.into(), x.into(), sums.into()], sums, 6)
        },
    };
    reduce.survive_none(&[
        (
            "no barrier before the warps are added",
            &[("bar.sync 0;", 0, "")],
            Finding(&[Kind::SharedRace, Kind::Uninitialised]),
        ),
        ("adds the wrong lane", &[("mov.u32 %r13, 16;", 0, "mov.u32 %r13, 15;")], Value),
        (
            "a shuffle without half of its lanes",
            &[("mov.u32 %r14, -1;", 0, "mov.u32 %r14, 65535;")],
            Finding(&[Kind::DivergentBarrier]),
        ),
        (
            "lanes without a warp not set to zero",
            &[("mov.f32 %f32, 0f00000000;", 0, "")],
            Finding(&[Kind::Uninitialised]),
        ),
        (
            "a warp too many",
            &[("setp.ge.u32 %p10, %r3, %r32;", 0, "setp.gt.u32 %p10, %r3, %r32;")],
            Finding(&[Kind::Uninitialised]),
        ),
        (
            "one element too many",
            &[("setp.lt.s32 %p2, %r53, %r8;", 0, "setp.le.s32 %p2, %r53, %r8;")],
            Finding(&[Kind::OutOfBounds]),
        ),
        (
            "does not go on to the next element",
            &[("add.s32 %r53, %r53, %r5;", 0, "")],
            Finding(&[Kind::Endless]),
        ),
        (
            "every block writes the same sum",
            &[("mul.wide.u32 %rd7, %r2, 4;", 0, "mov.u64 %rd7, 0;")],
            Finding(&[Kind::GlobalRace]),
        ),
    ]);
    let histogram = Subject {
        text: BASICS,
        kernel: "histogram",
        launch: line(5, 256),
        prepare: |program| {
            let x: Vec<u8> = (0..10_000u32).map(|i| (i * i % 251) as u8).collect();
            let (x, counts) = (program.upload(&x), program.upload(&[0u32; 256]));
            (vec![10_000.into(), x.into(), counts.into()], counts, 256)
        },
    };
    histogram.survive_none(&[
        (
            "counts without an atomic",
            &[(
                "atom.shared.add.u32 %r17, [%r16], 1;",
                0,
                "ld.shared.u32 %r17, [%r16]; add.s32 %r17, %r17, 1; st.shared.u32 [%r16], %r17;",
            )],
            Finding(&[Kind::SharedRace]),
        ),
        (
            "adds blocks without an atomic",
            &[(
                "atom.global.add.u32 %r19, [%rd8], %r18;",
                0,
                "ld.global.u32 %r19, [%rd8]; add.s32 %r19, %r19, %r18; st.global.u32 [%rd8], %r19;",
            )],
            Finding(&[Kind::GlobalRace]),
        ),
        (
            "no barrier before counting",
            &[("bar.sync 0;", 1, "")],
            Finding(&[Kind::SharedRace, Kind::Uninitialised]),
        ),
        ("no barrier before adding", &[("bar.sync 0;", 2, "")], Finding(&[Kind::SharedRace])),
        ("counts not set to zero", &[("st.shared.u32 [%r2], %r11;", 0, "")], Finding(&[Kind::Uninitialised])),
    ]);
}

#[test]
fn tiles_with_edges() {
    let matmul = Subject {
        text: BASICS,
        kernel: "matmul",
        launch: Launch { grid: [4, 3, 1], block: [16, 16, 1], ..Launch::default() },
        prepare: |program| {
            let (a, b) = (program.upload(&numbers(37 * 45, 3)), program.upload(&numbers(45 * 50, 4)));
            let c = program.empty::<f32>(37 * 50);
            (vec![37.into(), 50.into(), 45.into(), a.into(), b.into(), c.into()], c, 37 * 50)
        },
    };
    const OUTSIDE: Caught = Finding(&[Kind::OutOfBounds]);
    matmul.survive_none(&[
        (
            "no barrier before a tile is read",
            &[("bar.sync 0;", 1, "")],
            Finding(&[Kind::SharedRace, Kind::Uninitialised]),
        ),
        ("no barrier before a tile is filled again", &[("bar.sync 0;", 2, "")], Finding(&[Kind::SharedRace])),
        (
            "one column of a too many",
            &[("setp.ge.s32 %p2, %r37, %r22;", 0, "setp.gt.s32 %p2, %r37, %r22;")],
            OUTSIDE,
        ),
        (
            "one row of b too many",
            &[("setp.ge.s32 %p5, %r35, %r22;", 0, "setp.gt.s32 %p5, %r35, %r22;")],
            OUTSIDE,
        ),
        (
            "one row of c too many",
            &[("setp.ge.s32 %p10, %r2, %r20;", 0, "setp.gt.s32 %p10, %r2, %r20;")],
            OUTSIDE,
        ),
        (
            "one column of c too many",
            &[("setp.ge.s32 %p9, %r5, %r21;", 0, "setp.gt.s32 %p9, %r5, %r21;")],
            Finding(&[Kind::GlobalRace, Kind::OutOfBounds]),
        ),
        ("edge of a tile not set to zero", &[("mov.f32 %f60, %f9;", 0, "")], Finding(&[Kind::Uninitialised])),
        (
            "tail of k left out",
            &[("setp.lt.s32 %p8, %r38, %r22;", 0, "add.s32 %r27, %r38, 16; setp.lt.s32 %p8, %r27, %r22;")],
            Value,
        ),
        (
            "rows and columns of c swapped",
            &[("mad.lo.s32 %r34, %r2, %r21, %r5;", 0, "mad.lo.s32 %r34, %r5, %r20, %r2;")],
            Value,
        ),
        (
            "a product not added",
            &[("fma.rn.f32 %f35, %f34, %f33, %f32;", 0, "mul.rn.f32 %f35, %f34, %f33;")],
            Value,
        ),
    ]);
}
