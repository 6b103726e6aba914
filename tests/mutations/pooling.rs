//! `kernels/head.cu`, `kernels/pooling.cu` and `kernels/sum.cu`: mean and max pooling, sums.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn pooling() {
    survive_none(Precision::F32, "Pool", MUTATIONS);
}

#[test]
fn max_pooling() {
    survive_none(Precision::F32, "MaxPool", MAX_POOL);
}

#[test]
fn sums() {
    survive_none(Precision::F32, "Sum", SUM);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: MissingTail,
        kernel: "pool",
        what: "pixels behind whole fours left out",
        edits: &[("setp.eq.s32 %p5, %r48, 0;", 0, "setp.eq.s32 %p5, %r48, %r48;")],
        caught: Row("Pool"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "pool",
        what: "a pixel too many",
        edits: &[("setp.ne.s32 %p6, %r48, 0;", 0, "setp.ne.s32 %p6, %r48, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "pool",
        what: "divided by the channels",
        edits: &[("cvt.rn.f32.u32 %f20, %r25;", 0, "cvt.rn.f32.u32 %f20, %r26;")],
        caught: Row("Pool"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "pool",
        what: "pixels as far apart as they are many",
        edits: &[("mul.lo.s32 %r47, %r46, %r26;", 0, "mul.lo.s32 %r47, %r46, %r25;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: Race,
        kernel: "pool",
        what: "blocks write the same means",
        edits: &[("mul.wide.u32 %rd28, %r1, 4;", 0, "mul.wide.u32 %rd28, %r30, 4;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "pool_dgrad",
        what: "the first image's gradient",
        edits: &[("mad.lo.s32 %r11, %r9, %r3, %r10;", 0, "mov.u32 %r11, %r10;")],
        caught: Row("PoolDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "pool_dgrad",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r4;", 0, "setp.gt.u32 %p1, %r1, %r4;")],
        caught: Row("PoolDgrad"),
    },
];

pub const MAX_POOL: &[Mutation] = &[
    Mutation {
        mistake: OffByOne,
        kernel: "max_pool",
        what: "the last of equals wins",
        edits: &[("setp.gt.f32 %p6, %f16, %f27;", 0, "setp.ge.f32 %p6, %f16, %f27;")],
        caught: Row("MaxPool, winners"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "max_pool",
        what: "what is no number never wins",
        edits: &[("or.pred %p21, %p19, %p20;", 0, "mov.pred %p21, %p19;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "max_pool",
        what: "windows begin in the border",
        edits: &[("max.s32 %r10, %r4, 0;", 0, "mov.u32 %r10, %r4;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "max_pool",
        what: "no ReLU",
        edits: &[("selp.f32 %f17, 0f00000000, %f27, %p13;", 0, "mov.f32 %f17, %f27;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "max_pool",
        what: "a winner that the ReLU keeps back",
        edits: &[("selp.b32 %r86, 255, %r108, %p15;", 0, "mov.u32 %r86, %r108;")],
        caught: Row("MaxPool, winners"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool",
        what: "winners four bits apart",
        edits: &[("shl.b32 %r89, %r88, 3;", 0, "shl.b32 %r89, %r88, 2;")],
        caught: Row("MaxPool, winners"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool",
        what: "another channel's scale",
        edits: &[("add.s64 %rd6, %rd4, %rd13;", 0, "mov.u64 %rd6, %rd4;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "max_pool",
        what: "four channels in every word",
        edits: &[("min.u32 %r8, %r75, %r47;", 0, "mov.u32 %r8, %r75;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "max_pool",
        what: "a row of the window too many",
        edits: &[("add.s32 %r68, %r4, %r50;", 0, "add.s32 %r68, %r4, %r50; add.s32 %r68, %r68, 1;")],
        caught: Row("MaxPool"),
    },
    Mutation {
        mistake: Race,
        kernel: "max_pool",
        what: "blocks write the same winners",
        edits: &[("mul.wide.u32 %rd27, %r1, 4;", 0, "mul.wide.u32 %rd27, %r56, 4;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "max_pool",
        what: "winners not stored",
        edits: &[("st.global.u32 [%rd28], %r118;", 0, "")],
        caught: Row("MaxPool, winners"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "max_pool_dgrad",
        what: "a window behind the last",
        edits: &[("min.s32 %r7, %r42, %r43;", 0, "mov.u32 %r7, %r42;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool_dgrad",
        what: "winners four bits apart",
        edits: &[("shl.b32 %r50, %r2, 3;", 0, "shl.b32 %r50, %r2, 2;")],
        caught: Row("MaxPoolDgrad"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "max_pool_dgrad",
        what: "pixels in no window hold nothing",
        edits: &[("mov.f32 %f12, 0f00000000;", 1, "")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "max_pool_dgrad",
        what: "the first image's winners",
        edits: &[("mul.lo.s32 %r10, %r49, %r25;", 0, "mov.u32 %r10, 0;")],
        caught: Row("MaxPoolDgrad"),
    },
];

pub const SUM: &[Mutation] = &[
    Mutation {
        mistake: LostGuard,
        kernel: "sum",
        what: "an affine map where there is none",
        edits: &[("setp.eq.s64 %p2, %rd3, 0;", 0, "setp.eq.s64 %p2, %rd3, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "sum",
        what: "no shift",
        edits: &[("fma.rn.f32 %f14, %f8, %f14, %f7;", 0, "mul.f32 %f14, %f8, %f14;")],
        caught: Row("Sum"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "sum",
        what: "the left summand's scale for the right one's",
        edits: &[("ld.global.f32 %f10, [%rd22];", 0, "ld.global.f32 %f10, [%rd24];")],
        caught: Row("Sum"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "sum",
        what: "no ReLU on the right",
        edits: &[("selp.f32 %f11, 0f00000000, %f15, %p6;", 0, "mov.f32 %f11, %f15;")],
        caught: Row("Sum"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "sum",
        what: "a ReLU where there is none",
        edits: &[("and.pred %p9, %p7, %p8;", 0, "mov.pred %p9, %p8;")],
        caught: Row("Sum"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "sum",
        what: "row for channel",
        edits: &[("rem.u32 %r2, %r1, %r3;", 0, "div.u32 %r2, %r1, %r3;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "sum",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r6;", 0, "setp.gt.u32 %p1, %r1, %r6;")],
        caught: Row("Sum"),
    },
];
