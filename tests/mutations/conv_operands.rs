//! `kernels/conv_operands.cu`.
//!
//! Equivalent, so not here: a channel bound of `conv_input` that is off by one. What it copies behind the
//! channels meets the filter's zeros, which alone would do.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn conv_operands() {
    survive_none(Precision::F32, "Conv", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: OffByOne,
        kernel: "load_filter",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r14, %r10;", 0, "setp.gt.u32 %p1, %r14, %r10;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "load_filter",
        what: "weights read as CKRS",
        edits: &[("mad.lo.s32 %r22, %r2, %r6, %r3;", 0, "mad.lo.s32 %r22, %r3, %r5, %r2;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "load_filter",
        what: "scale of the input channel",
        edits: &[("mul.wide.u32 %rd8, %r2, 4;", 0, "mul.wide.u32 %rd8, %r3, 4;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "load_filter",
        what: "channels behind the last are what lies behind the weights",
        edits: &[("or.pred %p5, %p3, %p4;", 0, "mov.pred %p5, 0;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_input",
        what: "the border is one",
        edits: &[("mov.f32 %f10, 0f00000000;", 0, "mov.f32 %f10, 0f3F800000;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_input",
        what: "the border is nothing",
        edits: &[("mov.f32 %f10, 0f00000000;", 0, "")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_input",
        what: "a column too many",
        edits: &[("setp.ge.s32 %p9, %r2, %r7;", 0, "setp.gt.s32 %p9, %r2, %r7;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_input",
        what: "no ReLU",
        edits: &[("and.pred %p14, %p13, %p12;", 0, "mov.pred %p14, 0;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "conv_input",
        what: "ReLU makes zero of NaN",
        edits: &[("setp.lt.f32 %p12, %f9, 0f00000000;", 0, "setp.ltu.f32 %p12, %f9, 0f00000000;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Race,
        kernel: "conv_input",
        what: "blocks copy to the same place",
        edits: &[("mul.wide.u32 %rd14, %r17, 4;", 0, "mul.wide.u32 %rd14, %r16, 4;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_mask",
        what: "zero is positive",
        edits: &[("setp.gt.f32 %p20, %f79, 0f00000000;", 0, "setp.ge.f32 %p20, %f79, 0f00000000;")],
        caught: Row("Conv, mask bits"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_mask",
        what: "a thread's channels left out",
        edits: &[("or.b32 %r8, %r39, %r37;", 0, "mov.b32 %r8, %r37;")],
        caught: Row("Conv, mask bits"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "conv_mask",
        what: "the last of four channels left out",
        edits: &[("setp.gt.u32 %p28, %r5, 3;", 0, "setp.gt.u32 %p28, %r5, 4;")],
        caught: Row("Conv, mask bits"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_mask",
        what: "two channels on one bit",
        edits: &[("or.b32 %r28, %r27, 8;", 0, "or.b32 %r28, %r27, 4;")],
        caught: Row("Conv, mask bits"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_mask",
        what: "a four's first two scales swapped",
        edits: &[(
            "ld.global.v4.f32 {%f42, %f43, %f44, %f45}, [%rd2];",
            0,
            "ld.global.v4.f32 {%f43, %f42, %f44, %f45}, [%rd2];",
        )],
        caught: Row("Conv, mask bits"),
    },
];
