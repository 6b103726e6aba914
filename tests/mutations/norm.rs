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
        caught: Row("NormAffine"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_affine",
        what: "shift added",
        edits: &[("sub.f64 %fd10, %fd7, %fd9;", 0, "add.f64 %fd10, %fd7, %fd9;")],
        caught: Row("NormAffine"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "norm_sums",
        what: "no barrier before the lanes are added",
        edits: &[("bar.sync 0;", 0, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: DivergentBarrier,
        kernel: "norm_sums",
        what: "threads without a channel go round the barrier",
        edits: &[("@%p1 bra $L__BB1_1; bra.uni $L__BB1_4;", 0, "@%p1 bra $L__BB1_1; bra.uni $L__BB1_6;")],
        caught: Finding("DivergentBarrier"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "norm_sums",
        what: "a lane added twice, another not",
        edits: &[("ld.shared.f64 %fd14, [%r30+256];", 0, "ld.shared.f64 %fd14, [%r30+512];")],
        caught: Row("NormStatistics"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_sums",
        what: "a row too many",
        edits: &[("setp.lt.u32 %p3, %r36, %r6;", 0, "setp.le.u32 %p3, %r36, %r6;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "norm_sums",
        what: "the last part as long as the others",
        edits: &[("min.u32 %r6, %r19, %r15;", 0, "mov.u32 %r6, %r19;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: Race,
        kernel: "norm_sums",
        what: "all parts in one place",
        edits: &[("mul.lo.s32 %r5, %r18, %r16;", 0, "mul.lo.s32 %r5, %r18, %r16; mov.u32 %r18, 0;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_sums",
        what: "a channel too many stored",
        edits: &[("setp.ge.u32 %p5, %r4, %r14;", 0, "setp.gt.u32 %p5, %r4, %r14;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_sums",
        what: "sums of squares beside the sums",
        edits: &[("add.s32 %r34, %r33, %r14;", 0, "add.s32 %r34, %r33, 1;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "norm_sums",
        what: "sums of lanes without rows begin with nothing",
        edits: &[("mov.f64 %fd30, 0d0000000000000000;", 0, "")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "norm_sums",
        what: "two sums loaded at once",
        edits: &[("ld.shared.f64 %fd14, [%r30+256];", 0, "ld.shared.v2.f64 {%fd14, %fd16}, [%r30+256];")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "norm_sums",
        what: "sums of squares not stored",
        edits: &[("st.global.f64 [%rd12], %fd25;", 0, "")],
        caught: FindingIn("norm_statistics", "Uninitialised"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "norm_statistics",
        what: "parts behind the first sixteen left out",
        edits: &[("setp.lt.u32 %p4, %r35, %r16;", 0, "setp.lt.u32 %p4, %r35, 0;")],
        caught: Row("NormStatistics"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_statistics",
        what: "no epsilon",
        edits: &[("add.f64 %fd88, %fd82, %fd87;", 0, "mov.f64 %fd88, %fd82;")],
        caught: Row("NormStatistics"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_statistics",
        what: "running variance biased",
        edits: &[("selp.f64 %fd85, %fd84, 0d3FF0000000000000, %p9;", 0, "mov.f64 %fd85, %fd76;")],
        caught: Row("NormStatistics"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "norm_statistics",
        what: "one row divided by none",
        edits: &[("setp.gt.u32 %p9, %r14, 1;", 0, "setp.gt.u32 %p9, %r14, 0;")],
        caught: Row("NormStatistics"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_statistics",
        what: "mean of the differences from the first row",
        edits: &[("cvt.f64.f32 %fd101, %f3;", 0, "mov.f64 %fd101, 0d0000000000000000;")],
        caught: Row("NormStatistics"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "norm_statistics",
        what: "a lane's parts added twice, another's not",
        edits: &[("ld.shared.f64 %fd17, [%r32+64];", 0, "ld.shared.f64 %fd17, [%r32+128];")],
        caught: Row("NormStatistics"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "norm_statistics",
        what: "no barrier before the lanes are added",
        edits: &[("bar.sync 0;", 0, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "norm_dgrad_sums",
        what: "no barrier before the lanes are added",
        edits: &[("bar.sync 0;", 0, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "norm_dgrad_sums",
        what: "a lane's products as its sum",
        edits: &[("ld.shared.f64 %fd19, [%r36+1280];", 0, "ld.shared.f64 %fd19, [%r36+256];")],
        caught: Row("NormDgrad"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "norm_dgrad_sums",
        what: "the last part as long as the others",
        edits: &[("min.u32 %r5, %r19, %r14;", 0, "mov.u32 %r5, %r19;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_dgrad_sums",
        what: "ReLU lets zero pass",
        edits: &[("setp.leu.f32 %p4, %f12, 0f00000000;", 0, "setp.ltu.f32 %p4, %f12, 0f00000000;")],
        caught: Row("NormDgrad"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "norm_dgrad_sums",
        what: "a ReLU where there is none",
        edits: &[("setp.eq.s64 %p2, %rd6, 0;", 0, "setp.eq.s64 %p2, %rd6, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_dgrad_sums",
        what: "rows a channel apart",
        edits: &[("shl.b32 %r8, %r13, 2;", 0, "shl.b32 %r8, %r13, 0;")],
        caught: Row("NormDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_dgrad_total",
        what: "both gradients in one place",
        edits: &[("add.s64 %rd16, %rd15, %rd11;", 0, "add.s64 %rd16, %rd13, %rd11;")],
        caught: Row("NormDgrad"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "norm_dgrad_total",
        what: "parts behind the first sixteen left out",
        edits: &[("setp.lt.u32 %p4, %r34, %r15;", 0, "setp.lt.u32 %p4, %r34, 0;")],
        caught: Row("NormDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_dgrad_total",
        what: "a part too many",
        edits: &[("setp.ge.u32 %p2, %r1, %r15;", 0, "setp.gt.u32 %p2, %r1, %r15;")],
        caught: Either("OutOfBounds", "Uninitialised"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "norm_dgrad",
        what: "the mean of the gradients not taken off",
        edits: &[("sub.f32 %f18, %f27, %f17;", 0, "mov.f32 %f18, %f27;")],
        caught: Row("NormDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_dgrad",
        what: "row for channel",
        edits: &[("rem.u32 %r16, %r1, %r10;", 0, "div.u32 %r16, %r1, %r10;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "norm_dgrad",
        what: "a residual where there is none",
        edits: &[("setp.eq.s64 %p4, %rd14, 0;", 0, "setp.eq.s64 %p4, %rd14, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "norm_dgrad",
        what: "a ReLU where there is none",
        edits: &[("setp.eq.s64 %p2, %rd9, 0;", 0, "setp.eq.s64 %p2, %rd9, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_dgrad",
        what: "ReLU lets zero pass",
        edits: &[("setp.leu.f32 %p3, %f12, 0f00000000;", 0, "setp.ltu.f32 %p3, %f12, 0f00000000;")],
        caught: Row("NormDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "norm_dgrad",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r12;", 0, "setp.gt.u32 %p1, %r1, %r12;")],
        caught: Row("NormDgrad"),
    },
];
