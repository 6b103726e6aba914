//! `cp.async`, `ldmatrix`, `mma.sync`, vectors.

use ptx_emulator::exec::Launch;
use ptx_emulator::fault::Kind;

use super::Caught::{self, Finding, Value};
use super::Subject;
use super::support::{line, numbers};

const CHECKS: &str = include_str!("../kernels/checks.ptx");
const TENSOR: &str = include_str!("../kernels/tensor.ptx");

fn halves(count: usize, seed: u32) -> Vec<u16> {
    numbers(count, seed).iter().map(|value| (value.to_bits() >> 16) as u16).collect()
}

#[test]
fn copies_that_overlap_with_matrix_products() {
    let gemm = Subject {
        text: TENSOR,
        kernel: "gemm_bf16",
        launch: Launch { grid: [3, 2, 1], block: [128, 1, 1], ..Launch::default() },
        prepare: |program| {
            let (a, b) = (program.upload(&halves(64 * 128, 7)), program.upload(&halves(96 * 128, 8)));
            let d = program.empty::<f32>(64 * 96);
            (vec![64.into(), 96.into(), 128.into(), a.into(), b.into(), d.into()], d, 64 * 96)
        },
    };
    const LATE: Caught = Finding(&[Kind::AsyncTooEarly]);
    // The other warp's copy may still be on its way, or be there without a barrier between.
    const RACE: Caught = Finding(&[Kind::SharedRace, Kind::AsyncTooEarly, Kind::Uninitialised]);
    gemm.survive_none(&[
        ("waits one group late", &[("wait_group 1;", 1, "wait_group 2;")], LATE),
        ("doesn't wait", &[("cp.async.wait_group 1;", 1, "")], LATE),
        ("first copies not committed", &[("cp.async.commit_group;", 1, "")], LATE),
        ("no barrier after the wait", &[("bar.sync 0;", 1, "")], RACE),
        ("no barrier before a stage is filled again", &[("bar.sync 0;", 2, "")], RACE),
        (
            "reads the stage that is being filled",
            &[("{%r136,%r137,%r138,%r139}, [%r25];", 0, "{%r136,%r137,%r138,%r139}, [%r21];")],
            RACE,
        ),
        (
            "copies 16 bytes to an address that is a multiple of 8",
            &[("add.s32 %r45, %r55, %r57;", 0, "add.s32 %r45, %r55, %r57; add.s32 %r45, %r45, 8;")],
            Finding(&[Kind::Misaligned]),
        ),
        (
            "one step too many along k",
            &[("setp.ge.s32 %p6, %r371, %r44;", 0, "setp.gt.s32 %p6, %r371, %r44;")],
            Finding(&[Kind::OutOfBounds]),
        ),
        (
            "rows of 64 bytes written, of 80 read",
            &[("mul.lo.s32 %r53, %r7, 80;", 0, "mul.lo.s32 %r53, %r7, 64;")],
            Finding(&[Kind::Uninitialised, Kind::AsyncTooEarly, Kind::SharedRace]),
        ),
        (
            "one accumulator not set to zero",
            &[("mov.f32 %f270, %f266;", 2, ""), ("mov.f32 %f270, %f266;", 0, "")],
            Finding(&[Kind::Uninitialised]),
        ),
        (
            "accumulators begin at one",
            &[("mov.f32 %f266, 0f00000000;", 3, "mov.f32 %f266, 0f3F800000;")],
            Value,
        ),
        (
            "fragments of b from the wrong lanes: halves of k swapped",
            &[("{%r95,%r96}, {%f273,%f272,%f271,%f270};", 0, "{%r96,%r95}, {%f273,%f272,%f271,%f270};")],
            Value,
        ),
        (
            "fragments of a in the order of columns, not of rows",
            &[("{%r90,%r91,%r92,%r93}, [%r21];", 0, "{%r90,%r92,%r91,%r93}, [%r21];")],
            Value,
        ),
        (
            "rows of a taken by the wrong lanes",
            &[("and.b32 %r63, %r1, 15;", 0, "and.b32 %r63, %r1, 7;")],
            Value,
        ),
        (
            "b transposed once more",
            &[(
                "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r95,",
                0,
                "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r95,",
            )],
            Value,
        ),
        ("results of two lanes' columns swapped", &[("[%rd56], %f273;", 0, "[%rd56], %f272;")], Value),
        (
            "rows 8 below stored over those above",
            &[("shl.b32 %r346, %r359, 3;", 0, "shl.b32 %r346, %r359, 0;")],
            Value,
        ),
    ]);
}

#[test]
fn copies_with_zero_fill_and_vectors() {
    let zero_fill = Subject {
        text: CHECKS,
        kernel: "zero_fill",
        launch: line(1, 32),
        prepare: |program| {
            let (x, out) = (program.upload(&numbers(50, 1)), program.empty::<f32>(128));
            (vec![50.into(), x.into(), out.into()], out, 128)
        },
    };
    zero_fill.survive_none(&[
        ("zero fill lost", &[("], 16, %r2;", 0, "], 16;")], Finding(&[Kind::OutOfBounds])),
        ("no wait at all", &[("cp.async.wait_all;", 0, "")], Finding(&[Kind::AsyncTooEarly])),
        ("a vector of 16 bytes at 4", &[("}, [%r1];", 0, "}, [%r1+4];")], Finding(&[Kind::Misaligned])),
        (
            "the whole of the last vector is zero",
            &[("min.s32 %r10, %r9, 16;", 0, "and.b32 %r10, %r9, 16;")],
            Value,
        ),
    ]);
    let matrices = Subject {
        text: TENSOR,
        kernel: "matrices",
        launch: line(1, 32),
        prepare: |program| {
            let values: Vec<u16> = (0..256).map(|i| i * 7 + 1).collect();
            let (x, out) = (program.upload(&values), program.empty::<u32>(256));
            (vec![x.into(), out.into()], out, 256)
        },
    };
    matrices.survive_none(&[
        (
            "no bar.warp before other lanes' rows",
            &[("bar.warp.sync -1;", 0, "")],
            Finding(&[Kind::SharedRace]),
        ),
        ("not transposed", &[(".x4.trans.shared", 0, ".x4.shared")], Value),
        (
            "rows at 8 bytes",
            &[("and.b32 %r41, %r37, 112;", 0, "shr.u32 %r41, %r37, 1; and.b32 %r41, %r41, 56;")],
            Finding(&[Kind::Misaligned]),
        ),
        ("every lane gives the same row", &[("and.b32 %r41, %r37, 112;", 0, "mov.u32 %r41, 0;")], Value),
    ]);
}
