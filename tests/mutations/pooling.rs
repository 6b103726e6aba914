//! `kernels/linear.cu`, `kernels/pooling.cu` and `kernels/add.cu`: mean and max pooling, sums.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn pooling() {
    survive_none(Precision::F32, "GlobalAvgPool", MUTATIONS);
}

#[test]
fn max_pooling() {
    survive_none(Precision::F32, "MaxPool", MAX_POOL);
}

#[test]
fn sums() {
    survive_none(Precision::F32, "Add", SUM);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: MissingTail,
        kernel: "global_avg_pool",
        what: "pixels behind whole fours left out",
        edits: &[("setp.eq.s32 %p5, %r48, 0;", 0, "setp.eq.s32 %p5, %r48, %r48;")],
        caught: Row("GlobalAvgPool"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "global_avg_pool",
        what: "a pixel too many",
        edits: &[("setp.ne.s32 %p6, %r48, 0;", 0, "setp.ne.s32 %p6, %r48, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "global_avg_pool",
        what: "divided by the channels",
        edits: &[("cvt.rn.f32.u32 %f20, %r25;", 0, "cvt.rn.f32.u32 %f20, %r26;")],
        caught: Row("GlobalAvgPool"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "global_avg_pool",
        what: "pixels as far apart as they are many",
        edits: &[("mul.lo.s32 %r47, %r46, %r26;", 0, "mul.lo.s32 %r47, %r46, %r25;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: Race,
        kernel: "global_avg_pool",
        what: "blocks write the same means",
        edits: &[("mul.wide.u32 %rd28, %r1, 4;", 0, "mul.wide.u32 %rd28, %r30, 4;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "global_avg_pool_dgrad",
        what: "the first image's gradient",
        edits: &[("mad.lo.s32 %r11, %r9, %r3, %r10;", 0, "mov.u32 %r11, %r10;")],
        caught: Row("GlobalAvgPoolDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "global_avg_pool_dgrad",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r4;", 0, "setp.gt.u32 %p1, %r1, %r4;")],
        caught: Row("GlobalAvgPoolDgrad"),
    },
];

pub const MAX_POOL: &[Mutation] = &[
    Mutation {
        mistake: OffByOne,
        kernel: "max_pool",
        what: "the last of equals wins, in fours",
        edits: &[("setp.gt.f32 %p12, %f124, %f215;", 0, "setp.ge.f32 %p12, %f124, %f215;")],
        caught: Row("MaxPool, argmax"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "max_pool",
        what: "what is no number never wins",
        edits: &[
            ("or.pred %p50, %p49, %p48;", 0, "mov.pred %p50, %p48;"),
            ("or.pred %p14, %p13, %p12;", 0, "mov.pred %p14, %p12;"),
        ],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "max_pool",
        what: "windows begin in the border",
        edits: &[("max.s32 %r105, %r3, 0;", 0, "mov.u32 %r105, %r3;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "max_pool",
        what: "no ReLU",
        edits: &[("selp.f32 %f215, 0f00000000, %f215, %p64;", 0, "mov.f32 %f215, %f215;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "max_pool",
        what: "a winner that the ReLU keeps back",
        edits: &[("selp.b32 %r117, 255, %r176, %p63;", 0, "mov.u32 %r117, %r176;")],
        caught: Row("MaxPool, argmax"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool",
        what: "winners four bits apart",
        edits: &[("shl.b32 %r131, %r175, 8;", 0, "shl.b32 %r131, %r175, 4;")],
        caught: Row("MaxPool, argmax"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool",
        what: "another channel's scale, in fours",
        edits: &[("add.s64 %rd20, %rd18, %rd19;", 0, "mov.u64 %rd20, %rd18;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "max_pool",
        what: "four channels in every word",
        edits: &[("min.u32 %r9, %r92, 4;", 0, "mov.u32 %r9, 4;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "max_pool",
        what: "a row of the window too many",
        edits: &[("add.s32 %r88, %r4, %r70;", 0, "add.s32 %r88, %r4, %r70; add.s32 %r88, %r88, 1;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: Race,
        kernel: "max_pool",
        what: "blocks write the same winners",
        edits: &[("mul.wide.u32 %rd71, %r1, 4;", 0, "mul.wide.u32 %rd71, %r76, 4;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "max_pool",
        what: "winners not stored",
        edits: &[("st.global.u32 [%rd72], %r177;", 0, "")],
        caught: Row("MaxPool, argmax"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "max_pool_dgrad",
        what: "a window behind the last",
        edits: &[("min.s32 %r7, %r54, %r55;", 0, "mov.u32 %r7, %r54;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool_dgrad",
        what: "winners four bits apart",
        edits: &[("shr.u32 %r88, %r24, 8;", 0, "shr.u32 %r88, %r24, 4;")],
        caught: Row("MaxPoolDgrad"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "max_pool_dgrad",
        what: "pixels in no window hold nothing",
        edits: &[("mov.f32 %f113, 0f00000000;", 1, "")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool_dgrad",
        what: "the first image's winners",
        edits: &[("mul.lo.s32 %r62, %r61, %r43;", 0, "mov.u32 %r62, 0;")],
        caught: Row("MaxPoolDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "max_pool",
        what: "the last of equals wins, in channels that are no fours",
        edits: &[("setp.gt.f32 %p48, %f156, %f215;", 0, "setp.ge.f32 %p48, %f156, %f215;")],
        caught: Row("MaxPool, argmax"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool",
        what: "another channel's scale, in channels that are no fours",
        edits: &[("add.s64 %rd31, %rd29, %rd30;", 0, "mov.u64 %rd31, %rd29;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "max_pool",
        what: "fours not stored",
        edits: &[("st.global.v4.f32 [%rd5], {%f215, %f218, %f217, %f216};", 0, "")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool_dgrad",
        what: "winners four bits apart, in fours",
        edits: &[("shr.u32 %r77, %r75, 8;", 0, "shr.u32 %r77, %r75, 4;")],
        caught: Row("MaxPoolDgrad"),
    },
];

pub const SUM: &[Mutation] = &[
    Mutation {
        mistake: LostGuard,
        kernel: "add",
        what: "an affine map where there is none",
        edits: &[("setp.eq.s64 %p36, %rd10, 0;", 0, "setp.eq.s64 %p36, %rd10, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "add",
        what: "no shift",
        edits: &[("fma.rn.f32 %f127, %f126, %f187, %f125;", 0, "mul.f32 %f127, %f126, %f187;")],
        caught: Row("Add"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "add",
        what: "the left summand's scale for the right one's",
        edits: &[("ld.global.f32 %f138, [%rd51];", 0, "ld.global.f32 %f138, [%rd37];")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "add",
        what: "no ReLU on the right",
        edits: &[("selp.f32 %f202, 0f00000000, %f139, %p39;", 0, "mov.f32 %f202, %f139;")],
        caught: Row("Add"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "add",
        what: "a ReLU where there is none",
        edits: &[("and.pred %p82, %p81, %p80;", 0, "mov.pred %p82, %p80;")],
        caught: Row("Add"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "add",
        what: "row for channel",
        edits: &[("rem.u32 %r3, %r1, %r6;", 0, "div.u32 %r3, %r1, %r6;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "add",
        what: "four elements too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r5;", 0, "setp.gt.u32 %p1, %r1, %r5;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "add",
        what: "fours not stored",
        edits: &[("st.global.v4.f32 [%rd85], {%f186, %f185, %f184, %f183};", 0, "")],
        caught: Row("Add"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "add",
        what: "the third of a tail not stored",
        edits: &[("st.global.f32 [%rd68+8], %f43;", 0, "")],
        caught: Row("Add"),
    },
];
