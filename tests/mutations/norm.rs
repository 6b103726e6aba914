//! `kernels/norm.cu`.
//!
//! Equivalent, so not here: the variance not kept from being negative. Differences are from the first
//! row, whose own is zero, so the mean of the squares exceeds the square of the mean by 1 / rows of it:
//! far more than f64 rounds. The bound of the channels where the sums of a row are made: what threads
//! behind it add up isn't stored.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn norm() {
    survive_none(Precision::F32, "Norm", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: OffByOne,
        kernel: "norm_affine",
        what: "a channel too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r2;", 0, "setp.gt.u32 %p1, %r1, %r2;")],
        caught: Row("BatchNormAffine"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_affine",
        what: "shift added",
        edits: &[("sub.f64 %fd10, %fd7, %fd9;", 0, "add.f64 %fd10, %fd7, %fd9;")],
        caught: Row("BatchNormAffine"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "norm_stats_partial",
        what: "no barrier before the lanes are added",
        edits: &[("bar.sync 0;", 0, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: DivergentBarrier,
        kernel: "norm_stats_partial",
        what: "threads without a channel go round the barrier",
        edits: &[("@%p3 bra $L__BB1_38;", 0, "@%p3 bra $L__BB1_40;")],
        caught: Finding("DivergentBarrier"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "norm_stats_partial",
        what: "a lane added twice, another not",
        edits: &[("ld.shared.f64 %fd195, [%r97+256];", 0, "ld.shared.f64 %fd195, [%r97+512];")],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_stats_partial",
        what: "a row too many",
        edits: &[
            ("setp.lt.u32 %p8, %r27, %r4;", 0, "setp.le.u32 %p8, %r27, %r4;"),
            ("setp.lt.u32 %p20, %r46, %r45;", 0, "setp.le.u32 %p20, %r46, %r45;"),
        ],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "norm_stats_partial",
        what: "the last part as long as the others",
        edits: &[("min.u32 %r4, %r24, %r12;", 0, "mov.u32 %r4, %r24;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: Race,
        kernel: "norm_stats_partial",
        what: "all parts in one place",
        edits: &[("mad.lo.s32 %r101, %r100, %r13, %r11;", 0, "mad.lo.s32 %r101, %r92, %r13, %r11;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_stats_partial",
        what: "a channel too many stored",
        edits: &[("setp.ge.u32 %p38, %r11, %r13;", 0, "setp.gt.u32 %p38, %r11, %r13;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_stats_partial",
        what: "sums of squares beside the sums",
        edits: &[(
            "mad.lo.s32 %r101, %r100, %r13, %r11;",
            0,
            "mad.lo.s32 %r101, %r99, %r13, %r11; add.s32 %r101, %r101, %r92;",
        )],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "norm_stats_partial",
        what: "sums of lanes without rows begin with nothing",
        edits: &[("mov.f64 %fd241, 0d0000000000000000;", 1, "")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "norm_stats_partial",
        what: "two sums loaded at once",
        edits: &[("ld.shared.f64 %fd195, [%r97+256];", 0, "ld.shared.v2.f64 {%fd195, %fd203}, [%r97+256];")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "norm_stats_partial",
        what: "sums not stored",
        edits: &[("st.global.f64 [%rd37], %fd224;", 0, "")],
        caught: FindingIn("norm_stats", "Uninitialised"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "norm_stats",
        what: "parts behind the first left out",
        edits: &[("setp.lt.u32 %p3, %r15, %r9;", 0, "setp.lt.u32 %p3, %r15, 1;")],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_stats",
        what: "no epsilon",
        edits: &[("add.f64 %fd104, %fd98, %fd103;", 0, "mov.f64 %fd104, %fd98;")],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_stats",
        what: "running variance biased",
        edits: &[("selp.f64 %fd101, %fd100, 0d3FF0000000000000, %p35;", 0, "mov.f64 %fd101, %fd92;")],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "norm_stats",
        what: "one row divided by none",
        edits: &[("setp.gt.u32 %p35, %r7, 1;", 0, "setp.gt.u32 %p35, %r7, 0;")],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_stats",
        what: "mean of the differences from the first row",
        edits: &[("cvt.f64.f32 %fd119, %f3;", 0, "mov.f64 %fd119, 0d0000000000000000;")],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "norm_stats",
        what: "a lane's parts added twice, another's not",
        edits: &[
            (
                "shfl.sync.bfly.b32 %r62|%p14, %r60, %r90, %r87, %r89;",
                0,
                "shfl.sync.bfly.b32 %r62|%p14, %r60, %r88, %r87, %r89;",
            ),
            (
                "shfl.sync.bfly.b32 %r61|%p15, %r59, %r90, %r87, %r89;",
                0,
                "shfl.sync.bfly.b32 %r61|%p15, %r59, %r88, %r87, %r89;",
            ),
        ],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "norm_stats",
        what: "no barrier before the lanes are added",
        edits: &[("bar.sync 0;", 0, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "norm_dgrad_partial",
        what: "no barrier before the lanes are added",
        edits: &[("bar.sync 0;", 0, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "norm_dgrad_partial",
        what: "a lane added twice, another not",
        edits: &[("ld.shared.f64 %fd107, [%r97+1280];", 0, "ld.shared.f64 %fd107, [%r97+256];")],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "norm_dgrad_partial",
        what: "the last part as long as the others",
        edits: &[
            ("min.u32 %r35, %r34, %r106;", 0, "mov.u32 %r35, %r34;"),
            ("min.u32 %r4, %r24, %r12;", 0, "mov.u32 %r4, %r24;"),
        ],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_dgrad_partial",
        what: "ReLU lets zero pass",
        edits: &[
            ("setp.gt.f32 %p47, %f150, 0f00000000;", 0, "setp.ge.f32 %p47, %f150, 0f00000000;"),
            ("setp.gt.f32 %p86, %f315, 0f00000000;", 0, "setp.ge.f32 %p86, %f315, 0f00000000;"),
        ],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "norm_dgrad_partial",
        what: "a ReLU where there is none",
        edits: &[("setp.eq.s64 %p9, %rd24, 0;", 0, "setp.eq.s64 %p9, %rd24, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_dgrad_partial",
        what: "the products as the sums",
        edits: &[("shl.b32 %r93, %r92, 12;", 0, "mov.u32 %r93, 0;")],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_dgrad_reduce",
        what: "both gradients in one place",
        edits: &[("add.s64 %rd77, %rd76, %rd72;", 0, "add.s64 %rd77, %rd74, %rd72;")],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "norm_dgrad_reduce",
        what: "parts behind the first left out",
        edits: &[("setp.lt.u32 %p3, %r14, %r6;", 0, "setp.lt.u32 %p3, %r14, 1;")],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_dgrad_reduce",
        what: "the last part twice",
        edits: &[("setp.lt.u32 %p3, %r14, %r6;", 0, "setp.le.u32 %p3, %r14, %r6;")],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_dgrad",
        what: "the mean of the gradients not taken off",
        edits: &[("sub.f32 %f405, %f404, %f66;", 0, "mov.f32 %f405, %f404;")],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_dgrad",
        what: "rows a channel apart",
        edits: &[("mul.lo.s32 %r7, %r253, %r16;", 0, "mov.u32 %r7, %r253;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "norm_dgrad",
        what: "a residual where there is none",
        edits: &[("setp.eq.s64 %p46, %rd34, 0;", 0, "setp.eq.s64 %p46, %rd34, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "norm_dgrad",
        what: "a ReLU where there is none",
        edits: &[("setp.eq.s64 %p36, %rd29, 0;", 0, "setp.eq.s64 %p36, %rd29, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_dgrad",
        what: "ReLU lets zero pass",
        edits: &[("setp.gt.f32 %p92, %f403, 0f00000000;", 0, "setp.ge.f32 %p92, %f403, 0f00000000;")],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_dgrad",
        what: "a row too many stored",
        edits: &[("setp.ge.u32 %p153, %r233, %r249;", 0, "setp.gt.u32 %p153, %r233, %r249;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "norm_dgrad",
        what: "a row of fours not stored",
        edits: &[("st.global.v4.f32 [%rd186], {%f291, %f292, %f293, %f294};", 0, "")],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "norm_dgrad",
        what: "the second of channels that are no fours not stored",
        edits: &[("st.global.f32 [%rd20+4], %f180;", 0, "")],
        caught: Row("BatchNormDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_stats_partial",
        what: "a four's first two channels swapped in the row that differences are from",
        edits: &[(
            "ld.global.v4.f32 {%f40, %f41, %f42, %f43}, [%rd1];",
            0,
            "ld.global.v4.f32 {%f41, %f40, %f42, %f43}, [%rd1];",
        )],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_dgrad_partial",
        what: "a four's first two means swapped",
        edits: &[(
            "ld.global.v4.f32 {%f239, %f240, %f241, %f242}, [%rd2];",
            0,
            "ld.global.v4.f32 {%f240, %f239, %f241, %f242}, [%rd2];",
        )],
        caught: Row("BatchNormDgrad"),
    },
];
