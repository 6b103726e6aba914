//! `kernels/generator.cu`.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn upsampling() {
    survive_none(Precision::F32, "Upsample", UPSAMPLE);
}

#[test]
fn squashing() {
    survive_none(Precision::F32, "ScaledTanh", UNIT_TANH);
}

pub const UPSAMPLE: &[Mutation] = &[
    Mutation {
        mistake: OffByOne,
        kernel: "upsample",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r18;", 0, "setp.gt.u32 %p1, %r1, %r18;")],
        caught: Row("Upsample"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "upsample",
        what: "the row before the first",
        edits: &[("selp.b32 %r46, 0, %r40, %p11;", 0, "mov.b32 %r46, %r40;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "upsample",
        what: "the row behind the last",
        edits: &[("min.u32 %r46, %r38, %r39;", 0, "mov.b32 %r46, %r38;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "upsample",
        what: "the column behind the last",
        edits: &[("min.u32 %r45, %r32, %r33;", 0, "mov.b32 %r45, %r32;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "upsample",
        what: "columns that differ by the other's parity",
        edits: &[("setp.eq.b32 %p2, %r31, 1;", 0, "setp.eq.b32 %p2, %r31, 0;")],
        caught: Row("Upsample"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "upsample",
        what: "an affine map where there is none",
        edits: &[("setp.eq.s64 %p12, %rd8, 0;", 0, "setp.eq.s64 %p12, %rd8, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "upsample",
        what: "a ReLU where there is none",
        edits: &[("setp.ne.s32 %p17, %r17, 0;", 0, "setp.ne.s32 %p17, %r17, -1;")],
        caught: Row("Upsample"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "upsample",
        what: "images as many rows apart as the output has",
        edits: &[("mul.lo.s32 %r4, %r29, %r14;", 0, "mul.lo.s32 %r4, %r29, %r28;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "upsample",
        what: "the farther row as near as the nearer",
        edits: &[("mul.f32 %f31, %f30, 0f3E800000;", 0, "mul.f32 %f31, %f30, 0f3F400000;")],
        caught: Row("Upsample"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "upsample_dgrad",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r5;", 0, "setp.gt.u32 %p1, %r1, %r5;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "upsample_dgrad",
        what: "the column before the first",
        edits: &[("selp.b32 %r26, 0, %r25, %p2;", 0, "mov.b32 %r26, %r25;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "upsample_dgrad",
        what: "the row behind the last",
        edits: &[("min.u32 %r48, %r47, %r19;", 0, "mov.b32 %r48, %r47;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "upsample_dgrad",
        what: "rows for columns",
        edits: &[("mul.lo.s32 %r17, %r16, %r13;", 0, "mul.lo.s32 %r17, %r20, %r13;")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "upsample_dgrad",
        what: "the last tap not added",
        edits: &[("st.global.f32 [%rd67], %f36;", 0, "st.global.f32 [%rd67], %f27;")],
        caught: Row("UpsampleDgrad"),
    },
];

pub const UNIT_TANH: &[Mutation] = &[
    Mutation {
        mistake: OffByOne,
        kernel: "scaled_tanh",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r6;", 0, "setp.gt.u32 %p1, %r1, %r6;")],
        caught: Row("ScaledTanh"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "scaled_tanh",
        what: "the sign lost",
        edits: &[("copysign.f64 %fd46, %fd1, %fd45;", 0, "mov.f64 %fd46, %fd45;")],
        caught: Row("ScaledTanh"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "scaled_tanh",
        what: "the scale of the element, not of its channel",
        edits: &[("rem.u32 %r10, %r1, %r5;", 0, "mov.u32 %r10, %r1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "scaled_tanh",
        what: "an affine map where there is none",
        edits: &[("setp.eq.s64 %p2, %rd2, 0;", 0, "setp.eq.s64 %p2, %rd2, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "scaled_tanh_dgrad",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r10, %r6;", 0, "setp.gt.u32 %p1, %r10, %r6;")],
        caught: Row("ScaledTanhDgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "scaled_tanh_dgrad",
        what: "the slope's square discarded",
        edits: &[("mul.f64 %fd47, %fd46, %fd46;", 0, "mov.f64 %fd47, %fd46;")],
        caught: Row("ScaledTanhDgrad"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "scaled_tanh_dgrad",
        what: "a factor where there is none",
        edits: &[("setp.eq.s64 %p6, %rd5, 0;", 0, "setp.eq.s64 %p6, %rd5, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "scaled_tanh_dgrad",
        what: "a channel's number by division",
        edits: &[("rem.u32 %r1, %r10, %r5;", 0, "div.u32 %r1, %r10, %r5;")],
        caught: Finding("OutOfBounds"),
    },
];
