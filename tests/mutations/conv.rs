//! `kernels/conv.cu`.
//!
//! Equivalent, so not here: mistakes in the tail of the loop over a run of taps and channels. Its length
//! is a multiple of four, as channels come in whole tiles.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn conv() {
    survive_none(Precision::F32, "Conv", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: OffByOne,
        kernel: "conv_fprop",
        what: "an item too many",
        edits: &[("setp.ge.u32 %p5, %r1, %r85;", 0, "setp.gt.u32 %p5, %r1, %r85;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_fprop",
        what: "a column too many",
        edits: &[("setp.ge.u32 %p142, %r67, %r173;", 0, "setp.gt.u32 %p142, %r67, %r173;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_fprop",
        what: "a channel too many",
        edits: &[("setp.ge.u32 %p139, %r66, %r77;", 0, "setp.gt.u32 %p139, %r66, %r77;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "conv_fprop",
        what: "a sum begins with nothing",
        edits: &[("mov.f32 %f490, 0f00000000;", 0, ""), ("mov.f32 %f490, %f489;", 0, "")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "conv_fprop",
        what: "sums begin with one",
        edits: &[("mov.f32 %f489, 0f00000000;", 2, "mov.f32 %f489, 0f3F800000;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "conv_fprop",
        what: "every other row of taps",
        edits: &[("add.s32 %r177, %r177, 1;", 0, "add.s32 %r177, %r177, 2;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "conv_fprop",
        what: "two weights loaded at once",
        edits: &[("ld.global.f32 %f228, [%rd301+4];", 0, "ld.global.v2.f32 {%f228, %f230}, [%rd301+4];")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop",
        what: "rows and images swapped",
        edits: &[("mad.lo.s32 %r125, %r4, %r166, %r3;", 0, "mad.lo.s32 %r125, %r3, %r166, %r4;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop",
        what: "another channel's bias",
        edits: &[("ld.global.f32 %f363, [%rd15+4];", 0, "ld.global.f32 %f363, [%rd15];")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "conv_fprop",
        what: "a residual where there is none",
        edits: &[("setp.eq.s64 %p19, %rd19, 0;", 0, "setp.eq.s64 %p19, %rd19, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad",
        what: "taps that no output pixel has",
        edits: &[("add.s32 %r424, %r424, %r117;", 1, "add.s32 %r424, %r424, 1;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad",
        what: "a bit of the mask for two channels",
        edits: &[("and.b32 %r165, %r4, 28;", 0, "and.b32 %r165, %r4, 24;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_dgrad",
        what: "a column too many",
        edits: &[("setp.ge.u32 %p43, %r27, %r416;", 0, "setp.gt.u32 %p43, %r27, %r416;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_dgrad",
        what: "read from before the border",
        edits: &[("mad.lo.s32 %r136, %r3, %r112, %r115;", 0, "mul.lo.s32 %r136, %r3, %r112;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_dgrad",
        what: "the summand isn't added",
        edits: &[("add.f32 %f177, %f780, %f573;", 0, "mov.f32 %f177, %f780;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "conv_dgrad",
        what: "a sum begins with nothing",
        edits: &[("mov.f32 %f766, 0f00000000;", 0, ""), ("mov.f32 %f766, %f765;", 0, "")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "conv_wgrad",
        what: "the odd column left out",
        edits: &[("setp.eq.b32 %p7, %r56, 1;", 0, "setp.eq.b32 %p7, %r56, 2;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "conv_wgrad",
        what: "the last part as long as the others",
        edits: &[("min.u32 %r41, %r4, %r26;", 0, "mov.u32 %r41, %r4;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: Race,
        kernel: "conv_wgrad",
        what: "all parts in one place",
        edits: &[("mad.lo.s32 %r59, %r3, %r65, %r2;", 0, "mov.u32 %r59, %r2;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "conv_wgrad",
        what: "two sums stored at once",
        edits: &[("st.global.f32 [%rd35+4], %f263;", 0, "st.global.v2.f32 [%rd35+4], {%f263, %f262};")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_wgrad",
        what: "rows and columns of taps swapped",
        edits: &[
            ("mad.lo.s32 %r48, %r45, %r69, %r10;", 0, "mad.lo.s32 %r48, %r45, %r69, %r11;"),
            ("mad.lo.s32 %r50, %r49, %r70, %r11;", 0, "mad.lo.s32 %r50, %r49, %r70, %r10;"),
        ],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_wgrad",
        what: "a sum isn't stored",
        edits: &[("st.global.f32 [%rd41+12], %f249;", 0, "")],
        caught: FindingIn("conv_wgrad_reduce", "Uninitialised"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "conv_wgrad_reduce",
        what: "the third of eight parts left out",
        edits: &[("setp.ge.u32 %p5, %r19, %r31;", 0, "setp.ge.u32 %p5, %r19, 0;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_wgrad_reduce",
        what: "gradients stored as CKRS",
        edits: &[("mad.lo.s32 %r54, %r2, %r34, %r3;", 0, "mad.lo.s32 %r54, %r3, %r33, %r2;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_wgrad_reduce",
        what: "a part too many",
        edits: &[("setp.ge.u32 %p5, %r19, %r31;", 0, "setp.gt.u32 %p5, %r19, %r31;")],
        caught: Finding("OutOfBounds"),
    },
];
